//! Which of rsync's options an operator may add: all but those that work against the batches.
//!
//! - What selects, lists, deletes or reports files belongs to the batches, and is refused with the reason and the remedy.
//! - What would leave the target silently different from the source is refused.
//! - What changes how a file is transferred, stored or compared is left to the operator.

const LIST: &str = "each batch brings its own list";
const SCOPE: &str = "each batch decides itself how deep it goes";
const DELETE: &str = "what is deleted is decided batch by batch";
const FILTER: &str = "write exclude = or include =, which hold for events and deletions too";
const OUTPUT: &str = "the batches read rsync's output";
const SILENT: &str = "the target would silently differ from the source";
const LINKS: &str = "changes behind a symbolic link are not seen";
const BASIS: &str = "renames use these options themselves";
const BATCH: &str = "nothing would reach the target";
const PEER: &str = "the address says how the target is reached";
const CHECK: &str = "a batch must end by itself";

/// Long options that are refused, with the reason.
const REFUSED: &[(&str, &str)] = &[
    ("files-from", LIST),
    ("from0", LIST),
    ("relative", LIST),
    ("implied-dirs", "without them rsync writes through symbolic links at the target"),
    ("recursive", SCOPE),
    ("dirs", SCOPE),
    ("old-dirs", SCOPE),
    ("one-file-system", "write cross_mounts ="),
    ("del", DELETE),
    ("delete", DELETE),
    ("delete-before", DELETE),
    ("delete-during", DELETE),
    ("delete-delay", DELETE),
    ("delete-after", DELETE),
    ("delete-excluded", "what is excluded is never deleted"),
    ("delete-missing-args", DELETE),
    ("ignore-missing-args", DELETE),
    ("ignore-errors", "an unreadable directory would be deleted at the target"),
    ("force", DELETE),
    ("max-delete", "write max_delete ="),
    ("remove-source-files", "the source is never written to"),
    ("remove-sent-files", "the source is never written to"),
    ("filter", FILTER),
    ("exclude", FILTER),
    ("exclude-from", FILTER),
    ("include", FILTER),
    ("include-from", FILTER),
    ("cvs-exclude", FILTER),
    ("max-size", "files would silently be left out; write exclude ="),
    ("min-size", "files would silently be left out; write exclude ="),
    ("prune-empty-dirs", SILENT),
    ("existing", SILENT),
    ("ignore-non-existing", SILENT),
    ("ignore-existing", SILENT),
    ("update", "a file that is newer at the target would silently stay different"),
    ("size-only", "a change that keeps the size would never arrive"),
    ("append", "a change inside a file would never arrive"),
    ("append-verify", "a change inside a file would never arrive"),
    ("copy-links", LINKS),
    ("copy-dirlinks", LINKS),
    ("copy-unsafe-links", LINKS),
    ("keep-dirlinks", "changes would be written through symbolic links at the target"),
    ("safe-links", SILENT),
    ("copy-devices", "a device's content has no events"),
    ("write-devices", "the target would be a device, not a tree"),
    ("iconv", "names are bytes and stay as they are"),
    ("backup", "the old copies would lie inside the target, where the next full pass deletes them"),
    ("backup-dir", "the old copies would lie inside the target, where the next full pass deletes them"),
    ("suffix", "it goes with --backup, which is refused"),
    ("compare-dest", "files would silently be left out"),
    ("copy-dest", BASIS),
    ("link-dest", BASIS),
    ("dry-run", BATCH),
    ("list-only", BATCH),
    ("write-batch", LIST),
    ("only-write-batch", BATCH),
    ("read-batch", LIST),
    ("stop-after", CHECK),
    ("stop-at", CHECK),
    ("time-limit", CHECK),
    ("daemon", "trigsync runs rsync as a client"),
    ("server", "trigsync runs rsync as a client"),
    ("sender", "trigsync runs rsync as a client"),
    ("config", "trigsync runs rsync as a client"),
    ("detach", "trigsync runs rsync as a client"),
    ("dparam", "trigsync runs rsync as a client"),
    ("help", "trigsync runs rsync as a client"),
    ("version", "trigsync runs rsync as a client"),
    ("rsh", "write identity =, and the port as ssh://HOST:PORT/PATH"),
    ("port", "write rsync://HOST:PORT/MODULE"),
    ("old-args", "names would pass through the remote shell"),
    ("password-file", "write password_file ="),
    ("early-input", PEER),
    ("timeout", "write timeout ="),
    ("contimeout", "write timeout ="),
    ("bwlimit", "write bandwidth_limit ="),
    ("modify-window", "write modify_window ="),
    ("stats", OUTPUT),
    ("out-format", OUTPUT),
    ("log-format", OUTPUT),
    ("itemize-changes", OUTPUT),
    ("verbose", OUTPUT),
    ("quiet", OUTPUT),
    ("progress", OUTPUT),
    ("info", OUTPUT),
    ("debug", OUTPUT),
    ("stderr", OUTPUT),
    ("msgs2stderr", OUTPUT),
    ("human-readable", OUTPUT),
    ("8-bit-output", OUTPUT),
];

