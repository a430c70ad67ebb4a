//! What rsync is told. Pure: the same run gives the same arguments.
//!
//! - One argument is one value: nothing is split or expanded on the way, except `-e`, which rsync splits by its own rules.
//! - Source and destination end in a slash: their contents are meant, and rsync creates a missing last directory, never a deeper one.
//! - The operator's own options come last, so that they win over ours.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
    time::Duration,
};

use super::{Compare, Deletions, Missing, Route, Run, Version, Work};
use crate::config::{TargetAddress, TargetConfig};

/// How long a connection may take to come about, over ssh and to an rsync daemon.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a target cannot be named to rsync. The text is the reason of a [`super::Verdict::Hold`].
pub(super) type Unspeakable = String;

/// Every argument of a run, with the source and the destination at the end.
pub(super) fn arguments(version: Version, route: &Route<'_>, run: &Run<'_>) -> Result<Vec<OsString>, Unspeakable> {
    let mut options = Options::new(route, run.work == Work::RootAttributes);
    options.work(route, run.work, run.deletions, run.missing);
    if run.progress.is_some() {
        options.push("--info=progress2");
    }
    options.finish(version, route, matches!(run.work, Work::Entries(_) | Work::InPlace(_) | Work::Levels | Work::Trees(_)))
}

/// The same for a comparison that changes nothing. Levels are compared by content only where it is asked for here.
pub(super) fn comparison(
    version: Version,
    route: &Route<'_>,
    work: Work,
    checksum: bool,
    format: &str,
) -> Result<Vec<OsString>, Unspeakable> {
    let mut options = Options::new(route, false);
    options.work(route, work, Deletions::Allowed, Missing::Delete);
    if checksum && work == Work::Levels {
        options.push("--checksum");
    }
    options.push("--dry-run");
    options.push("--itemize-changes");
    options.push(&format!("--out-format={format}"));
    options.finish(version, route, true)
}

/// A dry run the other way round: how one name of the target differs from the source's, its owner included. (A receiver that is not
/// root does not compare owners, so asking in the usual direction would tell nothing.)
pub(super) fn look_back(version: Version, route: &Route<'_>, name: &str, format: &str) -> Result<Vec<OsString>, Unspeakable> {
    let mut options = Options::new(route, false);
    options.push("--numeric-ids");
    options.push("--dry-run");
    options.push("--itemize-changes");
    options.push(&format!("--out-format={format}"));
    let mut arguments = options.finish(version, route, false)?;
    let (source, destination) = (with_slash(route.source), arguments.pop());
    arguments.pop();
    let mut from = destination.unwrap_or_default();
    from.push(name);
    arguments.extend([from, source]);
    Ok(arguments)
}

/// One file of at most so many bytes that stands right in the target's root, into a directory here. Its attributes stay behind.
pub(super) fn fetching(version: Version, route: &Route<'_>, name: &str, largest: u64, into: &Path) -> Result<Vec<OsString>, Unspeakable> {
    let mut options = Options(Vec::new());
    options.push("--ignore-times");
    options.push(&format!("--max-size={largest}"));
    let way = route.target.options.iter().filter(|option| leads_there(option)).cloned().collect();
    let target = TargetConfig { options: way, ..route.target.clone() };
    let mut arguments = options.finish(version, &Route { target: &target, ..*route }, false)?;
    let mut from = arguments.pop().unwrap_or_default();
    arguments.pop();
    from.push(name);
    arguments.extend([from, with_slash(into)]);
    Ok(arguments)
}

/// Whether an option of the operator's says how the other side is reached, rather than what is done there.
fn leads_there(option: &str) -> bool {
    let name = option.split('=').next().unwrap_or(option);
    ["--rsync-path", "--address", "--sockopts", "--protocol", "--blocking-io", "--ipv4", "--ipv6", "-4", "-6"].contains(&name)
}

struct Options(Vec<OsString>);

