//! What changes the source: workers, each a thread with its own numbers, until they are told to end.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::Duration,
};

use super::{operation::Operation, plan, record::Record};

/// How many change the source at once.
pub const WORKERS: usize = 3;

/// The work of one round.
#[derive(Debug)]
pub struct Workload<'a> {
    /// Where.
    pub source: &'a Path,
    /// What was done.
    pub record: &'a Record,
    /// The seed of the run.
    pub seed: u64,
    /// The round.
    pub round: u64,
    /// Whether there are changes that a comparison by size and time cannot see.
    pub unseen: bool,
    /// How much was changed.
    pub changes: AtomicU64,
    /// The workers end.
    pub end: AtomicBool,
}

impl Workload<'_> {
    /// One worker, until the end.
    pub fn work(&self, worker: usize) {
        let mut random = plan::random(self.seed, self.round, worker as u64);
        let who = format!("w{worker}");
        while !self.end.load(Relaxed) {
            let operation = Operation::draw(&mut random, worker, self.unseen);
            let pause = if random.u8(..50) == 0 { random.u64(20_000..200_000) } else { random.u64(..4_000) };
            let outcome = operation.perform(self.source);
            let answer = outcome.as_ref().map_or_else(|error| error.to_string(), |()| "done".to_owned());
            self.record.note(&who, format!("{operation}: {answer}"), operation.paths());
            self.changes.fetch_add(u64::from(outcome.is_ok()), Relaxed);
            thread::sleep(Duration::from_micros(pause));
        }
    }
}

/// Ends the workers when it goes, also on an error.
#[derive(Debug)]
pub struct End<'a>(pub &'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
