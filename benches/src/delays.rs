//! When files arrive: told by the kernel, for the names of one directory, and what the delays come to.

use std::{
    collections::HashMap,
    fmt,
    os::unix::ffi::OsStrExt,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};
use serde::Serialize;
use std::os::fd::AsFd;

/// Watches a directory for names that get their content: rsync writes beside, and renames.
pub(crate) struct Arrivals {
    inotify: Inotify,
    seen: HashMap<Vec<u8>, Instant>,
}

impl Arrivals {
    /// From now on.
    pub(crate) fn watch(directory: &Path) -> Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).context("inotify")?;
        inotify.add_watch(directory, AddWatchFlags::IN_MOVED_TO).with_context(|| format!("watching {}", directory.display()))?;
        Ok(Self { inotify, seen: HashMap::new() })
    }

    /// When `name` arrived, which it has to within `patience`. Asked for once.
    pub(crate) fn of(&mut self, name: &str, patience: Duration) -> Result<Instant> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(at) = self.seen.remove(name.as_bytes()) {
                return Ok(at);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{name} has not arrived after {} s", patience.as_secs());
            }
            let mut polled = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
            poll(&mut polled, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)).context("waiting for an arrival")?;
            let now = Instant::now();
            let events = match self.inotify.read_events() {
                Err(nix::errno::Errno::EAGAIN) => continue,
                events => events.context("reading of arrivals")?,
            };
            self.seen.extend(events.into_iter().filter_map(|event| Some((event.name?.as_bytes().to_vec(), now))));
        }
    }
}

/// Percentiles of delays, in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Delays {
    pub(crate) count: u64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Delays {
    /// Of these.
    pub(crate) fn of(delays: &[Duration]) -> Self {
        let mut histogram = Histogram::<u64>::new(3).expect("three digits are valid");
        for delay in delays {
            // It grows with what it is given; `saturating_record` would not have it grow.
            histogram.record(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX).max(1)).expect("it resizes itself");
        }
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Self { count: histogram.len(), p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1.0) }
    }
}

impl fmt::Display for Delays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, at most {:.1} ms", self.p50, self.p90, self.p99, self.max)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn percentiles_are_in_milliseconds() {
        let delays: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        let delays = Delays::of(&delays);
        assert_eq!(delays.count, 100);
        assert!((delays.p50 - 50.0).abs() < 0.1 && (delays.p99 - 99.0).abs() < 0.1 && (delays.max - 100.0).abs() < 0.1, "{delays}");
    }

    #[test]
    fn a_name_has_arrived_when_it_was_moved_there() {
        let room = tempfile::tempdir().unwrap();
        let mut arrivals = Arrivals::watch(room.path()).unwrap();
        fs::write(room.path().join(".name.tmp"), "x").unwrap();
        assert!(arrivals.of("name", Duration::from_millis(20)).is_err());
        fs::rename(room.path().join(".name.tmp"), room.path().join("name")).unwrap();
        assert!(arrivals.of("name", Duration::from_secs(5)).unwrap() <= Instant::now());
    }
}
