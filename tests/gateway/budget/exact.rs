//! T-BUDGET: N requests at once, each of exactly the same cost, against a budget for K of them. The upstream holds every
//! answer until all have arrived or been refused, so that all overlap. Exactly K are served, all others get a 402, and
//! the upstream's own tally is what is booked.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use serde_json::Value;
use tokio::task::JoinSet;

use super::{IN, OUT, PATH, Site, Store, key, prompt_bound, request};
use crate::{
    harness::{Client, until},
    upstream::{Gate, Script},
};

/// Tokens of each answer: its cap, so that the hold is the cost.
const ANSWER: u64 = 40;

/// Whether one request was served; anything but a good answer or a 402 is a failure.
async fn served(client: Client, body: Value, refused: Arc<AtomicU64>) -> bool {
    let text = "word ".repeat(ANSWER as usize);
    let served = if body["stream"] == true {
        let stream = client.post_stream(PATH, &body).await;
        if stream.status == 402 {
            false
        } else {
            stream.transcript().await.says(&text);
            true
        }
    } else {
        let answer = client.post(PATH, &body).await;
        if answer.status == 402 {
            answer.is_refused(402, "budget_exceeded");
            false
        } else {
            answer.says(&text);
            true
        }
    };
    refused.fetch_add(u64::from(!served), Ordering::Relaxed);
    served
}

/// T-BUDGET for `n` requests and K of 1, 10 and n − 1, each with a team of its own.
pub async fn exactly_as_many_as_are_paid_for(store: Store, gateways: usize, n: u64, stream: bool) {
    let body = request(ANSWER, stream);
    let cost = prompt_bound(&body) * IN + ANSWER * OUT;
    let names = [1, 10, n - 1].map(|k| (format!("team{k}"), k));
    let teams: Vec<_> = names.iter().map(|(name, k)| (name.as_str(), k * cost, "")).collect();
    let site = Site::start(store, gateways, &teams).await;
    let mut sum = 0;
    for (team, k) in &names {
        let gate = Gate::closed();
        let answer = Script::says(&"word ".repeat(ANSWER as usize)).prompt_tokens(prompt_bound(&body));
        site.upstream.always(answer.behind(&gate));
        let refused = Arc::new(AtomicU64::new(0));
        let mut asking = JoinSet::new();
        for number in 0..n {
            let client = site.gateways[number as usize % gateways].client_with(&key(team));
            asking.spawn(served(client, body.clone(), Arc::clone(&refused)));
        }
        until(&format!("all of {n} have arrived or been refused"), async || {
            refused.load(Ordering::Relaxed) + site.upstream.tally().open == n
        })
        .await;
        gate.release();
        let admitted = asking.join_all().await.into_iter().filter(|served| *served).count() as u64;
        assert_eq!((admitted, refused.load(Ordering::Relaxed)), (*k, n - k), "{n} requests, {k} paid for");
        sum += k * cost;
        assert_eq!((site.settled().await, site.billed()), (sum, sum), "{n} requests, {k} paid for");
        let label = format!("\"{team}\"");
        let left = async || site.gateways[0].metric("turnpike_budget_left_usd", &[&label]).await;
        until("the store has it all", async || left().await == 0.0).await;
        assert_eq!(site.gateways[0].client_with(&key(team)).post(PATH, &body).await.status, 402);
    }
    assert_eq!(site.metric("turnpike_budget_overspend_usd_total", &[]).await, 0.0);
}

macro_rules! loads {
    ($store:ident, $gateways:literal; $($name:ident: $n:literal, $stream:literal)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            exactly_as_many_as_are_paid_for(Store::$store, $gateways, $n, $stream).await;
        }
    )*};
}

loads! { Embedded, 1;
    exactly_as_many_of_twenty_answers: 20, false
    exactly_as_many_of_twenty_streams: 20, true
    exactly_as_many_of_a_hundred_answers: 100, false
    exactly_as_many_of_a_hundred_streams: 100, true
    exactly_as_many_of_a_thousand_answers: 1000, false
    exactly_as_many_of_a_thousand_streams: 1000, true
}

loads! { Redis, 1;
    exactly_as_many_of_twenty_answers_in_redis: 20, false
    exactly_as_many_of_twenty_streams_in_redis: 20, true
    exactly_as_many_of_a_hundred_answers_in_redis: 100, false
    exactly_as_many_of_a_hundred_streams_in_redis: 100, true
    exactly_as_many_of_a_thousand_answers_in_redis: 1000, false
    exactly_as_many_of_a_thousand_streams_in_redis: 1000, true
}

loads! { Redis, 2;
    exactly_as_many_of_twenty_answers_through_two_gateways: 20, false
    exactly_as_many_of_twenty_streams_through_two_gateways: 20, true
    exactly_as_many_of_a_hundred_answers_through_two_gateways: 100, false
    exactly_as_many_of_a_hundred_streams_through_two_gateways: 100, true
    exactly_as_many_of_a_thousand_answers_through_two_gateways: 1000, false
    exactly_as_many_of_a_thousand_streams_through_two_gateways: 1000, true
}
