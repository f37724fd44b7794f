//! Gateways and a Redis that fail under load. After every fault: books = store = the upstream's own tally.
//!
//! Clients ask steadily through both gateways. An answer of 503 `budget_store_unavailable` is what the policy asked for
//! while the store is away and what was leased is spent; every other refusal is a failure.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::task::JoinSet;

use super::{IN, OUT, PATH, Site, Store, key, request};
use crate::{
    harness::{Client, Gateway, until},
    upstream::Script,
};

/// Tokens of each answer.
const ANSWER: u64 = 5;
/// What the prompt is billed at.
const PROMPT: u64 = 9;
const TOKEN: (&str, &str) = ("TURNPIKE_TOKEN", super::READER);
/// Steady clients.
const CLIENTS: usize = 8;
/// 90 USD: never reached, so that leases are worth their while.
pub const BUDGET: u64 = 90_000_000_000;

/// Options of a Redis that keeps its data.
pub const PERSISTENT: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

/// What became of the requests.
#[derive(Default)]
struct Ends {
    served: AtomicU64,
    /// Told that the store is away.
    away: AtomicU64,
    /// Told that the budget is spent.
    empty: AtomicU64,
    /// The connection broke, as it does when its gateway is killed.
    broken: AtomicU64,
    over: AtomicBool,
}

/// Asks until it is over, through one gateway after the other, streamed and not.
async fn ask_steadily(addresses: Vec<Client>, number: usize, ends: Arc<Ends>) {
    let mut turn = number;
    while !ends.over.load(Ordering::Relaxed) {
        turn += 1;
        let stream = turn.is_multiple_of(3);
        match addresses[turn % addresses.len()].try_post(PATH, &request(ANSWER, stream)).await {
            Ok(answer) if answer.status == 200 => ends.served.fetch_add(1, Ordering::Relaxed),
            Ok(answer) if answer.status == 402 => ends.empty.fetch_add(1, Ordering::Relaxed),
            Ok(answer) => {
                answer.is_refused(503, "budget_store_unavailable");
                ends.away.fetch_add(1, Ordering::Relaxed)
            }
            Err(_) => ends.broken.fetch_add(1, Ordering::Relaxed),
        };
    }
}

/// Steady clients.
pub struct Load {
    ends: Arc<Ends>,
    asking: JoinSet<()>,
}

impl Load {
    /// Begins to ask.
    pub fn start(site: &Site) -> Self {
        site.upstream.always(Script::says("a b c d e").prompt_tokens(PROMPT));
        let ends = Arc::new(Ends::default());
        let clients: Vec<Client> = site.gateways.iter().map(|gateway| gateway.client_with(&key("steady"))).collect();
        let mut asking = JoinSet::new();
        for number in 0..CLIENTS {
            asking.spawn(ask_steadily(clients.clone(), number, Arc::clone(&ends)));
        }
        Self { ends, asking }
    }

    /// Waits until so many more requests were served.
    pub async fn served(&self, more: u64) {
        let goal = self.ends.served.load(Ordering::Relaxed) + more;
        until(&format!("{more} more are served"), async || self.ends.served.load(Ordering::Relaxed) >= goal).await;
    }

    /// How many were told that the store is away.
    pub fn away(&self) -> u64 {
        self.ends.away.load(Ordering::Relaxed)
    }

    async fn stop(self) -> Arc<Ends> {
        self.ends.over.store(true, Ordering::Relaxed);
        self.asking.join_all().await;
        self.ends
    }
}

/// Two gateways and their Redis.
async fn site(options: &[&str]) -> Site {
    site_with(options, BUDGET).await
}

async fn site_with(options: &[&str], budget: u64) -> Site {
    Site::start_with(Store::Redis, options, 2, &[("steady", budget, "")]).await
}

/// What the store has settled of the budget.
async fn in_store(site: &Site) -> u64 {
    let mut redis = site.redis.as_ref().unwrap().look().await;
    let epoch: String = redis::cmd("GET").arg("{tp:turnpike}:e").query_async(&mut redis).await.unwrap_or_default();
    let pattern = format!("{{tp:turnpike}}:{epoch}:b:team/steady/month:*");
    let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut redis).await.unwrap();
    let mut sum = 0;
    for key in keys {
        let settled: Option<u64> = redis::cmd("HGET").arg(key).arg("s").query_async(&mut redis).await.unwrap();
        sum += settled.unwrap_or(0);
    }
    sum
}

/// Waits until the store is there and has everything, then compares all three.
pub async fn balances(site: &Site) {
    let all = site.gateways.len() as f64;
    until("every gateway has its store", async || site.metric("turnpike_store_up", &[]).await == all).await;
    let booked = site.settled().await;
    assert_eq!(booked, site.billed(), "the books are the upstream's tally");
    until(&format!("the store has {booked}"), async || in_store(site).await == booked).await;
    assert_eq!(site.metric("turnpike_budget_overspend_usd_total", &[]).await, 0.0);
    for gateway in &site.gateways {
        gateway.site().run_with(&[TOKEN], &["audit"]).done();
    }
}

/// Waits until every gateway has seen that its store is away.
pub async fn is_away(site: &Site) {
    until("no gateway has its store", async || site.metric("turnpike_store_up", &[]).await == 0.0).await;
}

