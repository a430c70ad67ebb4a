//! One change of the source, drawn without looking at the tree, and done as far as the tree allows.
//!
//! - Names are few, so that operations meet, and the tree stays small.
//! - A file with several names is changed under none of them: the daemon sees a write under the name it was made through, and says so in
//!   its limits. So links are made in a worker's own directory only, and nothing comes back from the shared one.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use nix::{
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
    libc::O_NOFOLLOW,
};

/// Few, and some that a pattern, a shell or a list of lines would take for something else.
const NAMES: [&str; 8] = ["a", "b", "c d", "é", "*", "-n", "?[x]", "line\nbreak"];
/// The first names are mostly those of directories: else most operations would find a file where they need a directory.
const DIRECTORIES: usize = 3;
/// What a reload leaves out for a while.
pub const FILTERED: &str = "*.skip";
/// Where all workers work.
const SHARED: &str = "shared";

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new file or a new content.
    Write(PathBuf, usize, u64),
    /// In two writes, with a pause between them.
    Append(PathBuf, usize, u64),
    /// Twice, at once: other bytes, the same length, and where the kernel's clock is coarse the same time.
    Overwrite(PathBuf, u64),
    /// The same, and the time that the file had before is set again.
    OverwriteUnseen(PathBuf, u64),
    /// Shorter or longer.
    Truncate(PathBuf, u64),
    /// `mkdir -p`.
    MakeDirectories(PathBuf),
    /// `rm`, or `rmdir`.
    Remove(PathBuf),
    /// `rm -r`.
    RemoveAll(PathBuf),
    /// Over what is there, where the kernel allows it.
    Rename(PathBuf, PathBuf),
    /// `RENAME_EXCHANGE`.
    Exchange(PathBuf, PathBuf),
    /// Another name of the first.
    HardLink(PathBuf, PathBuf),
    /// The second links to a name beside it.
    Symlink(String, PathBuf),
    /// `chmod`.
    Mode(PathBuf, u32),
    /// Seconds and nanoseconds since 1970.
    Time(PathBuf, u64, u32),
    /// An editor's save: a temporary file is renamed over it.
    SaveOver(PathBuf, usize, u64),
    /// An editor's save: it is renamed to a backup and made anew; the backup stays.
    SaveBackup(PathBuf, usize, u64),
}

use Operation::*;

impl Operation {
    /// The next operation of a worker. `unseen` allows those that a comparison by size and time cannot see.
    pub fn draw(random: &mut fastrand::Rng, worker: usize, unseen: bool) -> Self {
        let own = format!("w{worker}");
        let base = if random.u8(..3) == 0 { SHARED } else { &own };
        let at = place(random, base);
        let other = if base == SHARED || random.bool() { place(random, SHARED) } else { place(random, base) };
        let seed = random.u64(..);
        match random.u32(..100) {
            ..22 => Write(at, size(random), seed),
            22..27 => Append(at, 1 + size(random), seed),
            27..33 if unseen && seed.is_multiple_of(3) => OverwriteUnseen(at, seed),
            27..33 => Overwrite(at, seed),
            33..36 => Truncate(at, random.u64(..20_000)),
            36..44 => MakeDirectories(at),
            44..49 => Remove(at),
            49..51 => RemoveAll(at),
            51..67 => Rename(at, other),
            67..71 => Exchange(at, place(random, base)),
            71..74 => HardLink(place(random, &own), place(random, &own)),
            74..78 => Symlink(name(random).to_owned(), at),
            78..82 => Mode(at, 0o400 | random.u32(..0o1000)),
            82..86 => Time(at, random.u64(..4_000_000_000), random.u32(..1_000_000_000)),
            86..94 => SaveOver(at, size(random), seed),
            _ => SaveBackup(at, size(random), seed),
        }
    }

    /// The paths that it is about, below the source.
    pub fn paths(&self) -> Vec<PathBuf> {
        match self {
            Rename(one, other) | Exchange(one, other) | HardLink(one, other) => vec![one.clone(), other.clone()],
            Write(at, ..) | Append(at, ..) | Overwrite(at, _) | OverwriteUnseen(at, _) | Truncate(at, _) | MakeDirectories(at) => {
                vec![at.clone()]
            }
            Remove(at) | RemoveAll(at) | Symlink(_, at) | Mode(at, _) | Time(at, ..) | SaveOver(at, ..) => vec![at.clone()],
            SaveBackup(at, ..) => vec![at.clone(), beside(at, "", "~")],
        }
    }

