//! What is said to the scripts, and what they answer.

use std::sync::Arc;

use ::redis::{Cmd, Value};
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    super::{balances::Place, row::PlaceRow, row::UnitRow, window::Window},
    scripts::{Script, Wire},
    words::Words,
};
use crate::base::fences::Fence;

/// No amount is larger, in any unit: the scripts count in doubles.
const LARGEST: i64 = 1 << 53;
/// How long a settled id is remembered, in milliseconds.
pub const REMEMBER_MS: u64 = 15 * 60 * 1000;
/// How long a swept id is remembered, in milliseconds: 35 days.
const REMEMBER_SWEPT_MS: u64 = 35 * 24 * 3600 * 1000;
/// About how many settled requests the stream holds.
pub(super) const STREAM_LENGTH: u64 = 50_000;

/// How a hold is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// For the first time.
    Hold,
    /// It becomes larger.
    More,
    /// The store may have forgotten it; nothing can be short.
    Again,
}

/// A hold as it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Taking<'a> {
    /// How.
    pub how: How,
    /// The request.
    pub id: Uuid,
    /// How long it lives without being renewed, in milliseconds.
    pub ttl_ms: u64,
    /// Who holds it.
    pub node: &'a str,
    /// The row that a sweep would book for it.
    pub about: &'a str,
    /// The revision of the policies that the caps come from, above 0: an older one than the store knows changes no cap.
    pub revision: u64,
}

/// What stands in one place after a hold was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stand {
    /// Settled.
    pub settled: i64,
    /// Held by requests.
    pub held: i64,
    /// Leased to nodes.
    pub leased: i64,
    /// The cap in force.
    pub cap: i64,
}

/// What became of a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It stands; the places in order.
    Held(Vec<Stand>),
    /// A place has too little left.
    Short {
        /// Its index.
        index: usize,
        /// What others use of it.
        used: i64,
        /// The cap in force.
        cap: i64,
    },
    /// A place's window is not the running one.
    Window {
        /// Its index.
        index: usize,
        /// The server's clock, in milliseconds since 1970.
        now_ms: i64,
        /// The running one, when the fence has one.
        running: Option<Window>,
    },
    /// The request has been settled or swept already.
    Ended,
    /// Another epoch is in force (empty: none).
    Epoch(String),
}

/// What became of a batch of settlements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// They are in; what each request was before.
    Done(Vec<Before>),
    /// The store knows the node's journal up to this position only.
    Behind(u64),
    /// Another epoch is in force.
    Epoch(String),
}

/// What a request was before its settlement came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Held.
    Open,
    /// Charged by a sweep, which the settlement corrects.
    Swept,
    /// Settled before: nothing has changed.
    Settled,
    /// Unknown: held from a slice, or while the store was away.
    Unknown,
}

/// A hold that a sweep has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Swept {
    /// The request.
    pub id: String,
    /// Who held it.
    pub node: String,
    /// The row that came with it.
    pub about: String,
    /// What was charged where.
    pub places: Vec<PlaceRow>,
}

/// An answer that no script of ours gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store answers in a way that this version does not know")]
pub struct Unknown;

pub(super) const fn kind(unit: UnitRow) -> &'static str {
    match unit {
        UnitRow::Usd => "u",
        UnitRow::Tokens => "t",
        UnitRow::Requests => "q",
        UnitRow::Concurrent => "g",
    }
}

fn unit(kind: &str) -> Option<UnitRow> {
    let all = [UnitRow::Usd, UnitRow::Tokens, UnitRow::Requests, UnitRow::Concurrent];
    all.into_iter().find(|unit| self::kind(*unit) == kind)
}

/// The call that takes `places`; `binds` says which of them may be short.
pub fn take(wire: &Wire, epoch: &str, taking: &Taking<'_>, places: &[Place], binds: impl Fn(&Fence) -> bool) -> Cmd {
    let mut cmd = wire.call(Script::Take);
    let how = match taking.how {
        How::Hold => "hold",
        How::More => "more",
        How::Again => "again",
    };
    let mut id = Uuid::encode_buffer();
    cmd.arg(how).arg(epoch).arg(&*taking.id.hyphenated().encode_lower(&mut id));
    cmd.arg(taking.ttl_ms).arg(taking.node).arg(taking.about);
    for place in places {
        let Place { fence, window, amount } = place;
        cmd.arg(&*fence.id).arg(window.start.as_second()).arg(window.end.as_second());
        cmd.arg(kind(fence.unit.into())).arg((*amount).min(LARGEST)).arg((fence.cap - fence.raised).min(LARGEST));
        // What raises add goes beside the cap: they come and go without another revision of the policies.
        cmd.arg(taking.revision).arg(fence.raised.min(LARGEST)).arg(i32::from(binds(fence)));
    }
    cmd
}

