//! Cuts what a process prints into lines, as it comes, in bounded memory.
//!
//! A carriage return ends a line too: `--info=progress2` redraws with it.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Longer than any line of rsync's: two escaped names of 4,096 bytes and some words.
const LONGEST: usize = 64 << 10;

/// One of a child's output pipes.
pub(super) struct Lines<R> {
    pipe: R,
    buffer: Box<[u8]>,
    filled: usize,
    line: Vec<u8>,
    /// The rest of the line is thrown away.
    overlong: bool,
    /// The other side has closed.
    pub(super) ended: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(pipe: R) -> Self {
        Self { pipe, buffer: vec![0; 8 << 10].into(), filled: 0, line: Vec::new(), overlong: false, ended: false }
    }

    /// Waits for more. May be dropped while it waits without loss.
    pub(super) async fn fill(&mut self) {
        self.filled = match self.pipe.read(&mut self.buffer).await {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            Err(_) => 0,
        };
        self.ended = self.filled == 0;
    }

    /// The lines that are complete now; at the end also one that nothing ended.
    pub(super) fn take(&mut self, mut each: impl FnMut(&[u8])) {
        let chunk = &self.buffer[..std::mem::take(&mut self.filled)];
        for piece in chunk.split_inclusive(|&byte| byte == b'\n' || byte == b'\r') {
            let (body, complete) = match piece.split_last() {
                Some((b'\n' | b'\r', body)) => (body, true),
                _ => (piece, false),
            };
            let room = LONGEST - self.line.len();
            self.overlong |= body.len() > room;
            if complete && self.line.is_empty() && !self.overlong {
                each(body);
                continue;
            }
            self.line.extend_from_slice(&body[..body.len().min(room)]);
            if complete {
                each(&self.line);
                self.line.clear();
                self.overlong = false;
            }
        }
        if self.ended && !self.line.is_empty() {
            each(&self.line);
            self.line.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut mock = tokio_test_pipe(chunks).await;
        let mut found = Vec::new();
        while !mock.ended {
            mock.fill().await;
            mock.take(|line| found.push(line.to_vec()));
        }
        found
    }

    async fn tokio_test_pipe(chunks: &[&[u8]]) -> Lines<tokio::io::DuplexStream> {
        let (mut write, read) = tokio::io::duplex(1 << 20);
        for chunk in chunks {
            tokio::io::AsyncWriteExt::write_all(&mut write, chunk).await.unwrap();
        }
        Lines::new(read)
    }

    #[tokio::test]
    async fn lines_end_at_newlines_returns_and_the_end() {
        assert_eq!(lines(&[b"a\nb\rc", b"d\n\nlast"]).await, [&b"a"[..], b"b", b"cd", b"", b"last"]);
    }

    #[tokio::test]
    async fn an_endless_line_is_cut() {
        let long = vec![b'x'; 200 << 10];
        let found = lines(&[&long, b"\nnext\n"]).await;
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [LONGEST, 4]);
    }
}
