//! Segments on a real disk.

use std::fs;

use uuid::Uuid;

use super::*;
use crate::ledger::row::SettleRow;

fn entry(number: u128) -> Entry {
    Entry::Settle(SettleRow {
        id: Uuid::from_u128(number),
        held_at_ms: 1,
        at_ms: 2,
        places: Vec::new(),
        rows: Vec::new(),
        swept: false,
    })
}

fn entries(folder: &Path, from: Position) -> (Vec<Entry>, Position) {
    let mut reader = Reader::open(folder, from).unwrap();
    let mut entries = Vec::new();
    for reading in reader.by_ref() {
        if let Reading::Entry(entry, _) = reading.unwrap() {
            entries.push(*entry);
        }
    }
    (entries, reader.position())
}

#[test]
fn what_was_appended_is_read_back_in_order_across_segments() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::continue_at(folder.path(), Position::default()).unwrap();
    journal.limit = 500;
    let positions: Vec<Position> = (0..40).map(|number| journal.append_entry(&entry(number)).unwrap()).collect();
    assert!(journal.end().segment > 3);
    let (all, end) = entries(folder.path(), Position::default());
    assert_eq!(all, (0..40).map(entry).collect::<Vec<_>>());
    assert_eq!(end, journal.end());
    let (rest, _) = entries(folder.path(), positions[24]);
    assert_eq!(rest, (25..40).map(entry).collect::<Vec<_>>());
}

#[test]
fn a_torn_tail_is_cut_off_and_the_journal_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::continue_at(folder.path(), Position::default()).unwrap();
    let first = journal.append_entry(&entry(1)).unwrap();
    journal.append_entry(&entry(2)).unwrap();
    let file = path(folder.path(), 1);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 3]).unwrap();
    let readings: Vec<Reading> =
        Reader::open(folder.path(), Position::default()).unwrap().map(Result::unwrap).collect();
    assert!(matches!(readings[1], Reading::Torn { at, .. } if at == first));
    let mut journal = Journal::continue_at(folder.path(), first).unwrap();
    journal.append_entry(&entry(3)).unwrap();
    assert_eq!(entries(folder.path(), Position::default()).0, vec![entry(1), entry(3)]);
}

#[test]
fn damage_is_stepped_over_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::continue_at(folder.path(), Position::default()).unwrap();
    let first = journal.append_entry(&entry(1)).unwrap();
    journal.append_entry(&entry(2)).unwrap();
    journal.append_entry(&entry(3)).unwrap();
    let file = path(folder.path(), 1);
    let mut bytes = fs::read(&file).unwrap();
    let at = usize::try_from(first.offset).unwrap() + 20;
    bytes[at] ^= 1;
    fs::write(&file, bytes).unwrap();
    let readings: Vec<Reading> =
        Reader::open(folder.path(), Position::default()).unwrap().map(Result::unwrap).collect();
    assert!(matches!(readings[1], Reading::Damage { at, .. } if at == first));
    assert_eq!(entries(folder.path(), Position::default()).0, vec![entry(1), entry(3)]);
}
