//! Holds in Redis: from a slice without asking, else in one round trip, else as the team says for when the store is
//! away.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::{sync::Notify, task::AbortHandle, time::Instant};
use uuid::Uuid;

use super::{
    board::Board,
    desk::{Desk, Terms},
    keeper,
    link::{Failure, Link},
    mirror::Mirror,
    protocol::{self, How, Taken, Taking},
    source::Source,
    upkeep::Peer,
};
use crate::{
    base::{fences::Fence, store::RedisConfig, tenants::OnStoreLoss},
    ledger::{
        balances::{Level, Place},
        hold::{Demand, HoldError, Refused, binds_midway},
        row::{MirrorRow, SettleRow},
    },
};

/// How long a hold lives without being renewed: a node that is dead for so long has its holds swept.
pub(super) const HOLD_TTL: Duration = Duration::from_secs(90);
/// A window may turn over, and each fence may have been edited: a hold is asked for again at most so often.
const TRIES: usize = 8;

/// A hold that is asked for, or a larger one.
struct Asking {
    how: How,
    id: Uuid,
    terms: Terms,
    /// All that the request may use.
    demand: Demand,
}

/// See the module's text. It has a task of its own, which ends with the value.
#[derive(Debug)]
pub struct Store {
    pub(super) inner: Arc<Inner>,
    pub(super) keeper: AbortHandle,
}

/// What the policies in force say of fences.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// The revision; 0 before any are known.
    pub(super) revision: u64,
    pub(super) fences: Vec<Arc<Fence>>,
}

/// What requests and the keeper share.
pub(super) struct Inner {
    pub(super) config: RedisConfig,
    pub(super) link: Link,
    pub(super) source: Arc<dyn Source>,
    /// The policies in force, as far as the store is concerned.
    pub(super) followed: ArcSwap<Followed>,
    /// Rung when there is something to ship.
    pub(super) wake: Notify,
    /// Up to where the journal is in the store.
    pub(super) acknowledged: AtomicU64,
    /// The highest position that this process has ever told a store, whether it answered or not.
    pub(super) told: AtomicU64,
    /// Since when a settlement waits to get there.
    pub(super) behind: Mutex<Option<Instant>>,
    /// The nodes that were heard of, and when: kept here for the case that the store forgets them.
    pub(super) peers: Mutex<Vec<(Peer, Instant)>>,
    /// What the others have settled.
    pub(super) mirror: Mutex<Mirror>,
    pub(super) board: Board,
    /// Whoever has it reads the stream: nobody else reads on meanwhile.
    pub(super) reading: tokio::sync::Mutex<()>,
    desk: Mutex<Desk>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("node", &self.source.node()).field("link", &self.link).finish_non_exhaustive()
    }
}

impl Inner {
    /// What is under way at this node.
    pub(super) fn desk(&self) -> MutexGuard<'_, Desk> {
        // Every step leaves the desk whole, so a panic elsewhere cannot leave it half changed.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.keeper.abort();
        self.inner.board.abort();
    }
}

/// A hold that is being asked for. Unless it is taken it leaves nothing behind, also when nobody waits for it any
/// more: a client that hangs up meanwhile drops the whole path.
struct Begun<'a> {
    inner: &'a Inner,
    id: Uuid,
    /// It ends with this value; a hold that asks for more keeps what it has.
    ends: bool,
    /// The store may have taken it.
    sent: bool,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if self.ends {
            self.inner.desk().refuse(self.id, self.sent);
        }
    }
}

