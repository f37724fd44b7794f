//! Clients that go away at random points: the upstream is closed, and what was produced until then is charged, exactly.

use std::time::{Duration, Instant};

use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};

use crate::{
    harness::{Chance, Gateway, Setup, chat, streamed},
    sky::{PATH, PAYER, balances, billed, counted_prompt, setup},
    upstream::{Fault, Script, Upstream},
};

const CLIENTS: usize = 10_000;
const WORKERS: usize = 8;
const WORDS: usize = 12;

/// Backends `w0`, `w1` …, one for each worker, so that it knows which request of its upstream is its own.
async fn gateway(upstreams: &[Upstream]) -> Gateway {
    let numbered = |setup: Setup, (number, upstream): (usize, &Upstream)| {
        setup.backend(&format!("w{number}"), &upstream.base_url())
    };
    upstreams.iter().enumerate().fold(setup(), numbered).start().await
}

/// What one worker saw.
#[derive(Default)]
struct Seen {
    /// Requests that were dispatched and left before their head: their prompt is on the books alone.
    unanswered: u64,
    /// From a client's leaving to its upstream's noticing.
    noticed: Vec<Duration>,
}

/// Sends the first part of a request, and leaves.
async fn leaves_within_the_request(gateway: &Gateway, model: &str, chance: &mut Chance) {
    let body = streamed(model).to_string();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {PAYER}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let whole = head + &body;
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    stream.write_all(&whole.as_bytes()[..chance.below(whole.len())]).await.unwrap();
}

async fn worker(gateway: &Gateway, upstream: &Upstream, number: usize, prompt: u64) -> Seen {
    let mut chance = Chance(number as u64);
    let model = format!("w{number}-model");
    let client = gateway.client_with(PAYER);
    let mut seen = Seen::default();
    for _ in 0..CLIENTS / WORKERS {
        let words = chance.below(WORDS + 2);
        let text = "abcd ".repeat(WORDS);
        let says = Script::says(&text).prompt_tokens(prompt);
        let hung_up = upstream.tally().hung_up;
        match chance.below(4) {
            0 => {
                leaves_within_the_request(gateway, &model, &mut chance).await;
                continue;
            }
            // Before the head, streamed or not.
            1 => {
                upstream.push(Script::stalls());
                let body = if words.is_multiple_of(2) { chat(&model) } else { streamed(&model) };
                let client = client.clone();
                let asking = tokio::spawn(async move { client.post_stream(PATH, &body).await.status });
                upstream.until(|tally| tally.open == 1).await;
                asking.abort();
                seen.unanswered += 1;
            }
            // After so many words, or at the end.
            _ if words > WORDS => {
                upstream.push(says);
                let _ = client.post_stream(PATH, &streamed(&model)).await.transcript().await;
                continue;
            }
            _ => {
                let words = words.max(1);
                upstream.push(says.after_events(1 + words, Fault::Stall));
                let mut stream = client.post_stream(PATH, &streamed(&model)).await;
                let mut got = String::new();
                while got.matches("abcd").count() < words {
                    got.push_str(std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap());
                }
            }
        }
        let left = Instant::now();
        upstream.until(|tally| tally.hung_up == hung_up + 1 && tally.open == 0).await;
        seen.noticed.push(left.elapsed());
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_clients_leave_at_random_points() {
    let mut upstreams = Vec::new();
    for _ in 0..WORKERS {
        upstreams.push(Upstream::start().await);
    }
    let gateway = gateway(&upstreams).await;
    let prompt = counted_prompt(&gateway, &upstreams[0], "w0-model").await;
    let shared = std::sync::Arc::new((gateway, upstreams));
    let mut workers = JoinSet::new();
    for number in 0..WORKERS {
        let shared = shared.clone();
        workers.spawn(async move { worker(&shared.0, &shared.1[number], number, prompt).await });
    }
    let seen = workers.join_all().await;
    let mut noticed: Vec<Duration> = seen.iter().flat_map(|seen| seen.noticed.clone()).collect();
    noticed.sort_unstable();
    let at = |percent: usize| noticed[(noticed.len() * percent / 100).min(noticed.len() - 1)];
    println!("{} of {CLIENTS} left an upstream, noticed after p50 {:?}, p99 {:?}", noticed.len(), at(50), at(99));
    let (gateway, upstreams) = &*shared;
    assert!(upstreams.iter().all(|upstream| upstream.tally().open == 0));
    let unanswered: u64 = seen.iter().map(|seen| seen.unanswered).sum();
    let billed: u64 = upstreams.iter().map(billed).sum();
    balances(gateway, billed + (1 + unanswered) * prompt * 2_000).await;
}
