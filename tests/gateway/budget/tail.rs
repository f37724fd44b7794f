//! A budget spent to its end by answers of very unequal length, twice as many as it pays for.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, task::JoinSet};

use super::{OUT, PATH, Site, Store, key, request};
use crate::upstream::Script;

/// The seed of the lengths; change it to see others.
const SEED: u64 = 0x7475_726e_7069_6b65;
/// What the budget pays for, in completion tokens; twice that is asked for.
const BUDGET: u64 = 90_000;
/// How many streams are under way at once.
const AT_ONCE: usize = 12;
const CAP: u64 = 4_000;
const PROMPT: u64 = 9;

/// Lengths with a heavy tail (Pareto with the exponent 1.2, from 40 tokens to 3,000), until they add up to `sum`.
fn lengths(mut seed: u64, sum: u64) -> Vec<u64> {
    let mut lengths = Vec::new();
    while lengths.iter().sum::<u64>() < sum {
        // Splitmix64.
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let uniform = ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
        lengths.push(((40.0 / (1.0 - uniform).powf(1.0 / 1.2)) as u64).min(3_000));
    }
    lengths
}

/// How a stream ended: whole, cut by the budget, or refused at the door.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Cut,
    Refused,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_is_used_up_by_a_heavy_tail_and_never_overrun() {
    let budget = BUDGET * OUT;
    let site = Arc::new(Site::start(Store::Embedded, 1, &[("thrifty", budget, "")]).await);
    site.upstream.choose(|request| {
        let length = request.json()["metadata"]["length"].as_str().and_then(|length| length.parse().ok()).unwrap_or(1);
        Script::says(&"word ".repeat(length)).prompt_tokens(PROMPT).pace(Duration::from_micros(200))
    });
    let (places, mut asking) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    for length in lengths(SEED, 2 * BUDGET) {
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let client = site.gateways[0].client_with(&key("thrifty"));
        let mut body = request(CAP, true);
        body["metadata"] = serde_json::json!({"length": length.to_string()});
        asking.spawn(async move {
            let _place = place;
            let stream = client.post_stream(PATH, &body).await.transcript().await;
            match stream.status.as_u16() {
                402 => End::Refused,
                200 if stream.is_done() => End::Whole,
                _ => {
                    stream.ends_with_error("budget_exceeded");
                    End::Cut
                }
            }
        });
    }
    let ends = asking.join_all().await;
    let count = |end: End| ends.iter().filter(|one| **one == end).count();
    let (whole, cut, refused) = (count(End::Whole), count(End::Cut), count(End::Refused));
    let (booked, billed) = (site.settled().await, site.billed());
    let used_ppm = booked * 1_000_000 / budget;
    println!(
        "heavy tail at twice the budget (seed {SEED:#x}): {whole} whole, {cut} cut, {refused} refused; \
         {used_ppm} ppm of the budget booked, {} nano-dollars written by upstreams after their cut",
        billed.saturating_sub(booked)
    );
    assert_eq!(site.metric("turnpike_budget_overspend_usd_total", &[]).await, 0.0);
    assert!(booked <= budget && used_ppm >= 990_000, "{booked} of {budget}");
    // What upstreams wrote before they noticed their cut is within the guard of 64 tokens each.
    assert!((booked..=booked + cut as u64 * 64 * OUT).contains(&billed), "{billed} billed, {booked} booked, {cut} cut");
    assert!(billed <= budget, "the upstream's own tally is within the budget too: {billed}");
    assert!(cut * 20 <= whole + cut, "{cut} of {} streams were cut", whole + cut);
    assert!(refused > 0, "twice as much was asked for");
}
