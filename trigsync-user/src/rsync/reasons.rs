//! The tables behind a verdict: which text, and failing that which code, calls for what.

use super::Verdict;

/// What a failure of a whole run calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The operator has to act.
    Hold,
    /// It may pass.
    Retry,
    /// All connections are taken.
    Full,
    /// Deletions have to go another way.
    MissingArgsRefused,
}

/// A line that holds all of `words` means `kind`.
#[derive(Debug)]
pub(super) struct Rule {
    words: &'static [&'static str],
    /// Only with these exit codes; none: with every code, but then a line that speaks of one path does not count.
    codes: &'static [i32],
    pub(super) kind: Kind,
    /// What mends it; `HOST` stands for the target's. Empty where the line says it all.
    pub(super) remedy: &'static str,
}

const fn means(words: &'static [&'static str], kind: Kind, remedy: &'static str) -> Rule {
    Rule { words, codes: &[], kind, remedy }
}

/// rsync could not even begin: the directories of the run itself are named where otherwise single paths are.
const fn at_the_start(words: &'static [&'static str], kind: Kind, remedy: &'static str) -> Rule {
    Rule { words, codes: &[3, 11], kind, remedy }
}

/// In order of precedence: what explains more comes first.
const RULES: &[Rule] = &[
    // The receiver.
    means(&["invalid file mode 00"], Kind::MissingArgsRefused, "the rsync at the target refuses --delete-missing-args; 3.4.4 mends it"),
    at_the_start(&["mkdir ", "No such file or directory (2)"], Kind::Hold, "create the directory that is to hold the target"),
    at_the_start(&["mkdir ", "Permission denied (13)"], Kind::Hold, "create the target's directory and let rsync's user write to it"),
    at_the_start(&["Read-only file system (30)"], Kind::Hold, "mount the target's file system writable"),
    at_the_start(&["cannot stat destination"], Kind::Hold, "the target has to be a directory"),
    at_the_start(&["destination", "directory"], Kind::Hold, "the target has to be a directory"),
    at_the_start(&["[sender] change_dir "], Kind::Hold, "the source cannot be entered; is it there and mounted?"),
    // An rsync daemon.
    means(&["max connections (-"], Kind::Hold, "the module is switched off by `max connections` in rsyncd.conf"),
    means(&["max connections"], Kind::Full, "raise `max connections` in rsyncd.conf or lower `connections` here"),
    means(
        &["auth failed on module"],
        Kind::Hold,
        "check user and `password_file`, and that the daemon's `secrets file` is readable by root only",
    ),
    means(&["Unknown module"], Kind::Hold, "check the module's name; `rsync rsync://HOST/` lists them"),
    means(&["@ERROR: chdir failed"], Kind::Hold, "create the module's `path` at HOST"),
    means(&["@ERROR: chroot failed"], Kind::Hold, "create the module's `path` at HOST"),
    means(&["@ERROR: invalid uid"], Kind::Hold, "correct the module's `uid` at HOST"),
    means(&["@ERROR: invalid gid"], Kind::Hold, "correct the module's `gid` at HOST"),
    means(&["access denied to"], Kind::Hold, "add this machine to the module's `hosts allow` at HOST"),
    means(&["module is read only"], Kind::Hold, "set `read only = no` for the module at HOST"),
    means(&["refuse", "--delete"], Kind::Hold, "take `delete` out of the module's `refuse options` at HOST"),
    means(&["configured to refuse"], Kind::Hold, "take the option out of the module's `refuse options` at HOST"),
    means(&["password file must not be other-accessible"], Kind::Hold, "chmod 600 the `password_file`"),
    means(&["password file must be owned by root"], Kind::Hold, "chown root the `password_file`"),
    means(&["could not open password file"], Kind::Hold, "correct `password_file`"),
    means(&["did not see server greeting"], Kind::Retry, "is there an rsync daemon at this port of HOST?"),
    means(&["didn't get server startup line"], Kind::Retry, ""),
    // ssh.
    means(
        &["REMOTE HOST IDENTIFICATION HAS CHANGED"],
        Kind::Hold,
        "if that is right, remove HOST from known_hosts (ssh-keygen -R) and add it again",
    ),
    means(
        &["Host key verification failed"],
        Kind::Hold,
        "add HOST to the known_hosts of the user that trigsync runs as: ssh to it once by hand",
    ),
    means(&["bad permissions"], Kind::Hold, "chmod 600 the ssh `identity`"),
    means(&["Permissions ", "too open"], Kind::Hold, "chmod 600 the ssh `identity`"),
    means(
        &["Permission denied (", ")."],
        Kind::Hold,
        "put the public key into authorized_keys at HOST, and set `identity` if it is not ssh's default key",
    ),
    means(&["Too many authentication failures"], Kind::Hold, "set `identity`, and `IdentitiesOnly yes` in ssh_config"),
    means(&["Failed to exec"], Kind::Hold, "install an ssh client (dnf install openssh-clients, apt-get install openssh-client)"),
    means(
        &["is your shell clean?"],
        Kind::Hold,
        "the remote shell prints something of its own at login; silence it for sessions that are not interactive",
    ),
    means(&["rsync: command not found"], Kind::Hold, "rsync is not installed on HOST"),
    means(&["rsync: not found"], Kind::Hold, "rsync is not installed on HOST"),
    means(&["ssh: ", "Could not resolve hostname"], Kind::Retry, ""),
    means(&["ssh: connect to host"], Kind::Retry, ""),
    // The connection.
    means(&["getaddrinfo"], Kind::Retry, "check the host name"),
    means(&["failed to connect to"], Kind::Retry, ""),
    means(&["unknown option"], Kind::Hold, "correct `options`"),
];

