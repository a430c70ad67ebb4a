//! The file of failures itself: ours alone, never followed elsewhere, never executable, and bounded.
//!
//! It is opened for each piece that is written, so whoever moves it away (logrotate) has the next piece go into a new one.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use nix::{errno::Errno, fcntl::OFlag, unistd::geteuid};

/// Beyond so many bytes it becomes `FILE.1`, in the place of what was that before.
const MOST: u64 = 4 << 20;

/// Whether the file can be written, or can be made. Fails with what is wrong with it.
pub fn check(path: &Path) -> Result<(), String> {
    match open(path, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.parent().is_some_and(Path::is_dir) => Ok(()),
        result => result.map(drop).map_err(|error| explain(&error)),
    }
}

/// Appends lines. Fails with what is wrong, and how many bytes are written all the same.
pub(super) fn append(path: &Path, lines: &[u8]) -> Result<(), (String, usize)> {
    let mut written = 0;
    append_to(path, lines, &mut written, MOST).map_err(|error| (explain(&error), written))
}

fn append_to(path: &Path, lines: &[u8], written: &mut usize, most: u64) -> io::Result<()> {
    let mut file = open(path, true)?;
    let mut length = file.metadata()?.len();
    if length > 0 && length + lines.len() as u64 > most {
        let mut predecessor = path.as_os_str().to_owned();
        predecessor.push(".1");
        fs::rename(path, PathBuf::from(predecessor))?;
        file = open(path, true)?;
        length = file.metadata()?.len();
    }
    // A disk that filled up may have cut the last line short.
    let mut last = *b"\n";
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    while *written < lines.len() {
        match file.write(&lines[*written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => *written += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// sersync's own, `/tmp/rsync_fail_log.sh`, is where everybody may make names. So what bears the name is opened without following it or
/// waiting for it, and is written to only if it is a file of this user's that has no other name.
fn open(path: &Path, make: bool) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).append(true).create(make).mode(0o600).custom_flags(flags.bits()).open(path)?;
    let found = file.metadata()?;
    let refused = |why: String| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    if !found.is_file() {
        return refused("is not a regular file (name a file)".to_owned());
    }
    if found.uid() != geteuid().as_raw() {
        return refused(format!("belongs to the user {}, not to that of trigsync (move it away, or name another file)", found.uid()));
    }
    if found.nlink() > 1 {
        return refused("is a file with other names too (move it away, or name another file)".to_owned());
    }
    if found.mode() & 0o7777 & !0o600 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

fn explain(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ELOOP) => "is a symbolic link (name a file)".to_owned(),
        Some(Errno::ENXIO | Errno::EISDIR) => "is not a regular file (name a file)".to_owned(),
        Some(_) => format!("cannot be written: {error}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").mode() & 0o7777
    }

    #[test]
    fn a_file_of_ours_is_made_and_narrowed() {
        let room = tempfile::tempdir().expect("a place");
        let file = room.path().join("log");
        assert_eq!(check(&file), Ok(()));
        assert!(!file.exists(), "looking makes nothing");
        append(&file, b"# one\n").expect("it can be written");
        assert_eq!(mode(&file), 0o600);
        fs::write(&file, "cut sho").expect("it is there");
        fs::set_permissions(&file, Permissions::from_mode(0o777)).expect("it is ours");
        append(&file, b"# two\n").expect("it can be written");
        assert_eq!((mode(&file), fs::read_to_string(&file).expect("text")), (0o600, "cut sho\n# two\n".to_owned()));
    }

    #[test]
    fn what_is_no_file_of_ours_is_refused() {
        let room = tempfile::tempdir().expect("a place");
        let at = |name: &str| room.path().join(name);
        fs::write(at("secret"), "mine\n").expect("a file");
        symlink(at("secret"), at("link")).expect("a link");
        fs::hard_link(at("secret"), at("name")).expect("another name");
        mkfifo(&at("pipe"), Mode::S_IRWXU).expect("a pipe");
        fs::create_dir(at("directory")).expect("a directory");
        let cases = [
            ("link", "a symbolic link"),
            ("name", "other names too"),
            ("pipe", "not a regular file"),
            ("directory", "not a regular file"),
            ("nowhere/log", "cannot be written: No such file or directory"),
        ];
        for (name, words) in cases {
            let (why, written) = append(&at(name), b"# line\n").expect_err(name);
            assert!(why.contains(words) && written == 0, "{name}: {why}");
            assert_eq!(check(&at(name)).expect_err(name), why);
        }
        if geteuid().is_root() {
            fs::write(at("theirs"), "").expect("a file");
            std::os::unix::fs::chown(at("theirs"), Some(1), None).expect("root may");
            assert!(append(&at("theirs"), b"# line\n").expect_err("it is theirs").0.starts_with("belongs to the user 1,"));
        }
        assert_eq!(fs::read_to_string(at("secret")).expect("text"), "mine\n");
    }

    #[test]
    fn one_predecessor_is_kept() {
        let room = tempfile::tempdir().expect("a place");
        let [file, predecessor] = ["log", "log.1"].map(|name| room.path().join(name));
        for line in ["# 1\n", "# 2\n", "# 3\n", "# 4\n", "# 5\n"] {
            append_to(&file, line.as_bytes(), &mut 0, 8).expect("it can be written");
        }
        let read = |path| fs::read_to_string(path).expect("text");
        assert_eq!((read(&file), read(&predecessor)), ("# 5\n".to_owned(), "# 3\n# 4\n".to_owned()));
    }
}
