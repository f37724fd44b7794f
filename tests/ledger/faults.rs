//! What happens to money when the store fails. After each failure: books = store.

use std::{sync::Arc, time::Duration};

use turnpike::{
    base::{
        fences::{Fence, Unit},
        money::Money,
        store::RedisConfig,
        tenants::OnStoreLoss,
    },
    ledger::{
        HoldError,
        keys::KeyStore,
        row::{RaiseRow, UnitRow},
        window::Window,
    },
};

use crate::{
    node::{Node, balanced, settle, there, until},
    protocol::fence,
    server::Server,
};

fn budget(cap: i64) -> Arc<Fence> {
    fence("search", Unit::Money, cap)
}

/// Without leases: what is spent is spent by asking.
pub fn plain(server: &Server) -> RedisConfig {
    let mut config = server.config();
    config.lease.share_ppm = 0;
    config
}

const PERSISTENT: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_gateways_admit_exactly_what_the_budget_pays() {
    let server = Server::start(&[]).await;
    let (a, b, c) = tokio::join!(Node::up(plain(&server)), Node::up(plain(&server)), Node::up(plain(&server)));
    let (parent, day) = (fence("product", Unit::Money, 4_000), budget(5_000));
    let nodes = [Arc::new(a), Arc::new(b), Arc::new(c)];
    let mut tasks = Vec::new();
    for node in &nodes {
        for _ in 0..30 {
            let (node, parent, day) = (Arc::clone(node), Arc::clone(&parent), Arc::clone(&day));
            tasks.push(tokio::spawn(async move {
                let mut admitted = 0;
                for _ in 0..100 {
                    match node.spend(&[&day, &parent], 1, 1).await {
                        Ok(()) => admitted += 1,
                        Err(HoldError::Refused(_)) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
                admitted
            }));
        }
    }
    let mut admitted = 0;
    for task in tasks {
        admitted += task.await.unwrap();
    }
    assert_eq!(admitted, 4_000);
    let nodes: Vec<&Node> = nodes.iter().map(|node| &**node).collect();
    assert_eq!(balanced(&server, &parent, &nodes).await, 4_000);
    assert_eq!(balanced(&server, &day, &nodes).await, 4_000);
}

#[tokio::test]
async fn a_store_that_forgets_its_scripts_is_not_noticed() {
    let server = Server::start(&[]).await;
    let node = Node::up(plain(&server)).await;
    let day = budget(10);
    node.spend(&[&day], 3, 3).await.unwrap();
    server.tell("SCRIPT FLUSH").await;
    node.spend(&[&day], 3, 3).await.unwrap();
    assert_eq!(balanced(&server, &day, &[&node]).await, 6);
}

#[tokio::test]
async fn a_store_that_lost_its_data_never_hands_out_a_spent_budget_again() {
    let server = Server::start(&[]).await;
    let (a, b) = tokio::join!(Node::up(plain(&server)), Node::up(plain(&server)));
    let day = budget(100);
    a.spend(&[&day], 40, 40).await.unwrap();
    b.spend(&[&day], 30, 30).await.unwrap();
    let under_way = a.hold(&[&day], 20).await.unwrap();
    server.tell("FLUSHALL").await;
    // The first to ask finds out; nobody spends until both have brought what they know.
    assert!(a.hold(&[&day], 20).await.is_err());
    a.wait_up().await;
    until("the other does not come back", || b.ledger.store().unwrap().is_up()).await;
    let refused = b.hold(&[&day], 11).await.unwrap_err();
    assert!(matches!(refused, HoldError::Refused(refused) if refused.left() == 10), "70 settled, 20 held");
    settle(under_way, 15);
    a.caught_up().await;
    a.spend(&[&day], 15, 15).await.unwrap();
    assert_eq!(balanced(&server, &day, &[&a, &b]).await, 100);
}

#[tokio::test]
async fn a_node_that_comes_after_a_rebuild_brings_its_part_once() {
    let mut server = Server::start(&[]).await;
    let (a, b) = tokio::join!(Node::up(plain(&server)), Node::up(plain(&server)));
    let day = budget(100);
    a.spend(&[&day], 40, 40).await.unwrap();
    b.spend(&[&day], 30, 30).await.unwrap();
    balanced(&server, &day, &[&a, &b]).await;
    let away = b.folder;
    drop(b.ledger);
    server.kill();
    server.run().await;
    a.wait_down().await;
    a.wait_up().await;
    assert_eq!(there(&server, &day).await, (40, 0, 0));
    let b = Node::over(away, plain(&server)).await;
    b.wait_up().await;
    assert_eq!(balanced(&server, &day, &[&a, &b]).await, 70);
    let b = b.again(plain(&server)).await;
    b.wait_up().await;
    assert_eq!(balanced(&server, &day, &[&a, &b]).await, 70);
}

#[tokio::test]
async fn a_killed_store_that_kept_its_data_goes_on_where_it_was() {
    let mut server = Server::start(PERSISTENT).await;
    let node = Node::up(plain(&server)).await;
    let day = budget(100);
    node.spend(&[&day], 40, 40).await.unwrap();
    let under_way = node.hold(&[&day], 30).await.unwrap();
    node.caught_up().await;
    server.kill();
    node.wait_down().await;
    assert!(matches!(node.hold(&[&day], 1).await, Err(HoldError::Away)));
    // Settled while the store is away: in the journal, and in the store when it is back.
    settle(under_way, 25);
    server.run().await;
    node.wait_up().await;
    node.spend(&[&day], 35, 35).await.unwrap();
    assert_eq!(balanced(&server, &day, &[&node]).await, 100);
}

#[tokio::test]
async fn a_store_that_went_back_in_time_gets_what_it_forgot_once_each() {
    let mut server = Server::start(&["--dbfilename", "dump.rdb"]).await;
    let node = Node::up(plain(&server)).await;
    let day = budget(100);
    node.spend(&[&day], 10, 10).await.unwrap();
    let early = node.hold(&[&day], 5).await.unwrap();
    node.caught_up().await;
    server.tell("SAVE").await;
    node.spend(&[&day], 20, 20).await.unwrap();
    let late = node.hold(&[&day], 7).await.unwrap();
    settle(early, 4);
    node.caught_up().await;
    server.kill();
    server.run().await;
    node.wait_down().await;
    node.wait_up().await;
    assert_eq!(there(&server, &day).await, (34, 7, 0));
    settle(late, 6);
    assert_eq!(balanced(&server, &day, &[&node]).await, 40);
}

#[tokio::test]
async fn a_stalled_store_costs_each_request_the_timeout_at_most_and_piles_nothing_up() {
    let server = Server::start(&[]).await;
    let node = Arc::new(Node::up(plain(&server)).await);
    let day = budget(1_000);
    server.signal("-STOP");
    let mut tasks = Vec::new();
    for _ in 0..50 {
        let (node, day) = (Arc::clone(&node), Arc::clone(&day));
        tasks.push(tokio::spawn(async move { node.spend(&[&day], 1, 1).await.is_ok() }));
    }
    let asked = tokio::time::Instant::now();
    for task in tasks {
        assert!(!task.await.unwrap());
    }
    // Not a measure of speed: without the breaker nothing would end before the store goes on.
    assert!(asked.elapsed() < Duration::from_secs(20));
    node.wait_down().await;
    server.signal("-CONT");
    node.wait_up().await;
    node.spend(&[&day], 500, 500).await.unwrap();
    // Holds that were sent before the stall and refused to their clients are given back.
    until_free(&server, &day).await;
    assert_eq!(balanced(&server, &day, &[&node]).await, 500);
}

async fn until_free(server: &Server, fence: &Fence) {
    for _ in 0..500 {
        if there(server, fence).await.1 == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("something is held for ever: {:?}", there(server, fence).await);
}

#[tokio::test]
async fn a_short_stall_fails_nobody() {
    let server = Server::start(&[]).await;
    let mut config = plain(&server);
    config.timeout = Duration::from_secs(20);
    let node = Node::up(config).await;
    let day = budget(100);
    server.tell("CLIENT PAUSE 300 ALL").await;
    node.spend(&[&day], 10, 10).await.unwrap();
    assert_eq!(balanced(&server, &day, &[&node]).await, 10);
}

#[tokio::test]
async fn each_team_says_what_happens_while_the_store_is_away() {
    let mut server = Server::start(PERSISTENT).await;
    let node = Node::up(plain(&server)).await;
    let day = budget(100);
    server.kill();
    node.wait_down().await;
    let open = OnStoreLoss::Open(Money::from_nanousd(30));
    assert!(matches!(node.hold_as(&[&day], 1, OnStoreLoss::Closed).await, Err(HoldError::Away)));
    assert!(matches!(node.hold_as(&[&day], 1, OnStoreLoss::Lease).await, Err(HoldError::Away)));
    let first = node.hold_as(&[&day], 20, open).await.unwrap();
    assert!(node.hold_as(&[&day], 11, open).await.is_err(), "at most 30 altogether");
    settle(first, 5);
    settle(node.hold_as(&[&day], 25, open).await.unwrap(), 25);
    assert!(node.hold_as(&[&day], 1, open).await.is_err());
    // Nothing counts it: nothing to ask.
    assert!(node.hold_as(&[], 1, OnStoreLoss::Closed).await.is_ok());
    server.run().await;
    node.wait_up().await;
    assert_eq!(balanced(&server, &day, &[&node]).await, 30);
}

#[tokio::test]
async fn a_gateway_that_was_killed_settles_what_it_held_when_it_comes_back() {
    let server = Server::start(&[]).await;
    let node = Node::up(plain(&server)).await;
    let day = budget(100);
    let hold = node.hold(&[&day], 30).await.unwrap();
    // What `kill -9` leaves: the files as they are.
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(node.folder.path()).unwrap() {
        let file = file.unwrap();
        // What it knows of other nodes is in a folder, and nothing yet.
        if file.file_type().unwrap().is_file() {
            std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
    }
    let Node { ledger, folder: _gone, .. } = node;
    std::mem::forget(hold);
    drop(ledger);
    assert_eq!(there(&server, &day).await, (0, 30, 0));
    let node = Node::over(copy, plain(&server)).await;
    assert_eq!(balanced(&server, &day, &[&node]).await, 30);
}

#[tokio::test]
async fn what_a_node_settled_that_is_gone_for_good_is_known_to_the_others() {
    let server = Server::start(&[]).await;
    let (a, b) = tokio::join!(Node::up(plain(&server)), Node::up(plain(&server)));
    let day = budget(100);
    a.spend(&[&day], 40, 40).await.unwrap();
    b.spend(&[&day], 30, 30).await.unwrap();
    balanced(&server, &day, &[&a, &b]).await;
    // It reads what others have settled, and keeps it when it ends.
    let from = Window::of(&day, jiff::Timestamp::now()).start.as_second();
    until("nothing is heard of the other", || a.ledger.store().unwrap().elsewhere(&day.id, from) == 30).await;
    drop(b);
    let a = a.again(plain(&server)).await;
    a.wait_up().await;
    server.tell("FLUSHALL").await;
    a.wait_down().await;
    a.wait_up().await;
    assert_eq!(there(&server, &day).await, (70, 0, 0));
}

#[tokio::test]
async fn a_raise_at_one_gateway_is_in_force_at_all_and_ends_there_too() {
    let server = Server::start(&[]).await;
    let (a, b) = tokio::join!(Node::up(plain(&server)), Node::up(plain(&server)));
    for node in [&a, &b] {
        let keys = KeyStore::open(node.folder.path()).unwrap();
        node.ledger.share(Arc::new(keys), |_| {});
    }
    let day = budget(100);
    b.spend(&[&day], 100, 100).await.unwrap();
    b.caught_up().await;
    assert!(matches!(b.hold(&[&day], 20).await, Err(HoldError::Refused(_))));
    let now = jiff::Timestamp::now().as_millisecond();
    let raise = RaiseRow {
        id: uuid::Uuid::from_u128(7),
        fence: Arc::clone(&day.id),
        unit: UnitRow::Usd,
        amount: 50,
        from_ms: now,
        until_ms: now + 6_000,
        who: "ops".to_owned(),
        why: "a launch".to_owned(),
    };
    a.ledger.raise(raise).unwrap();
    let raised = || !b.ledger.books().raises().rows(jiff::Timestamp::now()).is_empty();
    until("the raise does not get around", raised).await;
    b.spend(&[&day], 20, 20).await.unwrap();
    until("the raise does not end", || !raised()).await;
    b.caught_up().await;
    assert!(matches!(b.hold(&[&day], 1).await, Err(HoldError::Refused(_))));
    assert_eq!(balanced(&server, &day, &[&a, &b]).await, 120);
}