impl Store {
    /// The store at `config` for the node whose books are `source`. It connects by itself, now and whenever it must;
    /// until then it is away. To be called within a runtime.
    pub fn start(config: RedisConfig, source: Arc<dyn Source>) -> Self {
        let mirrored = source.mirror().unwrap_or_else(|error| {
            tracing::error!(%error, "what other nodes have settled cannot be read");
            MirrorRow::default()
        });
        let inner = Arc::new(Inner {
            link: Link::new(config.timeout),
            config,
            mirror: Mutex::new(Mirror::from_row(mirrored)),
            reading: tokio::sync::Mutex::default(),
            source,
            followed: ArcSwap::default(),
            wake: Notify::new(),
            acknowledged: AtomicU64::new(0),
            told: AtomicU64::new(0),
            behind: Mutex::new(None),
            peers: Mutex::new(Vec::new()),
            board: Board::default(),
            desk: Mutex::new(Desk::default()),
        });
        let keeper = tokio::spawn(keeper::keep(Arc::clone(&inner))).abort_handle();
        Self { inner, keeper }
    }

    pub(super) const fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Says which fences the policies in force have, and of which revision they are (see
    /// [`Order::revision`](crate::ledger::Order)): how the fences stand is asked for every second, and where one runs in
    /// another window than the newest policies say, it is moved.
    pub fn follow<'a>(&self, revision: u64, fences: impl Iterator<Item = &'a Arc<Fence>>) {
        self.inner.followed.store(Arc::new(Followed { revision, fences: fences.cloned().collect() }));
    }

    /// Sets `demand` aside in all `fences` for a request that begins: all or none.
    ///
    /// # Errors
    /// [`HoldError::Refused`] names the first fence that has less left; [`HoldError::Away`].
    pub async fn hold(
        &self,
        id: Uuid,
        terms: Terms,
        demand: Demand,
        fences: &[Arc<Fence>],
        now: Timestamp,
    ) -> Result<Vec<Place>, HoldError> {
        let mut begun = Begun { inner: &self.inner, id, ends: true, sent: false };
        self.inner.desk().begin(id, terms.clone());
        let asking = Asking { how: How::Hold, id, terms, demand };
        let taken = self.take(&mut begun, &asking, &[], fences, now).await;
        begun.ends = taken.is_err();
        taken
    }

    /// Raises what a request holds, which is `mine`, to `whole` in all `fences`.
    ///
    /// # Errors
    /// As [`Store::hold`]; the hold stays as it was.
    pub async fn top_up(
        &self,
        id: Uuid,
        whole: Demand,
        mine: &[Place],
        fences: &[Arc<Fence>],
        now: Timestamp,
    ) -> Result<Vec<Place>, HoldError> {
        // One that ended meanwhile needs nothing more.
        let terms = self.inner.desk().terms(&id).ok_or(HoldError::Away)?;
        let asking = Asking { how: How::More, id, terms, demand: whole };
        let mut begun = Begun { inner: &self.inner, id, ends: false, sent: false };
        self.take(&mut begun, &asking, mine, fences, now).await
    }

    async fn take(
        &self,
        begun: &mut Begun<'_>,
        asking: &Asking,
        mine: &[Place],
        fences: &[Arc<Fence>],
        now: Timestamp,
    ) -> Result<Vec<Place>, HoldError> {
        if fences.is_empty() {
            return Ok(Vec::new());
        }
        let mut scraped = false;
        for attempt in 0..TRIES {
            let places = self.places(asking, mine, fences, now, attempt == 0);
            if self.may_use_slices(asking) && self.inner.desk().take_slices(asking.id, mine, &places) {
                return Ok(places);
            }
            let rest = self.inner.desk().remainder(asking.id, &places);
            begun.sent = true;
            let answer = match self.ask(asking, mine, &rest).await {
                Ok(answer) => answer,
                Err(failure) => {
                    begun.sent = failure == Failure::Unanswered;
                    return self.without(asking, places, &failure);
                }
            };
            begun.sent = false;
            match answer {
                Taken::Held(stands) => {
                    self.inner.desk().held(asking.id, &places, &stands);
                    return Ok(places);
                }
                // What is left may lie in our own slices.
                Taken::Short { .. } if !scraped && self.scrape(asking, mine, &places) => scraped = true,
                Taken::Short { index, used, cap } => return Err(refused(&places[index], used, cap)),
                Taken::Window { index, now_ms, running } => {
                    self.inner.desk().learn(&places[index].fence, running, now_ms, now);
                }
                Taken::Ended => break,
                Taken::Epoch(_) => {
                    self.inner.link.down("it has lost its data");
                    return self.without(asking, places, &Failure::Away("it has lost its data".into()));
                }
            }
        }
        Err(HoldError::Away)
    }