/// It is over: all is served again, no connection broke, and the sums agree.
pub async fn after(what: &str, site: &Site, load: Load) {
    load.served(100).await;
    let ends = load.stop().await;
    let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
    println!("{what}: {} served, {} told that the store is away", count(&ends.served), count(&ends.away));
    assert_eq!((count(&ends.broken), count(&ends.empty)), (0, 0));
    balances(site).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_and_comes_back_with_its_data_costs_nothing() {
    let mut site = site(PERSISTENT).await;
    let load = Load::start(&site);
    load.served(100).await;
    let redis = site.redis.as_mut().unwrap();
    redis.kill();
    is_away(&site).await;
    site.redis.as_mut().unwrap().run().await;
    after("killed, back with its data", &site, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_back_empty_is_filled_from_the_books() {
    let mut site = site(&[]).await;
    let load = Load::start(&site);
    load.served(100).await;
    let redis = site.redis.as_mut().unwrap();
    redis.kill();
    is_away(&site).await;
    site.redis.as_mut().unwrap().run().await;
    after("killed, back empty", &site, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_flushed_is_filled_from_the_books() {
    let site = site(&[]).await;
    let load = Load::start(&site);
    load.served(100).await;
    site.redis.as_ref().unwrap().tell("FLUSHALL").await;
    after("flushed", &site, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stalls_piles_nothing_up() {
    let site = site(&[]).await;
    let load = Load::start(&site);
    load.served(100).await;
    site.redis.as_ref().unwrap().signal("-STOP");
    is_away(&site).await;
    site.redis.as_ref().unwrap().signal("-CONT");
    after("stalled", &site, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_forgets_its_scripts_is_told_them_again() {
    let site = site(&[]).await;
    let load = Load::start(&site);
    let forgets = site.redis.as_ref().unwrap();
    // Again and again without a pause: also between a refused call and the one that tells the script.
    let forgetting = async {
        loop {
            forgets.tell("SCRIPT FLUSH").await;
        }
    };
    tokio::select! {
        () = load.served(300) => {}
        () = forgetting => {}
    }
    let ends = load.stop().await;
    assert_eq!(ends.away.load(Ordering::Relaxed), 0);
    balances(&site).await;
}

/// Kills one gateway after the other `kills` times, each once `served` more requests were served or refused.
async fn kill_in_turn(site: &mut Site, load: &Load, kills: usize, more: u64) {
    let asked = || load.ends.served.load(Ordering::Relaxed) + load.ends.empty.load(Ordering::Relaxed);
    for kill in 0..kills {
        let goal = asked() + more;
        until("the gateways go on", async || asked() >= goal).await;
        let folder = site.gateways[kill % 2].site().clone();
        let killed: Gateway = site.gateways.remove(kill % 2);
        drop(killed);
        site.gateways.insert(kill % 2, folder.start().await);
    }
    let goal = asked() + more;
    until("the gateways go on", async || asked() >= goal).await;
}

/// What both gateways have booked, and how much of it was swept; `audit` finds nothing in either.
async fn booked(site: &Site) -> (u64, u64) {
    let all = site.gateways.len() as f64;
    until("every gateway has its store", async || site.metric("turnpike_store_up", &[]).await == all).await;
    until("all holds are settled", async || site.metric("turnpike_holds_open", &[]).await == 0.0).await;
    let (mut booked, mut swept) = (0, 0);
    for gateway in &site.gateways {
        let folder = gateway.site();
        let usage = folder.run_with(&[TOKEN], &["usage", "--own", "--json", "--by", "outcome"]).json();
        for line in usage["lines"].as_array().unwrap() {
            let charge = (line["charge_usd"].as_f64().unwrap() * 1e9).round() as u64;
            booked += charge;
            swept += if line["group"]["outcome"] == "swept" { charge } else { 0 };
        }
        folder.run_with(&[TOKEN], &["audit"]).done();
    }
    (booked, swept)
}

/// How often gateways are killed: `TURNPIKE_KILLS`, 8 unless set. A hundred take two minutes.
fn kills() -> usize {
    std::env::var("TURNPIKE_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(8)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_killed_under_load_lose_and_invent_nothing() {
    let mut site = site(&[]).await;
    let load = Load::start(&site);
    kill_in_turn(&mut site, &load, kills(), 60).await;
    let ends = load.stop().await;
    let (booked, swept) = booked(&site).await;
    let billed = site.billed();
    let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
    println!(
        "{} kills: {} served, {} broken, {} told that the store is away; booked {booked}, of this swept {swept}, \
         billed {billed}",
        kills(),
        count(&ends.served),
        count(&ends.broken),
        count(&ends.away)
    );
    assert!(booked >= billed, "{booked} booked, {billed} billed");
    assert!(booked - billed <= swept, "what is booked beyond the tally is what was swept");
    assert!(booked >= count(&ends.served) * (PROMPT * IN + ANSWER * OUT), "nothing that was served is lost");
    until(&format!("the store has {booked}"), async || in_store(&site).await == booked).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_killed_under_load_never_overrun_a_budget_that_runs_out() {
    let budget = 400 * (PROMPT * IN + ANSWER * OUT);
    let mut site = site_with(&[], budget).await;
    let load = Load::start(&site);
    kill_in_turn(&mut site, &load, kills(), 80).await;
    let ends = load.stop().await;
    let (booked, _) = booked(&site).await;
    println!("{} kills: {booked} of {budget} booked, {} billed", kills(), site.billed());
    assert!(ends.empty.load(Ordering::Relaxed) > 0, "the budget ran out");
    assert!(site.billed() <= booked && booked <= budget, "{} billed, {booked} booked of {budget}", site.billed());
    until(&format!("the store has {booked}"), async || in_store(&site).await == booked).await;
}
