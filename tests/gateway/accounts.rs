//! Several accounts of one vendor: who serves, who is left alone, and how much each takes.

use serde_json::{Value, json};

use crate::{
    harness::{Gateway, Setup, chat, until},
    upstream::{Gate, Script, Upstream},
};

const PATH: &str = "/v1/chat/completions";

/// The backend `two` with the accounts `a` and `b`, which have these keys besides.
async fn start(upstream: &Upstream, pick: &str, a: &str, b: &str) -> Gateway {
    let accounts = format!("[{{name: a, api_key: sk-a{a}}}, {{name: b, api_key: sk-b{b}}}]");
    let keys =
        format!("{{provider: openai, pick: {pick}, accounts: {accounts}, endpoints: [\"{}\"]}}", upstream.base_url());
    let policies = format!("backends: {{two: {keys}}}\nmodels: {{m: {{backends: {{two: up}}}}}}");
    Setup::new().policies(&policies).server("limits: {queue_wait: 20ms}").start().await
}

async fn account(gateway: &Gateway) -> String {
    let answer = gateway.ask("m").await;
    answer.says("hello");
    answer.header("x-turnpike-account").to_owned()
}

#[tokio::test]
async fn an_account_at_its_limit_is_passed_over_and_all_at_theirs_are_busy() {
    let upstream = Upstream::start().await;
    let gateway = start(&upstream, "order", ", limits: {requests: 2/min}", ", limits: {requests: 1/hour}").await;
    assert_eq!([account(&gateway).await, account(&gateway).await, account(&gateway).await], ["a", "a", "b"]);
    let refused = gateway.ask("m").await;
    refused.is_refused(503, "no_candidate");
    assert!(refused.message().contains("at their limits"), "{}", refused.message());
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(upstream.tally().requests, 3, "nobody was asked in vain");
}

#[tokio::test]
async fn tokens_are_counted_as_they_were_used() {
    let upstream = Upstream::start().await;
    upstream.always(Script::says("hello").prompt_tokens(1_000));
    let gateway = start(&upstream, "order", ", limits: {tokens: 1000/min}", "").await;
    // Thought to be small, it was not.
    assert_eq!([account(&gateway).await, account(&gateway).await], ["a", "b"]);
}

#[tokio::test]
async fn no_more_are_under_way_than_an_account_takes() {
    let upstream = Upstream::start().await;
    let gate = Gate::closed();
    upstream.always(Script::says("hello").behind(&gate));
    let one = ", limits: {concurrent: 1}";
    let gateway = start(&upstream, "spread", one, one).await;
    let ask = || {
        let client = gateway.client();
        tokio::spawn(async move { client.post(PATH, &chat("m")).await.header("x-turnpike-account").to_owned() })
    };
    let under_way = [ask(), ask()];
    upstream.until(|tally| tally.requests == 2).await;
    let refused = gateway.ask("m").await;
    refused.is_refused(503, "overloaded");
    gate.release();
    let mut served = Vec::new();
    for one in under_way {
        served.push(one.await.unwrap());
    }
    served.sort();
    assert_eq!(served, ["a", "b"]);
    account(&gateway).await;
}

#[tokio::test]
async fn a_bill_or_a_key_or_a_quota_parks_the_account_and_not_the_vendor() {
    for (status, code, wait) in
        [(402, "insufficient_balance", 60.0), (401, "invalid_api_key", 60.0), (429, "rate_limit_exceeded", 5.0)]
    {
        let upstream = Upstream::start().await;
        let gateway = start(&upstream, "order", "", "").await;
        upstream.push(Script::error(status, code, "no"));
        let answer = gateway.ask("m").await;
        answer.says("hello");
        assert_eq!((answer.header("x-turnpike-account"), answer.header("x-turnpike-attempts")), ("b", "2"), "{status}");
        let parked = gateway.metric("turnpike_account_parked_seconds", &["two", "\"a\""]).await;
        assert!(parked > wait - 5.0 && parked <= wait, "{status}: {parked} s");
        assert_eq!(gateway.metric("turnpike_account_parked_seconds", &["two", "\"b\""]).await, 0.0);
        assert_eq!(gateway.metric("turnpike_breaker_state", &["two"]).await, 0.0);
        assert_eq!(account(&gateway).await, "b");
    }
}

