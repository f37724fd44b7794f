//! Slices: what a node sets aside in advance never makes a budget larger, and lasts while the store is away.

use std::{sync::Arc, time::Duration};

use turnpike::{
    base::{
        fences::{Fence, Unit},
        store::RedisConfig,
        tenants::OnStoreLoss,
    },
    ledger::HoldError,
};

use crate::{
    node::{Node, balanced, settle, there, until},
    protocol::fence,
    server::Server,
};

/// Much of what is left may be leased, so that small budgets show it.
fn generous(server: &Server) -> RedisConfig {
    let mut config = server.config();
    config.lease.share_ppm = 200_000;
    config
}

/// Spends until the node has a slice.
async fn until_leased(node: &Node, day: &Arc<Fence>) {
    for _ in 0..3000 {
        if node.ledger.store().unwrap().leased_nanousd() > 0 {
            return;
        }
        node.spend(&[day], 1, 1).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("nothing is leased");
}

#[tokio::test]
async fn what_is_leased_is_spent_without_the_store_and_no_further() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let node = Node::up(generous(&server)).await;
    let day = fence("search", Unit::Money, 100_000);
    until_leased(&node, &day).await;
    node.caught_up().await;
    let before = node.booked(&day);
    let leased = node.ledger.store().unwrap().leased_nanousd();
    server.kill();
    node.wait_down().await;
    assert!(matches!(node.hold_as(&[&day], 1, OnStoreLoss::Closed).await, Err(HoldError::Away)));
    let mut spent = 0;
    while node.spend(&[&day], 1, 1).await.is_ok() {
        spent += 1;
    }
    assert!(spent > 0 && spent <= leased, "{spent} of {leased}");
    assert_eq!(node.booked(&day), before + spent);
    server.run().await;
    node.wait_up().await;
    assert_eq!(balanced(&server, &day, &[&node]).await, before + spent);
}

#[tokio::test]
async fn a_budget_is_never_overrun_and_can_be_spent_to_the_end_in_spite_of_leases() {
    let server = Server::start(&[]).await;
    let (a, b) = tokio::join!(Node::up(generous(&server)), Node::up(generous(&server)));
    let day = fence("search", Unit::Money, 5_000);
    let (mut admitted, mut refused) = (0, 0);
    while refused < 200 {
        for node in [&a, &b] {
            match node.spend(&[&day], 3, 2).await {
                Ok(()) => admitted += 1,
                Err(HoldError::Refused(_)) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
        if refused > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let spent = balanced(&server, &day, &[&a, &b]).await;
    assert_eq!(spent, 2 * admitted);
    let (settled, _, leased) = there(&server, &day).await;
    assert!(settled + leased <= 5_000, "{settled} + {leased}");
}

#[tokio::test]
async fn only_its_owner_returns_a_slice_when_it_ends_or_comes_back() {
    let server = Server::start(&[]).await;
    let node = Node::up(generous(&server)).await;
    let day = fence("search", Unit::Money, 100_000);
    until_leased(&node, &day).await;
    node.caught_up().await;
    let leased = there(&server, &day).await.2;
    assert!(leased > 0);
    // It dies: what it leased stays set aside, since nobody knows what it spent of it.
    let Node { ledger, folder, .. } = node;
    drop(ledger);
    let other = Node::up(generous(&server)).await;
    assert_eq!(there(&server, &day).await.2, leased);
    let node = Node::over(folder, generous(&server)).await;
    node.wait_up().await;
    assert_eq!(there(&server, &day).await.2, 0);
    until_leased(&node, &day).await;
    node.ledger.store().unwrap().close(Duration::from_secs(20)).await;
    assert_eq!(there(&server, &day).await.2, 0);
    assert_eq!(there(&server, &day).await.0, node.booked(&day) + other.booked(&day));
}

#[tokio::test]
async fn a_hold_from_a_slice_grows_beyond_it_and_is_charged_once() {
    let server = Server::start(&[]).await;
    let node = Node::up(generous(&server)).await;
    let day = fence("search", Unit::Money, 100_000);
    until_leased(&node, &day).await;
    node.caught_up().await;
    let before = node.booked(&day);
    let mut hold = node.hold(&[&day], 1).await.unwrap();
    let whole = turnpike::ledger::Demand { money: turnpike::base::money::Money::from_nanousd(50_000), tokens: 10 };
    hold.cover(whole, &[], jiff::Timestamp::now()).await.unwrap();
    assert!(there(&server, &day).await.1 > 40_000, "the rest is held in the store");
    settle(hold, 45_000);
    assert_eq!(balanced(&server, &day, &[&node]).await, before + 45_000);
    until("the slice is not used up", || node.ledger.holds_open() == 0).await;
}

#[tokio::test]
async fn slices_of_a_node_that_is_gone_count_as_spent_when_the_store_lost_its_data() {
    let server = Server::start(&[]).await;
    let (a, b) = tokio::join!(Node::up(generous(&server)), Node::up(server.config()));
    let day = fence("search", Unit::Money, 100_000);
    until_leased(&a, &day).await;
    a.caught_up().await;
    // Everybody hears of it with the next signs of life.
    let heard = || b.ledger.store().unwrap().peers().iter().any(|peer| !peer.slices.is_empty());
    until("nobody hears of the slices", heard).await;
    let leased = there(&server, &day).await.2;
    drop(a.ledger);
    server.tell("FLUSHALL").await;
    b.wait_down().await;
    b.wait_up().await;
    let (_, _, there) = there(&server, &day).await;
    assert!(there > 0 && there <= leased, "{there} of {leased}");
}

#[tokio::test]
async fn what_was_spent_of_a_slice_while_the_store_lost_its_data_counts_once() {
    let mut server = Server::start(&[]).await;
    let mut config = generous(&server);
    // What is not wanted any more is soon returned: what is leased then is what the node thinks it has spent.
    config.lease.ttl = Duration::from_secs(3);
    let node = Node::up(config).await;
    let day = fence("search", Unit::Money, 100_000);
    until_leased(&node, &day).await;
    node.caught_up().await;
    let before = node.booked(&day);
    server.kill();
    node.wait_down().await;
    let mut spent = 0;
    while node.spend(&[&day], 1, 1).await.is_ok() {
        spent += 1;
    }
    assert!(spent > 0);
    server.run().await;
    node.wait_up().await;
    assert_eq!(balanced(&server, &day, &[&node]).await, before + spent);
    for _ in 0..1_000 {
        if there(&server, &day).await == (before + spent, 0, 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{:?} after {} were spent", there(&server, &day).await, before + spent);
}

#[tokio::test]
async fn what_a_gateway_returned_at_its_end_is_not_counted_by_those_who_remember_it() {
    let server = Server::start(&[]).await;
    let (a, b) = tokio::join!(Node::up(generous(&server)), Node::up(server.config()));
    let day = fence("search", Unit::Money, 100_000);
    until_leased(&a, &day).await;
    a.caught_up().await;
    let heard = || b.ledger.store().unwrap().peers().iter().any(|peer| !peer.slices.is_empty());
    until("nobody hears of the slices", heard).await;
    a.ledger.store().unwrap().close(Duration::from_secs(20)).await;
    until("they are still remembered", || !heard()).await;
    server.tell("FLUSHALL").await;
    b.wait_down().await;
    b.wait_up().await;
    assert_eq!(there(&server, &day).await.2, 0);
}