    /// Does it below `root`. What the kernel refuses is refused.
    pub fn perform(&self, root: &Path) -> io::Result<()> {
        let at = |path: &Path| root.join(path);
        match self {
            Write(path, size, seed) if at(path).is_dir() => fill(&at(path).join("in it"), &noise(*size, *seed)),
            Write(path, size, seed) => fill(&at(path), &noise(*size, *seed)),
            Append(path, size, seed) => {
                let file = single(&at(path))?;
                let (first, second) = (noise(*size, *seed), noise(*size / 2, !*seed));
                file.write_all_at(&first, file.metadata()?.len())?;
                thread::sleep(Duration::from_millis(seed % 15));
                file.write_all_at(&second, file.metadata()?.len())
            }
            Overwrite(path, seed) => overwrite(&single(&at(path))?, *seed),
            OverwriteUnseen(path, seed) => {
                let file = single(&at(path))?;
                let time = file.metadata()?.modified()?;
                overwrite(&file, *seed)?;
                file.set_modified(time)
            }
            Truncate(path, size) => single(&at(path))?.set_len(*size),
            MakeDirectories(path) => fs::create_dir_all(at(path)),
            Remove(path) => fs::remove_file(at(path)).or_else(|_| fs::remove_dir(at(path))),
            RemoveAll(path) => fs::remove_dir_all(at(path)),
            Rename(old, new) => {
                fs::symlink_metadata(at(old))?;
                at(new).parent().map_or(Ok(()), fs::create_dir_all)?;
                fs::rename(at(old), at(new))
            }
            Exchange(one, other) => Ok(renameat2(AT_FDCWD, &at(one), AT_FDCWD, &at(other), RenameFlags::RENAME_EXCHANGE)?),
            HardLink(old, new) => {
                if !fs::symlink_metadata(at(old))?.is_file() {
                    return Err(ErrorKind::InvalidInput.into());
                }
                fs::hard_link(at(old), at(new))
            }
            Symlink(to, path) => symlink(to, at(path)),
            Mode(path, mode) => single_or_directory(&at(path))?.set_permissions(fs::Permissions::from_mode(*mode)),
            Time(path, seconds, nanoseconds) => {
                single_or_directory(&at(path))?.set_modified(SystemTime::UNIX_EPOCH + Duration::new(*seconds, *nanoseconds))
            }
            SaveOver(path, size, seed) => {
                let temporary = at(&beside(path, ".", &format!(".{:x}", seed & 0xffff)));
                fill(&temporary, &noise(*size, *seed))?;
                fs::rename(&temporary, at(path)).or_else(|error| fs::remove_file(&temporary).and(Err(error)))
            }
            SaveBackup(path, size, seed) => {
                fs::rename(at(path), at(&beside(path, "", "~")))?;
                fill(&at(path), &noise(*size, *seed))
            }
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

fn name(random: &mut fastrand::Rng) -> &'static str {
    NAMES[random.usize(..NAMES.len())]
}

/// A path of one to three names; sometimes a deep one, sometimes one that a filter may leave out.
fn place(random: &mut fastrand::Rng, base: &str) -> PathBuf {
    let depth = if random.u8(..12) == 0 { random.usize(6..12) } else { random.usize(1..=3) };
    let mut path = PathBuf::from(base);
    path.extend((1..depth).map(|_| NAMES[random.usize(..if depth > 3 { 2 } else { DIRECTORIES })]));
    path.push(if random.u8(..4) == 0 { NAMES[random.usize(..DIRECTORIES)] } else { name(random) });
    if random.u8(..12) == 0 {
        path.as_mut_os_string().push(&FILTERED[1..]);
    }
    path
}

fn size(random: &mut fastrand::Rng) -> usize {
    match random.u8(..20) {
        ..16 => random.usize(..4_000),
        16..19 => random.usize(4_000..32_000),
        _ => random.usize(32_000..256_000),
    }
}

fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; size];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// The path with something put around its name.
fn beside(path: &Path, before: &str, after: &str) -> PathBuf {
    path.with_file_name(format!("{before}{}{after}", path.file_name().unwrap_or_default().to_string_lossy()))
}

/// Makes the file and its directories, or gives it a new content; a file with several names is made anew instead.
fn fill(path: &Path, bytes: &[u8]) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    if single(path).is_err_and(|error| error.kind() == ErrorKind::TooManyLinks) {
        fs::remove_file(path)?;
    }
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).custom_flags(O_NOFOLLOW).open(path)?;
    if file.metadata()?.nlink() > 1 {
        return Err(ErrorKind::TooManyLinks.into());
    }
    file.set_len(0)?;
    file.write_all(bytes)
}

/// A file that is there, and has no other name.
fn single(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(O_NOFOLLOW).open(path)?;
    if file.metadata()?.nlink() > 1 { Err(ErrorKind::TooManyLinks.into()) } else { Ok(file) }
}

fn single_or_directory(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_dir() && metadata.nlink() > 1 { Err(ErrorKind::TooManyLinks.into()) } else { Ok(file) }
}

fn overwrite(file: &File, seed: u64) -> io::Result<()> {
    let size = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    if size == 0 {
        return Err(ErrorKind::InvalidInput.into());
    }
    for seed in [seed, !seed] {
        file.write_all_at(&noise(size, seed), 0)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_operations_again() {
        let drawn = |seed| {
            let mut random = fastrand::Rng::with_seed(seed);
            (0..200).map(|_| Operation::draw(&mut random, 1, true)).collect::<Vec<_>>()
        };
        assert_eq!(drawn(5), drawn(5));
        assert_ne!(drawn(5), drawn(6));
    }

    #[test]
    fn a_file_with_two_names_is_not_changed_under_one_of_them() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let at = |name: &str| PathBuf::from(name);
        Write(at("one"), 10, 1).perform(root).unwrap();
        HardLink(at("one"), at("two")).perform(root).unwrap();
        let before = fs::read(root.join("two")).unwrap();
        for change in
            [Append(at("one"), 5, 2), Overwrite(at("one"), 2), Truncate(at("one"), 3), Mode(at("one"), 0o600), Time(at("one"), 1, 1)]
        {
            assert!(change.perform(root).is_err(), "{change}");
        }
        Write(at("one"), 10, 2).perform(root).unwrap();
        assert_eq!(fs::read(root.join("two")).unwrap(), before);
        assert_ne!(fs::read(root.join("one")).unwrap(), before);
    }

    #[test]
    fn most_operations_find_something_to_work_on() {
        let directory = tempfile::tempdir().unwrap();
        let mut random = fastrand::Rng::with_seed(1);
        let mut refused = std::collections::BTreeMap::<String, u32>::new();
        for _ in 0..2_000 {
            let operation = Operation::draw(&mut random, 0, true);
            if operation.perform(directory.path()).is_err() {
                *refused.entry(operation.to_string().split('(').next().unwrap_or_default().to_owned()).or_default() += 1;
            }
        }
        assert!(refused.values().sum::<u32>() < 1_300, "of 2000 these were refused: {refused:?}");
    }
}
