//! The dirty set: what may differ between the source and one target.

use super::{
    arena::{Arena, Id, NONE, ROOT},
    changes::{Changes, Recorder},
    levels::Levels,
    queue::Queue,
};
use crate::{
    config::Settle,
    model::{Mark, Ops, RelPath, Scope, Stamp},
};

/// The marks of one target.
pub struct DirtySet {
    pub(super) arena: Arena,
    queue: Queue,
    settle: Settle,
    /// The latest `since` that was given out.
    stamp: Stamp,
    /// No mark is ripe before this; `None` where there is none.
    due: Option<Stamp>,
    /// Until when a file that was left open counts as being written.
    writing_until: Stamp,
    recorder: Recorder,
    levels: Levels,
    /// Marks of what changed before are on their way here.
    is_searched: bool,
    /// Nodes that there may be.
    most: usize,
    degraded: u64,
}

/// A mark that was cut, with the time it has waited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The mark.
    pub mark: Mark,
    /// When it was first made.
    pub since: Stamp,
    /// When it was cut, as [`Change::Settled`](super::Change::Settled) has it: what is marked afterwards has a later stamp.
    pub until: Stamp,
}

impl Taken {
    /// A mark that comes from no set.
    pub fn new(mark: Mark, since: Stamp) -> Self {
        Self { mark, since, until: since }
    }
}

impl std::fmt::Debug for DirtySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DirtySet").field("len", &self.len()).field("oldest", &self.oldest()).finish_non_exhaustive()
    }
}

impl DirtySet {
    /// An empty set.
    pub fn new(settle: Settle) -> Self {
        Self {
            arena: Arena::new(),
            queue: Queue::new(),
            settle,
            stamp: 0,
            due: None,
            writing_until: 0,
            recorder: Recorder::default(),
            levels: Levels::default(),
            is_searched: false,
            most: usize::MAX,
            degraded: 0,
        }
    }

    /// Writes down what happens from now on, for [`take_changes`](Self::take_changes).
    pub fn record_changes(&mut self) {
        self.recorder.switch_on();
    }

    /// What happened since the last call.
    pub fn take_changes(&mut self) -> Changes {
        self.recorder.take()
    }

    /// A mark that was taken has arrived.
    pub fn settled(&mut self, taken: &Taken, now: Stamp) {
        if taken.mark.scope == Scope::Level {
            self.levels.settled(&taken.mark.path, now);
        }
        self.recorder.settled(&taken.mark.path, taken.mark.scope, taken.until);
    }

    /// A mark is kept outside the set for now. Only for the record.
    pub fn kept_outside(&mut self, taken: &Taken) {
        let stamp = self.next_stamp();
        self.recorder.marked(|| taken.mark.path.clone(), taken.mark.scope, stamp);
    }

    /// Everything has arrived, and nothing is kept outside. Only for the record; does nothing where there are marks.
    pub fn all_settled(&mut self) {
        if self.is_empty() {
            self.recorder.cleared();
        }
    }

    /// Whether marks of what changed before are on their way here, from now on.
    pub fn searched(&mut self, is_searched: bool) {
        self.is_searched = is_searched;
    }

    /// Settles by other times from now on.
    pub fn settle(&mut self, settle: Settle) {
        self.settle = settle;
        self.due = self.oldest();
    }

    /// Holds no more than so many bytes from now on, about: a set that would grow beyond puts directories in place of what is marked in them.
    pub fn bound(&mut self, bytes: usize) {
        self.most = (bytes / NODE).max(1);
        self.recorder.bound(bytes / OF_CHANGES);
    }

    /// How many marks may be out of the set at once: with what is made of them, one takes several times what it takes here.
    pub fn most_out(&self) -> usize {
        (self.most / OUT).max(1)
    }

    /// How many directories were put in place of what was marked in them.
    pub fn degraded(&self) -> u64 {
        self.degraded
    }

    /// Marks, and the directories on the way to them.
    pub(super) fn nodes(&self) -> usize {
        self.arena.len()
    }

    /// How many marks there are.
    pub fn len(&self) -> usize {
        self.queue.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.queue.len == 0
    }

    /// When the oldest mark was made.
    pub fn oldest(&self) -> Option<Stamp> {
        (self.queue.oldest != NONE).then(|| self.arena.get(self.queue.oldest).since)
    }

    /// The stamp of the newest mark ever made: every mark made so far has it or a smaller one.
    pub fn newest_stamp(&self) -> Stamp {
        self.stamp
    }

    /// A stamp for something that happens now, later than every mark.
    pub fn next_stamp(&mut self) -> Stamp {
        self.stamp += 1;
        self.stamp
    }

    /// Nothing is ripe before this time. `None` where there is no mark.
    pub fn due(&self) -> Option<Stamp> {
        self.due
    }

