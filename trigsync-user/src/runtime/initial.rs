//! Whether a target gets a full pass when the daemon starts, and why.
//!
//! None is due where the kernel went on capturing since the last stop, that stop wrote down what it left unsent, and the target is
//! configured as it was then. Wherever one of these is in doubt, everything is compared.

use super::InitialSync;
use crate::{
    capture::Continuity,
    config::{SyncConfig, TargetConfig},
    journal::Backlog,
};

/// Whether to pass over everything, with the reason.
pub(super) fn decide(
    initial: InitialSync,
    continuity: Continuity,
    backlog: &Backlog,
    sync: &str,
    target: &str,
    meaning: &str,
) -> (bool, &'static str) {
    match (initial, continuity) {
        (InitialSync::Always, _) => (true, "--initial-sync always"),
        (InitialSync::Never, _) => (false, "--initial-sync never"),
        (InitialSync::Auto, Continuity::Began) => (true, "nothing was captured while no daemon ran"),
        (InitialSync::Auto, Continuity::Resumed) if !backlog.is_whole() => {
            (true, "capture went on, but the last daemon did not stop cleanly, and what it knew is lost")
        }
        (InitialSync::Auto, Continuity::Resumed) => match backlog.of(sync, target).map(|unsent| unsent.meaning()) {
            Some(Some(then)) if then == meaning => (false, "capture went on since the last stop"),
            Some(Some(_)) => (true, "it is configured otherwise than at the last stop"),
            Some(None) => (true, "changes were missed before the last stop"),
            None => (true, "it is new since the last stop"),
        },
    }
}

/// What being equal means for a target: where this is not what it was, marks that were collected before do not make it so.
pub(super) fn meaning(sync: &SyncConfig, target: &TargetConfig) -> String {
    let source = sync.source.display().to_string();
    let address = target.address.to_string();
    serde_json::json!([source, sync.filter.patterns(), sync.cross_mounts, address, target.options, target.modify_window]).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        journal::Unsent,
        model::{Mark, Ops, RelPathBuf, Scope},
    };

    /// What is decided for the target `b` of the sync `a`, where a stop has left these lanes behind.
    fn decided(initial: InitialSync, continuity: Continuity, lanes: Option<Vec<Unsent>>) -> (bool, &'static str) {
        let directory = tempfile::tempdir().unwrap();
        if let Some(lanes) = lanes {
            Backlog::write(directory.path(), lanes).unwrap();
        }
        decide(initial, continuity, &Backlog::take(directory.path()).unwrap(), "a", "b", "as it is")
    }

    fn lane(target: &str, meaning: Option<&str>) -> Option<Vec<Unsent>> {
        let mark = Mark { path: RelPathBuf::root(), scope: Scope::Entry, ops: Ops::WRITE };
        Some(vec![Unsent::new("a", target, meaning.map(str::to_owned), [mark])])
    }

    #[test]
    fn a_full_pass_is_spared_only_where_nothing_was_missed() {
        use Continuity::{Began, Resumed};
        use InitialSync::{Always, Auto, Never};
        let good = || lane("b", Some("as it is"));
        assert_eq!(decided(Auto, Resumed, good()), (false, "capture went on since the last stop"));
        for (initial, continuity, lanes) in [
            (Auto, Began, good()),
            (Always, Resumed, good()),
            (Auto, Resumed, None),
            (Auto, Resumed, Some(vec![])),
            (Auto, Resumed, lane("c", Some("as it is"))),
            (Auto, Resumed, lane("b", Some("otherwise"))),
            (Auto, Resumed, lane("b", None)),
        ] {
            assert!(decided(initial, continuity, lanes.clone()).0, "{initial:?} {continuity:?} {lanes:?}");
        }
        assert!(!decided(Never, Began, None).0);
    }
}
