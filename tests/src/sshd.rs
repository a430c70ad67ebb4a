//! A real sshd on loopback, with keys of its own.
//!
//! The client is told of the host key and of nothing else through an `ssh` that stands first in the daemon's PATH and runs the real one
//! with `-F` and a configuration in the test's room: no file of the user's is read or changed, and host keys are checked as anywhere.

use std::{
    fs,
    io::Read,
    net::{Ipv4Addr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::{
    process::{Process, must},
    room::Room,
    rsyncd::free_port,
    skip::{Cause, find_program},
};

/// A running sshd.
pub struct Sshd {
    port: u16,
    /// The private key that root may log in with.
    pub identity: PathBuf,
    /// A directory that holds an `ssh` which knows the host key.
    pub programs: PathBuf,
    _process: Process,
}

impl Sshd {
    /// Starts an sshd on a free port.
    pub fn start(room: &Room) -> Result<Self, Cause> {
        let [sshd, ssh, keygen] = ["sshd", "ssh", "ssh-keygen"].map(find_program);
        let (Some(sshd), Some(ssh), Some(keygen)) = (sshd, ssh, keygen) else {
            return Err(Cause::Missing("no sshd, ssh or ssh-keygen; install openssh-server and openssh-client".to_owned()));
        };
        // Where sshd drops its privileges; the package's service makes it.
        fs::create_dir_all("/run/sshd").map_err(|error| Cause::Missing(format!("cannot make /run/sshd: {error}")))?;
        let keys = room.directory("ssh");
        let [host_key, identity] = ["host_key", "identity"].map(|name| keys.join(name));
        for key in [&host_key, &identity] {
            must(Command::new(&keygen).args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(key));
        }
        let started = (0..10).find_map(|_| {
            let port = free_port();
            serve(&keys, &sshd, port).map(|process| (port, process))
        });
        let (port, process) = started.ok_or_else(|| Cause::Missing("sshd does not come up on loopback".to_owned()))?;
        Ok(Self { port, identity, programs: client(&keys, &ssh, port), _process: process })
    }

    /// `ssh://root@127.0.0.1:PORT/PATH`.
    pub fn url(&self, path: &Path) -> String {
        format!("ssh://root@127.0.0.1:{}{}", self.port, path.display())
    }
}

fn serve(keys: &Path, sshd: &Path, port: u16) -> Option<Process> {
    let directory = keys.display();
    let config = keys.join("sshd_config");
    let text = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {directory}/host_key\nPidFile none\nAuthorizedKeysFile {directory}/identity.pub\n\
         StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
         MaxStartups 100\nUseDNS no\nPrintMotd no\n"
    );
    fs::write(&config, text).expect("a file in the room");
    let log = fs::File::create(keys.join("sshd.log")).expect("a file in the room");
    let mut command = Command::new(sshd);
    command.args(["-D", "-e", "-f"]).arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut process = Process::start(&mut command);
    for _ in 0..500 {
        if process.ended().is_some() {
            return None;
        }
        if let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            let mut greeting = [0; 4];
            let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
            if stream.read_exact(&mut greeting).is_ok() && &greeting == b"SSH-" {
                return Some(process);
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
    None
}

fn client(keys: &Path, ssh: &Path, port: u16) -> PathBuf {
    let directory = keys.display();
    let host_key = fs::read_to_string(keys.join("host_key.pub")).expect("ssh-keygen wrote it");
    fs::write(keys.join("known_hosts"), format!("[127.0.0.1]:{port} {host_key}")).expect("a file in the room");
    let text = format!(
        "UserKnownHostsFile {directory}/known_hosts\nGlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\nIdentitiesOnly yes\n\
         IdentityAgent none\n"
    );
    fs::write(keys.join("ssh_config"), text).expect("a file in the room");
    let programs = keys.join("programs");
    fs::create_dir_all(&programs).expect("a directory in the room");
    let wrapper = programs.join("ssh");
    fs::write(&wrapper, format!("#!/bin/sh\nexec {} -F {directory}/ssh_config \"$@\"\n", ssh.display())).expect("a file in the room");
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("chmod of our own file");
    programs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{compare, skip, tree};

    #[test]
    fn rsync_reaches_it_with_the_key_and_a_checked_host_key() {
        if skip::without_root() {
            return;
        }
        let room = Room::new();
        let sshd = match Sshd::start(&room) {
            Ok(sshd) => sshd,
            Err(cause) => return skip::skip(&cause),
        };
        tree::web_site(&room.source());
        let shell = format!("{}/ssh -o BatchMode=yes -p {} -i {}", sshd.programs.display(), sshd.port, sshd.identity.display());
        let mut rsync = Command::new("rsync");
        rsync.args(["-a", "--modify-window=-1", "-e", &shell]).arg(format!("{}/", room.source().display()));
        must(rsync.arg(format!("root@127.0.0.1:{}/", room.target().display())));
        compare::assert_equal(&room.source(), &room.target());
    }
}
