//! Each way in which books can fail to balance is found, and sound books are found sound.

use jiff::Timestamp;

use super::*;
use crate::{
    base::tenants::Period,
    ledger::report::sample::{NOON, charged, price, row, settled},
};

fn window() -> Window {
    Window::containing(Timestamp::from_millisecond(NOON).unwrap(), Period::Day, &jiff::tz::TimeZone::UTC)
}

fn place(amount: i64) -> PlaceRow {
    let (from, to) = (window().start.as_second(), window().end.as_second());
    PlaceRow { fence: "team/search/day".into(), unit: UnitRow::Usd, from, to, amount }
}

fn hold(id: u128) -> Entry {
    Entry::Hold(HoldRow {
        id: Uuid::from_u128(id),
        at_ms: NOON,
        until_ms: NOON + 900_000,
        about: Arc::default(),
        first: Default::default(),
        held_nanousd: 9,
        places: Vec::new(),
    })
}

fn settle(rows: Vec<Row>) -> SettleRow {
    let charge = rows.iter().map(|row| row.charge_nanousd).sum();
    SettleRow { places: vec![place(charge)], ..settled(rows) }
}

fn swept(id: u128) -> Row {
    let mut swept = row(id, 1, "gpt", 0, 0, price());
    (swept.price, swept.swept, swept.charge_nanousd, swept.held_nanousd) = (None, true, 9_000_000, 9_000_000);
    swept
}

fn audit(entries: &[Entry], standing: Option<i64>) -> Outcome {
    let standing = standing.map(|settled| Standing {
        fence: "team/search/day".into(),
        window: window(),
        settled,
        elsewhere: 0,
        at_least: false,
    });
    let mut audit = Audit::against(standing);
    entries.iter().for_each(|entry| audit.add(entry));
    audit.finish(NOON + 1_000_000)
}

fn kinds(entries: &[Entry], standing: Option<i64>) -> Vec<&'static str> {
    audit(entries, standing).findings.iter().map(Finding::kind).collect()
}

fn gpt(id: u128, attempt: u32) -> Row {
    row(id, attempt, "gpt", 1000, 100, price())
}

#[test]
fn sound_books_are_found_sound() {
    let entries =
        [hold(1), Entry::Settle(settle(vec![gpt(1, 1), gpt(1, 2)])), hold(2), Entry::Settle(settle(vec![gpt(2, 1)]))];
    let outcome = audit(&entries, Some(3 * 3_500_000));
    assert_eq!((outcome.found, outcome.requests, outcome.rows, outcome.compared), (0, 2, 3, 1));
    assert_eq!(outcome.charge, 3 * 3_500_000);
}

#[test]
fn a_hold_is_under_way_until_its_time_is_over() {
    assert_eq!(kinds(&[hold(1)], None), ["hold_without_end"]);
    let mut audit = Audit::default();
    audit.add(&hold(1));
    let outcome = audit.finish(NOON + 1);
    assert_eq!((outcome.found, outcome.under_way), (0, 1));
}

#[test]
fn what_is_booked_twice_is_found() {
    let once = Entry::Settle(settle(vec![gpt(1, 1)]));
    assert_eq!(kinds(&[once.clone(), once.clone()], None), ["booked_twice"]);
    assert_eq!(kinds(&[Entry::Settle(settle(vec![gpt(1, 2), gpt(1, 2)]))], None), ["booked_twice"]);
    assert_eq!(kinds(&[once, Entry::Settle(settle(vec![gpt(1, 2)]))], None), [""; 0]);
}

#[test]
fn a_charge_that_does_not_follow_from_its_row_is_found() {
    let mut dear = gpt(1, 1);
    dear.charge_nanousd += 1;
    assert_eq!(kinds(&[Entry::Settle(settle(vec![dear]))], None), ["wrong_charge"]);
    let mut bill = gpt(1, 1);
    bill.native_nano -= 1;
    assert_eq!(kinds(&[Entry::Settle(settle(vec![bill]))], None), ["wrong_charge"]);
    let mut unpriced = gpt(1, 1);
    unpriced.price = None;
    assert_eq!(kinds(&[Entry::Settle(settle(vec![unpriced]))], None), ["wrong_charge"]);
    let mut damaged = gpt(1, 1);
    damaged.price = Some(PriceUsed { currency: "?".into(), ..price() });
    assert_eq!(kinds(&[Entry::Settle(settle(vec![damaged]))], None), ["damaged_price"]);
}

#[test]
fn a_fence_is_charged_what_the_rows_come_to() {
    let wrong = SettleRow { places: vec![place(1)], ..settle(vec![gpt(1, 1)]) };
    assert_eq!(kinds(&[Entry::Settle(wrong)], None), ["wrong_place"]);
    // A fence around a model has its share only.
    let share = PlaceRow { fence: "model/gpt/day".into(), ..place(1) };
    assert_eq!(kinds(&[Entry::Settle(SettleRow { places: vec![share], ..settle(vec![gpt(1, 1)]) })], None), [""; 0]);
}

#[test]
fn a_sweep_charges_what_was_held_and_its_correction_what_was_used() {
    assert_eq!(kinds(&[Entry::Settle(settle(vec![swept(1)]))], Some(9_000_000)), [""; 0]);
    let mut short = swept(1);
    short.charge_nanousd -= 1;
    assert_eq!(kinds(&[Entry::Settle(settle(vec![short]))], None), ["wrong_charge"]);
    let mut correction = charged(gpt(1, 1));
    (correction.revision, correction.charge_nanousd) = (1, 3_500_000 - 9_000_000);
    let corrected = [Entry::Settle(settle(vec![swept(1)])), Entry::Settle(settle(vec![correction.clone()]))];
    let outcome = audit(&corrected, Some(3_500_000));
    assert_eq!((outcome.found, outcome.swept, outcome.corrected), (0, 9_000_000, -5_500_000));
    correction.charge_nanousd += 1;
    let wrong = [Entry::Settle(settle(vec![swept(1)])), Entry::Settle(settle(vec![correction]))];
    assert_eq!(kinds(&wrong, None), ["wrong_charge"]);
}

#[test]
fn a_store_that_counts_something_else_is_found() {
    let entries = [Entry::Settle(settle(vec![gpt(1, 1)]))];
    assert_eq!(kinds(&entries, Some(3_500_001)), ["store_differs"]);
    assert_eq!(kinds(&[], Some(1)), ["store_differs"]);
}

#[test]
fn damage_is_told_with_its_place() {
    let mut audit = Audit::default();
    audit.damage(3, 120, 17);
    let outcome = audit.finish(0);
    assert_eq!(outcome.findings[0].to_string(), "17 bytes at byte 120 of segment 3 are no entry");
}
