//! Time in which this process was there to listen.
//!
//! A store's silence can be told only by somebody who listens. On busy cores it is this process that is not run: its
//! tasks wait in queues, an answer lies unread, and the clock on the wall would take that for the store's silence. So
//! silence is counted in time that a beat has witnessed: a task that sleeps for [`BEAT`] again and again, by the same
//! timers and in the same queues as whoever reads the connection. Of what passes from one beat to the next at most
//! [`WITNESSED`] counts. While beats come in time this is the time of the wall; a process that comes round every 100 ms
//! lives 10 ms of each, so that a silence of 25 ms takes three rounds, in each of which what had arrived was read.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{Instant, sleep},
};

/// How often time is witnessed.
const BEAT: Duration = Duration::from_millis(5);
/// The most that counts of what passes from one beat to the next.
const WITNESSED: Duration = Duration::from_millis(10);
/// After so many beats that nobody needed they rest, until somebody listens again.
const NEEDLESS: u32 = 200;

/// See the module's text. Its task ends with the value.
#[derive(Debug)]
pub(super) struct Presence {
    shared: Arc<Shared>,
    beats: Option<AbortHandle>,
}

#[derive(Debug)]
struct Shared {
    witness: Mutex<Witness>,
    wake: Notify,
}

/// What is known of the time: a state machine on given instants.
#[derive(Clone, Copy, Debug)]
struct Witness {
    lived: Duration,
    at: Instant,
    listeners: usize,
    needless: u32,
    resting: bool,
}

/// Somebody who listens: beats come as long as there is one.
#[derive(Debug)]
pub(super) struct Listening<'a>(&'a Shared);

impl Witness {
    fn new(at: Instant) -> Self {
        Self { lived: Duration::ZERO, at, listeners: 0, needless: 0, resting: true }
    }

    /// The time lived until `now`. While nobody listens nothing can be missed, so that all of a rest counts.
    fn read(&self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.at);
        self.lived + if self.resting { passed } else { passed.min(WITNESSED) }
    }

    fn beat(&mut self, now: Instant) {
        (self.lived, self.at) = (self.read(now), now.max(self.at));
        self.needless = if self.listeners == 0 { self.needless + 1 } else { 0 };
        self.resting = self.needless >= NEEDLESS;
    }

    /// Somebody begins to listen; whether the beats have to be woken.
    fn join(&mut self, now: Instant) -> bool {
        self.listeners += 1;
        let rested = self.resting;
        if rested {
            self.beat(now);
        }
        rested
    }
}

impl Shared {
    fn witness(&self) -> MutexGuard<'_, Witness> {
        // Each step leaves it whole.
        self.witness.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Presence {
    /// One whose time begins now. To be called within a runtime.
    pub(super) fn start() -> Self {
        let mut presence = Self::unattended();
        presence.beats = Some(tokio::spawn(beat(Arc::clone(&presence.shared))).abort_handle());
        presence
    }

    /// One without beats.
    fn unattended() -> Self {
        let witness = Mutex::new(Witness::new(Instant::now()));
        Self { shared: Arc::new(Shared { witness, wake: Notify::new() }), beats: None }
    }

    /// The time lived so far.
    pub(super) fn now(&self) -> Duration {
        self.shared.witness().read(Instant::now())
    }

    /// Listens until the value is dropped.
    pub(super) fn listen(&self) -> Listening<'_> {
        if self.shared.witness().join(Instant::now()) {
            self.shared.wake.notify_one();
        }
        Listening(&self.shared)
    }

    /// Waits until `moment` has been lived; somebody must listen meanwhile.
    pub(super) async fn reach(&self, moment: Duration) {
        while let left @ 1.. = moment.saturating_sub(self.now()).as_nanos() {
            sleep(Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX))).await;
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Some(beats) = &self.beats {
            beats.abort();
        }
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.witness().listeners -= 1;
    }
}

async fn beat(shared: Arc<Shared>) {
    loop {
        if shared.witness().resting {
            shared.wake.notified().await;
        }
        sleep(BEAT).await;
        shared.witness().beat(Instant::now());
    }
}

#[cfg(test)]
impl Presence {
    /// One that lives only what it is told to, for tests of those who count in its time.
    pub(super) fn by_hand() -> Self {
        let presence = Self::unattended();
        presence.shared.witness().resting = false;
        presence
    }

    /// Whether nobody listens yet.
    pub(super) fn is_unheard(&self) -> bool {
        self.shared.witness().listeners == 0
    }

    /// So many beats that came in time.
    pub(super) fn beats(&self, count: u32) {
        let mut witness = self.shared.witness();
        witness.lived += BEAT * count;
        witness.at = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn listened_to() -> (Witness, Instant) {
        let began = Instant::now();
        let mut witness = Witness::new(began);
        assert!(witness.join(began));
        (witness, began)
    }

    #[test]
    fn beats_in_time_are_the_time_of_the_wall() {
        let (mut witness, began) = listened_to();
        for beat in 1..=50 {
            witness.beat(began + 6 * MS * beat);
        }
        assert_eq!(witness.read(began + 300 * MS), 300 * MS);
        assert_eq!(witness.read(began + 307 * MS), 307 * MS);
    }

    #[test]
    fn of_a_time_in_which_the_process_was_not_run_little_counts() {
        let (mut witness, began) = listened_to();
        // Not run for 245 ms, then just before the end of 250 ms.
        assert_eq!(witness.read(began + 245 * MS), 10 * MS);
        witness.beat(began + 245 * MS);
        assert_eq!(witness.read(began + 250 * MS), 15 * MS);
        for round in 1..=10 {
            witness.beat(began + 245 * MS + 100 * MS * round);
        }
        assert_eq!(witness.read(began + 1_245 * MS), 110 * MS);
    }

    #[test]
    fn a_rest_counts_whole_and_ends_with_the_first_who_listens() {
        let (mut witness, mut now) = listened_to();
        witness.listeners = 0;
        for _ in 0..NEEDLESS {
            assert!(!witness.resting);
            now += BEAT;
            witness.beat(now);
        }
        assert!(witness.resting);
        let lived = witness.read(now);
        now += 60_000 * MS;
        assert_eq!(witness.read(now), lived + 60_000 * MS);
        assert!(witness.join(now) && !witness.join(now));
        assert_eq!(witness.read(now + 60_000 * MS), lived + 60_010 * MS);
    }

    #[test]
    fn time_never_goes_back() {
        let (mut witness, began) = listened_to();
        let mut before = Duration::ZERO;
        for step in [3, 30, 2, 2, 400, 1, 9] {
            let later = witness.at + step * MS;
            let read = witness.read(later);
            assert!(read >= before);
            witness.beat(later);
            assert_eq!(witness.read(later), read);
            assert_eq!(witness.read(began), read, "an instant of before counts for nothing");
            before = read;
        }
    }

    #[tokio::test]
    async fn it_beats_while_somebody_listens() {
        let presence = Presence::start();
        let _listening = presence.listen();
        let moment = presence.now() + 20 * BEAT;
        presence.reach(moment).await;
        assert!(presence.now() >= moment);
    }
}
