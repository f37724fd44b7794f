//! The property that a splice changes what it says and nothing else, against edits of the tree.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{CapField, ChatRequest, Edits, History};

/// Enough to meet every pair of edits many times, and a few seconds in the dev profile.
const CASES: u32 = 2_000;

/// A JSON value as a client might write it: any white space, some characters escaped that need not be.
fn write(value: &Value, style: u64, out: &mut String) {
    let space = ["", " ", "\n\t", "  "][(style % 4) as usize];
    let next = style.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    match value {
        Value::Object(members) => {
            out.push('{');
            for (place, (key, value)) in members.iter().enumerate() {
                out.push_str(if place > 0 { "," } else { "" });
                out.push_str(space);
                write(&Value::from(key.as_str()), next ^ place as u64, out);
                out.push_str(space);
                out.push(':');
                write(value, next.wrapping_add(place as u64), out);
                out.push_str(space);
            }
            out.push_str(space);
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (place, item) in items.iter().enumerate() {
                out.push_str(if place > 0 { "," } else { "" });
                write(item, next.wrapping_add(place as u64), out);
            }
            out.push_str(space);
            out.push(']');
        }
        Value::String(text) if style.is_multiple_of(5) => {
            out.push('"');
            for unit in text.encode_utf16() {
                out.push_str(&format!("\\u{unit:04x}"));
            }
            out.push('"');
        }
        other => {
            out.push_str(space);
            out.push_str(&other.to_string());
            out.push_str(space);
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z\"\\\\é😀 {}\\[\\],:]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-zA-Z_\"é]{1,6}", inner, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// A member that is absent or has one of these values.
fn maybe(name: &'static str, values: Vec<Value>) -> impl Strategy<Value = Vec<(String, Value)>> {
    prop::option::of(prop::sample::select(values))
        .prop_map(move |value| value.map(|value| (name.to_owned(), value)).into_iter().collect())
}

fn a_message() -> impl Strategy<Value = Value> {
    let content = prop_oneof![
        "[a-z\"\\\\é😀\n ]{0,20}".prop_map(Value::from),
        "[a-z\"é ]{0,9}"
            .prop_map(|text| json!([{"type": "text", "text": text}, {"type": "image_url", "image_url": {}}])),
        Just(Value::Null),
    ];
    (
        prop::sample::select(vec!["system", "user", "assistant", "assistant", "tool"]),
        content,
        maybe("reasoning_content", vec![json!("why"), json!(""), Value::Null]),
        maybe("tool_calls", vec![json!([{"id": "c", "function": {"name": "f", "arguments": "{}"}}]), json!([])]),
        prop::option::of(any_json()),
    )
        .prop_map(|(role, content, reasoning, calls, extra)| {
            let members = [("role".to_owned(), json!(role)), ("content".to_owned(), content)];
            let extra = extra.map(|extra| ("a_vendor_s_own".to_owned(), extra));
            Value::Object(members.into_iter().chain(reasoning).chain(calls).chain(extra).collect())
        })
}

/// Top-level members in any order.
fn a_body() -> impl Strategy<Value = Vec<(String, Value)>> {
    let options = vec![
        Value::Null,
        json!({}),
        json!({"include_usage": false}),
        json!({"include_usage": true, "x": [1]}),
        json!({"x": {"include_usage": 3}}),
    ];
    (
        prop::collection::vec(a_message(), 1..5),
        maybe("stream", vec![json!(true), json!(false), Value::Null]),
        maybe("stream_options", options),
        maybe("max_tokens", vec![json!(7), json!(4_000_000_000_u64), Value::Null]),
        maybe("max_completion_tokens", vec![json!(8), Value::Null]),
        prop::collection::btree_map("[a-z_\"é]{1,3}", any_json(), 0..4),
    )
        .prop_map(|(messages, stream, options, old, new, extra)| {
            let extra = extra.into_iter().filter(|(name, _)| name != "n");
            let needed = [("model".to_owned(), json!("auto")), ("messages".to_owned(), Value::from(messages))];
            needed.into_iter().chain(stream).chain(options).chain(old).chain(new).chain(extra).collect::<Vec<_>>()
        })
        .prop_shuffle()
}

fn text_of(members: &[(String, Value)], style: u64) -> String {
    let mut out = String::from(["", " ", "\r\n", "\t"][(style % 4) as usize]);
    out.push('{');
    for (place, (key, value)) in members.iter().enumerate() {
        out.push_str(if place > 0 { "," } else { "" });
        write(&Value::from(key.as_str()), style >> place, &mut out);
        out.push(':');
        write(value, style.rotate_right(place as u32), &mut out);
    }
    out.push('}');
    out.push_str(["", "\n"][(style % 2) as usize]);
    out
}

/// The edits applied to the tree, as plainly as can be.
fn expected(mut body: Value, edits: &Edits<'_>) -> Value {
    let stream = edits.stream.unwrap_or(body["stream"] == json!(true));
    let was = body["stream"] == json!(true);
    let members = body.as_object_mut().expect("an object");
    members.insert("model".into(), json!(edits.model));
    if let Some((field, tokens)) = edits.cap {
        members.remove("max_tokens");
        members.remove("max_completion_tokens");
        members.insert(field.as_str().into(), json!(tokens));
    }
    if stream != was {
        members.insert("stream".into(), json!(stream));
    }
    if stream && edits.include_usage {
        let options = members.entry("stream_options").or_insert(Value::Null);
        if options.is_null() {
            *options = json!({});
        }
        options["include_usage"] = json!(true);
    }
    if !stream && members.get("stream_options").is_some_and(|options| !options.is_null()) {
        members.remove("stream_options");
    }
    for message in members["messages"].as_array_mut().expect("an array") {
        let message = message.as_object_mut().expect("an object");
        let calls = message.get("tool_calls").and_then(Value::as_array).is_some_and(|calls| !calls.is_empty());
        if message["role"] != "assistant" {
            continue;
        }
        match edits.history {
            History::Keep => {}
            History::Drop => drop(message.remove("reasoning_content")),
            History::Fill if calls && message.get("reasoning_content").is_none_or(Value::is_null) => {
                message.insert("reasoning_content".into(), json!(""));
            }
            History::Fill => {}
        }
    }
    body
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn a_splice_applies_its_edits_and_nothing_else(
        members in a_body(),
        style in any::<u64>(),
        model in prop::sample::select(vec!["auto", "gpt-4o-2024-08-06", "a \"quoted\" é"]),
        cap in prop::option::of((prop::sample::select(vec![CapField::MaxTokens, CapField::MaxCompletionTokens]), 1..9_u64)),
        stream in prop::option::of(any::<bool>()),
        include_usage in any::<bool>(),
        history in prop::sample::select(vec![History::Keep, History::Drop, History::Fill]),
    ) {
        let body = text_of(&members, style);
        let tree: Value = serde_json::from_str(&body).expect("the generator writes JSON");
        let edits = Edits { model, cap, stream, include_usage, history };
        let request = ChatRequest::parse(Bytes::from(body.clone())).expect("the generator keeps to the rules");
        let out = String::from_utf8(request.splice(&edits).joined().to_vec()).expect("text");
        let read: Value = serde_json::from_str(&out).map_err(|error| TestCaseError::fail(format!("{error}: {out}")))?;
        let expected = expected(tree.clone(), &edits);
        let unchanged = expected == tree;
        prop_assert_eq!(read, expected);
        if unchanged {
            prop_assert_eq!(out, body);
        }
    }
}
