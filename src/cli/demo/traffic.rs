//! Light traffic of the demo's own, and the table of who served it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri, header};
use http_body_util::BodyExt;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::vendors::{Mood, Vendors};
use crate::net::{body::UpstreamBody, pool::Pool};

/// How often the table is written.
const TABLE_EVERY: Duration = Duration::from_secs(5);
/// The longest a request of the demo may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a model has served.
#[derive(Clone, Debug, Default)]
struct Line {
    requests: u64,
    failovers: u64,
    millis: u64,
    cost_nanousd: i128,
}

/// What the demo's own requests came to, by (route, model@backend).
#[derive(Debug, Default)]
pub struct Tally {
    lines: Mutex<BTreeMap<(String, String), Line>>,
}

/// What is asked, and how often.
#[derive(Debug)]
pub struct Round {
    every: Duration,
    /// Routes and prompts, in turn.
    asked: &'static [(&'static str, &'static str)],
}

/// Every kind of work.
pub const USUAL: Round = Round { every: Duration::from_millis(600), asked: &PROMPTS };
/// Enough that the guard of a new model has soon seen what it needs.
pub const CANARY: Round =
    Round { every: Duration::from_millis(200), asked: &[("canary", "Say in three words what a canary is for.")] };

const PROMPTS: [(&str, &str); 6] = [
    ("auto", "Write a haiku about toll roads."),
    ("auto", "Fix this: ```rust\nfn main() { let x: u32 = -1; }\n``` and explain the compiler's error."),
    ("auto", "Solve for x: $x^2 - 5x + 6 = 0$, and prove that there are no further roots."),
    ("cheap", "Summarise in one line: the meeting is moved to Thursday."),
    ("fast", "Translate to French: good morning."),
    ("best", "Plan a migration of 40 services to a new message queue, with its risks."),
];

/// Sends requests until the process ends.
pub async fn drive(round: Round, pool: Pool, gateway: Uri, vendors: Arc<Vendors>, tally: Arc<Tally>) {
    let mut tick = interval(round.every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0_usize.. {
        tick.tick().await;
        if vendors.resting() {
            continue;
        }
        let (pool, gateway, tally) = (pool.clone(), gateway.clone(), Arc::clone(&tally));
        let (route, prompt) = round.asked[number % round.asked.len()];
        // Bounded: each request ends within its patience, and they begin at a fixed pace.
        tokio::spawn(async move {
            let _ = tokio::time::timeout(PATIENCE, one(&pool, &gateway, (route, prompt), number, &tally)).await;
        });
    }
}

async fn one(pool: &Pool, gateway: &Uri, (route, prompt): (&str, &str), number: usize, tally: &Tally) -> Option<()> {
    let stream = number.is_multiple_of(2);
    let mut body = json!({"model": route, "messages": [{"role": "user", "content": prompt}], "max_tokens": 120});
    if stream {
        body["stream"] = true.into();
        body["stream_options"] = json!({"include_usage": true});
    }
    let request = Request::builder()
        .method(Method::POST)
        .uri(gateway.clone())
        .header(header::CONTENT_TYPE, "application/json")
        .body(UpstreamBody::new(vec![body.to_string().into()]))
        .ok()?;
    let begun = Instant::now();
    let (head, body) = pool.send(request, Duration::from_secs(5)).await.ok()?.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    if !head.status.is_success() {
        tally.count(route, "nobody".to_owned(), 1, begun.elapsed(), 0);
        return None;
    }
    let text = |name: &str| header_text(&head.headers, name);
    let server = format!("{}@{}", text("x-turnpike-model"), text("x-turnpike-backend"));
    let attempts = text("x-turnpike-attempts").parse().unwrap_or(1);
    let cost = if stream { streamed_cost(&body) } else { nano(&text("x-turnpike-cost-usd")) };
    tally.count(route, server, attempts, begun.elapsed(), cost);
    Some(())
}

fn header_text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// The `usage.cost` of a stream: a plain decimal in its last events.
fn streamed_cost(body: &Bytes) -> i128 {
    let text = String::from_utf8_lossy(body);
    let after = text.rsplit_once("\"cost\":").map_or("", |(_, rest)| rest);
    nano(
        after
            .split(|letter: char| !letter.is_ascii_digit() && letter != '.')
            .find(|part| !part.is_empty())
            .unwrap_or(""),
    )
}

/// A plain decimal in billionths.
fn nano(text: &str) -> i128 {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{part:0<9}");
    digits.parse().unwrap_or(0)
}

impl Tally {
    fn count(&self, route: &str, server: String, attempts: u64, took: Duration, cost_nanousd: i128) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let line = lines.entry((route.to_owned(), server)).or_default();
        line.requests += 1;
        line.failovers += attempts.saturating_sub(1);
        line.millis += u64::try_from(took.as_millis()).unwrap_or(0);
        line.cost_nanousd += cost_nanousd;
    }

    fn table(&self, vendors: &Vendors) -> String {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["route", "served by", "requests", "failovers", "mean s", "cost USD", "USD per 1000"]);
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for ((route, server), line) in lines {
            let mean = line.millis / line.requests.max(1);
            let per_thousand = line.cost_nanousd * 1000 / i128::from(line.requests.max(1));
            table.add_row([
                route,
                server,
                line.requests.to_string(),
                line.failovers.to_string(),
                format!("{}.{:02}", mean / 1000, mean % 1000 / 10),
                usd(line.cost_nanousd),
                usd(per_thousand),
            ]);
        }
        let broken: Vec<String> = vendors
            .all()
            .filter(|(_, mood)| *mood != Mood::Well)
            .map(|(name, mood)| format!("{name} is {}", mood.as_str()))
            .collect();
        let state = if broken.is_empty() { "all vendors are well".to_owned() } else { broken.join(", ") };
        let rest = if vendors.resting() { "; the demo's own traffic rests" } else { "" };
        format!("{table}\n{state}{rest}\n")
    }
}

fn usd(nano: i128) -> String {
    let nano = i64::try_from(nano).unwrap_or(i64::MAX);
    // Six places are enough for a table; the headers have all nine.
    crate::base::money::Money::from_nanousd(nano / 1000 * 1000).to_string()
}

/// Writes the table to stdout until the process ends.
pub async fn show(vendors: Arc<Vendors>, tally: Arc<Tally>) {
    let mut next = Instant::now() + TABLE_EVERY;
    loop {
        sleep_until(next).await;
        next += TABLE_EVERY;
        anstream::println!("\n{}", tally.table(&vendors));
    }
}
