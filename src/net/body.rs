//! The two bodies of an upstream exchange: the pieces of a request, and an answer that gives its connection back.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::pool::Lease;

/// A request body made of pieces, written one after the other without being joined.
///
/// A spliced body is the client's own bytes with a few short pieces between them; each goes to the socket as it is
/// (`writev`). The size is exact, so HTTP/1.1 sends a `content-length`. A clone shares the pieces: the pool keeps one
/// for the single repetition that a stale connection earns.
#[derive(Clone, Debug)]
pub struct UpstreamBody {
    pieces: Arc<[Bytes]>,
    next: usize,
    left: u64,
}

impl UpstreamBody {
    /// A body of these pieces, in this order.
    pub fn new(pieces: Vec<Bytes>) -> UpstreamBody {
        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        UpstreamBody { pieces: pieces.into(), next: 0, left }
    }

    /// No body, as a GET has it.
    pub fn empty() -> UpstreamBody {
        UpstreamBody::new(Vec::new())
    }

    /// Bytes not yet handed to the connection.
    pub fn left(&self) -> u64 {
        self.left
    }
}

impl From<Bytes> for UpstreamBody {
    fn from(whole: Bytes) -> UpstreamBody {
        UpstreamBody::new(vec![whole])
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::convert::Infallible>>> {
        let this = self.get_mut();
        while let Some(piece) = this.pieces.get(this.next) {
            this.next += 1;
            if !piece.is_empty() {
                this.left -= piece.len() as u64;
                return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// The body of an upstream's answer, with the hold on its connection.
///
/// Read to its end, it hands an HTTP/1.1 connection back for the next request. Dropped before, it closes that
/// connection at once, or resets its HTTP/2 stream: this is how a client that hangs up stops the upstream.
/// The end counts only when it was seen: read until `None`, also after a dialect's own last event.
#[derive(Debug)]
pub struct Answer {
    // Before the lease, so that hyper has seen the body go when the lease ends.
    body: Incoming,
    lease: Option<Lease>,
}

impl Answer {
    pub(super) fn new(body: Incoming, lease: Lease) -> Answer {
        let mut answer = Answer { body, lease: Some(lease) };
        answer.finish_if(answer.body.is_end_stream());
        answer
    }

    fn finish_if(&mut self, over: bool) {
        if over && let Some(lease) = self.lease.take() {
            lease.finish();
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Err(_))) => this.lease = None,
            Poll::Ready(Some(Ok(_))) => this.finish_if(this.body.is_end_stream()),
            Poll::Ready(None) => this.finish_if(true),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn pieces_come_out_in_order_and_unjoined() {
        let whole = Bytes::from_static(b"{\"model\":\"auto\"}");
        let pieces = vec![whole.slice(..10), Bytes::new(), Bytes::from_static(b"gpt"), whole.slice(14..)];
        let mut body = UpstreamBody::new(pieces);
        let spare = body.clone();
        assert_eq!(body.size_hint().exact(), Some(15));
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first.as_ptr(), whole.as_ptr(), "the client's bytes are not copied");
        assert_eq!(body.size_hint().exact(), Some(5));
        assert_eq!(spare.collect().await.unwrap().to_bytes(), "{\"model\":\"gpt\"}");
    }

    #[test]
    fn an_empty_body_has_ended_before_it_began() {
        assert!(UpstreamBody::empty().is_end_stream());
        assert!(UpstreamBody::from(Bytes::new()).is_end_stream());
    }
}
