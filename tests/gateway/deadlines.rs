//! Deadlines of clients: nobody is refused for what is only expected, and a stalled upstream leaves time for the next.

use crate::{
    harness::{Gateway, Setup, chat, streamed, until},
    upstream::{Script, Upstream},
};

const PATH: &str = "/v1/chat/completions";

#[tokio::test]
async fn a_fresh_gateway_asks_who_is_expected_too_late_by_its_prior_alone() {
    let upstream = Upstream::start().await;
    upstream.always(Script::says("at once"));
    let slow = "speed: {first_token: 300s, per_token: 1s}";
    let gateway = Setup::new()
        .backend("one", &upstream.base_url())
        .model_with("slow", "one", "slow-upstream", slow)
        .policies("routes: {chain: {order: [slow, one-model]}}")
        .start()
        .await;
    let client = gateway.client().header("x-stainless-read-timeout", "60");
    let answer = client.post(PATH, &chat("chain")).await;
    answer.says("at once");
    assert_eq!(answer.header("x-turnpike-model"), "slow");
    let client = gateway.client().header("x-turnpike-deadline", "60s");
    client.post_stream(PATH, &streamed("slow")).await.transcript().await.says("at once");
}

#[tokio::test]
async fn after_a_slow_spell_it_learns_that_all_is_well_again() {
    let upstream = Upstream::start().await;
    let gateway = Setup::new().backend("one", &upstream.base_url()).start().await;
    // Three failures count as five seconds each.
    upstream.always(Script::error(500, "server_error", "broken"));
    gateway.ask_stream("one-model").await;
    assert_eq!(upstream.tally().requests, 3);
    upstream.always(Script::says("quick again"));
    let ask = async || {
        let client = gateway.client().header("x-turnpike-deadline", "4500ms");
        let stream = client.post_stream(PATH, &streamed("one-model")).await.transcript().await;
        stream.says("quick again");
        stream.header("x-turnpike-reason").to_owned()
    };
    assert!(ask().await.starts_with("expected late, nobody is in time; "));
    assert_eq!(ask().await, "the only candidate");
}

/// Enough answers that what is usual of a model is known.
async fn warm_up(gateway: &Gateway, model: &str) {
    for _ in 0..30 {
        assert!(gateway.ask_stream(model).await.is_done());
    }
}

/// The same request so many times at once, each within the deadline: the contents of the answers and who gave them.
async fn at_once(gateway: &Gateway, model: &str, many: usize, deadline: &str) -> Vec<(String, String)> {
    let ask = |_| {
        let client = gateway.client().header("x-turnpike-deadline", deadline);
        let body = streamed(model);
        tokio::spawn(async move {
            let stream = client.post_stream(PATH, &body).await.transcript().await;
            (stream.content(), stream.headers.get("x-turnpike-attempts").map_or("", |n| n.to_str().unwrap()).to_owned())
        })
    };
    let asked: Vec<_> = (0..many).map(ask).collect();
    let mut all = Vec::new();
    for asked in asked {
        all.push(asked.await.unwrap());
    }
    all
}

#[tokio::test]
async fn a_stalled_candidate_leaves_the_next_its_time_and_is_left_alone() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    second.always(Script::says("in time"));
    let gateway = Setup::new()
        .backend("first", &first.base_url())
        .backend("second", &second.base_url())
        .policies("routes: {chain: {order: [first-model, second-model]}}")
        .start()
        .await;
    warm_up(&gateway, "first-model").await;
    first.always(Script::stalls());
    for (content, attempts) in at_once(&gateway, "chain", 8, "5s").await {
        assert_eq!((content.as_str(), attempts.as_str()), ("in time", "2"));
    }
    assert!(gateway.metric("turnpike_breaker_state", &["first"]).await > 0.0);
    for (content, attempts) in at_once(&gateway, "chain", 3, "5s").await {
        assert_eq!((content.as_str(), attempts.as_str()), ("in time", "1"));
    }
}

#[tokio::test]
async fn one_stalled_server_of_three_costs_no_answer() {
    let servers = [Upstream::start().await, Upstream::start().await, Upstream::start().await];
    servers.iter().for_each(|server| server.always(Script::says("in time")));
    let urls = servers.each_ref().map(|server| format!("\"{}\"", server.base_url())).join(", ");
    let pool = format!("provider: vllm, endpoints: [{urls}], balance: round_robin");
    let gateway = Setup::new()
        .policies(&format!("backends: {{pool: {{{pool}}}}}\nmodels: {{m: {{backends: {{pool: up}}}}}}"))
        .start()
        .await;
    warm_up(&gateway, "m").await;
    servers[1].always(Script::stalls());
    for _ in 0..2 {
        let answers = at_once(&gateway, "m", 12, "5s").await;
        assert!(answers.iter().all(|(content, _)| content == "in time"), "{answers:?}");
    }
    assert_eq!(gateway.metric("turnpike_breaker_state", &["pool"]).await, 0.0);
}

#[tokio::test]
async fn clients_that_hang_up_on_a_stalled_backend_open_its_breaker() {
    let upstream = Upstream::start().await;
    let gateway = Setup::new().backend("one", &upstream.base_url()).server("stream_commit_after: 1500ms").start().await;
    warm_up(&gateway, "one-model").await;
    upstream.always(Script::stalls());
    let left = (0..6).map(|_| {
        let client = gateway.client();
        tokio::spawn(async move {
            let mut stream = client.post_stream(PATH, &streamed("one-model")).await;
            // The comment is the sign that so much time has passed.
            stream.read_until(":").await;
        })
    });
    for left in left.collect::<Vec<_>>() {
        left.await.unwrap();
    }
    until("the breaker is open", async || gateway.metric("turnpike_breaker_state", &["one"]).await > 0.0).await;
}

#[tokio::test]
async fn the_504_names_who_was_asked() {
    let upstream = Upstream::start().await;
    let gateway = Setup::new().backend("one", &upstream.base_url()).start().await;
    upstream.always(Script::stalls());
    let client = gateway.client().header("x-turnpike-deadline", "300ms");
    let answer = client.post(PATH, &chat("one-model")).await;
    answer.is_refused(504, "deadline_exceeded");
    assert!(answer.message().contains("one-model@one: deadline ("), "{}", answer.message());
    assert_eq!(gateway.metric("turnpike_breaker_state", &["one"]).await, 0.0);
}
