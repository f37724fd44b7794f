//! What nodes learn of each other's settlements through the store, each second.
//!
//! Each node keeps sums by node, so that a node that is gone can be stood in for when the store has lost its data.

use std::sync::{Arc, PoisonError};

use ::redis::Value;

use super::{
    keeper::{Broken, SILENCE},
    link::Live,
    protocol::{Unknown, Words, place_row},
    store::Inner,
};
use crate::ledger::row::{PlaceRow, SettleRow};

/// Rows that are read in one go.
const ROWS: usize = 500;

/// Reads what other nodes have settled since the last look.
pub(super) async fn rows(inner: &Inner, live: &Arc<Live>) -> Result<(), Broken> {
    loop {
        let after = inner.mirror.lock().unwrap_or_else(PoisonError::into_inner).after().to_owned();
        let mut cmd = ::redis::cmd("XRANGE");
        cmd.arg(live.wire.rows_key()).arg(format!("({after}")).arg("+").arg("COUNT").arg(ROWS);
        let answer = inner.link.send(live, &cmd, SILENCE).await?;
        let read = take_rows(inner, answer)?;
        if read < ROWS {
            return Ok(());
        }
    }
}

fn take_rows(inner: &Inner, answer: Value) -> Result<usize, Unknown> {
    let mut entries = Words::of(answer)?;
    let count = entries.left();
    let mut mirror = inner.mirror.lock().unwrap_or_else(PoisonError::into_inner);
    while entries.left() > 0 {
        let mut entry = entries.words()?;
        let id = entry.text()?;
        let mut fields = entry.words()?;
        let (mut node, mut state, mut at) = (String::new(), String::new(), 0);
        let (mut request, mut row, mut places) = (String::new(), String::new(), String::new());
        while fields.left() > 0 {
            let (name, value) = (fields.text()?, fields.text()?);
            match &*name {
                "node" => node = value,
                "state" => state = value,
                "at" => at = value.parse().unwrap_or(0),
                "id" => request = value,
                "row" => row = value,
                "places" => places = value,
                _ => {}
            }
        }
        if node == inner.source.node() {
            // Our own are in our own books.
        } else if state == "sweep" {
            mirror.sweep(&node, &request, swept_places(&places));
        } else if let Ok(row) = serde_json::from_str::<SettleRow>(&row) {
            mirror.settle(&node, at, &row.id.to_string(), &row.places);
        }
        mirror.read(id);
    }
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

fn swept_places(text: &str) -> Vec<PlaceRow> {
    let place = |line: &str| {
        let mut words = line.split(' ');
        place_row(&[words.next()?, words.next()?, words.next()?, words.next()?])
    };
    text.lines().filter_map(place).collect()
}
