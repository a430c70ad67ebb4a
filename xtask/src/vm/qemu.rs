//! One guest, from its start to its end.
//!
//! - The guest's console goes to a file and, where it is asked for, to the terminal; what the guest reports comes by a second serial port.
//! - A guest that is silent for too long is ended by the number of its process, and the last lines of its console are in the error.

use std::{
    collections::VecDeque,
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};

use super::report::Line;
use crate::{interrupt, packages, process::Running};

/// Lines of the console in an error.
const TAIL: usize = 25;

/// How long a kernel without a file system may take to panic, when hardware virtualisation is tried. It takes less than two seconds
/// where that works; there are machines with a /dev/kvm on which the guest never gets anywhere.
const TRIAL: Duration = Duration::from_secs(15);

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// qemu's translator: ten times slower, and works everywhere.
    Tcg,
}

/// One guest.
pub struct Guest<'a> {
    /// The bzImage.
    pub image: &'a Path,
    /// Every archive of its first file system, one after another.
    pub initramfs: &'a Path,
    /// Where the console is kept.
    pub console: &'a Path,
    /// What stands before its lines on the terminal, where they are wanted there.
    pub shown_as: Option<&'a str>,
    /// Whether it has one processor, whose clock is the number of instructions.
    pub counts: bool,
    /// How long it may be silent.
    pub limit: Duration,
}

/// How a guest ended.
#[derive(Debug)]
pub enum Ended {
    /// It ran all that was planned.
    Done,
    /// It did not, by the fault of what ran it ([`TRIPPED`]): this says nothing of what it ran.
    Tripped,
    /// It did not, with the last lines of its console.
    Lost(anyhow::Error),
}

/// What a kernel says that met a breakpoint which is no longer there. Kernels put one where they are about to change an instruction, and
/// take it back when every processor has been told; qemu's translator may run the old translation after that. It happens where functions
/// are hooked and released all the time, about once in a hundred guests; a processor cannot do it.
const TRIPPED: &str = "int3: 0000 [#1]";

enum Heard {
    Report(String),
    Console(String),
}

