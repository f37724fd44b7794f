//! What nodes learn of each other's settlements through the store, each second.
//!
//! Each node keeps sums by node, so that a node that is gone can be stood in for when the store has lost its data, and
//! the rows themselves, so that each can answer for all. A node that has missed rows of another asks for its sums.

use std::sync::{Arc, PoisonError};

use ::redis::Value;
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    keeper::{self, Broken, SILENCE},
    link::Live,
    mirror::Mirror,
    protocol::{STREAM_LENGTH, Unknown, Words, place_row, place_text},
    store::Inner,
};
use crate::ledger::row::{HoldRow, PlaceRow, SettleRow, ToldRow, UnitRow};

/// Rows that are read in one go.
const ROWS: usize = 500;
/// A node with more open windows than this does not tell its sums: one entry would be megabytes.
const TOLD: usize = 20_000;
/// An unanswered question for sums is forgotten after so many seconds.
const ASKED_FOR: u64 = 3600;

/// Reads what other nodes have settled since the last look.
pub(super) async fn rows(inner: &Inner, live: &Arc<Live>) -> Result<(), Broken> {
    let _turn = inner.reading.lock().await;
    rows_to(inner, live, "+").await
}

/// Reads up to the entry `last` of the stream; to be called by who has the turn to read.
pub(super) async fn rows_to(inner: &Inner, live: &Arc<Live>, last: &str) -> Result<(), Broken> {
    loop {
        let after = inner.mirror.lock().unwrap_or_else(PoisonError::into_inner).after().to_owned();
        let mut cmd = ::redis::cmd("XRANGE");
        cmd.arg(live.wire.key("rows")).arg(format!("({after}")).arg(last).arg("COUNT").arg(ROWS);
        let answer = inner.link.send(live, &cmd, SILENCE).await?;
        if take_rows(inner, answer).await? < ROWS {
            return Ok(());
        }
    }
}

/// An entry of the stream.
#[derive(Default)]
struct Told {
    id: String,
    node: String,
    state: String,
    after: u64,
    at: u64,
    request: Uuid,
    row: String,
    places: String,
}

impl Told {
    fn of(mut entry: Words) -> Result<Self, Unknown> {
        let mut told = Self { id: entry.text()?, ..Self::default() };
        let mut fields = entry.words()?;
        while fields.left() > 0 {
            let (name, value) = (fields.text()?, fields.text()?);
            match &*name {
                "node" => told.node = value,
                "state" => told.state = value,
                "after" => told.after = value.parse().unwrap_or(0),
                "at" => told.at = value.parse().unwrap_or(0),
                "id" => told.request = value.parse().unwrap_or_default(),
                "row" => told.row = value,
                "places" => told.places = value,
                _ => {}
            }
        }
        Ok(told)
    }

    /// When it was told, by the store's clock.
    fn time(&self) -> Timestamp {
        let ms = self.id.split('-').next().and_then(|ms| ms.parse().ok());
        ms.and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_default()
    }

    /// Takes it into `mirror`; gives what is new and to be kept.
    fn take(&self, mirror: &mut Mirror, ours: bool) -> Vec<SettleRow> {
        let mut settled = Vec::new();
        if self.state == "sweep" {
            settled.extend(self.swept().filter(|row| mirror.sweep(&self.node, row.clone())));
        } else if self.state == "sums" {
            if !ours {
                mirror.tell(&self.node, self.at, &places_of(&self.places));
            }
        } else if let Ok(row) = serde_json::from_str::<SettleRow>(&self.row) {
            settled.extend(mirror.correct(row.id).map(|swept| swept.corrected(self.time().as_millisecond())));
            // Our own are in our own books; only what others have swept of us is not.
            if !ours && mirror.settle(&self.node, (self.after, self.at), &row) {
                settled.push(row);
            }
        }
        mirror.read(self.id.clone());
        settled
    }

