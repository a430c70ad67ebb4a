//! Locks that a panic does not take away.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A thread that panicked in the middle of counting has not made the rest useless.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
