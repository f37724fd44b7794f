//! The canned upstream: a model server that computes nothing, so that what is measured is the proxy in front of it.
//!
//! HTTP/1.1 read and written by hand, as cheap as sockets allow, because it shares a thread with the load generator.
//! What it answers is in the request's own body, where any gateway passes it on: `stream`, `max_tokens` = the number
//! of events, `seed` = the milliseconds between them, 0 for a burst.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};

use crate::process::loopback;

/// Bytes of a plain answer's body.
pub const ANSWER_BYTES: usize = 1_300;
/// Bytes of a request that the upstream takes at most.
const REQUEST_LIMIT: usize = 1 << 20;
/// Events that a stream has at most.
const EVENT_LIMIT: u64 = 100_000;
/// Words that fill questions and answers.
pub const WORDS: &str =
    "the harbour master wrote down every ship that came in with its cargo and the day it left again ";

/// Starts the upstream on this thread's runtime and tells its address.
pub async fn start() -> Result<SocketAddr> {
    let listener = TcpListener::bind(loopback(0)).await?;
    let address = listener.local_addr()?;
    let canned = &*Box::leak(Box::new(Canned::new()));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if stream.set_nodelay(true).is_ok() {
                // A broken connection is the other side's affair, and it counts what it lost.
                tokio::spawn(async move { connection(stream, canned).await.ok() });
            }
        }
    });
    Ok(address)
}

/// The bytes of every answer, made once.
struct Canned {
    answer: Vec<u8>,
    head: Vec<u8>,
    event: Vec<u8>,
    end: Vec<u8>,
}

impl Canned {
    fn new() -> Self {
        let body = answer_body();
        let mut answer =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len())
                .into_bytes();
        answer.extend_from_slice(&body);
        let piece = |data: &str| format!("{:x}\r\ndata: {data}\n\n\r\n", data.len() + 8).into_bytes();
        let common =
            r#""id":"chatcmpl-bench","object":"chat.completion.chunk","created":1735689600,"model":"canned-1""#;
        let event = piece(&format!(
            r#"{{{common},"choices":[{{"index":0,"delta":{{"content":" harbour"}},"finish_reason":null}}],"usage":null}}"#
        ));
        let mut end = piece(&format!(
            r#"{{{common},"choices":[{{"index":0,"delta":{{}},"finish_reason":"stop"}}],"usage":null}}"#
        ));
        end.extend(piece(&format!(r#"{{{common},"choices":[],"usage":{}}}"#, usage())));
        end.extend(piece("[DONE]"));
        end.extend_from_slice(b"0\r\n\r\n");
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        Self { answer, head, event, end }
    }
}

/// Events that a stream ends with: the finish reason, the usage and `[DONE]`.
pub const CLOSING_EVENTS: u64 = 3;

fn usage() -> &'static str {
    r#"{"prompt_tokens":200,"completion_tokens":220,"total_tokens":420,"prompt_tokens_details":{"cached_tokens":0}}"#
}

fn answer_body() -> Vec<u8> {
    let start = concat!(
        r#"{"id":"chatcmpl-bench","object":"chat.completion","created":1735689600,"model":"canned-1","#,
        r#""choices":[{"index":0,"message":{"role":"assistant","content":""#
    );
    let end = format!(r#""}},"logprobs":null,"finish_reason":"stop"}}],"usage":{}}}"#, usage());
    let filling = WORDS.chars().cycle().take(ANSWER_BYTES - start.len() - end.len());
    start.chars().chain(filling).chain(end.chars()).collect::<String>().into_bytes()
}

async fn connection(mut stream: TcpStream, canned: &Canned) -> Result<()> {
    let mut buffer = Vec::with_capacity(8 * 1024);
    loop {
        let (head, body) = match complete(&buffer)? {
            Some(parts) => parts,
            None if stream.read_buf(&mut buffer).await? == 0 => return Ok(()),
            None => continue,
        };
        let request = &buffer[head..head + body];
        if memmem::find(request, b"\"stream\":true").is_some() {
            let events = number(request, b"\"max_tokens\":").context("no max_tokens")?.min(EVENT_LIMIT);
            let pace = Duration::from_millis(number(request, b"\"seed\":").context("no seed")?);
            events_out(&mut stream, canned, events, pace).await?;
        } else {
            stream.write_all(&canned.answer).await?;
        }
        buffer.drain(..head + body);
    }
}

/// Sends the head at once, as a model server does before the prompt is read, then one event per write.
async fn events_out(stream: &mut TcpStream, canned: &Canned, events: u64, pace: Duration) -> Result<()> {
    let mut due = Instant::now();
    stream.write_all(&canned.head).await?;
    for _ in 0..events {
        if pace.is_zero() {
            tokio::task::yield_now().await;
        } else {
            // Times follow from the start, so that a late event makes no later one late.
            due += pace;
            sleep_until(due).await;
        }
        stream.write_all(&canned.event).await?;
    }
    stream.write_all(&canned.end).await?;
    Ok(())
}

/// Lengths of head and body once a whole request lies in `buffer`.
fn complete(buffer: &[u8]) -> Result<Option<(usize, usize)>> {
    let Some(at) = memmem::find(buffer, b"\r\n\r\n") else {
        if buffer.len() > REQUEST_LIMIT {
            bail!("request head too long");
        }
        return Ok(None);
    };
    let head = at + 4;
    let body = buffer[..head]
        .split(|byte| *byte == b'\n')
        .find(|line| line.len() > 15 && line[..15].eq_ignore_ascii_case(b"content-length:"))
        .and_then(|line| number(line, b":"))
        .unwrap_or(0) as usize;
    if body > REQUEST_LIMIT {
        bail!("request body too long");
    }
    Ok((buffer.len() >= head + body).then_some((head, body)))
}

/// The number behind the first `name` in `text`.
fn number(text: &[u8], name: &[u8]) -> Option<u64> {
    let at = memmem::find(text, name)? + name.len();
    let rest = text[at..].trim_ascii_start();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}
