//! What is told once, and what is told again.

use std::sync::Arc;

use jiff::{SignedDuration, tz::TimeZone};

use super::*;
use crate::{
    base::{fences::Owner, tenants::Period},
    ledger::window::Window,
};

const NOON: &str = "2026-11-23T12:00:00Z";

fn now() -> Timestamp {
    NOON.parse().unwrap()
}

fn fence(cap: i64) -> Arc<Fence> {
    let fence = Fence::sample(Owner::Team("search".into()), Unit::Money, cap);
    Arc::new(Fence { warn_ppm: [500_000, 800_000].into(), ..fence })
}

fn webhooks(on: &[EventKind]) -> Vec<Webhook> {
    vec![Webhook { url: "http://127.0.0.1/hook".to_owned().into(), on: on.to_vec() }]
}

fn level(settled: i64, at: Timestamp) -> Level {
    Level { window: Window::containing(at, Period::Day, &TimeZone::UTC), settled, held: 0 }
}

fn told(events: &mut mpsc::Receiver<Event>) -> Vec<Event> {
    std::iter::from_fn(|| events.try_recv().ok()).collect()
}

#[test]
fn each_share_is_told_once_a_window_and_again_in_the_next() {
    let notices = Notices::default();
    let mut events = notices.begin(Vec::new()).unwrap();
    let (fence, webhooks) = (fence(1_000_000_000), webhooks(&[EventKind::BudgetWarn]));
    let shares = |events: &[Event]| -> Vec<String> {
        events.iter().map(|event| event.body["share_percent"].as_str().unwrap().to_owned()).collect()
    };
    let mut settled = |amount, at: Timestamp| {
        notices.settled(&webhooks, &fence, level(amount, at), at);
        told(&mut events)
    };
    assert!(settled(499_999_999, now()).is_empty());
    let first = settled(500_000_000, now());
    assert_eq!(shares(&first), ["50"]);
    let body = &first[0].body;
    assert_eq!((&body["event"], &body["limit"], &body["used"]), (&json!("budget_warn"), &json!("1"), &json!("0.5")));
    assert_eq!(body["text"], "budget `day` of team `search`: 0.5 USD of 1 USD used, beyond 50 %");
    assert!(settled(600_000_000, now()).is_empty());
    assert_eq!(shares(&settled(990_000_000, now())), ["80"]);
    let tomorrow = now().checked_add(SignedDuration::from_hours(24)).unwrap();
    assert_eq!(shares(&settled(990_000_000, tomorrow)), ["50", "80"]);
}

#[test]
fn a_restart_tells_nothing_again_and_another_gateway_gives_the_same_id() {
    let (fence, webhooks) = (fence(1_000), webhooks(&[EventKind::BudgetWarn]));
    let one = |marks: Vec<Mark>| {
        let notices = Notices::default();
        let mut events = notices.begin(marks).unwrap();
        notices.settled(&webhooks, &fence, level(500, now()), now());
        told(&mut events)
    };
    let (here, there) = (one(Vec::new()), one(Vec::new()));
    assert_eq!(here[0].body["id"], there[0].body["id"]);
    assert!(one(vec![here[0].mark.clone().unwrap()]).is_empty());
}

#[test]
fn what_nobody_wants_to_know_leaves_no_mark() {
    let notices = Notices::default();
    let mut events = notices.begin(Vec::new()).unwrap();
    let fence = fence(1_000);
    notices.settled(&webhooks(&[EventKind::StoreLost]), &fence, level(900, now()), now());
    assert!(told(&mut events).is_empty());
    notices.settled(&webhooks(&[EventKind::BudgetWarn]), &fence, level(900, now()), now());
    assert_eq!(told(&mut events).len(), 2);
}

#[test]
fn an_empty_budget_is_told_once_and_a_limit_never() {
    let notices = Notices::default();
    let mut events = notices.begin(Vec::new()).unwrap();
    let webhooks = webhooks(&[EventKind::BudgetEmpty]);
    let window = Window::containing(now(), Period::Day, &TimeZone::UTC);
    let refused = |fence| Refused { fence, used: 990, wanted: 20, renews_at: Some(window.end) };
    let limit = Arc::new(Fence { purpose: Purpose::Limit, ..(*fence(1_000)).clone() });
    notices.refused(&webhooks, &refused(limit), now());
    for _ in 0..3 {
        notices.refused(&webhooks, &refused(fence(1_000)), now());
    }
    let told = told(&mut events);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].body["renews_at"], "2026-11-24T00:00:00Z");
}

#[test]
fn shares_are_told_as_they_are_written() {
    assert_eq!([800_000, 955_000, 1_000_000, 1].map(percent), ["80", "95.5", "100", "0.0001"]);
}

#[test]
fn a_lost_store_is_told_once_in_five_minutes() {
    let notices = Notices::default();
    let mut events = notices.begin(Vec::new()).unwrap();
    let webhooks = webhooks(&[EventKind::StoreLost]);
    let later = |seconds| now().checked_add(SignedDuration::from_secs(seconds)).unwrap();
    for at in [0, 1, 299, 300, 301] {
        notices.store_lost(&webhooks, "connection refused", later(at));
    }
    let told = told(&mut events);
    assert_eq!(told.len(), 2);
    assert_eq!(told[0].body["text"], "the store of budgets is away: connection refused");
    assert_ne!(told[0].body["id"], told[1].body["id"]);
}
