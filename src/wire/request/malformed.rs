//! 100,000 malformed bodies: none panics, none that is not JSON is accepted, and what is accepted can be spliced.

use bytes::Bytes;
use proptest::{prelude::*, test_runner::TestRunner};
use serde::de::IgnoredAny;

use super::{CapField, ChatRequest, Edits, History};

/// Malformed bodies tried in each run; about five seconds in the dev profile.
const CASES: u32 = 100_000;

/// Good bodies to start from.
const GOOD: [&str; 4] = [
    r#"{"model":"auto","messages":[{"role":"user","content":"hi"}]}"#,
    r#"{"model":"m","stream":true,"stream_options":{"include_usage":false},"max_tokens":5,"n":2,"user":"u",
       "messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"1","function":{"name":"f","arguments":"{}"}}],
       "reasoning_content":"why"},{"role":"user","name":"é😀","content":[{"type":"text","text":"\u00e9\n\ud83d\ude00"},
       {"type":"image_url","image_url":{"url":"data:,"}},{"type":"input_audio","input_audio":{"data":"AA"}}]}]}"#,
    r#"{"messages":[{"content":"x","role":"system"}],"tools":[{"type":"function"}],"functions":[{}],"thinking":{"type":
       "enabled"},"reasoning":{"effort":"low"},"response_format":{"type":"json_object"},"model":"m","stream":false,
       "max_completion_tokens":7,"max_tokens":null,"stream_options":null,"enable_thinking":true,"seed":-1.5e+3}"#,
    " { } ",
];

/// Pieces that hurt: odd escapes, huge numbers, duplicates, bare marks, broken UTF-8.
const SPLINTERS: [&[u8]; 34] = [
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"null",
    b"true",
    b"-",
    b"1e999999999",
    b"99999999999999999999999",
    b"-0",
    b"0.1",
    b"01",
    b"\\u",
    b"\\ud800",
    b"\\udc00\\ud800",
    b"\\u0000",
    b"\\x",
    b"\x00",
    b"\n",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\"model\":1,",
    b"\"messages\":[],",
    b"\"stream\":\"\",",
    b"\"n\":1e2,",
    b"\"stream_options\":{\"include_usage\":1},",
    b"\"role\":null,",
    b"/*c*/",
];

/// One change to a body; places are taken modulo its length.
#[derive(Clone, Debug)]
enum Harm {
    Insert(usize, usize),
    Cut(usize, usize),
    Repeat(usize, usize, usize),
    Flip(usize, u8),
    Nest(usize, usize, bool),
    End(usize),
}

fn a_harm() -> impl Strategy<Value = Harm> {
    let place = 0..1_000_usize;
    prop_oneof![
        4 => (place.clone(), 0..SPLINTERS.len()).prop_map(|(at, which)| Harm::Insert(at, which)),
        2 => (place.clone(), 1..20_usize).prop_map(|(at, length)| Harm::Cut(at, length)),
        2 => (place.clone(), 1..60_usize, place.clone()).prop_map(|(at, length, to)| Harm::Repeat(at, length, to)),
        2 => (place.clone(), any::<u8>()).prop_map(|(at, byte)| Harm::Flip(at, byte)),
        1 => (place.clone(), 1..200_usize, any::<bool>()).prop_map(|(at, levels, closed)| Harm::Nest(at, levels, closed)),
        1 => place.prop_map(Harm::End),
    ]
}

fn harm(body: &mut Vec<u8>, harm: &Harm) {
    let length = body.len();
    let within = |at: usize| at % (length + 1);
    match *harm {
        Harm::Insert(at, which) => drop(body.splice(within(at)..within(at), SPLINTERS[which].iter().copied())),
        Harm::Cut(at, count) => drop(body.drain(within(at)..(within(at) + count).min(length))),
        Harm::Repeat(at, count, to) => {
            let piece = body[within(at)..(within(at) + count).min(length)].to_vec();
            body.splice(within(to)..within(to), piece);
        }
        Harm::Flip(at, byte) => {
            if let Some(slot) = body.get_mut(within(at)) {
                *slot = byte;
            }
        }
        Harm::Nest(at, levels, closed) => {
            let close = if closed { "]".repeat(levels) } else { String::new() };
            body.splice(within(at)..within(at), format!("{}{close}", "[".repeat(levels)).into_bytes());
        }
        Harm::End(at) => body.truncate(within(at)),
    }
}

fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

fn survives(body: Vec<u8>) -> Result<bool, TestCaseError> {
    let Ok(request) = ChatRequest::parse(Bytes::from(body.clone())) else { return Ok(false) };
    prop_assert!(is_json(&body), "accepted though it is not JSON");
    // One of three sets of edits, by a number that the case itself gives.
    let (history, stream) = match body.len() % 3 {
        0 => (History::Drop, Some(false)),
        1 => (History::Fill, Some(true)),
        _ => (History::Keep, None),
    };
    let cap = Some((CapField::MaxCompletionTokens, 9));
    let edits = Edits { model: "other", cap, stream, include_usage: true, history };
    let out = request.splice(&edits).joined();
    let again = ChatRequest::parse(out).map_err(|error| TestCaseError::fail(error.message))?;
    prop_assert_eq!((again.facts.model.as_str(), again.facts.max_output), ("other", Some(9)));
    prop_assert_eq!(again.facts.stream, stream.unwrap_or(request.facts.stream));
    prop_assert_eq!(again.wants_usage, again.facts.stream);
    prop_assert_eq!(again.facts.messages, request.facts.messages);
    Ok(true)
}

#[test]
fn malformed_bodies_never_panic_and_never_pass_for_json() {
    let config = ProptestConfig { cases: CASES, ..ProptestConfig::default() };
    let start = prop_oneof![
        9 => prop::sample::select(GOOD.to_vec()).prop_map(|good| good.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..60),
    ];
    let harms = prop::collection::vec(a_harm(), 0..4);
    let accepted = std::cell::Cell::new(0_u32);
    let test = |(mut body, harms): (Vec<u8>, Vec<Harm>)| {
        harms.iter().for_each(|one| harm(&mut body, one));
        accepted.set(accepted.get() + u32::from(survives(body)?));
        Ok(())
    };
    TestRunner::new(config).run(&(start, harms), test).expect("the property");
    // Were nearly all refused, the half about splicing would prove nothing.
    assert!(accepted.get() > CASES / 10, "only {} bodies were accepted", accepted.get());
}
