//! The fault proxy: bytes pass between two sides late, unevenly, slowly, changed, in part or not at all.
//!
//! It stands before a TCP server. Each connection gets the weather that its number and the proxy's seed choose, so a run
//! is repeated by its seed.
//!
//! ```ignore
//! let proxy = Proxy::start(upstream.address(), 7).await;
//! proxy.choose(|chance, _| Weather { down: Way::cut_at(chance.below(500) as u64), ..Weather::FAIR });
//! ```

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use super::Chance;

/// What happens to the bytes of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Way {
    /// Each piece waits so long, and a random part of `jitter` beside.
    pub delay: Duration,
    /// The most that is added to the delay of a piece.
    pub jitter: Duration,
    /// No piece is longer; 0 = as they come.
    pub piece: usize,
    /// What happens at the byte of this offset.
    pub at: Option<(u64, Blow)>,
}

/// What happens at one byte of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// Both sides see an orderly end.
    Cut,
    /// Both sides see a reset.
    Reset,
    /// This direction goes silent: bytes are taken and lost, and nothing closes.
    Swallow,
    /// The byte is changed.
    Corrupt,
}

impl Way {
    /// As the bytes come.
    pub const CLEAR: Self = Self { delay: Duration::ZERO, jitter: Duration::ZERO, piece: 0, at: None };

    /// A blow at one byte.
    pub fn struck(offset: u64, blow: Blow) -> Self {
        Self { at: Some((offset, blow)), ..Self::CLEAR }
    }
}

/// What one connection meets.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Towards the server.
    pub up: Way,
    /// Towards the client.
    pub down: Way,
    /// The connection is taken and never passed on.
    pub half_open: bool,
}

impl Weather {
    /// Nothing happens.
    pub const FAIR: Self = Self { up: Way::CLEAR, down: Way::CLEAR, half_open: false };
    /// Nothing comes through.
    pub const DEAD: Self = Self { half_open: true, ..Self::FAIR };
}

type Chooser = dyn Fn(&mut Chance, u64) -> Weather + Send + Sync;

/// A running proxy. Dropping it closes its port and its connections.
pub struct Proxy {
    address: SocketAddr,
    weather: Arc<Mutex<Arc<Chooser>>>,
    struck: watch::Sender<u64>,
    /// How often it has gone silent: connections of before pass nothing.
    silenced: watch::Sender<u64>,
    listener: JoinHandle<()>,
}

impl Proxy {
    /// Starts one before `server`, in fair weather.
    pub async fn start(server: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let weather: Arc<Mutex<Arc<Chooser>>> = Arc::new(Mutex::new(Arc::new(|_, _| Weather::FAIR)));
        let (struck, silenced) = (watch::Sender::new(0), watch::Sender::new(0));
        let met = Met { weather: weather.clone(), struck: struck.clone(), silenced: silenced.subscribe() };
        let listener = tokio::spawn(accept(listener, server, seed, met));
        Self { address, weather, struck, silenced, listener }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL as an SDK takes it.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// All connections from now on meet this.
    pub fn set(&self, weather: Weather) {
        self.choose(move |_, _| weather);
    }

    /// Connections from now on meet what `chooser` says, from chance of their own and their number.
    pub fn choose(&self, chooser: impl Fn(&mut Chance, u64) -> Weather + Send + Sync + 'static) {
        *self.weather.lock().unwrap() = Arc::new(chooser);
    }

    /// Both sides of every connection, open or to come, hear nothing more of each other, and nothing closes.
    pub fn goes_silent(&self) {
        self.set(Weather::DEAD);
        self.silenced.send_modify(|silenced| *silenced += 1);
    }

    /// New connections pass again; those that fell silent stay as they are.
    pub fn clears(&self) {
        self.set(Weather::FAIR);
    }

    /// How many blows have fallen.
    pub fn struck(&self) -> u64 {
        *self.struck.borrow()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// What connections meet, and where it is counted.
#[derive(Clone)]
struct Met {
    weather: Arc<Mutex<Arc<Chooser>>>,
    struck: watch::Sender<u64>,
    silenced: watch::Receiver<u64>,
}

async fn accept(listener: TcpListener, server: SocketAddr, seed: u64, met: Met) {
    let mut connections = JoinSet::new();
    let mut number = 0;
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let mut chance = Chance(seed ^ u64::wrapping_mul(number, 0x9e37_79b9_7f4a_7c15));
        let chooser = met.weather.lock().unwrap().clone();
        let weather = chooser(&mut chance, number);
        number += 1;
        let sky = Sky { struck: met.struck.clone(), silenced: met.silenced.clone(), before: *met.silenced.borrow() };
        connections.spawn(connection(client, server, weather, chance, sky));
        while connections.try_join_next().is_some() {}
    }
}

/// What is above one connection.
struct Sky {
    struck: watch::Sender<u64>,
    silenced: watch::Receiver<u64>,
    /// How often the proxy had gone silent when it began.
    before: u64,
}

impl Sky {
    fn strikes(&self) {
        self.struck.send_modify(|blows| *blows += 1);
    }

    fn is_silent(&self) -> bool {
        *self.silenced.borrow() != self.before
    }
}

/// How a direction ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Its sender closed, or one side is gone.
    Closed,
    Cut,
    Reset,
}

async fn connection(client: TcpStream, server: SocketAddr, weather: Weather, chance: Chance, sky: Sky) {
    if weather.half_open {
        sky.strikes();
        let (mut reader, _writer) = client.into_split();
        let mut lost = [0; 4096];
        while reader.read(&mut lost).await.is_ok_and(|read| read > 0) {}
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    for stream in [&client, &server] {
        stream.set_nodelay(true).unwrap();
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let other = Chance(!chance.0);
    let end = {
        let up = pass(&mut from_client, &mut to_server, weather.up, chance, &sky);
        let down = pass(&mut from_server, &mut to_client, weather.down, other, &sky);
        let (mut up, mut down) = (std::pin::pin!(up), std::pin::pin!(down));
        // A client that closed its half may still read; a server that is done is done.
        tokio::select! {
            end = &mut up => if end == End::Closed { down.await } else { end },
            end = &mut down => end,
        }
    };
    if end == End::Reset {
        let client = from_client.reunite(to_client).unwrap();
        let server = from_server.reunite(to_server).unwrap();
        for stream in [&client, &server] {
            let _ = stream.set_zero_linger();
        }
    }
}

async fn pass(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, way: Way, mut chance: Chance, sky: &Sky) -> End {
    let mut buffer = vec![0; if way.piece == 0 { 16 * 1024 } else { way.piece }];
    let (mut passed, mut silent) = (0, false);
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let bytes = &mut buffer[..read];
        let pause = way.delay + way.jitter.mul_f64((chance.next() % 1024) as f64 / 1024.0);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let blow = way.at.filter(|(at, _)| (passed..passed + read as u64).contains(at));
        let mut send = read;
        if let Some((at, blow)) = blow {
            sky.strikes();
            let within = (at - passed) as usize;
            match blow {
                Blow::Corrupt => bytes[within] ^= 1 << (chance.next() % 7),
                Blow::Cut | Blow::Reset | Blow::Swallow => send = within,
            }
        }
        silent |= sky.is_silent();
        if !silent && to.write_all(&bytes[..send]).await.is_err() {
            break;
        }
        match blow {
            Some((_, Blow::Cut)) => return End::Cut,
            Some((_, Blow::Reset)) => return End::Reset,
            Some((_, Blow::Swallow)) => silent = true,
            Some((_, Blow::Corrupt)) | None => {}
        }
        passed += read as u64;
    }
    let _ = to.shutdown().await;
    End::Closed
}
