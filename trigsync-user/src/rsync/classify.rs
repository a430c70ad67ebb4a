//! What follows from rsync's exit code and text together: the same code means different things.
//!
//! - Standard output counts as much as standard error, on exit 0 too.
//! - Memory is bounded, however much rsync prints: what is over the bound is counted, and the verdict then names no longer every path.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use super::{
    Answer, Progress, Route, Stats, Verdict,
    process::Exit,
    reasons::{self, Kind},
    text::{Names, find},
};
use crate::{config::TargetAddress, model::RelPathBuf};

/// Paths of one kind that are remembered.
const PATHS: usize = 200_000;
/// Lines that are kept for the reason, from the start.
const FIRST_LINES: usize = 16;
/// And from the end.
const LAST_LINES: usize = 4;
/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// What one run has told so far.
pub(super) struct Findings<'a> {
    names: Names,
    filtered: bool,
    host: String,
    progress: Option<&'a (dyn Fn(Progress) + Send + Sync)>,
    progress_told: Option<Instant>,
    stats: Stats,
    vanished: Paths,
    failed: Paths,
    kept: Paths,
    /// Each with whether it speaks of one path.
    first: Vec<(String, bool)>,
    last: VecDeque<(String, bool)>,
    errors: u64,
    /// Complaints that name no path.
    unnamed: u64,
    no_space: bool,
}

/// Some paths, and how many more there were.
#[derive(Default)]
struct Paths {
    paths: BTreeSet<RelPathBuf>,
    more: u64,
}

impl Paths {
    fn add(&mut self, path: RelPathBuf) {
        if self.paths.len() < PATHS {
            self.paths.insert(path);
        } else if !self.paths.contains(&path) {
            self.more += 1;
        }
    }
}

impl<'a> Findings<'a> {
    pub(super) fn new(route: &Route<'_>, progress: Option<&'a (dyn Fn(Progress) + Send + Sync)>) -> Self {
        let host = match &route.target.address {
            TargetAddress::Ssh { host, .. } | TargetAddress::Daemon { host, .. } => host.clone(),
            TargetAddress::Local(_) => "this machine".into(),
        };
        Self {
            names: Names::new(route),
            filtered: !route.filter.is_empty(),
            host,
            progress,
            progress_told: None,
            stats: Stats::default(),
            vanished: Paths::default(),
            failed: Paths::default(),
            kept: Paths::default(),
            first: Vec::new(),
            last: VecDeque::new(),
            errors: 0,
            unnamed: 0,
            no_space: false,
        }
    }

    /// Takes one line of either output, without its end.
    pub(super) fn line(&mut self, line: &[u8]) {
        if line.is_empty() || self.statistic(line) || self.progress(line) {
            return;
        }
        if let Some(path) = self.names.vanished(line) {
            self.vanished.add(path);
            return;
        }
        let mut of_one_path = false;
        if let Some(path) = Names::kept_directory(line) {
            of_one_path = true;
            self.kept.add(path);
        } else {
            for path in self.names.failed(line) {
                of_one_path = true;
                self.failed.add(path);
            }
        }
        let text = String::from_utf8_lossy(line);
        let text = text.trim();
        self.no_space |= text.contains("No space left on device (28)") || text.contains("Disk quota exceeded (122)");
        if reasons::is_noise(text) {
            return;
        }
        self.errors += 1;
        self.unnamed += u64::from(!of_one_path);
        let mut text = text.to_owned();
        if let Some((end, _)) = text.char_indices().nth(500) {
            text.truncate(end);
            text.push('…');
        }
        if self.first.len() < FIRST_LINES {
            self.first.push((text, of_one_path));
        } else {
            if self.last.len() == LAST_LINES {
                self.last.pop_front();
            }
            self.last.push_back((text, of_one_path));
        }
    }

    /// `Number of created files: 1,234 (reg: …)` and its sisters.
    fn statistic(&mut self, line: &[u8]) -> bool {
        let Some(colon) = find(line, b": ") else { return withheld(line).map(|held| self.stats.withheld = held).is_some() };
        let field = match &line[..colon] {
            b"Number of regular files transferred" => &mut self.stats.transferred,
            b"Number of created files" => &mut self.stats.created,
            b"Number of deleted files" => &mut self.stats.deleted,
            b"Total bytes sent" => &mut self.stats.bytes_sent,
            b"Total bytes received" => &mut self.stats.bytes_received,
            other => return reasons::is_statistic(other),
        };
        *field = number(&line[colon + 2..]);
        true
    }

    /// `      588,903  99%  561.61MB/s    0:00:00 (xfr#3, to-chk=6/10)`
    fn progress(&mut self, line: &[u8]) -> bool {
        let Some(progress) = parse_progress(line) else { return false };
        if let Some(tell) = self.progress {
            let due = self.progress_told.is_none_or(|told| told.elapsed() >= PROGRESS_EVERY);
            if due || progress.percent == 100 {
                tell(progress);
                self.progress_told = Some(Instant::now());
            }
        }
        true
    }

