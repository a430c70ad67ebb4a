//! The epoch rule, model-checked: every interleaving and every stale read that the memory model allows, of two writers and the daemon.
//!
//! The programs in the kernel tell of a file once in an epoch and are silent until the next. What they and the daemon do, in which order:
//!
//! - a writer writes; then its hook reads the epoch, and where the file was told in it already, it is silent. Else it submits a record, and
//!   *then* notes the epoch as the file's entry, so that whoever is silent because of the entry can rely on the record being in the ring;
//! - a barrier (`Capture::barrier`) raises the epoch, then drains the ring into the dirty set;
//! - a lane takes from the set what it will look at, *then* has the epoch raised (`Capture::cut`), then looks. A mark may come from a record of the newest
//!   epoch; looked at without a raise in between, it would be gone while writers are still silent because of it.
//!
//! Two threads that each write one word and then read the other's may both read the old value unless each has a full fence in between.
//! In the kernel there are locked instructions between the copying of the data (under the inode's or the page's lock) and the hook, and
//! the daemon raises the epoch and reads the file with system calls. Loom gives sequential consistency to fences alone, so they stand here.

use loom::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release, Ordering::SeqCst, fence},
    },
    thread,
};

/// What is done otherwise than the rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutation {
    None,
    /// The barrier drains the ring, and then raises the epoch.
    DrainBeforeRaise,
    /// The lane looks, and then has the epoch raised.
    LookBeforeRaise,
    /// The lane takes and looks after the barrier, without a raise in between.
    NoRaiseAfterTake,
    /// The hook notes the epoch before the record is in the ring.
    EntryBeforeRecord,
    /// The hook runs before the operation, not after it.
    HookBeforeWrite,
    /// Nothing orders the write before the reading of the epoch.
    NoFence,
}

const FIRST: usize = 1;

/// One file, as seen by two writers, the programs in the kernel and the daemon.
struct Kernel {
    mutation: Mutation,
    /// What each writer has written.
    data: [AtomicUsize; 2],
    /// Which writers have returned from their system call.
    finished: [AtomicUsize; 2],
    epoch: AtomicUsize,
    /// The epoch in which the file was told last.
    entry: AtomicUsize,
    /// Records that were submitted so far, all of this file.
    ring: AtomicUsize,
}

impl Kernel {
    fn new(mutation: Mutation) -> Self {
        let zeros = || [AtomicUsize::new(0), AtomicUsize::new(0)];
        let (data, finished) = (zeros(), zeros());
        Self { mutation, data, finished, epoch: AtomicUsize::new(FIRST), entry: AtomicUsize::new(0), ring: AtomicUsize::new(0) }
    }

    /// A system call that writes.
    fn write(&self, writer: usize) {
        if self.mutation == Mutation::HookBeforeWrite {
            self.hook();
        }
        self.data[writer].store(1, Relaxed);
        if self.mutation != Mutation::NoFence {
            fence(SeqCst);
        }
        if self.mutation != Mutation::HookBeforeWrite {
            self.hook();
        }
        self.finished[writer].store(1, Release);
    }

    fn hook(&self) {
        let epoch = self.epoch.load(Relaxed);
        // The ring's own exchange stands between the record and the entry, so whoever finds the entry may rely on the record.
        if self.entry.load(Acquire) == epoch {
            return;
        }
        if self.mutation == Mutation::EntryBeforeRecord {
            self.entry.store(epoch, Release);
        }
        self.ring.fetch_add(1, Release);
        self.entry.store(epoch, Release);
    }
}

/// The reading side: how far it has read, whether the file is marked, and which writes it has seen when it looked.
struct Daemon {
    epoch: usize,
    read: usize,
    marked: bool,
    looked_at: [bool; 2],
}

impl Daemon {
    fn new() -> Self {
        Self { epoch: FIRST, read: 0, marked: false, looked_at: [false; 2] }
    }

    fn raise(&mut self, kernel: &Kernel) {
        self.epoch += 1;
        kernel.epoch.store(self.epoch, Relaxed);
        fence(SeqCst);
    }

