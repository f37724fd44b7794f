//! Hedges: a second attempt beside one that is overdue, what it costs, and when there is none.

use serde_json::Value;

use crate::{
    harness::{Transcript, chat, streamed, until},
    sky::{PATH, PAYER, READER, Sky, setup},
    upstream::{Fault, Gate, Script, Upstream},
};

/// What a hedge is expected to cost, and more than is earned with one request, so that these come before it.
const BEFORE: u64 = 30;
/// Everything that is earned may be spent.
const GENEROUS: &str = "after: 20ms, spend: 100%";

/// The usual sky with these keys of `hedge`, after [`BEFORE`] whole answers by the first candidate: these are not hedged.
async fn hedging(keys: &str, route: &str) -> Sky {
    let sky = Sky::with("", &format!(", hedge: {{{keys}}}{route}")).await;
    sky.first.always(answer(&sky));
    earn(&sky, BEFORE).await;
    sky
}

async fn earn(sky: &Sky, requests: u64) {
    for _ in 0..requests {
        sky.ask().await.says("first answer");
    }
}

fn answer(sky: &Sky) -> Script {
    Script::says("first answer").prompt_tokens(sky.prompt)
}

/// It has read the prompt, which it bills, and says nothing.
fn dawdles(sky: &Sky) -> Script {
    Script::says("late").prompt_tokens(sky.prompt).after_events(0, Fault::Stall)
}

async fn stream(sky: &Sky) -> Transcript {
    sky.client().post_stream(PATH, &streamed("chain")).await.transcript().await
}

/// A stream that is asked for in the background.
fn asking(sky: &Sky) -> tokio::task::JoinHandle<Transcript> {
    let client = sky.client();
    tokio::spawn(async move { client.post_stream(PATH, &streamed("chain")).await.transcript().await })
}

/// How many overdue attempts have come to that.
async fn hedges(sky: &Sky, outcome: &str) -> f64 {
    sky.gateway.metric("turnpike_hedges_total", &["chain", &format!("outcome=\"{outcome}\"")]).await
}

/// The usage of this month by these dimensions.
fn usage(sky: &Sky, by: &str) -> Value {
    sky.gateway.site().run_with(&[("TURNPIKE_TOKEN", READER)], &["usage", "--by", by, "--json"]).json()
}

#[tokio::test]
async fn the_faster_one_answers_and_the_other_is_cancelled_and_paid() {
    let sky = hedging(GENEROUS, "").await;
    sky.first.push(dawdles(&sky));
    let stream = stream(&sky).await;
    stream.says("whole answer");
    assert_eq!((stream.header("x-turnpike-attempts"), stream.header("x-turnpike-backend")), ("2", "second"));
    let reason = stream.header("x-turnpike-reason");
    assert!(reason.starts_with("hedge: first-model@first had not begun to answer after 20 ms"), "{reason}");
    sky.first.until(|tally| tally.hung_up == 1 && tally.open == 0).await;
    assert_eq!((hedges(&sky, "won").await, sky.calls()), (1.0, BEFORE + 2));
    sky.balances(0).await;
    let lost = usage(&sky, "outcome,backend");
    let lost = lost["lines"].as_array().unwrap().iter().find(|line| line.to_string().contains("lost")).unwrap();
    assert!(lost.to_string().contains("first"), "{lost}");
    assert!(sky.gateway.log().contains("attempts=first-model@first:lost,+second-model@second:ok"));
}

#[tokio::test]
async fn one_that_was_overdue_may_still_be_ahead() {
    let sky = hedging(GENEROUS, "").await;
    let gate = Gate::closed();
    sky.first.push(answer(&sky).behind(&gate));
    sky.second.push(dawdles(&sky));
    let asking = asking(&sky);
    sky.second.until(|tally| tally.open == 1).await;
    gate.release();
    let stream = asking.await.unwrap();
    stream.says("first answer");
    assert_eq!((stream.header("x-turnpike-attempts"), stream.header("x-turnpike-backend")), ("2", "first"));
    sky.second.until(|tally| tally.hung_up == 1 && tally.open == 0).await;
    assert_eq!(hedges(&sky, "lost").await, 1.0);
    sky.balances(0).await;
}

#[tokio::test]
async fn an_attempt_is_overdue_at_its_own_percentile() {
    let sky = hedging("spend: 100%", "").await;
    sky.first.push(dawdles(&sky));
    let stream = stream(&sky).await;
    stream.says("whole answer");
    assert_eq!(hedges(&sky, "won").await, 1.0);
    sky.balances(0).await;
}

