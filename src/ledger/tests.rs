//! Holds, windows and settlements of the ledger in memory.

use super::{row::Served, *};
use crate::base::{fences::Owner, tenants::OnStoreLoss};

const NOON: &str = "2026-11-23T12:00:00Z";

fn usd(dollars: i64) -> Money {
    Money::from_nanousd(dollars * 1_000_000_000)
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn fence(owner: Owner, unit: Unit, cap: i64) -> Arc<Fence> {
    Arc::new(Fence::sample(owner, unit, cap))
}

fn team(name: &str, dollars: i64) -> Arc<Fence> {
    fence(Owner::Team(name.into()), Unit::Money, usd(dollars).nanousd())
}

fn order(fences: &[&Arc<Fence>], dollars: i64) -> Order {
    Order {
        request: Uuid::nil(),
        about: Arc::default(),
        first: Served::default(),
        fences: fences.iter().map(|fence| Arc::clone(fence)).collect(),
        demand: Demand { money: usd(dollars), tokens: 100 },
        on_store_loss: OnStoreLoss::Lease,
        revision: 1,
    }
}

fn row(dollars: i64, model: &str) -> Row {
    Row {
        request: Uuid::nil(),
        attempt: 1,
        revision: 0,
        hedge: false,
        at_ms: 0,
        about: Arc::default(),
        served: Served { model: model.into(), ..Served::default() },
        outcome: "ok".into(),
        tokens: row::Tokens { input: 10, output: 5, ..row::Tokens::default() },
        price: None,
        native_nano: 0,
        charge_nanousd: usd(dollars).nanousd(),
        held_nanousd: 0,
        estimated: false,
        swept: false,
    }
}

fn refused(error: HoldError) -> Refused {
    match error {
        HoldError::Refused(refused) => *refused,
        other => panic!("{other:?}"),
    }
}

async fn hold(ledger: &Arc<Ledger>, fences: &[&Arc<Fence>], dollars: i64, now: &str) -> Result<Hold, HoldError> {
    ledger.hold(order(fences, dollars), at(now)).await
}

fn left(ledger: &Ledger, fence: &Fence, now: &str) -> Money {
    Money::from_nanousd(fence.cap - ledger.level(fence, at(now)).used())
}

#[tokio::test]
async fn holds_never_pass_the_limit_and_return_what_was_not_charged() {
    let (ledger, day) = (Arc::new(Ledger::default()), team("search", 10));
    let mut first = hold(&ledger, &[&day], 6, NOON).await.unwrap();
    let short = refused(hold(&ledger, &[&day], 5, NOON).await.unwrap_err());
    assert_eq!((short.used, short.left()), (usd(6).nanousd(), usd(4).nanousd()));
    assert_eq!(short.renews_at, Some(at("2026-11-24T00:00:00Z")));
    first.charge(row(2, "m"));
    assert_eq!(first.settle(), Settled { charged: usd(2), beyond: Money::ZERO, left: Some(usd(8)) });
    let second = hold(&ledger, &[&day], 8, NOON).await.unwrap();
    assert_eq!(ledger.holds_open(), 1);
    drop(second);
    assert_eq!(ledger.holds_open(), 0);
    assert_eq!(left(&ledger, &day, NOON), usd(8));
}

#[tokio::test]
async fn the_fences_of_a_parent_bind_and_a_refusal_takes_nothing() {
    let (ledger, parent, child) = (Arc::new(Ledger::default()), team("product", 3), team("search", 10));
    let short = refused(hold(&ledger, &[&child, &parent], 4, NOON).await.unwrap_err());
    assert_eq!(&*short.fence.id, "team/product/day");
    assert_eq!(left(&ledger, &child, NOON), usd(10));
}

#[tokio::test]
async fn a_dropped_hold_settles_what_was_charged() {
    let (ledger, day) = (Arc::new(Ledger::default()), team("search", 10));
    let mut hold = hold(&ledger, &[&day], 5, NOON).await.unwrap();
    hold.charge(row(1, "m"));
    drop(hold);
    assert_eq!(left(&ledger, &day, NOON), usd(9));
}

#[tokio::test]
async fn a_new_window_begins_empty_and_a_late_settlement_stays_in_the_old_one() {
    let (ledger, day) = (Arc::new(Ledger::default()), team("search", 10));
    let mut late = hold(&ledger, &[&day], 7, "2026-11-23T23:59:59Z").await.unwrap();
    let next_day = "2026-11-24T00:00:00Z";
    let fresh = hold(&ledger, &[&day], 10, next_day).await.unwrap();
    late.charge(row(7, "m"));
    drop(late);
    assert_eq!(left(&ledger, &day, next_day), Money::ZERO);
    drop(fresh);
    assert_eq!(left(&ledger, &day, next_day), usd(10));
}

#[tokio::test]
async fn a_hold_from_before_a_step_of_the_clock_is_booked_where_it_was_taken() {
    let (ledger, day) = (Arc::new(Ledger::default()), team("search", 10));
    drop(hold(&ledger, &[&day], 1, "2026-11-24T00:00:01Z").await.unwrap());
    // The clock stepped back behind the edge: the hold is taken from the window that is open.
    let mut stepped = hold(&ledger, &[&day], 4, "2026-11-23T23:59:59Z").await.unwrap();
    stepped.charge(row(3, "m"));
    drop(stepped);
    assert_eq!(left(&ledger, &day, "2026-11-24T00:00:01Z"), usd(7));
}

#[tokio::test]
async fn covering_more_after_the_edge_of_a_window_takes_the_whole_from_the_new_one() {
    let (ledger, day) = (Arc::new(Ledger::default()), team("search", 10));
    let mut hold = hold(&ledger, &[&day], 2, "2026-11-23T23:59:59Z").await.unwrap();
    hold.charge(row(1, "m"));
    let next_day = "2026-11-24T00:00:00Z";
    hold.cover(Demand { money: usd(3), tokens: 0 }, &[], at(next_day)).await.unwrap();
    assert_eq!(left(&ledger, &day, next_day), usd(6));
    drop(hold);
    assert_eq!(left(&ledger, &day, next_day), usd(9));
}

#[tokio::test]
async fn a_charge_beyond_the_hold_is_booked_in_full_and_counted() {
    let (ledger, day) = (Arc::new(Ledger::default()), team("search", 10));
    let mut hold = hold(&ledger, &[&day], 1, NOON).await.unwrap();
    hold.cover(Demand { money: usd(3), tokens: 0 }, &[], at(NOON)).await.unwrap();
    hold.charge(row(4, "m"));
    assert_eq!(hold.settle().beyond, usd(1));
    assert_eq!(left(&ledger, &day, NOON), usd(6));
}

#[tokio::test]
async fn a_fence_around_a_model_counts_what_the_model_served_alone() {
    let ledger = Arc::new(Ledger::default());
    let (day, dear) = (team("search", 10), fence(Owner::Model("dear".into()), Unit::Money, usd(5).nanousd()));
    let mut hold = hold(&ledger, &[&day], 2, NOON).await.unwrap();
    hold.cover(Demand { money: usd(2), tokens: 0 }, &[Arc::clone(&dear)], at(NOON)).await.unwrap();
    assert_eq!(left(&ledger, &dear, NOON), usd(3));
    hold.charge(row(1, "dear"));
    hold.charge(row(1, "cheap"));
    drop(hold);
    assert_eq!((left(&ledger, &dear, NOON), left(&ledger, &day, NOON)), (usd(4), usd(8)));
}

#[tokio::test]
async fn tokens_requests_and_places_are_counted_beside_money() {
    let ledger = Arc::new(Ledger::default());
    let owner = || Owner::Team("search".into());
    let at_once = fence(owner(), Unit::Concurrent, 1);
    let tokens = fence(Owner::Key("k".into()), Unit::Tokens, 150);
    let requests = fence(Owner::Route("r".into()), Unit::Requests, 2);
    let all = [&at_once, &tokens, &requests];
    let mut first = hold(&ledger, &all, 1, NOON).await.unwrap();
    assert_eq!(refused(hold(&ledger, &all, 1, NOON).await.unwrap_err()).fence.unit, Unit::Concurrent);
    first.charge(row(0, "m"));
    drop(first);
    // Estimated at 100 when it began, charged as used when it ended: 15.
    assert_eq!(ledger.level(&tokens, at(NOON)).settled, 15);
    drop(hold(&ledger, &all, 1, NOON).await.unwrap());
    assert_eq!(refused(hold(&ledger, &all, 1, NOON).await.unwrap_err()).fence.unit, Unit::Requests);
}
