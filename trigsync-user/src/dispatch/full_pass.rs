//! One full pass to one target, outside any lane.

use std::sync::Arc;

use super::{
    job::{JobContext, Outcome, ShowProgress, Trouble, carry_out},
    sync::SyncContext,
};
use crate::{
    coalesce::Taken,
    config::TargetConfig,
    model::{Mark, Ops, RelPathBuf, Scope},
    plan::{Gone, Item, PlannedRun},
    rsync::{Compare, Listing, Rsync, Stats, Work},
};

/// How a full pass ended.
#[derive(Debug)]
pub enum FullPass {
    /// The target is equal to the source.
    Equal(Stats),
    /// It is not; the text says why.
    Failed(String),
    /// It is not, because a guard objects to what would be deleted.
    Guarded(String),
}

/// Passes over what vanishes while rsync looks are repeated, so many times at most.
const PASSES: usize = 3;

/// Makes one target equal to its source.
pub async fn full_pass(sync: Arc<SyncContext>, target: TargetConfig, rsync: Rsync, progress: ShowProgress) -> FullPass {
    let context = JobContext { progress: Some(progress), ..JobContext::new(sync, target, rsync) };
    let mut stats = Stats::default();
    for _ in 0..PASSES {
        let Outcome { again, failed, trouble, stats: sent, .. } = carry_out(&context, everything(), None).await;
        stats.add(&sent);
        match trouble {
            Some(Trouble::Guard(reason) | Trouble::RootGone(reason)) => return FullPass::Guarded(reason),
            Some(Trouble::Full { reason: text, .. } | Trouble::Retry(text) | Trouble::NoSpace(text) | Trouble::Hold(text)) => {
                return FullPass::Failed(text);
            }
            Some(Trouble::Stopped) => return FullPass::Failed("stopped".into()),
            None => {}
        }
        if let Some((taken, reason)) = failed.first() {
            return FullPass::Failed(format!("{} of the paths failed, the first is {}: {reason}", failed.len(), taken.mark.path));
        }
        if again.is_empty() {
            return FullPass::Equal(stats);
        }
    }
    FullPass::Failed("the source keeps changing while it is read; `trigsync run` follows it".into())
}

fn everything() -> PlannedRun {
    let mark = Mark { path: RelPathBuf::root(), scope: Scope::Tree, ops: Ops::RESCAN };
    let item = Item { listed: RelPathBuf::root(), missing: false, directory: true, mark: Taken::new(mark, 0) };
    PlannedRun { work: Work::Trees(Compare::Quick), listing: Listing::Plain, gone: Gone::Unseen, items: vec![item] }
}
