//! The gate: what a request passes before its body is read. It says who is let in when there is too much for all.
//!
//! Two things are scarce. Requests at once (`limits.in_flight`): beyond, the more important wait in line and the least
//! important are turned away. And processor time, whose want shows as lag: `policy::shed` then turns lower classes away
//! for the good of higher ones.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    Gateway,
    code::Code,
    lineup::Lineup,
    live::{lock, take_place},
    refusal::Refusal,
};
use crate::{
    base::priority::Priority,
    policy::shed::{self, Shedder},
    telemetry::metrics::{Label, ShedLabels},
};

/// When to come again for a place: nobody knows when one is free.
const SOON: Duration = Duration::from_secs(1);

/// The bounds of a [`Gate`].
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Requests at once.
    pub in_flight: u32,
    /// The longest wait in line.
    pub wait: Duration,
    /// The lag above which lower classes are turned away.
    pub lag: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { in_flight: 20_000, wait: Duration::from_secs(5), lag: Duration::from_millis(100) }
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct Gate {
    bounds: Bounds,
    inside: AtomicU32,
    line: Arc<Lineup>,
    shedder: Mutex<Shedder>,
    epoch: Instant,
}

/// A place inside, given back when it is dropped.
#[derive(Debug)]
pub struct Entry(Arc<Gate>);

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::AcqRel);
        self.0.line.call();
    }
}

/// What keeps a request out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scarce {
    /// The gateway itself is late.
    Lag,
    /// As many requests are under way as it takes.
    InFlight,
    /// Every backend that may serve it takes no more.
    Backend,
}

impl Scarce {
    /// The word in metrics.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Lag => "lag",
            Self::InFlight => "in_flight",
            Self::Backend => "backend",
        }
    }

    const fn told(self) -> &'static str {
        match self {
            Self::Lag => "the gateway is late, and more important requests go first",
            Self::InFlight => "as many requests are under way as this gateway takes",
            Self::Backend => "every backend that may serve this request has as many under way as it takes",
        }
    }
}

impl Gate {
    /// A gate with nobody inside.
    pub fn new(bounds: Bounds) -> Arc<Self> {
        let shedder = Mutex::new(Shedder::new(bounds.lag));
        let (inside, line, epoch) = (AtomicU32::new(0), Arc::default(), Instant::now());
        Arc::new(Self { bounds, inside, line, shedder, epoch })
    }

    /// Whether lower classes are turned away, or wait.
    pub fn is_pressed(&self) -> bool {
        lock(&self.shedder).is_pressed() || self.line.len() > 0
    }

    /// Whether a class is let in, as far as processor time goes.
    pub fn admits(&self, class: Priority) -> bool {
        lock(&self.shedder).admits(class, self.epoch.elapsed())
    }

    /// The longest that a request waits in a line.
    pub fn patience(&self) -> Duration {
        self.bounds.wait
    }

    /// Lets a request in, at once or after a wait in line; `by` is when its client will no longer wait.
    ///
    /// # Errors
    /// What there was too little of.
    pub async fn enter(self: &Arc<Self>, class: Priority, by: Option<Instant>) -> Result<Entry, Scarce> {
        if !self.admits(class) {
            return Err(Scarce::Lag);
        }
        if self.line.may_pass(class)
            && let Some(entry) = self.take()
        {
            return Ok(entry);
        }
        let mut waiter = self.line.join(class).ok_or(Scarce::InFlight)?;
        // A place that was given back just before would be nobody's.
        if self.inside.load(Ordering::Acquire) < self.bounds.in_flight {
            self.line.call();
        }
        let longest = Instant::now() + self.bounds.wait;
        let waiting = async {
            loop {
                waiter.called().await;
                if let Some(entry) = self.take() {
                    waiter.seated();
                    return entry;
                }
                waiter.wait_on();
            }
        };
        timeout_at(by.map_or(longest, |by| by.min(longest)), waiting).await.map_err(|_| Scarce::InFlight)
    }

    fn take(self: &Arc<Self>) -> Option<Entry> {
        take_place(&self.inside, Some(self.bounds.in_flight)).then(|| Entry(Arc::clone(self)))
    }
}

