//! The relay: a stream that has begun flows from the upstream to the client, event by event.
//!
//! It is driven by the client's connection alone; no task stands behind it. When the client goes away the relay is
//! dropped, which closes the upstream's connection and settles what was metered.

use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};

use super::{
    attempt::{
        Opening,
        events::{Break, Events},
        tap::{Broken, Tap, Tapped},
    },
    code::Code,
    refusal::Refusal,
    switches::{self, Cut, End},
    toll::{Bill, Outcome, Stop, Toll, Verdict},
};
use crate::{base::failure::Fault, ledger::row::switches::SwitchRow};

/// See the module's text.
pub struct Relay {
    events: Events,
    tap: Tap,
    toll: Box<Toll>,
    prelude: Vec<Bytes>,
    cut: Cut,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// The client has all of it; the upstream may end its body.
    Ending,
    Ended,
}

impl Relay {
    /// Takes over an opened stream with its toll; `cut` says when it has to end.
    pub fn new(opening: Opening, mut toll: Box<Toll>, cut: Cut) -> Self {
        let Opening { events, tap, prelude, data } = opening;
        data.iter().for_each(|data| toll.hear(Some(data)));
        cut.streams();
        Self { events, tap, toll, prelude, cut, state: State::Running }
    }

    /// The next bytes for the client; `None` at the end.
    pub fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut out = Out::default();
        for bytes in std::mem::take(&mut self.prelude) {
            out.push(bytes);
        }
        if self.state == State::Running
            && let Poll::Ready(why) = self.cut.poll_end(context)
        {
            out.push(match why {
                End::Switched(row) => self.switched_off(&row),
                End::Stopped => self.cut(Stop { label: "stopped", refusal: Box::new(switches::stopped()) }),
            });
        }
        while self.state == State::Running {
            match self.toll.poll_paid(context, self.tap.finished) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(stop)) => {
                    out.push(self.cut(stop));
                    break;
                }
                Poll::Pending if out.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
            let next = if out.is_empty() {
                ready!(self.events.poll_event(context))
            } else {
                // What has arrived goes out together: the head with the first events, a burst in one write.
                match self.events.ready_event() {
                    Some(event) => Ok(Some(event)),
                    None => return Poll::Ready(out.take()),
                }
            };
            match next {
                Ok(Some(event)) => {
                    self.toll.hear(event.data.as_ref());
                    match self.tap.read(event, self.toll.lane()) {
                        Tapped::Pass(bytes) => out.push(bytes),
                        Tapped::Skip => {}
                        Tapped::Done(bytes) => {
                            out.push(bytes);
                            self.complete();
                        }
                        Tapped::Broken(why) => out.push(self.broken(&why)),
                    }
                }
                Ok(None) => out.push(self.fail("cut", "the upstream ended the stream before it was complete")),
                Err(Break::Deadline) => out.push(self.late()),
                Err(error) => out.push(self.fail(error.label(), error.message())),
            }
        }
        if !out.is_empty() {
            return Poll::Ready(out.take());
        }
        if self.state == State::Ending {
            ready!(self.events.poll_end(context));
            self.state = State::Ended;
        }
        Poll::Ready(None)
    }

    /// The stream is whole: it is settled before the client reads its end.
    fn complete(&mut self) {
        let (label, verdict, bill) = ("ok", Verdict::Served, Bill::Metered);
        self.toll.close(Outcome { label, status: 200, message: String::new(), verdict, bill });
        self.toll.settle("", "whole");
        self.state = State::Ending;
    }

    /// The client's own deadline passed.
    fn late(&mut self) -> Bytes {
        let (label, message) = (Break::Deadline.label(), Break::Deadline.message());
        self.end(Outcome {
            label,
            status: 200,
            message: message.to_owned(),
            verdict: Verdict::Unknown,
            bill: Bill::Metered,
        });
        self.toll.settle(Code::DeadlineExceeded.as_str(), "cut");
        Refusal::new(Code::DeadlineExceeded, message).event()
    }

    /// What may be spent is spent, the upstream pays no heed to the answer's cap, or the process ends: nobody's failure
    /// that another request would meet again.
    fn cut(&mut self, stop: Stop) -> Bytes {
        let Stop { label, refusal } = stop;
        let message = refusal.message.clone();
        self.end(Outcome { label, status: 200, message, verdict: Verdict::Unknown, bill: Bill::Metered });
        self.toll.settle(refusal.code.as_str(), "cut");
        refusal.event()
    }

    /// An operator has switched off who asks or who answers, and what is under way with it.
    fn switched_off(&mut self, row: &SwitchRow) -> Bytes {
        let (refusal, verdict) = (switches::ending(row), Verdict::Unknown);
        let message = refusal.message.clone();
        self.end(Outcome { label: "switched_off", status: 200, message, verdict, bill: Bill::Metered });
        self.toll.settle(refusal.code.as_str(), "cut");
        refusal.event()
    }

    fn end(&mut self, outcome: Outcome) {
        self.events.cancel();
        self.toll.close(outcome);
        self.state = State::Ended;
    }

    fn broken(&mut self, why: &Broken) -> Bytes {
        match why {
            Broken::Error(_) => self.fail("error", "the upstream ended the stream with an error"),
            Broken::Garbage => self.fail("garbage", "the upstream's stream has a line that is not JSON"),
            Broken::Finish(_) => self.fail("failed_finish", "the upstream broke off its answer"),
        }
    }

    /// Ends a stream that cannot be completed: an error event, no `[DONE]`, no invented `finish_reason`.
    fn fail(&mut self, label: &'static str, message: &'static str) -> Bytes {
        let verdict = Verdict::Failed { fault: Fault::Backend, retry_after: None };
        self.end(Outcome { label, status: 200, message: message.to_owned(), verdict, bill: Bill::Metered });
        self.toll.settle(Code::UpstreamError.as_str(), "cut");
        Refusal::new(Code::UpstreamError, message).event()
    }
}

/// Bytes on their way out: one slice stays as it is, several are joined.
#[derive(Debug, Default)]
struct Out {
    first: Option<Bytes>,
    joined: Option<BytesMut>,
}

impl Out {
    fn push(&mut self, bytes: Bytes) {
        match (&mut self.joined, self.first.take()) {
            (Some(joined), _) => joined.extend_from_slice(&bytes),
            (None, None) => self.first = Some(bytes),
            (None, Some(first)) => {
                let mut joined = BytesMut::with_capacity(2 * (first.len() + bytes.len()));
                joined.extend_from_slice(&first);
                joined.extend_from_slice(&bytes);
                self.joined = Some(joined);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.first.is_none() && self.joined.is_none()
    }

    fn take(self) -> Option<Bytes> {
        self.joined.map(BytesMut::freeze).or(self.first)
    }
}
