//! The runs of a batch: which paths travel in which rsync, and how each is compared.

use std::{os::fd::OwnedFd, thread, time::Duration};

use super::{
    Rules,
    lookup::{Found, Kind, Lookup},
};
use crate::{
    coalesce::Taken,
    model::{Arrived, Ops, RelPath, RelPathBuf, Scope, Stamp},
    rsync::{Compare, Listing, Work},
};

/// A regular file from this size on travels by itself, beside the batches: small changes do not wait for it.
const LARGE_FILE: u64 = 64 << 20;

/// So many bytes of files of which only attributes changed are sent again rather than start another rsync that compares them.
const CHEAPER_THAN_A_RUN: u64 = 1 << 20;

/// How long descriptors are waited for.
const SHORTAGE: Duration = Duration::from_millis(200);

/// What a batch of marks comes to.
#[derive(Debug, Default)]
pub struct Plan {
    /// Names and deletions, to be run now, one after the other.
    pub entries: Vec<PlannedRun>,
    /// Subtrees, levels, large files and those that change in place, each beside the batches.
    pub bulk: Vec<PlannedRun>,
    /// Marks beyond the limit of bytes, and those whose paths could not be looked at for want of descriptors: they go into a later batch.
    pub postponed: Vec<Taken>,
    /// Marks that the filter excludes: nothing is due for them.
    pub excluded: Vec<Taken>,
}

/// One run of rsync, and the marks that it settles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedRun {
    /// What rsync does.
    pub work: Work,
    /// How the list is written.
    pub listing: Listing,
    /// What is known of the deletions.
    pub gone: Gone,
    /// What is listed, sorted by listed path.
    pub items: Vec<Item>,
}

/// A mark, and the path that is listed for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The mark's own path, or the parent at which that path ends now. Several marks may have come to one path.
    pub listed: RelPathBuf,
    /// The listed path does not exist: it is deleted, with what is below it.
    pub missing: bool,
    /// The listed path was a directory.
    pub directory: bool,
    /// The mark that is settled when the run succeeds.
    pub mark: Taken,
}

impl Item {
    /// Whether what becomes of the listed path says what becomes of others below it. A mark of a whole tree where no directory stands does:
    /// at the target there may be one, which goes only if rsync too finds none here.
    pub fn stands_for_more(&self) -> bool {
        let replaced = self.mark.mark.scope == Scope::Tree && !self.directory;
        self.missing || replaced || self.is_blocked()
    }

    /// Whether the mark's path ends at a parent, which is missing, or is no directory any more.
    fn is_blocked(&self) -> bool {
        self.listed != self.mark.mark.path && self.mark.mark.path.is_within(&self.listed)
    }

    /// What the target has got when the mark is settled.
    pub fn arrived(&self) -> Arrived {
        let mark = &self.mark.mark;
        let own = self.listed == mark.path;
        if self.missing {
            let directory = !own || mark.ops.contains(Ops::DIRECTORY) || mark.scope == Scope::Tree;
            return Arrived { path: self.listed.clone(), gone: true, directory, below: directory };
        }
        if self.is_blocked() {
            // A parent that is a file now: what was there went with the directory.
            let directory = mark.ops.contains(Ops::DIRECTORY);
            return Arrived { path: mark.path.clone(), gone: true, directory, below: directory };
        }
        // The root's attributes travel with an entry of it.
        Arrived {
            path: mark.path.clone(),
            gone: false,
            directory: self.directory || mark.path.is_root(),
            below: mark.scope != Scope::Entry,
        }
    }
}

/// What is known of the deletions of a run. Ordered by how little that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gone {
    /// So many names, none of them a directory, each seen going.
    Seen(u64),
    /// Directories were seen going; what was in them is not known. Count before deleting.
    SeenWhole,
    /// Nobody saw what goes: something is made equal. Count before deleting.
    Unseen,
}

impl PlannedRun {
    /// The listed paths, sorted, each once.
    pub fn paths(&self) -> impl Iterator<Item = &RelPath> {
        let mut last = None;
        self.items.iter().map(|item| &*item.listed).filter(move |&path| last.replace(path) != Some(path))
    }

    /// Whether this is the full pass over the root.
    pub fn is_full_pass(&self) -> bool {
        matches!(self.work, Work::Trees(_)) && self.items.first().is_some_and(|item| item.listed.is_root())
    }

    /// Whether what it does to a listed item may reach what is below it.
    pub fn reaches_below(&self, item: &Item) -> bool {
        matches!(self.work, Work::Trees(_) | Work::Levels) || item.missing
    }

    /// What a mark has to cover to do again what this run does to a listed path.
    pub fn scope(&self) -> Scope {
        match self.work {
            Work::Trees(_) => Scope::Tree,
            Work::Levels => Scope::Level,
            Work::Entries(_) | Work::InPlace(_) | Work::Removals | Work::RootAttributes => Scope::Entry,
        }
    }

