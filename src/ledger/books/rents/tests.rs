//! Rents in the books of one machine: the rest of each hour, once, whatever ends the process.

use std::path::Path;

use jiff::ToSpan;

use super::*;
use crate::ledger::{
    journal::Position,
    report::audit::{Audit, Finding, Outcome},
};

/// An hour begins.
const NINE: &str = "2026-11-23T09:00:00Z";
const DOLLAR: i64 = 1_000_000_000;

fn at(minutes: i64) -> Timestamp {
    NINE.parse::<Timestamp>().unwrap() + minutes.minutes()
}

fn open(folder: &Path, minutes: i64) -> Arc<Books> {
    Books::open(folder, at(minutes)).unwrap().0
}

/// So many servers at two dollars an hour each.
fn gpu(servers: u32) -> Rented {
    let (rent_nano, exchange_nanousd) = (2 * DOLLAR, DOLLAR);
    Rented { backend: "gpu".into(), provider: "vllm".into(), servers: Some(servers), rent_nano, exchange_nanousd }
}

/// A request that was dispatched at some minute and charged so much, by `backend`.
fn paid_at(books: &Books, backend: &str, minutes: i64, charge: i64) {
    let row = Row {
        request: Uuid::from_u128(rand::random()),
        attempt: 1,
        revision: 0,
        hedge: false,
        at_ms: at(minutes).as_millisecond(),
        about: Arc::new(About { team: "search".into(), operation: "chat".into(), ..About::default() }),
        served: Served { backend: backend.into(), ..Served::default() },
        outcome: "ok".into(),
        tokens: Tokens::default(),
        price: None,
        native_nano: 0,
        charge_nanousd: charge,
        held_nanousd: charge,
        estimated: true,
        swept: true,
    };
    let (id, at_ms) = (row.request, row.at_ms + 1);
    books.settle(&[], SettleRow { id, held_at_ms: at_ms, at_ms, places: vec![], rows: vec![row], swept: true });
}

/// Books the hours that are over, as the node `node`, and corrects those before; tells how many it books.
fn book_as(books: &Books, node: &str, minutes: i64) -> usize {
    let over = books.rents_over(at(minutes));
    let late = books.rents_late(at(minutes));
    books.settle_rents(&[over.clone(), late].concat(), node, at(minutes)).unwrap();
    over.len()
}

fn book(books: &Books, minutes: i64) -> usize {
    book_as(books, "", minutes)
}

/// The row by which `books` first booked the rent of an hour.
fn first_row(folder: &Path) -> Row {
    let mut entries = Reader::open(folder, Position::default()).unwrap().filter_map(|reading| match reading.unwrap() {
        Reading::Entry(entry, _) => Some(*entry),
        _ => None,
    });
    let row = entries.find_map(|entry| match entry {
        Entry::Settle(settled) => settled.rows.into_iter().find(Row::is_rent),
        _ => None,
    });
    row.unwrap()
}

/// Rent and charge of every row of a rent.
fn rows(folder: &Path) -> Vec<(i64, i64)> {
    let mut rows = Vec::new();
    for reading in Reader::open(folder, Position::default()).unwrap() {
        if let Reading::Entry(entry, _) = reading.unwrap()
            && let Entry::Settle(settled) = *entry
        {
            let rents = settled.rows.iter().filter(|row| row.is_rent());
            rows.extend(rents.map(|row| (row.held_nanousd, row.charge_nanousd)));
        }
    }
    rows
}

fn audit(folder: &Path) -> Outcome {
    let mut audit = Audit::default();
    for reading in Reader::open(folder, Position::default()).unwrap() {
        if let Reading::Entry(entry, _) = reading.unwrap() {
            audit.add(&entry);
        }
    }
    audit.finish(at(0).as_millisecond())
}

#[test]
fn what_no_request_paid_of_an_hour_is_booked_once_it_has_surely_ended() {
    let folder = tempfile::tempdir().unwrap();
    let books = open(folder.path(), 0);
    books.note_rent(&gpu(3), at(25)).unwrap();
    paid_at(&books, "gpu", 30, DOLLAR);
    paid_at(&books, "gpu", 59, 7);
    paid_at(&books, "gpu", 60, 11);
    paid_at(&books, "other", 30, 13);
    assert_eq!((book(&books, 79), rows(folder.path())), (0, vec![]));
    assert_eq!(book(&books, 80), 1);
    assert_eq!(rows(folder.path()), [(6 * DOLLAR, 5 * DOLLAR - 7)], "the hour counts whole");
    books.note_rent(&gpu(3), at(30)).unwrap();
    assert_eq!((book(&books, 200), rows(folder.path()).len()), (0, 1), "a clock that goes back opens no hour again");
    let outcome = audit(folder.path());
    assert_eq!(
        (outcome.rents, outcome.rent, outcome.unallocated),
        (1, i128::from(6 * DOLLAR), i128::from(5 * DOLLAR - 7))
    );
    assert_eq!((outcome.findings, outcome.requests, outcome.rows), (vec![], 4, 4));
}

