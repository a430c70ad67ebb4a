//! Whose change times say what changed here.
//!
//! A file system has to renew an entry's change time by this machine's clock with every change, and at a rename too, since a file that was
//! moved to where it is shows nothing else. What is shared over a network keeps the times of a server's clock, and FAT knows none.

use std::{
    os::fd::AsFd,
    time::{SystemTime, UNIX_EPOCH},
};

use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, F2FS_SUPER_MAGIC, FsType, NILFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC,
    fstatfs,
};

use super::directory::Moment;

/// What the change times of a file system tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Times {
    /// Everything.
    All,
    /// Not that two names of one directory were exchanged (`RENAME_EXCHANGE`): only the directory's own time is renewed.
    /// [XFS](https://elixir.bootlin.com/linux/latest/A/ident/xfs_cross_rename) does that, and an overlay whose upper layer is one.
    NoExchanges,
    /// Nothing is known, or nothing good, of a file system with this number.
    Doubtful(String),
}

/// From their sources, and from tests on most. ext2 and ext3 have ext4's number.
const ALL: [FsType; 6] = [
    BTRFS_SUPER_MAGIC,
    EXT4_SUPER_MAGIC,
    F2FS_SUPER_MAGIC,
    NILFS_SUPER_MAGIC,
    TMPFS_MAGIC,
    FsType(0xca45_1a4e), // bcachefs
];
const NO_EXCHANGES: [FsType; 3] = [
    OVERLAYFS_SUPER_MAGIC,
    XFS_SUPER_MAGIC,
    FsType(0x2fc1_2fc1), // ZFS, of which it is not known
];

impl Times {
    pub fn of(directory: impl AsFd) -> Self {
        // One that does not say what it is may be anything.
        let kind = fstatfs(directory).map_or(FsType(0), |found| found.filesystem_type());
        match kind {
            _ if ALL.contains(&kind) => Self::All,
            _ if NO_EXCHANGES.contains(&kind) => Self::NoExchanges,
            _ => Self::Doubtful(format!("{:#x}", kind.0)),
        }
    }
}

/// As `statx` tells times. What is before 1970 becomes the beginning of time.
pub(super) fn moment(time: SystemTime) -> Moment {
    time.duration_since(UNIX_EPOCH)
        .map_or((i64::MIN, 0), |since| (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, time::Duration};

    use super::*;

    #[test]
    fn what_is_made_up_by_the_kernel_keeps_no_times() {
        assert_eq!(Times::of(File::open("/proc").unwrap()), Times::Doubtful("0x9fa0".to_owned()));
    }

    #[test]
    fn moments_are_ordered_as_times_are() {
        let second = Duration::from_secs(1);
        let times = [UNIX_EPOCH - second, UNIX_EPOCH, UNIX_EPOCH + Duration::from_nanos(1), UNIX_EPOCH + second];
        assert!(times.map(moment).is_sorted_by(|a, b| a < b));
        assert_eq!(moment(UNIX_EPOCH + Duration::from_nanos(1_500_000_000)), (1, 500_000_000));
    }
}
