//! Books on a real disk: what a start finds after every kind of end.

use std::fs;

use uuid::Uuid;

use super::*;
use crate::{
    base::{
        fences::{Owner, Unit},
        tenants::{OnStoreLoss, Period},
    },
    ledger::{Demand, Hold, HoldError, Ledger, Order, row::Served},
};

const NOON: &str = "2026-11-23T12:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn fence(per: Period, cap: i64) -> Arc<Fence> {
    Arc::new(Fence { per: Some(per), ..Fence::sample(Owner::Team("search".into()), Unit::Money, cap) })
}

fn open(folder: &Path) -> (Arc<Ledger>, Recovery) {
    let (ledger, recovery) = Ledger::embedded(folder, at(NOON)).unwrap();
    (Arc::new(ledger), recovery)
}

async fn hold(ledger: &Arc<Ledger>, fence: &Arc<Fence>, nanousd: i64, now: &str) -> Result<Hold, HoldError> {
    let order = Order {
        request: Uuid::from_u128(rand::random()),
        about: Arc::default(),
        first: Served::default(),
        fences: vec![Arc::clone(fence)],
        demand: Demand { money: Money::from_nanousd(nanousd), tokens: 0 },
        on_store_loss: OnStoreLoss::Lease,
        revision: 1,
    };
    ledger.hold(order, at(now)).await
}

fn row(charge_nanousd: i64) -> Row {
    let swept = HoldRow {
        id: Uuid::nil(),
        at_ms: 0,
        until_ms: 0,
        about: Arc::default(),
        first: Served::default(),
        held_nanousd: charge_nanousd,
        places: Vec::new(),
    };
    let row = swept.swept(at(NOON)).rows.remove(0);
    Row { swept: false, estimated: false, outcome: "ok".into(), ..row }
}

/// Ends the process as `kill -9` does: nothing is closed, nothing summed up, the folder is free.
fn kill(ledger: Arc<Ledger>, holds: Vec<Hold>, folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    drop(holds);
    drop(ledger);
    copy
}

#[tokio::test]
async fn settled_rows_outlive_a_kill_and_open_holds_are_swept() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, _) = open(folder.path());
    let day = fence(Period::Day, 1000);
    let mut first = hold(&ledger, &day, 300, NOON).await.unwrap();
    first.charge(row(200));
    drop(first);
    let mut second = hold(&ledger, &day, 100, NOON).await.unwrap();
    second.cover(Demand { money: Money::from_nanousd(250), tokens: 0 }, &[], at(NOON)).await.unwrap();
    let copy = kill(ledger, vec![second], folder.path());
    let (ledger, recovery) = open(copy.path());
    assert_eq!((recovery.swept, recovery.swept_charge), (1, Money::from_nanousd(250)));
    let level = ledger.level(&day, at(NOON));
    assert_eq!((level.settled, level.held), (450, 0));
    // The sweep is in the journal too: the next start finds nothing to sweep.
    let copy = kill(ledger, Vec::new(), copy.path());
    let (ledger, recovery) = open(copy.path());
    assert_eq!((recovery.swept, ledger.level(&day, at(NOON)).settled), (0, 450));
}

#[tokio::test]
async fn a_clean_end_leaves_a_checkpoint_and_a_lost_index_costs_nothing_but_time() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, _) = open(folder.path());
    let day = fence(Period::Day, 1000);
    for _ in 0..5 {
        hold(&ledger, &day, 10, NOON).await.unwrap().charge(row(10));
        let mut held = hold(&ledger, &day, 10, NOON).await.unwrap();
        held.charge(row(7));
    }
    drop(ledger);
    let (ledger, recovery) = open(folder.path());
    assert_eq!((recovery.entries, ledger.level(&day, at(NOON)).settled), (0, 85));
    drop(ledger);
    fs::remove_file(folder.path().join("index.redb")).unwrap();
    let (ledger, recovery) = open(folder.path());
    assert_eq!((recovery.entries, ledger.level(&day, at(NOON)).settled), (20, 85));
    drop(ledger);
    fs::write(folder.path().join("index.redb"), b"not an index").unwrap();
    assert_eq!(open(folder.path()).0.level(&day, at(NOON)).settled, 85);
}

#[tokio::test]
async fn a_folder_has_one_owner() {
    let folder = tempfile::tempdir().unwrap();
    let (_ledger, _) = open(folder.path());
    assert!(matches!(Ledger::embedded(folder.path(), at(NOON)), Err(BooksError::InUse(_))));
}

#[tokio::test]
async fn an_edit_of_a_budgets_period_begins_with_what_the_books_say() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, _) = open(folder.path());
    let month = fence(Period::Month, 1000);
    for (now, charge) in [("2026-11-03T12:00:00Z", 100), (NOON, 40)] {
        let mut held = hold(&ledger, &month, charge, now).await.unwrap();
        held.charge(row(charge));
    }
    let day = fence(Period::Day, 1000);
    ledger.books().adopt(&day, at(NOON)).unwrap();
    assert_eq!(ledger.level(&day, at(NOON)).settled, 40);
    ledger.books().adopt(&month, at(NOON)).unwrap();
    assert_eq!(ledger.level(&month, at(NOON)).settled, 140);
}

#[tokio::test]
async fn an_edit_after_the_old_window_has_ended_begins_with_what_the_books_say_too() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, _) = open(folder.path());
    let day = fence(Period::Day, 1000);
    let mut held = hold(&ledger, &day, 100, "2026-11-22T12:00:00Z").await.unwrap();
    held.charge(row(100));
    drop(held);
    // `per: day` became `per: month` overnight.
    let month = fence(Period::Month, 1000);
    ledger.books().adopt(&month, at(NOON)).unwrap();
    assert_eq!(ledger.level(&month, at(NOON)).settled, 100);
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_refuses_holds_and_loses_no_settlement() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, _) = open(folder.path());
    let day = fence(Period::Day, 1000);
    let mut under_way = hold(&ledger, &day, 100, NOON).await.unwrap();
    let books = ledger.books();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let whole = books.lock().journal.as_mut().unwrap().exchange(full);
    assert!(matches!(hold(&ledger, &day, 100, NOON).await, Err(HoldError::Journal(_))));
    assert_eq!(ledger.level(&day, at(NOON)).used(), 100);
    under_way.charge(row(60));
    drop(under_way);
    assert_eq!(ledger.level(&day, at(NOON)).settled, 60);
    assert!(matches!(hold(&ledger, &day, 100, NOON).await, Err(HoldError::Journal(_))));
    books.lock().journal.as_mut().unwrap().exchange(whole);
    drop(hold(&ledger, &day, 100, NOON).await.unwrap());
    drop(ledger);
    let (ledger, recovery) = open(folder.path());
    assert_eq!((recovery.swept, ledger.level(&day, at(NOON)).settled), (0, 60));
    assert_eq!(ledger.books().sum(&day.id, &Window::of(&day, at(NOON))).unwrap(), 60);
}
