//! What rsync's answer means.

use crate::model::RelPathBuf;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What follows from it.
    pub verdict: Verdict,
    /// What it did.
    pub stats: Stats,
    /// It ended in the middle of its work, perhaps: a receiver that was killed leaves its temporary files (`.name.XXXXXX`) where they were.
    pub interrupted: bool,
}

/// What a run did, from `--stats`. Zero where rsync died before it told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Regular files transferred.
    pub transferred: u64,
    /// Entries created, of any kind.
    pub created: u64,
    /// Entries deleted.
    pub deleted: u64,
    /// Bytes written to the other side.
    pub bytes_sent: u64,
    /// Bytes read from the other side.
    pub bytes_received: u64,
    /// Deletions that were due and that [`super::Deletions::Counted`] held back, also where the verdict is not [`Verdict::Withheld`]
    /// because other things went wrong too. As rsync counts them: a listed directory that is not empty counts what it holds, not itself.
    pub withheld: u64,
}

impl Answer {
    /// A run that cannot even be tried.
    pub(super) fn hold(reason: String) -> Self {
        Self { verdict: Verdict::Hold(reason), stats: Stats::default(), interrupted: false }
    }
}

impl Answer {
    /// What is wrong, in one line.
    pub fn reason(&self) -> &str {
        match &self.verdict {
            Verdict::Done => "nothing is wrong",
            Verdict::Vanished(_) => "paths vanished while rsync ran; try again",
            Verdict::Withheld(_) => "deletions were withheld",
            Verdict::Stopped => "it was stopped",
            Verdict::Partial { reason, .. } => reason,
            Verdict::MissingArgsRefused(text)
            | Verdict::Full { reason: text, .. }
            | Verdict::Retry(text)
            | Verdict::NoSpace(text)
            | Verdict::Hold(text) => text,
        }
    }
}

impl Stats {
    /// Adds what another run did.
    pub fn add(&mut self, other: &Self) {
        self.transferred += other.transferred;
        self.created += other.created;
        self.deleted += other.deleted;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
    }
}

/// What follows from an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything listed is equal now, but for directories that were kept because they hold excluded files.
    Done,
    /// These listed paths (or what is below them) vanished while rsync ran: look again. The rest is done.
    Vanished(Vec<RelPathBuf>),
    /// Deletions were only counted, and this many are due. The rest is done.
    Withheld(u64),
    /// Some paths failed, the rest is done.
    Partial {
        /// Those that the text names, relative to the source; perhaps none.
        paths: Vec<RelPathBuf>,
        /// Whether every complaint named its path: then what is not in `paths` is done.
        all_named: bool,
        /// One line for people.
        reason: String,
    },
    /// The receiver cannot do `--delete-missing-args` (rsync#910): delete by another way.
    MissingArgsRefused(String),
    /// All of the target's connections are taken.
    Full {
        /// One line for people.
        reason: String,
        /// How many connections the target takes at once, as far as it says so.
        limit: Option<u32>,
    },
    /// It may pass: the network, a time-out, a killed peer.
    Retry(String),
    /// No space at the receiver: try again slowly.
    NoSpace(String),
    /// The operator has to act: wrong password, unknown module, read only, refused option. The text says what and how.
    Hold(String),
    /// We stopped it ourselves.
    Stopped,
}
