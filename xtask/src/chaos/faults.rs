//! Makes things go wrong, and right again.
//!
//! - Faults that last stand beside one another and beside those that do not: trigsync may be killed while its disk is full.
//! - The daemon is down only for as long as a fault says. Where it ends by itself, or does not start, without a fault that explains it,
//!   that is a finding.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use nix::sys::{
    resource::{Resource, getrlimit},
    signal::Signal,
};

use super::{
    finding::Finding,
    plan::{Fault, Step},
    record::Record,
    report::Tally,
    site::{Settings, Site},
};
use crate::interrupt;

const POLL: Duration = Duration::from_millis(20);
/// More files than a tiny queue holds changes.
const FLOOD: u32 = 600;
/// What the daemon did wrong for want of something may show a little after it has it again.
const AFTERMATH: Duration = Duration::from_secs(3);

/// The faults of one round.
pub struct Faults<'a> {
    site: &'a mut Site,
    record: &'a Record,
    tally: &'a mut Tally,
    open: Vec<Open>,
    /// When the daemon comes back, and whether with a tiny queue.
    back: Option<(Instant, bool)>,
    /// A reload was made in this round.
    reloaded: bool,
    /// Until when the daemon may end by itself, and may not start.
    excused: Option<Instant>,
    /// Whether queues may be tiny.
    tiny: bool,
}

/// A fault that lasts.
struct Open {
    fault: Fault,
    until: Instant,
    /// Which rsync daemon.
    index: usize,
    /// Jumps back when it goes.
    _jump: Option<Jump>,
}

impl<'a> Faults<'a> {
    /// None yet. `tiny` says that the daemon's queue may be tiny after some starts.
    pub fn new(site: &'a mut Site, record: &'a Record, tally: &'a mut Tally, tiny: bool) -> Self {
        Self { site, record, tally, open: Vec::new(), back: None, reloaded: false, excused: None, tiny }
    }

    /// Waits, and meanwhile ends what is over and brings the daemon back.
    pub fn wait(&mut self, until: Instant) -> Result<()> {
        loop {
            self.end_where(|open| open.until <= Instant::now())?;
            self.attend()?;
            let now = Instant::now();
            if now >= until {
                return Ok(());
            }
            interrupt::sleep((until - now).min(POLL))?;
        }
    }

    /// Makes one thing go wrong, where that is possible at this moment.
    pub fn make(&mut self, step: &Step) -> Result<()> {
        let index = step.choice as usize % self.site.rsyncds.len();
        if self.open.iter().any(|open| open.fault == step.fault || (busies(open.fault) && busies(step.fault) && open.index == index)) {
            return Ok(());
        }
        let happened = match step.fault {
            Fault::Kill => self.kill(step)?,
            Fault::Stop => self.stop(step)?,
            Fault::Children => self.kill_a_child(step)?,
            Fault::Overflow => self.overflow(step)?,
            Fault::Reload => self.reload(step)?,
            Fault::Files => self.limit_files(step)?,
            Fault::Freeze => {
                self.site.rsyncds[index].freeze();
                true
            }
            Fault::Restart => {
                self.site.rsyncds[index].kill()?;
                true
            }
            Fault::FullTarget => self.site.disks.as_ref().map_or(Ok(false), |disks| disks.target.fill().map(|()| true))?,
            Fault::FullState => self.site.disks.as_ref().map_or(Ok(false), |disks| disks.state.fill().map(|()| true))?,
            Fault::Clock => true,
        };
        if !happened {
            return Ok(());
        }
        self.tally.count(step.fault);
        self.note(format!("{} for {:?}, choice {}", step.fault.name(), step.lasts, step.choice));
        if !matches!(step.fault, Fault::Kill | Fault::Stop | Fault::Children | Fault::Overflow) {
            let jump = (step.fault == Fault::Clock).then(|| Jump::by(i64::from(step.choice % 7200) - 3600)).transpose()?;
            self.open.push(Open { fault: step.fault, until: Instant::now() + step.lasts, index, _jump: jump });
        }
        Ok(())
    }

