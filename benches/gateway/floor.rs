//! The floor: what a gateway on hyper costs at the very least.
//!
//! It collects and parses the request, replaces the key, forwards on pooled keep-alive connections, relays what comes
//! and reads the usage. No limits, no retries, no records: everything that Turnpike costs beyond this is its own.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use memchr::memmem;
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};

use crate::process::loopback;

type Sender = SendRequest<Full<Bytes>>;

struct Floor {
    upstream: SocketAddr,
    host: HeaderValue,
    key: HeaderValue,
    idle: Mutex<Vec<Sender>>,
    usage: memmem::Finder<'static>,
}

#[derive(Deserialize)]
struct Facts<'a> {
    model: &'a str,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    max_tokens: u32,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
}

/// Serves in front of `upstream` until the process is ended; prints the port first.
pub async fn serve(upstream: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(loopback(0)).await?;
    println!("{}", listener.local_addr()?.port());
    let floor = Arc::new(Floor {
        upstream,
        host: HeaderValue::from_str(&upstream.to_string())?,
        key: HeaderValue::from_static("Bearer upstream"),
        idle: Mutex::default(),
        usage: memmem::Finder::new(b"\"usage\":{"),
    });
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let floor = floor.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| floor.clone().forward(request));
            let server = hyper::server::conn::http1::Builder::new();
            // A client that goes away is no fault of the floor; the load generator counts what it lost.
            server.serve_connection(TokioIo::new(stream), service).await.ok()
        });
    }
}

impl Floor {
    async fn forward(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Relay>> {
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let facts: Facts = serde_json::from_slice(&body)?;
        std::hint::black_box((facts.model.len(), facts.stream, facts.max_tokens));
        for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::TE, header::UPGRADE] {
            parts.headers.remove(name);
        }
        parts.headers.insert(header::HOST, self.host.clone());
        parts.headers.insert(header::AUTHORIZATION, self.key.clone());
        let mut sender = self.sender().await?;
        let answer = sender.send_request(Request::from_parts(parts, Full::new(body))).await?;
        let (mut parts, inner) = answer.into_parts();
        parts.headers.remove(header::CONNECTION);
        parts.headers.remove(header::TRANSFER_ENCODING);
        Ok(Response::from_parts(parts, Relay { inner, sender: Some(sender), floor: self, tokens: 0 }))
    }

    async fn sender(&self) -> Result<Sender> {
        while let Some(mut sender) = self.pop() {
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let stream = TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move { connection.await.ok() });
        Ok(sender)
    }

    fn pop(&self) -> Option<Sender> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// The upstream's body on its way to the client.
struct Relay {
    inner: Incoming,
    sender: Option<Sender>,
    floor: Arc<Floor>,
    tokens: u64,
}

impl Body for Relay {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
            && let Some(at) = self.floor.usage.find(data)
            && let Some(Ok(usage)) = serde_json::Deserializer::from_slice(&data[at + 8..]).into_iter::<Usage>().next()
        {
            self.tokens = std::hint::black_box(usage.prompt_tokens + usage.completion_tokens);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if self.inner.is_end_stream()
            && let Some(sender) = self.sender.take()
        {
            self.floor.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        }
    }
}
