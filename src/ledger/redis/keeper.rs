//! The task that keeps the store usable: it connects, brings the store up to date with the journal, then ships
//! settlements, renews holds, sweeps dead ones and looks after the slices, until the connection fails. `arrive` is what
//! it does first over each connection.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use ::redis::Cmd;
use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use uuid::Uuid;

use super::{
    arrive::arrive,
    connect::connect,
    exchange, levels,
    link::{Failure, Live, Standing},
    protocol::{self, Ended, Settlement},
    scripts::Wire,
    store::{HOLD_TTL, Inner},
    upkeep::{self, Pulse},
};
use crate::ledger::row::SettleRow;

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

/// How long a hold lives without being renewed, in milliseconds.
pub(super) fn ttl_ms() -> u64 {
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
pub(super) async fn release(inner: &Inner, live: &Arc<Live>, id: Uuid) -> Result<(), Broken> {
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
        inner.told.fetch_max(last, Ordering::AcqRel);
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
pub(super) async fn journaled(inner: &Arc<Inner>, after: u64) -> Result<Vec<(u64, Arc<SettleRow>)>, Broken> {
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
