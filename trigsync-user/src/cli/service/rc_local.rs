//! A line in rc.local, for machines without systemd.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;

use super::Daemon;

/// Where machines have it; the first is for those that have none yet.
pub(super) fn places(root: &Path) -> [PathBuf; 2] {
    ["etc/rc.local", "etc/rc.d/rc.local"].map(|place| root.join(place))
}

/// What starts the daemon in the background.
pub(super) fn line(daemon: &Daemon<'_>) -> anyhow::Result<String> {
    let [program, state_dir, config] = [&daemon.program, &daemon.state_dir, &daemon.config_file].map(|path| word(path));
    Ok(format!("{} --state-dir {} run --detach --config {}", program?, state_dir?, config?))
}

/// A word that a shell takes as it is.
fn word(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().filter(|text| !text.contains(['\n', '\0']));
    let text = text.with_context(|| format!("rc.local cannot hold the path {}: it is not UTF-8, or holds a line break", path.display()))?;
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

fn mark(name: &str) -> String {
    format!(" # {name}, by trigsync install-service")
}

/// The file with the line in it, in the place of an older one, and before a last `exit`.
pub(super) fn with(text: Option<&str>, name: &str, line: &str) -> String {
    let text = text.unwrap_or("#!/bin/sh\n");
    let without = without(text, name).unwrap_or_else(|| text.to_owned());
    let mut lines: Vec<_> = without.lines().map(str::to_owned).collect();
    let end = lines.iter().rposition(|line| !line.trim().is_empty());
    let at = end.filter(|at| lines[*at].trim_start().starts_with("exit")).unwrap_or(lines.len());
    lines.insert(at, format!("{line}{}", mark(name)));
    lines.join("\n") + "\n"
}

/// The file without the line. None where it has none.
pub(super) fn without(text: &str, name: &str) -> Option<String> {
    let mark = mark(name);
    let kept: Vec<_> = text.lines().filter(|line| !line.ends_with(&mark)).collect();
    (kept.len() < text.lines().count()).then(|| kept.join("\n") + "\n")
}

/// Some systems ship it without that right, and do not run it then.
pub(super) fn make_executable(file: &Path) -> io::Result<()> {
    let mode = fs::metadata(file)?.permissions().mode();
    fs::set_permissions(file, Permissions::from_mode(mode | 0o111))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_stands_once_and_goes_again() {
        let shipped = "#!/bin/sh -e\n# by the system\ntouch /run/booted\n\nexit 0\n";
        let one = with(Some(shipped), "trigsync", "trigsync run");
        assert_eq!(
            one,
            "#!/bin/sh -e\n# by the system\ntouch /run/booted\n\ntrigsync run # trigsync, by trigsync install-service\nexit 0\n"
        );
        assert_eq!(with(Some(&one), "trigsync", "trigsync run"), one);
        let two = with(Some(&one), "second", "trigsync run 2");
        assert_eq!(two.lines().count(), 7);
        assert_eq!(without(&two, "second").as_deref(), Some(&*one));
        assert_eq!(without(&one, "trigsync").as_deref(), Some(shipped));
        assert_eq!(without(shipped, "trigsync"), None);
        assert_eq!(with(None, "t", "x"), "#!/bin/sh\nx # t, by trigsync install-service\n");
    }

    #[test]
    fn a_shell_takes_a_path_as_it_is() {
        assert_eq!(word(Path::new("/a b/$(c)'d")).expect("plain"), r"'/a b/$(c)'\''d'");
    }
}
