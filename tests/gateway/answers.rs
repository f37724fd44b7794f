//! Good answers: bytes pass through, headers tell the decision, and usage is told to whom asked for it.

use serde_json::json;

use crate::{
    harness::{Gateway, Setup, chat, streamed, streamed_with_usage, without_cost},
    upstream::{Script, Upstream},
};

async fn one() -> (Gateway, Upstream) {
    let upstream = Upstream::start().await;
    let gateway = Setup::new().backend("one", &upstream.base_url()).start().await;
    (gateway, upstream)
}

#[tokio::test]
async fn a_plain_answer_passes_through_byte_for_byte() {
    let (gateway, upstream) = one().await;
    let body = concat!(
        r#"{ "id":"x","unknown":{"deep":[1, 2.50,"\u00e9"]},"choices":[{"index":0,"message":{"role":"assistant","#,
        r#""content":"hello","annotations":[]},"finish_reason":"stop"}],"model":"one-upstream-0513","#,
        r#""usage":{"prompt_tokens":11,"completion_tokens":1,"total_tokens":12}}"#,
    );
    upstream.push(Script::raw(200, "application/json", body));
    let answer = gateway.ask("one-model").await;
    answer.says("hello");
    assert_eq!(without_cost(&answer.body), body);
}

#[tokio::test]
async fn a_stream_passes_through_byte_for_byte() {
    let (gateway, upstream) = one().await;
    let events = [
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"obfuscation\":\"aX\"}\n\n",
        "data: {\"choices\" : [{\"index\":0,\"delta\":{\"content\":\"gr\u{fc}n \u{1f600}\"}}],\"unknown\":[1.0]}\n\n",
        ": a comment\n\n",
        "event: message\nid: 7\ndata:{\"choices\":[{\"index\":0,\"delta\":{\"content\":\" tea\"}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":2,\"total_tokens\":13}}\n\n",
        "data: [DONE]\n\n",
    ];
    upstream.push(Script::events(events));
    let stream = gateway.client().post_stream("/v1/chat/completions", &streamed_with_usage("one-model")).await;
    let stream = stream.transcript().await;
    stream.says("gr\u{fc}n \u{1f600} tea");
    assert_eq!(without_cost(&stream.bytes), events.concat());
    assert!(stream.header("content-type").starts_with("text/event-stream"), "{stream:?}");
}

#[tokio::test]
async fn a_stream_may_be_framed_in_any_way_the_standard_allows() {
    let (gateway, upstream) = one().await;
    for line_end in ["\n", "\r\n", "\r"] {
        for piece in [1, 2, 7, 1000] {
            let script = Script::says("Gr\u{fc}\u{df}e aus \u{6771}\u{4eac} \u{1f600}").line_end(line_end);
            upstream.push(script.in_pieces_of(piece).led_in_by(": keep-alive\n\n\n: more\n\n"));
            gateway.ask_stream("one-model").await.says("Gr\u{fc}\u{df}e aus \u{6771}\u{4eac} \u{1f600}");
        }
    }
    assert_eq!(upstream.tally().requests, 12);
}

#[tokio::test]
async fn blank_lines_before_a_plain_answer_are_borne() {
    let (gateway, upstream) = one().await;
    upstream.push(Script::says("late but good").led_in_by("\n\n\n"));
    gateway.ask("one-model").await.says("late but good");
}

#[tokio::test]
async fn headers_tell_who_answered_why_and_for_how_much() {
    let upstream = Upstream::start().await;
    upstream.always(Script::says("four tokens of text"));
    let policies = "routes: {chain: {order: [one-model]}}\naliases: {vendor/one: chain}";
    let gateway = Setup::new().backend("one", &upstream.base_url()).policies(policies).start().await;
    let answer = gateway.ask("vendor/one").await;
    answer.says("four tokens of text");
    assert_eq!(answer.header("x-turnpike-route"), "chain");
    assert_eq!(answer.header("x-turnpike-model"), "one-model");
    assert_eq!(answer.header("x-turnpike-backend"), "one");
    assert_eq!(answer.header("x-turnpike-attempts"), "1");
    assert_eq!(answer.header("x-turnpike-cost-usd"), "0.000054");
    assert!(!answer.header("x-turnpike-reason").is_empty(), "{answer:?}");
    assert_eq!(answer.header("x-turnpike-policy").len(), 12, "{answer:?}");
    let other = gateway.ask("vendor/one").await;
    assert!(!answer.header("x-request-id").is_empty());
    assert_ne!(answer.header("x-request-id"), other.header("x-request-id"));

    let stream = gateway.ask_stream("vendor/one").await;
    stream.says("four tokens of text");
    assert_eq!(stream.header("x-turnpike-model"), "one-model");
    assert_eq!(stream.header("x-turnpike-attempts"), "1");
}

