//! A real `rsync --daemon` on loopback, with modules as a test wants them.

use std::{
    fmt::Write as _,
    fs,
    io::{Read, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{process::Process, room::Room};

/// One module.
pub struct Module {
    name: String,
    lines: Vec<String>,
    secret: Option<(String, String)>,
}

impl Module {
    /// A writable module that keeps owners: as root, in a chroot (without one, rsync rewrites absolute symbolic links).
    pub fn new(name: &str, path: &Path) -> Self {
        let lines = [format!("path = {}", path.display())];
        let lines = lines.into_iter().chain(["uid = root", "gid = root", "use chroot = yes", "read only = no"].map(str::to_owned));
        Self { name: name.to_owned(), lines: lines.collect(), secret: None }
    }

    /// Adds or replaces a parameter: `set("max connections", "1")`.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.lines.retain(|line| !line.starts_with(&format!("{key} =")));
        self.lines.push(format!("{key} = {value}"));
        self
    }

    /// Asks for a user and a password.
    pub fn secret(mut self, user: &str, password: &str) -> Self {
        self.secret = Some((user.to_owned(), password.to_owned()));
        self
    }
}

/// A running rsync daemon.
pub struct RsyncDaemon {
    config: PathBuf,
    port: u16,
    process: Process,
}

/// A port of loopback on which nobody listens at this moment.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback is up");
    listener.local_addr().expect("it is bound").port()
}

impl RsyncDaemon {
    /// Starts a daemon on a free port.
    pub fn start(room: &Room, modules: &[Module]) -> Self {
        (0..10).find_map(|_| Self::try_on(room, free_port(), modules)).expect("one of ten free ports stays free until rsync binds it")
    }

    /// Starts a daemon on `port`.
    pub fn start_on(room: &Room, port: u16, modules: &[Module]) -> Self {
        Self::try_on(room, port, modules).unwrap_or_else(|| panic!("rsync --daemon does not come up on port {port}"))
    }

    fn try_on(room: &Room, port: u16, modules: &[Module]) -> Option<Self> {
        let log = room.at(format!("rsyncd-{port}.log"));
        let mut text = format!("address = 127.0.0.1\nport = {port}\nlog file = {}\n", log.display());
        for module in modules {
            write!(text, "[{}]\n{}\n", module.name, module.lines.join("\n")).expect("writing to a string");
            if let Some((user, password)) = &module.secret {
                let secrets = room.secret(&format!("rsyncd-{port}-{}.secrets", module.name), &format!("{user}:{password}\n"));
                write!(text, "auth users = {user}\nsecrets file = {}\n", secrets.display()).expect("writing to a string");
            }
        }
        let config = room.at(format!("rsyncd-{port}.conf"));
        fs::write(&config, text).expect("a file in the room");
        let mut process = Self::spawn(&config);
        answers(port, &mut process).then_some(Self { config, port, process })
    }

    fn spawn(config: &Path) -> Process {
        let mut command = Command::new("rsync");
        command.args(["--daemon", "--no-detach", "--config"]).arg(config);
        Process::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))
    }

    /// `rsync://127.0.0.1:PORT/MODULE`.
    pub fn url(&self, module: &str) -> String {
        url(self.port, module)
    }

    /// `rsync://USER@127.0.0.1:PORT/MODULE`.
    pub fn url_as(&self, user: &str, module: &str) -> String {
        format!("rsync://{user}@127.0.0.1:{}/{module}", self.port)
    }

    /// Ends the daemon and its connections at once.
    pub fn kill9(&mut self) {
        self.process.kill();
    }

    /// Stops the daemon and its connections in their tracks: the port stays open and nothing answers.
    pub fn freeze(&self) {
        self.process.signal_group(Signal::SIGSTOP);
    }

    /// Ends [`RsyncDaemon::freeze`].
    pub fn thaw(&self) {
        self.process.signal_group(Signal::SIGCONT);
    }

    /// Starts it again on the same port, with the same modules, after it was killed.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = Self::spawn(&self.config);
        assert!(answers(self.port, &mut self.process), "rsync --daemon does not come up again on port {}", self.port);
    }
}

/// `rsync://127.0.0.1:PORT/MODULE`.
pub fn url(port: u16, module: &str) -> String {
    format!("rsync://127.0.0.1:{port}/{module}")
}

/// Whether the daemon greets on `port` before it ends or ten seconds are over.
fn answers(port: u16, process: &mut Process) -> bool {
    for _ in 0..500 {
        if process.ended().is_some() {
            return false;
        }
        if let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            let mut greeting = [0; 8];
            let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
            if stream.read_exact(&mut greeting).is_ok() && &greeting == b"@RSYNCD:" {
                // A list of modules is a complete conversation; hanging up would be an error in the daemon's log.
                let _ = stream.write_all(b"@RSYNCD: 31.0 md5\n#list\n");
                let _ = stream.read_to_end(&mut Vec::new());
                return process.ended().is_none();
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{compare, process::must, tree};

    #[test]
    fn a_module_with_a_password_takes_a_tree_and_survives_a_restart() {
        if crate::skip::without_root() {
            return;
        }
        let room = Room::new();
        tree::web_site(&room.source());
        let module = Module::new("web", &room.target()).secret("deploy", "open sesame");
        let mut daemon = RsyncDaemon::start(&room, &[module]);
        let password = room.secret("password", "open sesame\n");
        for _ in 0..2 {
            let mut rsync = Command::new("rsync");
            rsync.args(["-a", "--modify-window=-1"]).arg("--password-file").arg(&password).arg(format!("{}/", room.source().display()));
            must(rsync.arg(daemon.url_as("deploy", "web")));
            compare::assert_equal(&room.source(), &room.target());
            daemon.kill9();
            daemon.restart();
        }
    }
}
