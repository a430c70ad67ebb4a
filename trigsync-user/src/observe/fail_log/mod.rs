//! `fail_log`: a file that people read, with one line for each path that fails and each target that gets into trouble, and out of it.
//!
//! - Whoever has something to tell waits for nothing: lines wait in bounded memory, and a thread of its own writes them. What finds no room, or
//!   cannot be written, is counted, and one line says how many there were.
//! - Nothing that happens to the file stops anything: it is said once in the log, and the file is tried again with the next line.
//! - No line means anything to a shell, whatever a file is called (`Failure::line`).

mod file;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use crate::{lock::lock, model::RelPath};

pub use file::check;

/// Bytes of lines that wait for the thread.
const WAITING: usize = 256 << 10;

/// What stands in a line.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// The sync's name.
    pub sync: &'a str,
    /// The target's name; none where the sync as a whole is meant.
    pub target: Option<&'a str>,
    /// What it has come to.
    pub what: What,
    /// The path that is meant; none where it is the target or the sync.
    pub path: Option<&'a RelPath>,
    /// Why.
    pub reason: &'a str,
}

/// What a path, a target or a sync has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The path is set aside.
    Failed,
    /// The path was set aside, and has arrived.
    Arrived,
    /// The target is tried again.
    Retrying,
    /// The target waits for the operator.
    Held,
    /// The sync waits for the operator.
    Stopped,
    /// The trouble of the target or the sync is over.
    Ok,
    /// Nobody tries the target any more: the daemon stops, or goes on with another configuration.
    Ended,
}

/// Where failures are told. Clones tell the same file.
#[derive(Clone, Debug, Default)]
pub struct FailLog {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    file: Option<PathBuf>,
    /// The file has not been looked at since it was named.
    is_new: bool,
    lines: String,
    /// How many failures stand neither in `lines` nor in the file.
    lost: u64,
    has_thread: bool,
    /// The thread is at the file.
    is_writing: bool,
}

impl What {
    fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Arrived => "arrived",
            Self::Retrying => "retrying",
            Self::Held => "held",
            Self::Stopped => "stopped",
            Self::Ok => "ok",
            Self::Ended => "ended",
        }
    }
}

impl Failure<'_> {
    /// `# TIME`, sync, target, what, path and reason, parted by tabs, and a newline.
    ///
    /// sersync's log of failures was a script that it ran, `/tmp/rsync_fail_log.sh`, and its users have crontabs that do. So every line is a
    /// comment to a shell: it begins with `# `, and nothing in it can end it, since what is a control character in a name or in what rsync
    /// said is escaped.
    fn line(&self, at: SystemTime) -> String {
        let mut line = format!("# {}", humantime::format_rfc3339_millis(at));
        let path = self.path.map(ToString::to_string);
        for field in [self.sync, self.target.unwrap_or("-"), self.what.word(), path.as_deref().unwrap_or("-"), self.reason] {
            line.push('\t');
            for character in field.chars() {
                // U+2028 and U+2029, at which some programs end a line, are no control characters.
                match character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') {
                    true => line.extend(character.escape_default()),
                    false => line.push(character),
                }
            }
        }
        line.push('\n');
        line
    }
}

impl FailLog {
    /// Tells this file from now on; nobody where there is none.
    pub fn write_to(&self, file: Option<&Path>) {
        let mut state = lock(&self.shared.state);
        if state.file.as_deref() == file {
            return;
        }
        (state.file, state.is_new) = (file.map(Path::to_owned), file.is_some());
        if file.is_none() {
            (state.lines, state.lost) = Default::default();
        }
        if file.is_some() && !state.has_thread {
            let shared = self.shared.clone();
            match thread::Builder::new().name("fail_log".to_owned()).spawn(move || write(&shared)) {
                Ok(_) => state.has_thread = true,
                Err(error) => {
                    state.file = None;
                    tracing::warn!("fail_log is not written: no thread could be started: {error}");
                }
            }
        }
        self.shared.changed.notify_all();
    }

    /// Tells of a failure, without waiting for anything.
    pub fn note(&self, failure: &Failure<'_>) {
        let mut state = lock(&self.shared.state);
        if state.file.is_none() {
            return;
        }
        if state.lines.len() >= WAITING {
            state.lost += 1;
            return;
        }
        let line = failure.line(SystemTime::now());
        state.lines.push_str(&line);
        self.shared.changed.notify_all();
    }

