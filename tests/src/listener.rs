//! Listeners that a plugin tells: what came over each connection, and requests over HTTP.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Instant,
};

/// Takes connections for as long as the test lives.
pub struct Listener<T> {
    /// Where it listens.
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<T>>>,
}

/// A request, and how it was answered.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    /// When it had come.
    pub at: Instant,
    /// `POST`.
    pub method: String,
    /// The path and what is behind it.
    pub target: String,
    /// As they came, one line each.
    pub headers: Vec<String>,
    /// All of it.
    pub body: Vec<u8>,
    /// The status.
    pub answer: u16,
}

impl<T: Clone + Send + 'static> Listener<T> {
    fn start(serve: impl Fn(TcpStream, &Mutex<Vec<T>>) -> Option<()> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let address = listener.local_addr().expect("it is bound");
        let heard: Arc<Mutex<Vec<T>>> = Arc::default();
        let all = heard.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that breaks off is seen by what was not heard.
                let _ = serve(stream, &all);
            }
        });
        Self { address, heard }
    }

    /// Everything so far, in the order in which it came.
    pub fn heard(&self) -> Vec<T> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Listener<Vec<u8>> {
    /// Reads every connection to its end.
    pub fn tcp() -> Self {
        Self::start(|mut stream, heard| {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).ok()?;
            heard.lock().ok()?.push(bytes);
            Some(())
        })
    }
}

impl Listener<HttpRequest> {
    /// Answers each request with the status that `answer` gives to its number, which counts from 1, and closes the connection.
    pub fn http(answer: impl Fn(usize) -> u16 + Send + 'static) -> Self {
        Self::start(move |stream, heard| {
            let mut reader = BufReader::new(&stream);
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let mut words = line.split_whitespace().map(str::to_owned);
            let (method, target) = (words.next()?, words.next()?);
            let mut headers = Vec::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).ok()?;
                if line.trim().is_empty() {
                    break;
                }
                headers.push(line.trim_end().to_owned());
            }
            let length = headers.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            reader.read_exact(&mut body).ok()?;
            let mut heard = heard.lock().ok()?;
            let answer = answer(heard.len() + 1);
            heard.push(HttpRequest { at: Instant::now(), method, target, headers, body, answer });
            drop(heard);
            (&stream).write_all(format!("HTTP/1.1 {answer} so\r\nContent-Length: 3\r\nConnection: close\r\n\r\nso\n").as_bytes()).ok()
        })
    }
}
