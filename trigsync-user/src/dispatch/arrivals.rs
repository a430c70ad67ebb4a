//! Who hears of what has arrived, and what of a target is still on its way: for whoever waits until several targets have a path.

use std::{
    collections::BTreeSet,
    fmt::Debug,
    ops::Bound,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{aside::Aside, shared::LaneShared};
use crate::{
    coalesce::Taken,
    lock::lock,
    model::{Arrived, RelPath, RelPathBuf, Stamp},
};

/// Hears of one target. Its lane calls, and waits: nothing here may block.
pub trait Listener: Debug + Send + Sync {
    /// These have arrived at the target.
    fn arrived(&self, arrived: Vec<Arrived>);

    /// Less may be on its way than before.
    fn turned(&self);
}

/// The side of a lane that a listener sees.
#[derive(Debug)]
pub(super) struct Arrivals {
    listener: Mutex<Option<Arc<dyn Listener>>>,
    /// When the oldest mark was made that the lane has taken and not settled; [`NOTHING`] where there is none. Lowered under the lock of the set, so
    /// that no mark is in neither.
    out: AtomicU64,
    /// Paths that failed alone, and which revision of them it is.
    aside: Mutex<(BTreeSet<RelPathBuf>, u64)>,
}

const NOTHING: Stamp = Stamp::MAX;

impl Default for Arrivals {
    fn default() -> Self {
        Self { listener: Mutex::default(), out: AtomicU64::new(NOTHING), aside: Mutex::default() }
    }
}

impl LaneShared {
    /// Has this listener hear of what arrives from now on, and the one before no more.
    pub fn listen(&self, listener: Option<Arc<dyn Listener>>) {
        *lock(&self.arrivals.listener) = listener;
    }

    pub(super) fn listener(&self) -> Option<Arc<dyn Listener>> {
        lock(&self.arrivals.listener).clone()
    }

    /// When the oldest mark was made that has not arrived, those left out that failed alone.
    pub fn oldest_on_its_way(&self) -> Option<Stamp> {
        let set = self.set();
        let out = self.arrivals.out.load(Relaxed);
        set.oldest().into_iter().chain(Some(out).filter(|out| *out != NOTHING)).min()
    }

    /// Whether the path failed alone, or something that it stands for. It is told again when it arrives.
    pub fn is_set_aside(&self, arrived: &Arrived) -> bool {
        let (aside, _) = &*lock(&self.arrivals.aside);
        if aside.is_empty() {
            return false;
        }
        let mut above = Some(&*arrived.path);
        while let Some(path) = above {
            if aside.contains(path) {
                return true;
            }
            above = path.parent();
        }
        let mut after = aside.range::<RelPath, _>((Bound::Excluded(&*arrived.path), Bound::Unbounded));
        arrived.below && after.next().is_some_and(|path| path.is_within(&arrived.path))
    }

    /// The lane takes these out of the set, whose lock it holds.
    pub(super) fn takes(&self, batch: &[Taken]) {
        if let Some(oldest) = batch.iter().map(|taken| taken.since).min() {
            self.arrivals.out.fetch_min(oldest, Relaxed);
        }
    }

    /// The lane's loop has turned, and what it had to put back is in the set.
    pub(super) fn turned(&self, oldest_out: Option<Stamp>, aside: &Aside) {
        self.arrivals.out.store(oldest_out.unwrap_or(NOTHING), Relaxed);
        if let Some(listener) = self.listener() {
            {
                let mut known = lock(&self.arrivals.aside);
                if known.1 != aside.revision() {
                    *known = (aside.paths().cloned().collect(), aside.revision());
                }
            }
            listener.turned();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{
        config::Settle,
        dispatch::now,
        model::{Mark, Ops, Scope},
    };

    #[derive(Debug)]
    struct Deaf;

    impl Listener for Deaf {
        fn arrived(&self, _: Vec<Arrived>) {}

        fn turned(&self) {}
    }

    fn path(text: &str) -> RelPathBuf {
        RelPathBuf::new(text.as_bytes().to_vec()).unwrap()
    }

    fn mark(text: &str) -> Mark {
        Mark { path: path(text), scope: Scope::Entry, ops: Ops::CLOSE_WRITE }
    }

    #[test]
    fn a_mark_is_on_its_way_until_the_lane_has_turned_without_it() {
        let shared = LaneShared::new(Settle::default(), "t".into(), "/t".into(), []);
        shared.mark_all([mark("a")]);
        let made = shared.oldest_on_its_way().unwrap();
        {
            let mut set = shared.set();
            let batch = set.cut(now() + 10_000_000, 10, 0);
            assert_eq!(batch.len(), 1);
            shared.takes(&batch);
        }
        assert_eq!(shared.oldest_on_its_way(), Some(made), "it is in no set, and has not arrived");
        shared.turned(None, &Aside::new(None));
        assert_eq!(shared.oldest_on_its_way(), None);
    }

    #[test]
    fn what_failed_alone_is_told_apart() {
        let shared = LaneShared::new(Settle::default(), "t".into(), "/t".into(), []);
        let mut aside = Aside::new(None);
        for text in ["a/b", "z"] {
            aside.add(Taken::new(mark(text), now()), "it failed".to_owned(), Instant::now());
        }
        shared.listen(Some(Arc::new(Deaf)));
        shared.turned(None, &aside);
        let is_aside = |text: &str, below| shared.is_set_aside(&Arrived { path: path(text), gone: false, directory: below, below });
        assert!(is_aside("a/b", false) && is_aside("a/b/c", false), "itself, and what is below it");
        assert!(is_aside("a", true) && !is_aside("a", false), "what stands for it");
        assert!(!is_aside("a/a", false) && !is_aside("b", true));
        aside.excluded(&path("a/b"));
        shared.turned(None, &aside);
        assert!(!is_aside("a/b", false) && is_aside("z", false), "it is not set aside any more");
    }
}
