//! How fast a pool of real engines of different speed is with each `balance`.
//!
//! `TURNPIKE_ENGINE_TABLE=3 cargo test --test engine -- --nocapture --exact table::table` prints the table, of three rounds
//! in which the algorithms take turns. Without a wish, one brief round shows that it can be printed. Six users hold
//! conversations of four turns that begin with one of three shared texts; a user asks as soon as the answer before is there.
//! The engines have 4, 4, 8 and 16 layers, so that the slowest takes about four times as long. Engines, gateway and
//! users share the processors of one machine: only the ratios within one run say something.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{World, harness::Client};

/// Layers of the engines' models.
const LAYERS: [u32; 4] = [4, 4, 8, 16];
/// The algorithms, in the order of the table.
const BALANCES: [&str; 4] = ["round_robin", "least_loaded", "sticky", "prefix"];
/// Tokens of an answer.
const ANSWER: u64 = 24;

/// How much is asked in one round of one algorithm.
#[derive(Clone, Copy)]
struct Work {
    users: u64,
    conversations: u64,
    turns: u64,
}

#[derive(Default)]
struct Measured {
    first_tokens: Vec<Duration>,
    answers: u64,
    took: Duration,
}

#[tokio::test]
async fn table() {
    let rounds = std::env::var("TURNPIKE_ENGINE_TABLE").ok().map(|rounds| rounds.parse::<u64>().unwrap());
    let work = match rounds {
        Some(_) => Work { users: 6, conversations: 3, turns: 4 },
        None => Work { users: 2, conversations: 1, turns: 2 },
    };
    let world = World::of(&LAYERS, &BALANCES).await;
    let mut measured: Vec<Measured> = BALANCES.iter().map(|_| Measured::default()).collect();
    for round in 0..rounds.unwrap_or(1) {
        for (place, balance) in BALANCES.iter().enumerate() {
            let begun = Instant::now();
            let mut users = JoinSet::new();
            for user in 0..work.users {
                let client = world.gateway.client();
                // Texts of their own, so that no algorithm finds what another has left in the caches.
                users.spawn(converse(client, format!("tiny-{balance}"), (round << 8) | place as u64, user, work));
            }
            for first_tokens in users.join_all().await {
                measured[place].answers += first_tokens.len() as u64;
                measured[place].first_tokens.extend(first_tokens);
            }
            measured[place].took += begun.elapsed();
        }
    }
    println!("{:<14} {:>8} {:>8} {:>12} {:>9}", "balance", "p50 ms", "p99 ms", "answers/s", "answers");
    for (balance, mut measured) in BALANCES.iter().zip(measured) {
        measured.first_tokens.sort_unstable();
        let at = |per_cent: usize| measured.first_tokens[(measured.first_tokens.len() - 1) * per_cent / 100];
        let rate = measured.answers as f64 / measured.took.as_secs_f64();
        println!(
            "{balance:<14} {:>8} {:>8} {rate:>12.2} {:>9}",
            at(50).as_millis(),
            at(99).as_millis(),
            measured.answers
        );
        assert_eq!(measured.answers, rounds.unwrap_or(1) * work.users * work.conversations * work.turns);
    }
}

/// One user's conversations; the times to the first token.
async fn converse(client: Client, model: String, run: u64, user: u64, work: Work) -> Vec<Duration> {
    let mut first_tokens = Vec::new();
    for conversation in 0..work.conversations {
        let client = client.clone().header("x-turnpike-session", &format!("{run}-{user}-{conversation}"));
        let shared = text((run << 16) | ((user + conversation) % 3), 900);
        let mut messages = vec![json!({"role": "system", "content": shared})];
        for turn in 0..work.turns {
            let seed = (run << 32) | (user << 16) | (conversation << 8) | turn;
            messages.push(json!({"role": "user", "content": text(seed | (1 << 62), 240)}));
            let body = asked(&model, &messages);
            let begun = Instant::now();
            let mut stream = client.post_stream("/v1/chat/completions", &body).await;
            stream.read_until("\"content\":\"").await;
            first_tokens.push(begun.elapsed());
            let answer = stream.transcript().await;
            assert!(answer.is_done() && answer.error().is_none(), "{}", answer.text());
            messages.push(json!({"role": "assistant", "content": answer.content()}));
        }
    }
    first_tokens
}

fn asked(model: &str, messages: &[Value]) -> Value {
    json!({"model": model, "max_tokens": ANSWER, "ignore_eos": true, "stream": true, "messages": messages})
}

/// So many letters that are a token each.
fn text(mut seed: u64, length: usize) -> String {
    let letter = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + (seed >> 33) as u8 % 26)
    };
    std::iter::repeat_with(letter).take(length).collect()
}
