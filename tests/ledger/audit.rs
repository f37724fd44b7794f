//! The books of all nodes beside the store: an audit at any node finds what differs, and nothing else.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use turnpike::{
    base::{
        fences::{Fence, Unit},
        store::RedisConfig,
    },
    ledger::{
        journal::{Position, Reader, Reading},
        redis::{Count, Release},
        report::audit::{Audit, Outcome},
    },
};

use crate::{
    node::{Node, settle, there, until},
    protocol::fence,
    server::Server,
};

fn plain(server: &Server) -> RedisConfig {
    let mut config = server.config();
    config.lease.share_ppm = 0;
    config
}

async fn count(node: &Node) -> Count {
    let own = node.ledger.books().standing().unwrap().settled;
    node.ledger.store().unwrap().count(&own).await.unwrap()
}

/// What an audit at `node` comes to, as the admin listener makes it.
pub async fn audit(node: &Node) -> (Outcome, Count) {
    let count = count(node).await;
    let (mut audit, end) = (Audit::against(count.standing.clone()), Position::of(count.position));
    for reading in Reader::open(node.folder.path(), Position::default()).unwrap() {
        if let Reading::Entry(entry, behind) = reading.unwrap() {
            if behind > end {
                audit.freeze();
            }
            audit.add(&entry);
        }
    }
    (audit.finish(Timestamp::now().as_millisecond()), count)
}

/// Waits until `node` knows all of the other nodes' books.
pub async fn all_is_known(node: &Node) {
    for _ in 0..1000 {
        if count(node).await.in_part.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nobody tells what is missing: {:?}", count(node).await.in_part);
}

/// What does not balance with the store. These rows have no prices, so their charges are found wrong.
pub fn differ(outcome: &Outcome) -> usize {
    outcome.findings.iter().filter(|finding| finding.kind() == "store_differs").count()
}

fn day() -> Arc<Fence> {
    fence("search", Unit::Money, 100_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_books_of_all_nodes_are_laid_beside_the_store_while_they_spend() {
    let server = Server::start(&[]).await;
    let (a, b) = tokio::join!(Node::up(server.config()), Node::up(server.config()));
    let (a, b, day) = (Arc::new(a), Arc::new(b), day());
    let spending = [&a, &b].map(|node| {
        let (node, day) = (Arc::clone(node), Arc::clone(&day));
        tokio::spawn(async move {
            for _ in 0..400 {
                node.spend(&[&day], 9, 7).await.unwrap();
                tokio::task::yield_now().await;
            }
        })
    });
    all_is_known(&a).await;
    while !spending.iter().all(|task| task.is_finished()) {
        for node in [&a, &b] {
            let (outcome, _) = audit(node).await;
            assert_eq!(differ(&outcome), 0, "{:?}", outcome.findings.last());
        }
    }
    let (outcome, _) = audit(&b).await;
    assert_eq!((differ(&outcome), outcome.compared), (0, 1));
    let from = turnpike::ledger::window::Window::of(&day, Timestamp::now()).start.as_second();
    server.tell(&format!("HINCRBY {{tp:turnpike}}:{}:b:{}:{from} s 1", epoch(&server).await, day.id)).await;
    for node in [&a, &b] {
        assert_eq!(differ(&audit(node).await.0), 1, "a nano-dollar too much is found");
    }
}

async fn epoch(server: &Server) -> String {
    redis::cmd("GET").arg("{tp:turnpike}:e").query_async(&mut server.look().await).await.unwrap()
}

#[tokio::test]
async fn a_node_that_missed_rows_of_another_asks_for_its_sums() {
    let server = Server::start(&[]).await;
    let (a, day) = (Node::up(plain(&server)).await, day());
    a.spend(&[&day], 9, 7).await.unwrap();
    a.caught_up().await;
    // Whoever comes now finds nothing of that.
    server.tell("XTRIM {tp:turnpike}:rows MAXLEN 0").await;
    let b = Node::up(plain(&server)).await;
    a.spend(&[&day], 9, 6).await.unwrap();
    a.caught_up().await;
    all_is_known(&b).await;
    let (outcome, count) = audit(&b).await;
    assert_eq!((differ(&outcome), count.standing[0].elsewhere), (0, 13));
}

#[tokio::test]
async fn what_a_silent_node_leases_is_given_back_by_an_operator_alone() {
    let server = Server::start(&[]).await;
    let mut config = server.config();
    config.lease.share_ppm = 200_000;
    let (a, b) = tokio::join!(Node::up(config.clone()), Node::up(config.clone()));
    let day = day();
    while a.ledger.store().unwrap().leased_nanousd() == 0 {
        a.spend(&[&day], 1, 1).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let heard = || b.ledger.store().unwrap().peers().into_iter().find(|peer| !peer.slices.is_empty());
    until("nobody hears of the slices", || heard().is_some()).await;
    let peer = heard().unwrap();
    let now = Timestamp::now();
    let release = async || b.ledger.release(&peer.node, "ops", "its machine burnt down", now).await;
    assert!(matches!(release().await, Err(Release::Heard(..))));
    let unknown = b.ledger.release("nobody", "ops", "a test", now).await;
    assert!(matches!(unknown, Err(Release::Unknown(_))));
    a.caught_up().await;
    let Node { ledger, folder, .. } = a;
    drop(ledger);
    let leased = there(&server, &day).await.2;
    assert!(leased > 0);
    // As if eleven minutes had passed.
    let long_ago = now.as_millisecond() - 660_000;
    let mut set = redis::cmd("HSET");
    set.arg("{tp:turnpike}:n").arg(&peer.node).arg(format!("{long_ago} {}", peer.slices));
    set.query_async::<()>(&mut server.look().await).await.unwrap();
    until("it is not seen to be silent", || !b.ledger.store().unwrap().silent().is_empty()).await;
    assert_eq!(b.ledger.store().unwrap().silent()[0].node, peer.node);
    assert_eq!(release().await.unwrap(), [(day.id.to_string(), leased)]);
    assert_eq!(there(&server, &day).await.2, 0);
    until("it stays disputed", || b.ledger.store().unwrap().silent().is_empty()).await;
    // The node comes back all the same: what it had spent is in, and counts once.
    let a = Node::over(folder, plain(&server)).await;
    a.wait_up().await;
    settle(a.hold(&[&day], 5).await.unwrap(), 5);
    a.caught_up().await;
    all_is_known(&b).await;
    assert_eq!(differ(&audit(&b).await.0), 0);
}
