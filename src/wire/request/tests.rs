//! Reading and splicing, case by case.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{BadRequest, CapField, ChatRequest, Edits, History};
use crate::base::catalog::Tokenizer;

fn parse(body: &str) -> ChatRequest {
    ChatRequest::parse(Bytes::copy_from_slice(body.as_bytes())).expect("a good body")
}

fn refused(body: &str) -> BadRequest {
    ChatRequest::parse(Bytes::copy_from_slice(body.as_bytes())).expect_err("a bad body")
}

fn edits(model: &str) -> Edits<'_> {
    Edits { model, cap: None, stream: None, include_usage: false, history: History::Keep }
}

fn spliced(body: &str, edits: &Edits<'_>) -> String {
    let spliced = parse(body).splice(edits);
    let joined = spliced.joined();
    assert_eq!(spliced.len(), joined.len() as u64);
    String::from_utf8(joined.to_vec()).expect("text")
}

#[test]
fn facts_say_what_the_body_asks_for() {
    let request = parse(
        r#" {"model":"auto","n":2,"stream":true,"max_tokens":900,"max_completion_tokens":700,"user":"u-1",
        "safety_identifier":"s-1","stream_options":{"include_usage":true},"response_format":{"type":"json_schema"},
        "reasoning_effort":"low","tools":[{"type":"function"},{"type":"function"}],"unknown":{"a":[1,2,{}]},
        "messages":[{"role":"system","content":"be brief"},{"role":"user","name":"ann","content":[
        {"type":"text","text":"what is it?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}},
        {"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}]}]} "#,
    );
    let facts = &request.facts;
    assert_eq!((facts.model.as_str(), facts.stream, facts.answers, facts.messages), ("auto", true, 2, 2));
    assert_eq!((facts.max_output, facts.images, facts.audio, facts.tools), (Some(700), 1, 1, 2));
    assert_eq!((facts.json, facts.reasoning), (true, Some(true)));
    assert_eq!((request.wants_usage, request.safety_identifier.as_deref()), (true, Some("s-1")));
    assert_eq!(facts.body_bytes, request.body.len() as u64);
}

#[test]
fn escapes_hide_nothing_from_the_facts() {
    let request = parse(
        r#"{"model":"m","response_format":{"t\u0079pe":"json\u005fschema"},
        "thinking":{"\u0074ype":"\u0064isabled"},"messages":[{"role":"\u0075ser","content":[
        {"type":"image\u005furl","image_url":{"url":"data:image/png;base64,AAAA"}},
        {"type":"input\u005faudio","input_audio":{"data":"AAAA","format":"wav"}},
        {"type":"t\u0065xt","text":"hi"}]}]}"#,
    );
    let facts = &request.facts;
    assert_eq!((facts.images, facts.audio, facts.json, facts.reasoning), (1, 1, true, Some(false)));
    let said = |fields: &str| {
        parse(&format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],{fields}}}"#)).facts.reasoning
    };
    assert_eq!(said(r#""thinking":{"type":"\u0065nabled"}"#), Some(true));
    assert_eq!(said(r#""reasoning":{"effort":"n\u006fne"}"#), Some(false));
    let fault = refused(r#"{"model":"m","messages":[{"role":"user","content":[{"type":"t\u0065xt"}]}]}"#);
    assert!(fault.to_string().contains("has no `text`"), "{fault}");
}

#[test]
fn reasoning_is_understood_in_every_vendor_s_way() {
    let said = |fields: &str| {
        parse(&format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],{fields}}}"#)).facts.reasoning
    };
    assert_eq!(said(r#""x":1"#), None);
    assert_eq!(said(r#""reasoning_effort":"none""#), Some(false));
    assert_eq!(said(r#""reasoning_effort":"minimal""#), Some(true));
    assert_eq!(said(r#""reasoning_effort":null"#), None);
    assert_eq!(said(r#""enable_thinking":false"#), Some(false));
    assert_eq!(said(r#""thinking":{"type":"enabled","budget_tokens":5}"#), Some(true));
    assert_eq!(said(r#""thinking":{"type":"disabled"}"#), Some(false));
    assert_eq!(said(r#""thinking":{"type":"auto"}"#), None);
    assert_eq!(said(r#""reasoning":{"effort":"high"}"#), Some(true));
    assert_eq!(said(r#""reasoning":{"enabled":false}"#), Some(false));
    assert_eq!(said(r#""chat_template_kwargs":{"enable_thinking":true}"#), Some(true));
    assert_eq!(said(r#""chat_template_kwargs":{"thinking":false}"#), Some(false));
    assert_eq!(said(r#""enable_thinking":false,"reasoning_effort":"high""#), Some(true));
}

#[test]
fn a_bad_body_is_refused_with_the_field_and_without_its_text() {
    let ok = r#""messages":[{"role":"user","content":"SECRET"}]"#;
    let cases = [
        (r#""SECRET""#.to_owned(), None, "must be a JSON object"),
        (String::new(), None, "empty"),
        ("\u{feff}{}".to_owned(), None, "byte order mark"),
        (format!(r#"{{"model":"m",{ok}}} SECRET"#), None, "trailing characters"),
        (format!(r#"{{"model":"m",{ok}"#), None, "EOF"),
        (format!(r#"{{"model":"m",{ok},}}"#), None, "trailing comma"),
        (format!(r#"{{"model":"m","model":"SECRET",{ok}}}"#), Some("model"), "stands twice"),
        (format!(r#"{{"model":"m","\u006dodel":"n",{ok}}}"#), Some("model"), "stands twice"),
        (format!(r#"{{"model":"m","SECRET x":1,"SECRET x":1,{ok}}}"#), Some("a field"), "stands twice"),
        (format!(r#"{{"model":"m",{ok},{ok}}}"#), Some("messages"), "stands twice"),
        (format!("{{{ok}}}"), Some("model"), "is missing"),
        (format!(r#"{{"model":"",{ok}}}"#), Some("model"), "is empty"),
        (format!(r#"{{"model":{{"SECRET":1}},{ok}}}"#), Some("model"), "must be a string"),
        (format!(r#"{{"model":"{}",{ok}}}"#, "m".repeat(257)), Some("model"), "longer than 256"),
        (r#"{"model":"m"}"#.to_owned(), Some("messages"), "is missing"),
        (r#"{"model":"m","messages":"SECRET"}"#.to_owned(), Some("messages"), "must be an array"),
        (r#"{"model":"m","messages":[]}"#.to_owned(), Some("messages"), "is empty"),
        (r#"{"model":"m","messages":["SECRET"]}"#.to_owned(), Some("messages[0]"), "must be an object"),
        (r#"{"model":"m","messages":[{"content":"SECRET"}]}"#.to_owned(), Some("messages[0].role"), "is missing"),
        (r#"{"model":"m","messages":[{"role":7}]}"#.to_owned(), Some("messages[0].role"), "must be a string"),
        (
            r#"{"model":"m","messages":[{"role":"user","content":7}]}"#.to_owned(),
            Some("messages[0].content"),
            "must be a string, an array",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":["SECRET"]}]}"#.to_owned(),
            Some("messages[0].content[0]"),
            "must be an object",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":[{"text":"SECRET"}]}]}"#.to_owned(),
            Some("messages[0].content[0]"),
            "has no `type`",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"a","content":"SECRET"}]}"#.to_owned(),
            Some("messages[0].content"),
            "stands twice",
        ),
        (format!(r#"{{"model":"m","n":0,{ok}}}"#), Some("n"), "from 1 to 128"),
        (format!(r#"{{"model":"m","n":129,{ok}}}"#), Some("n"), "from 1 to 128"),
        (format!(r#"{{"model":"m","max_tokens":-1,{ok}}}"#), Some("max_tokens"), "whole number"),
        (format!(r#"{{"model":"m","max_tokens":1.5,{ok}}}"#), Some("max_tokens"), "whole number"),
        (format!(r#"{{"model":"m","max_completion_tokens":1e99999,{ok}}}"#), Some("max_completion_tokens"), "whole"),
        (format!(r#"{{"model":"m","stream":"SECRET",{ok}}}"#), Some("stream"), "true or false"),
        (format!(r#"{{"model":"m","stream_options":true,{ok}}}"#), Some("stream_options"), "must be an object"),
        (format!(r#"{{"model":"m","tools":{{}},{ok}}}"#), Some("tools"), "array of objects"),
        (format!(r#"{{"model":"m","tools":[{{}},1],{ok}}}"#), Some("tools[1]"), "must be an object"),
        (format!(r#"{{"model":"m","response_format":"json",{ok}}}"#), Some("response_format"), "must be an object"),
        (format!(r#"{{"model":"m","user":"{}",{ok}}}"#, "SECRET".repeat(99)), Some("user"), "longer than 512"),
    ];
    for (body, param, what) in cases {
        let error = refused(&body);
        assert_eq!(error.param.as_deref(), param, "{}", error.message);
        assert!(error.message.contains(what), "{}", error.message);
        assert!(!error.message.contains("SECRET"), "{}", error.message);
    }
}

#[test]
fn other_encodings_are_refused() {
    let utf16: Vec<u8> = "\u{feff}{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(ChatRequest::parse(utf16.into()).expect_err("UTF-16").message.contains("UTF-16"));
    let latin1 = Bytes::from_static(b"{\"model\":\"m\xe9\"}");
    assert!(ChatRequest::parse(latin1).expect_err("Latin-1").message.contains("byte 11"));
}

#[test]
fn nesting_is_limited_wherever_it_stands() {
    let nested = |levels: usize, field: &str| {
        // The body itself is one level.
        let value = format!("{}1{}", "[".repeat(levels - 1), "]".repeat(levels - 1));
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"[[[\"{{"}}],"{field}":{value}}}"#)
    };
    for field in ["tools_", "stream_options_", "reasoning"] {
        parse(&nested(64, field));
        assert!(refused(&nested(65, field)).message.contains("deeper than 64"));
        assert!(refused(&nested(1_000_000, field)).message.contains("deeper than 64"));
    }
}

#[test]
fn an_unedited_body_is_one_piece_and_the_same_bytes() {
    let body = Bytes::from_static(b" {\"messages\" : [ {\"role\":\"user\",\"content\":\"\\u00e9\\ud83d\"} ] , \"model\":\"m\", \"temperature\":1.0e0 }\n");
    let request = ChatRequest::parse(body.clone()).expect("good");
    let spliced = request.splice(&edits("m"));
    assert_eq!(spliced.pieces, std::slice::from_ref(&body));
    assert_eq!(spliced.pieces[0].as_ptr(), body.as_ptr());
}

#[test]
fn a_long_prompt_is_not_copied() {
    let body = Bytes::from(format!(
        r#"{{"model":"auto","messages":[{{"role":"user","content":"{}"}}]}}"#,
        "x".repeat(100_000)
    ));
    let range = body.as_ptr_range();
    let edits = Edits { cap: Some((CapField::MaxTokens, 5)), include_usage: true, stream: Some(true), ..edits("m") };
    let spliced = ChatRequest::parse(body.clone()).expect("good").splice(&edits);
    let own: usize = spliced.pieces.iter().filter(|piece| !range.contains(&piece.as_ptr())).map(Bytes::len).sum();
    assert!(own < 100, "{own} bytes are new");
}

#[test]
fn the_cap_replaces_renames_and_appends() {
    let cap = |body: &str, field| spliced(body, &Edits { cap: Some((field, 64)), ..edits("m") });
    let old = CapField::MaxTokens;
    let new = CapField::MaxCompletionTokens;
    let tail = r#""messages":[{"role":"user"}]"#;
    let both = format!(r#"{{"max_tokens":9, "max_completion_tokens" : 8,{tail},"model":"m"}}"#);
    assert_eq!(cap(&both, new), format!(r#"{{"max_completion_tokens" : 64,{tail},"model":"m"}}"#));
    assert_eq!(cap(&both, old), format!(r#"{{"max_tokens":64, {tail},"model":"m"}}"#));
    let one = format!(r#"{{"model":"m",{tail},"max_tokens" : 9 }}"#);
    assert_eq!(cap(&one, new), format!(r#"{{"model":"m",{tail},"max_completion_tokens" : 64 }}"#));
    let none = format!(r#"{{"model":"m",{tail} }}"#);
    assert_eq!(cap(&none, old), format!(r#"{{"model":"m",{tail},"max_tokens":64 }}"#));
}

#[test]
fn two_members_at_the_end_go_together_with_one_comma() {
    let body = r#"{"model":"m","messages":[{"role":"user"}],"max_completion_tokens":8 , "max_tokens":9 , "stream_options":{}}"#;
    let edits = Edits { cap: Some((CapField::MaxCompletionTokens, 8)), ..edits("m") };
    assert_eq!(spliced(body, &edits), r#"{"model":"m","messages":[{"role":"user"}],"max_completion_tokens":8}"#);
}

#[test]
fn usage_is_asked_for_beside_the_client_s_own_stream_options() {
    let ask = |options: &str| {
        let body = format!(r#"{{"model":"m","stream":true{options},"messages":[{{"role":"user"}}]}}"#);
        let out = spliced(&body, &Edits { include_usage: true, ..edits("m") });
        let value: Value = serde_json::from_str(&out).expect("JSON");
        value["stream_options"].clone()
    };
    assert_eq!(ask(""), json!({"include_usage": true}));
    assert_eq!(ask(r#","stream_options":null"#), json!({"include_usage": true}));
    assert_eq!(ask(r#","stream_options":{ }"#), json!({"include_usage": true}));
    assert_eq!(ask(r#","stream_options":{"a":1 }"#), json!({"a": 1, "include_usage": true}));
    assert_eq!(ask(r#","stream_options":{"include_usage":false,"a":1}"#), json!({"a": 1, "include_usage": true}));
}

#[test]
fn stream_options_go_when_nothing_is_streamed() {
    let body = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user"}]}"#;
    let edits = Edits { stream: Some(false), include_usage: true, ..edits("m") };
    assert_eq!(spliced(body, &edits), r#"{"model":"m","stream":false,"messages":[{"role":"user"}]}"#);
}

#[test]
fn the_reasoning_history_is_dropped_or_filled() {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"a","reasoning_content":"mine"},
        {"role":"assistant","content":"b","reasoning_content":"r1"},
        {"reasoning_content":"r2", "role":"assistant","content":[{"type":"text","text":"c"}]},
        {"role":"assistant","tool_calls":[{"id":"1"}]},
        {"role":"assistant","tool_calls":[{"id":"1"}],"reasoning_content":null},
        {"content":[],"role":"assistant","tool_calls":[ ]}]}"#;
    let kept = |history| {
        let out = spliced(body, &Edits { history, ..edits("m") });
        let value: Value = serde_json::from_str(&out).expect("JSON");
        let messages = value["messages"].as_array().expect("an array").clone();
        messages.into_iter().map(|message| message.get("reasoning_content").cloned()).collect::<Vec<_>>()
    };
    let some = |text: &str| Some(json!(text));
    let null = Some(Value::Null);
    assert_eq!(kept(History::Keep), [some("mine"), some("r1"), some("r2"), None, null, None]);
    assert_eq!(kept(History::Drop), [some("mine"), None, None, None, None, None]);
    assert_eq!(kept(History::Fill), [some("mine"), some("r1"), some("r2"), some(""), some(""), None]);
}

#[test]
fn tokens_are_counted_by_the_cookbook_s_formula() {
    let request = parse(r#"{"model":"m","messages":[{"role":"user","content":"hello \u0077orld"}]}"#);
    // "hello world" is two tokens; four frame the message, three prime the answer.
    assert_eq!(request.count_tokens(Tokenizer::O200k), 2 + 4 + 3);
    let named = parse(r#"{"model":"m","messages":[{"role":"user","name":"hello","content":"hello world"}]}"#);
    assert_eq!(named.count_tokens(Tokenizer::O200k), 2 + 1 + 1 + 4 + 3);
    let image = parse(
        r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:AAAAAA"}}]}]}"#,
    );
    assert_eq!(image.count_tokens(Tokenizer::O200k), 1445 + 4 + 3);
}
