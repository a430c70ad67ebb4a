//! Which Linux capabilities this process lacks for capture with eBPF.

use std::{fs, io};

const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// A capability that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingRight {
    /// `CAP_…`.
    pub capability: &'static str,
    /// What needs it.
    pub purpose: &'static str,
    /// Whether eBPF cannot be used at all without it.
    pub is_essential: bool,
}

impl std::fmt::Display for MissingRight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} needs {}; run trigsync as root, or give it that capability (AmbientCapabilities= in its systemd unit)",
            self.purpose, self.capability
        )
    }
}

/// What is missing in the effective set of this process; empty where all is well.
pub fn missing() -> io::Result<Vec<MissingRight>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap")?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    match (effective, last.trim().parse()) {
        (Some(effective), Ok(last)) => Ok(missing_in(effective, last)),
        _ => Err(io::Error::other("/proc/self/status tells no capabilities")),
    }
}

/// `last` is the highest capability that the kernel knows: those for eBPF came with 5.8 and RHEL 8.4, and until then one stood for all.
fn missing_in(effective: u64, last: u32) -> Vec<MissingRight> {
    let has = |capability: u32| effective & (1 << capability) != 0;
    let mut missing = Vec::new();
    let mut need = |is_there: bool, capability, purpose, is_essential| {
        if !is_there {
            missing.push(MissingRight { capability, purpose, is_essential });
        }
    };
    if last < CAP_BPF {
        need(has(CAP_SYS_ADMIN), "CAP_SYS_ADMIN", "loading programs into a kernel that is older than CAP_BPF", true);
    } else {
        let is_admin = has(CAP_SYS_ADMIN);
        need(is_admin || has(CAP_BPF), "CAP_BPF", "loading programs into the kernel", true);
        need(is_admin || has(CAP_PERFMON), "CAP_PERFMON", "attaching programs to the kernel's functions", true);
    }
    need(has(CAP_DAC_READ_SEARCH), "CAP_DAC_READ_SEARCH", "reading files that belong to others", false);
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(effective: u64, last: u32) -> Vec<&'static str> {
        missing_in(effective, last).into_iter().map(|right| right.capability).collect()
    }

    #[test]
    fn each_missing_capability_is_named() {
        let bit = |capability: u32| 1u64 << capability;
        assert_eq!(names(0, 40), ["CAP_BPF", "CAP_PERFMON", "CAP_DAC_READ_SEARCH"]);
        assert_eq!(names(0, 37), ["CAP_SYS_ADMIN", "CAP_DAC_READ_SEARCH"]);
        assert_eq!(names(bit(CAP_BPF) | bit(CAP_DAC_READ_SEARCH), 40), ["CAP_PERFMON"]);
        assert_eq!(names(bit(CAP_SYS_ADMIN) | bit(CAP_DAC_READ_SEARCH), 40), [""; 0]);
        assert_eq!(names(u64::MAX, 37), [""; 0]);
    }
}