impl Options {
    /// The filter comes before everything, so that it also holds for what the operator's options add.
    fn new(route: &Route<'_>, root_only: bool) -> Self {
        let mut options = Self(Vec::new());
        if root_only {
            options.push("--filter=- *");
        } else {
            for rule in route.filter.rsync_rules() {
                options.push(&format!("--filter={rule}"));
            }
        }
        options.push("-a");
        options
    }

    fn push(&mut self, option: &str) {
        self.0.push(option.into());
    }

    fn push_path(&mut self, option: &str, path: &Path) {
        let mut argument = OsString::from(option);
        argument.push(path);
        self.0.push(argument);
    }

    fn work(&mut self, route: &Route<'_>, work: Work, deletions: Deletions, missing: Missing) {
        match work {
            // `--files-from` switches the recursion of `-a` off.
            Work::Entries(compare) => self.compare(compare),
            Work::InPlace(compare) => {
                self.compare(compare);
                self.push("--inplace");
                self.push("--no-whole-file");
            }
            Work::Levels => {}
            Work::Trees(compare) => {
                self.push("-r");
                self.compare(compare);
            }
            Work::Removals => {
                self.push("--from0");
                self.push("--filter=. -");
                self.push("-r");
            }
            Work::RootAttributes => {
                self.push("--no-r");
                self.push("-d");
                return;
            }
        }
        if route.keep {
            // No `--force` either: a directory that gives way to a file would be deleted with all that it has kept.
            return self.push("--ignore-missing-args");
        }
        if deletions != Deletions::Never {
            self.push("--delete");
            match missing {
                Missing::Delete if work != Work::Removals => self.push("--delete-missing-args"),
                Missing::Ignore if work != Work::Removals => self.push("--ignore-missing-args"),
                Missing::Delete | Missing::Ignore => {}
            }
            self.push("--force");
        }
        if deletions == Deletions::Counted {
            self.push("--max-delete=0");
        }
    }

    fn compare(&mut self, compare: Compare) {
        match compare {
            Compare::Quick => {}
            Compare::Changed => self.push("--ignore-times"),
            Compare::Checksum => self.push("--checksum"),
        }
    }

    fn finish(mut self, version: Version, route: &Route<'_>, listed: bool) -> Result<Vec<OsString>, Unspeakable> {
        let target = route.target;
        if !route.cross_mounts {
            self.push("--one-file-system");
        }
        if target.modify_window != 0 {
            self.push(&format!("--modify-window={}", target.modify_window));
        }
        self.push("--stats");
        self.push("--no-h");
        if !target.timeout.is_zero() {
            self.push(&format!("--timeout={}", whole_seconds(target.timeout)));
        }
        if let Some(limit) = &target.bandwidth_limit {
            self.push(&format!("--bwlimit={limit}"));
        }
        match &target.address {
            TargetAddress::Local(_) => {}
            TargetAddress::Ssh { port, .. } => {
                self.push("-e");
                self.0.push(remote_shell(*port, target.identity.as_deref())?);
                if version.secluded_args_needed() {
                    self.push("--protect-args");
                }
            }
            TargetAddress::Daemon { .. } => {
                self.push(&format!("--contimeout={}", CONNECT_TIMEOUT.as_secs()));
                if let Some(file) = &target.password_file {
                    self.push_path("--password-file=", file);
                }
            }
        }
        if listed {
            self.push("--from0");
            self.push("--files-from=-");
        }
        self.0.extend(target.options.iter().map(OsString::from));
        self.0.push(with_slash(route.source));
        self.0.push(destination(target)?);
        Ok(self.0)
    }
}

/// rsync takes whole seconds, and 0 as "never".
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

fn with_slash(path: &Path) -> OsString {
    let mut bytes = path.as_os_str().as_bytes().to_vec();
    if !bytes.ends_with(b"/") {
        bytes.push(b'/');
    }
    OsString::from_vec(bytes)
}

