//! What happens to money while the store answers, and takes nothing: it is out of memory, loads its data, or cannot save
//! them. Each team goes by its `on_store_loss`, and afterwards books = store.

use std::{sync::Arc, time::Duration};

use redis::aio::MultiplexedConnection;
use turnpike::{
    base::{
        fences::{Fence, Unit},
        money::Money,
        store::RedisConfig,
        tenants::OnStoreLoss,
    },
    ledger::{Hold, HoldError},
};

use crate::{
    node::{Node, balanced, settle, until},
    protocol::fence,
    server::Server,
};

/// Without leases: what is spent is spent by asking.
fn plain(server: &Server) -> RedisConfig {
    let mut config = server.config();
    config.lease.share_ppm = 0;
    config
}

/// A node that has spent 40 of 200 and holds 30 more, all of it in the store.
async fn under_way(server: &Server) -> (Node, Arc<Fence>, Hold) {
    let node = Node::up(plain(server)).await;
    let day = fence("search", Unit::Money, 200);
    node.spend(&[&day], 40, 40).await.unwrap();
    let hold = node.hold(&[&day], 30).await.unwrap();
    node.caught_up().await;
    (node, day, hold)
}

/// While nothing is taken: who may not go on is refused, who may spends 30 and no more, and 25 of what is held.
async fn each_goes_by_its_own(node: &Node, day: &Arc<Fence>, hold: Hold, why: &str) {
    let open = OnStoreLoss::Open(Money::from_nanousd(30));
    for closed in [OnStoreLoss::Closed, OnStoreLoss::Lease] {
        assert!(matches!(node.hold_as(&[day], 1, closed).await, Err(HoldError::Away)), "{closed:?}, {why}");
    }
    let told = || node.ledger.store().unwrap().trouble().is_some_and(|trouble| trouble.contains(why));
    until(why, told).await;
    settle(node.hold_as(&[day], 30, open).await.unwrap(), 20);
    assert!(matches!(node.hold_as(&[day], 11, open).await, Err(HoldError::Away)), "at most 30 altogether, {why}");
    settle(node.hold_as(&[day], 10, open).await.unwrap(), 10);
    settle(hold, 25);
}

/// It takes again: 40 + 25 + 30 are settled, and what is left can be spent to the end.
async fn is_exact_after(server: &Server, node: &Node, day: &Arc<Fence>) {
    node.wait_up().await;
    assert_eq!(balanced(server, day, &[node]).await, 95);
    let refused = node.hold(&[day], 106).await.unwrap_err();
    assert!(matches!(refused, HoldError::Refused(refused) if refused.left() == 105));
    node.spend(&[day], 105, 105).await.unwrap();
    assert_eq!(balanced(server, day, &[node]).await, 200);
}

#[tokio::test]
async fn a_store_out_of_memory_takes_nothing_by_halves() {
    let server = Server::start(&["--maxmemory-policy", "noeviction"]).await;
    let (node, day, hold) = under_way(&server).await;
    server.tell("CONFIG SET maxmemory 1").await;
    each_goes_by_its_own(&node, &day, hold, "out of memory").await;
    server.tell("CONFIG SET maxmemory 0").await;
    is_exact_after(&server, &node, &day).await;
}

#[tokio::test]
async fn a_store_that_loads_its_data_is_waited_for() {
    // A millisecond a key, with ears open in between.
    let slow =
        ["--dbfilename", "dump.rdb", "--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"];
    let mut server = Server::start(&slow).await;
    let (node, day, hold) = under_way(&server).await;
    let filler = "for i = 1, 3000 do redis.call('SET', 'filler' .. i, string.rep('x', 1000)) end";
    let mut eval = redis::cmd("EVAL");
    eval.arg(filler).arg(0).query_async::<()>(&mut server.look().await).await.unwrap();
    server.tell("CONFIG SET rdbcompression no").await;
    server.tell("SAVE").await;
    server.kill();
    node.wait_down().await;
    // The server is waited for until it has loaded; meanwhile it says so.
    let ((), ()) = tokio::join!(server.run(), each_goes_by_its_own(&node, &day, hold, "loading"));
    is_exact_after(&server, &node, &day).await;
}

#[tokio::test]
async fn a_store_that_cannot_save_is_away_until_it_can() {
    let server = Server::start(&["--dbfilename", "dump.rdb", "--save", "3600 1"]).await;
    let (node, day, hold) = under_way(&server).await;
    // No file can take the place of a folder.
    let folder = server.folder.path().join("dump.rdb");
    std::fs::create_dir(&folder).unwrap();
    // A server that cannot save refuses even a PING, which a new connection begins with here.
    let mut look = server.look().await;
    redis::cmd("BGSAVE").query_async::<redis::Value>(&mut look).await.unwrap();
    until_saved(&mut look, "rdb_last_bgsave_status:err").await;
    each_goes_by_its_own(&node, &day, hold, "cannot save").await;
    std::fs::remove_dir(&folder).unwrap();
    redis::cmd("SAVE").query_async::<redis::Value>(&mut look).await.unwrap();
    until_saved(&mut look, "rdb_last_bgsave_status:ok").await;
    is_exact_after(&server, &node, &day).await;
}

/// Waits until the server says that its last saving had this outcome.
async fn until_saved(look: &mut MultiplexedConnection, outcome: &str) {
    for _ in 0..500 {
        let told: String = redis::cmd("INFO").arg("persistence").query_async(look).await.unwrap();
        if told.contains(outcome) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the server does not come to `{outcome}`");
}
