//! `trigsync install-service` and `uninstall-service`: the daemon starts with the machine.
//!
//! Only what carries our own first line or mark is ever replaced or removed.

mod rc_local;
mod unit;

use std::{
    env,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, bail};

use super::args::{InstallService, Service, absolute};
use crate::config::{Config, Overrides, RawConfig};

/// What is started, and with what.
struct Daemon<'a> {
    program: PathBuf,
    state_dir: PathBuf,
    config_file: PathBuf,
    config: &'a Config,
}

pub fn install(state_dir: &Path, install: &InstallService) -> anyhow::Result<ExitCode> {
    let InstallService { config: file, service } = install;
    check_name(service)?;
    let state_dir = absolute(state_dir);
    let file = absolute(file);
    // A service that cannot start is worse than none.
    let config = RawConfig::read(&file)?.resolve(&Overrides::default(), &state_dir)?;
    let program = env::current_exe().context("cannot find this program again")?;
    let daemon = Daemon { program, state_dir, config_file: file, config: &config };
    if has_systemd(&service.root) {
        install_unit(service, &daemon)?;
    } else {
        install_line(service, &daemon)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn uninstall(service: &Service) -> anyhow::Result<ExitCode> {
    check_name(service)?;
    let mut found = false;
    let unit = unit_file(service);
    if let Some(text) = read(&unit)? {
        if !unit::is_ours(&text) {
            bail!("{} was not written by `trigsync install-service`; remove it by hand", unit.display());
        }
        systemctl(service, &["disable", "--now"], Some(&service.name))?;
        fs::remove_file(&unit).with_context(|| format!("cannot remove {}", unit.display()))?;
        systemctl(service, &["daemon-reload"], None)?;
        println!("removed {}", unit.display());
        found = true;
    }
    for file in rc_local::places(&service.root) {
        let Some(without) = read(&file)?.and_then(|text| rc_local::without(&text, &service.name)) else { continue };
        write(&file, &without)?;
        println!("removed the line of {} from {}; a daemon that runs goes on: `trigsync stop` ends it", service.name, file.display());
        found = true;
    }
    match found {
        true => {
            println!("journal and configuration stay, and so does a capture in the kernel: `trigsync uninstall-capture` takes that away")
        }
        false => println!("no service {} was installed here by trigsync", service.name),
    }
    Ok(ExitCode::SUCCESS)
}

/// It becomes the name of a file and a word of a shell line.
fn check_name(service: &Service) -> anyhow::Result<()> {
    let name = &service.name;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@:".contains(c);
    if name.is_empty() || name.starts_with(['-', '.']) || !name.chars().all(plain) || name.ends_with(".service") {
        bail!("`{name}` is no name for a service: take letters, digits and dashes, without `.service`");
    }
    Ok(())
}

fn has_systemd(root: &Path) -> bool {
    match is_this_machine(root) {
        // As sd_booted(3) does.
        true => Path::new("/run/systemd/system").is_dir(),
        false => ["usr/lib/systemd/system", "lib/systemd/system"].iter().any(|directory| root.join(directory).is_dir()),
    }
}

fn is_this_machine(root: &Path) -> bool {
    root == Path::new("/")
}

fn unit_file(service: &Service) -> PathBuf {
    service.root.join("etc/systemd/system").join(format!("{}.service", service.name))
}

fn install_unit(service: &Service, daemon: &Daemon<'_>) -> anyhow::Result<()> {
    let file = unit_file(service);
    if read(&file)?.is_some_and(|text| !unit::is_ours(&text)) {
        bail!("{} is there, and was not written by `trigsync install-service`; remove it, or take another --name", file.display());
    }
    write(&file, &unit::text(daemon)?)?;
    println!("wrote {}", file.display());
    systemctl(service, &["daemon-reload"], None)?;
    if is_this_machine(&service.root) {
        systemctl(service, &["enable"], Some(&service.name))?;
        // Also one that runs with an older unit.
        systemctl(service, &["restart"], Some(&service.name))?;
        println!("{0} is enabled and runs: `systemctl status {0}`, `trigsync status`", service.name);
    } else {
        systemctl(service, &["enable"], Some(&service.name))?;
        println!("{} is enabled in {}, and was not started", service.name, service.root.display());
    }
    Ok(())
}

fn install_line(service: &Service, daemon: &Daemon<'_>) -> anyhow::Result<()> {
    let places = rc_local::places(&service.root);
    let file = places.iter().find(|file| file.exists()).unwrap_or(&places[0]);
    let line = rc_local::line(daemon)?;
    write(file, &rc_local::with(read(file)?.as_deref(), &service.name, &line))?;
    rc_local::make_executable(file).with_context(|| format!("cannot make {} executable", file.display()))?;
    println!(
        "there is no systemd here: wrote a line into {}, which starts trigsync with the machine, and not again when it ends",
        file.display()
    );
    println!("to start it now: {line}");
    Ok(())
}

/// None where there is no such file.
fn read(file: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// In place, so that mode, links and SELinux's label of an operator's rc.local stay; over what was there before it is cut to its new length, so
/// that a full disk does not leave it empty.
fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    let write = || -> io::Result<()> {
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory)?;
        }
        let mut there = OpenOptions::new().create(true).truncate(false).write(true).open(file)?;
        there.write_all(text.as_bytes())?;
        there.set_len(text.len() as u64)
    };
    write().with_context(|| format!("cannot write {} (are you root?)", file.display()))
}

/// Nothing is loaded or running in another root.
fn systemctl(service: &Service, command: &[&str], unit: Option<&str>) -> anyhow::Result<()> {
    let mut systemctl = Command::new("systemctl");
    if !is_this_machine(&service.root) {
        if unit.is_none() {
            return Ok(());
        }
        systemctl.arg("--root").arg(&service.root);
    }
    let live = |word: &&&str| is_this_machine(&service.root) || **word != "--now";
    systemctl.args(command.iter().filter(live)).args(unit.map(|name| format!("{name}.service")));
    let status = systemctl.status().context("cannot start systemctl")?;
    if !status.success() {
        bail!("`systemctl {}` failed: see above, and `journalctl -u {}`", command.join(" "), service.name);
    }
    Ok(())
}
