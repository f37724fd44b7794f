//! What a hold and its settlement cost: in memory, and with the journal on a disk.

#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros make public functions; a bench may fail")]

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, criterion_group, criterion_main};
use jiff::{Timestamp, tz::TimeZone};
use turnpike::{
    base::{
        fences::{Fence, Owner},
        money::Money,
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
    let rate = |per| Some(Rate { amount: u64::MAX >> 1, per });
    let limits = Limits { requests: rate(Period::Minute), tokens: rate(Period::Minute), concurrent: Some(1_000) };
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

criterion_group!(benches, holds);
criterion_main!(benches);
