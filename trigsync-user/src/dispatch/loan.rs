//! A connection of a lane, lent while the lane does not need it.
//!
//! A lane never runs more than its connections, what was lent included; where it wants all of them it calls the loan back, and whoever has
//! it ends what it does. A lane that is never idle would lend nothing: whoever has waited for long enough comes before its next run, and is
//! not called back.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::lock::lock;

/// What a lane has lent; at most one connection.
#[derive(Debug)]
pub struct Loans {
    state: Mutex<State>,
    /// The lane's.
    wake: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    asked: Option<Asked>,
    /// The lender's side of a loan.
    lent: Option<Lent>,
}

#[derive(Debug)]
struct Asked {
    grant: oneshot::Sender<Loan>,
    /// From then on it comes first.
    urgent_at: Instant,
}

#[derive(Debug)]
struct Lent {
    recall: CancellationToken,
    /// It is not called back.
    firm: bool,
}

/// A connection that may be used until it is dropped. It should be, soon after it is called back.
#[derive(Debug)]
pub struct Loan {
    lender: Arc<Loans>,
    recall: CancellationToken,
}

impl Loan {
    /// Resolves when the lane wants it back.
    pub async fn recalled(&self) {
        self.recall.cancelled().await;
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        lock(&self.lender.state).lent = None;
        self.lender.wake.notify_one();
    }
}

impl Loans {
    /// Nothing is lent. The lane is told by `wake` of what concerns it.
    pub(super) fn new(wake: Arc<Notify>) -> Self {
        Self { state: Mutex::default(), wake }
    }

    /// A connection, as soon as the lane can do without; after `patience`, as soon as one of its runs ends. Asked for by one at a time.
    pub async fn borrow(&self, patience: Duration) -> Loan {
        let urgent_at = Instant::now() + patience;
        loop {
            let (grant, granted) = oneshot::channel();
            lock(&self.state).asked = Some(Asked { grant, urgent_at });
            self.wake.notify_one();
            // Were there others that ask, they would take turns.
            if let Ok(loan) = granted.await {
                return loan;
            }
        }
    }

    /// Whether somebody waits for a connection.
    pub(super) fn is_asked_for(&self) -> bool {
        lock(&self.state).asked.as_ref().is_some_and(|asked| !asked.grant.is_closed())
    }

    /// Whether somebody has waited for long enough.
    pub(super) fn is_urgent(&self) -> bool {
        lock(&self.state).asked.as_ref().is_some_and(|asked| !asked.grant.is_closed() && asked.urgent_at <= Instant::now())
    }

    /// Gives one to whoever has asked.
    pub(super) fn lend(self: &Arc<Self>) {
        let recall = CancellationToken::new();
        let asked = {
            let mut state = lock(&self.state);
            let asked = state.asked.take();
            let firm = asked.as_ref().is_some_and(|asked| asked.urgent_at <= Instant::now());
            state.lent = Some(Lent { recall: recall.clone(), firm });
            asked
        };
        let loan = Loan { lender: self.clone(), recall };
        // Where nobody waits any more it comes back at once.
        let _ = asked.map(|asked| asked.grant.send(loan));
    }

    /// Connections that are lent.
    pub(super) fn lent(&self) -> usize {
        usize::from(lock(&self.state).lent.is_some())
    }

    /// Of these, those that were called back, or cannot be.
    pub(super) fn recalled(&self) -> usize {
        usize::from(lock(&self.state).lent.as_ref().is_some_and(|lent| lent.firm || lent.recall.is_cancelled()))
    }

    /// Wants back what is lent.
    pub(super) fn recall(&self) {
        if let Some(Lent { recall, firm: false }) = &lock(&self.state).lent {
            recall.cancel();
        }
    }
}
