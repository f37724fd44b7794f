//! Phase two, for streams: events are kept back until one of them means something.

use std::future::poll_fn;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use tokio::time::Instant;

use super::{
    Failed,
    events::{Break, Events},
    tap::{Broken, Tap, Tapped},
};
use crate::{
    net::body,
    policy::Ranked,
    provider::Provider,
    proxy::{
        admit::Ask,
        toll::{Bill, Lane, Toll},
    },
    wire::answer::{Assembler, read_answer},
};

/// How many bytes may come before the first meaningful event.
const MAX_PRELUDE: usize = 1 << 20;

/// A stream whose first meaningful event has come.
#[derive(Debug)]
pub struct Opening {
    /// The rest of the stream.
    pub events: Events,
    /// The tap that has read what is in `prelude`.
    pub tap: Tap,
    /// What the client gets first.
    pub prelude: Vec<Bytes>,
    /// The data of those events, for an answer that is assembled.
    pub data: Vec<Bytes>,
}

/// Reads up to the first meaningful event.
pub(super) async fn open(
    response: Response<body::Answer>,
    ask: &Ask,
    ranked: &Ranked,
    total: Instant,
    provider: &'static dyn Provider,
    lane: &mut Lane,
) -> Result<Opening, Failed> {
    let (head, body) = response.into_parts();
    let events = Events::new(body, total, ask.deadline);
    let wants_usage = ask.chat.wants_usage;
    let tap = Tap::new(provider, wants_usage);
    let mut opening = Opening { events, tap, prelude: Vec::new(), data: Vec::new() };
    if !is_event_stream(&head.headers) {
        return Err(opening.not_a_stream(provider, &head.headers, lane).await);
    }
    let mut held = 0;
    while !opening.tap.meaningful {
        let event = opening.events.next().await.map_err(|error| broke(&error))?;
        let Some(event) = event else {
            return Err(Failed::backend("empty", "the stream ended before it began", Bill::Metered));
        };
        // Comments and blank lines before the answer are the upstream's way to say "wait"; we have our own.
        let Some(data) = event.data.clone() else { continue };
        held += data.len();
        opening.take(event, data, provider, &head.headers, lane)?;
        if held > MAX_PRELUDE && !opening.tap.meaningful {
            return Err(Failed::backend("garbage", "a megabyte came without a token", Bill::Metered));
        }
    }
    lane.first_token();
    opening.events.watch_silence(ranked.candidate.backend.timeouts.idle);
    Ok(opening)
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    media_type.is_some_and(|value| value.trim_start().to_ascii_lowercase().starts_with("text/event-stream"))
}

/// A stream that broke off: what came is metered.
fn broke(error: &Break) -> Failed {
    if *error == Break::Deadline {
        return Failed::deadline();
    }
    Failed::backend(error.label(), error.message(), Bill::Metered)
}

/// A stream that failed from within.
fn broken(broken: &Broken, provider: &'static dyn Provider, headers: &HeaderMap) -> Failed {
    match broken {
        Broken::Error(data) => {
            let failure = provider.classify(StatusCode::OK, headers, data);
            Failed::classified(failure, StatusCode::OK, data)
        }
        Broken::Garbage => Failed::backend("garbage", "the stream has a line that is not JSON", Bill::Metered),
        Broken::Finish(reason) => {
            Failed::backend("failed_finish", format!("the stream ended with `{reason}`"), Bill::Metered)
        }
    }
}

impl Opening {
    fn take(
        &mut self,
        event: crate::wire::sse::Event,
        data: Bytes,
        provider: &'static dyn Provider,
        headers: &HeaderMap,
        lane: &mut Lane,
    ) -> Result<(), Failed> {
        match self.tap.read(event, lane) {
            Tapped::Pass(bytes) => {
                self.prelude.push(bytes);
                self.data.push(data);
                Ok(())
            }
            Tapped::Skip => {
                self.data.push(data);
                Ok(())
            }
            Tapped::Done(_) => Err(Failed::empty("the stream has no content", self.tap.finished)),
            Tapped::Broken(why) => Err(broken(&why, provider, headers)),
        }
    }

    /// An error body in place of a stream, or something else that is no stream: a whole answer is charged as it says.
    async fn not_a_stream(self, provider: &'static dyn Provider, headers: &HeaderMap, lane: &mut Lane) -> Failed {
        let body = self.events.rest(MAX_PRELUDE).await;
        let reading = read_answer(&body).unwrap_or_default();
        if let Some(error) = reading.error {
            return broken(&Broken::Error(error), provider, headers);
        }
        if body.is_empty() {
            return Failed::backend("empty", "the answer is empty", Bill::Metered);
        }
        lane.saw(reading.text_bytes);
        lane.served_at(reading.tier);
        if let Some(usage) = reading.usage.as_deref().and_then(|raw| provider.usage(raw)) {
            lane.report(usage);
        }
        Failed::backend("garbage", "a stream was asked for and something else came", Bill::Metered)
    }
}

/// Reads an opened stream to its end and builds the plain answer that the client asked for.
pub(super) async fn assemble(mut opening: Opening, toll: &mut Toll) -> Result<Bytes, Failed> {
    let mut assembler = Assembler::default();
    for data in std::mem::take(&mut opening.data) {
        assembler.push(&data);
    }
    loop {
        let event = opening.events.next().await.map_err(|error| broke(&error))?;
        let Some(event) = event else {
            return Err(Failed::backend("cut", "the stream ended before it was complete", Bill::Metered));
        };
        let Some(data) = event.data.clone() else { continue };
        match opening.tap.read(event, toll.lane()) {
            Tapped::Pass(_) | Tapped::Skip => assembler.push(&data),
            Tapped::Done(_) => break,
            Tapped::Broken(Broken::Error(_)) => {
                return Err(Failed::backend("error", "the stream ended with an error", Bill::Metered));
            }
            Tapped::Broken(why) => {
                let message = format!("the stream is broken: {why:?}");
                return Err(Failed::backend("garbage", message, Bill::Metered));
            }
        }
        let finished = opening.tap.finished;
        let paid = poll_fn(|context| toll.poll_paid(context, finished)).await;
        paid.map_err(|stop| Failed::backend(stop.label, stop.refusal.message, Bill::Metered))?;
    }
    let empty = || Failed::backend("empty", "the stream had nothing to assemble", Bill::Metered);
    assembler.finish().ok_or_else(empty)
}