#[tokio::test]
async fn a_quota_that_says_for_how_long_is_heeded() {
    let upstream = Upstream::start().await;
    let gateway = start(&upstream, "order", "", "").await;
    upstream.push(Script::error(429, "rate_limit_exceeded", "slow down").header("retry-after", "40"));
    assert_eq!(account(&gateway).await, "b");
    let parked = gateway.metric("turnpike_account_parked_seconds", &["two", "\"a\""]).await;
    assert!(parked > 35.0 && parked <= 40.0, "{parked} s");
}

#[tokio::test]
async fn refusals_for_load_lower_what_is_sent_at_once_where_somebody_else_is_able() {
    for status in [429, 503] {
        let (upstream, spare) = (Upstream::start().await, Upstream::start().await);
        spare.always(Script::says("spare"));
        let gate = Gate::closed();
        let setup = Setup::new().backend("one", &upstream.base_url()).backend("two", &spare.base_url());
        let gateway = setup.policies("routes: {chain: {order: [one-model, two-model]}}").start().await;
        upstream.always(Script::says("hello").behind(&gate));
        let ask = |model: &'static str| {
            let client = gateway.client();
            tokio::spawn(async move { client.post(PATH, &chat(model)).await })
        };
        let mut under_way: Vec<_> = (0..4).map(|_| ask("chain")).collect();
        upstream.until(|tally| tally.requests == 4).await;
        assert_eq!(gateway.metric("turnpike_concurrency_limit", &["one"]).await, 0.0);
        upstream.push(Script::error(status, "busy", "too much").header("retry-after", "1"));
        gateway.ask("chain").await.says("spare");
        // Five were under way.
        assert_eq!(gateway.metric("turnpike_concurrency_limit", &["one"]).await, 3.0, "{status}");
        until("the account is free", async || gateway.metric("turnpike_account_parked_seconds", &["one"]).await == 0.0)
            .await;
        let answer = gateway.ask("chain").await;
        assert_eq!((answer.content().as_str(), answer.header("x-turnpike-attempts")), ("spare", "1"), "{status}");
        // What was learned may be wrong: with nobody else it is asked all the same.
        under_way.push(ask("one-model"));
        upstream.until(|tally| tally.requests == 6).await;
        gate.release();
        for one in under_way {
            one.await.unwrap().says("hello");
        }
        gateway.ask("chain").await.says("hello");
    }
}

/// A conversation about `topic` with so many answers behind it.
fn turn(topic: &str, answers: usize) -> Value {
    let mut messages = vec![json!({"role": "user", "content": format!("{topic} {}", "word ".repeat(2_000))})];
    for _ in 0..answers {
        messages.push(json!({"role": "assistant", "content": "hello"}));
        messages.push(json!({"role": "user", "content": "go on"}));
    }
    json!({"model": "m", "messages": messages})
}

#[tokio::test]
async fn a_conversation_stays_with_the_account_that_has_its_prompt() {
    let upstream = Upstream::start().await;
    upstream.always(Script::says("hello").prompt_tokens(2_000));
    let gateway = start(&upstream, "spread", "", "").await;
    let mut first = Vec::new();
    for topic in ["ships", "ropes", "bells", "sails"] {
        let mut served = Vec::new();
        for answers in 0..4 {
            let answer = gateway.client().post(PATH, &turn(topic, answers)).await;
            answer.says("hello");
            served.push(answer.header("x-turnpike-account").to_owned());
            let warm = answer.header("x-turnpike-reason").contains("are warm there");
            assert_eq!(warm, answers > 0, "{}", answer.header("x-turnpike-reason"));
        }
        assert!(served.iter().all(|account| *account == served[0]), "{topic} was parted: {served:?}");
        first.push(served.remove(0));
    }
    first.sort();
    assert_eq!(first, ["a", "a", "b", "b"], "new conversations take turns");
    // Parked, it is left by its conversations too.
    upstream.push(Script::error(401, "invalid_api_key", "no"));
    gateway.client().post(PATH, &turn("ships", 4)).await.says("hello");
}

/// A pool of three servers, of which the first does what `script` says.
async fn pool(script: Script) -> (Gateway, [Upstream; 3]) {
    let servers = [Upstream::start().await, Upstream::start().await, Upstream::start().await];
    servers[0].always(script);
    let urls: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.base_url())).collect();
    let policies = format!(
        "backends: {{pool: {{provider: vllm, endpoints: [{}]}}}}\nmodels: {{m: {{backends: {{pool: up}}}}}}",
        urls.join(", ")
    );
    (Setup::new().policies(&policies).start().await, servers)
}

