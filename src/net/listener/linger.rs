//! The end of a connection whose client may still be sending.
//!
//! A refusal may come before the body of its request has been read. To close the socket then resets the connection, and
//! the reset overtakes the refusal: the client sees a broken connection instead of a status, and asks again what it was
//! told not to. So our side is closed first, and what still comes is read and thrown away for a while (RFC 9112 §9.6).

use std::{
    future::Future,
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use crate::net::wire::Transport;

/// For how long what comes is thrown away.
const LONGEST: Duration = Duration::from_secs(2);
/// How much of it, in bytes: as much as the largest body that is taken, and as much again.
const MOST: usize = 64 << 20;

/// See the module's text.
pub(super) struct Lingering {
    transport: Transport,
    end: End,
}

enum End {
    Open,
    /// Our side is closed; so much may still be read.
    Closed {
        left: usize,
        timer: Option<Pin<Box<Sleep>>>,
    },
}

impl Lingering {
    pub(super) fn new(transport: Transport) -> Self {
        Self { transport, end: End::Open }
    }
}

impl AsyncRead for Lingering {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_read(cx, buf)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if matches!(this.end, End::Open) {
            ready!(Pin::new(&mut this.transport).poll_shutdown(cx))?;
            this.end = End::Closed { left: MOST, timer: None };
        }
        let End::Closed { left, timer } = &mut this.end else { return Poll::Ready(Ok(())) };
        while *left > 0 {
            let mut thrown_away = [MaybeUninit::uninit(); 8 * 1024];
            let mut buf = ReadBuf::uninit(&mut thrown_away);
            match Pin::new(&mut this.transport).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => *left = left.saturating_sub(buf.filled().len()),
                // Its side is closed too, or broken.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    let timer = timer.get_or_insert_with(|| Box::pin(sleep(LONGEST)));
                    return timer.as_mut().poll(cx).map(Ok);
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}
