//! A body that is played step by step: bytes, pauses, and the ways in which it may end.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame};

use super::{Gate, tally::Bill};

/// One step of an answer.
#[derive(Clone)]
pub(super) enum Step {
    /// Bytes to send, flushed before the next step.
    Bytes(Bytes),
    /// So many more tokens have been produced.
    Produced(u64),
    /// Nothing for a while.
    Pause(Duration),
    /// Nothing until the gate opens.
    Wait(Gate),
    /// Nothing for ever.
    Stall,
    /// The connection closes without the end of the body.
    Abort,
    /// The connection is reset.
    Reset,
}

/// The connection was to break.
#[derive(Debug)]
pub(super) struct Aborted;

impl std::fmt::Display for Aborted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the script breaks the connection here")
    }
}

impl std::error::Error for Aborted {}

/// The steps of one answer with the bill that they run up.
pub(super) struct Play {
    steps: std::vec::IntoIter<Step>,
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    flushing: bool,
    bill: Bill,
    reset: Arc<AtomicBool>,
}

impl Play {
    pub(super) fn new(steps: Vec<Step>, bill: Bill, reset: Arc<AtomicBool>) -> Self {
        Self { steps: steps.into_iter(), waiting: None, flushing: false, bill, reset }
    }
}

impl Body for Play {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        // hyper writes out what it has when the body has nothing more for the moment.
        if std::mem::take(&mut self.flushing) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            if let Some(waiting) = &mut self.waiting {
                std::task::ready!(waiting.as_mut().poll(cx));
                self.waiting = None;
            }
            match self.steps.next() {
                Some(Step::Bytes(bytes)) => {
                    // A body whose length is declared is not asked for its end.
                    if self.steps.len() == 0 {
                        self.bill.close();
                    }
                    self.flushing = true;
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Step::Produced(tokens)) => self.bill.produced(tokens),
                Some(Step::Pause(pause)) => self.waiting = Some(Box::pin(tokio::time::sleep(pause))),
                Some(Step::Wait(gate)) => self.waiting = Some(Box::pin(async move { gate.open().await })),
                Some(Step::Stall) => self.waiting = Some(Box::pin(std::future::pending())),
                Some(Step::Abort) => {
                    self.bill.close();
                    return Poll::Ready(Some(Err(Aborted)));
                }
                Some(Step::Reset) => {
                    self.bill.close();
                    self.reset.store(true, Ordering::Release);
                    return Poll::Ready(Some(Err(Aborted)));
                }
                None => {
                    self.bill.close();
                    return Poll::Ready(None);
                }
            }
        }
    }
}
