//! Whether two trees are equal, asked twice: a walk that knows nothing of rsync, and rsync's own dry run with checksums.
//!
//! The walk compares names, types, modes, owners, modification times in nanoseconds, link targets, sizes and bytes.

use std::{
    collections::BTreeMap,
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use nix::libc::{S_IFDIR, S_IFLNK, S_IFMT, S_IFREG};

/// What differs, by path below the roots. What only rsync finds stands at its own line of text.
pub type Differences = BTreeMap<PathBuf, String>;

/// Compares a target to its source, while nothing changes either.
pub fn differences(source: &Path, target: &Path) -> Result<Differences> {
    let mut found = walked(source, target)?;
    // Without `-H`: links are not kept as links, unless asked for, and then only within one batch.
    let mut rsync = Command::new("rsync");
    rsync.args(["-an", "--delete", "--checksum", "--itemize-changes", "--modify-window=-1"]);
    for end in [source, target] {
        rsync.arg(end.join(""));
    }
    let output = rsync.output().context("rsync does not start")?;
    if !output.status.success() {
        bail!("rsync could not compare ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    let (known, said) = (!found.is_empty(), String::from_utf8_lossy(&output.stdout).into_owned());
    for line in said.lines().filter(|_| !known) {
        found.insert(PathBuf::from(line), "only rsync finds that".to_owned());
    }
    Ok(found)
}

fn walked(source: &Path, target: &Path) -> Result<Differences> {
    let [left, right] = [source, target].map(|root| {
        let mut entries = BTreeMap::new();
        walk(root, Path::new(""), &mut entries).with_context(|| format!("looking through {}", root.display())).map(|()| entries)
    });
    let (left, mut right) = (left?, right?);
    let mut found = Differences::new();
    for (path, entry) in left {
        match right.remove(&path) {
            None => drop(found.insert(path, format!("missing at the target; source {entry}"))),
            Some(other) if entry != other => drop(found.insert(path, format!("source {entry}; target {other}"))),
            Some(_) if entry.is_file() && fs::read(source.join(&path))? != fs::read(target.join(&path))? => {
                found.insert(path, format!("other bytes; both {entry}"));
            }
            Some(_) => {}
        }
    }
    found.extend(right.into_iter().map(|(path, entry)| (path, format!("only at the target: {entry}"))));
    Ok(found)
}

#[derive(PartialEq, Eq)]
struct Entry {
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    link: Option<PathBuf>,
    device: u64,
    size: Option<u64>,
}

impl Entry {
    fn is_file(&self) -> bool {
        self.mode & S_IFMT == S_IFREG
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mode, mtime: (seconds, nanoseconds), link, size, .. } = self;
        write!(f, "mode {mode:o}, time {seconds}.{nanoseconds:09}")?;
        size.map_or(Ok(()), |size| write!(f, ", size {size}"))?;
        link.as_ref().map_or(Ok(()), |link| write!(f, ", link to {link:?}"))
    }
}

fn walk(root: &Path, path: &Path, entries: &mut BTreeMap<PathBuf, Entry>) -> Result<()> {
    let full = root.join(path);
    let metadata = fs::symlink_metadata(&full)?;
    let kind = metadata.mode() & S_IFMT;
    let entry = Entry {
        mode: metadata.mode(),
        owner: (metadata.uid(), metadata.gid()),
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        link: if kind == S_IFLNK { Some(fs::read_link(&full)?) } else { None },
        device: metadata.rdev(),
        size: (kind == S_IFREG).then(|| metadata.size()),
    };
    entries.insert(path.to_owned(), entry);
    if kind == S_IFDIR {
        for child in fs::read_dir(&full)? {
            walk(root, &path.join(child?.file_name()), entries)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::{PermissionsExt, symlink},
        time::Duration,
    };

    use super::*;

    /// A change of a tree.
    type Spoil = fn(&Path);

    #[test]
    fn every_kind_of_difference_is_found_under_its_path() {
        let spoils: [(&str, Spoil); 8] = [
            ("alien", |root| fs::write(root.join("alien"), "").unwrap()),
            ("d/missing", |root| fs::remove_file(root.join("d/missing")).unwrap()),
            ("byte", |root| {
                let file = fs::File::options().write(true).open(root.join("byte")).unwrap();
                let time = file.metadata().unwrap().modified().unwrap();
                std::os::unix::fs::FileExt::write_all_at(&file, b"X", 1).unwrap();
                file.set_modified(time).unwrap();
            }),
            ("mode", |root| fs::set_permissions(root.join("mode"), fs::Permissions::from_mode(0o600)).unwrap()),
            ("time", |root| {
                let file = fs::File::open(root.join("time")).unwrap();
                let time = file.metadata().unwrap().modified().unwrap();
                file.set_modified(time + Duration::from_nanos(1)).unwrap();
            }),
            ("link", |root| {
                fs::remove_file(root.join("link")).unwrap();
                symlink("elsewhere", root.join("link")).unwrap();
            }),
            ("type", |root| {
                fs::remove_file(root.join("type")).unwrap();
                fs::create_dir(root.join("type")).unwrap();
            }),
            ("d", |root| fs::File::open(root.join("d")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap()),
        ];
        for (path, spoil) in spoils {
            let place = tempfile::tempdir().unwrap();
            let [source, target] = ["source", "target"].map(|name| place.path().join(name));
            fs::create_dir_all(source.join("d")).unwrap();
            symlink("somewhere", source.join("link")).unwrap();
            for file in ["d/missing", "byte", "mode", "time", "type"] {
                fs::write(source.join(file), "bytes").unwrap();
            }
            assert!(Command::new("cp").arg("-a").arg(&source).arg(&target).status().unwrap().success());
            assert_eq!(differences(&source, &target).unwrap(), Differences::new());
            spoil(&target);
            assert!(differences(&source, &target).unwrap().contains_key(Path::new(path)), "{path}");
        }
    }
}
