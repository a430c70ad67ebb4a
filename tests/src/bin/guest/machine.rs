//! The bare machine: mounts, modules, the loopback interface, and its end.

use std::{ffi::CStr, fs, fs::File, os::fd::AsRawFd as _, os::unix::fs::symlink, path::Path};

use anyhow::{Context as _, Result};
use nix::{
    kmod::{ModuleInitFlags, finit_module},
    mount::{MsFlags, mount},
    sys::reboot::{RebootMode, reboot},
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

/// What has to be there: source, place, type, options. devtmpfs is first: without `/dev/urandom` old kernels give Rust no hash seeds.
const NEEDED: [(&str, &str, &str); 4] =
    [("/dev", "devtmpfs", "mode=755"), ("/proc", "proc", ""), ("/sys", "sysfs", ""), ("/tmp", "tmpfs", "mode=1777,size=75%")];

/// What a kernel may lack.
const WELCOME: [(&str, &str, &str); 6] = [
    ("/run", "tmpfs", "mode=755"),
    ("/dev/shm", "tmpfs", "mode=1777"),
    ("/sys/fs/bpf", "bpf", "mode=700"),
    ("/sys/kernel/tracing", "tracefs", ""),
    ("/sys/kernel/debug", "debugfs", ""),
    ("/sys/fs/cgroup", "cgroup2", ""),
];

/// Mounts what a running system has.
pub fn mount_everything() -> Result<()> {
    for (place, kind, options) in NEEDED {
        mount_new(place, kind, options).with_context(|| format!("{kind} cannot be mounted at {place}"))?;
    }
    for (place, kind, options) in WELCOME {
        if let Err(error) = mount_new(place, kind, options) {
            println!("guest: no {kind} at {place}: {error:#}");
        }
    }
    // Programs that were never told that there is no udev.
    let _ = symlink("/proc/self/fd", "/dev/fd");
    Ok(())
}

fn mount_new(place: &str, kind: &str, options: &str) -> Result<()> {
    fs::create_dir_all(place)?;
    mount(Some(kind), place, Some(kind), MsFlags::empty(), Some(options))?;
    Ok(())
}

/// Loads modules in the given order. One that does not load is told on the console; what needs it will say so.
pub fn load_modules(paths: &[String]) {
    for path in paths {
        let loaded = File::open(path).map_err(anyhow::Error::from).and_then(|file| Ok(finit_module(file, c"", ModuleInitFlags::empty())?));
        if let Err(error) = loaded {
            println!("guest: {path} is not loaded: {error:#}");
        }
        // Its memory is of more use to the suites.
        let _ = fs::remove_file(path);
    }
}

/// Where the clock counts instructions, those of any other process would be counted too: this one and its children go before all.
pub fn go_first() -> Result<()> {
    fs::write("/proc/sys/kernel/sched_rt_runtime_us", "-1").context("sched_rt_runtime_us")?;
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: concerns this process only, and reads the parameters during the call.
    nix::errno::Errno::result(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &priority) }).context("SCHED_FIFO")?;
    Ok(())
}

/// What a suite left in the kernel beyond its processes would be part of what the next one sees: it is told, and taken away.
pub fn take_away_what_is_left() {
    let pins = fs::read_dir("/sys/fs/bpf").into_iter().flatten().flatten().map(|entry| entry.path());
    for pin in pins {
        println!("guest: {} was left behind", pin.display());
        let _ = if pin.is_dir() { fs::remove_dir_all(&pin) } else { fs::remove_file(&pin) };
    }
    let probes = Path::new("/sys/kernel/tracing/kprobe_events");
    let left = fs::read_to_string(probes).unwrap_or_default();
    if !left.is_empty() {
        println!("guest: {} probes were left behind", left.lines().count());
        let _ = fs::write(probes, "");
    }
}

/// Servers and clients on 127.0.0.1 are part of the suites.
pub fn bring_up_loopback() -> Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: `ifreq` is plain data for which zeroes are a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    copy_name(&mut request.ifr_name, c"lo");
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request names an interface and its flags, which is what SIOCSIFFLAGS reads.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) };
    nix::errno::Errno::result(result)?;
    Ok(())
}

fn copy_name(to: &mut [libc::c_char], name: &CStr) {
    for (to, from) in to.iter_mut().zip(name.to_bytes_with_nul()) {
        *to = from.cast_signed();
    }
}

/// Ends the machine. The host starts it so that a restart is its end: that needs no ACPI.
pub fn end() -> ! {
    let error = match reboot(RebootMode::RB_AUTOBOOT) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    // The first process must not return: the kernel panics, and ends the machine so.
    panic!("the machine does not end: {error}");
}

/// Whether a path is there.
pub fn has(path: impl AsRef<Path>) -> bool {
    path.as_ref().exists()
}
