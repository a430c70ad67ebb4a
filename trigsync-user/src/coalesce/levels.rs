//! Directories whose names are being made equal.
//!
//! A mark of a level stands for names that went while nobody looked, and nobody knows which. Until it has arrived, and for as long after as an event
//! may be under way, a directory that is made there may get the name of one that went: at the target that one still stands, with all that is in it.

use std::collections::{HashMap, VecDeque};

use crate::model::{RelPath, RelPathBuf, Stamp};

/// Longer than any event is under way: a capture that stands still for so long is ended by the watchdog.
const UNDER_WAY: Stamp = 60_000_000;

/// So many that have arrived are known one by one. Where there are more, every directory counts for a while.
const MOST: usize = 10_000;

/// The directories whose marks were taken from the set.
#[derive(Debug, Default)]
pub(super) struct Levels {
    of: HashMap<RelPathBuf, Level>,
    /// In the order of time. The last of a directory counts.
    arrivals: VecDeque<(Stamp, RelPathBuf)>,
    /// Until then every directory counts.
    all_until: Stamp,
}

#[derive(Debug, Default)]
struct Level {
    /// Marks that were taken and have not arrived.
    out: u32,
    arrived: Stamp,
}

impl Levels {
    /// Its mark was taken.
    pub fn taken(&mut self, path: &RelPath) {
        self.of.entry(path.to_owned()).or_default().out += 1;
    }

    /// Its mark was put back.
    pub fn put_back(&mut self, path: &RelPath) {
        if let Some(level) = self.of.get_mut(path) {
            level.out = level.out.saturating_sub(1);
            if level.out == 0 && level.arrived == 0 {
                self.of.remove(path);
            }
        }
    }

    /// Its mark has arrived.
    pub fn settled(&mut self, path: &RelPath, now: Stamp) {
        self.forget(now);
        if let Some(level) = self.of.get_mut(path) {
            (level.out, level.arrived) = (level.out.saturating_sub(1), now);
            self.arrivals.push_back((now, path.to_owned()));
        }
        if self.arrivals.len() > MOST {
            self.all_until = now + UNDER_WAY;
            self.arrivals = VecDeque::new();
            self.of.retain(|_, level| level.out > 0);
        }
    }

    /// Whether a name may have gone there of which nobody knows.
    pub fn holds(&self, path: &RelPath, now: Stamp) -> bool {
        now < self.all_until || self.of.get(path).is_some_and(|level| level.out > 0 || now < level.arrived + UNDER_WAY)
    }

    /// Forgets what is long over.
    pub fn forget(&mut self, now: Stamp) {
        while let Some((arrived, path)) = self.arrivals.pop_front_if(|(arrived, _)| *arrived + UNDER_WAY <= now) {
            if self.of.get(&path).is_some_and(|level| level.out == 0 && level.arrived == arrived) {
                self.of.remove(&path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_counts_until_the_last_event_of_it_has_come() {
        let mut levels = Levels::default();
        let [one, other] = ["one", "other"].map(|name| RelPathBuf::new(name.as_bytes().to_vec()).unwrap());
        assert!(!levels.holds(&one, 1));
        levels.taken(&one);
        levels.taken(&one);
        levels.settled(&one, 10);
        assert!(levels.holds(&one, 10 + 2 * UNDER_WAY), "one of two has arrived");
        levels.settled(&one, 20);
        assert!(levels.holds(&one, 19 + UNDER_WAY) && !levels.holds(&one, 20 + UNDER_WAY));
        levels.taken(&other);
        levels.put_back(&other);
        assert!(!levels.holds(&other, 20), "it is in the set again");
        levels.taken(&other);
        levels.settled(&other, 20 + UNDER_WAY);
        levels.taken(&one);
        levels.settled(&one, 20 + 2 * UNDER_WAY);
        assert_eq!((levels.of.len(), levels.arrivals.len()), (1, 1), "what is long over is forgotten");
        levels.forget(20 + 3 * UNDER_WAY);
        assert!(levels.of.is_empty() && levels.arrivals.is_empty());
    }

    #[test]
    fn where_there_are_many_every_directory_counts_for_a_while() {
        let mut levels = Levels::default();
        for number in 0..=MOST {
            let path = RelPathBuf::new(number.to_string().into_bytes()).unwrap();
            levels.taken(&path);
            levels.settled(&path, 7);
        }
        assert!(levels.of.is_empty() && levels.arrivals.is_empty());
        assert!(levels.holds(RelPath::root(), 6 + UNDER_WAY) && !levels.holds(RelPath::root(), 7 + UNDER_WAY));
    }
}
