//! The asking side. Blocks.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

use socket2::{Domain, SockAddr, Socket, Type};

use super::{LONGEST, Request, Response, socket_path};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no trigsync daemon answers at {}; start it with `trigsync run`, or name its --state-dir", socket.display())]
    NoDaemon {
        /// The socket.
        socket: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// This user may not ask.
    #[error(
        "the daemon at {} may be asked by its owner only, and by members of its `control_group`; run this as root, or write a group of yours \
             as `control_group` in the configuration",
        socket.display()
    )]
    Forbidden {
        /// The socket.
        socket: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It does not answer.
    #[error("the daemon did not answer within {}", humantime::format_duration(*limit))]
    Silent {
        /// How long was waited.
        limit: Duration,
    },
    /// The connection broke.
    #[error("the daemon went away before it answered")]
    Io(#[from] io::Error),
    /// The answer is no answer: another version.
    #[error("the daemon's answer cannot be read; is it of another version?")]
    Malformed(#[from] serde_json::Error),
}

/// Asks the daemon of a state directory.
pub fn call(state_dir: &Path, request: &Request) -> Result<Response, ClientError> {
    call_within(state_dir, request, None)
}

/// Asks, and gives up where no answer comes within `limit`.
pub fn call_within(state_dir: &Path, request: &Request, limit: Option<Duration>) -> Result<Response, ClientError> {
    match ask(state_dir, request, limit) {
        Err(ClientError::Io(error)) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            Err(ClientError::Silent { limit: limit.unwrap_or_default() })
        }
        answered => Ok(answered?.0),
    }
}

/// Has the daemon end, and waits until it has.
pub fn stop(state_dir: &Path) -> Result<Response, ClientError> {
    let (response, mut connection) = ask(state_dir, &Request::Stop, None)?;
    if let Response::Stopping = response {
        // Closed by the kernel when the process is gone; how does not matter.
        let _ = connection.read_to_end(&mut Vec::new());
    }
    Ok(response)
}

fn ask(state_dir: &Path, request: &Request, limit: Option<Duration>) -> Result<(Response, BufReader<UnixStream>), ClientError> {
    let path = socket_path(state_dir);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Before it connects: where a daemon takes no connections any more, the queue for them is full some day, and a connect waits.
    socket.set_write_timeout(limit)?;
    if let Err(source) = SockAddr::unix(&path).and_then(|address| socket.connect(&address)) {
        return Err(match source.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Forbidden { socket: path, source },
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::Io(source),
            _ => ClientError::NoDaemon { socket: path, source },
        });
    }
    let mut connection = UnixStream::from(OwnedFd::from(socket));
    connection.set_read_timeout(limit)?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    connection.write_all(&line)?;
    let mut reader = BufReader::new(connection);
    let mut answer = Vec::new();
    Read::take(&mut reader, LONGEST).read_until(b'\n', &mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok((serde_json::from_slice(&answer)?, reader))
}