#[tokio::test]
async fn one_server_of_a_pool_that_turns_requests_away_is_left_alone_and_the_others_serve() {
    for (status, wait) in [(429, None), (429, Some("600")), (401, None), (402, None), (403, None)] {
        let script = Script::error(status, "no", "not here");
        let script = wait.iter().fold(script, |script, wait| script.header("retry-after", wait));
        let (gateway, servers) = pool(script).await;
        for _ in 0..40 {
            assert_eq!(gateway.ask("m").await.status, 200, "{status}");
        }
        let asked = servers[0].tally().requests;
        assert!((1..=3).contains(&asked), "{status}: asked {asked} times");
        assert_eq!(gateway.metric("turnpike_breaker_state", &["backend=\"pool\""]).await, 0.0, "{status}");
    }
}

#[tokio::test]
async fn a_pool_that_turns_everything_away_says_so_and_is_tried_again() {
    let (gateway, servers) = pool(Script::error(429, "no", "not here")).await;
    servers.iter().for_each(|server| server.always(Script::error(429, "no", "not here")));
    for _ in 0..30 {
        assert!([429, 502, 503].contains(&gateway.ask("m").await.status.as_u16()));
    }
    servers.iter().for_each(|server| server.always(Script::says("hello")));
    until("it serves again", async || gateway.ask("m").await.status == 200).await;
}

#[tokio::test]
async fn a_sole_account_that_is_now_and_then_at_its_quota_serves_all_the_others() {
    let upstream = Upstream::start().await;
    let policies = format!(
        "backends: {{two: {{provider: openai, api_key: sk-a, endpoints: [\"{}\"]}}}}\nmodels: {{m: {{backends: {{two: up}}}}}}",
        upstream.base_url()
    );
    let gateway = Setup::new().policies(&policies).start().await;
    let mut served = 0;
    for number in 0..50 {
        if number % 10 == 0 {
            upstream.push(Script::error(429, "rate_limit_exceeded", "slow down"));
        }
        served += u32::from(gateway.ask("m").await.status == 200);
    }
    assert_eq!(served, 45, "only those are refused that the vendor refused");
    assert_eq!(upstream.tally().requests, 50);
}

#[tokio::test]
async fn an_account_with_another_key_is_asked_at_once_and_one_with_the_same_keeps_what_is_known() {
    let upstream = Upstream::start().await;
    let policies = format!(
        "backends: {{two: {{provider: openai, accounts: [{{name: a, api_key: sk-old}}, {{name: b, api_key: sk-b, limits: \
         {{requests: 2/hour}}}}], endpoints: [\"{}\"]}}}}\nmodels: {{m: {{backends: {{two: up}}}}}}",
        upstream.base_url()
    );
    let setup = Setup::new().policies(&policies).token("ops", "ops-token-of-tests", "read");
    let gateway = setup.start().await;
    upstream.push(Script::error(401, "invalid_api_key", "no").header("retry-after", "3000"));
    assert_eq!([account(&gateway).await, account(&gateway).await], ["b", "b"]);
    let told = |line: &str| gateway.log().lines().filter(|told| told.contains(line)).count();
    until("it is told once", async || told("an account is left alone") == 1).await;
    let list = gateway.admin().header("authorization", "Bearer ops-token-of-tests");
    let seen = async || list.get("/api/v1/backends").await.json()["backends"][0]["accounts"].clone();
    let ms = async |place: usize, key: &str| seen().await[place][key].as_u64().unwrap();
    assert!(ms(0, "parked_ms").await > 2_900_000 && ms(0, "at_limit_ms").await == 0);
    assert!(ms(1, "parked_ms").await == 0 && ms(1, "at_limit_ms").await > 3_500_000);
    gateway.save_policies(&setup.policy_file().replace("sk-old", "sk-new"));
    until("the key is in force", async || ms(0, "parked_ms").await == 0).await;
    assert!(ms(1, "at_limit_ms").await > 3_500_000, "the other has the key that it had");
    assert_eq!(account(&gateway).await, "a");
    assert_eq!(upstream.received().last().unwrap().header("authorization"), Some("Bearer sk-new"));
}

#[tokio::test]
async fn a_bill_that_is_not_paid_is_not_called_a_wrong_credential() {
    let upstream = Upstream::start().await;
    for (status, word) in [(402, "nothing left to spend"), (401, "credential was turned away")] {
        let gateway = Setup::new().backend("one", &upstream.base_url()).start().await;
        upstream.push(Script::error(status, "balance", "no"));
        let refused = gateway.ask("one-model").await;
        assert!(refused.message().contains(word), "{status}: {}", refused.message());
    }
}
