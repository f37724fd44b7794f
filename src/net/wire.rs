//! One TCP or TLS byte stream, with a note of what has crossed it.
//!
//! hyper's errors tell that an exchange failed, not how far it came. Whether a request may be repeated, and whether
//! it can have been billed, hangs on two facts that only the stream knows: did a byte leave, did a byte arrive.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsStream;

/// What has crossed a stream since the last [`Watch::rearm`].
#[derive(Debug, Default)]
pub(super) struct Watch {
    read: AtomicBool,
    written: AtomicBool,
    answered_back: AtomicBool,
    /// Fires once, at the first write after the first read of the connection. An HTTP/2 peer's first frame is
    /// SETTINGS, and h2 applies it before it writes the acknowledgement: from then on the stream limit is known.
    pub(super) settled: Notify,
}

impl Watch {
    /// Forgets what crossed before; called as a request is handed to an idle connection.
    pub(super) fn rearm(&self) {
        self.read.store(false, Ordering::Release);
        self.written.store(false, Ordering::Release);
    }

    /// Whether a byte of the answer has arrived.
    pub(super) fn read(&self) -> bool {
        self.read.load(Ordering::Acquire)
    }

    /// Whether a byte of the request has left.
    pub(super) fn written(&self) -> bool {
        self.written.load(Ordering::Acquire)
    }

    fn note_read(&self) {
        if !self.read.load(Ordering::Relaxed) {
            self.read.store(true, Ordering::Release);
        }
    }

    fn note_write(&self, result: &Poll<io::Result<usize>>) {
        if matches!(result, Poll::Ready(Ok(1..))) && !self.written.load(Ordering::Relaxed) {
            self.written.store(true, Ordering::Release);
        }
        if self.read() && !self.answered_back.load(Ordering::Relaxed) {
            self.answered_back.store(true, Ordering::Relaxed);
            self.settled.notify_one();
        }
    }
}

/// The bytes below HTTP: plain, or inside TLS.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(TcpStream),
    // Boxed because a TLS session is 1 KB and more, and a plain one should not pay for it.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Whether the handshake agreed on HTTP/2.
    pub(super) fn speaks_h2(&self) -> bool {
        match self {
            Transport::Plain(_) => false,
            Transport::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }
}

/// Calls the same method on whichever stream it is.
macro_rules! either {
    ($transport:expr, $stream:ident => $call:expr) => {
        match $transport {
            Transport::Plain(plain) => {
                let $stream = Pin::new(plain);
                $call
            }
            Transport::Tls(tls) => {
                let $stream = Pin::new(tls.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Transport::Plain(plain) => plain.is_write_vectored(),
            Transport::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => stream.poll_shutdown(cx))
    }
}

/// A transport to an upstream, watched.
#[derive(Debug)]
pub(super) struct Wire {
    transport: Transport,
    watch: Arc<Watch>,
}

impl Wire {
    pub(super) fn new(transport: Transport) -> Wire {
        Wire { transport, watch: Arc::default() }
    }

    pub(super) fn speaks_h2(&self) -> bool {
        self.transport.speaks_h2()
    }

    pub(super) fn watch(&self) -> Arc<Watch> {
        Arc::clone(&self.watch)
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.transport).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.watch.note_read();
        }
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.transport).poll_write(cx, buf);
        self.watch.note_write(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.transport).poll_write_vectored(cx, bufs);
        self.watch.note_write(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}