    /// The end.
    pub(super) fn answer(self, exit: Exit) -> Answer {
        let stats = self.stats;
        let interrupted = match exit {
            Exit::NotStarted(_) => false,
            Exit::Signal(_) | Exit::Stopped | Exit::GivenUp(_) => true,
            // A socket that broke: an established one, unless the text says that it never was.
            Exit::Code(10) => !self.first.iter().any(|(line, _)| line.contains("failed to connect") || line.contains("getaddrinfo")),
            // A stream that broke, a process that died, a signal, a time-out, an ssh that died.
            Exit::Code(code) => matches!(code, 12 | 14..=16 | 19 | 20 | 22 | 30 | 255),
        };
        Answer { verdict: self.verdict(exit), stats, interrupted }
    }

    fn verdict(mut self, exit: Exit) -> Verdict {
        let code = match exit {
            Exit::Stopped => return Verdict::Stopped,
            Exit::GivenUp(reason) => return Verdict::Retry(reason),
            Exit::NotStarted(error) => return reasons::not_started(&error),
            Exit::Signal(signal) => return Verdict::Retry(format!("rsync was killed by signal {signal}")),
            Exit::Code(code) => code,
        };
        match code {
            // The receiver's limit is told by the text alone where the receiver is a daemon.
            0 if self.stats.withheld > 0 => Verdict::Withheld(self.stats.withheld),
            0 if self.kept.paths.is_empty() || self.filtered => Verdict::Done,
            0 => self.partial(),
            23 if self.no_space => Verdict::NoSpace(self.reason("free space at the target")),
            23 => self.partial(),
            24 if self.vanished.paths.is_empty() || self.vanished.more > 0 => self.partial(),
            24 => Verdict::Vanished(std::mem::take(&mut self.vanished.paths).into_iter().collect()),
            25 => Verdict::Withheld(self.stats.withheld),
            _ => self.failure(code),
        }
    }

    /// The run as a whole came to nothing.
    fn failure(self, code: i32) -> Verdict {
        let lines = || self.first.iter().chain(&self.last).map(|(line, of_one_path)| (line.as_str(), *of_one_path));
        if self.no_space && matches!(code, 10..=12) {
            return Verdict::NoSpace(self.reason("free space at the target"));
        }
        if let Some((rule, line)) = reasons::rule(code, lines) {
            let remedy = rule.remedy.replace("HOST", &self.host);
            let reason = if remedy.is_empty() { line.to_owned() } else { format!("{line}: {remedy}") };
            return rule.kind.verdict(reason, line);
        }
        let (kind, remedy) = reasons::by_code(code);
        let reason = self.reason(&remedy.replace("HOST", &self.host));
        kind.verdict(if self.errors == 0 { format!("{reason} (rsync ended with code {code})") } else { reason }, "")
    }

    fn partial(mut self) -> Verdict {
        let reason =
            if self.errors == 0 && !self.vanished.paths.is_empty() { "files vanished while rsync ran".to_owned() } else { self.reason("") };
        let all_named = self.unnamed + self.failed.more + self.vanished.more + self.kept.more == 0;
        let mut paths = std::mem::take(&mut self.failed.paths);
        paths.append(&mut self.vanished.paths);
        paths.append(&mut self.kept.paths);
        Verdict::Partial { all_named: all_named && !paths.is_empty(), paths: paths.into_iter().collect(), reason }
    }

    /// The first thing that went wrong, how much else did, and what mends it.
    fn reason(&self, remedy: &str) -> String {
        let mut reason = self.first.first().map(|(line, _)| line.clone()).unwrap_or_else(|| "rsync did not say why it failed".into());
        if self.errors > 1 {
            reason.push_str(&format!(" (and {} more)", self.errors - 1));
        }
        if !remedy.is_empty() {
            reason.push_str(": ");
            reason.push_str(remedy);
        }
        reason
    }
}

impl Kind {
    /// `line` is what rsync said, as far as one line told.
    fn verdict(self, reason: String, line: &str) -> Verdict {
        match self {
            Self::Hold => Verdict::Hold(reason),
            Self::Retry => Verdict::Retry(reason),
            Self::Full => Verdict::Full { reason, limit: reasons::max_connections(line) },
            Self::MissingArgsRefused => Verdict::MissingArgsRefused(reason),
        }
    }
}

/// `Deletions stopped due to --max-delete limit (3 skipped)`
fn withheld(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(b"Deletions stopped due to --max-delete limit (")?;
    rest.ends_with(b" skipped)").then(|| number(rest))
}

/// Digits up to what is neither digit nor a separator of thousands: old versions print those, and some languages use dots.
fn number(text: &[u8]) -> u64 {
    text.iter()
        .take_while(|byte| byte.is_ascii_digit() || matches!(byte, b',' | b'.' | b'\''))
        .filter(|byte| byte.is_ascii_digit())
        .fold(0, |sum, byte| sum.saturating_mul(10).saturating_add(u64::from(byte - b'0')))
}

fn parse_progress(line: &[u8]) -> Option<Progress> {
    if !line.starts_with(b" ") {
        return None;
    }
    let text = std::str::from_utf8(line).ok()?;
    let mut words = text.split_ascii_whitespace();
    let bytes = words.next()?;
    if !bytes.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b',' | b'.')) {
        return None;
    }
    let percent = words.next()?.strip_suffix('%')?.parse().ok()?;
    let to_check = text.split_once("-chk=").and_then(|(_, rest)| {
        let (left, all) = rest.strip_suffix(')')?.split_once('/')?;
        Some((left.parse().ok()?, all.parse().ok()?))
    });
    Some(Progress { bytes: number(bytes.as_bytes()), percent, to_check })
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