/// The value of `-e`. rsync splits it at spaces; between single quotes a doubled quote stands for itself, and nothing else is special.
fn remote_shell(port: Option<u16>, identity: Option<&Path>) -> Result<OsString, Unspeakable> {
    let mut command = format!("ssh -o BatchMode=yes -o ConnectTimeout={}", CONNECT_TIMEOUT.as_secs()).into_bytes();
    if let Some(port) = port {
        command.extend_from_slice(format!(" -p {port}").as_bytes());
    }
    if let Some(identity) = identity {
        let identity = identity.as_os_str().as_bytes();
        if identity.contains(&0) {
            return Err("the ssh identity's path holds a NUL byte; correct `identity`".into());
        }
        command.extend_from_slice(b" -i ");
        if identity.iter().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+@%,=".contains(byte)) {
            command.extend_from_slice(identity);
        } else {
            command.push(b'\'');
            for &byte in identity {
                command.extend_from_slice(if byte == b'\'' { b"''" } else { std::slice::from_ref(&byte) });
            }
            command.push(b'\'');
        }
    }
    Ok(OsString::from_vec(command))
}

/// The destination, so that neither rsync nor a remote shell can take it for anything but a path.
pub(super) fn destination(target: &TargetConfig) -> Result<OsString, Unspeakable> {
    let host_and_user = |user: &Option<String>, host: &str| {
        let odd = |text: &str| text.is_empty() || text.starts_with('-') || text.contains(['/', '@', '\0', ' ']);
        if odd(host) || user.as_deref().is_some_and(|user| odd(user) || user.contains(':')) {
            return Err(format!("rsync cannot be given the host or user of {}; correct the address", target.name));
        }
        let user = user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        Ok(if host.contains(':') { format!("{user}[{host}]") } else { format!("{user}{host}") })
    };
    // The remote shell, and rsync's own server side, expand these in a path, and there is no form that every version takes.
    if let TargetAddress::Ssh { path, .. } | TargetAddress::Daemon { path, .. } = &target.address
        && let Some(wild) = path.chars().find(|character| "*?[]\\\0\n".contains(*character))
    {
        return Err(format!("the path of {} holds {wild:?}, which the remote side would expand; use a path without", target.name));
    }
    match &target.address {
        TargetAddress::Local(path) => Ok(with_slash(path)),
        TargetAddress::Ssh { user, host, path, .. } => {
            let path = remote_path(path);
            Ok(format!("{}:{path}", host_and_user(user, host)?).into())
        }
        TargetAddress::Daemon { user, host, port, module, path } => {
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            let path = path.trim_matches('/');
            let slash = if path.is_empty() { "" } else { "/" };
            Ok(format!("rsync://{}{port}/{module}/{path}{slash}", host_and_user(user, host)?).into())
        }
    }
}

/// A path of the remote side with its slash. Relative ones begin with `./`: an empty path must not become `/`, nor `-x` an option.
fn remote_path(path: &str) -> String {
    let path = match path {
        "~" => "",
        _ => path.strip_prefix("~/").unwrap_or(path),
    };
    let slash = if path.is_empty() || path.ends_with('/') { "" } else { "/" };
    if path.starts_with('/') || path.starts_with('~') { format!("{path}{slash}") } else { format!("./{path}{slash}") }
}

/// For people and for logs: the arguments as one line, quoted where needed. Never passed to a shell by us.
pub(super) fn for_people(binary: &Path, arguments: &[OsString]) -> String {
    let quote = |argument: &OsStr| {
        let text = argument.to_string_lossy();
        if text.chars().all(|character| character.is_ascii_alphanumeric() || "/._-+@%,=:".contains(character)) {
            text.into_owned()
        } else {
            format!("'{}'", text.replace('\'', "'\\''"))
        }
    };
    std::iter::once(binary.as_os_str()).chain(arguments.iter().map(OsString::as_os_str)).map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[path = "arguments_tests.rs"]
mod tests;
