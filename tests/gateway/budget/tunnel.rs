//! A way to a server that can go silent: open connections stay open, and nothing passes on them any more.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// A running tunnel. Dropping it closes it.
pub struct Tunnel {
    pub address: SocketAddr,
    /// How often it has gone silent: connections of before pass nothing.
    silenced: watch::Sender<u64>,
    /// New connections pass nothing either.
    blocked: watch::Sender<bool>,
    listener: JoinHandle<()>,
}

impl Tunnel {
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (silenced, blocked) = (watch::Sender::new(0), watch::Sender::new(false));
        let listener = tokio::spawn(accept(listener, server, silenced.subscribe(), blocked.subscribe()));
        Self { address, silenced, blocked, listener }
    }

    /// Both sides of every connection hear nothing more of each other, and nothing closes.
    pub fn goes_silent(&self) {
        self.blocked.send_replace(true);
        self.silenced.send_modify(|silenced| *silenced += 1);
    }

    /// New connections pass again; the old ones stay as they are.
    pub fn opens(&self) {
        self.blocked.send_replace(false);
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    silenced: watch::Receiver<u64>,
    blocked: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let (silenced, blocked) = (silenced.clone(), *blocked.borrow());
        connections.spawn(async move {
            let Ok(server) = TcpStream::connect(server).await else { return };
            let silenced = if blocked { watch::Sender::new(1).subscribe() } else { silenced };
            let before = if blocked { 0 } else { *silenced.borrow() };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::join!(
                pass(from_client, to_server, silenced.clone(), before),
                pass(from_server, to_client, silenced, before),
            );
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Passes bytes on; from the silence on they are read and lost.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, silenced: watch::Receiver<u64>, before: u64) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let passes = *silenced.borrow() == before;
        if passes && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
