//! Probes on entry and return, made through tracefs: the only way to say how many calls of a function may be under way at once before
//! returns are missed.
//!
//! - Every process has a group of events of its own, which goes with it; what a killed one left is taken away by the next.
//! - A program hangs at its probe as long as the descriptor of the event is open.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    mem,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use aya::util::online_cpus;
use aya_obj::generated::{PERF_EVENT_IOC_ENABLE, PERF_EVENT_IOC_SET_BPF, PERF_FLAG_FD_CLOEXEC, perf_event_attr};
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{TRACEFS_MAGIC, statfs},
};
use tracing::debug;

use crate::capture::CaptureError;

/// Where tracefs may be; it is mounted at the first if it is nowhere.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Calls of one function that may be under way at once; the most that the kernel takes.
const MOST_CALLS: u32 = 4096;

const GROUP: &str = "trigsync_";

const PERF_TYPE_TRACEPOINT: u32 = 2;

/// Probes of this process.
pub(super) struct Probes {
    tracefs: PathBuf,
    group: String,
    /// By their program.
    events: BTreeMap<String, OwnedFd>,
}

impl Probes {
    /// None yet.
    pub fn new() -> Result<Self, CaptureError> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let tracefs = find()?;
        let this = process::id();
        let group = format!("{GROUP}{this}_{}", MADE.fetch_add(1, Ordering::Relaxed));
        let probes = Self { tracefs, group, events: BTreeMap::new() };
        match probes.clean() {
            Ok(()) => Ok(probes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(CaptureError::Kernel { what: "probes at the kernel's functions", needs: "CONFIG_KPROBE_EVENTS" })
            }
            Err(source) => Err(CaptureError::io("reading", &probes.list(), source)),
        }
    }

    /// Makes a probe and hangs the program there. The program's name says whether that is on entry or return.
    pub fn attach(&mut self, program: &str, function: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
        let kind = if program.starts_with("kretprobe") { format!("r{MOST_CALLS}") } else { "p".to_owned() };
        self.write(&format!("{kind}:{}/{program} {function}", self.group))?;
        let event = self.open(program, fd).inspect_err(|_| {
            let _ = self.write(&format!("-:{}/{program}", self.group));
        })?;
        self.events.insert(program.to_owned(), event);
        Ok(())
    }

    fn open(&self, program: &str, fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        let number = fs::read_to_string(self.tracefs.join("events").join(&self.group).join(program).join("id"))?;
        let number = number.trim().parse().map_err(|_| io::Error::other("the number of a trace event is none"))?;
        let event = open_tracepoint(number)?;
        set_program(&event, fd)?;
        Ok(event)
    }

    /// Takes a probe away.
    pub fn detach(&mut self, program: &str) {
        let Some(event) = self.events.remove(program) else { return };
        drop(event); // a probe that is open cannot be removed
        if let Err(error) = self.write(&format!("-:{}/{program}", self.group)) {
            debug!(program, %error, "removing a probe");
        }
    }

    /// Calls, and returns, that the kernel could not tell to a probe. Those of another process that has the same names count too: nobody
    /// can tell them apart, and there is none but where two daemons run.
    pub fn missed(&self) -> io::Result<u64> {
        let profile = fs::read_to_string(self.tracefs.join("kprobe_profile"))?;
        let missed = |line: &str| {
            let mut words = line.split_whitespace();
            let is_own = words.next().is_some_and(|name| self.events.contains_key(name));
            words.nth(1).and_then(|count| count.parse::<u64>().ok()).filter(|_| is_own)
        };
        Ok(profile.lines().filter_map(missed).sum())
    }

    fn list(&self) -> PathBuf {
        self.tracefs.join("kprobe_events")
    }

    fn write(&self, command: &str) -> io::Result<()> {
        let said = |error: io::Error| io::Error::new(error.kind(), format!("writing `{command}` to {}: {error}", self.list().display()));
        // Appended: to write from the start would remove the probes of everybody.
        let mut list = OpenOptions::new().append(true).open(self.list()).map_err(said)?;
        list.write_all(command.as_bytes()).map_err(said)
    }

    /// Takes away the probes of processes that are gone.
    fn clean(&self) -> io::Result<()> {
        for (group, event) in fs::read_to_string(self.list())?.lines().filter_map(group_and_event) {
            if is_left_over(group, &self.group) {
                let removed = self.write(&format!("-:{group}/{event}"));
                debug!(group, event, ?removed, "a probe of a process that is gone");
            }
        }
        Ok(())
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        for program in self.events.keys().cloned().collect::<Vec<_>>() {
            self.detach(&program);
        }
    }
}

