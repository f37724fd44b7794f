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
    Rented { backend: "gpu".into(), provider: "vllm".into(), servers, rent_nano, exchange_nanousd }
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

/// Books the hours that are over.
fn book(books: &Books, minutes: i64) -> usize {
    let over = books.rents_over(at(minutes));
    books.settle_rents(&over, at(minutes)).unwrap();
    over.len()
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
fn an_hour_that_another_node_books_is_none_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    let books = open(folder.path(), 0);
    books.note_rent(&gpu(1), at(0)).unwrap();
    let over = books.rents_over(at(90));
    books.rent_elsewhere(&over[0], "other").unwrap();
    books.rent_elsewhere(&over[0], "other").unwrap();
    drop(books);
    let books = open(folder.path(), 91);
    assert_eq!((book(&books, 91), rows(folder.path())), (0, vec![]));
}

#[test]
fn rows_of_rents_have_ids_of_their_hour_and_backend() {
    let hour = |backend: &str, hour| RentHour { hour, backend: backend.into() };
    let nine = at(0).as_second();
    let ids =
        [id(&hour("a", nine), 0), id(&hour("b", nine), 0), id(&hour("a", nine + HOUR), 0), id(&hour("a", nine), 1)];
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 4);
    assert_eq!(ids[0], id(&hour("a", nine), 0));
    assert_eq!(ids[0].as_u128() >> 80, u128::try_from(at(0).as_millisecond()).unwrap());
}
