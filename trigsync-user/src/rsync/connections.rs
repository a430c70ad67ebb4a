//! How many connections a module of an rsync daemon takes at once, for `doctor`: they are opened, up to the point where rsync would begin.
//!
//! The only place that speaks rsync's own language, and only its first two lines: rsync itself has no way to ask.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

use super::{Check, reasons::max_connections};
use crate::config::{RSYNC_PORT, TargetAddress, TargetConfig};

/// Any rsync since 3.0 speaks it, and nothing is negotiated with what follows.
const GREETING: &str = "@RSYNCD: 31.0 md5 md4\n";
const PATIENCE: Duration = Duration::from_secs(10);
/// A message of the day may come first.
const MOST_LINES: usize = 1000;
const LONGEST: u64 = 8192;

/// What the module said.
enum Said {
    /// It would go on, perhaps with asking for a password.
    Yes,
    /// It has so many, and all are in use.
    Full(u32),
    Other(String),
}

/// Whether the target takes as many connections at once as `wanted`; none for targets that do not count them.
pub async fn check_connections(target: &TargetConfig, wanted: u32) -> Option<Check> {
    let TargetAddress::Daemon { host, port, module, .. } = &target.address else { return None };
    let mut open = Vec::new();
    let result = loop {
        if open.len() as u32 == wanted {
            break Ok(format!("{wanted} at once"));
        }
        match timeout(PATIENCE, connect(host, port.unwrap_or(RSYNC_PORT), module)).await {
            Ok(Ok((stream, Said::Yes))) => open.push(stream),
            Ok(Ok((_, Said::Full(most)))) if most >= wanted => {
                break Ok(format!("{most} at once, of which some are in use now; {wanted} are needed"));
            }
            Ok(Ok((_, Said::Full(most)))) => {
                break Err(format!(
                    "[{module}] takes {most} at once, and {wanted} are needed: set `max connections = {}` for it in rsyncd.conf, which leaves \
                     one for `trigsync verify`, or write fewer `connections`",
                    wanted + 1
                ));
            }
            Ok(Ok((_, Said::Other(text)))) => break Err(text),
            Ok(Err(error)) => break Err(error.to_string()),
            Err(_) => break Err(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    };
    Some(Check { name: "connections", result })
}

async fn connect(host: &str, port: u16, module: &str) -> io::Result<(BufReader<TcpStream>, Said)> {
    let mut stream = BufReader::new(TcpStream::connect((host, port)).await?);
    line_of(&mut stream).await?;
    stream.write_all(format!("{GREETING}{module}\n").as_bytes()).await?;
    for _ in 0..MOST_LINES {
        let line = line_of(&mut stream).await?;
        if line.is_empty() {
            break;
        }
        if let Some(said) = understand(line.trim_end()) {
            return Ok((stream, said));
        }
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended without an answer"))
}

/// With its end; empty where there is nothing more.
async fn line_of(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = Vec::new();
    stream.take(LONGEST).read_until(b'\n', &mut line).await?;
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// None for a line of the message of the day.
fn understand(line: &str) -> Option<Said> {
    if let Some(error) = line.strip_prefix("@ERROR: ") {
        return Some(max_connections(error).map_or_else(|| Said::Other(error.to_owned()), Said::Full));
    }
    (line == "@RSYNCD: OK" || line.starts_with("@RSYNCD: AUTHREQD ")).then_some(Said::Yes)
}
