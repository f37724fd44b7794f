//! What an audit asks of the store: what it has settled beside what all nodes have booked, and the slices of nodes that
//! are gone, which only an operator gives back.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, PoisonError},
    time::Duration,
};

use ::redis::Value;
use jiff::Timestamp;

use super::{
    exchange,
    keeper::Broken,
    link::Failure,
    protocol::Unknown,
    scripts::Script,
    store::{Inner, Store},
    words::Words,
};
use crate::ledger::{report::audit::Standing, row::PlaceRow};

/// So many windows are compared at most: the script looks at all of them in one step, and others wait for it.
const COMPARED: usize = 5_000;
/// A node that was heard within this time may still spend what it leases.
pub const SILENT: Duration = Duration::from_secs(600);

/// What the store counts, and up to where.
#[derive(Clone, Debug, Default)]
pub struct Count {
    /// The settlements of this node's journal up to here are in it.
    pub position: u64,
    /// What is settled in windows that are open.
    pub standing: Vec<Standing>,
    /// Nodes of whose books not all is known here: there the store may count more.
    pub in_part: Vec<String>,
    /// Windows that were too many to be compared.
    pub passed_over: usize,
}

/// A node that has not been heard for [`SILENT`] and leases something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silent {
    /// Its name.
    pub node: String,
    /// For how long, in milliseconds.
    pub silent_ms: i64,
    /// Fence and amount, in the fence's unit, of each slice.
    pub slices: Vec<(String, i64)>,
}

/// Why nothing is given back.
#[derive(Debug, thiserror::Error)]
pub enum Release {
    /// It may be alive.
    #[error(
        "node `{0}` was heard {1} s ago, and may spend what it leases\nhint: only what a node leases that has been \
         silent for ten minutes can be given back"
    )]
    Heard(String, i64),
    /// Nobody leases anything under that name.
    #[error("no node `{0}` leases anything\nhint: `turnpike audit` names the silent ones")]
    Unknown(String),
    /// The store cannot be asked.
    #[error(transparent)]
    Store(#[from] Failure),
    /// What is not booked is not done.
    #[error("the journal cannot be written: {0}")]
    Journal(#[from] io::Error),
}

impl From<Unknown> for Failure {
    fn from(unknown: Unknown) -> Self {
        Self::Refused(unknown.to_string().into())
    }
}

impl From<Broken> for Failure {
    fn from(broken: Broken) -> Self {
        Self::Away(broken.0.into())
    }
}

impl Store {
    /// What the store has settled in the open windows of `own` (what this node has booked) and of all that it knows of
    /// the others, with both of one instant: neither a settlement on its way nor a row that was not read yet differs.
    ///
    /// # Errors
    /// [`Failure`] when the store cannot be asked.
    pub async fn count(&self, own: &[PlaceRow]) -> Result<Count, Failure> {
        let inner = &*self.inner;
        let live = inner.link.live().await?;
        let _turn = inner.reading.lock().await;
        exchange::rows_to(inner, &live, "+").await?;
        let now = Timestamp::now().as_second();
        let mut places = known(inner, own, now);
        let passed_over = places.len().saturating_sub(COMPARED);
        places.truncate(COMPARED);
        let answer = inner
            .link
            .call(|live| {
                let mut cmd = live.wire.call(Script::Count);
                cmd.arg(&live.epoch).arg(inner.source.node());
                for place in &places {
                    cmd.arg(&*place.fence).arg(place.from);
                }
                cmd
            })
            .await?;
        let mut words = answered(answer)?;
        let (position, last) = (u64::try_from(words.number()?).unwrap_or(0), words.text()?);
        if !last.is_empty() {
            exchange::rows_to(inner, &live, &last).await?;
        }
        let in_part = exchange::missed(inner);
        let mirror = inner.mirror.lock().unwrap_or_else(PoisonError::into_inner);
        let mut elsewhere: HashMap<(&str, i64), i64> = HashMap::new();
        let sums = mirror.sums(now);
        for place in sums.iter().flat_map(|(_, places)| places) {
            *elsewhere.entry((&place.fence, place.from)).or_default() += place.amount;
        }
        let mut standing = Vec::with_capacity(places.len());
        for place in &places {
            standing.push(Standing {
                fence: Arc::clone(&place.fence),
                window: place.window(),
                settled: words.number()?.saturating_sub(words.number()?),
                elsewhere: elsewhere.get(&(&*place.fence, place.from)).copied().unwrap_or(0),
                at_least: !in_part.is_empty(),
            });
        }
        Ok(Count { position, standing, in_part, passed_over })
    }

    /// The nodes whose slices count as spent though nobody spends them.
    pub fn silent(&self) -> Vec<Silent> {
        let silent =
            self.peers().into_iter().filter(|peer| peer.silent_ms >= millis(SILENT) && !peer.slices.is_empty());
        let slices = |text: &str| {
            let words: Vec<&str> = text.split_ascii_whitespace().collect();
            let slice = |slice: &[&str]| (slice[0].to_owned(), slice[4].parse().unwrap_or(0));
            words.chunks_exact(5).map(slice).collect()
        };
        silent.map(|peer| Silent { node: peer.node, silent_ms: peer.silent_ms, slices: slices(&peer.slices) }).collect()
    }

    /// Gives back what `node` leases, if it has been silent for [`SILENT`]; gives fence and amount of each slice. To be
    /// booked before. A node that comes back settles what it spent of it all the same.
    ///
    /// # Errors
    /// [`Release`].
    pub async fn release(&self, node: &str) -> Result<Vec<(String, i64)>, Release> {
        let release = |live: &super::link::Live| {
            let mut cmd = live.wire.call(Script::Release);
            cmd.arg(&live.epoch).arg(node).arg(millis(SILENT));
            cmd
        };
        let answer = self.inner.link.call(release).await?;
        let mut words = Words::of(answer).map_err(Failure::from)?;
        match &*words.text().map_err(Failure::from)? {
            "ok" => {}
            "heard" => return Err(Release::Heard(node.to_owned(), words.number().map_err(Failure::from)? / 1000)),
            _ => return Err(Failure::Away("it has lost its data".into()).into()),
        }
        let mut slices = Vec::with_capacity(words.left() / 2);
        while words.left() > 0 {
            let (place, amount) = (words.text().map_err(Failure::from)?, words.number().map_err(Failure::from)?);
            let fence = place.rsplit_once(':').map_or(&*place, |(fence, _)| fence);
            slices.push((fence.to_owned(), amount));
        }
        if slices.is_empty() { Err(Release::Unknown(node.to_owned())) } else { Ok(slices) }
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// The answer of a script under the epoch in force.
pub(super) fn answered(answer: Value) -> Result<Words, Failure> {
    let mut words = Words::of(answer)?;
    if words.text()? == "ok" { Ok(words) } else { Err(Failure::Away("it has lost its data".into())) }
}

/// The windows that are open at `now` in which this node or another has settled anything.
fn known(inner: &Inner, own: &[PlaceRow], now: i64) -> Vec<PlaceRow> {
    let mirror = inner.mirror.lock().unwrap_or_else(PoisonError::into_inner);
    let elsewhere = mirror.sums(now).into_iter().flat_map(|(_, places)| places);
    let mut places: Vec<PlaceRow> = own.iter().filter(|place| place.to > now).cloned().chain(elsewhere).collect();
    places.sort_unstable_by(|a, b| (&a.fence, a.from).cmp(&(&b.fence, b.from)));
    places.dedup_by(|a, b| a.fence == b.fence && a.from == b.from);
    places
}
