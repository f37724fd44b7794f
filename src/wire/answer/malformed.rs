//! Malformed answers: none panics, and what is written into one leaves it as readable as it was.

use bytes::Bytes;
use proptest::{prelude::*, test_runner::TestRunner};
use serde::de::IgnoredAny;

use super::{Assembler, Data, openai_usage, read_event, with_cost};

/// Malformed chunks tried in each run.
const CASES: u32 = 20_000;

/// Good chunks to start from.
const GOOD: [&str; 3] = [
    r#"{"id":"c","choices":[{"index":0,"delta":{"content":"\u00e9","tool_calls":[{"index":0,"function":{"arguments":"{}"
       }}]},"logprobs":{"content":[{}]},"finish_reason":"stop"}],"usage":null}"#,
    r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":2}}}"#,
    r#"{"error":{"message":"x"},"object":"error","usage":{},"detail":[]}"#,
];

/// Pieces that hurt.
const SPLINTERS: [&str; 16] = [
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "-1",
    "1e999",
    "\\ud800",
    "\u{0}",
    "😀",
    "\"usage\":{},",
    "[[[[",
];

fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

#[test]
fn malformed_answers_never_panic() {
    let config = ProptestConfig { cases: CASES, ..ProptestConfig::default() };
    let splinters = prop::collection::vec((0..400_usize, prop::sample::select(SPLINTERS.to_vec()), 0..4_usize), 0..4);
    let test = |(good, splinters): (&str, Vec<(usize, &str, usize)>)| {
        let mut chunk = good.as_bytes().to_vec();
        for (at, splinter, gone) in splinters {
            let at = at % (chunk.len() + 1);
            let end = (at + gone).min(chunk.len());
            chunk.splice(at..end, splinter.bytes());
        }
        let chunk = Bytes::from(chunk);
        if let Data::Chunk(reading) = read_event(&chunk) {
            prop_assert!(is_json(&chunk));
            let usage = reading.usage.and_then(|usage| openai_usage(&usage)).unwrap_or_default();
            prop_assert!(usage.cached_input + usage.cache_write <= usage.input);
        }
        prop_assert_eq!(is_json(&with_cost(&chunk, "0.5")), is_json(&chunk));
        let mut assembler = Assembler::default();
        assembler.push(&chunk);
        prop_assert!(assembler.finish().is_none_or(|answer| is_json(&answer)));
        Ok(())
    };
    let good = prop::sample::select(GOOD.to_vec());
    TestRunner::new(config).run(&(good, splinters), test).expect("the property");
}