#[test]
fn requests_that_paid_more_than_the_rent_leave_less_than_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let books = open(folder.path(), 0);
    books.note_rent(&gpu(1), at(0)).unwrap();
    paid_at(&books, "gpu", 1, 5 * DOLLAR);
    book(&books, 90);
    assert_eq!(rows(folder.path()), [(2 * DOLLAR, -3 * DOLLAR)]);
    assert_eq!(audit(folder.path()).found, 0);
}

#[test]
fn servers_that_come_and_go_and_rates_that_change_count_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let books = open(folder.path(), 0);
    books.note_rent(&gpu(0), at(1)).unwrap();
    for (minutes, servers) in [(5, 1), (20, 1), (30, 4), (45, 0)] {
        books.note_rent(&gpu(servers), at(minutes)).unwrap();
    }
    book(&books, 90);
    // One for half an hour, four for a quarter.
    assert_eq!(rows(folder.path()), [(3 * DOLLAR, 3 * DOLLAR)]);
}

#[test]
fn whatever_ends_the_process_an_hour_is_booked_once() {
    let folder = tempfile::tempdir().unwrap();
    {
        let books = open(folder.path(), 0);
        books.note_rent(&gpu(1), at(10)).unwrap();
        paid_at(&books, "gpu", 20, DOLLAR);
        // Neither the end nor the sums of it: as after `kill -9`.
        drop(books);
        std::fs::remove_file(folder.path().join("index.redb")).unwrap_or_default();
    }
    let books = open(folder.path(), 300);
    assert_eq!((book(&books, 300), rows(folder.path())), (1, vec![(2 * DOLLAR, DOLLAR)]), "hours later");
    drop(books);
    for _ in 0..2 {
        let books = open(folder.path(), 301);
        assert_eq!((book(&books, 301), rows(folder.path()).len()), (0, 1));
    }
}

#[test]
fn what_is_charged_late_is_taken_off_again() {
    let folder = tempfile::tempdir().unwrap();
    let books = open(folder.path(), 0);
    books.note_rent(&gpu(1), at(0)).unwrap();
    book(&books, 85);
    books.note_rent(&gpu(1), at(86)).unwrap();
    paid_at(&books, "gpu", 50, 3);
    assert!(matches!(audit(folder.path()).findings[..], [Finding::RentDiffers { books: 2_000_000_003, .. }]));
    drop(books);
    let books = open(folder.path(), 140);
    book(&books, 140);
    assert_eq!(rows(folder.path()), [(2 * DOLLAR, 2 * DOLLAR), (0, -3), (2 * DOLLAR, 2 * DOLLAR)]);
    assert_eq!(audit(folder.path()).findings, []);
}

#[test]
fn servers_that_are_not_known_after_a_restart_are_rented_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let books = open(folder.path(), 0);
    books.note_rent(&gpu(8), at(1)).unwrap();
    drop(books);
    let books = open(folder.path(), 10);
    let unknown = Rented { servers: None, ..gpu(0) };
    for minutes in [10, 59, 61] {
        books.note_rent(&unknown, at(minutes)).unwrap();
    }
    assert_eq!(book(&books, 90), 1);
    assert_eq!(rows(folder.path()), [(16 * DOLLAR, 16 * DOLLAR)]);
}

#[test]
fn late_charges_are_taken_off_though_no_other_hour_falls_due() {
    let folder = tempfile::tempdir().unwrap();
    let books = open(folder.path(), 0);
    books.note_rent(&gpu(1), at(0)).unwrap();
    book(&books, 80);
    assert_eq!(books.rents_late(at(90)), [], "it was just looked at");
    paid_at(&books, "gpu", 50, 3);
    assert_eq!((book(&books, 100), rows(folder.path()).len()), (0, 2));
    paid_at(&books, "gpu", 55, 4);
    assert_eq!((book(&books, 110), rows(folder.path()).len()), (0, 2));
    // The last look comes when the three hours are over, and sees all of them.
    book(&books, 235);
    paid_at(&books, "gpu", 56, 5);
    book(&books, 240);
    assert_eq!(rows(folder.path())[1..], [(0, -3), (0, -4), (0, -5)]);
    assert_eq!((books.rents_late(at(299)), audit(folder.path()).findings), (vec![], vec![]));
    drop(books);
    assert_eq!(open(folder.path(), 301).rents_late(at(301)), [], "it would read all that was since");
}