    fn places(
        &self,
        asking: &Asking,
        mine: &[Place],
        fences: &[Arc<Fence>],
        now: Timestamp,
        first: bool,
    ) -> Vec<Place> {
        let mut desk = self.inner.desk();
        let places = desk.places(fences, |unit| asking.demand.amount(unit), now);
        if first {
            desk.note(mine, &places, asking.terms.revision);
        }
        places
    }

    /// A team that is closed without the store spends nothing while it is away, not even what is leased.
    fn may_use_slices(&self, asking: &Asking) -> bool {
        asking.terms.on_store_loss != OnStoreLoss::Closed || self.inner.link.is_up()
    }

    /// Takes from slices what they have, so that the store is asked for the rest only.
    fn scrape(&self, asking: &Asking, mine: &[Place], places: &[Place]) -> bool {
        self.inner.desk().take_of_slices(asking.id, mine, places)
    }

    async fn ask(&self, asking: &Asking, mine: &[Place], places: &[Place]) -> Result<Taken, Failure> {
        let inner = &self.inner;
        let taking = Taking {
            how: asking.how,
            id: asking.id,
            ttl_ms: u64::try_from(HOLD_TTL.as_millis()).unwrap_or(u64::MAX),
            node: inner.source.node(),
            about: &asking.terms.about,
            revision: asking.terms.revision,
        };
        let binds = |fence: &Fence| asking.how == How::Hold || binds_midway(fence, mine);
        let answer = inner.link.call(|live| protocol::take(&live.wire, &live.epoch, &taking, places, binds)).await?;
        protocol::taken(answer).map_err(|unknown| Failure::Refused(unknown.to_string().into()))
    }

    /// What becomes of a request that the store did not answer.
    fn without(&self, asking: &Asking, places: Vec<Place>, failure: &Failure) -> Result<Vec<Place>, HoldError> {
        tracing::debug!(request = %asking.id, %failure, "a hold without the store");
        if let OnStoreLoss::Open(most) = asking.terms.on_store_loss {
            let spent = asking.demand.money.nanousd();
            if self.inner.desk().spend_open(asking.id, spent, most.nanousd()) {
                return Ok(places);
            }
        }
        Err(HoldError::Away)
    }

    /// Gives back a hold that could not be journaled: the request is refused.
    pub fn abandon(&self, id: Uuid) {
        self.inner.desk().refuse(id, true);
    }

    /// Notes that a request has ended, before `row` goes into the journal, from where it gets to the store.
    pub fn settling(&self, places: &[Place], row: &SettleRow) {
        let money = row.rows.iter().map(|row| row.charge_nanousd).fold(0, i64::saturating_add);
        self.inner.desk().settle(row.id, places, &row.places, money);
        let mut behind = self.inner.behind.lock().unwrap_or_else(PoisonError::into_inner);
        behind.get_or_insert_with(Instant::now);
    }

    /// Notes that something was journaled.
    pub fn journaled(&self) {
        self.inner.wake.notify_one();
    }

    /// What stood against `fence` when it was last asked about, with what this node has done since; nothing when it
    /// never was.
    pub fn level(&self, fence: &Fence, now: Timestamp) -> Level {
        self.inner.desk().level(fence, now)
    }
}

fn refused(place: &Place, used: i64, cap: i64) -> HoldError {
    let fence = Arc::clone(&place.fence);
    let renews_at = fence.per.is_some().then_some(place.window.end);
    // The cap in force may be another gateway's: what is left is what counts.
    let used = used.saturating_add(fence.cap.saturating_sub(cap));
    HoldError::Refused(Box::new(Refused { fence, used, wanted: place.amount, renews_at }))
}
