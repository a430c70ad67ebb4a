//! Whether two trees are equal, asked twice: rsync's own dry run, and a walk that knows nothing of rsync.
//!
//! The walk compares type, mode, owner, group, modification time in nanoseconds, link target, device, size and bytes.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{BufReader, ErrorKind, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nix::libc::{S_IFLNK, S_IFMT, S_IFREG};

use crate::process::Outcome;

/// How many differences a message shows.
const SHOWN: usize = 30;

/// Fails the test unless both trees are equal in rsync's eyes and in those of the walk.
#[track_caller]
pub fn assert_equal(source: &Path, target: &Path) {
    assert_equal_for(source, target, "the trees");
}

/// [`assert_equal`] with a word on what was done.
#[track_caller]
pub fn assert_equal_for(source: &Path, target: &Path, what: &str) {
    let differences: Vec<_> = rsync_differences(source, target).into_iter().chain(differences(source, target)).collect();
    fail_on(&differences, source, target, what);
}

/// Fails the test unless rsync finds nothing to do: for trees too large to be read twice.
#[track_caller]
pub fn assert_equal_by_rsync(source: &Path, target: &Path, what: &str) {
    fail_on(&rsync_differences(source, target), source, target, what);
}

#[track_caller]
fn fail_on(differences: &[String], source: &Path, target: &Path, what: &str) {
    assert!(
        differences.is_empty(),
        "{what}: {} and {} differ in {} ways:\n    {}",
        source.display(),
        target.display(),
        differences.len(),
        differences[..differences.len().min(SHOWN)].join("\n    ")
    );
}

/// What `rsync -nrlptgoDc --delete --itemize-changes` would do to make `target` equal to `source`.
pub fn rsync_differences(source: &Path, target: &Path) -> Vec<String> {
    let mut rsync = Command::new("rsync");
    rsync.args(["-nrlptgoDc", "--delete", "--itemize-changes"]);
    for end in [source, target] {
        rsync.arg(PathBuf::from(format!("{}/", end.to_str().expect("the room's path is plain"))));
    }
    let outcome = Outcome::of(&mut rsync, Duration::from_secs(300)).expect(0);
    outcome.stdout.lines().chain(outcome.stderr.lines()).map(|line| format!("rsync: {line}")).collect()
}

/// What a walk over both trees finds different.
pub fn differences(source: &Path, target: &Path) -> Vec<String> {
    let [left, right] = [source, target].map(|root| {
        let mut entries = BTreeMap::new();
        walk(root, Path::new(""), &mut entries);
        entries
    });
    let mut found = Vec::new();
    for (path, entry) in &left {
        match right.get(path) {
            None => found.push(format!("missing at the target: {path:?}")),
            Some(other) if entry != other => found.push(format!("{path:?}: source {entry}, target {other}")),
            Some(_) if entry.is_file() && !same_bytes(&source.join(path), &target.join(path)) => {
                found.push(format!("{path:?}: other bytes"));
            }
            Some(_) => {}
        }
    }
    found.extend(right.keys().filter(|path| !left.contains_key(*path)).map(|path| format!("only at the target: {path:?}")));
    found
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
        let Self { mode, owner: (uid, gid), mtime: (seconds, nanoseconds), link, device, size } = self;
        write!(f, "{mode:o} {uid}:{gid} {seconds}.{nanoseconds:09} device {device:x} size {size:?} link {link:?}")
    }
}

fn walk(root: &Path, path: &Path, entries: &mut BTreeMap<PathBuf, Entry>) {
    let full = root.join(path);
    let metadata = match fs::symlink_metadata(&full) {
        // Gone since its directory was read: a tree is also looked at while rsync works on it, with its temporary files.
        Err(error) if error.kind() == ErrorKind::NotFound && path != Path::new("") => return,
        metadata => metadata.unwrap_or_else(|error| panic!("cannot look at {}: {error}", full.display())),
    };
    let mode = metadata.mode();
    let entry = Entry {
        mode,
        owner: (metadata.uid(), metadata.gid()),
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        link: (mode & S_IFMT == S_IFLNK).then(|| fs::read_link(&full).expect("a link can be read")),
        device: metadata.rdev(),
        size: (mode & S_IFMT == S_IFREG).then(|| metadata.size()),
    };
    entries.insert(path.to_owned(), entry);
    if metadata.is_dir() {
        for child in fs::read_dir(&full).expect("a directory can be read") {
            walk(root, &path.join(child.expect("a directory can be read").file_name()), entries);
        }
    }
}

fn same_bytes(one: &Path, other: &Path) -> bool {
    let Ok(other) = fs::File::open(other) else { return false };
    let [mut one, mut other] = [fs::File::open(one).expect("root reads everything"), other].map(BufReader::new);
    let [mut left, mut right] = [[0; 16384]; 2];
    loop {
        let count = one.read(&mut left).expect("a file can be read");
        if count == 0 {
            return other.read(&mut right).expect("a file can be read") == 0;
        }
        if other.read_exact(&mut right[..count]).is_err() || left[..count] != right[..count] {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{process::must, room::Room, tree};
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    /// A change of a tree.
    type Spoil = fn(&Path);

    #[test]
    fn every_kind_of_difference_is_seen() {
        if crate::skip::without_root() {
            return;
        }
        let spoils: [(&str, Spoil); 8] = [
            ("alien", |root| fs::write(root.join("alien"), "").unwrap()),
            ("missing", |root| fs::remove_file(root.join("index.html")).unwrap()),
            ("byte", |root| {
                let file = root.join("index.html");
                let time = fs::metadata(&file).unwrap().modified().unwrap();
                let mut bytes = fs::read(&file).unwrap();
                bytes[0] ^= 1;
                fs::write(&file, bytes).unwrap();
                fs::File::open(&file).unwrap().set_modified(time).unwrap();
            }),
            ("mode", |root| fs::set_permissions(root.join("css"), fs::Permissions::from_mode(0o700)).unwrap()),
            ("owner", |root| chown(root.join("index.html"), Some(1234), None).unwrap()),
            ("nanosecond", |root| {
                let file = fs::File::open(root.join("index.html")).unwrap();
                let time = file.metadata().unwrap().modified().unwrap();
                file.set_modified(time + Duration::from_nanos(1)).unwrap();
            }),
            ("link", |root| {
                fs::remove_file(root.join("current")).unwrap();
                symlink("elsewhere", root.join("current")).unwrap();
            }),
            ("type", |root| {
                fs::remove_file(root.join("current")).unwrap();
                fs::create_dir(root.join("current")).unwrap();
            }),
        ];
        for (name, spoil) in spoils {
            let room = Room::new();
            tree::web_site(&room.source());
            must(Command::new("cp").arg("-a").arg(room.source()).arg("-T").arg(room.target()));
            assert_equal_for(&room.source(), &room.target(), "a plain copy");
            spoil(&room.target());
            assert!(!differences(&room.source(), &room.target()).is_empty(), "the walk misses: {name}");
            let whole_seconds = name == "nanosecond";
            assert!(whole_seconds || !rsync_differences(&room.source(), &room.target()).is_empty(), "rsync misses: {name}");
        }
    }
}
