//! What `/proc` tells about one process: processor time, voluntary context switches, resident memory. And of the kernel, its small allocations.

use std::fs;

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};

/// Counters that only grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Usage {
    /// Seconds of processor time, user and system, of all threads.
    pub(crate) seconds: f64,
    /// How often its threads went to sleep of their own will, which is how often they were woken.
    pub(crate) voluntary_switches: u64,
}

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Resident {
    /// `VmRSS`.
    pub(crate) now: u64,
    /// `VmHWM`.
    pub(crate) highest: u64,
}

/// Processor time and switches of a process so far. Its children are not counted.
pub(crate) fn usage(pid: u32) -> Result<Usage> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    let ticks = sysconf(SysconfVar::CLK_TCK).context("sysconf")?.context("the system names no clock tick")?;
    let seconds = cpu_ticks(&stat).with_context(|| format!("/proc/{pid}/stat has another form"))? as f64 / ticks as f64;
    let mut voluntary_switches = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).context("reading the threads")? {
        // A thread may end meanwhile.
        let Ok(status) = fs::read_to_string(task?.path().join("status")) else { continue };
        voluntary_switches += field(&status, "voluntary_ctxt_switches").unwrap_or(0);
    }
    Ok(Usage { seconds, voluntary_switches })
}

/// Resident memory of a process.
pub(crate) fn resident(pid: u32) -> Result<Resident> {
    let status = read(&format!("/proc/{pid}/status"))?;
    let kilobytes = |name| field(&status, name).with_context(|| format!("/proc/{pid}/status has no {name}"));
    Ok(Resident { now: kilobytes("VmRSS")? * 1024, highest: kilobytes("VmHWM")? * 1024 })
}

/// Bytes in the kernel's small allocations of no kind of their own, and in those of fanotify; none where that cannot be read.
pub(crate) fn kernel_small() -> Option<u64> {
    Some(small_allocations(&fs::read_to_string("/proc/slabinfo").ok()?))
}

/// The third field is how many objects there is room for, the fourth how large each is.
fn small_allocations(slabinfo: &str) -> u64 {
    let bytes = slabinfo.lines().filter(|line| line.starts_with("kmalloc") || line.starts_with("fanotify")).filter_map(|line| {
        let mut fields = line.split_whitespace().skip(2).map(str::parse::<u64>);
        Some(fields.next()?.ok()? * fields.next()?.ok()?)
    });
    bytes.sum()
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {path}: the daemon has ended"))
}

/// utime + stime: the 14th and 15th field. The second, the program's name, may hold blanks and parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn field(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 100 0 0 0 7 5 0 0 20 0 1 0 100 1000 10";
        assert_eq!(cpu_ticks(stat), Some(12));
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nvoluntary_ctxt_switches:\t9\nnonvoluntary_ctxt_switches:\t4\n";
        assert_eq!(field(status, "VmRSS"), Some(1024));
        assert_eq!(field(status, "voluntary_ctxt_switches"), Some(9));
        assert_eq!(field(status, "VmSwap"), None);
    }

    #[test]
    fn small_allocations_are_summed() {
        let slabinfo =
            "slabinfo - version: 2.1\nkmalloc-cg-128  288 300 128 32 1 : tunables 0\nfanotify_mark 1 2 50 1\next4_inode 9 9 9 9\n";
        assert_eq!(small_allocations(slabinfo), 300 * 128 + 2 * 50);
    }

    #[test]
    fn our_own_process_is_read() {
        let pid = std::process::id();
        assert!(usage(pid).unwrap().seconds >= 0.0);
        let resident = resident(pid).unwrap();
        assert!(resident.now > 0 && resident.highest >= resident.now);
    }
}