/// The one-letter options that are refused, by the long option they stand for.
const LETTERS: &[(char, &str)] = &[
    ('0', "from0"),
    ('8', "8-bit-output"),
    ('@', "modify-window"),
    ('C', "cvs-exclude"),
    ('F', "filter"),
    ('K', "keep-dirlinks"),
    ('L', "copy-links"),
    ('R', "relative"),
    ('V', "version"),
    ('b', "backup"),
    ('d', "dirs"),
    ('e', "rsh"),
    ('f', "filter"),
    ('h', "human-readable"),
    ('i', "itemize-changes"),
    ('k', "copy-dirlinks"),
    ('m', "prune-empty-dirs"),
    ('n', "dry-run"),
    ('q', "quiet"),
    ('r', "recursive"),
    ('u', "update"),
    ('v', "verbose"),
    ('x', "one-file-system"),
];

/// Other names for refused options, among them those with `--no-` in front.
const ALIASES: &[(&str, &str)] =
    &[("old-d", "old-dirs"), ("i-d", "implied-dirs"), ("bwl", "bwlimit"), ("compare", "compare-dest"), ("msgs", "msgs2stderr")];

/// Says why `option` cannot be used, if so.
pub(super) fn check(option: &str) -> Result<(), String> {
    let refuse = |reason: &str| Err(format!("`{option}` cannot be used: {reason}"));
    if option.contains(['\0', '\n']) {
        return refuse("it holds a NUL byte or a newline");
    }
    let Some(rest) = option.strip_prefix('-').filter(|rest| !rest.is_empty() && *rest != "-") else {
        return refuse("it is no option (write an option and its value as one text: \"--chmod=D755\")");
    };
    if let Some(long) = rest.strip_prefix('-') {
        let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
        if name == "remote-option" {
            return value.map_or_else(|| refuse("it lacks its value (write --remote-option=OPTION)"), check);
        }
        return reason_for_long(name).map_or(Ok(()), refuse);
    }
    letters(option, rest)
}

fn letters(option: &str, cluster: &str) -> Result<(), String> {
    for (index, letter) in cluster.char_indices() {
        let rest = &cluster[index + letter.len_utf8()..];
        let whole = |reason: &str| {
            let spelled = if cluster.chars().count() > 1 { format!("`-{letter}` in `{option}`") } else { format!("`{option}`") };
            Err(format!("{spelled} cannot be used: {reason}"))
        };
        if letter == 'P' {
            return whole("the batches read rsync's output (write --partial)");
        }
        if let Some(long) = long_of(letter) {
            return whole(reason_for_long(long).unwrap_or(LIST));
        }
        // These take the rest as their value.
        if "BTM".contains(letter) {
            if rest.is_empty() {
                return whole("its value must stand in the same text");
            }
            return if letter == 'M' { check(rest.strip_prefix('=').unwrap_or(rest)) } else { Ok(()) };
        }
    }
    Ok(())
}