    /// Until this time some file counts as being written, as far as the marks tell; a time in the past where none does.
    pub fn writing_until(&self) -> Stamp {
        self.writing_until
    }

    /// Marks a path.
    pub fn mark(&mut self, path: &RelPath, scope: Scope, ops: Ops, now: Stamp) {
        self.mark_here(path, scope, ops, now);
        self.keep_bound(now);
    }

    /// At once to half of what is allowed, so that it is not looked for with every mark.
    fn keep_bound(&mut self, now: Stamp) {
        if self.nodes() > self.most {
            self.degraded += self.degrade(self.most / 2, now);
        }
    }

    pub(super) fn mark_here(&mut self, path: &RelPath, scope: Scope, ops: Ops, now: Stamp) {
        let Place::Node(id) = self.place(path) else { return };
        let is_made = scope == Scope::Entry && ops.contains(Ops::CREATE | Ops::DIRECTORY);
        let scope = if is_made && self.may_have_gone(id, path, now) { Scope::Tree } else { scope };
        let was = self.arena.get(id).scope;
        if was.is_none() {
            self.stamp = now.max(self.stamp + 1);
            self.arena.get_mut(id).since = self.stamp;
            self.queue.push_newest(&mut self.arena, id);
        }
        let node = self.arena.get_mut(id);
        node.scope = Some(wider(was, scope));
        node.open = if Ops::ATTRIB.contains(ops) && was.is_some() {
            node.open // chmod or chown of a file that is being written does not finish it
        } else {
            ops.leaves_open()
        };
        node.ops = if was.is_some() { node.ops | ops } else { ops };
        node.quiet_from = distance(node.since, now);
        if node.open {
            self.writing_until = now + micros(self.settle.quiet);
        }
        if scope == Scope::Tree && was != Some(Scope::Tree) {
            self.absorb_below(id);
        }
        self.record(id, was);
        self.expect(self.ripe_at(id));
    }

    /// Puts marks back that could not be sent, or have to be sent again. They keep their age, and are ripe at once where the path did
    /// not change in the meantime.
    pub fn put_back(&mut self, mut taken: Vec<Taken>) {
        taken.sort_by_key(|taken| taken.since);
        let mut before = NONE;
        for Taken { mark, since, .. } in taken {
            self.stamp = self.stamp.max(since);
            if mark.scope == Scope::Level {
                self.levels.put_back(&mark.path);
            }
            match self.place(&mark.path) {
                Place::Covered(tree) => before = self.age(tree, since, before),
                Place::Node(id) => {
                    let was = self.arena.get(id).scope;
                    if was.is_none() {
                        before = self.queue.last_before(&self.arena, before, since);
                        self.queue.insert_after(&mut self.arena, before, id);
                        self.stamp += 1;
                        let node = self.arena.get_mut(id);
                        (node.since, node.quiet_from, node.open, node.ops) = (since, 0, false, Ops::empty());
                        before = id;
                    } else {
                        before = self.age(id, since, before);
                    }
                    let node = self.arena.get_mut(id);
                    node.scope = Some(wider(was, mark.scope));
                    node.ops |= mark.ops;
                    if mark.scope == Scope::Tree && was != Some(Scope::Tree) {
                        self.absorb_below(id);
                        before = NONE; // the mark it stood for may be gone
                    }
                    self.record(id, was);
                    self.expect(self.ripe_at(id));
                }
            }
        }
        self.keep_bound(self.stamp);
    }

    /// Whether another directory may have had the name, and gone without anybody seeing it.
    fn may_have_gone(&self, id: Id, path: &RelPath, now: Stamp) -> bool {
        let Some(parent) = path.parent() else { return false };
        let is_level = self.arena.get(self.arena.get(id).parent()).scope == Some(Scope::Level);
        self.is_searched || is_level || self.levels.holds(parent, now)
    }

    /// Takes what is ripe, oldest first, at most `limit` marks, sorted by path. Marks up to the stamp `hurry` count as ripe.
    pub fn cut(&mut self, now: Stamp, limit: usize, hurry: Stamp) -> Vec<Taken> {
        self.levels.forget(now);
        let mut taken = Vec::new();
        let mut at = self.queue.oldest;
        self.due = None;
        while at != NONE {
            let (newer, since) = (self.arena.get(at).newer, self.arena.get(at).since);
            let ripe_at = self.ripe_at(at);
            if taken.len() == limit {
                self.expect(ripe_at.min(now));
                break;
            }
            if since <= hurry || ripe_at <= now {
                taken.push(self.take(at));
            } else {
                self.expect(ripe_at);
                // No mark ripens earlier than the shortest settling after it was made, and all that follow are younger.
                if since + micros(self.settle.finished.min(self.settle.max_age)) > now && since > hurry {
                    break;
                }
            }
            at = newer;
        }
        taken.sort_by(|a, b| a.mark.path.cmp(&b.mark.path));
        taken
    }

