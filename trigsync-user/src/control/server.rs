//! The answering side.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
};

use super::{LONGEST, Request, Response, socket_path};

/// A request, and where its answer goes.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Response>,
}

/// Listens in the state directory, which the caller has locked: a socket that an earlier daemon left behind is replaced. Its owner may ask,
/// and the members of `group`. Ends when the receiver of `calls` is dropped.
pub fn serve(state_dir: &Path, group: Option<u32>, calls: mpsc::Sender<Call>) -> io::Result<()> {
    let path = socket_path(state_dir);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    // Closed to all but its owner before it is another group's.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    if group.is_some() {
        chown(&path, None, group)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o660))?;
    }
    tokio::spawn(async move {
        while !calls.is_closed() {
            match listener.accept().await {
                Ok((connection, _)) => {
                    let calls = calls.clone();
                    tokio::spawn(async move {
                        if let Err(error) = converse(connection, calls).await {
                            tracing::debug!("control connection: {error}");
                        }
                    });
                }
                Err(error) => {
                    // Out of descriptors: the next attempt may find one.
                    tracing::warn!("control socket: {error}");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(())
}

async fn converse(connection: UnixStream, calls: mpsc::Sender<Call>) -> io::Result<()> {
    let (reader, mut writer) = connection.into_split();
    let mut line = Vec::new();
    BufReader::new(reader.take(LONGEST)).read_until(b'\n', &mut line).await?;
    let response = match serde_json::from_slice(&line) {
        Ok(request) => {
            let (answer, answered) = oneshot::channel();
            let ending = || Response::Error { message: "the daemon is ending".into() };
            match calls.send(Call { request, answer }).await {
                Ok(()) => answered.await.unwrap_or_else(|_| ending()),
                Err(_) => ending(),
            }
        }
        Err(error) => Response::Error { message: format!("the request cannot be read: {error}") },
    };
    let mut line = serde_json::to_vec(&response)?;
    line.push(b'\n');
    writer.write_all(&line).await?;
    if let Response::Stopping = response {
        std::future::pending::<()>().await; // the client waits for the end of the process
    }
    Ok(())
}
