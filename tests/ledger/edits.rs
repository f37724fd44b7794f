//! Edits of budgets that several gateways count: nothing that was spent is forgotten, whoever reloads first.

use std::sync::{Arc, atomic::Ordering};

use jiff::Timestamp;
use turnpike::{
    base::{
        fences::{Fence, Unit},
        money::Money,
        tenants::Period,
    },
    ledger::{Demand, HoldError, keys::KeyStore},
};

use crate::{
    audit::{all_is_known, audit, differ},
    faults::plain,
    node::{Node, there, until},
    protocol::fence,
    server::Server,
};

/// The same budget with another period and cap.
fn budget(per: Period, cap: i64) -> Arc<Fence> {
    let fence = fence("search", Unit::Money, cap);
    Arc::new(Fence { per: Some(per), ..Fence::clone(&fence) })
}

/// A gateway whose policies have `fence`.
async fn gateway(server: &Server, fence: &Arc<Fence>) -> Node {
    let node = Node::up(plain(server)).await;
    share(&node);
    load(&node, fence, 1_000);
    node
}

fn share(node: &Node) {
    let keys = KeyStore::open(node.folder.path()).unwrap();
    node.ledger.share(Arc::new(keys), |_| {});
}

/// Loads policies that have `fence` and nothing else.
fn load(node: &Node, fence: &Arc<Fence>, revision: u64) {
    let store = node.ledger.store().unwrap();
    store.follow(revision, [fence].into_iter());
    node.revision.store(revision, Ordering::Relaxed);
}

fn is_refused<T>(held: Result<T, HoldError>) -> bool {
    matches!(held, Err(HoldError::Refused(_)))
}

/// Nothing differs between the books of all and the store, wherever it is asked.
async fn agree(nodes: [&Node; 2]) {
    for node in nodes {
        all_is_known(node).await;
        let (outcome, _) = audit(node).await;
        assert_eq!(differ(&outcome), 0, "{:?}", outcome.findings.last());
    }
}

/// Waits until `settled` stands against `fence` in the store, in the window that it means.
async fn stands(server: &Server, fence: &Fence, settled: i64) {
    for _ in 0..1_000 {
        if there(server, fence).await.0 == settled {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{:?} stands against {}, not {settled}", there(server, fence).await, fence.id);
}

/// Waits until the store says that `fence` runs in the window that it means.
async fn runs(server: &Server, fence: &Fence) {
    use turnpike::ledger::window::Window;
    let window = Window::of(fence, Timestamp::now());
    let wanted = format!("{}:{}", window.start.as_second(), window.end.as_second());
    let mut look = server.look().await;
    for _ in 0..1_000 {
        let epoch: Option<String> = redis::cmd("GET").arg("{tp:turnpike}:e").query_async(&mut look).await.unwrap();
        let key = format!("{{tp:turnpike}}:{}:w:{}", epoch.unwrap_or_default(), fence.id);
        let running: Option<String> = redis::cmd("GET").arg(key).query_async(&mut look).await.unwrap();
        if running.is_some_and(|running| running == wanted) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{} does not run in {wanted}", fence.id);
}

#[tokio::test]
async fn an_edited_period_keeps_what_all_gateways_have_spent() {
    let server = Server::start(&[]).await;
    let (month, day) = (budget(Period::Month, 1_000), budget(Period::Day, 100));
    let (a, b) = tokio::join!(gateway(&server, &month), gateway(&server, &month));
    a.spend(&[&month], 30, 30).await.unwrap();
    b.spend(&[&month], 20, 20).await.unwrap();
    a.caught_up().await;
    b.caught_up().await;

    // One of them reloads; the other still has the old policies.
    load(&a, &day, 2_000);
    runs(&server, &day).await;
    stands(&server, &day, 50).await;
    assert!(is_refused(b.hold(&[&month], 60).await));
    assert!(is_refused(a.hold(&[&day], 60).await));
    b.spend(&[&month], 25, 25).await.unwrap();
    b.caught_up().await;
    stands(&server, &day, 75).await;
    agree([&a, &b]).await;

    // The other reloads, later.
    load(&b, &day, 3_000);
    b.spend(&[&day], 5, 5).await.unwrap();
    a.spend(&[&day], 10, 10).await.unwrap();
    a.caught_up().await;
    b.caught_up().await;
    stands(&server, &day, 90).await;
    assert!(is_refused(a.hold(&[&day], 11).await));

    agree([&a, &b]).await;

    // A store that lost its data has it all again.
    server.tell("FLUSHALL").await;
    a.wait_down().await;
    a.wait_up().await;
    b.wait_up().await;
    stands(&server, &day, 90).await;
    assert!(is_refused(b.hold(&[&day], 11).await));

    // And back.
    let month = budget(Period::Month, 200);
    load(&b, &month, 4_000);
    runs(&server, &month).await;
    stands(&server, &month, 90).await;
    assert!(is_refused(a.hold(&[&day], 111).await));
    a.spend(&[&day], 110, 110).await.unwrap();
    a.caught_up().await;
    stands(&server, &month, 200).await;
    agree([&a, &b]).await;
}

#[tokio::test]
async fn a_request_of_before_an_edit_brings_no_old_limit_back() {
    let server = Server::start(&[]).await;
    let (old, new) = (budget(Period::Day, 100), budget(Period::Day, 70));
    let a = gateway(&server, &old).await;
    let mut early = a.hold(&[&old], 10).await.unwrap();
    load(&a, &new, 2_000);
    a.spend(&[&new], 10, 10).await.unwrap();
    // Admitted before the reload, asked for behind it.
    a.revision.store(1_000, Ordering::Relaxed);
    assert!(is_refused(a.hold(&[&old], 51).await));
    let whole = |money| Demand { money: Money::from_nanousd(money), tokens: 10 };
    assert!(is_refused(early.cover(whole(61), &[], Timestamp::now()).await));
    early.cover(whole(60), &[], Timestamp::now()).await.unwrap();
}

#[tokio::test]
async fn the_limit_of_the_newest_policies_counts_for_all() {
    let server = Server::start(&[]).await;
    let old = budget(Period::Day, 100);
    let (a, b) = tokio::join!(gateway(&server, &old), gateway(&server, &old));
    b.spend(&[&old], 60, 60).await.unwrap();
    b.caught_up().await;
    load(&a, &budget(Period::Day, 70), 2_000);
    // The one with the new limit asks for nothing; the other's own would allow it.
    until("the lower limit does not get around", || a.ledger.store().unwrap().knows_all()).await;
    for _ in 0..500 {
        match b.hold(&[&old], 30).await {
            Err(HoldError::Refused(_)) => return,
            held => drop(held),
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the old limit still counts");
}