    /// Waits for at most `patience` until everything is written.
    pub fn finish(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut state = lock(&self.shared.state);
        while state.file.is_some() && (state.is_new || state.is_writing || !state.lines.is_empty()) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The thread: as long as the process.
fn write(shared: &Shared) {
    let mut complaint: Option<(PathBuf, String)> = None;
    loop {
        let (file, lines, lost) = {
            let mut state = lock(&shared.state);
            state.is_writing = false;
            shared.changed.notify_all();
            loop {
                match state.file.clone().filter(|_| state.is_new || !state.lines.is_empty()) {
                    Some(file) => {
                        (state.is_new, state.is_writing) = (false, true);
                        let lines = std::mem::take(&mut state.lines);
                        let lost = if lines.is_empty() { 0 } else { std::mem::take(&mut state.lost) };
                        break (file, lines, lost);
                    }
                    None => state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                }
            }
        };
        let result = if lines.is_empty() { check(&file).map_err(|why| (why, 0)) } else { append(&file, lines, lost) };
        let shown = file.display();
        match result {
            Ok(()) => {
                if complaint.take().is_some_and(|(other, _)| other == file) {
                    tracing::info!("fail_log: {shown} can be written again");
                }
            }
            Err((why, unwritten)) => {
                lock(&shared.state).lost += unwritten;
                if complaint.as_ref().is_none_or(|(other, said)| *other != file || *said != why) {
                    tracing::warn!("fail_log: {shown} {why}; what fails is not written there until that is mended");
                }
                complaint = Some((file, why));
            }
        }
    }
}

/// Writes lines, and how many more there were. Fails with the reason, and how many are not in the file.
fn append(file: &Path, mut lines: String, lost: u64) -> Result<(), (String, u64)> {
    if lost > 0 {
        let at = humantime::format_rfc3339_millis(SystemTime::now());
        lines.push_str(&format!("# {at}\t-\t-\tlost\t-\t{lost} more that came too fast, or could not be written\n"));
    }
    file::append(file, lines.as_bytes()).map_err(|(why, written)| {
        let unwritten = lines.as_bytes()[written..].iter().filter(|byte| **byte == b'\n').count() as u64;
        // The last line is the count itself.
        (why, if lost > 0 && unwritten > 0 { unwritten - 1 + lost } else { unwritten })
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn failure<'a>(path: Option<&'a RelPath>, reason: &'a str) -> Failure<'a> {
        Failure { sync: "www", target: Some("edge1"), what: What::Failed, path, reason }
    }

    /// What is written, each line without its time.
    fn written(file: &Path) -> Vec<String> {
        let text = fs::read_to_string(file).expect("it is written");
        let line = |line: &str| line.strip_prefix("# ").and_then(|line| line.split_once('\t')).expect("a comment").1.to_owned();
        text.lines().map(line).collect()
    }

    #[test]
    fn a_line_is_a_comment_whatever_a_file_is_called() {
        let path = RelPath::new(b"a\n$(touch pwned) \xff\x1b\t").expect("a path");
        let line = failure(Some(path), "it\nsaid \u{2028}\u{85}\0\r").line(SystemTime::UNIX_EPOCH);
        assert_eq!(
            line,
            "# 1970-01-01T00:00:00.000Z\twww\tedge1\tfailed\ta\\n$(touch pwned) \\xff\\u{1b}\\t\tit\\nsaid \\u{2028}\\u{85}\\u{0}\\r\n"
        );
    }

    #[test]
    fn what_is_told_is_written_to_the_file_that_is_named_then() {
        let room = tempfile::tempdir().expect("a place");
        let [first, second] = ["first", "second"].map(|name| room.path().join(name));
        let log = FailLog::default();
        log.note(&failure(None, "before any file is named"));
        log.write_to(Some(&first));
        log.note(&failure(None, "it broke"));
        log.note(&Failure { target: None, what: What::Stopped, ..failure(None, "it is empty") });
        log.finish(PATIENCE);
        assert_eq!(written(&first), ["www\tedge1\tfailed\t-\tit broke", "www\t-\tstopped\t-\tit is empty"]);
        log.write_to(Some(&second));
        log.note(&failure(None, "it broke again"));
        log.finish(PATIENCE);
        assert_eq!(written(&second), ["www\tedge1\tfailed\t-\tit broke again"]);
        log.write_to(None);
        log.note(&failure(None, "nobody asks"));
        log.finish(PATIENCE);
        assert_eq!((written(&first).len(), written(&second).len()), (2, 1));
    }

    #[test]
    fn what_could_not_be_written_is_counted() {
        let room = tempfile::tempdir().expect("a place");
        let file = room.path().join("log");
        fs::create_dir(&file).expect("something that is no file");
        let log = FailLog::default();
        log.write_to(Some(&file));
        for _ in 0..3 {
            log.note(&failure(None, "it broke"));
            log.finish(PATIENCE);
        }
        fs::remove_dir(&file).expect("it is empty");
        log.note(&failure(None, "it broke again"));
        log.finish(PATIENCE);
        let lost = "-\t-\tlost\t-\t3 more that came too fast, or could not be written";
        assert_eq!(written(&file), ["www\tedge1\tfailed\t-\tit broke again", lost]);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        // No thread takes anything.
        let log = FailLog::default();
        lock(&log.shared.state).file = Some("/nowhere".into());
        let reason = "x".repeat(1000);
        (0..1000).for_each(|_| log.note(&failure(None, &reason)));
        let state = lock(&log.shared.state);
        assert!(state.lines.len() < WAITING + 2000);
        assert_eq!(state.lines.lines().count() as u64 + state.lost, 1000);
    }
}
