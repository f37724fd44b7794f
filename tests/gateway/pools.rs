//! Pools of own servers: which of them serves.

use serde_json::{Value, json};

use crate::{
    harness::{Gateway, Setup, chat, until},
    upstream::{Script, Upstream},
};

const PATH: &str = "/v1/chat/completions";

async fn upstreams(count: usize) -> Vec<Upstream> {
    let mut upstreams = Vec::new();
    for _ in 0..count {
        upstreams.push(Upstream::start().await);
    }
    upstreams
}

/// One backend `gpu` over all of them.
fn policies(balance: &str, upstreams: &[Upstream]) -> String {
    let endpoints: Vec<String> = upstreams.iter().map(|upstream| format!("\"{}\"", upstream.base_url())).collect();
    format!(
        "backends: {{gpu: {{provider: vllm, balance: {balance}, endpoints: [{}]}}}}\nmodels: {{m: {{backends: {{gpu: m}}}}}}",
        endpoints.join(", ")
    )
}

async fn pool(balance: &str, upstreams: &[Upstream]) -> Gateway {
    Setup::new().policies(&policies(balance, upstreams)).start().await
}

fn requests(upstreams: &[Upstream]) -> Vec<u64> {
    upstreams.iter().map(|upstream| upstream.tally().requests).collect()
}

/// A conversation about `topic` with so many answers behind it; each turn begins as the one before it.
fn turn(topic: &str, answers: usize) -> Value {
    let mut messages = vec![json!({"role": "user", "content": format!("{topic} {}", "word ".repeat(400))})];
    for _ in 0..answers {
        messages.push(json!({"role": "assistant", "content": "hello"}));
        messages.push(json!({"role": "user", "content": "go on"}));
    }
    json!({"model": "m", "messages": messages, "stream": true})
}

#[tokio::test]
async fn each_conversation_goes_on_where_its_prefix_is() {
    let upstreams = upstreams(3).await;
    let gateway = pool("prefix", &upstreams).await;
    for topic in ["ships", "ropes", "bells", "sails", "tides"] {
        let before = requests(&upstreams);
        for answers in 0..6 {
            gateway.client().post_stream(PATH, &turn(topic, answers)).await.transcript().await.says("hello");
        }
        let after = requests(&upstreams);
        let served: Vec<u64> = before.iter().zip(&after).map(|(before, after)| after - before).collect();
        assert_eq!(served.iter().filter(|turns| **turns == 0).count(), 2, "{topic} was parted: {served:?}");
    }
}

#[tokio::test]
async fn one_session_stays_with_one_server() {
    let upstreams = upstreams(4).await;
    let gateway = pool("sticky", &upstreams).await;
    for session in ["a", "b", "c"] {
        let before = requests(&upstreams);
        for _ in 0..5 {
            let client = gateway.client().header("x-turnpike-session", session);
            client.post(PATH, &chat("m")).await.says("hello");
        }
        let after = requests(&upstreams);
        let most = before.iter().zip(&after).map(|(before, after)| after - before).max();
        assert_eq!(most, Some(5), "session {session}: {before:?} {after:?}");
    }
}

#[tokio::test]
async fn a_server_that_fails_at_once_is_left_by_every_algorithm() {
    for balance in ["least_loaded", "prefix", "round_robin", "sticky"] {
        let upstreams = upstreams(3).await;
        upstreams[1].always(Script::error(500, "server_error", "out of memory"));
        let gateway = pool(balance, &upstreams).await;
        for number in 0..30 {
            // Each is a session of its own, so that `sticky` comes to all servers.
            let client = gateway.client().header("x-turnpike-session", &format!("session {number}"));
            client.post(PATH, &chat("m")).await.says("hello");
        }
        let asked = requests(&upstreams);
        assert!(asked[1] < 8, "{balance}: a server that fails was asked {} times of 30", asked[1]);
        assert_eq!(asked[0] + asked[2], 30, "{balance}: every request was served once");
    }
}

#[tokio::test]
async fn a_server_that_joins_starts_slowly_and_what_is_known_of_the_others_stays() {
    let upstreams = upstreams(3).await;
    let gateway = pool("prefix", &upstreams[..2]).await;
    gateway.client().post_stream(PATH, &turn("ships", 0)).await.transcript().await.says("hello");
    let first = requests(&upstreams).iter().position(|count| *count == 1).unwrap();
    let larger = Setup::new().policies(&policies("prefix", &upstreams)).policies("aliases: {renewed: m}");
    gateway.save_policies(&larger.policy_file());
    until("the new server is known", async || gateway.client().get("/v1/models").await.text().contains("renewed"))
        .await;
    for answers in 1..6 {
        gateway.client().post_stream(PATH, &turn("ships", answers)).await.transcript().await.says("hello");
    }
    assert_eq!(requests(&upstreams)[first], 6, "the conversation stayed");
    for number in 0..20 {
        let new = turn(&format!("topic {number}"), 0);
        gateway.client().post_stream(PATH, &new).await.transcript().await.says("hello");
    }
    let asked = requests(&upstreams);
    // Which of the others serves more is theirs; the newcomer gets less than its third.
    assert!(asked[2] * 3 < 20, "the newcomer got as much as the others: {asked:?}");
}