    /// Ends all of it: targets up, disks free, the first configuration, the daemon running.
    pub fn end(mut self) -> Result<()> {
        self.end_where(|_| true)?;
        while self.site.daemon.is_none() {
            self.attend()?;
            interrupt::sleep(POLL)?;
        }
        if self.reloaded {
            self.site.configure(Settings::default())?;
            let before = self.reloads()?;
            self.site.daemon.as_ref().expect("it was waited for").signal(Signal::SIGHUP);
            let deadline = Instant::now() + Duration::from_secs(60);
            while self.reloads()? == before {
                self.attend()?;
                if Instant::now() > deadline {
                    bail!(Finding::misconduct("trigsync does not answer SIGHUP within a minute".to_owned()));
                }
                interrupt::sleep(POLL)?;
            }
        }
        self.attend()
    }

    /// How many reloads the log tells of.
    fn reloads(&self) -> Result<usize> {
        Ok(fs::read_to_string(&self.site.launch.log)?.matches("the configuration was").count())
    }

    fn note(&self, what: String) {
        self.record.note("fault", what, Vec::new());
    }

    fn end_where(&mut self, is_over: impl Fn(&Open) -> bool) -> Result<()> {
        let over: Vec<_> = self.open.extract_if(.., |open| is_over(open)).collect();
        for open in over {
            match open.fault {
                Fault::Freeze => self.site.rsyncds[open.index].thaw(),
                Fault::Restart => self.site.rsyncds[open.index].restart()?,
                Fault::FullTarget => self.site.disks.as_ref().expect("it was filled").target.free()?,
                Fault::FullState => self.site.disks.as_ref().expect("it was filled").state.free()?,
                Fault::Reload => self.configure(Settings::default())?,
                Fault::Files => self.lift_limit()?,
                Fault::Kill | Fault::Stop | Fault::Children | Fault::Overflow | Fault::Clock => {}
            }
            if excuses(open.fault) {
                self.excused = Some(Instant::now() + AFTERMATH);
            }
            self.note(format!("{} is over", open.fault.name()));
        }
        Ok(())
    }

    fn is_excused(&self) -> bool {
        self.open.iter().any(|open| excuses(open.fault)) || self.excused.is_some_and(|until| Instant::now() < until)
    }

    /// Looks after the daemon: has it ended by itself, is it time to start it?
    fn attend(&mut self) -> Result<()> {
        if let Some(daemon) = &mut self.site.daemon {
            let Some(status) = daemon.ended()? else { return Ok(()) };
            if !self.is_excused() {
                bail!(Finding::misconduct(format!("trigsync ended by itself: {status}")));
            }
            self.site.daemon = None;
            self.tally.own_ends += 1;
            self.note(format!("trigsync ended by itself: {status}"));
        }
        let (at, tiny) = self.back.unwrap_or((Instant::now(), false));
        if Instant::now() >= at && !self.start(tiny)? {
            self.back = Some((Instant::now() + Duration::from_millis(300), tiny));
        }
        Ok(())
    }

    /// Whether it started. That it does not is a finding, unless a fault explains it.
    fn start(&mut self, tiny: bool) -> Result<bool> {
        match self.site.launch.start(tiny) {
            Ok(daemon) => {
                self.note(format!("trigsync is up{}", if tiny { ", with a tiny queue" } else { "" }));
                self.site.daemon = Some(daemon);
                self.back = None;
                Ok(true)
            }
            Err(error) => {
                interrupt::check()?;
                if !self.is_excused() {
                    bail!(Finding::misconduct(format!("{error:#}")));
                }
                self.tally.refused_starts += 1;
                self.note(format!("trigsync does not start: {error:#}"));
                Ok(false)
            }
        }
    }

    fn kill(&mut self, step: &Step) -> Result<bool> {
        let Some(daemon) = self.site.daemon.take() else { return Ok(false) };
        // With what it has started, as the kernel does for want of memory in a whole unit; or alone.
        let children = if step.choice.is_multiple_of(2) { daemon.children() } else { Vec::new() };
        daemon.kill()?;
        for child in children {
            child.signal(Signal::SIGKILL);
        }
        self.back = Some(self.comeback(step));
        Ok(true)
    }

    fn stop(&mut self, step: &Step) -> Result<bool> {
        let Some(daemon) = self.site.daemon.take() else { return Ok(false) };
        let status = daemon.stop()?;
        if !status.success() && !self.is_excused() {
            bail!(Finding::misconduct(format!("after SIGTERM trigsync ended with {status}")));
        }
        self.back = Some(self.comeback(step));
        Ok(true)
    }

    fn comeback(&self, step: &Step) -> (Instant, bool) {
        (Instant::now() + step.lasts, self.tiny && step.choice.is_multiple_of(3))
    }

