//! Whether two directories are one, or one lies in the other, however they are reached.
//!
//! Symbolic links are followed, also where only the beginning of a path exists; bind mounts are seen through the mount table, by
//! the file system's own path of what is mounted.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Component, Path, PathBuf},
};

/// How one place lies to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Same,
    /// The first lies in the second.
    Inside,
    /// The second lies in the first.
    Around,
}

/// A directory that exists or may come to be.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Absolute, without symbolic links.
    pub(super) path: PathBuf,
    /// What it and the mounts below it are on their file systems: device, and path there. The first is the place itself.
    territory: Vec<(String, PathBuf)>,
}

/// The mounted file systems.
pub(super) struct Mounts(Vec<Mount>);

struct Mount {
    point: PathBuf,
    device: String,
    root: PathBuf,
}

impl Mounts {
    /// Reads the mount table of this process.
    pub(super) fn read() -> Self {
        Self::parse(&fs::read("/proc/self/mountinfo").unwrap_or_default())
    }

    fn parse(table: &[u8]) -> Self {
        let mount = |line: &[u8]| {
            let mut fields = line.split(|&byte| byte == b' ').skip(2);
            let device = String::from_utf8_lossy(fields.next()?).into_owned();
            Some(Mount { device, root: unescape(fields.next()?), point: unescape(fields.next()?) })
        };
        Self(table.split(|&byte| byte == b'\n').filter_map(mount).collect())
    }

    /// Where `path`, which need not exist, lies.
    pub(super) fn place(&self, path: &Path) -> io::Result<Place> {
        let path = canonical(path)?;
        // Of mounts on the same point the last covers the others.
        let over = self.0.iter().filter(|mount| path.starts_with(&mount.point)).max_by_key(|mount| mount.point.as_os_str().len());
        let own = over.map(|mount| (mount.device.clone(), join(&mount.root, path.strip_prefix(&mount.point).unwrap_or(&path))));
        let below = self.0.iter().filter(|mount| mount.point != path && mount.point.starts_with(&path));
        let territory = own.into_iter().chain(below.map(|mount| (mount.device.clone(), mount.root.clone()))).collect();
        Ok(Place { path, territory })
    }
}

impl Place {
    /// How this place lies to `other`; none where they have nothing in common.
    pub(super) fn relation(&self, other: &Self) -> Option<Relation> {
        let same = self.path == other.path || self.territory.first().is_some_and(|own| other.territory.first() == Some(own));
        if same {
            Some(Relation::Same)
        } else if self.lies_in(other) {
            Some(Relation::Inside)
        } else if other.lies_in(self) {
            Some(Relation::Around)
        } else {
            None
        }
    }

    fn lies_in(&self, other: &Self) -> bool {
        self.path.starts_with(&other.path)
            || self.territory.first().is_some_and(|(device, path)| {
                other.territory.iter().any(|(other_device, other_path)| device == other_device && path.starts_with(other_path))
            })
    }
}

/// The path without symbolic links. What does not exist yet is taken as it is written.
fn canonical(path: &Path) -> io::Result<PathBuf> {
    let mut missing = Vec::new();
    let mut existing = path;
    loop {
        match fs::canonicalize(existing) {
            Ok(found) => return Ok(missing.iter().rev().fold(found, |path, name| path.join(name))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if existing.is_symlink() {
                    return Err(io::Error::other(format!("`{}` is a symbolic link that leads nowhere", existing.display())));
                }
                match (existing.components().next_back(), existing.parent()) {
                    (Some(Component::Normal(name)), Some(parent)) => {
                        missing.push(name);
                        existing = parent;
                    }
                    _ => return Err(io::Error::other("`..` behind a directory that does not exist")),
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn join(root: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { root.to_owned() } else { root.join(below) }
}

/// Spaces and the like stand in the table as `\040`.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

/// A path as a directory's name alone, for names of syncs.
pub(super) fn last_name(path: &Path) -> String {
    path.file_name().map_or_else(|| "root".to_owned(), |name| String::from_utf8_lossy(name.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(mounts: &Mounts, one: &Path, other: &Path) -> Option<Relation> {
        mounts.place(one).unwrap().relation(&mounts.place(other).unwrap())
    }

    #[test]
    fn symbolic_links_do_not_hide_where_a_path_leads() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::create_dir(at("ab")).unwrap();
        std::os::unix::fs::symlink(at("a"), at("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        let mounts = Mounts::read();
        assert_eq!(relation(&mounts, &at("link/new/deep"), &at("a")), Some(Relation::Inside));
        assert_eq!(relation(&mounts, &at("a"), &at("link/b")), Some(Relation::Around));
        assert_eq!(relation(&mounts, &at("link"), &at("a/b/..")), Some(Relation::Same));
        assert_eq!(relation(&mounts, &at("a"), &at("ab")), None);
        assert_eq!(relation(&mounts, &at("a/new"), &at("a/new2")), None);
        assert!(mounts.place(&at("dangling")).is_err());
        assert!(mounts.place(&at("missing/../a")).is_err());
    }

    #[test]
    fn bind_mounts_do_not_either() {
        let table = b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            30 22 8:1 /srv/www/sub /mnt/bound\\040here rw - ext4 /dev/sda1 rw\n\
            31 22 8:2 / /srv/www/data rw - ext4 /dev/sdb1 rw\n\
            32 22 8:2 /deep /mnt/deep rw - ext4 /dev/sdb1 rw\n\
            33 22 8:1 /srv /mnt/around rw - ext4 /dev/sda1 rw\n\
            34 22 8:1 /srv/www /mnt/same rw - ext4 /dev/sda1 rw\n";
        let mounts = Mounts::parse(table);
        let to_www = |path: &str| relation(&mounts, Path::new(path), Path::new("/srv/www"));
        assert_eq!(to_www("/mnt/bound here"), Some(Relation::Inside));
        assert_eq!(to_www("/mnt/deep/x"), Some(Relation::Inside));
        assert_eq!(to_www("/mnt/around"), Some(Relation::Around));
        assert_eq!(to_www("/mnt/same"), Some(Relation::Same));
        assert_eq!(to_www("/mnt/other"), None);
        assert_eq!(to_www("/srv/www2"), None);
    }
}
