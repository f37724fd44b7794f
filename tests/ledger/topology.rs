//! The store behind sentinels, in a cluster, as a replica, and behind TLS.

use std::{sync::Arc, time::Duration};

use secrecy::SecretString;
use turnpike::{
    base::{
        fences::{Fence, Unit},
        store::{RedisConfig, RedisPlace},
    },
    ledger::HoldError,
};

use crate::{
    node::{Node, balanced, settle, until},
    protocol::fence,
    server::{Server, free_port},
};

fn budget(cap: i64) -> Arc<Fence> {
    fence("search", Unit::Money, cap)
}

fn at(place: RedisPlace) -> RedisConfig {
    let mut config = RedisConfig::at(place);
    config.lease.share_ppm = 0;
    config
}

fn urls(servers: &[&Server]) -> Vec<SecretString> {
    servers.iter().map(|server| server.url().into()).collect()
}

/// Waits until `words` asked of `server` are answered with something that holds `part`.
async fn until_says(server: &Server, words: &str, part: &str) {
    for _ in 0..1000 {
        if format!("{:?}", server.tell(words).await).contains(part) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{words}: never {part}: {:?}", server.tell(words).await);
}

#[tokio::test]
async fn sentinels_lead_to_the_master_that_took_over() {
    let mut first = Server::start(&[]).await;
    let second = Server::start(&["--replicaof", &format!("127.0.0.1 {}", first.port)]).await;
    until_says(&second, "INFO replication", "master_link_status:up").await;
    let sentinel = Server::sentinel(first.port).await;
    until_says(&sentinel, "SENTINEL replicas main", &second.port.to_string()).await;
    let sentinels = urls(&[&sentinel]);
    let node = Node::up(at(RedisPlace::Sentinel { sentinels, master: "main".to_owned(), password: None })).await;
    let day = budget(100);
    node.spend(&[&day], 40, 40).await.unwrap();
    let under_way = node.hold(&[&day], 20).await.unwrap();
    node.caught_up().await;
    first.kill();
    node.wait_down().await;
    node.wait_up().await;
    until_says(&second, "ROLE", "master").await;
    settle(under_way, 15);
    node.caught_up().await;
    assert!(matches!(node.hold(&[&day], 46).await, Err(HoldError::Refused(_))));
    node.spend(&[&day], 45, 45).await.unwrap();
    assert_eq!(balanced(&second, &day, &[&node]).await, 100);
}

#[tokio::test]
async fn a_master_that_becomes_a_replica_is_left() {
    let first = Server::start(&[]).await;
    let second = Server::start(&[]).await;
    let node = Node::up(at(RedisPlace::Single(first.url().into()))).await;
    let day = budget(100);
    node.spend(&[&day], 40, 40).await.unwrap();
    node.caught_up().await;
    first.tell(&format!("REPLICAOF 127.0.0.1 {}", second.port)).await;
    assert!(node.hold(&[&day], 1).await.is_err());
    let trouble = || node.ledger.store().unwrap().trouble();
    until("the replica is not left", || trouble().is_some_and(|why| why.contains("replica"))).await;
    // It comes back as a master, with the empty data of the other.
    until_says(&first, "INFO replication", "master_link_status:up").await;
    first.tell("REPLICAOF NO ONE").await;
    node.wait_up().await;
    assert_eq!(balanced(&first, &day, &[&node]).await, 40);
}

/// Three masters with a third of the slots each.
async fn cluster() -> Vec<Server> {
    let mut servers = Vec::new();
    let bus = free_port().to_string();
    for port in [bus.clone(), free_port().to_string(), free_port().to_string()] {
        servers.push(Server::start(&["--cluster-enabled", "yes", "--cluster-port", &port]).await);
    }
    for (server, slots) in servers.iter().zip(["0 5460", "5461 10922", "10923 16383"]) {
        server.tell(&format!("CLUSTER ADDSLOTSRANGE {slots}")).await;
        server.tell(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", servers[0].port)).await;
    }
    for server in &servers {
        until_says(server, "CLUSTER INFO", "cluster_state:ok").await;
    }
    servers
}

#[tokio::test]
async fn in_a_cluster_the_slot_is_followed_where_it_goes() {
    let servers = cluster().await;
    let node = Node::up(at(RedisPlace::Cluster(urls(&servers.iter().collect::<Vec<_>>())))).await;
    let day = budget(100);
    node.spend(&[&day], 40, 40).await.unwrap();
    node.caught_up().await;
    let redis::Value::Int(slot) = servers[0].tell("CLUSTER KEYSLOT {tp:turnpike}:e").await else { panic!() };
    let owner = usize::try_from(slot).unwrap() / 5461;
    let (from, to) = (&servers[owner.min(2)], &servers[(owner.min(2) + 1) % 3]);
    let id = async |server: &Server| match server.tell("CLUSTER MYID").await {
        redis::Value::BulkString(bytes) => String::from_utf8(bytes).unwrap(),
        other => panic!("{other:?}"),
    };
    let (from_id, to_id) = (id(from).await, id(to).await);
    to.tell(&format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}")).await;
    from.tell(&format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}")).await;
    loop {
        let redis::Value::Array(keys) = from.tell(&format!("CLUSTER GETKEYSINSLOT {slot} 10")).await else { panic!() };
        if keys.is_empty() {
            break;
        }
        for key in keys {
            let redis::Value::BulkString(key) = key else { panic!() };
            let key = String::from_utf8(key).unwrap();
            from.tell(&format!("MIGRATE 127.0.0.1 {} {key} 0 5000 REPLACE", to.port)).await;
        }
    }
    for server in [to, from] {
        server.tell(&format!("CLUSTER SETSLOT {slot} NODE {to_id}")).await;
    }
    // The first call after the move finds out; from then on the new owner counts.
    until_spent(&node, &day, 35).await;
    assert!(matches!(node.hold(&[&day], 61).await, Err(HoldError::Refused(_))));
    assert_eq!(balanced(to, &day, &[&node]).await, 75);
}

async fn until_spent(node: &Node, day: &Arc<Fence>, amount: i64) {
    for _ in 0..1000 {
        if node.spend(&[day], amount, amount).await.is_ok() {
            node.caught_up().await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the slot is not found: {:?}", node.ledger.store().unwrap().trouble());
}

#[tokio::test]
async fn tls_and_a_password_are_spoken_and_a_stranger_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let port = free_port();
    let (cert_text, key_text) = (cert.display().to_string(), key.display().to_string());
    let tls = ["--tls-port", &port.to_string(), "--tls-cert-file", &cert_text, "--tls-key-file", &key_text];
    let server = Server::start(&[&tls[..], &["--tls-auth-clients", "no"]].concat()).await;
    server.tell("CONFIG SET requirepass pw").await;
    let url = format!("rediss://:pw@localhost:{port}");
    let mut config = at(RedisPlace::Single(url.into()));
    let stranger = Node::start(config.clone()).await;
    until("a stranger's certificate is taken", || {
        stranger.ledger.store().unwrap().trouble().is_some_and(|why| why.contains("ertificate"))
    })
    .await;
    config.ca = Some(cert);
    let node = Node::up(config).await;
    let day = budget(100);
    node.spend(&[&day], 40, 40).await.unwrap();
    node.caught_up().await;
    let wrong = Node::start(at(RedisPlace::Single(server.url().into()))).await;
    until("no password is needed", || {
        wrong.ledger.store().unwrap().trouble().is_some_and(|why| why.contains("password"))
    })
    .await;
    assert_eq!(node.booked(&day), 40);
}