    /// Whether another run beside the rounds may travel in the same list: subtrees together, levels together, files that change in place
    /// together, a large file with itself.
    pub fn joins(&self, other: &Self) -> bool {
        match (self.work, other.work) {
            (Work::Trees(how), Work::Trees(other_how)) => how == other_how && self.is_full_pass() == other.is_full_pass(),
            (Work::Levels, Work::Levels) => true,
            (Work::InPlace(how), Work::InPlace(other_how)) => how == other_how,
            (Work::Entries(_), Work::Entries(_)) => self.paths().eq(other.paths()),
            _ => false,
        }
    }

    /// Takes the other run's items into this list.
    pub fn join(&mut self, other: Self) {
        if other.listing == Listing::WithRoot {
            self.listing = other.listing;
        }
        self.gone = self.gone.max(other.gone);
        self.items.extend(other.items);
        self.items.sort_by(|a, b| a.listed.cmp(&b.listed));
    }

    /// When the oldest of its marks was made.
    pub fn oldest(&self) -> Option<Stamp> {
        self.items.iter().map(|item| item.mark.since).min()
    }

    /// Cuts a long list into at most `parts` lists, none much shorter than `least`. Entries of one directory stay together, so that no two
    /// runs work in the same directory.
    pub fn split(mut self, parts: usize, least: usize) -> Vec<Self> {
        let parts = parts.min(self.items.len() / least.max(1)).max(1);
        let size = self.items.len().div_ceil(parts);
        let mut cut = Vec::with_capacity(parts);
        while self.items.len() > size {
            let parent = |index: usize| self.items[index].listed.parent();
            let Some(end) = (size..self.items.len()).find(|&index| parent(index) != parent(index - 1)) else { break };
            let rest = self.items.split_off(end);
            cut.push(Self { items: std::mem::replace(&mut self.items, rest), ..self });
        }
        cut.push(self);
        cut
    }

    /// The same run for some of its items.
    pub fn with_items(&self, items: Vec<Item>) -> Self {
        Self { items, ..*self }
    }
}

/// Looks at the source and plans the runs for `batch`, which is sorted by path.
pub fn plan(root: OwnedFd, batch: Vec<Taken>, rules: &Rules<'_>) -> Plan {
    let mut sorter = Sorter::default();
    let mut lookup = Lookup::new(root);
    for taken in batch {
        sorter.sort(taken, &mut lookup, rules);
    }
    if sorter.short {
        // They are looked at again as soon as the lane is free, which would be at once.
        thread::sleep(SHORTAGE);
    }
    sorter.finish()
}

/// Looks at a run's items again after it has ended, and returns those that it has settled, and the marks that it has not: a path that was
/// missing (or a file) when it was planned may have been a directory again when rsync looked, which says nothing of what was below it.
pub fn settled(root: OwnedFd, items: Vec<Item>) -> (Vec<Item>, Vec<Taken>) {
    let mut lookup = Lookup::new(root);
    let mut is_doubtful = |listed: &RelPath| matches!(lookup.find(listed), Found::Present(Kind::Directory) | Found::Unknown);
    let (again, settled): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| item.stands_for_more() && is_doubtful(&item.listed));
    (settled, again.into_iter().map(|item| item.mark).collect())
}

/// Where the marks of a batch go.
#[derive(Default)]
struct Sorter {
    plan: Plan,
    /// Regular files whose content may have changed.
    changed: Vec<Item>,
    /// Regular files of which only attributes changed.
    same: Vec<Item>,
    /// Directories, links, deletions: how they are compared makes no difference.
    other: Vec<Item>,
    trees: Vec<Item>,
    levels: Vec<Item>,
    root: Vec<Item>,
    changed_bytes: u64,
    same_bytes: u64,
    seen_gone: u64,
    whole_gone: bool,
    unseen_gone: bool,
    root_changed: bool,
    /// Some paths could not be looked at for want of descriptors.
    short: bool,
    /// What was seen of the files in `changed`.
    changed_ops: Ops,
}

impl Sorter {
    fn sort(&mut self, mark: Taken, lookup: &mut Lookup, rules: &Rules<'_>) {
        let path = mark.mark.path.clone();
        let ops = mark.mark.ops;
        let (listed, missing, kind) = match lookup.find(&path) {
            Found::Present(kind) => (path, false, kind),
            Found::Blocked(parent) => (parent, false, Kind::Other),
            Found::Missing(top) => (top, true, Kind::Other),
            Found::Unknown => {
                self.short = true;
                return self.plan.postponed.push(mark);
            }
        };
        let own = listed == mark.mark.path;
        // Where nobody saw what went, it may have been a directory, and one that the filter excludes.
        let directory = if missing { !own || ops.contains(Ops::DIRECTORY) || !ops.goes() } else { kind == Kind::Directory };
        if rules.filter.excludes(&listed, directory) {
            self.plan.excluded.push(mark);
            return;
        }
        if listed.parent().is_some_and(RelPath::is_root) && ops != Ops::ATTRIB {
            self.root_changed = true; // the root's own time has changed with its entries
        }
        if missing {
            self.seen_gone += 1;
            self.whole_gone |= directory;
            self.unseen_gone |= own && !ops.goes();
        }
        let scope = mark.mark.scope;
        let item = Item { listed, missing, directory: kind == Kind::Directory, mark };
        match kind {
            Kind::Directory if scope == Scope::Tree => self.trees.push(item),
            Kind::Directory if scope == Scope::Level => self.levels.push(item),
            Kind::Directory if item.listed.is_root() => self.root.push(item),
            Kind::File(size) => self.file(item, size, rules),
            Kind::Directory | Kind::Other => self.other.push(item),
        }
    }