    fn drain(&mut self, kernel: &Kernel) {
        let submitted = kernel.ring.load(Acquire);
        self.marked |= submitted > self.read;
        self.read = submitted;
    }

    fn barrier(&mut self, kernel: &Kernel) {
        self.raise(kernel);
        self.drain(kernel);
    }

    /// The lane: take, raise, look.
    fn batch(&mut self, kernel: &Kernel) {
        let taken = std::mem::take(&mut self.marked);
        if kernel.mutation == Mutation::LookBeforeRaise {
            self.look(kernel, taken);
        }
        if kernel.mutation != Mutation::NoRaiseAfterTake {
            // What a barrier drains besides waits for the next batch.
            self.raise(kernel);
        }
        if kernel.mutation != Mutation::LookBeforeRaise {
            self.look(kernel, taken);
        }
    }

    fn look(&mut self, kernel: &Kernel, taken: bool) {
        if taken {
            self.looked_at = [0, 1].map(|writer| kernel.data[writer].load(Relaxed) == 1);
        }
    }

    /// A barrier, and a batch after it: what `trigsync flush` waits for. What was finished before the raise has been looked at then.
    fn round(&mut self, kernel: &Kernel) {
        if kernel.mutation == Mutation::DrainBeforeRaise {
            self.drain(kernel);
        }
        let finished = [0, 1].map(|writer| kernel.finished[writer].load(Acquire) == 1);
        match kernel.mutation {
            Mutation::DrainBeforeRaise => self.raise(kernel),
            _ => self.barrier(kernel),
        }
        self.batch(kernel);
        for (finished, looked_at) in finished.into_iter().zip(self.looked_at) {
            assert!(!finished || looked_at, "a write from before the barrier was not looked at");
        }
    }
}

/// Two writers write once each, while the daemon goes through its rounds; and once they have ended, through another.
fn check(mutation: Mutation) {
    let mut model = loom::model::Builder::new();
    // Every mutation is caught with two preemptions; four find no more and take five times as long as three.
    model.preemption_bound = Some(3);
    model.check(move || {
        let kernel = Arc::new(Kernel::new(mutation));
        let writers = [0, 1].map(|writer| {
            let kernel = kernel.clone();
            thread::spawn(move || kernel.write(writer))
        });
        let mut daemon = Daemon::new();
        daemon.round(&kernel);
        for writer in writers {
            writer.join().expect("a writer does not panic");
        }
        // Whatever was submitted is taken and looked at some time. Nothing that happens from here on could tell of a silent write.
        daemon.drain(&kernel);
        daemon.batch(&kernel);
        assert_eq!(daemon.looked_at, [true, true], "a write was silent and yet not looked at");
    });
}

#[test]
fn no_write_is_both_silent_and_unsent() {
    check(Mutation::None);
}

#[test]
#[should_panic(expected = "a write from before the barrier was not looked at")]
fn draining_before_the_raise_is_wrong() {
    check(Mutation::DrainBeforeRaise);
}

#[test]
#[should_panic(expected = "a write was silent and yet not looked at")]
fn looking_before_the_raise_is_wrong() {
    check(Mutation::LookBeforeRaise);
}

#[test]
#[should_panic(expected = "a write was silent and yet not looked at")]
fn looking_at_a_record_of_the_same_epoch_is_wrong() {
    check(Mutation::NoRaiseAfterTake);
}

#[test]
#[should_panic(expected = "a write from before the barrier was not looked at")]
fn an_entry_before_its_record_is_wrong() {
    check(Mutation::EntryBeforeRecord);
}

#[test]
#[should_panic(expected = "a write was silent and yet not looked at")]
fn a_hook_before_the_write_is_wrong() {
    check(Mutation::HookBeforeWrite);
}

#[test]
#[should_panic(expected = "a write was silent and yet not looked at")]
fn a_write_that_nothing_orders_before_its_hook_is_wrong() {
    check(Mutation::NoFence);
}
