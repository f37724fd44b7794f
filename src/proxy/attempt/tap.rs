//! The tap on a stream: reads each event once, meters it, and says what becomes of it.

use bytes::{Bytes, BytesMut};

use crate::{
    provider::Provider,
    proxy::toll::Lane,
    wire::{
        answer::{Data, Reading, read_event, with_cost},
        sse::Event,
    },
};

/// What becomes of an event.
#[derive(Debug)]
pub enum Tapped {
    /// The client gets these bytes.
    Pass(Bytes),
    /// The client gets nothing: a usage chunk that it did not ask for.
    Skip,
    /// The stream is complete; the client gets these bytes.
    Done(Bytes),
    /// The stream failed.
    Broken(Broken),
}

/// How a stream failed from within.
#[derive(Debug)]
pub enum Broken {
    /// An error in place of a chunk: its data.
    Error(Bytes),
    /// A line that is neither JSON nor `[DONE]`.
    Garbage,
    /// A `finish_reason` that is a failure in disguise.
    Finish(String),
}

/// See the module's text.
#[derive(Debug)]
pub struct Tap {
    provider: &'static dyn Provider,
    wants_usage: bool,
    /// Something came that a client would call an answer.
    pub meaningful: bool,
    /// A `finish_reason` came.
    pub finished: bool,
}

impl Tap {
    /// A tap for a client that wants usage in its stream or does not.
    pub fn new(provider: &'static dyn Provider, wants_usage: bool) -> Self {
        Self { provider, wants_usage, meaningful: false, finished: false }
    }

    /// Reads one event.
    pub fn read(&mut self, event: Event, lane: &mut Lane) -> Tapped {
        let Some(data) = &event.data else { return Tapped::Pass(event.raw) };
        match read_event(data) {
            Data::Done => Tapped::Done(event.raw),
            Data::Garbage => Tapped::Broken(Broken::Garbage),
            Data::Chunk(reading) => self.chunk(&event, reading, lane),
        }
    }

    fn chunk(&mut self, event: &Event, reading: Reading, lane: &mut Lane) -> Tapped {
        if let Some(error) = reading.error {
            return Tapped::Broken(Broken::Error(error));
        }
        if let Some(finish) = &reading.finish_reason {
            self.finished = true;
            if self.provider.failed_finish(finish) {
                return Tapped::Broken(Broken::Finish(finish.clone()));
            }
            // An answer whose whole cap went into hidden reasoning, or that a filter emptied, is an answer.
            self.meaningful |= matches!(finish.as_str(), "length" | "content_filter" | "tool_calls");
        }
        self.meaningful |= reading.meaningful;
        lane.saw(reading.text_bytes);
        lane.served_at(reading.tier);
        let Some(usage) = reading.usage.as_deref().and_then(|raw| self.provider.usage(raw)) else {
            return Tapped::Pass(event.raw.clone());
        };
        lane.report(usage);
        if self.wants_usage {
            return Tapped::Pass(priced(event, &lane.cost_so_far().to_string()));
        }
        if reading.no_choices { Tapped::Skip } else { Tapped::Pass(event.raw.clone()) }
    }
}

/// The event with its cost. Data that was spread over several lines is written as several lines again.
fn priced(event: &Event, cost: &str) -> Bytes {
    let Some(data) = &event.data else { return event.raw.clone() };
    let priced = with_cost(data, cost);
    let begin = memchr::memmem::find(&event.raw, data).unwrap_or(0);
    let mut out = BytesMut::with_capacity(event.raw.len() + priced.len());
    if begin > 0 {
        out.extend_from_slice(&event.raw[..begin]);
        out.extend_from_slice(&priced);
        out.extend_from_slice(&event.raw[begin + data.len()..]);
    } else {
        for line in priced.split(|byte| *byte == b'\n') {
            out.extend_from_slice(b"data: ");
            out.extend_from_slice(line);
            out.extend_from_slice(b"\n");
        }
        out.extend_from_slice(b"\n");
    }
    out.freeze()
}
