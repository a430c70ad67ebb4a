//! Ctrl-C and termination as a flag, so that the guards that end processes and remove directories run.
//!
//! From [`watch`] on, SIGINT, SIGTERM and SIGHUP no longer end the process: whoever waits has to call [`check`] now and then.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static ASKED_TO_END: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From now on signals that ask to end only set the flag.
pub fn watch() -> Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&ASKED_TO_END)).context("a signal handler cannot be set")?;
    }
    Ok(())
}

/// An error once a signal asked to end.
pub fn check() -> Result<()> {
    if ASKED_TO_END.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

/// Sleeps, and ends early with an error where a signal asks to end.
pub fn sleep(duration: Duration) -> Result<()> {
    let until = Instant::now() + duration;
    loop {
        check()?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(Duration::from_millis(50)));
    }
}