#[test]
fn of_two_nodes_that_booked_an_hour_the_one_with_the_greater_id_takes_its_own_off() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let books = folders.each_ref().map(|folder| open(folder.path(), 0));
    for (books, node) in books.iter().zip(["a", "b"]) {
        books.note_rent(&gpu(1), at(0)).unwrap();
        book_as(books, node, 85);
    }
    let told = folders.each_ref().map(|folder| first_row(folder.path()));
    for _ in 0..2 {
        books[0].rent_elsewhere(&told[1], "b", at(90)).unwrap();
        books[1].rent_elsewhere(&told[0], "a", at(90)).unwrap();
    }
    let loser = usize::from(told[1].request > told[0].request);
    assert_eq!(rows(folders[loser].path()), [(2 * DOLLAR, 2 * DOLLAR), (-2 * DOLLAR, -2 * DOLLAR)]);
    assert_eq!(rows(folders[1 - loser].path()), [(2 * DOLLAR, 2 * DOLLAR)]);
    assert_eq!(books[loser].rents_late(at(150)), [], "it corrects nothing of what it does not book");
    // Until it has, the audit finds both.
    let both = |upto: usize| {
        let mut audit = Audit::default();
        for (folder, most) in [(&folders[1 - loser], 9), (&folders[loser], upto)] {
            let entries = Reader::open(folder.path(), Position::default()).unwrap();
            let settled = entries.filter_map(|reading| match reading.unwrap() {
                Reading::Entry(entry, _) if matches!(*entry, Entry::Settle(_)) => Some(*entry),
                _ => None,
            });
            settled.take(most).for_each(|entry| audit.add(&entry));
        }
        audit.finish(0).findings.len()
    };
    assert_eq!((both(1), both(2)), (1, 0));
}

#[test]
fn an_hour_that_nobody_books_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let books = open(folder.path(), 0);
    books.note_rent(&gpu(1), at(0)).unwrap();
    let audited = |minutes: i64, known: Option<i64>| {
        let mut audit = Audit::default();
        known.into_iter().for_each(|minutes| audit.knows_rows_since(at(minutes).as_millisecond()));
        for reading in Reader::open(folder.path(), Position::default()).unwrap() {
            if let Reading::Entry(entry, _) = reading.unwrap() {
                audit.add(&entry);
            }
        }
        audit.finish(at(minutes).as_millisecond())
    };
    assert_eq!(audited(160, None).found, 0);
    assert!(matches!(audited(161, None).findings[..], [Finding::RentOpen { .. }]));
    // Who missed rows may have missed that it was booked.
    assert_eq!((audited(161, Some(30)).found, audited(161, Some(30)).rents_in_part), (0, 1));
    assert_eq!(audited(161, Some(-1)).found, 1);
    book(&books, 170);
    assert_eq!((audited(171, None).found, audited(171, None).rents), (0, 1));
    assert_eq!((audited(171, Some(30)).rents, audited(171, Some(30)).rents_in_part), (0, 1));
}

#[test]
fn an_hour_that_another_node_books_is_none_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    let books = open(folder.path(), 0);
    books.note_rent(&gpu(1), at(0)).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let others = open(elsewhere.path(), 0);
    others.note_rent(&gpu(1), at(0)).unwrap();
    book_as(&others, "other", 85);
    for _ in 0..2 {
        books.rent_elsewhere(&first_row(elsewhere.path()), "other", at(90)).unwrap();
    }
    drop(books);
    let books = open(folder.path(), 91);
    assert_eq!((book(&books, 91), rows(folder.path())), (0, vec![]));
}

#[test]
fn rows_of_rents_have_ids_of_their_hour_backend_and_node() {
    let hour = |backend: &str, hour| RentHour { hour, backend: backend.into() };
    let nine = at(0).as_second();
    let id = |backend, hour_of, node: &str, revision| id(&hour(backend, hour_of), node.as_bytes(), revision);
    let ids = [
        id("a", nine, "n", 0),
        id("b", nine, "n", 0),
        id("a", nine + HOUR, "n", 0),
        id("a", nine, "n", 1),
        id("a", nine, "m", 0),
        id("an", nine, "", 0),
    ];
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 6);
    assert_eq!(ids[0], id("a", nine, "n", 0));
    assert_eq!(ids[0].as_u128() >> 80, u128::try_from(at(0).as_millisecond()).unwrap());
}
