//! Processes that change a tree as fast as they can, each in a way of its own; what the kernel refuses is as good a step as any.
//!
//! - A file with several names is never written to: rsync without `--hard-links` keeps the names apart, and a write is told by one of them.
//! - Names are few, so that operations meet and the tree stays small.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use nix::{
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
    sys::stat::Mode,
    unistd::mkfifo,
};

use crate::process::Process;

/// The first word on the command line of such a process.
pub const WORD: &str = "operate";

/// How a process changes the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A bit of everything.
    Mixed,
    /// Directories in depth, with files in them, and away with them.
    Deep,
    /// Renames directories back and forth, out of the tree and in again.
    Renames,
    /// Exchanges directories.
    Exchanges,
}

const KINDS: [(Kind, &str); 4] = [(Kind::Mixed, "mixed"), (Kind::Deep, "deep"), (Kind::Renames, "renames"), (Kind::Exchanges, "exchanges")];

/// Running processes, ended with this.
pub struct Writers(Vec<Process>);

impl Writers {
    /// Starts one process for each kind, for `duration`.
    pub fn start(kinds: &[Kind], root: &Path, outside: &Path, duration: Duration) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        let start = |(seed, kind): (usize, &Kind)| {
            let (_, name) = KINDS.iter().find(|(known, _)| known == kind).expect("every kind has a name");
            let mut command = Command::new(&program);
            command.args([WORD, name]).args([root, outside]).arg(seed.to_string()).arg(duration.as_millis().to_string());
            Process::start(command.stdin(Stdio::null()).stdout(Stdio::piped()))
        };
        Ok(Self(kinds.iter().enumerate().map(start).collect()))
    }

    /// Waits for their end and returns the sum of their operations.
    pub fn finish(mut self) -> anyhow::Result<u64> {
        let mut sum = 0;
        for process in &mut self.0 {
            let said = io::read_to_string(process.child().stdout.take().context("it is piped")?)?;
            let status = process.wait(Duration::from_secs(10)).context("a writer goes on after its time")?;
            ensure!(status.success(), "a writer ended with {status}");
            sum += said.trim().parse::<u64>().context("a writer says how often it did something")?;
        }
        Ok(sum)
    }
}

/// Such a process: KIND ROOT OUTSIDE SEED MILLISECONDS.
pub fn main(words: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let words: Vec<_> = words.collect();
    let [kind, root, outside, seed, milliseconds] = &words[..] else { bail!("{WORD} KIND ROOT OUTSIDE SEED MILLISECONDS") };
    let (kind, _) = KINDS.iter().find(|(_, name)| name == kind).context("no such kind")?;
    let mut tree = Tree::new(root, outside, seed.parse()?)?;
    let end = Instant::now() + Duration::from_millis(milliseconds.parse()?);
    let mut operations = 0_u64;
    while Instant::now() < end {
        // What is refused is refused.
        let _ = match kind {
            Kind::Mixed => tree.mixed(),
            Kind::Deep => tree.deep(),
            Kind::Renames => tree.rename(),
            Kind::Exchanges => tree.exchange(),
        };
        operations += 1;
    }
    tree.bring_back();
    println!("{operations}");
    Ok(())
}

struct Tree {
    root: PathBuf,
    outside: PathBuf,
    seed: u64,
    state: u64,
}

