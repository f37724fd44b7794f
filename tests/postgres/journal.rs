//! A journal that the tests write themselves, and what is in it.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use tempfile::TempDir;
use turnpike::ledger::{
    journal::{Journal, Position, Reader, Reading},
    row::{About, Entry, PriceUsed, Row, Served, SettleRow, Tokens, ToldRow},
};
use uuid::Uuid;

/// 2026-11-23T12:00:00Z in milliseconds.
const NOON: i64 = 1_795_435_200_000;

/// A folder with `turnpike.yaml` and the books of its journal.
pub struct Books {
    folder: TempDir,
    journal: Journal,
    rows: i64,
    charged: i64,
    read: i64,
}

impl Books {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("policies")).unwrap();
        std::fs::write(folder.path().join("turnpike.yaml"), "journal: data\n").unwrap();
        std::fs::write(folder.path().join("policies/main.yaml"), "teams: {search: {}}\n").unwrap();
        let journal = Journal::continue_at(&folder.path().join("data/books"), Position::default()).unwrap();
        Self { folder, journal, rows: 0, charged: 0, read: 0 }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// How many rows it has.
    pub fn rows(&self) -> i64 {
        self.rows
    }

    /// What they charge, in nano-USD.
    pub fn charged(&self) -> i64 {
        self.charged
    }

    /// The prompt tokens in them.
    pub fn read(&self) -> i64 {
        self.read
    }

    /// Writes so many requests of one attempt, each of another cost.
    pub fn write(&mut self, requests: i64) {
        for _ in 0..requests {
            let input = 1000 + self.rows % 97;
            let mut row = row(Uuid::from_u128(rand::random()), u64::try_from(input).unwrap());
            row.charge_nanousd = input * 2500 + self.rows;
            self.append(row);
        }
    }

    /// Writes one request whose user and labels are not what a database likes.
    pub fn write_strange(&mut self) {
        let mut row = row(Uuid::from_u128(0xff), 1000);
        let labels = BTreeMap::from([("cost_center".to_owned(), "4711".to_owned())]);
        let about = About { user: "ann\0'; DROP TABLE x".into(), labels: Arc::new(labels), ..(*row.about).clone() };
        (row.about, row.charge_nanousd) = (Arc::new(about), 277_800);
        self.append(row);
    }

    /// Tells it what `other` has settled, as a shared store does.
    pub fn hear(&mut self, other: &Self) {
        let folder = self.folder.path().join("data/books/mirror");
        let mut mirror = Journal::continue_at(&folder, Position::default()).unwrap();
        let rows = Reader::open(&other.folder.path().join("data/books"), Position::default()).unwrap();
        for (number, reading) in rows.enumerate() {
            let Reading::Entry(entry, _) = reading.unwrap() else { panic!("the journal is damaged") };
            let Entry::Settle(row) = *entry else { continue };
            let (node, id) = ("other".to_owned(), format!("{NOON}-{number}"));
            mirror.append_entry(&Entry::Told(ToldRow { node, id, after: 0, at: 0, settled: vec![row] })).unwrap();
        }
    }

    fn append(&mut self, row: Row) {
        self.rows += 1;
        self.charged += row.charge_nanousd;
        self.read += i64::try_from(row.tokens.input).unwrap();
        let settled = SettleRow {
            id: row.request,
            held_at_ms: NOON,
            at_ms: NOON + 1000,
            places: Vec::new(),
            rows: vec![row],
            swept: false,
        };
        self.journal.append_entry(&Entry::Settle(settled)).unwrap();
    }
}

fn row(request: Uuid, input: u64) -> Row {
    Row {
        request,
        attempt: 1,
        revision: 0,
        hedge: false,
        at_ms: NOON,
        about: Arc::new(About { team: "search".into(), operation: "chat".into(), ..About::default() }),
        served: Served { model: "ds".into(), ..Served::default() },
        outcome: "ok".into(),
        tokens: Tokens { input, ..Tokens::default() },
        price: Some(PriceUsed {
            currency: "CNY".into(),
            from: 0,
            rates: [2_000_000_000; 7],
            factor_ppm: 1_000_000,
            exchange_nanousd: 138_900_000,
        }),
        native_nano: 2_000_000,
        charge_nanousd: 0,
        held_nanousd: 1_000_000,
        estimated: false,
        swept: false,
    }
}