impl Guest<'_> {
    /// Runs the guest to its end and hands on what it reports. An error means that it could not be started, or was interrupted.
    pub fn run(&self, accelerator: Accelerator, mut take: impl FnMut(Line)) -> Result<Ended> {
        let mut log = File::create(self.console).with_context(|| format!("writing {}", self.console.display()))?;
        let accelerator = if self.counts { Accelerator::Tcg } else { accelerator };
        let mut qemu = command(accelerator)?;
        match self.counts {
            true => qemu.args(["-smp", "1", "-icount", "shift=0,sleep=off"]),
            false => qemu.args(["-smp", "2"]),
        };
        let loud = if self.shown_as.is_some() { "loglevel=7" } else { "loglevel=4" };
        qemu.arg("-kernel").arg(self.image).arg("-initrd").arg(self.initramfs);
        // The clock has to be the one that counts instructions; kernels differ in how much they trust it.
        let clock = if self.counts { " tsc=reliable" } else { "" };
        qemu.args(["-append", &format!("console=ttyS0 {loud} panic=-1 reboot=t random.trust_cpu=on rcupdate.rcu_expedited=1{clock}")]);
        // qemu opens its own standard error as the first serial port, so that its own complaints stand among the console's lines.
        qemu.args(["-serial", "file:/dev/stderr", "-serial", "stdio"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Running::start(&mut qemu)?;
        let (sender, heard) = channel();
        listen(running.stdout().context("it is piped")?, sender.clone(), Heard::Report);
        listen(running.stderr().context("it is piped")?, sender, Heard::Console);
        let mut heard_at = Instant::now();
        let mut tail = VecDeque::new();
        let (mut done, mut tripped) = (false, false);
        let ended = loop {
            interrupt::check()?;
            match heard.recv_timeout(Duration::from_millis(200)) {
                Ok(Heard::Report(line)) => {
                    heard_at = Instant::now();
                    match serde_json::from_str(&line) {
                        Ok(Line::Done) => done = true,
                        Ok(line) => take(line),
                        Err(error) => bail!("the guest reports something that is no report ({error}): {line}"),
                    }
                }
                Ok(Heard::Console(line)) => {
                    writeln!(log, "{line}")?;
                    if let Some(name) = self.shown_as {
                        println!("{name}: {line}");
                    }
                    tripped |= is_of_the_translator(accelerator, &line);
                    tail.push_back(line);
                    if tail.len() > TAIL {
                        tail.pop_front();
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break "ended before it was done".to_owned(),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if heard_at.elapsed() >= self.limit {
                break format!("reported nothing for {} s", self.limit.as_secs());
            }
        };
        Ok(match (done, tripped) {
            (true, _) => Ended::Done,
            (false, true) => Ended::Tripped,
            (false, false) => Ended::Lost(self.lost(&ended, &tail)),
        })
    }

    fn lost(&self, how: &str, tail: &VecDeque<String>) -> anyhow::Error {
        let tail: Vec<_> = tail.iter().map(|line| format!("    {line}")).collect();
        anyhow!("the guest {how}; its console ({}) ends with\n{}", self.console.display(), tail.join("\n"))
    }
}

fn is_of_the_translator(accelerator: Accelerator, line: &str) -> bool {
    accelerator == Accelerator::Tcg && line.contains(TRIPPED)
}

fn listen(stream: impl Read + Send + 'static, to: Sender<Heard>, kind: fn(String) -> Heard) {
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            if to.send(kind(String::from_utf8_lossy(&line).trim_end().to_owned())).is_err() {
                return;
            }
        }
    });
}

/// qemu with the devices that every guest has: two serial ports, and nothing else.
fn command(accelerator: Accelerator) -> Result<Command> {
    let mut qemu = Command::new(packages::qemu().context("no qemu for x86-64 here")?);
    let (accelerator, processor) = match accelerator {
        Accelerator::Kvm => ("kvm", "host"),
        // qemu 7.2 at times leaves wrong flags behind cmpxchg16b, and a kernel that allocates with it dies; without it it takes a lock.
        Accelerator::Tcg => ("tcg", "max,cx16=off"),
    };
    qemu.args(["-machine", "pc", "-accel", accelerator, "-cpu", processor, "-m", "1536", "-display", "none", "-nodefaults", "-no-reboot"]);
    Ok(qemu)
}

/// Tries hardware virtualisation with a kernel that is given nothing, and so panics at once where it runs.
pub fn accelerator(image: &Path) -> Result<Accelerator> {
    if File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return Ok(Accelerator::Tcg);
    }
    let mut qemu = command(Accelerator::Kvm)?;
    qemu.arg("-kernel").arg(image).args(["-append", "panic=-1 reboot=t"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut running = Running::start(&mut qemu)?;
    let until = Instant::now() + TRIAL;
    while Instant::now() < until {
        if let Some(status) = running.ended()? {
            return Ok(if status.success() { Accelerator::Kvm } else { Accelerator::Tcg });
        }
        interrupt::sleep(Duration::from_millis(100))?;
    }
    println!("/dev/kvm is here, but a guest gets nowhere with it; going on without");
    Ok(Accelerator::Tcg)
}

/// How the console of a guest is called, beside its results.
pub fn console_of(directory: &Path, release: &str, counts: bool) -> PathBuf {
    directory.join(format!("{release}{}.console", if counts { "-counting" } else { "" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_breakpoint_under_the_translator_is_its_fault() {
        let is = is_of_the_translator;
        assert!(is(Accelerator::Tcg, "[  279.834555] Oops: int3: 0000 [#1] SMP NOPTI"));
        assert!(is(Accelerator::Tcg, "[    3.093098] int3: 0000 [#1] PREEMPT SMP NOPTI"));
        assert!(!is(Accelerator::Kvm, "[  279.834555] Oops: int3: 0000 [#1] SMP NOPTI"));
        // A second one follows from another.
        assert!(!is(Accelerator::Tcg, "[  279.834555] Oops: int3: 0000 [#2] SMP NOPTI"));
        assert!(!is(
            Accelerator::Tcg,
            "[  279.834555] Oops: general protection fault, probably for non-canonical address: 0000 [#1] SMP NOPTI"
        ));
    }
}