#[tokio::test]
async fn where_nothing_is_known_of_a_candidate_nothing_is_overdue() {
    let sky = Sky::with("first_token: 300ms", ", hedge: {spend: 100%}").await;
    sky.first.push(dawdles(&sky));
    // Its clock runs out; that is a failure and no hedge.
    stream(&sky).await.says("whole answer");
    let any = sky.gateway.metric("turnpike_hedges_total", &[]).await;
    assert_eq!((any, sky.calls()), (0.0, 2));
    sky.balances(0).await;
}

#[tokio::test]
async fn hedges_cost_their_share_of_the_spend_and_no_more() {
    // 2 % of thirty requests is less than a hedge is expected to cost.
    let sky = hedging("after: 20ms", "").await;
    let told = async || (hedges(&sky, "won").await, hedges(&sky, "no_budget").await);
    for overdue in 1..=6 {
        let gate = Gate::closed();
        sky.first.push(answer(&sky).behind(&gate));
        let asking = asking(&sky);
        until("it is overdue", async || told().await.0 + told().await.1 >= f64::from(overdue)).await;
        gate.release();
        assert!(asking.await.unwrap().is_done());
        if overdue == 1 {
            assert_eq!(told().await, (0.0, 1.0));
            earn(&sky, 60).await;
        }
    }
    let (won, refused) = told().await;
    assert!(won >= 1.0 && refused >= 2.0, "{won} {refused}");
    let charged = sky.gateway.metric("turnpike_cost_usd_total", &[]).await * 1e9;
    assert!(won * (sky.prompt * 2_000) as f64 <= charged * 0.02, "{won} hedges of {charged}");
    assert_eq!(sky.calls(), BEFORE + 66 + won as u64);
    // What lost had not told of its prompt: it is on the books alone.
    sky.balances(won as u64).await;
}

#[tokio::test]
async fn when_both_fail_each_is_told_and_counts_as_an_attempt() {
    let broken = || Script::error(500, "server_error", "no");
    for lead_first in [true, false] {
        let sky = hedging(GENEROUS, ", attempts: 2").await;
        let (gate, other) = (Gate::closed(), Gate::closed());
        sky.first.push(broken().behind(&gate));
        sky.second.push(broken().behind(&other));
        let client = sky.client();
        let asking = tokio::spawn(async move { client.post(PATH, &streamed("chain")).await });
        sky.second.until(|tally| tally.open == 1).await;
        let (first, second) = if lead_first { (&gate, &other) } else { (&other, &gate) };
        first.release();
        let ended = if lead_first { "first" } else { "second" };
        let failed = async || sky.gateway.metric("turnpike_attempts_total", &[ended, "error"]).await == 1.0;
        until("one has failed", failed).await;
        second.release();
        let answer = asking.await.unwrap();
        answer.is_refused(502, "upstream_error");
        let attempts = answer.json()["error"]["attempts"].as_array().unwrap().len();
        assert_eq!((attempts, answer.header("x-turnpike-attempts"), sky.calls()), (2, "2", BEFORE + 2));
        sky.balances(0).await;
    }
}

