//! `trigsync rsyncd-snippet`: what the rsync daemons at the targets need.

use std::{collections::BTreeMap, fmt::Write as _, io::Write as _, path::Path, process::ExitCode};

use anyhow::bail;

use super::args::{CaptureFlags, Definition};
use crate::{
    config::{Config, RSYNC_PORT, TargetAddress},
    runtime::InitialSync,
};

pub fn rsyncd_snippet(state_dir: &Path, definition: &Definition) -> anyhow::Result<ExitCode> {
    let (_, config) = definition.options(state_dir, &CaptureFlags::default(), InitialSync::Auto)?.configuration()?;
    if config.syncs.iter().all(|sync| sync.targets.is_empty()) {
        bail!("no sync has a target: plugins alone need no rsync daemon");
    }
    let modules = modules(&config);
    if modules.is_empty() {
        bail!("no target is an rsync daemon: ssh and local targets need nothing but rsync");
    }
    std::io::stdout().write_all(text(&modules).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// What one module is used for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Use {
    /// With the files that hold their passwords here.
    users: BTreeMap<String, Option<String>>,
    /// Of all syncs that write there.
    connections: u32,
    canaries: u32,
    keeps_owners: bool,
}

/// By host and port, and by name.
type Modules = BTreeMap<(String, u16), BTreeMap<String, Use>>;

fn modules(config: &Config) -> Modules {
    let mut modules = Modules::new();
    for sync in &config.syncs {
        for target in &sync.targets {
            let TargetAddress::Daemon { user, host, port, module, .. } = &target.address else { continue };
            let hosts = modules.entry((host.clone(), port.unwrap_or(RSYNC_PORT))).or_default();
            let used = hosts.entry(module.clone()).or_default();
            if let Some(user) = user {
                let file = target.password_file.as_ref().map(|file| file.display().to_string());
                let known = used.users.entry(user.clone()).or_default();
                *known = known.take().or(file);
            }
            used.connections += target.connections.get();
            used.canaries += u32::from(sync.canary.is_some());
            used.keeps_owners |= !target.options.iter().any(|option| option == "--no-owner" || option == "--no-o");
        }
    }
    modules
}

fn text(modules: &Modules) -> String {
    let mut text = String::new();
    for ((host, port), modules) in modules {
        let _ = writeln!(text, "# At {host}: into /etc/rsyncd.conf, for the rsync daemon on port {port}.");
        for (name, used) in modules {
            let _ = module(&mut text, name, used);
        }
        let _ = writeln!(text, "\n# Then, as root at {host}:");
        for (name, used) in modules {
            let _ = writeln!(text, "#   mkdir -p /srv/{name}");
            if used.users.is_empty() {
                continue;
            }
            let secrets = secrets(name);
            let _ = writeln!(text, "#   install -m 600 /dev/null {secrets}");
            for (user, file) in &used.users {
                let source =
                    file.as_ref().map_or("the password of `password_file` here".to_owned(), |file| format!("what {file} holds here"));
                let _ = writeln!(text, "#   write the line {user}:PASSWORD into {secrets}, where PASSWORD is {source}");
            }
        }
        let _ = writeln!(text);
    }
    text + "# Afterwards `trigsync doctor --config FILE` tells what is still wrong.\n"
}

fn secrets(module: &str) -> String {
    format!("/etc/rsyncd.{module}.secrets")
}

/// A comment has a line of its own: rsync takes what stands behind a value for a part of it.
fn module(text: &mut String, name: &str, used: &Use) -> std::fmt::Result {
    writeln!(text, "\n[{name}]\n# Where the files go; choose.\npath = /srv/{name}\nread only = no")?;
    match used.keeps_owners {
        true => writeln!(
            text,
            "# The default, nobody, can neither give files to their owners nor write where it is not allowed to.\nuid = root\ngid = root"
        )?,
        false => writeln!(text, "# Whoever may write to the path.\nuid = root\ngid = root")?,
    }
    if used.users.is_empty() {
        writeln!(text, "# Nobody is asked for a password: name the machines that may write.\n# hosts allow = ADDRESS")?;
    } else {
        let users: Vec<_> = used.users.keys().map(String::as_str).collect();
        writeln!(text, "auth users = {}\nsecrets file = {}", users.join(", "), secrets(name))?;
    }
    let canaries = if used.canaries > 0 { format!(", {} for canaries", used.canaries) } else { String::new() };
    let most = used.connections + used.canaries + 1;
    writeln!(
        text,
        "# {} for changes{canaries}, and 1 for `trigsync verify`. Counted in a file of its own, not together with other modules.",
        used.connections
    )?;
    writeln!(text, "max connections = {most}\nlock file = /run/rsyncd.{name}.lock")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, RawConfig};

    #[test]
    fn a_module_has_what_all_its_targets_need() {
        let place = tempfile::tempdir().expect("a place");
        for source in ["a", "b"] {
            std::fs::create_dir(place.path().join(source)).expect("a source");
        }
        let toml = "[[sync]]\nsource = \"a\"\ncanary = \"1m\"\ntargets = [\"rsync://web@one:8730/www/a\", \"two::plain\"]\n\
                    [[sync]]\nsource = \"b\"\n[[sync.target]]\nto = \"rsync://web@one:8730/www/b\"\nconnections = 3\n";
        let raw = RawConfig::parse(toml, &place.path().join("c.toml")).expect("it is right");
        let config = raw.resolve(&Overrides::default(), Path::new("/nowhere")).expect("it is right");
        let text = text(&modules(&config));
        let [one, two] = ["# At one: ", "# At two: "].map(|host| text.find(host).expect("both hosts"));
        let (one, two) = (&text[one..two], &text[two..]);
        for line in
            ["[www]", "auth users = web", "secrets file = /etc/rsyncd.www.secrets", "max connections = 7", "uid = root", "read only = no"]
        {
            assert!(one.lines().any(|found| found == line), "{line}: {one}");
        }
        assert!(one.contains("on port 8730") && two.contains("on port 873."));
        assert!(two.contains("hosts allow") && !two.contains("secrets"), "{two}");
        assert!(two.contains("max connections = 4"), "{two}");
    }
}
