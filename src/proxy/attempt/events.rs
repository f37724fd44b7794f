//! An upstream's stream as events, under the clocks of silence and of the whole attempt.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    net::body,
    wire::sse::{Event, Framer},
};

/// Why a stream broke off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Break {
    /// The connection failed, or closed inside the body.
    Connection,
    /// Nothing came for the idle time.
    Idle,
    /// The attempt took longer than its total time.
    Total,
    /// An event passed the limit.
    TooLong,
}

impl Break {
    /// What is said of it to operators and clients.
    pub const fn message(&self) -> &'static str {
        match self {
            Self::Connection => "the upstream's connection broke inside the answer",
            Self::Idle => "the upstream fell silent inside the answer",
            Self::Total => "the answer took longer than the time that an attempt may take",
            Self::TooLong => "the upstream sent an event that is too long",
        }
    }

    /// The outcome in metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Connection => "cut",
            Self::Idle => "idle_timeout",
            Self::Total => "total_timeout",
            Self::TooLong => "garbage",
        }
    }
}

/// How long an upstream may take to end its body after its last event.
const END_GRACE: Duration = Duration::from_millis(250);

/// See the module's text.
#[derive(Debug)]
pub struct Events {
    body: body::Answer,
    framer: Framer,
    idle: Duration,
    total: Instant,
    // Moved forward only when it fires: resetting a timer at every token would cost more than reading the token.
    timer: Pin<Box<Sleep>>,
    last: Instant,
    ending: bool,
}

impl Events {
    /// Reads `body`; `total` is the end of the attempt.
    pub fn new(body: body::Answer, idle: Duration, total: Instant) -> Self {
        let last = Instant::now();
        let timer = Box::pin(sleep_until(total.min(last + idle)));
        Self { body, framer: Framer::default(), idle, total, timer, last, ending: false }
    }

    /// The next event if one is complete already.
    pub fn ready_event(&mut self) -> Option<Event> {
        let event = self.framer.next_event()?;
        if event.data.is_some() {
            self.last = Instant::now();
        }
        Some(event)
    }

    /// The next event; `None` at the clean end of the body. An unfinished event at the end is a broken connection.
    pub fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Event>, Break>> {
        loop {
            if let Some(event) = self.ready_event() {
                return Poll::Ready(Ok(Some(event)));
            }
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.framer.push(data).map_err(|_| Break::TooLong)?;
                    }
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Break::Connection)),
                Poll::Ready(None) if self.framer.has_rest() => return Poll::Ready(Err(Break::Connection)),
                Poll::Ready(None) => return Poll::Ready(Ok(None)),
                Poll::Pending => ready!(self.poll_clocks(context))?,
            }
        }
    }

    fn poll_clocks(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Break>> {
        loop {
            ready!(self.timer.as_mut().poll(context));
            let now = Instant::now();
            if now >= self.total {
                return Poll::Ready(Err(Break::Total));
            }
            if now >= self.last + self.idle {
                return Poll::Ready(Err(Break::Idle));
            }
            let next = self.total.min(self.last + self.idle);
            self.timer.as_mut().reset(next);
        }
    }

    /// What is left of the body, up to `limit` bytes: for a body that turned out to be no stream.
    pub async fn rest(mut self, limit: usize) -> Bytes {
        let mut rest = BytesMut::new();
        while let Some(Ok(frame)) = self.body.frame().await {
            if let Ok(data) = frame.into_data() {
                let room = limit - rest.len();
                rest.extend_from_slice(&data[..data.len().min(room)]);
            }
            if rest.len() == limit {
                break;
            }
        }
        rest.freeze()
    }

    /// Lets the upstream finish its body after the last event, so that the connection can be used again; a body that
    /// is not at its end within `grace` is let go.
    pub fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !std::mem::replace(&mut self.ending, true) {
            self.timer.as_mut().reset(Instant::now() + END_GRACE);
        }
        loop {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending => return self.timer.as_mut().poll(context),
            }
        }
    }

    /// [`Self::poll_event`] as a future.
    pub async fn next(&mut self) -> Result<Option<Event>, Break> {
        poll_fn(|context| self.poll_event(context)).await
    }
}
