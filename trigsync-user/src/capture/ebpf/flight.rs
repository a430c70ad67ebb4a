//! Calls that a thread entered and, as far as the probes can tell, never left: a return that was missed.
//!
//! The programs find that out themselves when the thread makes its next call. This looks after threads that make none: those that are gone, and
//! those that wait in something that changes no file.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tracing::{debug, info};
use trigsync_common::values::{Flight, Thread};

use super::kernel::Kernel;

/// How long a call may be under way before it is looked at.
const LONG: Duration = Duration::from_secs(3);

/// System calls in which a thread may wait for longer without anything of its own being under way below.
const IDLE: [libc::c_long; 23] = [
    libc::SYS_read,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_select,
    libc::SYS_pselect6,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_pause,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_flock,
    libc::SYS_sched_yield,
    libc::SYS_msgrcv,
    libc::SYS_semop,
];

/// The calls that were under way at the last look.
#[derive(Debug, Default)]
pub(super) struct Flights {
    /// By thread and time of entry.
    seen: HashMap<(Thread, u64), Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    since: Instant,
    /// Each is told once.
    told: bool,
}

/// What a thread does.
#[derive(Debug, PartialEq, Eq)]
enum Doing {
    /// There is no such thread.
    Gone,
    /// Something that is no change of a file.
    Else,
    /// Perhaps what it was seen to begin.
    Perhaps,
}

impl Flights {
    /// Whether a call is found to have ended unseen.
    pub fn any_is_stale(&mut self, kernel: &mut Kernel) -> bool {
        let now = Instant::now();
        let before = std::mem::take(&mut self.seen);
        let mut found = false;
        let calls: Vec<_> = kernel.maps.flights().filter_map(|(thread, flight)| oldest(&flight).map(|at| (thread, at))).collect();
        for call in calls {
            let seen = self.seen.entry(call).or_insert(before.get(&call).copied().unwrap_or(Seen { since: now, told: false }));
            if seen.told || now.duration_since(seen.since) < LONG {
                continue;
            }
            let (thread, _) = call;
            let directory = directory(thread);
            let doing = doing(&directory);
            if doing == Doing::Perhaps {
                continue;
            }
            info!(thread = %directory.display(), ?doing, "the end of a call was missed: everything is marked");
            (seen.told, found) = (true, true);
            if doing == Doing::Gone
                && let Err(error) = kernel.maps.forget_flight(thread)
            {
                debug!(%error, "forgetting the call of a thread that is gone");
            }
        }
        found
    }
}

/// When a thread's outermost call was entered.
fn oldest(flight: &Flight) -> Option<u64> {
    (flight.depth > 0).then(|| flight.calls[0].entered)
}

fn directory(thread: Thread) -> PathBuf {
    let (process, thread) = (thread >> 32, thread & 0xffff_ffff);
    PathBuf::from(format!("/proc/{process}/task/{thread}"))
}

fn doing(directory: &Path) -> Doing {
    match fs::read_to_string(directory.join("syscall")) {
        Ok(told) => what(&told),
        // Without the right to look it counts as under way: its thread's next call tells.
        Err(_) => match fs::metadata(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Doing::Gone,
            _ => Doing::Perhaps,
        },
    }
}

/// `running`, `-1` and the stack where it waits outside of a call, or the call's number first.
fn what(told: &str) -> Doing {
    match told.split_whitespace().next().and_then(|number| number.parse::<libc::c_long>().ok()) {
        Some(number) if IDLE.contains(&number) => Doing::Else,
        _ => Doing::Perhaps,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_waits_in_poll_is_not_writing() {
        assert_eq!(what(&format!("{} 0x0 0x0 0x7ffc 0x7f\n", libc::SYS_poll)), Doing::Else);
        assert_eq!(what(&format!("{} 0x0 0x0 0x7ffc 0x7f\n", libc::SYS_write)), Doing::Perhaps);
        assert_eq!(what("running\n"), Doing::Perhaps);
        assert_eq!(what("-1 0x7ffc 0x7f\n"), Doing::Perhaps);
        assert_eq!(doing(&directory(u64::from(u32::MAX) << 32 | 1)), Doing::Gone);
        assert_eq!(directory(3 << 32 | 4), PathBuf::from("/proc/3/task/4"));
    }
}
