//! What goes wrong and when, drawn from the seed alone: the same seed and round give the same faults with the same parameters.
//!
//! Not every fault may happen in every round. One that makes the daemon compare everything hides what was lost before it, so a good part of
//! the rounds goes without those.

use std::time::Duration;

use clap::ValueEnum;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Fault {
    /// SIGKILL for trigsync, alone or with all that it has started.
    Kill,
    /// SIGTERM for trigsync.
    Stop,
    /// An rsync that trigsync has started is killed.
    Children,
    /// A target's rsync daemon is stopped in its tracks for a while (SIGSTOP).
    Freeze,
    /// A target's rsync daemon is killed and comes back.
    Restart,
    /// The local target's disk is full for a while.
    FullTarget,
    /// The disk with the state directory is full for a while.
    FullState,
    /// The queue of events is tiny, and more changes than it holds come while trigsync is stopped (SIGSTOP).
    Overflow,
    /// SIGHUP with another configuration: a filter, settle times, a target less.
    Reload,
    /// trigsync may open hardly any file for a while.
    Files,
    /// The clock of this machine jumps. Only with --clock.
    Clock,
}

/// Faults, and how often one is drawn beside the others: an hour comes to some 500 kills.
const WEIGHTS: [(Fault, u32); 11] = [
    (Fault::Kill, 14),
    (Fault::Stop, 3),
    (Fault::Children, 5),
    (Fault::Freeze, 3),
    (Fault::Restart, 3),
    (Fault::FullTarget, 3),
    (Fault::FullState, 2),
    (Fault::Overflow, 2),
    (Fault::Reload, 3),
    (Fault::Files, 2),
    (Fault::Clock, 1),
];

impl Fault {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        WEIGHTS.into_iter().map(|(fault, _)| fault)
    }

    /// Its name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().expect("no fault is hidden").get_name().to_owned()
    }

    /// Whether the daemon may compare everything afterwards, which hides what was lost before.
    fn hides_losses(self) -> bool {
        matches!(self, Self::Kill | Self::Stop | Self::Overflow | Self::Reload)
    }
}

/// One fault of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Since the step before.
    pub after: Duration,
    /// What goes wrong.
    pub fault: Fault,
    /// For faults that last, and for how long what was killed stays away.
    pub lasts: Duration,
    /// For everything else that the fault has to choose.
    pub choice: u32,
}

/// The faults of one round.
#[derive(Debug)]
pub struct Plan {
    random: fastrand::Rng,
    faults: Vec<(Fault, u32)>,
}

/// Numbers that depend on the seed, the round and who draws them, and on nothing else.
pub fn random(seed: u64, round: u64, who: u64) -> fastrand::Rng {
    let mut base = fastrand::Rng::with_seed(seed);
    let (rounds, whos) = (base.u64(..) | 1, base.u64(..) | 1);
    fastrand::Rng::with_seed(seed ^ round.wrapping_mul(rounds) ^ who.wrapping_mul(whos).rotate_left(32))
}

impl Plan {
    /// The plan of a round, of those faults that are `possible`.
    pub fn new(seed: u64, round: u64, possible: &[Fault]) -> Self {
        let mut random = random(seed, round, u64::MAX);
        let open = random.u8(..3) == 0 && possible.iter().any(|fault| !fault.hides_losses());
        let drawn = |fault: Fault| possible.contains(&fault) && !(open && fault.hides_losses());
        let faults = WEIGHTS.into_iter().filter(|(fault, _)| drawn(*fault)).collect();
        Self { random, faults }
    }

    /// The next step; there is always one.
    pub fn next(&mut self) -> Step {
        let random = &mut self.random;
        let after = Duration::from_millis(random.u64(50..700));
        let sum: u32 = self.faults.iter().map(|(_, weight)| weight).sum();
        let mut left = random.u32(..sum);
        let drawn = self.faults.iter().find(|(_, weight)| match left.checked_sub(*weight) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
        let fault = drawn.expect("less than the sum of the weights was drawn").0;
        let lasts = match fault {
            Fault::Kill | Fault::Stop => random.u64(..400),
            _ => random.u64(300..3_000),
        };
        Step { after, fault, lasts: Duration::from_millis(lasts), choice: random.u32(..) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(seed: u64, round: u64) -> Vec<Step> {
        let mut plan = Plan::new(seed, round, &[Fault::Kill, Fault::Freeze, Fault::Files]);
        (0..50).map(|_| plan.next()).collect()
    }

    #[test]
    fn a_seed_and_a_round_give_the_same_faults_again() {
        assert_eq!(steps(7, 3), steps(7, 3));
        assert_ne!(steps(7, 3), steps(7, 4));
        assert_ne!(steps(7, 3), steps(8, 3));
    }

    #[test]
    fn some_rounds_go_without_what_hides_losses() {
        let kinds: Vec<Vec<Fault>> = (0..30).map(|round| steps(1, round).into_iter().map(|step| step.fault).collect()).collect();
        assert!(kinds.iter().any(|faults| faults.contains(&Fault::Kill)));
        assert!(kinds.iter().any(|faults| !faults.contains(&Fault::Kill) && faults.contains(&Fault::Freeze)));
    }

    #[test]
    fn where_only_one_fault_is_possible_it_happens() {
        let mut plan = Plan::new(1, 1, &[Fault::Kill]);
        assert!((0..20).all(|_| plan.next().fault == Fault::Kill));
    }
}