/// The long name of a refused one-letter option.
pub(super) fn long_of(letter: char) -> Option<&'static str> {
    LETTERS.iter().find(|(known, _)| *known == letter).map(|(_, long)| *long)
}

/// Why the long option of this name, without its dashes, is refused.
pub(super) fn reason_for_long(name: &str) -> Option<&'static str> {
    let find = |name: &str| {
        let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, long)| long);
        REFUSED.iter().find(|(refused, _)| *refused == name).map(|(_, reason)| *reason)
    };
    if let Some(bare) = name.strip_prefix("no-") {
        if matches!(bare, "times" | "t") {
            return Some("without times every file would be sent again each time");
        }
        let mut letters = bare.chars();
        let long = match (letters.next(), letters.next()) {
            (Some(letter), None) => long_of(letter),
            _ => None,
        };
        return find(long.unwrap_or(bare));
    }
    find(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_transfer_and_storage_pass() {
        for option in [
            "--acls",
            "-AXH",
            "-a",
            "--inplace",
            "--chmod=D755,F644",
            "--chown=www:www",
            "--no-owner",
            "--no-o",
            "--no-perms",
            "--fake-super",
            "-z",
            "-zz",
            "--compress-choice=zstd",
            "--rsync-path=sudo rsync",
            "--numeric-ids",
            "-B131072",
            "-T/var/tmp",
            "--partial-dir=.part",
            "-W",
            "--checksum",
            "-c",
            "--remote-option=--fake-super",
            "-M--fake-super",
            "--delay-updates",
            "--fuzzy",
            "-y",
            "--omit-dir-times",
            "--no-inc-recursive",
            "-4",
            "--sockopts=SO_SNDBUF=1",
        ] {
            assert_eq!(check(option), Ok(()), "{option}");
        }
    }

    #[test]
    fn refusals_say_why() {
        for (option, expected) in [
            ("--files-from=x", "`--files-from=x` cannot be used: each batch brings its own list"),
            ("--no-from0", "`--no-from0` cannot be used: each batch brings its own list"),
            ("--no-R", "`--no-R` cannot be used: each batch brings its own list"),
            ("-avn", "`-v` in `-avn` cannot be used: the batches read rsync's output"),
            ("-an", "`-n` in `-an` cannot be used: nothing would reach the target"),
            ("-n", "`-n` cannot be used: nothing would reach the target"),
            ("-zP", "`-P` in `-zP` cannot be used: the batches read rsync's output (write --partial)"),
            ("-essh -p 22", "`-e` in `-essh -p 22` cannot be used: write identity =, and the port as ssh://HOST:PORT/PATH"),
            ("--exclude=*.o", "`--exclude=*.o` cannot be used: write exclude = or include =, which hold for events and deletions too"),
            ("-M--delete", "`--delete` cannot be used: what is deleted is decided batch by batch"),
            ("--remote-option=-n", "`-n` cannot be used: nothing would reach the target"),
            ("--bwlimit=1m", "`--bwlimit=1m` cannot be used: write bandwidth_limit ="),
            ("--no-times", "`--no-times` cannot be used: without times every file would be sent again each time"),
            ("-T", "`-T` cannot be used: its value must stand in the same text"),
            ("D755", "`D755` cannot be used: it is no option (write an option and its value as one text: \"--chmod=D755\")"),
            ("--", "`--` cannot be used: it is no option (write an option and its value as one text: \"--chmod=D755\")"),
        ] {
            assert_eq!(check(option), Err(expected.to_owned()));
        }
        for (_, long) in LETTERS {
            assert!(REFUSED.iter().any(|(name, _)| name == long), "{long}");
        }
    }
}