/// The call that brings back a hold of which the store may know nothing.
pub fn take_again(wire: &Wire, epoch: &str, taking: &Taking<'_>, places: &[PlaceRow]) -> Cmd {
    let mut cmd = wire.call(Script::Take);
    cmd.arg("again").arg(epoch).arg(taking.id.to_string());
    cmd.arg(taking.ttl_ms).arg(taking.node).arg(taking.about);
    for place in places {
        cmd.arg(&*place.fence).arg(place.from).arg(place.to).arg(kind(place.unit)).arg(place.amount.min(LARGEST));
        // Revision 0 gives way to every cap that a gateway brings.
        cmd.arg(0).arg(0).arg(0).arg(0);
    }
    cmd
}

/// A settlement as it is sent.
#[derive(Clone, Debug)]
pub struct Settlement<'a> {
    /// Its place in the journal; 0 outside one.
    pub position: u64,
    /// The request.
    pub id: Uuid,
    /// The row for the mirrors; empty for none.
    pub row: String,
    /// What is charged where.
    pub places: &'a [PlaceRow],
    /// What of it, place by place, the node had leased; what is missing is 0.
    pub moved: Vec<i64>,
}

/// The call that settles a batch, which follows the position `after` in the journal of `node`; `None` for settlements
/// that stand in no journal.
pub fn settle(wire: &Wire, epoch: &str, node: &str, after: Option<u64>, batch: &[Settlement<'_>]) -> Cmd {
    let mut cmd = wire.call(Script::Settle);
    cmd.arg(epoch).arg(node);
    match after {
        Some(position) => cmd.arg(position),
        None => cmd.arg(""),
    };
    cmd.arg(STREAM_LENGTH).arg(REMEMBER_MS);
    for settlement in batch {
        let mut id = Uuid::encode_buffer();
        cmd.arg(settlement.position).arg(&*settlement.id.hyphenated().encode_lower(&mut id));
        cmd.arg(&settlement.row).arg(settlement.places.len());
        for (index, place) in settlement.places.iter().enumerate() {
            cmd.arg(&*place.fence).arg(place.from).arg(place.to).arg(kind(place.unit)).arg(place.amount.min(LARGEST));
            cmd.arg(settlement.moved.get(index).copied().unwrap_or(0));
        }
    }
    cmd
}

/// The call that sweeps at most `most` holds.
pub fn sweep(wire: &Wire, epoch: &str, most: usize) -> Cmd {
    let mut cmd = wire.call(Script::Sweep);
    cmd.arg(epoch).arg(most).arg(STREAM_LENGTH).arg(REMEMBER_SWEPT_MS);
    cmd
}

/// The call that puts off the deadlines of `ids`.
pub fn renew(wire: &Wire, epoch: &str, ttl_ms: u64, ids: &[Uuid]) -> Cmd {
    let mut cmd = wire.call(Script::Renew);
    cmd.arg(epoch).arg(ttl_ms);
    for id in ids {
        cmd.arg(id.to_string());
    }
    cmd
}

/// The call that names open holds of `node`, a page of those looked at from `from` on (see [`own`]); `-inf` begins.
pub fn own_holds(wire: &Wire, epoch: &str, node: &str, from: &str, most: usize) -> Cmd {
    let mut cmd = wire.call(Script::Own);
    cmd.arg(epoch).arg(node).arg(from).arg(most);
    cmd
}

/// A page of the open holds of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnHolds {
    /// The requests.
    pub ids: Vec<Uuid>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
}

/// What [`own_holds`] answers; `None` when another epoch is in force.
///
/// # Errors
/// [`Unknown`].
pub fn own(value: Value) -> Result<Option<OwnHolds>, Unknown> {
    let mut words = Words::of(value)?;
    if words.text()? != "ok" {
        return Ok(None);
    }
    let next = Some(words.text()?).filter(|next| !next.is_empty());
    let mut ids = Vec::with_capacity(words.left());
    while words.left() > 0 {
        ids.push(words.text()?.parse().map_err(|_| Unknown)?);
    }
    Ok(Some(OwnHolds { ids, next }))
}

