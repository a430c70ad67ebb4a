//! What the kernel's eBPF can do, found by trying, and masks that take some of it away.

use std::{fmt, str::FromStr};

use super::{Lack, Severity};

bitflags::bitflags! {
    /// What the loader and the programs depend on and not every kernel has.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Capabilities: u32 {
        /// Programs at entry and return of kernel functions without a probe: the tier ebpf-fexit.
        const TRAMPOLINES = 1;
        /// `BPF_MAP_TYPE_RINGBUF`; without it records go through a perf buffer per processor.
        const RING_BUFFER = 1 << 1;
        /// `bpf_probe_read_kernel`; without it the programs call `bpf_probe_read`.
        const PROBE_READ_KERNEL = 1 << 2;
        /// The type information records functions, so that their arguments are known.
        const FUNCTION_RECORDS = 1 << 3;
        /// `file.f_mode` says whether an open made its file (4.19 and newer, not RHEL 8).
        const MODE_CREATED = 1 << 4;
        /// `bpf_get_current_task_btf`; without it a trampoline reads the running task as a probe does.
        const TYPED_TASK = 1 << 7;
        /// A program's `fdinfo` counts the calls that it missed because it was running already.
        const RECURSION_COUNT = 1 << 5;
        /// Maps are charged to the control group; without it `RLIMIT_MEMLOCK` has to allow for them.
        const MEMCG_ACCOUNTING = 1 << 6;
    }
}

impl Capabilities {
    /// What it costs that a capability is missing.
    const COSTS: [(Self, Severity); 8] = [
        (Self::TRAMPOLINES, Severity::Trampolines),
        (Self::RING_BUFFER, Severity::Nothing("records go through a buffer per processor, and the capture ends with its daemon")),
        (Self::PROBE_READ_KERNEL, Severity::Nothing("the programs call bpf_probe_read")),
        (Self::FUNCTION_RECORDS, Severity::Nothing("which arguments a function takes is known for 4.18")),
        (Self::MODE_CREATED, Severity::Nothing("security_inode_create tells which opens make a file")),
        (Self::TYPED_TASK, Severity::Nothing("the programs call bpf_get_current_task")),
        (Self::RECURSION_COUNT, Severity::Sight("a call that comes while the same program runs on the same processor is missed uncounted")),
        (Self::MEMCG_ACCOUNTING, Severity::Nothing("the maps count as locked memory, which has to be allowed (LimitMEMLOCK=infinity)")),
    ];

    /// A lack for each capability that is missing, where `why` tells the reason.
    pub(super) fn lacks(self, why: impl Fn(Self) -> String) -> Vec<Lack> {
        let missing = Self::COSTS.into_iter().filter(|(capability, _)| !self.contains(*capability));
        missing.map(|(capability, severity)| Lack { what: capability.to_string(), why: why(capability), severity }).collect()
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (index, (name, _)) in self.iter_names().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{}", spelt(name))?;
        }
        Ok(())
    }
}

/// Capabilities that are not used although the kernel has them: a newer kernel stands in for an older one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask(Capabilities);

impl Mask {
    /// The masks of kernels, each with what those lack.
    pub const KERNELS: [(&'static str, Self); 3] = [
        ("el8.2", Self(Capabilities::all())),
        ("el8.3", Self(Self::SINCE_8_5.union(Capabilities::RING_BUFFER))),
        ("el8.4", Self(Self::SINCE_8_5)),
    ];

    /// What no kernel before that of 8.5 has, or none of RHEL 8 at all.
    const SINCE_8_5: Capabilities = Capabilities::MODE_CREATED
        .union(Capabilities::TYPED_TASK)
        .union(Capabilities::RECURSION_COUNT)
        .union(Capabilities::MEMCG_ACCOUNTING);

    /// Hides these.
    pub const fn hiding(capabilities: Capabilities) -> Self {
        Self(capabilities)
    }

    /// What is left.
    pub const fn narrow(self, capabilities: Capabilities) -> Capabilities {
        capabilities.difference(self.0)
    }
}

/// A mask that there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no capability or kernel `{0}` to mask; there are {known}", known = known().join(", "))]
pub struct UnknownMask(String);

/// One or more names, separated by commas: of kernels, and of single capabilities as `doctor` prints them.
impl FromStr for Mask {
    type Err = UnknownMask;

    fn from_str(names: &str) -> Result<Self, UnknownMask> {
        let mut hidden = Capabilities::empty();
        for name in names.split(',').map(str::trim) {
            let kernel = Self::KERNELS.iter().find(|(kernel, _)| *kernel == name).map(|(_, mask)| mask.0);
            let single = || Capabilities::all().iter_names().find(|(flag, _)| spelt(flag) == name).map(|(_, flag)| flag);
            hidden |= kernel.or_else(single).ok_or_else(|| UnknownMask(name.to_owned()))?;
        }
        Ok(Self(hidden))
    }
}

fn known() -> Vec<String> {
    let kernels = Mask::KERNELS.iter().map(|(kernel, _)| (*kernel).to_owned());
    kernels.chain(Capabilities::all().iter_names().map(|(name, _)| spelt(name))).collect()
}

/// A name as the operator sees it: `RING_BUFFER` is `ring-buffer`.
fn spelt(name: &str) -> String {
    name.to_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_takes_away_what_its_names_say() {
        let all = Capabilities::all();
        let left = |names: &str| names.parse::<Mask>().unwrap().narrow(all);
        assert_eq!(left("el8.2"), Capabilities::empty());
        assert!(left("el8.3").contains(Capabilities::TRAMPOLINES | Capabilities::FUNCTION_RECORDS));
        assert!(!left("el8.3").contains(Capabilities::RING_BUFFER));
        assert!(left("el8.4").contains(Capabilities::RING_BUFFER));
        assert!(!left("el8.4").contains(Capabilities::MODE_CREATED));
        assert_eq!(left("ring-buffer, trampolines"), all - Capabilities::RING_BUFFER - Capabilities::TRAMPOLINES);
        let wrong = "el9".parse::<Mask>().unwrap_err().to_string();
        assert!(wrong.contains("`el9`") && wrong.contains("el8.2, el8.3") && wrong.contains("memcg-accounting"), "{wrong}");
    }
}
