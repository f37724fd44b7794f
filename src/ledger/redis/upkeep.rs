//! What nodes say to the store on their own behalf: signs of life, slices, and their part in a rebuild.

use ::redis::{Cmd, Value};

use super::{
    lease::Wish,
    protocol::{Unknown, kind},
    scripts::{Script, Wire},
    words::Words,
};
use crate::ledger::{balances::Place, row::PlaceRow};

/// A node that has been silent for so long is forgotten, in milliseconds: a day. One with slices never is.
const FORGET_MS: u64 = 24 * 3600 * 1000;
/// A rebuild that nobody ends for so long is begun anew, in milliseconds.
const ABANDON_MS: u64 = 60_000;

/// A node as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub node: String,
    /// How long it has been silent, in milliseconds.
    pub silent_ms: i64,
    /// What it leases, as [`slices_text`] writes it.
    pub slices: String,
}

/// What a sign of life is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// The epoch in force; empty when there is none.
    pub epoch: String,
    /// Up to where our journal is in the store; `None` when it knows nothing of it.
    pub position: Option<u64>,
    /// All nodes, ourselves among them.
    pub peers: Vec<Peer>,
}

/// Slices as the other nodes keep them: fence, from, to, kind and amount of each, with blanks between.
pub fn slices_text(slices: &[Place]) -> String {
    let text = |place: &Place| {
        let row = place.row(place.amount);
        format!("{} {} {} {} {}", row.fence, row.from, row.to, kind(row.unit), row.amount)
    };
    slices.iter().map(text).collect::<Vec<_>>().join(" ")
}

/// A sign of life with what the node leases.
pub fn beat(wire: &Wire, node: &str, slices: &str) -> Cmd {
    let mut cmd = wire.call(Script::Beat);
    cmd.arg(node).arg(slices).arg(FORGET_MS);
    cmd
}

/// What [`beat`] answers.
///
/// # Errors
/// [`Unknown`].
pub fn pulse(value: Value) -> Result<Pulse, Unknown> {
    let mut words = Words::of(value)?;
    words.text()?;
    let epoch = words.text()?;
    words.number()?;
    let position = words.text()?.parse().ok();
    let mut peers = Vec::with_capacity(words.left() / 3);
    while words.left() > 0 {
        peers.push(Peer { node: words.text()?, silent_ms: words.number()?, slices: words.text()? });
    }
    Ok(Pulse { epoch, position, peers })
}

/// Asks for a slice, or returns one. `request` names the request, so that it is granted once.
pub fn lease(wire: &Wire, epoch: &str, node: &str, request: u64, wish: &Wish, share_ppm: u32) -> Cmd {
    let mut cmd = wire.call(Script::Lease);
    let row = wish.place.row(wish.place.amount);
    cmd.arg(epoch).arg(node).arg(&*row.fence).arg(row.from).arg(row.to).arg(kind(row.unit));
    let fence = &wish.place.fence;
    cmd.arg(fence.cap - fence.raised)
        .arg(wish.revision)
        .arg(request)
        .arg(row.amount)
        .arg(share_ppm)
        .arg(wish.least)
        .arg(fence.raised);
    cmd
}

/// What [`lease`] grants (below zero: what was taken back); `None` when the window is over or the epoch another.
///
/// # Errors
/// [`Unknown`].
pub fn granted(value: Value) -> Result<Option<i64>, Unknown> {
    let mut words = Words::of(value)?;
    Ok(match &*words.text()? {
        "ok" => Some(words.number()?),
        "window" | "epoch" => None,
        _ => return Err(Unknown),
    })
}

/// Says what `node` leases, in all.
pub fn claim(wire: &Wire, epoch: &str, node: &str, slices: &[Place]) -> Cmd {
    claim_text(wire, epoch, node, &slices_text(slices))
}

/// As [`claim`], for a node of which only the text is known.
pub fn claim_text(wire: &Wire, epoch: &str, node: &str, slices: &str) -> Cmd {
    let mut cmd = wire.call(Script::Claim);
    cmd.arg(epoch).arg(node);
    for word in slices.split_ascii_whitespace() {
        cmd.arg(word);
    }
    cmd
}

/// What a node without an epoch learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// There is one by now.
    Epoch(String),
    /// It is being rebuilt.
    Making {
        /// The epoch to be.
        epoch: String,
        /// Since when, in milliseconds.
        since_ms: i64,
        /// Who has brought its part.
        done: Vec<String>,
    },
}

/// Begins a rebuild under the name `epoch`, or joins the one under way.
pub fn begin(wire: &Wire, epoch: &str) -> Cmd {
    let mut cmd = wire.call(Script::Begin);
    cmd.arg(epoch).arg(ABANDON_MS);
    cmd
}

/// What [`begin`] answers.
///
/// # Errors
/// [`Unknown`].
pub fn begun(value: Value) -> Result<Begun, Unknown> {
    let mut words = Words::of(value)?;
    Ok(match &*words.text()? {
        "epoch" => Begun::Epoch(words.text()?),
        "making" => {
            let (epoch, since_ms) = (words.text()?, words.number()?);
            let mut done = Vec::with_capacity(words.left());
            while words.left() > 0 {
                done.push(words.text()?);
            }
            Begun::Making { epoch, since_ms, done }
        }
        _ => return Err(Unknown),
    })
}

/// Brings what `node` has settled: with a `position`, all of it up to there has been brought.
pub fn part(wire: &Wire, epoch: &str, node: &str, position: Option<u64>, settled: &[PlaceRow]) -> Cmd {
    let mut cmd = wire.call(Script::Part);
    cmd.arg(epoch).arg(node);
    match position {
        Some(position) => cmd.arg(position),
        None => cmd.arg(""),
    };
    for place in settled {
        cmd.arg(&*place.fence).arg(place.from).arg(place.to).arg(place.amount);
    }
    cmd
}

/// Puts the rebuilt data into force.
pub fn finish(wire: &Wire, epoch: &str) -> Cmd {
    let mut cmd = wire.call(Script::Finish);
    cmd.arg(epoch);
    cmd
}

/// Whether a script did what it was asked for, and not under another epoch.
///
/// # Errors
/// [`Unknown`].
pub fn done(value: Value) -> Result<bool, Unknown> {
    Ok(Words::of(value)?.text()? == "ok")
}
