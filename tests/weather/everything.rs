//! Everything at once: two candidates that fail in every way in which nothing has begun, hedges, a backend with few places,
//! policies that change and switches that turn, while a third candidate is well. Clients notice nothing.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use tokio::task::JoinSet;

use crate::{
    harness::{Chance, Client, Setup, chat, streamed, until},
    sky::{PATH, PAYER, balances, billed, counted_prompt, setup, switch},
    upstream::{Script, Upstream},
};

const REQUESTS: u64 = 3_000;
const AT_ONCE: u64 = 16;

/// Two versions of the policies: in turn each of the two that fail is the first.
fn policies(upstreams: &[Upstream; 3], swapped: bool) -> Setup {
    let flaky = "provider: openai, timeouts: {first_token: 1s, total: 5s}";
    let order = if swapped { "b-model, a-model, c-model" } else { "a-model, b-model, c-model" };
    setup()
        .backend_with("a", &upstreams[0].base_url(), flaky)
        .backend_with("b", &upstreams[1].base_url(), &format!("{flaky}, max_in_flight: 4"))
        .backend("c", &upstreams[2].base_url())
        .policies(&format!("routes: {{all: {{order: [{order}], attempts: 4, hedge: {{after: 400ms, spend: 100%}}}}}}"))
}

/// What a candidate that is not well does with a request; `unbilled` counts prompts that it reads and never answers.
fn weather(chance: &mut Chance, good: &Script, unbilled: &AtomicU64) -> Script {
    let read = |script: Script| {
        unbilled.fetch_add(1, Ordering::Relaxed);
        script
    };
    let error = serde_json::json!({"error": {"message": "no", "type": "server_error"}});
    match chance.below(40) {
        0 => read(Script::stalls()),
        1 => read(Script::hangs_up()),
        2 => read(Script::resets()),
        3 => read(Script::raw(200, "application/json", "{\"choices\": [")),
        4 => Script::error(500, "server_error", "no"),
        5 => Script::error(503, "overloaded", "full"),
        6 => Script::error(429, "rate_limit_exceeded", "slow down").header("retry-after", "0.05"),
        7 => Script::fails(200, error),
        8 => Script::raw(302, "text/html", "").header("location", "/elsewhere"),
        _ => good.clone(),
    }
    // No connection is used twice, so that none is repeated for having been closed.
    .header("connection", "close")
}

async fn ask(client: Client, worker: u64, done: Arc<AtomicU64>) -> Vec<String> {
    let mut failed = Vec::new();
    for number in (worker..REQUESTS).step_by(AT_ONCE as usize) {
        if number % 2 == 0 {
            let answer = client.post(PATH, &chat("all")).await;
            if answer.status != 200 || answer.content() != "whole answer" {
                failed.push(format!("{answer:?}"));
            }
        } else {
            let stream = client.post_stream(PATH, &streamed("all")).await.transcript().await;
            if !stream.is_done() || stream.content() != "whole answer" {
                failed.push(format!("{} {}", stream.status, stream.text()));
            }
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    failed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_all_kinds_at_once_are_nobodys_who_asks() {
    let upstreams = [Upstream::start().await, Upstream::start().await, Upstream::start().await];
    let gateway = policies(&upstreams, false).start().await;
    let prompt = counted_prompt(&gateway, &upstreams[2], "c-model").await;
    let good = Script::says("whole answer").prompt_tokens(prompt);
    upstreams[2].always(good.clone());
    // `TURNPIKE_WEATHER_SEED` brings about another weather.
    let seed = std::env::var("TURNPIKE_WEATHER_SEED").map_or(21, |text| text.parse().unwrap());
    let unbilled = Arc::new(AtomicU64::new(0));
    for (number, upstream) in upstreams.iter().take(2).enumerate() {
        let (chance, good, unbilled) = (Mutex::new(Chance(seed + number as u64)), good.clone(), unbilled.clone());
        upstream.choose(move |_| weather(&mut chance.lock().unwrap(), &good, &unbilled));
    }
    let done = Arc::new(AtomicU64::new(0));
    let mut asking = JoinSet::new();
    for worker in 0..AT_ONCE {
        asking.spawn(ask(gateway.client_with(PAYER), worker, Arc::clone(&done)));
    }
    for turn in 0..REQUESTS / 100 - 1 {
        until("they go on", async || done.load(Ordering::Relaxed) >= (turn + 1) * 100).await;
        gateway.save_policies(&policies(&upstreams, turn % 2 == 1).policy_file());
        // Off for one turn, in turn.
        let target = if turn % 4 < 2 { "backend:a" } else { "backend:b" };
        switch(&gateway, target, turn % 2 == 0, false).await;
    }
    let failed: Vec<String> = asking.join_all().await.into_iter().flatten().collect();
    let calls: u64 = upstreams.iter().map(|upstream| upstream.tally().requests).sum::<u64>() - 1;
    let unbilled = unbilled.load(Ordering::Relaxed);
    let lost = gateway.metric("turnpike_hedges_total", &["outcome=\"lost\""]).await;
    println!(
        "seed {seed}: {} of {REQUESTS} failed, {calls} calls, {unbilled} never answered, {lost} hedges cut short",
        failed.len()
    );
    assert!(failed.len() as u64 * 1000 <= REQUESTS, "{} failed, as {}\n{}", failed.len(), failed[0], gateway.log());
    assert!(calls * 10 <= REQUESTS * 12, "{calls} calls for {REQUESTS} requests");
    // What a hedge had written when it was overtaken, its tally and the books count differently.
    if lost == 0.0 {
        let sum: u64 = upstreams.iter().map(billed).sum();
        balances(&gateway, sum + (1 + unbilled) * prompt * 2_000).await;
    }
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}
