//! A source, a place for targets, and real servers on loopback; all of it gone when the test ends.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    num::NonZeroU32,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio_util::sync::CancellationToken;
use trigsync::{
    config::{Filter, InPlace, TargetAddress, TargetConfig},
    model::{RelPath, RelPathBuf},
    rsync::{Answer, Compare, Deletions, Listing, Missing, Route, Rsync, Run, Work, list},
};

pub struct Lab {
    pub directory: tempfile::TempDir,
    pub source: PathBuf,
    pub rsync: Rsync,
    pub filter: Filter,
}

impl Lab {
    /// `None`, and a word on standard error, where rsync is missing.
    pub fn new() -> Option<Self> {
        let rsync = match Rsync::probe(Path::new("rsync")) {
            Ok(rsync) => rsync,
            Err(error) => {
                eprintln!("skipped: {error}");
                return None;
            }
        };
        let directory = tempfile::tempdir().unwrap();
        // Receivers that are not root have to get through.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let source = directory.path().join("src");
        fs::create_dir(&source).unwrap();
        Some(Self { directory, source, rsync, filter: Filter::none() })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes files with their own names as content; a slash at the end makes a directory, `a -> b` a symbolic link.
    pub fn write(&self, names: &[&str]) {
        plant(&self.source, names);
    }

    pub fn local(&self, name: &str) -> TargetConfig {
        fs::create_dir_all(self.path(name)).unwrap();
        target(TargetAddress::Local(self.path(name)))
    }

    pub async fn run(&self, target: &TargetConfig, work: Work, deletions: Deletions, list: Vec<u8>) -> Answer {
        self.run_until(target, work, deletions, list, &CancellationToken::new()).await
    }

    pub async fn run_until(
        &self,
        target: &TargetConfig,
        work: Work,
        deletions: Deletions,
        list: Vec<u8>,
        stop: &CancellationToken,
    ) -> Answer {
        let run = Run { work, deletions, missing: Missing::Delete, list, progress: None };
        self.rsync.run(&self.route(target), run, stop).await
    }

    /// Lists `names` flat, as changed, with deletions.
    pub async fn entries(&self, target: &TargetConfig, names: &[&str]) -> Answer {
        self.run(target, Work::Entries(Compare::Changed), Deletions::Allowed, listed(names)).await
    }

    pub async fn trees(&self, target: &TargetConfig, names: &[&str]) -> Answer {
        self.run(target, Work::Trees(Compare::Quick), Deletions::Allowed, listed(names)).await
    }

    pub fn route<'a>(&'a self, target: &'a TargetConfig) -> Route<'a> {
        Route { source: &self.source, filter: &self.filter, cross_mounts: false, keep: false, target }
    }
}

pub fn target(address: TargetAddress) -> TargetConfig {
    TargetConfig {
        name: "lab".into(),
        address,
        password_file: None,
        identity: None,
        options: Vec::new(),
        bandwidth_limit: None,
        connections: NonZeroU32::MIN,
        warm: 0,
        inplace: InPlace::default(),
        timeout: Duration::from_secs(60),
        modify_window: -1,
    }
}

pub fn rel(name: &str) -> RelPathBuf {
    RelPathBuf::new(name.as_bytes().to_vec()).unwrap()
}

pub fn listed(names: &[&str]) -> Vec<u8> {
    let paths: Vec<RelPathBuf> = names.iter().map(|name| rel(name)).collect();
    list(paths.iter().map(|path| -> &RelPath { path }), Listing::Plain)
}

pub fn plant(root: &Path, names: &[&str]) {
    for name in names {
        if let Some(directory) = name.strip_suffix('/') {
            fs::create_dir_all(root.join(directory)).unwrap();
            continue;
        }
        let (path, link) = name.split_once(" -> ").map_or((*name, None), |(path, to)| (path, Some(to)));
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match link {
            Some(to) => symlink(to, &path).unwrap(),
            None => fs::write(&path, name.as_bytes()).unwrap(),
        }
    }
}

/// A server that ends with the test.
pub struct Server {
    pub port: u16,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processes that stand still until this is dropped.
pub struct Frozen(Vec<Pid>);

impl Frozen {
    fn signal(&self, signal: Signal) {
        for process in &self.0 {
            // One may have ended.
            let _ = kill(*process, signal);
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.signal(Signal::SIGCONT);
    }
}

impl Server {
    fn start(port: u16, command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { port, child };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "no server at port {port}");
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    /// Has everything that serves a connection now stop where it is; the server itself too, where `whole`.
    pub fn freeze(&self, whole: bool) -> Frozen {
        let server = self.child.id() as i32;
        let mut processes: Vec<i32> = if whole { vec![server] } else { Vec::new() };
        let mut parents = vec![server];
        while let Some(parent) = parents.pop() {
            let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
            let children: Vec<i32> = children.split_whitespace().map(|child| child.parse().unwrap()).collect();
            processes.extend(&children);
            parents.extend(children);
        }
        let frozen = Frozen(processes.into_iter().map(Pid::from_raw).collect());
        frozen.signal(Signal::SIGSTOP);
        frozen
    }