#[tokio::test]
async fn a_hedge_stands_in_for_the_one_that_failed_meanwhile() {
    let sky = hedging(GENEROUS, "").await;
    let (gate, other) = (Gate::closed(), Gate::closed());
    sky.first.push(Script::error(500, "server_error", "no").behind(&gate));
    sky.second.push(Script::says("whole answer").prompt_tokens(sky.prompt).behind(&other));
    let asking = asking(&sky);
    sky.second.until(|tally| tally.open == 1).await;
    gate.release();
    let failed = async || sky.gateway.metric("turnpike_attempts_total", &["first", "error"]).await == 1.0;
    until("the first has failed", failed).await;
    other.release();
    let stream = asking.await.unwrap();
    stream.says("whole answer");
    assert_eq!((stream.header("x-turnpike-attempts"), hedges(&sky, "saved").await), ("2", 1.0));
    sky.balances(0).await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_both_with_it() {
    let sky = hedging(GENEROUS, "").await;
    sky.first.push(dawdles(&sky));
    sky.second.push(dawdles(&sky));
    let asking = asking(&sky);
    sky.second.until(|tally| tally.open == 1).await;
    asking.abort();
    for upstream in [&sky.first, &sky.second] {
        upstream.until(|tally| tally.hung_up == 1 && tally.open == 0).await;
    }
    sky.balances(0).await;
}

#[tokio::test]
async fn an_answer_that_has_begun_is_not_overdue() {
    let sky = hedging(GENEROUS, "").await;
    let gate = Gate::closed();
    let text = Script::says("first answer").prompt_tokens(sky.prompt);
    sky.first.push(text.after_events(2, Fault::Wait(gate.clone())));
    sky.second.always(dawdles(&sky));
    let mut begun = sky.client().post_stream(PATH, &streamed("chain")).await;
    begun.read_until("first ").await;
    let attempts: u64 = begun.headers["x-turnpike-attempts"].to_str().unwrap().parse().unwrap();
    // Another is asked for later and found overdue: that one has written for as long.
    sky.first.push(dawdles(&sky));
    let overdue = asking(&sky);
    sky.second.until(|tally| tally.requests == 1 + attempts).await;
    gate.release();
    assert!(begun.transcript().await.is_done());
    overdue.abort();
    sky.first.until(|tally| tally.open == 0).await;
    assert_eq!(sky.calls(), BEFORE + attempts + 2);
}

#[tokio::test]
async fn a_whole_answer_is_not_hedged_nor_the_only_attempt() {
    let sky = hedging(GENEROUS, "").await;
    let gate = Gate::closed();
    sky.first.push(answer(&sky).behind(&gate));
    let client = sky.client();
    let plain = tokio::spawn(async move { client.post(PATH, &chat("chain")).await });
    sky.first.until(|tally| tally.open == 1).await;
    // A stream that was asked for later is overdue: so would be the plain one.
    sky.first.push(dawdles(&sky));
    stream(&sky).await.says("whole answer");
    gate.release();
    let plain = plain.await.unwrap();
    plain.says("first answer");
    assert_eq!((plain.header("x-turnpike-attempts"), sky.calls()), ("1", BEFORE + 3));

    let sky = hedging(GENEROUS, ", attempts: 1").await;
    let gate = Gate::closed();
    sky.first.push(answer(&sky).behind(&gate));
    let asking = asking(&sky);
    sky.first.until(|tally| tally.open == 1).await;
    gate.release();
    asking.await.unwrap().says("first answer");
    assert_eq!(sky.calls(), BEFORE + 1);
}

/// A gateway whose second candidate lies elsewhere, or is too dear for two.
async fn fenced(team: &str) -> Sky {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let gateway = setup()
        .backend_with("first", &first.base_url(), "provider: openai, location: eu")
        .backend_with("second", &second.base_url(), "provider: openai, location: us")
        .policies(&format!("routes: {{chain: {{order: [first-model, second-model], hedge: {{{GENEROUS}}}}}}}"))
        .team("fenced", "sk-fenced", team)
        .start()
        .await;
    let prompt = crate::sky::counted_prompt(&gateway, &second, "second-model").await;
    let sky = Sky { first, second, gateway, prompt };
    sky.first.always(answer(&sky));
    earn(&sky, BEFORE).await;
    sky
}

/// A request of the team `fenced` that is overdue, and hedged by nobody for that reason.
async fn is_not_hedged(team: &str, why: &str) {
    let sky = fenced(team).await;
    let gate = Gate::closed();
    sky.first.push(answer(&sky).behind(&gate));
    let client = sky.gateway.client_with("sk-fenced");
    let mut body = streamed("chain");
    body["max_completion_tokens"] = 100.into();
    let asking = tokio::spawn(async move { client.post_stream(PATH, &body).await.transcript().await });
    until("it is overdue", async || hedges(&sky, why).await == 1.0).await;
    gate.release();
    asking.await.unwrap().says("first answer");
    assert_eq!(sky.second.tally().requests, 1, "the one that counted the prompt");
}

#[tokio::test]
async fn a_hedge_stays_where_the_teams_data_may_go() {
    is_not_hedged("{locations: [eu]}", "nobody").await;
}

#[tokio::test]
async fn a_hedge_that_the_budget_cannot_hold_is_not_made() {
    // A hundred tokens and the prompt are some 0.0009 USD: there is room for one.
    is_not_hedged("{budgets: [{name: month, limit: 0.0013 USD, per: month}]}", "no_hold").await;
}

#[tokio::test]
async fn of_a_pool_another_server_is_asked_first() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let urls = format!("{}\", \"{}", first.base_url(), second.base_url());
    let gateway = setup()
        .backend_with("pool", &urls, "provider: openai")
        .policies(&format!("routes: {{chain: {{order: [pool-model], hedge: {{{GENEROUS}}}}}}}"))
        .start()
        .await;
    let ask = async || gateway.client_with(PAYER).post_stream(PATH, &streamed("chain")).await.transcript().await;
    for _ in 0..BEFORE {
        gateway.client_with(PAYER).post(PATH, &chat("chain")).await.says("hello");
    }
    // Whoever is asked first says nothing.
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    for upstream in [&first, &second] {
        let asked = asked.clone();
        upstream.choose(move |_| match asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => Script::stalls(),
            _ => Script::says("whole answer"),
        });
    }
    let calls = (first.tally().requests, second.tally().requests);
    let stream = ask().await;
    stream.says("whole answer");
    assert_eq!(stream.header("x-turnpike-attempts"), "2");
    assert_eq!((first.tally().requests - calls.0, second.tally().requests - calls.1), (1, 1));
}
