//! What nodes learn of each other's settlements through the store, each second.
//!
//! Each node keeps sums by node, so that a node that is gone can be stood in for when the store has lost its data, and
//! the rows themselves, so that each can answer for all. A node that has missed rows of another asks for its sums.

use std::sync::{Arc, PoisonError};

use ::redis::Value;
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    arrive,
    keeper::{self, Broken, SILENCE},
    link::Live,
    mirror::{Mirror, Page},
    protocol::{STREAM_LENGTH, Unknown, place_row, place_text},
    store::Inner,
    words::Words,
};
use crate::ledger::row::{HoldRow, LastRow, PlaceRow, SettleRow, ToldRow, UnitRow};

/// Rows that are read in one go.
const ROWS: usize = 500;
/// Sums in one entry: some hundred kilobytes.
const TOLD: usize = 2_000;
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
struct Told {
    id: String,
    node: String,
    state: String,
    after: u64,
    at: u64,
    page: Page,
    /// Of the last settlement, with `request`; 0 = none.
    settled_ms: i64,
    request: Uuid,
    row: String,
    places: String,
}

impl Told {
    fn of(mut entry: Words) -> Result<Self, Unknown> {
        let mut told = Self {
            id: entry.text()?,
            node: String::new(),
            state: String::new(),
            after: 0,
            at: 0,
            page: Page { number: 0, last: true },
            settled_ms: 0,
            request: Uuid::nil(),
            row: String::new(),
            places: String::new(),
        };
        let mut fields = entry.words()?;
        while fields.left() > 0 {
            let (name, value) = (fields.text()?, fields.text()?);
            match &*name {
                "node" => told.node = value,
                "state" => told.state = value,
                "after" => told.after = value.parse().unwrap_or(0),
                "at" => told.at = value.parse().unwrap_or(0),
                "page" => told.page.number = value.parse().unwrap_or(0),
                "last" => told.page.last = value == "1",
                "settled" => told.settled_ms = value.parse().unwrap_or(0),
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
                let last = LastRow { id: self.request, at_ms: self.settled_ms };
                let last = (!last.id.is_nil()).then_some(last);
                mirror.tell(&self.node, self.at, self.page, &places_of(&self.places), last);
            }
        } else if self.state == "freed" {
            settled.extend(mirror.correct(self.request).map(|swept| swept.corrected(self.time().as_millisecond())));
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
    let mut told = Vec::with_capacity(count);
    while entries.left() > 0 {
        told.push(Told::of(entries.words()?)?);
    }
    let kept = {
        // Nobody else changes or keeps it: we have the turn to read.
        let mut mirror = inner.mirror.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = told.into_iter().filter_map(|told| {
            let settled = told.take(&mut mirror, told.node == inner.source.node());
            let Told { node, id, after, at, .. } = told;
            (!settled.is_empty()).then_some(ToldRow { node, id, after, at, settled })
        });
        kept.collect::<Vec<_>>()
    };
    if kept.is_empty() {
        return Ok(count);
    }
    let source = Arc::clone(&inner.source);
    // What could not be written is not in the sums either: they are made again from the disk.
    let written = tokio::task::spawn_blocking(move || {
        source.keep_rows(kept).map_err(|error| (error, source.mirror().unwrap_or_default()))
    });
    match written.await {
        Ok(Ok(())) => Ok(count),
        Ok(Err((error, again))) => {
            *inner.mirror.lock().unwrap_or_else(PoisonError::into_inner) = Mirror::from_row(again);
            Err(Broken(format!("what other nodes have settled cannot be written: {error}")))
        }
        // The writer panicked, or the runtime ends.
        Err(error) => Err(Broken(format!("what other nodes have settled cannot be written: {error}"))),
    }
}

/// Keeps what the mirror has for the next start, but for the rows that somebody is about to write.
pub(super) async fn keep(inner: &Arc<Inner>, now: i64) {
    let _turn = inner.reading.lock().await;
    let row = inner.mirror.lock().unwrap_or_else(PoisonError::into_inner).unkept(now);
    let Some(row) = row else { return };
    let source = Arc::clone(&inner.source);
    let kept = tokio::task::spawn_blocking(move || source.keep_mirror(&row)).await;
    if let Err(error) = kept.map_err(std::io::Error::other).and_then(|kept| kept) {
        tracing::warn!(%error, "what other nodes have settled cannot be kept");
    }
}

/// Asks for the sums of nodes of which rows were missed, and tells ours if somebody asks.
pub(super) async fn sums(inner: &Arc<Inner>, live: &Arc<Live>) -> Result<(), Broken> {
    let key = live.wire.key("asked");
    let missed = missed(inner);
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

/// The other nodes of which not all is known here, those among them of which nothing was ever read.
pub(super) fn missed(inner: &Inner) -> Vec<String> {
    let peers = inner.peers.lock().unwrap_or_else(PoisonError::into_inner);
    let heard: Vec<String> = peers.iter().map(|(peer, _)| peer.node.clone()).collect();
    drop(peers);
    let mirror = inner.mirror.lock().unwrap_or_else(PoisonError::into_inner);
    let mut missed = mirror.in_part();
    missed.extend(heard.into_iter().filter(|node| !mirror.is_whole(node)));
    missed.retain(|node| node != inner.source.node());
    missed.sort_unstable();
    missed.dedup();
    missed
}

/// Tells what this node has settled up to some position, when just that is in the store: what others have read of it
/// by then is neither more nor less.
pub(super) async fn tell_sums(inner: &Arc<Inner>, live: &Arc<Live>) -> Result<(), Broken> {
    let sums = arrive::sums(inner)?;
    keeper::ship_to(inner, live, sums.position).await?;
    let pages = sums.settled.len().div_ceil(TOLD).max(1);
    for page in 0..pages {
        let places = sums.settled.iter().skip(page * TOLD).take(TOLD);
        let places: Vec<String> = places.map(place_text).collect();
        let mut cmd = ::redis::cmd("XADD");
        cmd.arg(live.wire.key("rows")).arg("MAXLEN").arg("~").arg(STREAM_LENGTH).arg("*");
        cmd.arg("node").arg(inner.source.node()).arg("state").arg("sums").arg("at").arg(sums.position);
        if let Some(LastRow { id, at_ms }) = sums.last {
            cmd.arg("id").arg(id.to_string()).arg("settled").arg(at_ms);
        }
        cmd.arg("page").arg(page).arg("last").arg(i32::from(page + 1 == pages)).arg("places").arg(places.join("\n"));
        inner.link.send(live, &cmd, SILENCE).await?;
    }
    Ok(())
}

fn places_of(text: &str) -> Vec<PlaceRow> {
    let place = |line: &str| {
        let mut words = line.split(' ');
        place_row(&[words.next()?, words.next()?, words.next()?, words.next()?])
    };
    text.lines().filter_map(place).collect()
}