    /// An rsync daemon. Each module is a name, with a directory of the same name in the lab, and lines of its own.
    pub fn rsyncd(lab: &Lab, modules: &[(&str, &str)]) -> Self {
        let port = free_port();
        let mut text = format!("port = {port}\naddress = 127.0.0.1\nuse chroot = no\nuid = root\ngid = root\nmunge symlinks = no\n");
        for (name, lines) in modules {
            let directory = lab.path(name);
            fs::create_dir_all(&directory).unwrap();
            text.push_str(&format!(
                "[{name}]\npath = {}\nread only = no\nlock file = {}.lock\n{lines}\n",
                directory.display(),
                directory.display()
            ));
        }
        let configuration = lab.path("rsyncd.conf");
        fs::write(&configuration, text).unwrap();
        Self::start(port, Command::new("rsync").args(["--daemon", "--no-detach"]).arg(format!("--config={}", configuration.display())))
    }

    pub fn module(&self, module: &str, path: &str) -> TargetConfig {
        self.module_for(None, module, path)
    }

    pub fn module_for(&self, user: Option<&str>, module: &str, path: &str) -> TargetConfig {
        target(TargetAddress::Daemon {
            user: user.map(Into::into),
            host: "127.0.0.1".into(),
            port: Some(self.port),
            module: module.into(),
            path: path.into(),
        })
    }

    /// An sshd with one key that may log in (`user`) and one that may not (`stranger`). The lab's rsync is replaced by one whose ssh reads
    /// no configuration of this machine's users.
    pub fn sshd(lab: &mut Lab) -> Option<Self> {
        if !Path::new("/usr/sbin/sshd").exists() {
            eprintln!("skipped: sshd is not installed");
            return None;
        }
        for key in ["host", "user", "stranger", "key with 'quotes'"] {
            assert!(Command::new("ssh-keygen").args(["-qt", "ed25519", "-N", "", "-f"]).arg(lab.path(key)).status().unwrap().success());
        }
        let public = |key: &str| fs::read_to_string(lab.path(&format!("{key}.pub"))).unwrap();
        fs::write(lab.path("authorized"), public("user") + &public("key with 'quotes'")).unwrap();
        let port = free_port();
        fs::create_dir_all("/run/sshd").unwrap();
        let at = lab.directory.path().display();
        let text = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {at}/host\nAuthorizedKeysFile {at}/authorized\nStrictModes no\nUsePAM no\nPidFile none\n"
        );
        fs::write(lab.path("sshd.conf"), text).unwrap();
        fs::write(lab.path("known"), format!("[127.0.0.1]:{port} {}", public("host"))).unwrap();
        fs::write(lab.path("ssh.conf"), format!("UserKnownHostsFile {at}/known\nGlobalKnownHostsFile none\nIdentityAgent none\n")).unwrap();
        fs::create_dir(lab.path("bin")).unwrap();
        script(&lab.path("bin/ssh"), &format!("exec {} -F {at}/ssh.conf \"$@\"", which("ssh").display()));
        script(&lab.path("rsync"), &format!("PATH={at}/bin:$PATH exec {} \"$@\"", which("rsync").display()));
        lab.rsync = Rsync::probe(&lab.path("rsync")).unwrap();
        Some(Self::start(port, Command::new("/usr/sbin/sshd").arg("-D").arg("-f").arg(lab.path("sshd.conf"))))
    }

    pub fn ssh(port: u16, lab: &Lab, key: &str, path: &str) -> TargetConfig {
        let address = TargetAddress::Ssh { user: Some("root".into()), host: "127.0.0.1".into(), port: Some(port), path: path.into() };
        TargetConfig { identity: Some(lab.path(key)), ..target(address) }
    }
}

/// Written by a child: a file that this process has open for writing may be inherited by another test's child for a moment, and then
/// cannot be executed ("Text file busy").
pub fn script(path: &Path, line: &str) {
    let write =
        Command::new("sh").args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$2\" && chmod 755 \"$2\"", "sh", line]).arg(path).status();
    assert!(write.unwrap().success());
}

pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn which(program: &str) -> PathBuf {
    std::env::split_paths(&std::env::var_os("PATH").unwrap()).map(|directory| directory.join(program)).find(|path| path.exists()).unwrap()
}
