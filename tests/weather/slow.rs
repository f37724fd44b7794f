//! Slow clients, five thousand at once: heads, bodies and readers that dawdle. Memory stays bounded, and others are served.

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::{
    harness::{KEY, chat, streamed, until},
    sky::{PATH, PAYER, Sky, audited},
    upstream::Script,
};

const CONNECTIONS: usize = 5_000;
const READERS: usize = 1_000;

/// What a process holds in memory, in bytes: `VmRSS` of `/proc/PID/status`.
pub fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// The threads of a process.
fn threads(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count()
}

/// So many connections that send this and then nothing; others are served meanwhile, in `each` bytes of memory.
async fn dawdle(bytes: &[u8], each: u64) {
    let sky = Sky::new().await;
    sky.ask().await;
    let (before, at_first) = (resident(sky.gateway.pid()), threads(sky.gateway.pid()));
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(sky.gateway.address()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        open.push(stream);
    }
    for _ in 0..100 {
        assert_eq!(sky.ask().await.status, 200);
    }
    let grown = resident(sky.gateway.pid()).saturating_sub(before) / CONNECTIONS as u64;
    println!("{grown} bytes for each of {CONNECTIONS}");
    assert!(grown <= each, "{grown} bytes for each of {CONNECTIONS}");
    assert!(threads(sky.gateway.pid()) <= at_first + 4, "a thread a connection");
    assert_eq!(sky.calls(), 101);
    drop(open);
    until("all are let go", async || sky.gateway.metric("turnpike_holds_open", &[]).await == 0.0).await;
    sky.balances(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_slow_heads() {
    dawdle(format!("POST {PATH} HTTP/1.1\r\nhost: a\r\nx-filler: {}", "x".repeat(4_000)).as_bytes(), 64 << 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_silent_connections() {
    dawdle(b"", 32 << 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_slow_bodies() {
    // What a body may become is not what it takes: only what has come is held.
    let head =
        format!("POST {PATH} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {PAYER}\r\ncontent-length: 30000000\r\n\r\n");
    dawdle(format!("{head}{{\"messages\": \"{}", "x".repeat(4_000)).as_bytes(), 64 << 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_without_a_key_are_not_waited_for() {
    let sky = Sky::new().await;
    let mut stream = TcpStream::connect(sky.gateway.address()).await.unwrap();
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-length: 30000000\r\n\r\n{{");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 401");
}

/// Readers that take nothing: the upstream is held back, and a long answer is nobody's memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_readers_of_long_answers_that_read_nothing() {
    let sky = Sky::new().await;
    // 2 MiB each, 2 GiB in all, if somebody took it. Made once, for all share the bytes.
    let event = serde_json::json!({"choices": [{"index": 0, "delta": {"content": "x".repeat(64 << 10)}}]});
    let mut events = vec![Bytes::from(format!("data: {event}\n\n")); 32];
    // Of a few the sockets' buffers may take all.
    events
        .push("data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n".into());
    let long = Script::events(events);
    let short = Script::says("short").prompt_tokens(sky.prompt);
    sky.first.choose(move |request| if request.wants_stream() { long.clone() } else { short.clone() });
    sky.ask().await;
    let before = resident(sky.gateway.pid());
    let mut body = streamed("chain");
    body["max_completion_tokens"] = 4_000_000.into();
    let body = body.to_string();
    // Of a team without a budget: what they may cost at most is a fortune.
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n");
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    let mut open = Vec::new();
    for _ in 0..READERS {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(sky.gateway.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        open.push(stream);
    }
    sky.first.until(|tally| tally.requests as usize > READERS).await;
    for _ in 0..100 {
        assert_eq!(sky.client().post(PATH, &chat("chain")).await.status, 200);
    }
    let grown = resident(sky.gateway.pid()).saturating_sub(before) / READERS as u64;
    println!("{grown} bytes for each of {READERS} readers");
    assert!(grown <= 512 << 10, "{grown} bytes for each reader");
    drop(open);
    sky.first.until(|tally| tally.open == 0).await;
    until("all is settled", async || sky.gateway.metric("turnpike_holds_open", &[]).await == 0.0).await;
    // They took different parts of answers that tell no usage: what they are charged agrees with itself.
    audited(sky.gateway.site(), (sky.gateway.metric("turnpike_cost_usd_total", &[]).await * 1e9).round() as u64);
}
