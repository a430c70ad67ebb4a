//! Work that several threads take from one stack and add to, until nothing is left.
//!
//! - What was added last is taken first, so a walk goes down before it goes on: what waits are the siblings on the ways down.
//! - A thread that finds nothing waits for as long as another may still add something.
//! - A thread that panics while it works counts as done, so that the others end.

use std::sync::{Condvar, Mutex, MutexGuard};

/// The stack.
pub(super) struct Stack<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    waiting: Vec<T>,
    /// Threads that have taken something and may add to the stack.
    busy: usize,
    asleep: usize,
    ended: bool,
}

/// Something taken from the stack; the thread counts as at work until it is dropped.
pub(super) struct Taken<'a, T> {
    stack: &'a Stack<T>,
    /// What was taken.
    pub item: T,
    /// Goes onto the stack when this is dropped.
    pub added: Vec<T>,
}

impl<T> Stack<T> {
    pub fn new(first: T) -> Self {
        Self { state: Mutex::new(State { waiting: vec![first], busy: 0, asleep: 0, ended: false }), changed: Condvar::new() }
    }

    /// The next piece of work. `None` when there is none left and none can come, or after [`end`](Self::end).
    pub fn take(&self) -> Option<Taken<'_, T>> {
        let mut state = self.lock();
        loop {
            if state.ended {
                return None;
            }
            if let Some(item) = state.waiting.pop() {
                state.busy += 1;
                return Some(Taken { stack: self, item, added: Vec::new() });
            }
            if state.busy == 0 {
                return None;
            }
            state.asleep += 1;
            state = self.changed.wait(state).expect("nothing panics under the lock");
            state.asleep -= 1;
        }
    }

    /// Nothing more is taken.
    pub fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect("nothing panics under the lock")
    }
}

impl<T> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        let mut state = self.stack.lock();
        let added = self.added.len();
        state.waiting.append(&mut self.added);
        state.busy -= 1;
        let (asleep, last) = (state.asleep, state.busy == 0 && state.waiting.is_empty());
        drop(state);
        if asleep > 0 && (last || added > 1) {
            self.stack.changed.notify_all();
        } else if asleep > 0 && added == 1 {
            self.stack.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Every item is a number of further levels, and adds two of one level less.
    fn spread(stack: &Stack<u32>, threads: usize, count: &AtomicU64) {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some(mut taken) = stack.take() {
                        count.fetch_add(1, Ordering::Relaxed);
                        let item = taken.item;
                        taken.added.extend((0..2).filter(|_| item > 0).map(|_| item - 1));
                    }
                });
            }
        });
    }

    #[test]
    fn every_thread_ends_when_everything_was_taken_once() {
        for threads in [1, 2, 5] {
            let count = AtomicU64::new(0);
            spread(&Stack::new(12), threads, &count);
            assert_eq!(count.into_inner(), (1 << 13) - 1);
        }
    }

    #[test]
    fn what_was_added_last_is_taken_first() {
        let stack = Stack::new(0);
        stack.take().unwrap().added.extend([1, 2, 3]);
        assert_eq!(stack.take().map(|taken| taken.item), Some(3));
    }

    #[test]
    fn a_thread_that_waits_hears_of_the_end() {
        let stack = Stack::new(0);
        let busy = stack.take();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| stack.take().is_none());
            stack.end();
            assert!(waiting.join().unwrap());
        });
        drop(busy);
    }

    #[test]
    fn a_panic_does_not_leave_the_others_waiting() {
        let stack = Stack::new(0);
        let panicked = std::thread::scope(|scope| {
            let busy = stack.take();
            scope.spawn(|| while stack.take().is_some() {});
            scope
                .spawn(move || {
                    let _busy = busy;
                    panic!("on purpose");
                })
                .join()
                .is_err()
        });
        assert!(panicked);
    }
}