/// The call that puts a fence into another window.
pub fn adopt(wire: &Wire, epoch: &str, fence: &Fence, window: &Window, settled: i64) -> Cmd {
    let mut cmd = wire.call(Script::Adopt);
    cmd.arg(epoch).arg(&*fence.id).arg(window.start.as_second()).arg(window.end.as_second()).arg(settled.min(LARGEST));
    cmd
}

/// The window between two seconds, written `from:to`.
fn running(text: &str) -> Option<Window> {
    let (from, to) = text.split_once(':')?;
    let second = |text: &str| Timestamp::from_second(text.parse().ok()?).ok();
    Some(Window { start: second(from)?, end: second(to)? })
}

/// What [`take`] answers.
///
/// # Errors
/// [`Unknown`].
pub fn taken(value: Value) -> Result<Taken, Unknown> {
    let mut words = Words::of(value)?;
    Ok(match &*words.text()? {
        "ok" => {
            words.number()?;
            let mut stands = Vec::with_capacity(words.left() / 4);
            while words.left() > 0 {
                let (settled, held) = (words.number()?, words.number()?);
                stands.push(Stand { settled, held, leased: words.number()?, cap: words.number()? });
            }
            Taken::Held(stands)
        }
        "short" => Taken::Short { index: index(&mut words)?, used: words.number()?, cap: words.number()? },
        "window" => {
            let (index, now_ms) = (index(&mut words)?, words.number()?);
            Taken::Window { index, now_ms, running: running(&words.text()?) }
        }
        "ended" => Taken::Ended,
        "epoch" => Taken::Epoch(words.text()?),
        _ => return Err(Unknown),
    })
}

fn index(words: &mut Words) -> Result<usize, Unknown> {
    usize::try_from(words.number()?).map_err(|_| Unknown)
}

/// What [`settle`] answers.
///
/// # Errors
/// [`Unknown`].
pub fn ended(value: Value) -> Result<Ended, Unknown> {
    let mut words = Words::of(value)?;
    Ok(match &*words.text()? {
        "done" => {
            let mut states = Vec::with_capacity(words.left());
            while words.left() > 0 {
                states.push(match &*words.text()? {
                    "open" => Before::Open,
                    "swept" => Before::Swept,
                    "settled" => Before::Settled,
                    "" => Before::Unknown,
                    _ => return Err(Unknown),
                });
            }
            Ended::Done(states)
        }
        "behind" => Ended::Behind(u64::try_from(words.number()?).map_err(|_| Unknown)?),
        "epoch" => Ended::Epoch(words.text()?),
        _ => return Err(Unknown),
    })
}

/// What [`sweep`] answers: `None` when another epoch is in force.
///
/// # Errors
/// [`Unknown`].
pub fn swept(value: Value) -> Result<Option<Vec<Swept>>, Unknown> {
    let mut words = Words::of(value)?;
    match &*words.text()? {
        "ok" => {}
        "epoch" => return Ok(None),
        _ => return Err(Unknown),
    }
    let mut all = Vec::with_capacity(words.left());
    while words.left() > 0 {
        let mut one = words.words()?;
        let (id, node, about) = (one.text()?, one.text()?, one.text()?);
        one.text()?;
        let mut places = Vec::with_capacity(one.left() / 4);
        while one.left() > 0 {
            let place = [one.text()?, one.text()?, one.text()?, one.text()?];
            places.push(place_row(&place.each_ref().map(String::as_str)).ok_or(Unknown)?);
        }
        all.push(Swept { id, node, about, places });
    }
    Ok(Some(all))
}

/// A place as [`place_row`] reads it.
pub(super) fn place_text(place: &PlaceRow) -> String {
    format!("{}:{} {} {} {}", place.fence, place.from, kind(place.unit), place.to, place.amount)
}

/// A place as a sweep tells it: `<fence>:<from>`, its kind, its end, its amount.
pub fn place_row(words: &[&str; 4]) -> Option<PlaceRow> {
    let (fence, from) = words[0].rsplit_once(':')?;
    Some(PlaceRow {
        fence: Arc::from(fence),
        unit: unit(words[1])?,
        from: from.parse().ok()?,
        to: words[2].parse().ok()?,
        amount: words[3].parse().ok()?,
    })
}
