//! The task that keeps the store usable: it connects, brings the store up to date with the journal, then ships
//! settlements, renews holds, sweeps dead ones and looks after the slices, until the connection fails.
//!
//! Whatever happened meanwhile (a failover to a replica that lags, a restart with old data or none), arriving is the
//! same: say how far the journal is in the store, send what is missing, hold again what is held, claim the slices.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use ::redis::Cmd;
use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use uuid::Uuid;

use super::{
    connect::connect,
    edits, exchange, levels,
    link::{Failure, Live, Standing},
    protocol::{self, Ended, How, Settlement, Taken, Taking},
    rebuild,
    scripts::Wire,
    source::Sums,
    store::{HOLD_TTL, Inner},
    upkeep::{self, Pulse},
};
use crate::ledger::row::{HoldRow, SettleRow};

/// Between two attempts to connect, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// A call of the keeper's own without an answer for so long ends the connection: it may be half open.
pub(super) const SILENCE: Duration = Duration::from_secs(1);
/// How often the store is told and asked what is due anyway.
const UPKEEP: Duration = Duration::from_secs(1);
/// Settlements in one script: what else waits for the store must not wait long.
const BATCH: usize = 16;
/// Scripts of settlements in one turn.
const ROUNDS: usize = 64;
/// Holds that are brought again or renewed in one go.
const RENEWED: usize = 500;
/// What others have settled is kept on the disk each so many seconds; their rows are kept at once.
const KEPT: u64 = 60;
/// Holds of which it is asked in one go whether they are ours.
const OURS: usize = 1000;
/// Swept in one go.
const SWEPT: usize = 100;

/// Why a connection has ended, in words for operators.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Broken(pub(super) String);

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self(failure.to_string())
    }
}

impl From<protocol::Unknown> for Broken {
    fn from(unknown: protocol::Unknown) -> Self {
        Self(unknown.to_string())
    }
}

pub(super) fn lost() -> Broken {
    Broken("it has lost its data".to_owned())
}