    /// Children come and go within milliseconds: waits a moment for one.
    fn kill_a_child(&mut self, step: &Step) -> Result<bool> {
        let signal = if step.choice.is_multiple_of(3) { Signal::SIGTERM } else { Signal::SIGKILL };
        let deadline = Instant::now() + Duration::from_millis(300);
        while let Some(daemon) = &self.site.daemon {
            let children = daemon.children();
            if !children.is_empty() && children[step.choice as usize % children.len()].signal(signal) {
                return Ok(true);
            }
            if Instant::now() > deadline {
                break;
            }
            interrupt::sleep(Duration::from_millis(1))?;
        }
        Ok(false)
    }

    fn overflow(&mut self, step: &Step) -> Result<bool> {
        let Some(daemon) = &self.site.daemon else { return Ok(false) };
        if !daemon.tiny {
            let stopped = self.site.daemon.take().expect("looked at above").stop()?;
            self.note(format!("stopped for a tiny queue: {stopped}"));
            if !self.start(true)? {
                return Ok(false);
            }
        }
        let Some(before) = self.site.launch.status() else { return Ok(false) };
        let daemon = self.site.daemon.as_ref().expect("it runs, or was started above");
        daemon.signal(Signal::SIGSTOP);
        let flooded = self.flood(step.choice);
        daemon.signal(Signal::SIGCONT);
        flooded.context("flooding the source")?;
        self.record.note("fault", format!("flood of {FLOOD} files, {}", step.choice), vec!["flood".into()]);
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if self.site.launch.status().is_some_and(|now| now.capture.overflows > before.capture.overflows) {
                self.tally.overflows += 1;
                break;
            }
            interrupt::sleep(POLL)?;
        }
        Ok(true)
    }

    fn flood(&self, content: u32) -> std::io::Result<()> {
        let directory = self.site.source.join("flood");
        fs::create_dir_all(&directory)?;
        (0..FLOOD).try_for_each(|number| fs::write(directory.join(number.to_string()), format!("{content} {number}\n")))
    }

    fn reload(&mut self, step: &Step) -> Result<bool> {
        let settings = match step.choice % 5 {
            0 => Settings { filter: true, ..Settings::default() },
            1 => Settings { slow: true, ..Settings::default() },
            // One that is neither frozen nor killed counts as well: all three may go.
            other => Settings { without: Some(other as usize - 2), ..Settings::default() },
        };
        self.configure(settings)?;
        self.reloaded = true;
        Ok(true)
    }

    fn configure(&self, settings: Settings) -> Result<()> {
        self.site.configure(settings)?;
        if let Some(daemon) = &self.site.daemon {
            daemon.signal(Signal::SIGHUP);
        }
        Ok(())
    }

    fn limit_files(&mut self, step: &Step) -> Result<bool> {
        let Some(daemon) = &self.site.daemon else { return Ok(false) };
        daemon.limit_files(daemon.open_files() as u64 + u64::from(step.choice % 6))?;
        Ok(true)
    }

    /// The daemon may have been started anew since, without the limit; or it may have ended.
    fn lift_limit(&mut self) -> Result<()> {
        let (usual, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let Some(daemon) = &mut self.site.daemon else { return Ok(()) };
        match daemon.limit_files(usual) {
            Err(error) if daemon.ended()?.is_none() => Err(error),
            _ => Ok(()),
        }
    }
}

/// Faults of an rsync daemon, of which one at a time is enough.
fn busies(fault: Fault) -> bool {
    matches!(fault, Fault::Freeze | Fault::Restart)
}

/// Whether the daemon may end by itself, or not start, for this.
fn excuses(fault: Fault) -> bool {
    matches!(fault, Fault::FullState | Fault::Files)
}

/// The machine's clock is wrong by so many seconds, until this goes.
struct Jump(i64);

impl Jump {
    fn by(seconds: i64) -> Result<Self> {
        shift_clock(seconds).map(|()| Self(seconds))
    }
}

impl Drop for Jump {
    fn drop(&mut self) {
        if let Err(error) = shift_clock(-self.0) {
            eprintln!("the clock of this machine is {} seconds off: {error:#}", self.0);
        }
    }
}

fn shift_clock(seconds: i64) -> Result<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock is before 1970")?;
    let then = now.as_secs_f64() + seconds as f64;
    let output = Command::new("date").arg(format!("--set=@{then:.6}")).output().context("date does not start")?;
    if !output.status.success() {
        bail!("date --set failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
