//! What capture is asked to watch for a sync, and what it may leave out on the way.

use std::path::Path;

use crate::{capture::WatchedRoot, config::SyncConfig};

/// The root of a sync. What no filter lets through, and what the daemon's own transfers write where nobody reads it, need not leave the
/// kernel.
pub(super) fn watched(config: &SyncConfig, state_dir: &Path) -> WatchedRoot {
    let hidden = Some(state_dir).filter(|path| path.starts_with(&config.source));
    WatchedRoot {
        path: config.source.clone(),
        hidden: hidden.map(ToOwned::to_owned).into_iter().collect(),
        cross_mounts: config.cross_mounts,
        excluded: config.filter.excluded_directories().to_vec(),
        sees_own: config.written_here,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::{Overrides, RawConfig};

    /// The roots of a configuration in a directory that holds `www`, `other`, `in/deep` and `state`.
    fn roots(text: &str) -> Vec<WatchedRoot> {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        ["www/state", "other", "in/deep"].into_iter().for_each(|name| fs::create_dir_all(at(name)).unwrap());
        let raw = RawConfig::parse(text, &at("trigsync.toml")).unwrap();
        let config = raw.resolve(&Overrides::default(), &at("www/state")).unwrap();
        let state = fs::canonicalize(at("www/state")).unwrap();
        config.syncs.iter().map(|sync| watched(sync, &state)).collect()
    }

    #[test]
    fn names_that_no_filter_lets_through_are_left_out() {
        let excluded = |patterns: &str| roots(&format!("[[sync]]\nsource = 'www'\ntargets = ['mirror']\n{patterns}")).remove(0).excluded;
        assert_eq!(excluded("exclude = ['node_modules/', '.git', '*.tmp', '/cache/', 'a/b']"), [&b"node_modules"[..], b".git"]);
        assert!(excluded("exclude = ['node_modules/', '.git']\ninclude = ['keep']").is_empty());
        assert!(excluded("exclude = ['node_modules/', '!keep']").is_empty());
        assert!(excluded("").is_empty());
    }

    #[test]
    fn own_changes_count_where_another_sync_writes() {
        let own = |text: &str| roots(text).into_iter().map(|root| root.sees_own).collect::<Vec<_>>();
        let sync = |source: &str, target: &str| format!("[[sync]]\nsource = '{source}'\ntargets = ['{target}']\n");
        assert_eq!(own(&sync("www", "mirror")), [false]);
        assert_eq!(own(&(sync("www", "other/copy") + &sync("other", "mirror"))), [false, true], "a target inside a source");
        assert_eq!(own(&(sync("other", "mirror") + &sync("www", "other/copy"))), [true, false], "in any order");
        assert_eq!(own(&(sync("www", "in") + &sync("in/deep", "mirror"))), [false, true], "a source inside a target");
        assert_eq!(own(&(sync("www", "in/copy") + &sync("in/deep", "mirror"))), [false, false], "beside each other");
        assert_eq!(own(&(sync("www", "host:/other") + &sync("other", "mirror"))), [false, false], "a target elsewhere");
    }

    #[test]
    fn the_state_directory_is_hidden_where_it_lies_inside() {
        let roots = roots("[[sync]]\nsource = 'www'\ntargets = ['mirror']\n[[sync]]\nsource = 'other'\ntargets = ['mirror2']\n");
        assert_eq!(roots[0].hidden, [roots[0].path.join("state")]);
        assert!(roots[1].hidden.is_empty());
    }
}
