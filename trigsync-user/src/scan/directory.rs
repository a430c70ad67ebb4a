//! Directories below a root, opened, read and looked at without ever following a symbolic link.
//!
//! - Opened by their path below the root's descriptor, one descriptor at a time: what waits to be read holds none.
//! - Read in pieces of bounded size, however many names a directory has.
//! - Each name is looked at once, in the order of inode numbers: that is where they stand on the disk, and on ext4 the order of the names
//!   is random.

use std::{
    ffi::CStr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, StatxFlags, openat, openat2, statx},
    io::Errno,
};

use crate::model::{RelPath, is_name};

/// Bytes of names that are read at once.
const PIECE: usize = 64 << 10;

/// Seconds and nanoseconds since 1970, as `statx` tells them.
pub(crate) type Moment = (i64, u32);

/// Number of a file system.
pub(crate) type Device = (u32, u32);

/// Opens directories below a root.
pub(crate) struct Opener<'a> {
    root: BorrowedFd<'a>,
    /// The kernel has `openat2` (Linux 5.6 and newer), and nothing forbids it.
    at_once: bool,
}

impl<'a> Opener<'a> {
    pub fn new(root: BorrowedFd<'a>) -> Self {
        let mut opener = Self { root, at_once: true };
        opener.at_once = opener.at_once(c".".to_bytes()).is_ok();
        opener
    }

    /// Opens a directory for reading. Fails with `LOOP` or `NOTDIR` where a symbolic link stands on the way or at the end.
    pub fn open(&self, path: &RelPath) -> Result<OwnedFd, Errno> {
        if path.is_root() {
            return openat(self.root, c".", FOR_READING, Mode::empty());
        }
        if self.at_once {
            match self.at_once(path.as_bytes()) {
                // Longer than the kernel takes at once.
                Err(Errno::NAMETOOLONG) => {}
                answer => return answer,
            }
        }
        self.by_steps(path)
    }

    fn at_once(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        openat2(self.root, path, FOR_READING, Mode::empty(), ResolveFlags::NO_SYMLINKS)
    }

    fn by_steps(&self, path: &RelPath) -> Result<OwnedFd, Errno> {
        let mut names = path.components();
        let last = names.next_back().unwrap_or(b".");
        let mut passed: Option<OwnedFd> = None;
        let below = |passed: &Option<OwnedFd>, name: &[u8], flags| {
            let directory = passed.as_ref().map_or(self.root, AsFd::as_fd);
            openat(directory, name, flags, Mode::empty())
        };
        for name in names {
            passed = Some(below(&passed, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC)?);
        }
        below(&passed, last, FOR_READING)
    }
}

const FOR_READING: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Room for a piece of a directory, to be used again for the next.
pub(crate) struct Reader {
    buffer: Vec<u8>,
    piece: Piece,
}

/// Some names of a directory.
#[derive(Default)]
pub(crate) struct Piece {
    /// The names, each with its NUL.
    bytes: Vec<u8>,
    /// Inode numbers, and where in `bytes` the name begins and ends.
    names: Vec<(u64, usize, usize)>,
    /// A name that no entry can have: the file system is damaged.
    pub damaged: bool,
}

impl Reader {
    pub fn new() -> Self {
        Self { buffer: Vec::with_capacity(PIECE), piece: Piece::default() }
    }

    /// Hands over every name of `directory`, piece by piece, for as long as `each` asks for more.
    pub fn read(&mut self, directory: &OwnedFd, mut each: impl FnMut(&Piece) -> bool) -> Result<(), Errno> {
        let Self { buffer, piece } = self;
        let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
        piece.clear();
        while let Some(entry) = entries.next() {
            let entry = entry?;
            piece.add(entry.ino(), entry.file_name());
            if entries.is_buffer_empty() {
                piece.names.sort_unstable();
                if !each(piece) {
                    break;
                }
                piece.clear();
            }
        }
        Ok(())
    }
}

impl Piece {
    /// The names, without `.` and `..`.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &CStr> {
        let name = |bytes| CStr::from_bytes_with_nul(bytes).expect("it was written with its NUL");
        self.names.iter().map(move |&(_, begin, end)| name(&self.bytes[begin..end]))
    }

    fn add(&mut self, inode: u64, name: &CStr) {
        let bytes = name.to_bytes();
        if bytes.contains(&b'/') || bytes.is_empty() {
            self.damaged = true;
        } else if is_name(bytes) {
            let begin = self.bytes.len();
            self.bytes.extend_from_slice(name.to_bytes_with_nul());
            self.names.push((inode, begin, self.bytes.len()));
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.names.clear();
        self.damaged = false;
    }
}