    /// What a sweep books: what the request was about is told as its hold would be in the journal.
    fn swept(&self) -> Option<SettleRow> {
        let hold: HoldRow = serde_json::from_str(&self.row).ok()?;
        let places = places_of(&self.places);
        let money = places.iter().filter(|place| place.unit == UnitRow::Usd).map(|place| place.amount).max();
        let hold = HoldRow { id: self.request, held_nanousd: money.unwrap_or(hold.held_nanousd), places, ..hold };
        Some(hold.swept(self.time()).by_another())
    }
}

/// Keeps what an answer tells of other nodes, and takes it into the sums when it is kept.
async fn take_rows(inner: &Inner, answer: Value) -> Result<usize, Broken> {
    let mut entries = Words::of(answer)?;
    let count = entries.left();
    // Nobody else changes it: we have the turn to read.
    let mut mirror = inner.mirror.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut kept = Vec::new();
    while entries.left() > 0 {
        let told = Told::of(entries.words()?)?;
        let settled = told.take(&mut mirror, told.node == inner.source.node());
        if !settled.is_empty() {
            kept.push(ToldRow { node: told.node, id: told.id, after: told.after, at: told.at, settled });
        }
    }
    if !kept.is_empty() {
        let source = Arc::clone(&inner.source);
        let written = tokio::task::spawn_blocking(move || source.keep_rows(kept)).await;
        let written = written.map_err(std::io::Error::other).and_then(|written| written);
        written.map_err(|error| Broken(format!("what other nodes have settled cannot be written: {error}")))?;
    }
    *inner.mirror.lock().unwrap_or_else(PoisonError::into_inner) = mirror;
    Ok(count)
}

/// Keeps what the mirror has for the next start.
pub(super) fn keep(inner: &Inner, now: i64) {
    let mut mirror = inner.mirror.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(row) = mirror.unkept(now)
        && let Err(error) = inner.source.keep_mirror(row)
    {
        tracing::warn!(%error, "what other nodes have settled cannot be kept");
    }
}

/// Asks for the sums of nodes of which rows were missed, and tells ours if somebody asks.
pub(super) async fn sums(inner: &Arc<Inner>, live: &Arc<Live>) -> Result<(), Broken> {
    let key = live.wire.key("asked");
    let missed = inner.mirror.lock().unwrap_or_else(PoisonError::into_inner).in_part();
    let missed: Vec<String> = missed.into_iter().filter(|node| node != inner.source.node()).collect();
    if !missed.is_empty() {
        let (mut ask, mut expire) = (::redis::cmd("SADD"), ::redis::cmd("EXPIRE"));
        inner.link.send(live, ask.arg(&key).arg(missed), SILENCE).await?;
        inner.link.send(live, expire.arg(&key).arg(ASKED_FOR), SILENCE).await?;
    }
    let mut asked = ::redis::cmd("SREM");
    match inner.link.send(live, asked.arg(&key).arg(inner.source.node()), SILENCE).await? {
        Value::Int(1) => tell_sums(inner, live).await,
        _ => Ok(()),
    }
}

/// Tells what this node has settled up to some position, when just that is in the store: what others have read of it
/// by then is neither more nor less.
pub(super) async fn tell_sums(inner: &Arc<Inner>, live: &Arc<Live>) -> Result<(), Broken> {
    let sums = keeper::sums(inner)?;
    if sums.settled.len() > TOLD {
        return Ok(());
    }
    keeper::ship_to(inner, live, sums.position).await?;
    let places: Vec<String> = sums.settled.iter().map(place_text).collect();
    let mut cmd = ::redis::cmd("XADD");
    cmd.arg(live.wire.key("rows")).arg("MAXLEN").arg("~").arg(STREAM_LENGTH).arg("*");
    cmd.arg("node").arg(inner.source.node()).arg("state").arg("sums").arg("at").arg(sums.position);
    cmd.arg("places").arg(places.join("\n"));
    inner.link.send(live, &cmd, SILENCE).await?;
    Ok(())
}

fn places_of(text: &str) -> Vec<PlaceRow> {
    let place = |line: &str| {
        let mut words = line.split(' ');
        place_row(&[words.next()?, words.next()?, words.next()?, words.next()?])
    };
    text.lines().filter_map(place).collect()
}