#[tokio::test]
async fn usage_is_asked_for_upstream_and_kept_from_a_client_that_did_not_ask() {
    let (gateway, upstream) = one().await;
    let stream = gateway.ask_stream("one-model").await;
    stream.says("hello");
    assert!(upstream.only_request().wants_usage());
    assert_eq!(stream.usage(), None, "{}", stream.text());
    assert!(stream.chunks().all(|chunk| chunk["choices"] != json!([])), "{}", stream.text());
}

#[tokio::test]
async fn usage_carries_the_cost_for_a_client_that_asked() {
    let (gateway, upstream) = one().await;
    upstream.push(Script::says("two tokens"));
    let body = streamed_with_usage("one-model");
    let stream = gateway.client().post_stream("/v1/chat/completions", &body).await.transcript().await;
    stream.says("two tokens");
    let usage = stream.usage().unwrap();
    assert_eq!(usage["completion_tokens"], 2);
    assert_eq!(usage["cost"].to_string(), "0.000038");
}

#[tokio::test]
async fn usage_in_a_chunk_with_choices_is_never_dropped() {
    let (gateway, upstream) = one().await;
    upstream.push(Script::says("two tokens").usage_in_last_chunk());
    let stream = gateway.ask_stream("one-model").await;
    stream.says("two tokens");
    assert_eq!(stream.finish_reason().as_deref(), Some("stop"));
    assert_eq!(stream.usage().unwrap()["total_tokens"], 13);
}

#[tokio::test]
async fn the_upstream_gets_the_clients_bytes_but_for_the_splices() {
    let (gateway, upstream) = one().await;
    let body = concat!(
        "{ \"temperature\":0.10,\r\n\t\"model\" : \"one-model\",\"unknown\":{\"b\":1,\"a\":[1e3,\"\\u00fc\"]},",
        "\"max_completion_tokens\":64, \"messages\":[{\"role\":\"user\",\"content\":\"say \\\"model\\\"\",\"x\":null}],",
        "\"cache_control\":{\"type\":\"ephemeral\"} }",
    );
    gateway.client().post_bytes("/v1/chat/completions", body).await.says("hello");
    let received = String::from_utf8(upstream.only_request().body.to_vec()).unwrap();
    assert_eq!(received, body.replace("\"one-model\"", "\"one-upstream\""));
}

#[tokio::test]
async fn the_cap_of_the_route_is_written_upstream_when_the_client_names_none() {
    let upstream = Upstream::start().await;
    let policies = "routes: {short: {order: [one-model], max_output: 77}}";
    let gateway = Setup::new().backend("one", &upstream.base_url()).policies(policies).start().await;
    gateway.ask("short").await.says("hello");
    let received = upstream.only_request().json();
    let cap = received.get("max_completion_tokens").or(received.get("max_tokens"));
    assert_eq!(cap, Some(&json!(77)), "{received}");
}

#[tokio::test]
async fn tool_calls_pass_in_both_forms() {
    let (gateway, upstream) = one().await;
    upstream.always(Script::calls("weather", r#"{"city":"Oslo","unit":"c"}"#));
    let answer = gateway.ask("one-model").await;
    let call = &answer.json()["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call["arguments"], r#"{"city":"Oslo","unit":"c"}"#);

    let stream = gateway.ask_stream("one-model").await;
    let arguments: String = stream
        .chunks()
        .filter_map(|chunk| {
            Some(chunk["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str()?.to_owned())
        })
        .collect();
    assert_eq!(arguments, r#"{"city":"Oslo","unit":"c"}"#);
    assert!(stream.is_done());
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let (gateway, upstream) = one().await;
    let address = gateway.address();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    for number in 0..20 {
        let body = if number % 2 == 0 { chat("one-model") } else { streamed("one-model") };
        let request = hyper::Request::post("/v1/chat/completions")
            .header("host", address.to_string())
            .header("authorization", format!("Bearer {}", crate::harness::KEY))
            .body(http_body_util::Full::new(bytes::Bytes::from(body.to_string())))
            .unwrap();
        sender.ready().await.unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
    }
    assert_eq!(upstream.tally().requests, 20);
}