    fn file(&mut self, item: Item, size: u64, rules: &Rules<'_>) {
        // A mark of a whole tree that is a file: another thing may have stood here.
        let replaced = if item.mark.mark.scope == Scope::Entry { Ops::empty() } else { Ops::MOVED_TO };
        let ops = item.mark.mark.ops | replaced;
        if !ops.changes_content() {
            self.same_bytes += size;
            self.same.push(item);
        } else if rules.inplace.takes(&item.listed, size) {
            self.beside(Work::InPlace(compare(ops)), item);
        } else if size >= LARGE_FILE.min(rules.limits.bytes) {
            self.beside(Work::Entries(compare(ops)), item);
        } else if self.changed_bytes + size > rules.limits.bytes {
            self.plan.postponed.push(item.mark);
        } else {
            self.changed_bytes += size;
            self.changed_ops |= ops;
            self.changed.push(item);
        }
    }

    /// A file that does not travel with the others.
    fn beside(&mut self, work: Work, item: Item) {
        let run = PlannedRun { work, listing: Listing::Plain, gone: Gone::Seen(0), items: vec![item] };
        match self.plan.bulk.iter_mut().find(|other| other.joins(&run)) {
            Some(other) => other.join(run),
            None => self.plan.bulk.push(run),
        }
    }

    fn finish(mut self) -> Plan {
        let listing = if self.root_changed || !self.root.is_empty() { Listing::WithRoot } else { Listing::Plain };
        // Where there is no file, it makes no difference how they are compared, and a parked rsync compares like this.
        let no_file = self.changed.is_empty() && self.same.is_empty();
        let entries = Work::Entries(if no_file { Compare::Changed } else { compare(self.changed_ops) });
        let gone = match (self.unseen_gone, self.whole_gone) {
            (true, _) => Gone::Unseen,
            (false, true) => Gone::SeenWhole,
            (false, false) => Gone::Seen(self.seen_gone),
        };
        let mut first = self.other;
        if self.changed.is_empty() || self.same_bytes <= CHEAPER_THAN_A_RUN {
            first.append(&mut self.same);
        }
        first.append(&mut self.changed);
        // The root's attributes travel with any entry of the root; alone they need a run of their own.
        let carrier = first.iter().map(|item| &item.listed).find(|listed| listed.parent().is_some_and(RelPath::is_root)).cloned();
        if let Some(listed) = carrier {
            first.extend(self.root.drain(..).map(|item| Item { listed: listed.clone(), ..item }));
        }
        push(&mut self.plan.entries, entries, listing, gone, first);
        push(&mut self.plan.entries, Work::Entries(Compare::Quick), Listing::Plain, Gone::Seen(0), self.same);
        push(&mut self.plan.entries, Work::RootAttributes, Listing::Plain, Gone::Seen(0), self.root);
        push(&mut self.plan.bulk, Work::Levels, Listing::Levels, Gone::Unseen, self.levels);
        // The full pass goes alone: it takes long, and the other subtrees need not wait for it.
        let (full, parts): (Vec<_>, Vec<_>) = self.trees.into_iter().partition(|item| item.listed.is_root());
        for trees in [full, parts] {
            for how in [Compare::Quick, Compare::Changed, Compare::Checksum] {
                let alike = trees.iter().filter(|item| compare(item.mark.mark.ops) == how).cloned().collect();
                push(&mut self.plan.bulk, Work::Trees(how), listing, Gone::Unseen, alike);
            }
        }
        self.plan
    }
}

fn push(runs: &mut Vec<PlannedRun>, work: Work, listing: Listing, gone: Gone, mut items: Vec<Item>) {
    if !items.is_empty() {
        items.sort_by(|a, b| a.listed.cmp(&b.listed));
        runs.push(PlannedRun { work, listing, gone, items });
    }
}

/// How rsync is to compare what was seen to change like this. A rescan alone saw no change: rsync's own comparison has to do.
fn compare(ops: Ops) -> Compare {
    match (ops.changes_content(), ops.contains(Ops::RESCAN)) {
        (false, _) => Compare::Quick,
        (true, false) => Compare::Changed,
        (true, true) => Compare::Checksum,
    }
}
