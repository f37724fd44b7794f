//! Journals that are not what the store remembers: of a process that ended at the worst instant, or copies of old ones.

use std::{path::Path, sync::Arc};

use tempfile::TempDir;
use turnpike::{
    base::fences::{Fence, Unit},
    ledger::{
        redis::protocol::{self, How, Taken, Taking},
        window::Window,
    },
};
use uuid::Uuid;

use crate::{
    audit::{all_is_known, audit, differ},
    faults::plain,
    node::{Node, there, until},
    protocol::{fence, place},
    server::Server,
};

fn day() -> Arc<Fence> {
    fence("search", Unit::Money, 1_000)
}

fn copy(from: &Path, to: &Path) {
    for file in std::fs::read_dir(from).unwrap() {
        let (from, to) = (file.as_ref().unwrap().path(), to.join(file.as_ref().unwrap().file_name()));
        if file.unwrap().file_type().unwrap().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy(&from, &to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
}

fn copied(folder: &Path) -> TempDir {
    let new = tempfile::tempdir().unwrap();
    copy(folder, new.path());
    new
}

#[tokio::test]
async fn a_hold_that_was_taken_and_never_journaled_is_free_when_its_node_comes_back() {
    let server = Server::start(&[]).await;
    let (node, day) = (Node::up(plain(&server)).await, day());
    let kept = node.hold(&[&day], 5).await.unwrap();
    let name = std::fs::read_to_string(node.folder.path().join("node")).unwrap();
    // What a kill between the store's answer and the journal leaves.
    let wire = server.wire().await;
    let epoch: String = redis::cmd("GET").arg("{tp:turnpike}:e").query_async(&mut server.look().await).await.unwrap();
    for (number, owner) in [(1, name.trim()), (2, name.trim()), (3, "somebody else")] {
        let id = Uuid::from_u128(number);
        let taking = Taking { how: How::Hold, id, ttl_ms: 60_000, node: owner, about: "{}", revision: 1 };
        let window = Window::of(&day, jiff::Timestamp::now());
        let cmd = protocol::take(&wire, &epoch, &taking, &[place(&day, window, 100)], |_| true);
        assert!(matches!(protocol::taken(wire.send(&cmd).await.unwrap()).unwrap(), Taken::Held(_)));
    }
    assert_eq!(there(&server, &day).await, (0, 305, 0));
    // A connection that is lost and found again does not end what is under way.
    server.tell("CLIENT KILL TYPE normal").await;
    for _ in 0..1_000 {
        if there(&server, &day).await == (0, 105, 0) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(there(&server, &day).await, (0, 105, 0), "what is under way and what is another node's stay");
    node.wait_up().await;
    // And after an end without a word.
    let folder = copied(node.folder.path());
    std::mem::forget(kept);
    drop(node);
    let node = Node::over(folder, plain(&server)).await;
    node.caught_up().await;
    assert_eq!(there(&server, &day).await, (5, 100, 0));
}

#[tokio::test]
async fn a_journal_that_is_an_old_copy_passes_nothing_over() {
    let server = Server::start(&[]).await;
    let (node, other) = tokio::join!(Node::up(plain(&server)), Node::up(plain(&server)));
    let day = day();
    node.spend(&[&day], 10, 10).await.unwrap();
    node.caught_up().await;
    let node = node.again(plain(&server)).await;
    let old = copied(node.folder.path());
    node.wait_up().await;
    for _ in 0..20 {
        node.spend(&[&day], 1, 1).await.unwrap();
    }
    let node = node.again(plain(&server)).await;
    node.wait_up().await;
    for _ in 0..20 {
        node.spend(&[&day], 1, 1).await.unwrap();
    }
    node.caught_up().await;
    node.ledger.store().unwrap().close(std::time::Duration::from_secs(20)).await;
    drop(node);
    assert_eq!(there(&server, &day).await, (50, 0, 0));
    // The folder is lost, and an old copy of it put in its place.
    let node = Node::over(old, plain(&server)).await;
    node.wait_up().await;
    for _ in 0..5 {
        node.spend(&[&day], 1, 1).await.unwrap();
    }
    node.caught_up().await;
    assert_eq!(there(&server, &day).await, (55, 0, 0));
    // The others have read it all, and keep what the node itself has forgotten.
    let from = Window::of(&day, jiff::Timestamp::now()).start.as_second();
    until("it is not read", || other.ledger.store().unwrap().elsewhere(&day.id, from) == 55).await;
    all_is_known(&other).await;
    assert_eq!(differ(&audit(&other).await.0), 0);
    assert_eq!(differ(&audit(&node).await.0), 1, "what is not in its own books is told");
    // It goes on from there.
    let node = node.again(plain(&server)).await;
    node.wait_up().await;
    node.spend(&[&day], 1, 1).await.unwrap();
    node.caught_up().await;
    assert_eq!((there(&server, &day).await, node.booked(&day)), ((56, 0, 0), 16));
}
