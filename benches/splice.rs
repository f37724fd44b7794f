//! What understanding and changing a request costs, at 1 kB and at 100 kB.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use turnpike::wire::request::{CapField, ChatRequest, Edits, History};

/// A conversation of about `size` bytes, with escapes as JSON text has them.
fn body(size: usize) -> Bytes {
    let line = "The keeper wrote \\\"calm sea, light wind\\\" in the log and trimmed the wick once more.\\n";
    let text = line.repeat((size - 200) / line.len());
    format!(
        r#"{{"model":"auto","temperature":0.7,"messages":[{{"role":"system","content":"You are a helpful assistant."}},{{"role":"user","content":"{text}"}}],"max_tokens":512,"stream":true,"user":"u-1"}}"#
    )
    .into()
}

fn request(c: &mut Criterion) {
    let edits = Edits {
        model: "gpt-4o-2024-08-06",
        cap: Some((CapField::MaxCompletionTokens, 512)),
        stream: None,
        include_usage: true,
        history: History::Keep,
    };
    for (name, size) in [("1 kB", 1_024), ("100 kB", 102_400)] {
        let body = body(size);
        let mut group = c.benchmark_group(format!("request of {name}"));
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function("parse", |b| b.iter(|| black_box(ChatRequest::parse(body.clone()))));
        if let Ok(request) = ChatRequest::parse(body.clone()) {
            group.bench_function("splice", |b| b.iter(|| black_box(request.splice(black_box(&edits)))));
        }
        group.bench_function("parse and splice", |b| {
            b.iter(|| black_box(ChatRequest::parse(body.clone()).map(|request| request.splice(&edits))));
        });
        group.finish();
    }
}

criterion_group!(benches, request);
criterion_main!(benches);
