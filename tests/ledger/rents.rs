//! The rent of servers that several gateways share: each hour is booked by one of them, and every one knows of it.

use std::{path::Path, sync::Arc, time::Duration};

use jiff::{Timestamp, ToSpan};
use tempfile::TempDir;
use turnpike::{
    admin::books,
    base::store::RedisConfig,
    ledger::{
        Books, BooksError, Recovery, Rented,
        journal::{Position, Reader, Reading},
        mirror_folder,
        report::{
            ask::Ask,
            audit::{Audit, Finding},
        },
        row::{Entry, RentHour, Row, Served},
    },
};

use crate::{
    audit::all_is_known,
    node::{Node, row, until},
    server::Server,
};

const DOLLAR: i64 = 1_000_000_000;

fn plain(server: &Server) -> RedisConfig {
    let mut config = server.config();
    config.lease.share_ppm = 0;
    config
}

/// Two servers at two dollars an hour each.
fn gpu() -> [Rented; 1] {
    let (rent_nano, exchange_nanousd) = (2 * DOLLAR, DOLLAR);
    [Rented { backend: "gpu".into(), provider: "vllm".into(), servers: Some(2), rent_nano, exchange_nanousd }]
}

/// What the hour costs of which [`rented`] is.
const RENT: i128 = 4 * DOLLAR as i128;

/// Two nodes that rent the servers, since the same instant; and when that hour is to be booked.
struct Pair {
    server: Server,
    a: Node,
    b: Node,
    now: Timestamp,
    later: Timestamp,
}

async fn rented() -> Pair {
    let server = Server::start(&[]).await;
    let (a, b) = tokio::join!(Node::up(plain(&server)), Node::up(plain(&server)));
    let now = Timestamp::now();
    for node in [&a, &b] {
        node.ledger.keep_rent(&gpu(), now).await.unwrap();
    }
    Pair { server, a, b, now, later: now + 2.hours() }
}

/// The node is to book its hour, and ends before it has: the hour, its name and its folder.
async fn claimed(node: Node, later: Timestamp) -> (RentHour, String, TempDir) {
    let hour = node.ledger.books().rents_over(later).remove(0);
    let store = node.ledger.store().unwrap();
    let name = store.node().to_owned();
    assert_eq!(store.claim_rent(&hour).await.unwrap(), name);
    let Node { ledger, folder, .. } = node;
    drop(ledger);
    (hour, name, folder)
}

/// A request that is charged so much for the servers.
async fn pay(node: &Node, charge: i64, at: Timestamp) {
    let mut hold = node.hold(&[], charge).await.unwrap();
    let served = Served { backend: "gpu".into(), ..Served::default() };
    hold.charge(Row { served, at_ms: at.as_millisecond(), ..row(charge) });
    hold.settle();
}

/// Charge, rest of rents and requests of all nodes, as the books in `folder` say.
fn all(folder: &Path) -> (i128, i128, u64) {
    let pairs = [("since", "1970-01-01"), ("until", "2100-01-01")];
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let ask = Ask::read(&pairs, Timestamp::now()).unwrap();
    let none = turnpike::config::from_texts(&[], &|_| None, Timestamp::now()).unwrap();
    let total = books::answer(folder, &ask, &none.policies).unwrap().total;
    (total.charge_usd.nano(), total.unallocated_usd.nano(), total.requests)
}

/// Rows of rents that the books in `folder` have, those of other nodes too.
fn booked(folder: &Path) -> usize {
    let mut rows = 0;
    for folder in [folder, &mirror_folder(folder)] {
        for reading in Reader::open(folder, Position::default()).unwrap() {
            let Reading::Entry(entry, _) = reading.unwrap() else { continue };
            let settled = match *entry {
                Entry::Settle(settled) => vec![settled],
                Entry::Told(told) => told.settled,
                _ => vec![],
            };
            rows += settled.iter().flat_map(|settled| &settled.rows).filter(|row| row.is_rent()).count();
        }
    }
    rows
}

