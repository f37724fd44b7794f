//! What an event stream costs: framing alone, and framing with every event read.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use turnpike::wire::{
    answer::{Data, read_event},
    sse::{Event, Framer},
};

/// A stream in OpenAI's shape with 36 events of about 330 bytes.
const STREAM: &[u8] = include_bytes!("../tests/fixtures/wire/chat.sse");

fn events(chunks: &[Bytes], mut each: impl FnMut(Event)) {
    let mut framer = Framer::default();
    for chunk in chunks {
        if framer.push(chunk.clone()).is_err() {
            return;
        }
        while let Some(event) = framer.next_event() {
            each(event);
        }
    }
}

fn stream(c: &mut Criterion) {
    let whole = Bytes::from_static(STREAM);
    let mut group = c.benchmark_group("sse");
    group.throughput(Throughput::Bytes(STREAM.len() as u64));
    for (name, size) in [("one chunk", STREAM.len()), ("chunks of 1400 bytes", 1400), ("chunks of 1 byte", 1)] {
        let cuts = (0..STREAM.len()).step_by(size);
        let chunks: Vec<Bytes> = cuts.map(|at| whole.slice(at..(at + size).min(STREAM.len()))).collect();
        group.bench_function(format!("frame, {name}"), |b| {
            b.iter(|| events(&chunks, |event| drop(black_box(event))));
        });
    }
    group.bench_function("frame and read, one chunk", |b| {
        let chunks = [whole.clone()];
        b.iter(|| {
            let mut text_bytes = 0;
            events(&chunks, |event| {
                if let Some(Data::Chunk(reading)) = event.data.as_ref().map(read_event) {
                    text_bytes += reading.text_bytes;
                }
            });
            black_box(text_bytes)
        });
    });
    group.finish();
}

criterion_group!(benches, stream);
criterion_main!(benches);