/// Of a line such as `r4096:trigsync_12_0/kretprobe_vfs_write vfs_write`.
fn group_and_event(line: &str) -> Option<(&str, &str)> {
    line.split_whitespace().next()?.split_once(':')?.1.split_once('/')
}

/// Whether nobody owns a group. One that this process is about to make was left by another with its number.
fn is_left_over(group: &str, own: &str) -> bool {
    let Some(process) = group.strip_prefix(GROUP).and_then(|rest| rest.split('_').next()?.parse::<u32>().ok()) else { return false };
    group == own || process != process::id() && !Path::new("/proc").join(process.to_string()).exists()
}

fn find() -> Result<PathBuf, CaptureError> {
    let first = PLACES[0];
    if let Some(place) = PLACES.iter().find(|place| statfs(**place).is_ok_and(|found| found.filesystem_type() == TRACEFS_MAGIC)) {
        return Ok(PathBuf::from(place));
    }
    mount(Some("tracefs"), first, Some("tracefs"), MsFlags::empty(), None::<&str>)
        .map_err(|errno| CaptureError::io("mounting tracefs, which probes are made through, at", Path::new(first), errno.into()))?;
    Ok(PathBuf::from(first))
}

/// An event that counts how often a trace point is passed, on all processors: the program hangs at the trace point, not at a processor.
fn open_tracepoint(number: u64) -> io::Result<OwnedFd> {
    let cpu = online_cpus().ok().and_then(|cpus| cpus.first().copied()).unwrap_or(0);
    // SAFETY: a structure of integers, for which zeros mean defaults.
    let mut attributes: perf_event_attr = unsafe { mem::zeroed() };
    attributes.type_ = PERF_TYPE_TRACEPOINT;
    attributes.size = size_of::<perf_event_attr>() as u32;
    attributes.config = number;
    attributes.__bindgen_anon_1.sample_period = 1;
    let (all, no_group) = (-1, -1);
    // SAFETY: the kernel reads as many bytes of the structure as it says that there are.
    let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attributes, all, cpu, no_group, PERF_FLAG_FD_CLOEXEC) };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set_program(event: &OwnedFd, program: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both calls take a number and no pointer.
    let done = unsafe {
        libc::ioctl(event.as_raw_fd(), libc::c_ulong::from(PERF_EVENT_IOC_SET_BPF), program.as_raw_fd()) == 0
            && libc::ioctl(event.as_raw_fd(), libc::c_ulong::from(PERF_EVENT_IOC_ENABLE), 0) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_overs_are_told_by_the_number_of_their_process() {
        let this = process::id();
        let own = format!("trigsync_{this}_3");
        assert_eq!(group_and_event("r4096:trigsync_12_0/kretprobe_vfs_write vfs_write"), Some(("trigsync_12_0", "kretprobe_vfs_write")));
        assert!(is_left_over(&own, &own));
        assert!(!is_left_over(&format!("trigsync_{this}_2"), &own));
        assert!(is_left_over("trigsync_4194305_0", &own));
        assert!(!is_left_over("trigsync_1_0", &own));
        assert!(!is_left_over("kprobes", &own));
        assert!(!is_left_over("trigsync_x_0", &own));
    }
}
