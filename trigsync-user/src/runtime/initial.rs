//! What is due for a target when the daemon starts, beyond what the last one has left unsent, and why.
//!
//! Nothing is, where the kernel went on capturing and the journal knows the rest. Where capture has ended for a while, the source is searched
//! for what changed since. Wherever more is in doubt, everything is compared.

use std::{fmt, time::SystemTime};

use super::InitialSync;
use crate::{
    capture::Continuity,
    config::{SyncConfig, TargetConfig},
    journal::{LaneKey, Left, Passed},
};

/// What is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Only what is marked.
    Nothing,
    /// What changed since then.
    Since(SystemTime),
    /// All of it, by a full pass of rsync.
    Everything,
}

impl fmt::Display for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("no full pass"),
            Self::Since(at) => write!(f, "a search for what changed since {}", humantime::format_rfc3339_millis(*at)),
            Self::Everything => f.write_str("a full pass"),
        }
    }
}

/// What is due, with the reason.
pub(super) fn decide(initial: InitialSync, continuity: Continuity, left: &Left, lane: &LaneKey) -> (Due, &'static str) {
    let LaneKey { sync, target, meaning, .. } = lane;
    match initial {
        InitialSync::Always => return (Due::Everything, "--initial-sync always"),
        InitialSync::Never => return (Due::Nothing, "--initial-sync never"),
        InitialSync::Auto => {}
    }
    let (lane, passed) = match (left.of(sync, target), left.passed()) {
        (_, None) if left.set_aside().is_some() => return (Due::Everything, "the journal was of no use"),
        (_, None) => return (Due::Everything, "no daemon has kept a journal before"),
        (None, _) => return (Due::Everything, "it is new since the last daemon"),
        (Some(lane), Some(passed)) => (lane, passed),
    };
    if lane.meaning != *meaning {
        return (Due::Everything, "it is configured otherwise than for the last daemon");
    }
    if crate::sabotage::asks_for("journal-skipped") {
        return (Due::Nothing, "it is believed that all is in the journal");
    }
    if lane.is_incomplete {
        return (Due::Everything, "more was left unsent than the journal could keep");
    }
    let since = |passed: &Passed| match (passed.until, lane.searching_since) {
        (Some(until), Some(searching)) => Due::Since(until.min(searching)),
        (Some(until), None) => Due::Since(until),
        (None, _) => Due::Everything,
    };
    match continuity {
        Continuity::Resumed if lane.searching_since.is_some() => (since(passed), "the last daemon had not ended its search"),
        Continuity::Resumed if passed.clean => (Due::Nothing, "capture went on since the last stop"),
        Continuity::Resumed => (Due::Nothing, "capture went on, and what the last daemon knew is in the journal"),
        Continuity::Gap => (since(passed), "capture went on, but what the last daemon read at its end cannot be read again"),
        Continuity::Began if passed.same_boot || passed.clean => (since(passed), "nothing was captured while no daemon ran"),
        Continuity::Began => (Due::Everything, "the machine went down while the last daemon ran, and files may be older than they were"),
    }
}

/// What being equal means for a target: where this is not what it was, marks that were collected before do not make it so.
pub(super) fn meaning(sync: &SyncConfig, target: &TargetConfig) -> String {
    let source = sync.source.display().to_string();
    let address = target.address.to_string();
    serde_json::json!([source, sync.filter.patterns(), sync.cross_mounts, sync.keep, address, target.options, target.modify_window])
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: SystemTime = SystemTime::UNIX_EPOCH;

    fn left(target: &str, meaning: &str, is_incomplete: bool, passed: Option<Passed>) -> Left {
        Left::for_tests("a", target, meaning, is_incomplete, passed)
    }

    fn passed(same_boot: bool, clean: bool) -> Option<Passed> {
        Some(Passed { same_boot, clean, until: Some(AT), position: None })
    }

    fn decided(initial: InitialSync, continuity: Continuity, left: &Left) -> Due {
        let [sync, target, meaning] = ["a", "b", "as it is"].map(str::to_owned);
        decide(initial, continuity, left, &LaneKey { sync, target, meaning, ..LaneKey::default() }).0
    }

    #[test]
    fn nothing_is_spared_that_may_have_been_missed() {
        use Continuity::{Began, Gap, Resumed};
        use Due::{Everything, Nothing, Since};
        use InitialSync::{Always, Auto, Never};
        let good = |same_boot, clean| left("b", "as it is", false, passed(same_boot, clean));
        for (initial, continuity, left, expected) in [
            (Auto, Resumed, good(true, true), Nothing),
            (Auto, Resumed, good(true, false), Nothing),
            (Auto, Gap, good(true, false), Since(AT)),
            (Auto, Began, good(true, false), Since(AT)),
            (Auto, Began, good(true, true), Since(AT)),
            (Auto, Began, good(false, true), Since(AT)),
            (Auto, Began, good(false, false), Everything),
            (
                Auto,
                Began,
                left("b", "as it is", false, Some(Passed { same_boot: true, clean: true, until: None, position: None })),
                Everything,
            ),
            (Auto, Resumed, left("b", "otherwise", false, passed(true, true)), Everything),
            (Auto, Resumed, left("b", "as it is", true, passed(true, true)), Everything),
            (Auto, Resumed, left("c", "as it is", false, passed(true, true)), Everything),
            (Auto, Resumed, left("b", "as it is", false, None), Everything),
            (Auto, Resumed, Left::default(), Everything),
            (Always, Resumed, good(true, true), Everything),
            (Never, Began, Left::default(), Nothing),
        ] {
            assert_eq!(decided(initial, continuity, &left), expected, "{initial:?} {continuity:?} {left:?}");
        }
    }
}