/// What is to be known of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub directory: bool,
    pub device: Device,
    /// Bytes of content.
    pub size: u64,
    /// When it last changed; `None` where its file system does not tell.
    pub changed: Option<Moment>,
}

/// Looks at `name` in `directory`, or with `.` at the directory.
pub(crate) fn look(directory: &OwnedFd, name: &CStr) -> Result<Look, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let found = statx(directory, name, flags, StatxFlags::TYPE | StatxFlags::CTIME | StatxFlags::SIZE)?;
    let told = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::CTIME);
    Ok(Look {
        directory: FileType::from_raw_mode(found.stx_mode.into()) == FileType::Directory,
        device: (found.stx_dev_major, found.stx_dev_minor),
        size: found.stx_size,
        changed: told.then_some((found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec)),
    })
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        fs,
        os::unix::fs::{MetadataExt, symlink},
        path::Path,
    };

    use super::*;
    use crate::model::RelPathBuf;

    fn rel(path: &str) -> RelPathBuf {
        RelPathBuf::new(path.as_bytes().to_vec()).unwrap()
    }

    fn root(path: &Path) -> OwnedFd {
        fs::File::open(path).unwrap().into()
    }

    #[test]
    fn no_link_is_followed_at_once_or_by_steps() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("a/b")).unwrap();
        fs::write(place.path().join("file"), "").unwrap();
        symlink("a", place.path().join("link")).unwrap();
        let root = root(place.path());
        let mut opener = Opener::new(root.as_fd());
        let at_once = opener.at_once;
        for at_once in [at_once, false] {
            opener.at_once = at_once;
            for path in ["", "a", "a/b"] {
                assert!(opener.open(&rel(path)).is_ok(), "{path} {at_once}");
            }
            for path in ["link", "link/b", "file", "file/x"] {
                assert!(matches!(opener.open(&rel(path)), Err(Errno::LOOP | Errno::NOTDIR)), "{path} {at_once}");
            }
            assert_eq!(opener.open(&rel("a/none")).unwrap_err(), Errno::NOENT);
        }
    }

    #[test]
    fn a_path_longer_than_the_kernel_takes_is_opened() {
        let place = tempfile::tempdir().unwrap();
        let root = root(place.path());
        let name = "n".repeat(200);
        let (mut path, mut deepest) = (RelPathBuf::root(), root.try_clone().unwrap());
        for _ in 0..25 {
            rustix::fs::mkdirat(&deepest, &*name, Mode::RWXU).unwrap();
            path = path.join(name.as_bytes());
            deepest = openat(&deepest, &*name, FOR_READING, Mode::empty()).unwrap();
        }
        let opened = Opener::new(root.as_fd()).open(&path).unwrap();
        let inode = |fd: OwnedFd| fs::File::from(fd).metadata().unwrap().ino();
        assert_eq!(inode(opened), inode(deepest));
    }

    #[test]
    fn every_name_is_read_once_whatever_its_bytes() {
        let place = tempfile::tempdir().unwrap();
        // Several pieces.
        let long: Vec<_> = (0..2000).map(|number| format!("{number}-{}\n\u{1b}*", "x".repeat(100))).collect();
        for name in &long {
            fs::write(place.path().join(name), "").unwrap();
        }
        let (mut names, mut pieces) = (BTreeSet::new(), 0);
        let mut reader = Reader::new();
        let whole = reader.read(&root(place.path()), |piece| {
            pieces += 1;
            names.extend(piece.names().map(|name| name.to_str().unwrap().to_owned()));
            true
        });
        assert_eq!((whole, names), (Ok(()), long.into_iter().collect()));
        assert!(pieces > 2, "{pieces}");
        let mut asked = 0;
        reader
            .read(&root(place.path()), |_| {
                asked += 1;
                false
            })
            .unwrap();
        assert_eq!(asked, 1);
    }

    #[test]
    fn a_look_is_at_the_link_and_not_at_what_it_names() {
        let place = tempfile::tempdir().unwrap();
        symlink("/", place.path().join("link")).unwrap();
        let directory = root(place.path());
        let metadata = fs::symlink_metadata(place.path().join("link")).unwrap();
        let found = look(&directory, c"link").unwrap();
        assert!(!found.directory);
        assert_eq!(found.changed, Some((metadata.ctime(), metadata.ctime_nsec().try_into().unwrap())));
        assert!(look(&directory, c".").unwrap().directory);
        assert_eq!(look(&directory, c"none"), Err(Errno::NOENT));
    }
}