impl Tree {
    fn new(root: &str, outside: &str, seed: u64) -> io::Result<Self> {
        let outside = Path::new(outside).join(seed.to_string());
        fs::create_dir_all(&outside)?;
        Ok(Self { root: root.into(), outside, seed, state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 })
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 20) % limit
    }

    fn directory(&mut self) -> PathBuf {
        let depth = 1 + self.below(3);
        (0..depth).fold(self.root.clone(), |path, _| path.join(format!("d{}", self.below(5))))
    }

    fn file(&mut self) -> PathBuf {
        let name = format!("f{}", self.below(8));
        self.directory().join(name)
    }

    fn bytes(&mut self) -> Vec<u8> {
        let longest = if self.below(10) == 0 { 40_000 } else { 200 };
        let length = self.below(longest) as usize;
        vec![b'a' + self.below(26) as u8; length]
    }

    fn mixed(&mut self) -> io::Result<()> {
        let (file, directory) = (self.file(), self.directory());
        match self.below(24) {
            0..3 => fs::write(&file, self.bytes()),
            3..6 => fs::create_dir_all(file.parent().expect("a file is in a directory")).and_then(|()| fs::write(&file, self.bytes())),
            6..9 => OpenOptions::new().append(true).open(&file)?.write_all(&self.bytes()),
            9 => OpenOptions::new().write(true).open(&file)?.set_len(self.below(300)),
            10 | 11 => fs::create_dir_all(&directory),
            12 | 13 => fs::rename(&file, self.file()),
            14 => fs::rename(&directory, self.directory()),
            15 => renameat2(AT_FDCWD, &directory, AT_FDCWD, &self.directory(), RenameFlags::RENAME_EXCHANGE).map_err(Into::into),
            16 => fs::set_permissions(&file, fs::Permissions::from_mode(0o600 | self.below(0o100) as u32)),
            17 => {
                OpenOptions::new().write(true).open(&file)?.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(self.below(1 << 31)))
            }
            18 => fs::remove_file(&file),
            19 => match self.below(6) {
                0 => fs::remove_dir_all(&directory),
                _ => fs::remove_dir(&directory),
            },
            20 => replace(&directory.join("link"), |link| symlink("../f0", link)),
            21 => self.linked(&directory),
            22 => replace(&directory.join("fifo"), |fifo| mkfifo(fifo, Mode::from_bits_truncate(0o640)).map_err(Into::into)),
            _ => self.saved(&file),
        }
    }

    /// A file that is never written to, and another name for it.
    fn linked(&mut self, directory: &Path) -> io::Result<()> {
        let number = self.below(4);
        let [single, hard] = ["s", "h"].map(|letter| directory.join(format!("{letter}{}-{number}", self.seed)));
        let _ = fs::remove_file(&single);
        fs::write(&single, self.bytes())?;
        replace(&hard, |hard| fs::hard_link(&single, hard))
    }

    /// As an editor saves.
    fn saved(&mut self, file: &Path) -> io::Result<()> {
        let new = file.with_extension(format!("new{}", self.seed));
        fs::write(&new, self.bytes())?;
        fs::rename(&new, file)
    }

    fn deep(&mut self) -> io::Result<()> {
        let levels = 5 + self.below(30);
        let name = format!("p{}", self.below(3));
        let top = self.directory().join(format!("deep{}", self.seed));
        let mut path = top.clone();
        for _ in 0..levels {
            path.push(&name);
        }
        fs::create_dir_all(&path)?;
        fs::write(path.join("leaf"), self.bytes())?;
        fs::write(top.join(&name).join("f"), self.bytes())?;
        if self.below(4) == 0 { fs::remove_dir_all(&top) } else { Ok(()) }
    }

    fn rename(&mut self) -> io::Result<()> {
        let (from, to) = (self.directory(), self.directory());
        let aside = self.outside.join("aside");
        match self.below(4) {
            0 => fs::rename(&from, &to),
            1 => {
                let back = from.with_extension(format!("r{}", self.seed));
                fs::rename(&from, &back).and_then(|()| fs::rename(&back, &from))
            }
            2 => {
                fs::rename(&from, &aside)?;
                // Where there is something already, it goes back to where it was, or where there is nothing.
                let result = [&to, &from, &to.join("d4"), &from.join("d4")].into_iter().find_map(|place| fs::rename(&aside, place).ok());
                self.bring_back();
                result.ok_or_else(|| io::ErrorKind::AlreadyExists.into())
            }
            _ => fs::rename(from.join("d0"), to.join("d1")),
        }
    }

    fn exchange(&mut self) -> io::Result<()> {
        let (one, other) = (self.directory(), self.directory());
        renameat2(AT_FDCWD, &one, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE)?;
        Ok(())
    }

    /// What is still outside, or under a name that only this process gives, goes.
    fn bring_back(&self) {
        let _ = fs::remove_dir_all(self.outside.join("aside"));
    }
}

fn replace(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let _ = fs::remove_file(path);
    make(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_finds_something_to_do_and_leaves_nothing_outside() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir(&root).unwrap();
        let mut trees = [0, 1, 2].map(|seed| Tree::new(root.to_str().unwrap(), outside.to_str().unwrap(), seed).unwrap());
        let mut done = [0; 4];
        for _ in 0..2000 {
            let [mixed, deep, other] = &mut trees;
            for (done, result) in done.iter_mut().zip([mixed.mixed(), deep.deep(), other.rename(), other.exchange()]) {
                *done += u32::from(result.is_ok());
            }
        }
        assert!(done.iter().all(|done| *done > 20), "{done:?}");
        assert!(fs::read_dir(&outside).unwrap().flatten().all(|own| fs::read_dir(own.path()).unwrap().count() == 0));
    }
}
