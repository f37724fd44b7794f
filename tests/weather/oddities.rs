//! Answers that HTTP allows and nobody expects, and faults that meet in one request: the client gets a whole answer while
//! somebody is able to give one, and what is charged is what was billed.

use crate::{
    harness::{Gateway, KEY, Setup, Stream, chat, streamed, until},
    raw::Raw,
    sky::{PATH, PAYER, Sky, audited, balances, billed, counted_prompt, setup, switch},
    upstream::{Fault, Gate, Script, Upstream},
};

/// Nano-dollars for a token read and for one written.
const READ: u64 = 2_000;
const WRITTEN: u64 = 8_000;

/// A gateway whose first candidate answers in bytes, and the second as a scripted one.
struct Odd {
    gateway: Gateway,
    first: Raw,
    second: Upstream,
    prompt: u64,
}

impl Odd {
    async fn new() -> Self {
        let (first, second) = (Raw::start().await, Upstream::start().await);
        let gateway = setup()
            .backend("first", &first.base_url())
            .backend("second", &second.base_url())
            .policies("routes: {chain: {order: [first-model, second-model]}}")
            .start()
            .await;
        let prompt = counted_prompt(&gateway, &second, "second-model").await;
        second.always(Script::says("whole answer").prompt_tokens(prompt));
        Self { gateway, first, second, prompt }
    }

