//! The tiers that the cases run on, how each is made, and what each cannot see.
//!
//! - What is wrong and stands in [`Tier::blind`] is told as not covered, with the reason there.
//! - What is wrong and needs a function that this kernel lacks ([`NEEDS`]) is told as not covered, with the tier's own sentence.

use std::path::Path;

use nix::sys::statfs::{FsType, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, statfs};
use trigsync::capture::{
    self, CaptureError, Source,
    ebpf::{Choice, Ebpf, Options, layout},
    fanotify::Fanotify,
};

/// How a source is to be made.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// A queue without a limit instead of the kernel's default, where there is such a choice.
    pub unlimited: bool,
    /// Behave as on a kernel with less, as in `--mask`.
    pub mask: Option<String>,
    /// Bytes of the ring instead of the default, where there is a ring.
    pub ring_bytes: Option<u32>,
}

/// A source, and what it misses on this kernel.
pub struct Made {
    /// It.
    pub source: Box<dyn Source>,
    /// Sentences that name the kernel's function.
    pub lacks: Vec<String>,
}

/// A tier, as the cases need it.
pub struct Tier {
    /// As in `--tier`.
    pub name: &'static str,
    /// What `trigsync run --backend` calls it; none where the daemon never takes it on demand.
    pub backend: Option<&'static str>,
    /// Whether this kernel has it, as far as can be said without loading anything.
    pub check: fn(&Wish) -> Result<(), CaptureError>,
    /// Makes a source.
    pub make: fn(&Wish) -> Result<Made, CaptureError>,
    /// Cases it cannot see by its nature.
    pub blind: &'static [Blind],
}

/// A case that a tier cannot see.
pub struct Blind {
    /// The case's name.
    pub case: &'static str,
    /// On which file system; on every one where none is named.
    pub on: Option<FsType>,
    /// Why.
    pub why: &'static str,
}

const fn blind(case: &'static str, why: &'static str) -> Blind {
    Blind { case, on: None, why }
}

const fn blind_on(on: FsType, case: &'static str, why: &'static str) -> Blind {
    Blind { case, on: Some(on), why }
}

/// fanotify with `FAN_RENAME` where the kernel has it.
pub const FANOTIFY: Tier = Tier {
    name: "fanotify",
    backend: Some("fanotify"),
    check: |wish| Fanotify::new(wish.unlimited).map(drop),
    make: |wish| Ok(Made { source: Box::new(Fanotify::new(wish.unlimited)?), lacks: Vec::new() }),
    blind: FANOTIFY_BLIND,
};

/// fanotify as on kernels without `FAN_RENAME`.
pub const FANOTIFY_MOVED: Tier = Tier {
    name: "fanotify-moved",
    backend: None,
    check: |wish| Fanotify::new(wish.unlimited).map(drop),
    make: |wish| Ok(Made { source: Box::new(Fanotify::new(wish.unlimited)?.without_rename_event()), lacks: Vec::new() }),
    blind: FANOTIFY_BLIND,
};

const FANOTIFY_BLIND: &[Blind] = &[
    blind("a store through a living mapping", "fanotify tells of a mapping when its file is closed for the last time"),
    blind("a further store after the pages were written back", "fanotify tells of a mapping when its file is closed for the last time"),
    blind("FS_IOC_SETFLAGS", "the kernel tells fanotify nothing of inode flags; rsync does not transfer them"),
    blind("written after O_TMPFILE was linked", "the kernel goes on calling the file by its number while that descriptor lives"),
    blind("written through one of two names", "the kernel tells of the name that was opened only"),
    blind("an excluded directory name", "fanotify drops nothing by name; the daemon's own filters do"),
    blind("the process' own changes, and its descendants'", "fanotify drops nothing by process; the daemon knows its own transfers"),
    blind("an overlay as the root", "fanotify reports no names on overlayfs; such a root is refused with that reason"),
    blind(
        "an overlay's upper directory as the root",
        "Linux 6.1 and before tell fanotify nothing of what an overlay does in its upper directory",
    ),
    blind("a btrfs subvolume as the root", "fanotify cannot mark a subvolume; such a root is refused with the remedy"),
    blind("libaio: IOCB_CMD_PWRITE, IOCB_CMD_PWRITEV", "the kernel tells fanotify of such writes only when the file is closed"),
    blind("libaio: O_DIRECT", "the kernel tells fanotify of such writes only when the file is closed"),
];

/// eBPF with trampolines.
pub const EBPF_FEXIT: Tier = Tier {
    name: "ebpf-fexit",
    backend: Some("ebpf"),
    check: |wish| surveyed(capture::Tier::EbpfFexit, wish),
    make: |wish| ebpf(Choice::Fexit, wish),
    blind: EBPF_BLIND,
};

/// eBPF with probes.
pub const EBPF_KPROBE: Tier = Tier {
    name: "ebpf-kprobe",
    backend: Some("ebpf-kprobe"),
    check: |wish| surveyed(capture::Tier::EbpfKprobe, wish),
    make: |wish| ebpf(Choice::Kprobe, wish),
    blind: EBPF_BLIND,
};

fn surveyed(tier: capture::Tier, wish: &Wish) -> Result<(), CaptureError> {
    layout::survey(None, wish.capabilities_hidden())?.allows(tier).map_err(|lack| CaptureError::Lacks(lack.to_string()))
}

