//! The body that a client reads: a whole answer, a stream in relay, or a stream whose winner is not known yet.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{relay::Relay, waiting::Waiting};

/// A response body.
pub enum Answer {
    /// A whole answer.
    Full(Option<Bytes>),
    /// A stream that has begun.
    Relay(Box<Relay>),
    /// A stream that was promised before it began.
    Waiting(Box<Waiting>),
}

impl Answer {
    /// A whole answer.
    pub fn full(bytes: Bytes) -> Self {
        Self::Full((!bytes.is_empty()).then_some(bytes))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut *self {
            Self::Full(bytes) => Poll::Ready(bytes.take()),
            Self::Relay(relay) => relay.poll_bytes(context),
            Self::Waiting(waiting) => waiting.poll_bytes(context),
        };
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Relay(_) | Self::Waiting(_) => SizeHint::default(),
        }
    }
}