/// Keeps the store of `inner` for as long as the task lives.
pub(super) async fn keep(inner: Arc<Inner>) {
    let mut pause = PAUSE.0;
    let mut told = String::new();
    loop {
        let error = match connect(&inner.config).await {
            Err(error) => Broken(error.to_string()),
            Ok(wire) => match arrive(&inner, wire).await {
                Err(error) => error,
                Ok(live) => {
                    tracing::info!(epoch = live.epoch, "the budget store is up");
                    told.clear();
                    pause = PAUSE.0;
                    inner.desk().back();
                    inner.link.up(Arc::clone(&live));
                    serve(&inner, &live).await
                }
            },
        };
        inner.link.down(&error.0);
        if error.0 != told {
            tracing::warn!(cause = error.0, "the budget store is away");
            told = error.0;
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// One call of the keeper's own, before the connection is in use.
pub(super) async fn errand(wire: &Wire, cmd: &Cmd) -> Result<::redis::Value, Broken> {
    match tokio::time::timeout(SILENCE, wire.send(cmd)).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Broken(super::link::cause(&error).to_string())),
        Err(_) => Err(Broken("it does not answer".to_owned())),
    }
}

/// Tells the store that we live, and keeps what it says of the others.
pub(super) async fn beat(inner: &Inner, wire: &Wire) -> Result<Pulse, Broken> {
    let slices = upkeep::slices_text(&inner.desk().slices.all());
    let pulse = upkeep::pulse(errand(wire, &upkeep::beat(wire, inner.source.node(), &slices)).await?)?;
    note_peers(inner, &pulse);
    Ok(pulse)
}

fn note_peers(inner: &Inner, pulse: &Pulse) {
    let mut known = inner.peers.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    for peer in &pulse.peers {
        let silent = Duration::from_millis(u64::try_from(peer.silent_ms).unwrap_or(0));
        let heard = now.checked_sub(silent).unwrap_or(now);
        match known.iter_mut().find(|(other, _)| other.node == peer.node) {
            Some(entry) => *entry = (peer.clone(), heard),
            None => known.push((peer.clone(), heard)),
        }
    }
}

/// Brings the store up to date with this node; the connection may be used then.
async fn arrive(inner: &Arc<Inner>, wire: Wire) -> Result<Arc<Live>, Broken> {
    let pulse = beat(inner, &wire).await?;
    let (epoch, acknowledged) = if pulse.epoch.is_empty() {
        rebuild::rebuild(inner, &wire).await?
    } else {
        let position = match pulse.position {
            Some(position) => {
                outrun(inner, position).await?;
                position
            }
            None => bring(inner, &wire, &pulse.epoch).await?,
        };
        (pulse.epoch, position)
    };
    inner.acknowledged.store(acknowledged, Ordering::Release);
    let live = Arc::new(Live { wire, epoch });
    let undispatched = undispatched(inner, &live).await?;
    ship_to(inner, &live, u64::MAX).await?;
    for id in undispatched {
        release(inner, &live, id).await?;
    }
    // Slices come last: what was settled from them is in by now.
    hold_again(inner, &live.wire, &live.epoch, sums(inner)?.open).await?;
    claim(inner, &live.wire, &live.epoch).await?;
    exchange::tell_sums(inner, &live).await?;
    Ok(live)
}

/// Makes sure that nothing is passed over: a store that knows settlements of ours which we cannot have sent has them
/// from another life of this journal, of which this one is an older copy.
async fn outrun(inner: &Arc<Inner>, position: u64) -> Result<(), Broken> {
    let sent = inner.acknowledged.load(Ordering::Acquire);
    let known = if sent == 0 { inner.source.begun() } else { inner.source.end() };
    if position <= known {
        return Ok(());
    }
    tracing::error!(
        "the journal is an older copy of itself: the budget store has settlements of this node that are not in it, and \
         `turnpike audit` will show them"
    );
    let source = Arc::clone(&inner.source);
    let moved = tokio::task::spawn_blocking(move || source.outrun(position)).await;
    let moved = moved.map_err(std::io::Error::other).and_then(|moved| moved);
    moved.map_err(|error| Broken(format!("the journal cannot be put behind what the store knows: {error}")))
}

/// The holds of this node in the store that were surely never dispatched: neither is a request under way that may be
/// about to be, nor does the journal know of it. To be freed once all that is journaled by now is in the store.
async fn undispatched(inner: &Inner, live: &Arc<Live>) -> Result<Vec<Uuid>, Broken> {
    let (mut ours, mut from) = (Vec::new(), "-inf".to_owned());
    loop {
        let cmd = protocol::own_holds(&live.wire, &live.epoch, inner.source.node(), &from, OURS);
        let (page, next) = protocol::own(inner.link.send(live, &cmd, SILENCE).await?)?.ok_or_else(lost)?;
        ours.extend(page);
        match next {
            Some(next) => from = next,
            None => break,
        }
    }
    // In this order: a request leaves the desk before its settlement is journaled, and the journal's open ones after.
    {
        let desk = inner.desk();
        ours.retain(|id| !desk.knows(id));
    }
    let open: HashSet<Uuid> = sums(inner)?.open.into_iter().map(|row| row.id).collect();
    ours.retain(|id| !open.contains(id));
    Ok(ours)
}

/// Takes out of the slices what was settled from them and is in the sums up to `position`: it is brought with these, and
/// would count twice.
async fn covered(inner: &Arc<Inner>, position: u64) -> Result<(), Broken> {
    let mut after = inner.acknowledged.load(Ordering::Acquire);
    while inner.desk().is_moving() {
        let batch = journaled(inner, after).await?;
        let mut desk = inner.desk();
        for (_, row) in batch.iter().take_while(|(at, _)| *at <= position) {
            desk.shipped(&row.id, &row.places);
        }
        match batch.last() {
            Some((last, _)) if *last < position => after = *last,
            _ => return Ok(()),
        }
    }
    Ok(())
}

/// Brings all that this node has settled, as sums; gives the position up to which they reach.
pub(super) async fn bring(inner: &Arc<Inner>, wire: &Wire, epoch: &str) -> Result<u64, Broken> {
    let Sums { position, settled, open } = sums(inner)?;
    covered(inner, position).await?;
    let edits = inner.board.edits();
    // What stands against a budget whose period was edited is more than what was placed in its window.
    let edited: Vec<_> = edits.into_iter().map(|edit| (edit, true)).collect();
    edits::bring(inner, wire, epoch, &edited).await?;
    // The sums come last: with them a rebuild takes this node for done, and what it holds and leases must be in by then.
    hold_again(inner, wire, epoch, open).await?;
    claim(inner, wire, epoch).await?;
    rebuild::part(wire, epoch, inner.source.node(), Some(position), &settled).await?;
    Ok(position)
}

/// What the books amount to, with what stands in open windows that edited fences have left.
pub(super) fn sums(inner: &Inner) -> Result<Sums, Broken> {
    let sums = inner.source.sums();
    let mut sums = sums.map_err(|error| Broken(format!("the journal cannot be written: {error}")))?;
    sums.settled.extend(inner.board.edits().into_iter().flat_map(|edit| edit.left));
    Ok(sums)
}

async fn claim(inner: &Inner, wire: &Wire, epoch: &str) -> Result<(), Broken> {
    let slices = inner.desk().slices.all();
    if upkeep::done(errand(wire, &upkeep::claim(wire, epoch, inner.source.node(), &slices)).await?)? {
        Ok(())
    } else {
        Err(lost())
    }
}

/// Holds again what requests under way hold: the store may have forgotten it, and knows it otherwise.
async fn hold_again(inner: &Inner, wire: &Wire, epoch: &str, open: Vec<HoldRow>) -> Result<(), Broken> {
    for mut row in open {
        let id = row.id;
        let parts = {
            let desk = inner.desk();
            if !desk.is_remote(&id) {
                continue;
            }
            desk.parts(&id).to_vec()
        };
        let mut places = std::mem::take(&mut row.places);
        for place in &mut places {
            let part = parts.iter().find(|part| part.fence == place.fence && part.from == place.from);
            place.amount -= part.map_or(0, |part| part.amount);
        }
        let about = serde_json::to_string(&row).unwrap_or_default();
        let taking =
            Taking { how: How::Again, id, ttl_ms: ttl_ms(), node: inner.source.node(), about: &about, revision: 0 };
        let cmd = protocol::take_again(wire, epoch, &taking, &places);
        if let Taken::Epoch(_) = protocol::taken(errand(wire, &cmd).await?)? {
            return Err(lost());
        }
    }
    Ok(())
}

fn ttl_ms() -> u64 {
    u64::try_from(HOLD_TTL.as_millis()).unwrap_or(u64::MAX)
}

/// Uses the connection until it fails.
async fn serve(inner: &Arc<Inner>, live: &Arc<Live>) -> Broken {
    let mut second = interval(UPKEEP);
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut standing = inner.link.watch();
    let mut seconds: u64 = 0;
    loop {
        let done = tokio::select! {
            () = inner.wake.notified() => ship(inner, live).await.map(drop),
            _ = standing.changed() => {
                let now = standing.borrow_and_update().clone();
                match now {
                    Standing::Up(_) => Ok(()),
                    // Any answer closes the breaker; this one is asked for to that end.
                    Standing::Slow(..) => pulse(inner, live).await,
                    Standing::Down(why, _) => Err(Broken(why.to_string())),
                }
            }
            _ = second.tick() => {
                seconds += 1;
                upkeep(inner, live, seconds).await
            }
        };
        if let Err(error) = done {
            return error;
        }
    }
}

/// What is due each second.
async fn upkeep(inner: &Arc<Inner>, live: &Arc<Live>, seconds: u64) -> Result<(), Broken> {
    pulse(inner, live).await?;
    ship(inner, live).await?;
    let mut strays = inner.desk().take_strays();
    while let Some(id) = strays.pop() {
        if let Err(error) = release(inner, live, id).await {
            strays.push(id);
            inner.desk().put_strays(strays);
            return Err(error);
        }
    }
    lease(inner, live).await?;
    exchange::rows(inner, live).await?;
    exchange::sums(inner, live).await?;
    if seconds.is_multiple_of(KEPT) {
        exchange::keep(inner, Timestamp::now().as_second()).await;
    }
    levels::refresh(inner, live).await?;
    if seconds.is_multiple_of(HOLD_TTL.as_secs() / 3) {
        let held = inner.desk().remote();
        for ids in held.chunks(RENEWED) {
            let cmd = protocol::renew(&live.wire, &live.epoch, ttl_ms(), ids);
            inner.link.send(live, &cmd, SILENCE).await?;
        }
    }
    if seconds.is_multiple_of(5) {
        sweep(inner, live).await?;
    }
    Ok(())
}

async fn pulse(inner: &Inner, live: &Arc<Live>) -> Result<(), Broken> {
    let slices = upkeep::slices_text(&inner.desk().slices.all());
    let cmd = upkeep::beat(&live.wire, inner.source.node(), &slices);
    let pulse = upkeep::pulse(inner.link.send(live, &cmd, SILENCE).await?)?;
    if pulse.epoch != live.epoch {
        return Err(lost());
    }
    note_peers(inner, &pulse);
    Ok(())
}

/// Gives back a hold of which nobody knows whether it was taken. It is charged nothing: its request was refused.
async fn release(inner: &Inner, live: &Arc<Live>, id: Uuid) -> Result<(), Broken> {
    let settlement = Settlement { position: 0, id, row: String::new(), places: &[], moved: Vec::new() };
    let cmd = protocol::settle(&live.wire, &live.epoch, inner.source.node(), None, &[settlement]);
    inner.link.send(live, &cmd, SILENCE).await?;
    Ok(())
}

async fn lease(inner: &Inner, live: &Arc<Live>) -> Result<(), Broken> {
    let config = inner.config.lease;
    let now = Timestamp::now();
    let wishes = inner.desk().slices.tick(&config, now.as_second());
    for mut wish in wishes {
        // A raise may have come or ended since the request that the fence was taken from.
        wish.place.fence = inner.source.in_force(&wish.place.fence, now);
        let request = rand::random::<u64>();
        let (node, share) = (inner.source.node(), config.share_ppm);
        if wish.place.amount < 0 {
            // Before the store knows: else a request could spend what is on its way back.
            inner.desk().slices.granted(&wish.place, wish.place.amount);
        }
        let cmd = upkeep::lease(&live.wire, &live.epoch, node, request, &wish, share);
        let granted = upkeep::granted(inner.link.send(live, &cmd, SILENCE).await?)?.unwrap_or(0);
        if granted > 0 {
            inner.desk().slices.granted(&wish.place, granted);
        }
    }
    Ok(())
}

async fn sweep(inner: &Inner, live: &Arc<Live>) -> Result<(), Broken> {
    let answer = inner.link.send(live, &protocol::sweep(&live.wire, &live.epoch, SWEPT), SILENCE).await?;
    for swept in protocol::swept(answer)?.ok_or_else(lost)? {
        tracing::warn!(request = swept.id, node = swept.node, "a hold that nobody renews any more is charged");
    }
    Ok(())
}

/// Sends what the journal has and the store has not; `true` when there is more than one turn may send.
async fn ship(inner: &Arc<Inner>, live: &Arc<Live>) -> Result<bool, Broken> {
    turn(inner, live, u64::MAX).await
}

/// Sends all of it up to a position of the journal.
pub(super) async fn ship_to(inner: &Arc<Inner>, live: &Arc<Live>, end: u64) -> Result<(), Broken> {
    while turn(inner, live, end).await? {}
    Ok(())
}

async fn turn(inner: &Arc<Inner>, live: &Arc<Live>, end: u64) -> Result<bool, Broken> {
    let mut rounds = 0;
    loop {
        let after = inner.acknowledged.load(Ordering::Acquire);
        let began = Instant::now();
        let mut batch = journaled(inner, after).await?;
        if batch.is_empty() {
            caught_up(inner, began);
        }
        batch.retain(|(position, _)| *position <= end);
        let Some((last, _)) = batch.last() else { return Ok(false) };
        let last = *last;
        let cmd = settlements(inner, live, after, &batch);
        match protocol::ended(inner.link.send(live, &cmd, SILENCE).await?)? {
            Ended::Done(_) => {
                inner.acknowledged.store(last, Ordering::Release);
                let mut desk = inner.desk();
                for (_, row) in &batch {
                    desk.shipped(&row.id, &row.places);
                }
                rounds += 1;
                if rounds >= ROUNDS {
                    // Renewals and signs of life are due too: the rest comes in the next turn.
                    inner.wake.notify_one();
                    return Ok(true);
                }
            }
            Ended::Behind(_) => return Err(Broken("its data are older than they were".to_owned())),
            Ended::Epoch(_) => return Err(lost()),
        }
    }
}

/// The next settlements behind `after` in the journal.
async fn journaled(inner: &Arc<Inner>, after: u64) -> Result<Vec<(u64, Arc<SettleRow>)>, Broken> {
    let source = Arc::clone(&inner.source);
    // It fails too where the reader panicked, or the runtime ends.
    let batch = tokio::task::spawn_blocking(move || source.settlements(after, BATCH)).await;
    let batch = batch.map_err(std::io::Error::other).and_then(|batch| batch);
    batch.map_err(|error| Broken(format!("the journal cannot be read: {error}")))
}

/// Nothing waited when the journal was last read, at `began` or later.
fn caught_up(inner: &Inner, began: Instant) {
    let mut behind = inner.behind.lock().unwrap_or_else(PoisonError::into_inner);
    if behind.is_some_and(|since| since <= began) {
        *behind = None;
    }
}

fn settlements(inner: &Inner, live: &Live, after: u64, batch: &[(u64, Arc<SettleRow>)]) -> Cmd {
    let desk = inner.desk();
    let settlement = |(position, row): &'_ (u64, Arc<SettleRow>)| (*position, Arc::clone(row), desk.moving(&row.id));
    let batch: Vec<_> = batch.iter().map(settlement).collect();
    drop(desk);
    let batch: Vec<Settlement<'_>> = batch
        .iter()
        .map(|(position, row, moved)| Settlement {
            position: *position,
            id: row.id,
            row: serde_json::to_string(&**row).unwrap_or_default(),
            places: &row.places,
            moved: moved.clone(),
        })
        .collect();
    protocol::settle(&live.wire, &live.epoch, inner.source.node(), Some(after), &batch)
}