impl Gateway {
    /// Refuses a request for which there is too little of something.
    pub(super) fn overloaded(&self, class: Priority, scarce: Scarce) -> Refusal {
        let labels = ShedLabels { priority: Label(class.as_str().into()), by: Label(scarce.as_str().into()) };
        self.metrics.shed.get_or_create(&labels).inc();
        Refusal::new(Code::Overloaded, scarce.told())
            .retry_after((class > Priority::Sheddable).then_some(SOON))
            .detail("priority", class.as_str())
    }

    /// Shows how full it is.
    pub(super) fn show_gate(&self) {
        let gate = &self.gate;
        self.metrics.in_flight.set(gate.inside.load(Ordering::Relaxed).into());
        self.metrics.queued.set(i64::try_from(gate.line.len()).unwrap_or(i64::MAX));
        self.metrics.lag.set(lock(&gate.shedder).lag().as_secs_f64());
    }
}

/// Tells the gate by how much the gateway is late, for as long as it runs.
pub async fn keep_time(gateway: Arc<Gateway>) {
    let mut next = Instant::now() + shed::TICK;
    loop {
        sleep_until(next).await;
        let now = Instant::now();
        lock(&gateway.gate.shedder).tick(now - next);
        // What is late is told once, and not made up for.
        next = now + shed::TICK;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Priority::{Critical, Sheddable, Standard};

    fn gate(in_flight: u32) -> Arc<Gate> {
        Gate::new(Bounds { in_flight, wait: Duration::from_secs(60), ..Bounds::default() })
    }

    #[tokio::test]
    async fn who_waits_is_let_in_by_class_and_the_least_important_is_not_made_to_wait() {
        let gate = gate(1);
        let entry = gate.enter(Sheddable, None).await.unwrap();
        assert_eq!(gate.enter(Sheddable, None).await.unwrap_err(), Scarce::InFlight);
        let wait = |class| {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move { gate.enter(class, None).await.unwrap() })
        };
        let standard = wait(Standard);
        tokio::task::yield_now().await;
        let critical = wait(Critical);
        tokio::task::yield_now().await;
        assert!(gate.is_pressed());
        drop(entry);
        let entry = critical.await.unwrap();
        assert!(!standard.is_finished());
        drop(entry);
        drop(standard.await.unwrap());
        assert_eq!((gate.inside.load(Ordering::Relaxed), gate.is_pressed()), (0, false));
    }

    #[tokio::test]
    async fn nobody_waits_longer_than_its_client_or_the_bound() {
        let bounds = Bounds { in_flight: 1, wait: Duration::from_millis(20), ..Bounds::default() };
        let gate = Gate::new(bounds);
        let _entry = gate.enter(Standard, None).await.unwrap();
        assert_eq!(gate.enter(Critical, None).await.unwrap_err(), Scarce::InFlight);
        let gate = Gate::new(Bounds { wait: Duration::from_secs(600), ..bounds });
        let _entry = gate.enter(Standard, None).await.unwrap();
        let by = Some(Instant::now() + Duration::from_millis(20));
        assert_eq!(gate.enter(Critical, by).await.unwrap_err(), Scarce::InFlight);
        assert_eq!(gate.line.len(), 0);
    }

    #[tokio::test]
    async fn ten_thousand_who_come_and_go_leave_every_place_free() {
        let gate = gate(3);
        let comers = (0..10_000_usize).map(|number| {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move {
                let class = Priority::ALL[number % 3];
                let entering = gate.enter(class, None);
                // Some leave while they wait.
                let entered = tokio::time::timeout(Duration::from_micros((number % 50) as u64 * 20), entering).await;
                if let Ok(Ok(entry)) = entered {
                    tokio::task::yield_now().await;
                    drop(entry);
                }
            })
        });
        for comer in comers.collect::<Vec<_>>() {
            comer.await.unwrap();
        }
        assert_eq!((gate.inside.load(Ordering::Relaxed), gate.line.len()), (0, 0));
    }
}
