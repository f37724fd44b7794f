//! A stream that was promised before it began: the head is out, the course of the request goes on behind it, and
//! the client hears a comment from time to time.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep};

use super::{course::Course, delivery::Delivery, relay::Relay};
use crate::wire::answer::keep_alive;

/// How often a client that waits hears a comment.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// See the module's text.
pub struct Waiting {
    state: State,
    timer: Pin<Box<Sleep>>,
}

enum State {
    // The first comment goes out at once, so that the head is not alone on its way.
    Promised(Course),
    Pending(Course),
    Relay(Box<Relay>),
    Ended,
}

impl Waiting {
    /// Waits for a course that is under way.
    pub fn new(course: Course) -> Self {
        Self { state: State::Promised(course), timer: Box::pin(sleep(KEEP_ALIVE)) }
    }

    /// The next bytes for the client; `None` at the end.
    pub fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Promised(course) => {
                self.state = State::Pending(course);
                Poll::Ready(Some(keep_alive()))
            }
            State::Pending(course) => self.poll_course(course, context),
            State::Relay(mut relay) => {
                let next = relay.poll_bytes(context);
                self.state = State::Relay(relay);
                next
            }
            State::Ended => Poll::Ready(None),
        }
    }

    fn poll_course(&mut self, mut course: Course, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        match course.as_mut().poll(context) {
            Poll::Ready(Ok(Delivery::Stream { head, relay })) => {
                self.state = State::Relay(relay);
                // The head is out already: who answers comes as a comment.
                Poll::Ready(Some(head.comment()))
            }
            // A course whose client asked for a stream delivers one; a whole answer cannot follow a stream's head.
            Poll::Ready(Ok(Delivery::Plain { .. })) => Poll::Ready(None),
            Poll::Ready(Err(refusal)) => Poll::Ready(Some(refusal.event())),
            Poll::Pending => {
                self.state = State::Pending(course);
                ready!(self.timer.as_mut().poll(context));
                self.timer.as_mut().reset(Instant::now() + KEEP_ALIVE);
                Poll::Ready(Some(keep_alive()))
            }
        }
    }
}
