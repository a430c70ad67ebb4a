//! The machine's table of mounts, as far as it concerns a directory tree.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read as _, Seek as _},
    os::{fd::AsFd as _, unix::ffi::OsStringExt as _},
    path::{Path, PathBuf},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Number of the mount.
    pub id: i32,
    /// Number of the mount it is mounted on.
    pub parent: i32,
    /// `major:minor` of the superblock.
    pub device: String,
    /// Which directory of its file system stands there.
    pub inner: PathBuf,
    /// Where, as this process sees it.
    pub point: PathBuf,
    /// Type of the file system.
    pub kind: String,
}

/// An open `/proc/self/mountinfo`.
#[derive(Debug)]
pub(super) struct MountTable {
    file: File,
}

impl MountTable {
    pub const PATH: &str = "/proc/self/mountinfo";

    pub fn open() -> io::Result<Self> {
        Ok(Self { file: File::open(Self::PATH)? })
    }

    /// Whether a mount came or went since this was last asked.
    pub fn changed(&self) -> bool {
        let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLPRI)];
        // A failure counts as a change: reading too often costs little.
        poll(&mut fds, PollTimeout::ZERO).map_or(true, |ready| ready > 0)
    }

    pub fn read(&mut self) -> io::Result<Vec<Mount>> {
        let mut table = Vec::new();
        self.file.rewind()?;
        self.file.read_to_end(&mut table)?;
        Ok(table.split(|&byte| byte == b'\n').filter_map(mount).collect())
    }
}

/// A line of `mountinfo`, see proc(5).
fn mount(line: &[u8]) -> Option<Mount> {
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let mut fields = line.split(|&byte| byte == b' ');
    let id = text(fields.next()?).parse().ok()?;
    let parent = text(fields.next()?).parse().ok()?;
    let device = text(fields.next()?);
    let inner = PathBuf::from(OsString::from_vec(unescape(fields.next()?)));
    let point = PathBuf::from(OsString::from_vec(unescape(fields.next()?)));
    let kind = text(fields.skip_while(|field| *field != b"-").nth(1)?);
    Some(Mount { id, parent, device, inner, point, kind })
}

/// Undoes the octal escapes (`\040` for a space).
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let octal = after.first_chunk::<3>().filter(|digits| byte == b'\\' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        match octal {
            Some(digits) => {
                bytes.push(digits.iter().fold(0, |value: u8, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
                rest = &after[3..];
            }
            None => bytes.push(byte),
        }
    }
    bytes
}

/// The mounts that a walk down from `top`, a directory on mount `id`, meets: nothing that another mount covers. Outer ones first.
pub(super) fn below<'a>(mounts: &'a [Mount], top: &Path, id: i32) -> Vec<&'a Mount> {
    let mut met: Vec<&Mount> = mounts.iter().filter(|mount| mount.point != top && mount.point.starts_with(top)).collect();
    met.retain(|mount| uncovered(mounts, mount, top, id));
    met.sort_by(|a, b| a.point.cmp(&b.point));
    met
}

fn uncovered(mounts: &[Mount], mount: &Mount, top: &Path, id: i32) -> bool {
    if mounts.iter().any(|other| other.parent == mount.id && other.point == mount.point) {
        return false;
    }
    let mut lower = mount;
    while lower.parent != id {
        let Some(parent) = mounts.iter().find(|other| other.id == lower.parent && other.id != lower.id) else { return false };
        if !parent.point.starts_with(top) || covered_on_its_way(mounts, lower) {
            return false;
        }
        lower = parent;
    }
    !covered_on_its_way(mounts, lower)
}

/// Whether a sibling is mounted on the way from the parent's top to this mount's point (not on the point itself: that is a stack).
fn covered_on_its_way(mounts: &[Mount], mount: &Mount) -> bool {
    mounts.iter().any(|other| {
        other.parent == mount.parent && other.id != mount.id && other.point != mount.point && mount.point.starts_with(&other.point)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(lines: &[&str]) -> Vec<Mount> {
        lines.iter().map(|line| mount(line.as_bytes()).unwrap()).collect()
    }

    #[test]
    fn a_line_is_read_with_its_escapes() {
        let found = mount(b"36 35 98:0 /mnt1 /mnt\\0402\\134x rw,noatime master:1 shared:2 - ext3 /dev/root rw").unwrap();
        let expected = Mount {
            id: 36,
            parent: 35,
            device: "98:0".to_owned(),
            inner: PathBuf::from("/mnt1"),
            point: PathBuf::from("/mnt 2\\x"),
            kind: "ext3".to_owned(),
        };
        assert_eq!(found, expected);
        assert_eq!(mount(b""), None);
        assert_eq!(mount(b"1 2 3:4 / /x"), None);
    }

    #[test]
    fn what_is_covered_is_not_met() {
        let mounts = table(&[
            "1 0 8:1 / / rw - ext4 d rw",
            "2 1 8:2 / /srv/a rw - ext4 d rw",
            "3 2 8:3 / /srv/a/deep rw - xfs d rw",
            "4 1 8:4 / /srv/b/inner rw - ext4 d rw",
            "5 1 8:5 / /srv/b rw - ext4 d rw",
            "6 1 8:6 / /srv/c rw - ext4 d rw",
            "7 6 8:7 / /srv/c rw - tmpfs d rw",
            "8 1 8:8 / /srvx rw - ext4 d rw",
        ]);
        let met: Vec<i32> = below(&mounts, Path::new("/srv"), 1).iter().map(|mount| mount.id).collect();
        assert_eq!(met, [2, 3, 5, 7]);
    }
}
