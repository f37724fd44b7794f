//! An upstream that answers with bytes: for what no server library would send.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// A running one. Dropping it closes its port and its connections.
pub struct Raw {
    address: SocketAddr,
    answer: Arc<Mutex<Vec<u8>>>,
    requests: watch::Sender<u64>,
    listener: JoinHandle<()>,
}

impl Raw {
    /// Starts one that answers nothing and closes until it is told what to say.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, answer, requests) = (listener.local_addr().unwrap(), Arc::default(), watch::Sender::new(0));
        let listener = tokio::spawn(accept(listener, Arc::clone(&answer), requests.clone()));
        Self { address, answer, requests, listener }
    }

    /// The base URL as an SDK takes it.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Each request from now on is answered with these very bytes, and the connection closed behind them.
    pub fn says(&self, bytes: impl Into<Vec<u8>>) {
        *self.answer.lock().unwrap() = bytes.into();
    }

    /// Requests that have arrived whole.
    pub fn requests(&self) -> u64 {
        *self.requests.borrow()
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn accept(listener: TcpListener, answer: Arc<Mutex<Vec<u8>>>, requests: watch::Sender<u64>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        connections.spawn(serve(stream, Arc::clone(&answer), requests.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut stream: TcpStream, answer: Arc<Mutex<Vec<u8>>>, requests: watch::Sender<u64>) {
    let (mut request, mut buffer) = (Vec::new(), vec![0; 16 * 1024]);
    while !is_whole(&request) {
        match stream.read(&mut buffer).await {
            Ok(read @ 1..) => request.extend_from_slice(&buffer[..read]),
            _ => return,
        }
    }
    requests.send_modify(|requests| *requests += 1);
    let answer = answer.lock().unwrap().clone();
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
    // Until the other side is done, too: a close before that would be a reset.
    while let Ok(1..) = stream.read(&mut buffer).await {}
}

/// Head and body, as its `content-length` says.
fn is_whole(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    request.len() >= end + 4 + length.unwrap_or(0)
}
