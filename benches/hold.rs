//! What a hold and its settlement cost: in memory, with the journal on a disk, in a Redis with a round trip for each, and
//! from slices that were leased of it. Those in Redis want a `redis-server`; the rest runs without.

#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros make public functions; a bench may fail")]

use std::{
    hint::black_box,
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use jiff::{Timestamp, tz::TimeZone};
use turnpike::{
    base::{
        fences::{Fence, Owner},
        money::Money,
        store::{RedisConfig, RedisPlace},
        tenants::{Allowance, Budget, Limits, OnStoreLoss, Period, Quota, Rate},
    },
    ledger::{
        Demand, Ledger, Order,
        row::{About, PriceUsed, Row, Served, Tokens},
    },
};
use uuid::Uuid;

/// A month and a day of money for a team, and requests and tokens a minute: what a team in production has.
fn fences() -> Vec<Arc<Fence>> {
    let budget = |name: &str, per| Budget {
        name: name.into(),
        limit: Quota::Money(Money::from_nanousd(9_000_000_000_000_000)),
        per,
        zone: TimeZone::get("Europe/Berlin").unwrap(),
        warn_ppm: Arc::default(),
    };
    let rate = |per| Some(Rate { amount: 1 << 52, per });
    let limits = Limits { requests: rate(Period::Minute), tokens: rate(Period::Minute), concurrent: Some(1_000_000) };
    let allowance = Allowance { budgets: vec![budget("month", Period::Month), budget("day", Period::Day)], limits };
    allowance.around(&Owner::Team("search".into())).collect()
}

fn order(fences: &[Arc<Fence>], about: &Arc<About>, id: u128) -> Order {
    Order {
        request: Uuid::from_u128(id),
        about: Arc::clone(about),
        first: served(),
        fences: fences.to_vec(),
        demand: Demand { money: Money::from_nanousd(4_000_000), tokens: 900 },
        on_store_loss: OnStoreLoss::Lease,
        revision: 1,
    }
}

fn served() -> Served {
    Served {
        model: "deepseek-v4-pro".into(),
        upstream: "deepseek-v4-pro".into(),
        backend: "deepseek".into(),
        provider: "deepseek".into(),
        account: "main".into(),
    }
}

fn row(about: &Arc<About>, id: u128) -> Row {
    Row {
        request: Uuid::from_u128(id),
        attempt: 1,
        revision: 0,
        hedge: false,
        at_ms: 1_795_000_000_000,
        about: Arc::clone(about),
        served: served(),
        outcome: "ok".into(),
        tokens: Tokens { input: 400, cached_input: 128, output: 300, ..Tokens::default() },
        price: Some(PriceUsed {
            currency: "CNY".into(),
            from: 1_780_000_000,
            rates: [3_000_000_000, 25_000_000, 3_000_000_000, 6_000_000_000, 6_000_000_000, 3_000_000_000, 0],
            factor_ppm: 1_000_000,
            exchange_nanousd: 139_000_000,
        }),
        native_nano: 2_619_200,
        charge_nanousd: 364_069,
        held_nanousd: 4_000_000,
        estimated: false,
        swept: false,
    }
}

fn holds(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let now = Timestamp::now();
    let journaled = Ledger::embedded(folder.path(), now).unwrap().0;
    let about =
        Arc::new(About { team: "search".into(), key: "k7Qm2x".into(), route: "auto".into(), ..About::default() });
    let fences = fences();
    let mut group = c.benchmark_group("hold and settle in 5 fences");
    for (name, ledger) in [("in memory", Arc::new(Ledger::default())), ("with the journal", Arc::new(journaled))] {
        let mut id = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                id += 1;
                let mut hold = runtime.block_on(ledger.hold(order(&fences, &about, id), now)).unwrap();
                hold.charge(row(&about, id));
                black_box(hold.settle())
            });
        });
    }
    group.finish();
}

/// A `redis-server` of the bench's own; it ends with the value.
struct Redis(Child, u16);

impl Redis {
    /// `None` when none is installed.
    fn start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        let redis = Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?, port);
        (0..500).find(|_| {
            sleep(Duration::from_millis(10));
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        })?;
        Some(redis)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for the ledger's store: until it is up and has all that was settled.
fn until_quiet(ledger: &Ledger) {
    let store = ledger.store().unwrap();
    while !(store.is_up() && store.is_caught_up()) {
        sleep(Duration::from_millis(1));
    }
}

/// Settlements go to the store off the path, so what is timed is the hold and the entry of the journal; the store
/// catches up in between, off the clock.
fn holds_in_redis(c: &mut Criterion) {
    let Some(redis) = Redis::start() else {
        println!("hold and settle in Redis: left out, no `redis-server` is installed");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let about =
        Arc::new(About { team: "search".into(), key: "k7Qm2x".into(), route: "auto".into(), ..About::default() });
    let fences = fences();
    let mut group = c.benchmark_group("hold and settle in 5 fences");
    for (name, share_ppm) in [("in Redis, a round trip each", 0), ("in Redis, from slices", 10_000)] {
        let mut config = RedisConfig::at(RedisPlace::Single(format!("redis://127.0.0.1:{}", redis.1).into()));
        config.lease.share_ppm = share_ppm;
        config.name = format!("bench{share_ppm}");
        config.timeout = Duration::from_secs(10);
        let folder = tempfile::tempdir().unwrap();
        let entered = runtime.enter();
        let ledger = Arc::new(Ledger::redis(folder.path(), config, Timestamp::now()).unwrap().0);
        drop(entered);
        until_quiet(&ledger);
        let mut id = u128::from(share_ppm) << 64;
        group.bench_function(name, |b| {
            b.iter_custom(|count| {
                let mut spent = Duration::ZERO;
                for number in 0..count {
                    id += 1;
                    let (order, row, now) = (order(&fences, &about, id), row(&about, id), Timestamp::now());
                    let began = Instant::now();
                    let mut hold = runtime.block_on(ledger.hold(order, now)).unwrap();
                    hold.charge(row);
                    black_box(hold.settle());
                    spent += began.elapsed();
                    if number % 64 == 63 {
                        until_quiet(&ledger);
                    }
                }
                spent
            });
        });
        until_quiet(&ledger);
    }
    group.finish();
}

criterion_group!(benches, holds, holds_in_redis);
criterion_main!(benches);
