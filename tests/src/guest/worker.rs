//! A process that makes changes on demand and times them itself, and that no watching process is an ancestor of.
//!
//! Five processes deep below the machine's first one, as a program of a login is: who tells the changes of one's own from those of others
//! has to go through its ancestors.

use std::{
    ffi::CString,
    fs::File,
    io::{Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, ensure};
use nix::{
    errno::Errno,
    sys::wait::waitpid,
    unistd::{ForkResult, fork, getpid, getppid, pipe},
};

/// Processes between the first one and the worker.
const DEPTH: u32 = 5;

/// What it is asked for.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum Work {
    /// Create, write 20 bytes, close, unlink.
    Cycles = 1,
    /// Write 20 bytes to a file that stays open.
    Writes = 2,
}

/// The process; it ends with this.
pub struct Worker {
    ask: File,
    answers: File,
}

impl Worker {
    /// Works in `directory`, on names of its own.
    pub fn start(directory: &Path) -> anyhow::Result<Self> {
        let ((their_end, ask), (answers, tell)) = (pipe()?, pipe()?);
        let ours = [ask.as_raw_fd(), answers.as_raw_fd()];
        let directory = directory.to_owned();
        let middle = detach(ours, move || {
            let _ = serve(&directory, File::from(their_end), File::from(tell));
        })?;
        waitpid(middle, None)?;
        Ok(Self { ask: ask.into(), answers: answers.into() })
    }

    /// Nanoseconds that this much work took.
    pub fn time(&mut self, work: Work, count: u32) -> anyhow::Result<u64> {
        let [a, b, c, d] = count.to_le_bytes();
        self.ask.write_all(&[work as u8, a, b, c, d])?;
        let mut answer = [0; 8];
        self.answers.read_exact(&mut answer).context("the worker has ended")?;
        let nanoseconds = u64::from_le_bytes(answer);
        ensure!(nanoseconds != u64::MAX, "the worker could not do {work:?}");
        Ok(nanoseconds)
    }
}

/// Runs `work` in a process whose ancestors are not ours, with these descriptors closed. Returns the process that was between, which ends at
/// once.
fn detach(ours: [RawFd; 2], work: impl FnOnce()) -> nix::Result<nix::unistd::Pid> {
    // SAFETY: the child touches no lock that another thread may hold: the allocator's are taken care of by the C library's fork, and each
    // process ends with `_exit`, without running anything of the parent's.
    let child = unsafe { fork() }?;
    if let ForkResult::Parent { child } = child {
        return Ok(child);
    }
    for fd in ours {
        // SAFETY: this process' copy of a descriptor that nothing in it uses: the worker ends when the last copy is closed.
        unsafe { libc::close(fd) };
    }
    let middle = getpid();
    for level in 0..DEPTH {
        // SAFETY: as above.
        match unsafe { fork() } {
            Ok(ForkResult::Child) if level == 0 => {
                while getppid() == middle {
                    std::thread::yield_now();
                }
            }
            Ok(ForkResult::Child) => {}
            Ok(ForkResult::Parent { child }) => {
                // All but the first one stay, so that the last one keeps its ancestors.
                if level > 0 {
                    let _ = waitpid(child, None);
                }
                exit();
            }
            Err(_) => exit(),
        }
    }
    work();
    exit()
}

fn exit() -> ! {
    // SAFETY: ends the process at once, which is what is wanted.
    unsafe { libc::_exit(0) }
}

fn serve(directory: &Path, mut asked: File, mut tell: File) -> anyhow::Result<()> {
    let text = |path: PathBuf| CString::new(path.as_os_str().as_bytes()).context("a path without NUL");
    let names: Vec<_> = (0..100).map(|number| text(directory.join(format!("file{number}")))).collect::<Result<_, _>>()?;
    let open = File::create(directory.join("open"))?;
    let mut request = [0; 5];
    // The other end goes away with the one who asks.
    while asked.read_exact(&mut request).is_ok() {
        let [work, a, b, c, d] = request;
        let count = u32::from_le_bytes([a, b, c, d]);
        let begun = Instant::now();
        let result = match work {
            1 => (0..count).try_for_each(|number| cycle(&names[number as usize % names.len()])),
            _ => (0..count).try_for_each(|_| write(open.as_raw_fd())),
        };
        let took = begun.elapsed().as_nanos() as u64;
        tell.write_all(&result.map_or(u64::MAX, |()| took).to_le_bytes())?;
    }
    Ok(())
}

const CONTENT: &[u8; 20] = b"twenty bytes of text";

/// By the C library's own wrappers: nothing but the system calls is to be counted.
fn cycle(path: &CString) -> nix::Result<()> {
    // SAFETY: the path ends with NUL; the descriptor is closed once; both calls take what they are given.
    unsafe {
        let fd = Errno::result(libc::open(path.as_ptr(), libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, 0o600))?;
        write(fd)?;
        Errno::result(libc::close(fd))?;
        Errno::result(libc::unlink(path.as_ptr()))?;
    }
    Ok(())
}

fn write(fd: i32) -> nix::Result<()> {
    // SAFETY: the buffer has as many bytes as are given. Always at the beginning, so that the file stays small.
    let written = Errno::result(unsafe { libc::pwrite(fd, CONTENT.as_ptr().cast(), CONTENT.len(), 0) })?;
    if written == 20 { Ok(()) } else { Err(Errno::EIO) }
}
