//! What answers say, case by case.

use bytes::Bytes;
use serde_json::{Value, json, value::RawValue};

use super::{Assembler, Data, Reading, error_event, keep_alive, openai_usage, read_answer, read_event, with_cost};
use crate::base::usage::Usage;

fn chunk(data: &str) -> Reading {
    match read_event(&Bytes::copy_from_slice(data.as_bytes())) {
        Data::Chunk(reading) => reading,
        other => panic!("{other:?}"),
    }
}

fn delta(delta: &str) -> Reading {
    chunk(&format!(r#"{{"choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#))
}

#[test]
fn a_role_or_an_empty_text_is_not_meaningful() {
    for empty in [
        r#"{"role":"assistant"}"#,
        r#"{"role":"assistant","content":""}"#,
        r#"{"content":null,"reasoning_content":"","tool_calls":[],"refusal":null,"audio":{}}"#,
        "{}",
        "null",
    ] {
        let reading = delta(empty);
        assert!(!reading.meaningful && reading.text_bytes == 0 && !reading.no_choices, "{empty}");
    }
}

#[test]
fn any_kind_of_output_is_meaningful_and_its_bytes_count() {
    for (said, bytes) in [
        (r#"{"content":"h\u00e9\n"}"#, 4),
        (r#"{"reasoning_content":"hm"}"#, 2),
        (r#"{"reasoning":"hm"}"#, 2),
        (r#"{"refusal":"no"}"#, 2),
        (r#"{"audio":{"data":"AAAA"}}"#, 0),
        (r#"{"tool_calls":[{"index":0,"id":"c","function":{"name":"find","arguments":"{\"a\":1}"}}]}"#, 4 + 7),
        (r#"{"function_call":{"name":"f","arguments":""}}"#, 1),
        (r#"{"content":"a","reasoning":"b"}"#, 2),
    ] {
        let reading = delta(said);
        assert!(reading.meaningful, "{said}");
        assert_eq!(reading.text_bytes, bytes, "{said}");
    }
    assert!(chunk(r#"{"choices":[{"text":"legacy"}]}"#).meaningful);
    assert!(chunk(r#"{"choices":[{"message":{"content":"whole"}}]}"#).meaningful);
}

#[test]
fn the_end_and_its_usage_are_read_from_one_chunk() {
    let reading = chunk(r#"{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}"#);
    assert_eq!(
        (reading.finish_reason.as_deref(), reading.meaningful, reading.no_choices),
        (Some("stop"), false, false)
    );
    assert_eq!(reading.usage.expect("usage").get(), r#"{"prompt_tokens":1}"#);
    let last = chunk(r#"{"choices":[],"usage":{}}"#);
    assert!(last.no_choices && last.usage.is_some());
    assert!(chunk(r#"{"choices":[{"delta":{}}],"usage":null}"#).usage.is_none());
}

#[test]
fn errors_are_seen_in_every_vendor_s_shape() {
    for error in [
        r#"{"error":{"message":"x"}}"#,
        r#"{"error":"overloaded","error_type":"overloaded"}"#,
        r#"{"object":"error","message":"x","code":400}"#,
        r#"{"code":"InvalidApiKey","message":"x","request_id":"1"}"#,
        r#"{"detail":"Not Found"}"#,
        r#"{"choices":[{"error":{"message":"x"},"finish_reason":"error"}]}"#,
    ] {
        assert_eq!(chunk(error).error.as_deref(), Some(error.as_bytes()));
    }
    for fine in [r#"{"error":null,"choices":[]}"#, r#"{"error":"","code":0}"#, r#"{"object":"chat.completion.chunk"}"#]
    {
        assert!(chunk(fine).error.is_none(), "{fine}");
    }
}

#[test]
fn done_and_garbage_are_told_apart() {
    let read = |data: &'static str| read_event(&Bytes::from_static(data.as_bytes()));
    assert!(matches!(read("[DONE]"), Data::Done));
    assert!(matches!(read(" [DONE] "), Data::Done));
    let lists = [
        "{\"choices\":[[{\"content\":\"hi\"}]]}",
        "{\"choices\":[{\"delta\":[\"hi\"]}]}",
        "{\"choices\":[{\"message\":[[[]]]}]}",
    ];
    for garbage in ["", "keep-alive", "{\"choices\":[", "[1]", "{\"choices\":7}", "null"].into_iter().chain(lists) {
        assert!(matches!(read(garbage), Data::Garbage), "{garbage}");
    }
    assert!(read_answer(&Bytes::from_static(b"<html>")).is_none());
    assert!(read_answer(&Bytes::from_static(b"{\"id\":\"\xff\"}")).is_some(), "what is not read is not checked");
}

#[test]
fn a_cost_is_the_only_change() {
    let cost = |json: &'static str| with_cost(&Bytes::from_static(json.as_bytes()), "0.000412");
    assert_eq!(cost(r#"{"usage" : {"a":1 } ,"b":[]}"#), r#"{"usage" : {"a":1,"cost":0.000412 } ,"b":[]}"#);
    assert_eq!(cost(r#"{"usage":{ }}"#), r#"{"usage":{"cost":0.000412 }}"#);
    assert_eq!(cost(r#"{"usage":{"cost" : 9,"a":1}}"#), r#"{"usage":{"cost" : 0.000412,"a":1}}"#);
    for same in [r#"{"usage":null}"#, r#"{"b":{"usage":{}}}"#, "[DONE]", "", r#"{"usage":{}"#] {
        assert_eq!(cost(same), same);
    }
}

fn usage(json: &str) -> Option<Usage> {
    openai_usage(&RawValue::from_string(json.to_owned()).expect("JSON"))
}

#[test]
fn usage_is_read_with_its_details() {
    let read = usage(
        r#"{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,
        "prompt_tokens_details":{"cached_tokens":64,"audio_tokens":3,"cache_write_tokens":10},
        "completion_tokens_details":{"reasoning_tokens":20,"audio_tokens":2}}"#,
    );
    let expected = Usage {
        input: 100,
        cached_input: 64,
        cache_write: 10,
        audio_input: 3,
        output: 50,
        reasoning: 20,
        audio_output: 2,
        ..Usage::default()
    };
    assert_eq!(read, Some(expected));
}

#[test]
fn absent_numbers_are_told_from_zero() {
    let zero = usage(r#"{"prompt_tokens":0,"completion_tokens":0,"prompt_tokens_details":null}"#);
    assert_eq!(zero, Some(Usage::default()));
    let derived = usage(r#"{"prompt_tokens":7,"completion_tokens":null,"total_tokens":9}"#).expect("derived");
    assert_eq!((derived.input, derived.output, derived.estimated), (7, 2, false));
    let half = usage(r#"{"prompt_tokens":7}"#).expect("half");
    assert_eq!((half.input, half.output, half.estimated), (7, 0, true));
    assert_eq!(usage("{}"), None);
    assert_eq!(usage("[]"), None);
}

#[test]
fn absurd_numbers_are_no_usage() {
    for bad in ["-1", "1e30", "1099511627777", "\"12\"", "1.5", "[]"] {
        assert_eq!(usage(&format!(r#"{{"prompt_tokens":{bad},"completion_tokens":1}}"#)), None, "{bad}");
    }
    assert_eq!(usage(r#"{"prompt_tokens":12.0,"completion_tokens":1}"#).map(|usage| usage.input), Some(12));
    let clamped = usage(r#"{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":9}}"#);
    assert_eq!(clamped.map(|usage| usage.cached_input), Some(5));
}

fn assemble(chunks: &[&str]) -> Option<Value> {
    let mut assembler = Assembler::default();
    for chunk in chunks {
        assembler.push(&Bytes::copy_from_slice(chunk.as_bytes()));
    }
    Some(serde_json::from_slice(&assembler.finish()?).expect("an assembled answer is JSON"))
}

#[test]
fn a_stream_is_assembled_into_one_answer() {
    let answer = assemble(&[
        r#"{"id":"c1","object":"chat.completion.chunk","created":5,"model":"q","choices":[{"index":0,"delta":{"role":"assistant","content":null}}],"usage":null}"#,
        r#"{"id":"c1","choices":[{"index":0,"delta":{"reasoning_content":"hm\n"}},{"index":1,"delta":{"content":"x"}}]}"#,
        r#"{"id":"c1","choices":[{"index":0,"delta":{"content":"a\ud83d"}}]}"#,
        r#"{"id":"c1","choices":[{"index":0,"delta":{"content":"\ude00\"b"},"logprobs":{"content":[{"t":1}]}}]}"#,
        r#"{"id":"c1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"t1","type":"function","function":{"name":"f","arguments":""}}]}}]}"#,
        r#"{"id":"c1","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"t2","function":{"name":"g","arguments":"{}"}}]}}]}"#,
        r#"{"id":"c1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"","function":{"name":null,"arguments":"{\"a\":"}}]}}]}"#,
        r#"{"id":"c1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]},"logprobs":{"content":[{"t":2}]}}]}"#,
        r#"{"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"},{"index":1,"delta":{},"finish_reason":"stop"}]}"#,
        r#"{"id":"c1","choices":[],"usage":{"prompt_tokens":3}}"#,
        "[DONE]",
    ]);
    let expected = json!({
        "id": "c1", "object": "chat.completion", "created": 5, "model": "q",
        "choices": [
            {"index": 0, "finish_reason": "tool_calls", "logprobs": {"content": [{"t": 1}, {"t": 2}], "refusal": null},
             "message": {"role": "assistant", "content": "a😀\"b", "reasoning_content": "hm\n", "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
                {"id": "t2", "type": "function", "function": {"name": "g", "arguments": "{}"}}]}},
            {"index": 1, "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}},
        ],
        "usage": {"prompt_tokens": 3},
    });
    assert_eq!(answer, Some(expected));
}

#[test]
fn a_cut_or_broken_stream_is_not_assembled() {
    let content = r#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#;
    let end = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    assert!(assemble(&[content, end]).is_some());
    assert_eq!(assemble(&[content]), None);
    assert_eq!(assemble(&[]), None);
    assert_eq!(assemble(&[content, "garbage", end]), None);
    assert_eq!(assemble(&[content, r#"{"choices":[{"index":0,"delta":{"content":7}}]}"#, end]), None);
    assert_eq!(assemble(&[content, r#"{"choices":[{"index":999,"delta":{}}]}"#, end]), None);
}

#[test]
fn our_own_events_are_well_formed() {
    let event = error_event(&serde_json::json!({"error": {"message": "the \"upstream\" broke", "type": "server_error",
        "param": null, "code": "upstream_error"}}));
    let data = event.strip_prefix(b"data: ").and_then(|event| event.strip_suffix(b"\n\n")).expect("one event");
    let value: Value = serde_json::from_slice(data).expect("JSON");
    let expected =
        json!({"message": "the \"upstream\" broke", "type": "server_error", "param": null, "code": "upstream_error"});
    assert_eq!(value["error"], expected);
    assert_eq!(keep_alive(), ": keep-alive\n\n");
}