    /// A whole answer with three tokens for the counted prompt.
    fn whole(&self) -> String {
        let usage = serde_json::json!({"prompt_tokens": self.prompt, "completion_tokens": 3});
        let message = serde_json::json!({"role": "assistant", "content": "an odd answer"});
        serde_json::json!({"id": "x", "object": "chat.completion", "model": "first-upstream", "usage": usage,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
        .to_string()
    }

    /// The same as a stream.
    fn events(&self) -> String {
        let delta = |delta: serde_json::Value, finish: Option<&str>| {
            let choices = serde_json::json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
            format!("data: {}\n\n", serde_json::json!({"id": "x", "choices": choices}))
        };
        let usage = serde_json::json!({"prompt_tokens": self.prompt, "completion_tokens": 3});
        let usage = format!("data: {}\n\n", serde_json::json!({"id": "x", "choices": [], "usage": usage}));
        let words = ["an ", "odd ", "answer"].map(|word| delta(serde_json::json!({"content": word}), None)).concat();
        words + &delta(serde_json::json!({}), Some("stop")) + &usage + "data: [DONE]\n\n"
    }

    /// Books: what the second billed, the counting request, and this beside.
    async fn balances(&self, beside: u64) {
        balances(&self.gateway, billed(&self.second) + self.prompt * READ + beside).await;
    }

    async fn plain(&self) -> crate::harness::Answer {
        self.gateway.client_with(PAYER).post(PATH, &chat("chain")).await
    }

    async fn stream(&self) -> crate::harness::Transcript {
        self.gateway.client_with(PAYER).post_stream(PATH, &streamed("chain")).await.transcript().await
    }
}

fn chunked(body: &str, trailers: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n{trailers}\r\n", body.len())
}

#[tokio::test]
async fn whole_answers_in_odd_wrappings_are_whole() {
    let odd = Odd::new().await;
    let (body, events) = (odd.whole(), odd.events());
    let length = body.len();
    let early = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
    let heads = [
        // Whose end is the connection's.
        ("connection: close\r\n\r\n".to_owned(), body.clone()),
        (format!("content-length: {length}\r\n\r\n"), body.clone()),
        ("transfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n".to_owned(), chunked(&body, "x-sum: 1\r\n")),
        ("transfer-encoding: chunked\r\n\r\n".to_owned(), chunked(&body, "content-length: 9\r\n")),
    ];
    let mut asked = 0;
    for (head, body) in &heads {
        for before in ["", early, "HTTP/1.1 100 Continue\r\n\r\n"] {
            odd.first.says(format!("{before}HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{head}{body}"));
            odd.plain().await.says("an odd answer");
            asked += 1;
        }
    }
    let streams = [
        ("connection: close\r\n\r\n".to_owned(), events.clone()),
        ("transfer-encoding: chunked\r\n\r\n".to_owned(), chunked(&events, "x-sum: 1\r\n")),
        (format!("content-length: {}\r\n\r\n", events.len()), events.clone()),
    ];
    for (head, body) in &streams {
        odd.first.says(format!("{early}HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{head}{body}"));
        odd.stream().await.says("an odd answer");
        asked += 1;
    }
    assert_eq!((odd.first.requests(), odd.second.tally().requests), (asked, 1));
    odd.balances(asked * (odd.prompt * READ + 3 * WRITTEN)).await;
}

/// Heads that are no answer, each with what is on the books for an attempt that meets it: nothing for a refusal.
#[tokio::test]
async fn what_is_no_answer_is_passed_over() {
    let odd = Odd::new().await;
    let body = odd.whole();
    let gzip = "content-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\u{b}\x08\0";
    let half = format!("content-type: application/json\r\nconnection: close\r\n\r\n{}", &body[..body.len() / 2]);
    let short = format!("content-type: application/json\r\ncontent-length: {}\r\n\r\n{}", body.len(), &body[..50]);
    let cases = [
        ("101 Switching Protocols", "connection: upgrade\r\nupgrade: h2c\r\n\r\n", false),
        ("204 No Content", "\r\n", true),
        ("205 Reset Content", "content-length: 0\r\n\r\n", true),
        ("301 Moved Permanently", "location: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", false),
        ("304 Not Modified", "etag: \"x\"\r\n\r\n", false),
        ("307 Temporary Redirect", "location: /elsewhere\r\ncontent-length: 0\r\n\r\n", false),
        ("599 Who Knows", "content-length: 0\r\n\r\n", false),
        ("200 OK", gzip, true),
        ("200 OK", &half, true),
        ("200 OK", &short, true),
    ];
    let mut unanswered = 0;
    for (status, rest, is_booked) in cases {
        odd.first.says(format!("HTTP/1.1 {status}\r\n{rest}"));
        for stream in [false, true] {
            let served = if stream { odd.stream().await.content() } else { odd.plain().await.content() };
            assert_eq!(served, "whole answer", "{status}, stream: {stream}; {}", odd.gateway.log());
            unanswered += u64::from(is_booked);
        }
        recovers(&odd).await;
    }
    assert!(!odd.gateway.log().contains("panicked"), "{}", odd.gateway.log());
    let good = odd.first.requests() - 2 * 10;
    odd.balances(unanswered * odd.prompt * READ + good * (odd.prompt * READ + 3 * WRITTEN)).await;
}

/// Good answers in between keep the breaker closed.
async fn recovers(odd: &Odd) {
    let body = odd.whole();
    odd.first.says(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    for _ in 0..10 {
        odd.plain().await.says("an odd answer");
    }
}

#[tokio::test]
async fn a_whole_answer_for_a_stream_and_a_stream_for_a_whole_answer_are_charged_as_they_say() {
    let odd = Odd::new().await;
    let body = odd.whole();
    let head = "content-type: application/json\r\n";
    odd.first.says(format!("HTTP/1.1 200 OK\r\n{head}content-length: {}\r\n\r\n{body}", body.len()));
    odd.stream().await.says("whole answer");
    odd.balances(odd.prompt * READ + 3 * WRITTEN).await;
    let events = odd.events();
    let head = format!("content-type: text/event-stream\r\ncontent-length: {}", events.len());
    odd.first.says(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{events}"));
    odd.plain().await.says("whole answer");
    odd.balances(2 * (odd.prompt * READ + 3 * WRITTEN)).await;
}

#[tokio::test]
async fn no_retry_after_keeps_a_request_or_an_account_for_ever() {
    for absurd in ["99999999999999999999", "1e99", "-5", "NaN", "", "Thu, 01 Jan 1970 00:00:00 GMT", "0.0000001"] {
        let sky = Sky::new().await;
        let refusal = Script::error(429, "rate_limit_exceeded", "slow down").header("retry-after", absurd);
        sky.first.always(refusal.header("date", "not a date"));
        sky.ask().await.says("whole answer");
        let alone = sky.client().post(PATH, &chat("first-model")).await;
        // Nobody else is there: the client is told when, an hour from now at most.
        let told = alone.header("retry-after").parse::<u64>().unwrap_or(0);
        assert!([429, 502, 503].contains(&alone.status.as_u16()) && told <= 3600, "{absurd}: {alone:?}");
        sky.ask().await.says("whole answer");
        assert!(!sky.gateway.log().contains("panicked"), "{}", sky.gateway.log());
        sky.balances(0).await;
    }
}

/// A route that hedges, after enough whole answers to pay for that.
async fn earned() -> Sky {
    let sky = Sky::with("", ", hedge: {after: 20ms, spend: 100%}").await;
    sky.first.always(Script::says("first answer").prompt_tokens(sky.prompt));
    for _ in 0..30 {
        sky.ask().await.says("first answer");
    }
    sky
}

/// The same with a first candidate that reads the next prompt and says nothing.
async fn hedging() -> Sky {
    let sky = earned().await;
    sky.first.push(Script::says("late").prompt_tokens(sky.prompt).after_events(0, Fault::Stall));
    sky
}

/// Who won is committed: its death is told, nobody else is asked, and both are paid for what they gave.
#[tokio::test]
async fn a_hedge_that_won_and_dies_is_told_and_both_are_paid() {
    let sky = hedging().await;
    let gate = Gate::closed();
    let words = Script::says("one two three four").prompt_tokens(sky.prompt);
    sky.second.push(words.after_events(3, Fault::Wait(gate.clone())));
    let mut stream = sky.client().post_stream(PATH, &streamed("chain")).await;
    stream.read_until("two").await;
    sky.first.until(|tally| tally.hung_up == 1 && tally.open == 0).await;
    // The rest of it is cut off: the same connection, from the other side.
    drop(stream);
    sky.second.until(|tally| tally.hung_up == 1 && tally.open == 0).await;
    sky.balances(0).await;

    let sky = hedging().await;
    sky.second.push(Script::says("one two three four").prompt_tokens(sky.prompt).cut_after_events(3));
    let stream = sky.client().post_stream(PATH, &streamed("chain")).await.transcript().await;
    stream.ends_with_error("upstream_error");
    assert_eq!((stream.content().as_str(), sky.calls()), ("one two ", 32));
    sky.balances(0).await;
}

/// An operator cuts off one of two attempts: the other one, which may be about to answer, is left.
#[tokio::test]
async fn a_switch_that_cuts_one_of_two_attempts_leaves_the_other() {
    for (target, text) in [("backend:first", "whole answer"), ("backend:second", "first answer")] {
        let sky = earned().await;
        let gate = Gate::closed();
        sky.first.push(Script::says("first answer").prompt_tokens(sky.prompt).behind(&gate));
        sky.second.push(Script::says("whole answer").prompt_tokens(sky.prompt).behind(&gate));
        let client = sky.client();
        let asking = tokio::spawn(async move { client.post_stream(PATH, &streamed("chain")).await.transcript().await });
        sky.second.until(|tally| tally.open == 1).await;
        switch(&sky.gateway, target, true, true).await;
        let cut = if target == "backend:first" { &sky.first } else { &sky.second };
        cut.until(|tally| tally.hung_up == 1).await;
        gate.release();
        asking.await.unwrap().says(text);
        assert_eq!(sky.calls(), 32, "{target}");
        sky.balances(1).await;
    }
}

/// A request goes on under the policies that it began under, whoever has left them since.
#[tokio::test]
async fn a_backend_that_leaves_the_policies_midway_still_fails_over() {
    let (first, second, third) = (Upstream::start().await, Upstream::start().await, Upstream::start().await);
    let chain = |setup: Setup, names: &str| setup.policies(&format!("routes: {{chain: {{order: [{names}]}}}}"));
    let before = setup().backend("first", &first.base_url()).backend("second", &second.base_url());
    let after = chain(setup().backend("third", &third.base_url()), "third-model").policy_file();
    let gateway = chain(before, "first-model, second-model").start().await;
    let prompt = counted_prompt(&gateway, &second, "second-model").await;
    let says = |text: &str| Script::says(text).prompt_tokens(prompt);
    second.always(says("whole answer"));
    third.always(says("a new answer"));
    let gates = [Gate::closed(), Gate::closed()];
    first.push(Script::error(500, "server_error", "no").behind(&gates[0]));
    first.push(says("never").behind(&gates[1]).after_events(0, Fault::Abort));
    let ask = |body: serde_json::Value| {
        let client = gateway.client_with(PAYER);
        tokio::spawn(async move { client.post_stream(PATH, &body).await.transcript().await })
    };
    let plain = ask(chat("chain"));
    first.until(|tally| tally.open == 1).await;
    let stream = ask(streamed("chain"));
    first.until(|tally| tally.open == 2).await;
    gateway.save_policies(&after);
    let new = async || gateway.client_with(PAYER).post(PATH, &chat("chain")).await.content() == "a new answer";
    until("the new policies are in force", new).await;
    for gate in &gates {
        gate.release();
    }
    let plain = plain.await.unwrap();
    assert!(plain.status == 200 && plain.text().contains("whole answer"), "{plain:?}");
    stream.await.unwrap().says("whole answer");
    let sum = [&first, &second, &third].into_iter().map(billed).sum::<u64>();
    balances(&gateway, sum + prompt * READ).await;
}

/// Two backends with one place each, both taken by streams of `key`, whose gates are given too.
async fn taken(gateway: &Gateway, key: &str, one: &Upstream, gate: &Gate, prompt: u64) -> Stream {
    let script = Script::says("a long answer").prompt_tokens(prompt);
    one.push(script.after_events(2, Fault::Wait(gate.clone())));
    let mut stream = gateway.client_with(key).post_stream(PATH, &streamed("both")).await;
    stream.read_until("a ").await;
    stream
}

/// A switch that cuts is for those, too, who wait for a place: they go elsewhere, or are told.
#[tokio::test]
async fn a_switch_that_cuts_finds_those_who_wait_in_line() {
    let (one, two) = (Upstream::start().await, Upstream::start().await);
    let narrow = "provider: openai, max_in_flight: 1";
    let gateway = setup()
        .backend_with("one", &one.base_url(), narrow)
        .backend_with("two", &two.base_url(), narrow)
        .policies("routes: {both: {order: [one-model, two-model]}}")
        .server("limits: {queue_wait: 60s}")
        .start()
        .await;
    let prompt = counted_prompt(&gateway, &two, "two-model").await;
    for upstream in [&one, &two] {
        upstream.always(Script::says("whole answer").prompt_tokens(prompt));
    }
    let in_flight = async |count: f64| {
        until("they wait", async || gateway.metric("turnpike_in_flight", &[]).await == count).await;
    };
    let ask = || {
        let client = gateway.client_with(PAYER);
        tokio::spawn(async move { client.post(PATH, &chat("both")).await })
    };
    let gates = [Gate::closed(), Gate::closed()];
    let first = taken(&gateway, KEY, &one, &gates[0], prompt).await;
    let second = taken(&gateway, KEY, &two, &gates[1], prompt).await;
    let waits = ask();
    in_flight(3.0).await;
    switch(&gateway, "backend:one", true, true).await;
    first.transcript().await.ends_with_error("switched_off");
    gates[1].release();
    assert!(second.transcript().await.is_done());
    waits.await.unwrap().says("whole answer");
    assert_eq!((one.tally().requests, two.tally().requests), (1, 3));
    in_flight(0.0).await;

    let gate = Gate::closed();
    let third = taken(&gateway, KEY, &two, &gate, prompt).await;
    let waits = ask();
    in_flight(2.0).await;
    switch(&gateway, "team:payer", true, true).await;
    waits.await.unwrap().is_refused(403, "switched_off");
    gate.release();
    assert!(third.transcript().await.is_done());
    until("all is settled", async || gateway.metric("turnpike_holds_open", &[]).await == 0.0).await;
    audited(gateway.site(), billed(&one) + billed(&two) + prompt * READ);
}