/// The books of a node that has just ended, without the store.
async fn open_shared(folder: &Path) -> (Arc<Books>, Recovery) {
    for _ in 0..500 {
        match Books::open_shared(folder, Timestamp::now()) {
            // The task of the last owner ends with the next turn of the runtime.
            Err(BooksError::InUse(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
            opened => return opened.unwrap(),
        }
    }
    panic!("the folder stays in use");
}

/// Hours whose rent was compared, and those that differ.
fn audited(folder: &Path) -> (u64, usize) {
    let mut audit = Audit::default();
    let mut each = |folder: &Path, take: &mut dyn FnMut(&mut Audit, Entry)| {
        for reading in Reader::open(folder, Position::default()).unwrap() {
            if let Reading::Entry(entry, _) = reading.unwrap() {
                take(&mut audit, *entry);
            }
        }
    };
    each(&mirror_folder(folder), &mut |audit, entry| {
        if let Entry::Told(told) = entry {
            told.settled.iter().for_each(|settled| audit.elsewhere(settled));
        }
    });
    each(folder, &mut |audit, entry| audit.add(&entry));
    let outcome = audit.finish(0);
    let differ = outcome.findings.iter().filter(|finding| matches!(finding, Finding::RentDiffers { .. })).count();
    (outcome.rents, differ)
}

#[tokio::test]
async fn of_several_nodes_one_books_the_rent_of_an_hour_with_what_all_were_paid() {
    let Pair { server, a, b, now, later } = rented().await;
    pay(&a, 300, now).await;
    pay(&b, 70, now).await;
    a.caught_up().await;
    b.caught_up().await;
    let (one, other) = tokio::join!(a.ledger.keep_rent(&[], later), b.ledger.keep_rent(&[], later));
    one.unwrap();
    other.unwrap();
    let both = (RENT, RENT - 370, 2);
    let (here, there) = (a.folder.path().to_owned(), b.folder.path().to_owned());
    until("the hour is not booked once", || all(&here) == both && all(&there) == both).await;
    assert_eq!((audited(&here), audited(&there)), ((1, 0), (1, 0)));
    // Once more, and after a restart.
    let a = a.again(plain(&server)).await;
    a.wait_up().await;
    for node in [&a, &b] {
        node.ledger.keep_rent(&[], later + 1.hours()).await.unwrap();
        node.caught_up().await;
    }
    pay(&b, 1, later + 5.hours()).await;
    let more = (RENT + 1, RENT - 370, 3);
    until("it is booked again", || all(&here) == more && all(&there) == more).await;
}

#[tokio::test]
async fn a_node_that_ended_before_it_booked_what_it_was_to_book_does_so_when_it_is_back() {
    let Pair { server, a, b, later, .. } = rented().await;
    let (hour, _, folder) = claimed(a, later).await;
    b.ledger.keep_rent(&[], later).await.unwrap();
    assert_eq!(
        (all(b.folder.path()), b.ledger.books().rents_over(later)),
        ((0, 0, 0), vec![hour]),
        "it is not its to book, and may never be booked"
    );
    let a = Node::over(folder, plain(&server)).await;
    a.wait_up().await;
    a.ledger.keep_rent(&[], later).await.unwrap();
    let there = b.folder.path().to_owned();
    until("it is never booked", || all(&there) == (RENT, RENT, 0)).await;
    b.ledger.keep_rent(&[], later).await.unwrap();
    assert_eq!(b.ledger.books().rents_over(later), []);
}

#[tokio::test]
async fn an_hour_whose_node_never_comes_back_is_booked_by_another_and_once_if_it_does() {
    let Pair { server, a, b, now, later } = rented().await;
    let (hour, name, folder) = claimed(a, later).await;
    // It had booked it, and could not tell.
    {
        let (books, _) = open_shared(folder.path()).await;
        books.settle_rents(std::slice::from_ref(&hour), &name, later).unwrap();
    }
    b.ledger.keep_rent(&[], later).await.unwrap();
    assert_eq!(all(b.folder.path()).0, 0, "it may still come back");
    // As if more than an hour had passed.
    let mut set = redis::cmd("SET");
    set.arg(format!("{{tp:turnpike}}:rent:{}:gpu", hour.hour));
    set.arg(format!("{name} {}", now.as_millisecond() - 3_601_000));
    set.query_async::<()>(&mut server.look().await).await.unwrap();
    b.ledger.keep_rent(&[], later).await.unwrap();
    assert_eq!((all(b.folder.path()), b.ledger.books().rents_over(later)), ((RENT, RENT, 0), vec![]));
    b.caught_up().await;
    let a = Node::over(folder, plain(&server)).await;
    a.wait_up().await;
    let (here, there) = (a.folder.path().to_owned(), b.folder.path().to_owned());
    until("neither takes its own off", || {
        [&here, &there].iter().all(|folder| all(folder) == (RENT, RENT, 0) && booked(folder) == 3)
    })
    .await;
    assert_eq!((audited(&here), audited(&there)), ((1, 0), (1, 0)));
}

#[tokio::test]
async fn a_node_that_missed_rows_books_no_hour_and_says_that_it_knows_in_part() {
    let Pair { server, a, b, now, later } = rented().await;
    pay(&a, 300, now).await;
    a.caught_up().await;
    until("it is not heard", || all(b.folder.path()).0 == 300).await;
    server.tell("FLUSHALL").await;
    // Both notice within the second and a half that a rebuild takes at least.
    tokio::join!(a.wait_down(), b.wait_down());
    tokio::join!(a.wait_up(), b.wait_up());
    let c = Node::up(plain(&server)).await;
    c.ledger.keep_rent(&gpu(), now).await.unwrap();
    // Its sums of all are whole by now, its rows are not.
    all_is_known(&c).await;
    c.ledger.keep_rent(&[], later).await.unwrap();
    assert_eq!((all(c.folder.path()), c.ledger.books().rents_over(later).len()), ((0, 0, 0), 1));
    all_is_known(&b).await;
    b.ledger.keep_rent(&[], later).await.unwrap();
    let (there, late) = (c.folder.path().to_owned(), b.folder.path().to_owned());
    assert_eq!(all(&late), (RENT, RENT - 300, 1));
    until("the hour stays open", || c.ledger.books().rents_over(later).is_empty()).await;
    let hour = now.as_second().div_euclid(3_600) * 3_600_000;
    let since = |node: &Node| node.ledger.store().unwrap().rows_since_ms();
    assert!(since(&c) >= hour && since(&b) < hour, "{} {} {hour}", since(&c), since(&b));
    // Also after a restart, and with what it is told from then on.
    assert_eq!(all(&there).0, RENT - 300);
    let c = c.again(plain(&server)).await;
    c.wait_up().await;
    assert!(since(&c) >= hour);
}

#[tokio::test]
async fn without_the_store_an_hour_waits_and_a_store_that_forgot_does_not_book_it_twice() {
    let Pair { server, a, b, later, .. } = rented().await;
    server.signal("-STOP");
    a.wait_down().await;
    a.ledger.keep_rent(&[], later).await.unwrap();
    assert_eq!((all(a.folder.path()), a.ledger.books().rents_over(later).len()), ((0, 0, 0), 1));
    server.signal("-CONT");
    for node in [&a, &b] {
        node.wait_up().await;
    }
    a.ledger.keep_rent(&[], later).await.unwrap();
    let there = b.folder.path().to_owned();
    until("the other does not hear of it", || all(&there) == (RENT, RENT, 0)).await;
    server.tell("FLUSHALL").await;
    b.ledger.keep_rent(&[], later).await.unwrap();
    for node in [&a, &b] {
        node.wait_up().await;
    }
    b.ledger.keep_rent(&[], later).await.unwrap();
    b.caught_up().await;
    assert_eq!(all(&there), (RENT, RENT, 0));
}
