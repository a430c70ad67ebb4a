//! The cut between two epochs, which a lane makes before it looks at the source.
//!
//! A tier that folds in the kernel tells of a file once in an epoch. A lane takes its marks, *then* has the epoch raised, then looks: a
//! write that was silent because of a record of these marks had read the old epoch, so its data is there; a later one is told again. Marks
//! must not be taken after the raise: they may come from records of the new epoch, whose silent writers come after the look.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::capture::{Capture, CaptureError};

/// Makes cuts. Costs nothing where the tier does not fold.
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(Default))]
pub struct Cut(Option<Arc<Capture>>);

impl Cut {
    /// Cuts of what this capture tells.
    pub fn of(capture: &Arc<Capture>) -> Self {
        Self(capture.tier().folds().then(|| capture.clone()))
    }

    /// While a file is being written: when to ask again whether it is, after it was asked at `asked`. A tier that folds tells of such a file
    /// once and then no more, which would look like quiet: new epochs have to begin several times within the quiet time.
    pub(super) fn ask_at(&self, asked: Instant, quiet: Duration) -> Option<Instant> {
        self.0.as_ref().map(|_| asked + quiet / 2)
    }

    /// Has the tier tell again of what goes on, and returns when it was asked.
    pub(super) fn ask_again(&self) -> Instant {
        if let Some(capture) = &self.0 {
            capture.cut_soon();
        }
        Instant::now()
    }

    /// What was taken before the call may be looked at after it.
    pub(super) async fn make(&self) -> Result<(), CaptureError> {
        match &self.0 {
            Some(capture) => capture.cut().await,
            None => Ok(()),
        }
    }
}
