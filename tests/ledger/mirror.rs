//! Every node keeps the rows of all: what they come to is the same everywhere, and what the store has.

use std::{path::Path, sync::Arc};

use jiff::Timestamp;
use turnpike::{
    admin::{api::UsageAnswer, books},
    base::{
        fences::{Fence, Unit},
        store::RedisConfig,
    },
    ledger::{report::ask::Ask, window::Window},
};

use crate::{
    audit::{all_is_known, audit, differ},
    node::{Node, settle, there, until},
    protocol::fence,
    server::Server,
};

fn plain(server: &Server) -> RedisConfig {
    let mut config = server.config();
    config.lease.share_ppm = 0;
    config
}

fn day() -> Arc<Fence> {
    fence("search", Unit::Money, 100_000)
}

/// What `turnpike usage` says over all of time.
fn usage(folder: &Path, own: bool) -> UsageAnswer {
    let pairs = [("since", "1970-01-01"), ("own", if own { "true" } else { "false" })];
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let none = turnpike::config::from_texts(&[], &|_| None, Timestamp::now()).unwrap();
    books::answer(folder, &Ask::read(&pairs, Timestamp::now()).unwrap(), &none.policies).unwrap()
}

/// Charge and requests of all nodes, as `node` knows them.
fn all(node: &Node) -> (i128, u64) {
    let total = usage(node.folder.path(), false).total;
    (total.charge_usd.nano(), total.requests)
}

#[tokio::test]
async fn any_node_answers_for_all_and_keeps_each_row_once() {
    let server = Server::start(&[]).await;
    let (a, b) = tokio::join!(Node::up(plain(&server)), Node::up(plain(&server)));
    let day = day();
    for charge in 1..=20 {
        a.spend(&[&day], 100, charge).await.unwrap();
        b.spend(&[&day], 100, 1000).await.unwrap();
    }
    until("rows do not get around", || all(&a) == (20_210, 40) && all(&b) == (20_210, 40)).await;
    assert_eq!(usage(a.folder.path(), true).total.charge_usd.nano(), 210);
    // It ends without a word: its sums are not kept, its rows are.
    let Node { ledger, folder, .. } = a;
    drop(ledger);
    let _ = std::fs::remove_file(folder.path().join("mirror.json"));
    b.spend(&[&day], 9, 7).await.unwrap();
    let a = Node::over(folder, plain(&server)).await;
    a.wait_up().await;
    until("rows do not get around again", || all(&a) == (20_217, 41)).await;
    all_is_known(&a).await;
    assert_eq!(differ(&audit(&a).await.0), 0);
}

#[tokio::test]
async fn what_another_node_swept_is_booked_and_corrected_when_its_owner_settles() {
    let server = Server::start(&[]).await;
    let (a, b) = tokio::join!(Node::up(plain(&server)), Node::up(plain(&server)));
    let day = day();
    a.spend(&[&day], 9, 7).await.unwrap();
    let hold = a.hold(&[&day], 30).await.unwrap();
    // As if nothing had been heard of it for long.
    let epoch: String = redis::cmd("GET").arg("{tp:turnpike}:e").query_async(&mut server.look().await).await.unwrap();
    let deadlines = format!("{{tp:turnpike}}:{epoch}:z");
    let held: Vec<String> =
        redis::cmd("ZRANGE").arg(&deadlines).arg("0").arg("-1").query_async(&mut server.look().await).await.unwrap();
    server.tell(&format!("ZADD {deadlines} 1 {}", held[0])).await;
    for node in [&a, &b] {
        until("the sweep is not booked", || all(node) == (37, 2)).await;
    }
    assert_eq!(there(&server, &day).await, (37, 0, 0));
    for node in [&a, &b] {
        all_is_known(node).await;
        assert_eq!(differ(&audit(node).await.0), 0);
    }
    settle(hold, 25);
    a.caught_up().await;
    for node in [&a, &b] {
        until("the sweep is not corrected", || all(node) == (32, 2)).await;
        let total = usage(node.folder.path(), false).total;
        assert_eq!((total.attempts, total.swept_usd.nano()), (2, 0));
        assert_eq!(differ(&audit(node).await.0), 0);
    }
    assert_eq!(there(&server, &day).await, (32, 0, 0));
    assert_eq!(usage(a.folder.path(), true).total.charge_usd.nano(), 32);
}

#[tokio::test]
async fn a_sweep_of_what_was_never_dispatched_is_taken_back_in_every_nodes_books() {
    let server = Server::start(&[]).await;
    let (a, b) = tokio::join!(Node::up(plain(&server)), Node::up(plain(&server)));
    let day = day();
    // Its answer is lost, so its request is refused, and by the time that this can be told it has been swept.
    std::mem::forget(a.hold(&[&day], 30).await.unwrap());
    let epoch: String = redis::cmd("GET").arg("{tp:turnpike}:e").query_async(&mut server.look().await).await.unwrap();
    let deadlines = format!("{{tp:turnpike}}:{epoch}:z");
    let held: Vec<String> =
        redis::cmd("ZRANGE").arg(&deadlines).arg("0").arg("-1").query_async(&mut server.look().await).await.unwrap();
    server.tell(&format!("ZADD {deadlines} 1 {}", held[0])).await;
    for node in [&a, &b] {
        until("the sweep is not booked", || all(node) == (30, 1)).await;
    }
    a.ledger.store().unwrap().abandon(held[0].parse().unwrap());
    for node in [&a, &b] {
        until("the sweep is not taken back", || all(node).0 == 0).await;
        all_is_known(node).await;
        assert_eq!(differ(&audit(node).await.0), 0);
    }
    assert_eq!(there(&server, &day).await, (0, 0, 0));
}

#[tokio::test]
async fn the_budgets_of_thousands_of_users_are_brought_and_told_in_pages() {
    let server = Server::start(&[]).await;
    let (a, b) = tokio::join!(Node::up(plain(&server)), Node::up(plain(&server)));
    let users: Vec<Arc<Fence>> = (0..2_500).map(|user| fence(&format!("user {user}"), Unit::Money, 100)).collect();
    for user in &users {
        a.spend(&[user], 9, 7).await.unwrap();
    }
    a.caught_up().await;
    server.tell("FLUSHALL").await;
    a.wait_down().await;
    a.wait_up().await;
    b.wait_up().await;
    for user in users.iter().step_by(100) {
        assert_eq!(there(&server, user).await, (7, 0, 0), "{}", user.id);
    }
    let from = Window::of(&users[0], Timestamp::now()).start.as_second();
    let read = |user: &Arc<Fence>| b.ledger.store().unwrap().elsewhere(&user.id, from) == 7;
    until("what it says of itself is not read", || users.iter().all(read)).await;
    // Whoever comes now finds nothing of that.
    server.tell("XTRIM {tp:turnpike}:rows MAXLEN 0").await;
    let c = Node::up(plain(&server)).await;
    for (name, node) in [("a", &a), ("b", &b), ("c", &c)] {
        all_is_known(node).await;
        let (outcome, count) = audit(node).await;
        assert_eq!((differ(&outcome), count.standing.len()), (0, 2_500), "{name}");
    }
}