fn ebpf(tier: Choice, wish: &Wish) -> Result<Made, CaptureError> {
    let defaults = Options::default();
    let (ring_bytes, buffer_bytes) = match wish.ring_bytes {
        Some(bytes) => (bytes, bytes as usize),
        None => (defaults.ring_bytes, defaults.buffer_bytes),
    };
    let source = Ebpf::new(&Options { tier, mask: wish.capabilities_hidden(), ring_bytes, buffer_bytes, ..defaults })?;
    Ok(Made { lacks: source.lacks().to_vec(), source: Box::new(source) })
}

impl Wish {
    fn capabilities_hidden(&self) -> Option<layout::Mask> {
        self.mask.as_ref().map(|mask| mask.parse().expect("arguments are checked"))
    }
}

const EBPF_BLIND: &[Blind] = &[
    blind_on(
        TMPFS_MAGIC,
        "a store through a living mapping",
        "tmpfs has no clean pages: a mapping is told when the file is closed for the last time",
    ),
    blind_on(
        TMPFS_MAGIC,
        "a further store after the pages were written back",
        "tmpfs has no clean pages: a mapping is told when the file is closed for the last time",
    ),
    blind_on(OVERLAYFS_SUPER_MAGIC, "a store through a living mapping", MAPPED_OVERLAY),
    blind_on(OVERLAYFS_SUPER_MAGIC, "a further store after the pages were written back", MAPPED_OVERLAY),
    blind_on(OVERLAYFS_SUPER_MAGIC, "a store through a mapping, when the mapping goes", MAPPED_OVERLAY),
    blind_on(OVERLAYFS_SUPER_MAGIC, "sendfile, splice, copy_file_range, then close", SPLICED_OVERLAY),
    blind_on(OVERLAYFS_SUPER_MAGIC, "io_uring: writev, write through a fixed buffer, fallocate, splice", SPLICED_OVERLAY),
    blind_on(
        OVERLAYFS_SUPER_MAGIC,
        "written after O_TMPFILE was linked",
        "an overlay goes on writing to a file below that has no name of the overlay's",
    ),
    blind("written through one of two names", "a write is told under the name that was opened only"),
];

const SPLICED_OVERLAY: &str =
    "since Linux 6.8 an overlay splices to a file below that does not show the overlay's name; told when the file is closed";

const MAPPED_OVERLAY: &str = "a mapping of an overlay's file is one of the file below it, which another root has to watch";

/// Which of the kernel's functions a case stands on, for those that a tier can do without.
pub const NEEDS: &[(&str, &str)] = &[
    ("FS_IOC_SETFLAGS", "vfs_fileattr_set"),
    ("setxattr, removexattr", "__vfs_setxattr_noperm"),
    ("setxattr, removexattr", "__vfs_removexattr"),
    ("a POSIX ACL is set and removed", "set_posix_acl"),
    ("a POSIX ACL is set and removed", "__vfs_setxattr_noperm"),
    ("FICLONE", "vfs_clone_file_range"),
    ("fallocate, all modes", "vfs_fallocate"),
    ("sendfile, splice, copy_file_range, then close", "iter_file_splice_write"),
    ("sendfile, splice, copy_file_range, then close", "vfs_copy_file_range"),
    ("a store through a living mapping", "file_update_time"),
    ("a further store after the pages were written back", "file_update_time"),
    ("libaio: IOCB_CMD_PWRITE, IOCB_CMD_PWRITEV", "aio_complete_rw"),
    ("libaio: O_DIRECT", "aio_complete_rw"),
    ("io_uring: openat, write, close", "io_write"),
    ("io_uring: writev, write through a fixed buffer, fallocate, splice", "io_write"),
    ("io_uring: O_DIRECT", "io_write"),
];

/// Every tier there is.
pub const TIERS: &[Tier] = &[FANOTIFY, FANOTIFY_MOVED, EBPF_FEXIT, EBPF_KPROBE];

impl Tier {
    /// The tier of this name, or the names that there are.
    pub fn named(name: &str) -> anyhow::Result<&'static Self> {
        let names = || TIERS.iter().map(|tier| tier.name).collect::<Vec<_>>().join(", ");
        TIERS.iter().find(|tier| tier.name == name).ok_or_else(|| anyhow::anyhow!("no such tier; there are: {}", names()))
    }

    /// Whether this refusal is in the tier's nature: old kernels, and for fanotify some file systems.
    pub fn may_refuse(&self, error: &CaptureError) -> bool {
        match error {
            CaptureError::Kernel { .. } | CaptureError::Lacks(_) => true,
            CaptureError::FileSystem { .. } => self.name.starts_with("fanotify"),
            _ => false,
        }
    }

    /// Why a case that went wrong on a kernel with these lacks could not go right, if so.
    pub(super) fn excuse(&self, lacks: &[String], case: &str, dir: &Path) -> Option<String> {
        let kind = statfs(dir).map(|found| found.filesystem_type()).ok();
        let applies = |blind: &&Blind| blind.case == case && (blind.on.is_none() || blind.on == kind);
        if let Some(blind) = self.blind.iter().find(applies) {
            return Some(blind.why.to_owned());
        }
        let needs = |lack: &&String| NEEDS.iter().any(|(name, function)| *name == case && lack.contains(function));
        lacks.iter().find(needs).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excuses_name_cases_that_there_are() {
        let names: Vec<_> = super::super::cases().iter().map(|case| case.name).collect();
        let blind = TIERS.iter().flat_map(|tier| tier.blind).map(|blind| blind.case);
        for named in blind.chain(NEEDS.iter().map(|(case, _)| *case)) {
            assert!(names.contains(&named), "there is no case {named:?}");
        }
        let mut once = names.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), names.len(), "two cases have one name");
    }
}
