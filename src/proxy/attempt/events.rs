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
    /// The client's own deadline passed: nobody's fault.
    Deadline,
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
            Self::Deadline => "the request's deadline passed",
            Self::TooLong => "the upstream sent an event that is too long",
        }
    }

    /// The outcome in metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Connection => "cut",
            Self::Idle => "idle_timeout",
            Self::Total => "total_timeout",
            Self::Deadline => "deadline",
            Self::TooLong => "garbage",
        }
    }
}

/// How long an upstream may take to end its body after its last event.
const END_GRACE: Duration = Duration::from_millis(250);

/// See the module's text.
#[derive(Debug)]
pub struct Events {
    // None once it was cancelled.
    body: Option<body::Answer>,
    framer: Framer,
    // Runs from the first token on; before it, the clock of the first token does.
    idle: Option<Duration>,
    total: Instant,
    deadline: Option<Instant>,
    // Moved forward only when it fires: resetting a timer at every token would cost more than reading the token.
    timer: Pin<Box<Sleep>>,
    last: Instant,
    ending: bool,
}

impl Events {
    /// Reads `body` until the attempt's `total` or the client's own `deadline`.
    pub fn new(body: body::Answer, total: Instant, deadline: Option<Instant>) -> Self {
        let timer = Box::pin(sleep_until(deadline.map_or(total, |deadline| deadline.min(total))));
        let last = Instant::now();
        Self { body: Some(body), framer: Framer::default(), idle: None, total, deadline, timer, last, ending: false }
    }

    /// The first token has come: from now on, silence for longer than `idle` is a failure.
    pub fn watch_silence(&mut self, idle: Duration) {
        self.last = Instant::now();
        self.idle = Some(idle);
        let next = self.next_clock();
        self.timer.as_mut().reset(next);
    }

    fn next_clock(&self) -> Instant {
        let end = self.deadline.map_or(self.total, |deadline| deadline.min(self.total));
        self.idle.map_or(end, |idle| end.min(self.last + idle))
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
            let Some(body) = &mut self.body else { return Poll::Ready(Ok(None)) };
            match Pin::new(body).poll_frame(context) {
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
            if self.deadline.is_some_and(|deadline| now >= deadline) {
                return Poll::Ready(Err(Break::Deadline));
            }
            if now >= self.total {
                return Poll::Ready(Err(Break::Total));
            }
            if self.idle.is_some_and(|idle| now >= self.last + idle) {
                return Poll::Ready(Err(Break::Idle));
            }
            let next = self.next_clock();
            self.timer.as_mut().reset(next);
        }
    }

    /// What is left of the body, up to `limit` bytes: for a body that turned out to be no stream.
    pub async fn rest(mut self, limit: usize) -> Bytes {
        let mut rest = BytesMut::new();
        let Some(mut body) = self.body.take() else { return Bytes::new() };
        while let Some(Ok(frame)) = body.frame().await {
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
            let Some(body) = &mut self.body else { return Poll::Ready(()) };
            match Pin::new(body).poll_frame(context) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending => return self.timer.as_mut().poll(context),
            }
        }
    }

    /// Closes the upstream's connection now, however long the client takes to read what it was sent: what is written
    /// beyond this is billed for nothing.
    pub fn cancel(&mut self) {
        self.body = None;
    }

    /// [`Self::poll_event`] as a future.
    pub async fn next(&mut self) -> Result<Option<Event>, Break> {
        poll_fn(|context| self.poll_event(context)).await
    }
}