/// The first rule that a line of the run fits, and that line. Each line comes with whether it speaks of one path.
pub(super) fn rule<'a, I: Iterator<Item = (&'a str, bool)>>(code: i32, lines: impl Fn() -> I) -> Option<(&'static Rule, &'a str)> {
    RULES.iter().find_map(|rule| {
        let fits = |line: &(&str, bool)| {
            (if rule.codes.is_empty() { !line.1 } else { rule.codes.contains(&code) })
                && rule.words.iter().all(|word| line.0.contains(word))
        };
        lines().find(fits).map(|(line, _)| (rule, line))
    })
}

/// The number in `max connections (2) reached -- try again later`. A module that is switched off has a negative one, which is none.
pub(super) fn max_connections(line: &str) -> Option<u32> {
    let (_, rest) = line.split_once("max connections (")?;
    rest.split_once(')')?.0.parse().ok()
}

/// What a code means where no text tells more.
pub(super) fn by_code(code: i32) -> (Kind, &'static str) {
    match code {
        1 => (Kind::Hold, "correct `options`, or the rsync at HOST is too old for them"),
        2 => (Kind::Hold, "the two rsync versions do not understand each other; update the older one"),
        3 => (Kind::Hold, "check that source and target are directories that rsync may enter"),
        4 => (Kind::Hold, "the rsync at HOST cannot do what is asked"),
        5 => (Kind::Hold, "see the rsync daemon's log at HOST"),
        6 => (Kind::Hold, "the rsync daemon at HOST cannot write its log"),
        13 => (Kind::Hold, ""),
        126 => (Kind::Hold, "rsync cannot be executed on HOST"),
        127 => (Kind::Hold, "rsync is not installed on HOST"),
        _ => (Kind::Retry, ""),
    }
}

/// rsync itself could not be started.
pub(super) fn not_started(error: &std::io::Error) -> Verdict {
    match error.kind() {
        std::io::ErrorKind::NotFound => Verdict::Hold("rsync was not found; install it (dnf install rsync, apt-get install rsync)".into()),
        std::io::ErrorKind::PermissionDenied => Verdict::Hold("rsync cannot be executed; check its mode".into()),
        _ => Verdict::Retry(format!("rsync could not be started: {error}")),
    }
}

/// Lines that only repeat or frame what other lines say.
pub(super) fn is_noise(line: &str) -> bool {
    line.starts_with("total size is ")
        || line.starts_with("rsync error: ")
        || line.starts_with("rsync warning: ")
        || line.starts_with("WARNING: parent dir is absent")
        || line.starts_with("*** Skipping any contents")
        || line.starts_with("sent ") && line.contains(" bytes/sec")
        || line.starts_with("@@@@@@@@")
        || line.starts_with("rsync: connection unexpectedly closed (0 bytes received so far)")
        || line.starts_with("(see the rsync manpage")
}

/// The statistics that nobody asks for, and the closing line.
pub(super) fn is_statistic(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 8] = [
        b"Number of files",
        b"Total file size",
        b"Total transferred file size",
        b"Literal data",
        b"Matched data",
        b"File list size",
        b"File list generation time",
        b"File list transfer time",
    ];
    NAMES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_a_module() {
        let cases = [("12", Some(12)), ("1", Some(1)), ("-1", None), ("a few", None), ("99999999999", None)];
        for (number, limit) in cases {
            assert_eq!(max_connections(&format!("@ERROR: max connections ({number}) reached -- try again later")), limit);
        }
        assert_eq!(max_connections("max connections (1"), None);
    }
}
