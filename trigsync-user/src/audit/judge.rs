//! Whether what differs is a lost change.

use std::{collections::BTreeSet, time::Duration};

use rustix::io::Errno;
use tokio::time::timeout;

use super::auditor::{AuditError, Auditor};
use crate::{
    model::{Mark, Ops, RelPath, RelPathBuf, Scope},
    plan::standing,
    rsync::{Drift, Extent},
};

/// How often what keeps changing is looked at.
const LOOKS: usize = 5;

/// How long everything that has changed may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(120);

/// What the looks have come to.
pub(super) struct Judged {
    /// Lost changes.
    pub lost: Vec<Drift>,
    /// Paths that changed whenever they were looked at.
    pub unsettled: usize,
}

impl Auditor {
    /// Tells lost changes from changes that were on their way when the first look found them.
    pub(super) async fn judge(&self, drift: Vec<Drift>) -> Result<Judged, AuditError> {
        let mut open: BTreeSet<RelPathBuf> = drift.into_iter().map(|drift| drift.path).collect();
        let mut lost = Vec::new();
        for _ in 0..LOOKS {
            open = self.standing(open).await?;
            if open.is_empty() {
                break;
            }
            let watch = self.shared.audited().watch(open.iter().cloned());
            self.arrival().await?;
            let paths: Vec<&RelPath> = open.iter().map(|path| &**path).collect();
            let again = self.compare(Extent::Names(&paths)).await?;
            // What changed until rsync looked is told now.
            self.barrier().await?;
            let touched = watch.touched();
            let again = again.drift.into_iter().filter(|drift| open.contains(&drift.path));
            let (busy, differs): (Vec<_>, Vec<_>) = again.partition(|drift| touched.contains(&drift.path));
            lost.extend(differs);
            open = busy.into_iter().map(|drift| drift.path).collect();
        }
        Ok(Judged { lost, unsettled: open.len() })
    }

    /// Where paths end in the source as it is now: what is deleted with a directory is that directory.
    async fn standing(&self, paths: BTreeSet<RelPathBuf>) -> Result<BTreeSet<RelPathBuf>, AuditError> {
        self.on_the_source(move |root, _| Ok(standing(root.try_clone_to_owned().map_err(|_| Errno::MFILE)?, paths))).await
    }

    /// Everything that has changed until now has arrived.
    async fn arrival(&self) -> Result<(), AuditError> {
        self.barrier().await?;
        tokio::select! {
            () = self.context.stopped() => Err(AuditError::Stopped),
            arrived = timeout(ARRIVAL, self.shared.flush()) => match arrived {
                Ok(Ok(())) => Ok(()),
                _ => Err(AuditError::Behind),
            },
        }
    }

    async fn barrier(&self) -> Result<(), AuditError> {
        self.capture.barrier().await.map_err(|error| AuditError::Capture(error.to_string()))
    }
}

/// What brings a lost change to the target. With a directory that was not there, all that is in it; and with one that should not be, whatever stands
/// in its place by then.
pub(super) fn mark(lost: &Drift) -> Mark {
    let is_whole = ["cd+", "*deleting"].iter().any(|item| lost.item.starts_with(item));
    let scope = if is_whole { Scope::Tree } else { Scope::Entry };
    Mark { path: lost.path.clone(), scope, ops: Ops::WRITE | Ops::RESCAN }
}
