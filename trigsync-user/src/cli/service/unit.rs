//! The unit file: the one of the repository, with the paths of this daemon in it.

use std::path::Path;

use anyhow::Context;

use super::Daemon;

/// Our own first line.
const MARK: &str =
    "# Written by `trigsync install-service`, and taken away by `trigsync uninstall-service`. Changes of yours: `systemctl edit`.";
const TEMPLATE: &str = include_str!("../../../../packaging/trigsync.service");

pub(super) fn is_ours(text: &str) -> bool {
    text.lines().next() == Some(MARK)
}

pub(super) fn text(daemon: &Daemon<'_>) -> anyhow::Result<String> {
    let [program, state_dir, config] = [&daemon.program, &daemon.state_dir, &daemon.config_file].map(|path| word(path, true));
    let start = format!("ExecStart={} --state-dir {} run --config {}", program?, state_dir?, config?);
    let mut sources = Vec::new();
    for sync in &daemon.config.syncs {
        sources.push(word(&sync.source, false)?);
    }
    // systemd makes, and cleans, only what is below /var/lib.
    let below = daemon.state_dir.strip_prefix("/var/lib").ok().and_then(Path::to_str).filter(|below| is_plain(below));
    let mut lines = vec![MARK.to_owned()];
    for line in TEMPLATE.lines().skip(1) {
        match line.split_once('=') {
            Some(("ExecStart", _)) => lines.push(start.clone()),
            Some(("# RequiresMountsFor", _)) => lines.push(format!("RequiresMountsFor={}", sources.join(" "))),
            Some(("StateDirectory", _)) => lines.extend(below.map(|below| format!("StateDirectory={below}"))),
            Some(("StateDirectoryMode", _)) if below.is_none() => {}
            _ if line.starts_with("# One line for each source") => {
                lines.push("# So that an empty mount point is never taken for the source:".to_owned());
            }
            _ => lines.push(line.to_owned()),
        }
    }
    Ok(lines.join("\n") + "\n")
}

fn is_plain(path: &str) -> bool {
    !path.is_empty() && path.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
}

/// A word of a unit file. Only where a command stands, a dollar sign begins a variable.
fn word(path: &Path, command: bool) -> anyhow::Result<String> {
    let text = path.to_str().filter(|text| !text.contains(char::is_control));
    let text = text
        .with_context(|| format!("a unit file cannot hold the path {}: it is not UTF-8, or holds a control character", path.display()))?;
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '%' => quoted.push_str("%%"),
            '$' if command => quoted.push_str("$$"),
            '"' | '\\' => quoted.extend(['\\', c]),
            c => quoted.push(c),
        }
    }
    Ok(quoted + "\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, RawConfig};

    fn text_with(state_dir: &str) -> String {
        let place = tempfile::tempdir().expect("a place");
        let [source, target] = ["so%rce $x", "target"].map(|name| place.path().join(name));
        std::fs::create_dir(&source).expect("a source");
        let raw = RawConfig::from_flags(&source, &[target.to_string_lossy().into_owned()]).expect("it is right");
        let config = raw.resolve(&Overrides::default(), Path::new(state_dir)).expect("it is right");
        let daemon = Daemon {
            program: "/opt/a b/trigsync".into(),
            state_dir: state_dir.into(),
            config_file: "/etc/100% \"mine\"$.toml".into(),
            config: &config,
        };
        text(&daemon).expect("plain paths")
    }

    #[test]
    fn the_paths_stand_where_the_units_were() {
        let text = text_with("/var/lib/other");
        assert!(is_ours(&text));
        let start = r#"ExecStart="/opt/a b/trigsync" --state-dir "/var/lib/other" run --config "/etc/100%% \"mine\"$$.toml""#;
        assert!(text.lines().any(|line| line == start), "{text}");
        assert!(text.lines().any(|line| line.starts_with("RequiresMountsFor=\"/") && line.ends_with("so%%rce $x\"")), "{text}");
        assert!(text.lines().any(|line| line == "StateDirectory=other"), "{text}");
        for key in ["ExecStart=", "RequiresMountsFor=", "StateDirectory=", "StateDirectoryMode=", "WatchdogSec=", "CapabilityBoundingSet="]
        {
            assert_eq!(text.lines().filter(|line| line.starts_with(key)).count(), 1, "{key}: {text}");
        }
    }

    #[test]
    fn a_state_directory_elsewhere_is_none_of_systemds() {
        let text = text_with("/srv/state");
        assert!(!text.contains("\nStateDirectory"), "{text}");
    }
}