    /// Writes down that a mark was made, or is wider than it was: with a stamp that is later than all that was cut before.
    fn record(&mut self, id: Id, was: Option<Scope>) {
        if let Some(scope) = self.arena.get(id).scope
            && Some(scope) != was
        {
            self.recorder.marked(|| self.arena.path(id), scope, self.stamp);
        }
    }

    fn place(&mut self, path: &RelPath) -> Place {
        let mut id = ROOT;
        for name in path.components() {
            if self.arena.get(id).scope == Some(Scope::Tree) {
                return Place::Covered(id);
            }
            id = self.arena.child_or_new(id, name);
        }
        Place::Node(id)
    }

    /// Makes a mark as old as `since` where it is younger. `before` is a mark older than `since`, or `NONE`; returns such a one for
    /// any later `since`.
    fn age(&mut self, id: Id, since: Stamp, mut before: Id) -> Id {
        if self.arena.get(id).since <= since {
            return before;
        }
        if before == id {
            before = self.arena.get(id).older;
        }
        self.queue.unlink(&mut self.arena, id);
        before = self.queue.last_before(&self.arena, before, since);
        self.queue.insert_after(&mut self.arena, before, id);
        self.set_since(id, since);
        id
    }

    /// Drops every mark below a node that has become a `T`, which takes the place and the age of the oldest.
    fn absorb_below(&mut self, id: Id) {
        let below = self.arena.below(id);
        if !below.is_empty() {
            self.recorder.absorbed(|| self.arena.path(id));
        }
        let marked = below.iter().copied().filter(|&child| self.arena.get(child).scope.is_some());
        if let Some(oldest) = marked.min_by_key(|&child| self.arena.get(child).since)
            && self.arena.get(oldest).since < self.arena.get(id).since
        {
            self.queue.unlink(&mut self.arena, id);
            self.queue.insert_after(&mut self.arena, oldest, id);
            self.set_since(id, self.arena.get(oldest).since);
        }
        for child in below.into_iter().rev() {
            if self.arena.get(child).scope.is_some() {
                self.queue.unlink(&mut self.arena, child);
            }
            self.arena.remove(child);
        }
    }

    /// Changes when a mark was made; when it last changed stays as it is.
    fn set_since(&mut self, id: Id, since: Stamp) {
        let node = self.arena.get_mut(id);
        let latest = node.since + Stamp::from(node.quiet_from);
        node.since = since;
        node.quiet_from = distance(since, latest);
    }

    fn take(&mut self, id: Id) -> Taken {
        let path = self.arena.path(id);
        self.queue.unlink(&mut self.arena, id);
        let node = self.arena.get_mut(id);
        let scope = node.scope.take().expect("only marked nodes are in the queue");
        if scope == Scope::Level {
            self.levels.taken(&path);
        }
        let taken = Taken { mark: Mark { path, scope, ops: node.ops }, since: node.since, until: self.stamp };
        self.arena.prune(id);
        taken
    }

    fn ripe_at(&self, id: Id) -> Stamp {
        let node = self.arena.get(id);
        let quiet = if node.open { self.settle.quiet } else { self.settle.finished };
        let latest = node.since + Stamp::from(node.quiet_from);
        (latest + micros(quiet)).min(node.since + micros(self.settle.max_age))
    }

    fn expect(&mut self, ripe_at: Stamp) {
        self.due = Some(self.due.map_or(ripe_at, |due| due.min(ripe_at)));
    }
}

/// Bytes that a node takes with its name and its places in the tables, a long name included: a million nodes were seen to take 170 MB.
const NODE: usize = 200;

/// A set of so many times the bytes may be recorded at once, and of so many times the marks be out.
const OF_CHANGES: usize = 16;
const OUT: usize = 16;

/// Where a path stands in the set.
enum Place {
    /// Its own node, made where there was none.
    Node(Id),
    /// A `T` above it that covers it.
    Covered(Id),
}

fn wider(was: Option<Scope>, scope: Scope) -> Scope {
    match (was, scope) {
        (Some(Scope::Tree), _) | (_, Scope::Tree) => Scope::Tree,
        (Some(Scope::Level), _) | (_, Scope::Level) => Scope::Level,
        (None | Some(Scope::Entry), Scope::Entry) => Scope::Entry,
    }
}

fn micros(duration: std::time::Duration) -> Stamp {
    Stamp::try_from(duration.as_micros()).unwrap_or(Stamp::MAX / 4)
}

fn distance(from: Stamp, to: Stamp) -> u32 {
    u32::try_from(to.saturating_sub(from)).unwrap_or(u32::MAX)
}
