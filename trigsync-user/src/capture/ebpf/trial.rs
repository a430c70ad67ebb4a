//! The proof of a new capture: changes that are made on purpose have to be told.
//!
//! That a program is attached does not say that it runs: compilers put functions into their callers, where nothing hangs (`vfs_rmdir` of
//! Linux 5.10, though its symbol and its type are there). Only trying shows it.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use nix::{
    sys::stat::{Mode, SFlag, mknod},
    unistd::truncate,
};
use tracing::debug;

use super::Ebpf;
use crate::{
    capture::{CaptureError, Event, Sink, Source as _, WatchedRoot},
    model::{Ops, RootId},
};

/// No root that is asked for has this number.
const ROOT: RootId = RootId(u32::MAX);

/// Attempts at each change: a probe may miss a call.
const ATTEMPTS: usize = 2;

/// A change: what it is in words, how it is made in a directory, and the name and the operation that have to be told.
struct Step {
    what: &'static str,
    make: fn(&Path) -> io::Result<()>,
    /// What makes it possible once more.
    undo: fn(&Path) -> io::Result<()>,
    told: (&'static str, Ops),
}

fn nothing(_: &Path) -> io::Result<()> {
    Ok(())
}

static STEPS: [Step; 12] = [
    Step {
        what: "a file that is made",
        make: |at| File::create_new(at.join("made")).map(drop),
        undo: |at| fs::remove_file(at.join("made")),
        told: ("made", Ops::CREATE),
    },
    Step {
        what: "a file that is written to",
        make: |at| OpenOptions::new().append(true).open(at.join("made"))?.write_all(b"x"),
        undo: nothing,
        told: ("made", Ops::WRITE),
    },
    Step {
        what: "a file that is closed",
        make: |at| OpenOptions::new().append(true).open(at.join("made")).map(drop),
        undo: nothing,
        told: ("made", Ops::CLOSE_WRITE),
    },
    Step {
        what: "a mode that is changed",
        make: |at| fs::set_permissions(at.join("made"), Permissions::from_mode(0o600)),
        undo: nothing,
        told: ("made", Ops::ATTRIB),
    },
    Step {
        what: "a file that is truncated",
        make: |at| truncate(&at.join("made"), 0).map_err(Into::into),
        undo: nothing,
        told: ("made", Ops::WRITE),
    },
    Step {
        what: "a hard link that is made",
        make: |at| fs::hard_link(at.join("made"), at.join("linked")),
        undo: |at| fs::remove_file(at.join("linked")),
        told: ("linked", Ops::CREATE),
    },
    Step {
        what: "a symbolic link that is made",
        make: |at| symlink("made", at.join("symbolic")),
        undo: |at| fs::remove_file(at.join("symbolic")),
        told: ("symbolic", Ops::CREATE),
    },
    Step {
        what: "a named pipe that is made",
        make: |at| mknod(&at.join("pipe"), SFlag::S_IFIFO, Mode::S_IRUSR, 0).map_err(Into::into),
        undo: |at| fs::remove_file(at.join("pipe")),
        told: ("pipe", Ops::CREATE),
    },
    Step {
        what: "a directory that is made",
        make: |at| fs::create_dir(at.join("directory")),
        undo: |at| fs::remove_dir(at.join("directory")),
        told: ("directory", Ops::CREATE),
    },
    Step {
        what: "an entry that is renamed",
        make: |at| fs::rename(at.join("made"), at.join("renamed")),
        undo: |at| fs::rename(at.join("renamed"), at.join("made")),
        told: ("renamed", Ops::MOVED_TO),
    },
    Step {
        what: "a file that is removed",
        make: |at| fs::remove_file(at.join("renamed")),
        undo: |at| File::create_new(at.join("renamed")).map(drop),
        told: ("renamed", Ops::DELETE),
    },
    Step {
        what: "a directory that is removed",
        make: |at| fs::remove_dir(at.join("directory")),
        undo: |at| fs::create_dir(at.join("directory")),
        told: ("directory", Ops::DELETE),
    },
];

/// Makes every change in a directory of its own, and fails where one is not told. Does nothing where there is no place to try in.
pub(super) fn run(capture: &mut Ebpf) -> Result<(), CaptureError> {
    let place = match tempfile::Builder::new().prefix("trigsync-trial-").tempdir() {
        Ok(place) => place,
        Err(error) => {
            debug!(%error, "no place to try the capture in");
            return Ok(());
        }
    };
    let path = place.path().canonicalize().map_err(|source| CaptureError::io("looking for", place.path(), source))?;
    capture.add_root(ROOT, &WatchedRoot { sees_own: true, ..WatchedRoot::all(path.clone()) })?;
    let untold =
        STEPS.iter().map(|step| is_told(capture, &path, step).map(|told| (!told).then_some(step.what))).collect::<Result<Vec<_>, _>>();
    capture.remove_root(ROOT);
    let untold: Vec<_> = untold.map_err(|source| CaptureError::io("trying the capture in", &path, source))?.into_iter().flatten().collect();
    if untold.is_empty() {
        return Ok(());
    }
    Err(CaptureError::Silent(untold.join(", ")))
}

/// Whether a step is told, or could not be made: then nothing is known.
fn is_told(capture: &mut Ebpf, at: &Path, step: &Step) -> io::Result<bool> {
    for attempt in 0..ATTEMPTS {
        let undone = if attempt > 0 { (step.undo)(at) } else { Ok(()) };
        // What the steps before told is not told again in the same epoch.
        read_all(capture, &mut Wanted { told: step.told, seen: false })?;
        if let Err(error) = undone.and_then(|()| (step.make)(at)) {
            debug!(step.what, %error, "could not be tried");
            return Ok(true);
        }
        let mut wanted = Wanted { told: step.told, seen: false };
        read_all(capture, &mut wanted)?;
        if wanted.seen {
            return Ok(true);
        }
    }
    Ok(false)
}

fn read_all(capture: &mut Ebpf, sink: &mut Wanted) -> io::Result<()> {
    capture.barrier()?;
    while capture.read(sink)? > 0 {}
    Ok(())
}

/// Looks for one operation at one name.
struct Wanted {
    told: (&'static str, Ops),
    seen: bool,
}

impl Sink for Wanted {
    fn event(&mut self, event: Event<'_>) {
        if let Event::Changed { root: ROOT, path, ops, .. } = event {
            self.seen |= path.as_bytes() == self.told.0.as_bytes() && ops.contains(self.told.1);
        }
    }

    fn delivered(&mut self) {}
}
