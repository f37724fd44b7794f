//! What operators have switched off, where requests meet it: a caller is refused, a candidate is rejected, and what is
//! under way ends if they say so.
//!
//! Each attempt is entered in a table when it begins. A switch that cuts looks through the table and wakes those that it
//! is about; an attempt asks one atomic whether it is among them, and takes no lock while it runs but for one when its
//! stream begins. So does the end of the process, which streams are told of.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::{
    Gateway,
    auth::Caller,
    code::Code,
    live::Live,
    nobody::nobody,
    refusal::Refusal,
    toll::{Bill, Outcome, Verdict},
};
use crate::{
    base::catalog::Candidate,
    ledger::{
        acts::News,
        keys::KeyStore,
        row::switches::{SwitchKind, SwitchRow},
        switches::Known,
    },
    policy::Decision,
    telemetry::metrics::{Label, SwitchLabels},
};

/// The table is in so many parts, each with a lock of its own.
const PARTS: usize = 16;
/// When to come again to a gateway that is stopped: whoever takes its place is there soon.
const AGAIN: Duration = Duration::from_secs(1);
/// How often it is looked whether the streams are gone when the process ends.
const LOOK: Duration = Duration::from_millis(5);

/// The attempts under way.
#[derive(Debug, Default)]
pub struct Running {
    next: AtomicU64,
    /// Streams are to end.
    stopped: AtomicBool,
    parts: [Mutex<HashMap<u64, Run>>; PARTS],
}

/// One of them.
#[derive(Debug)]
struct Run {
    caller: Caller,
    candidate: Arc<Candidate>,
    /// Its client reads a stream.
    streams: bool,
    // None once it has been told.
    end: Option<oneshot::Sender<End>>,
}

/// Why an attempt is to end.
#[derive(Debug)]
pub enum End {
    /// A switch is about it.
    Switched(Arc<SwitchRow>),
    /// The process ends, and it is a stream.
    Stopped,
}

impl Run {
    /// Whether it heard it.
    fn tell(&mut self, why: End) -> bool {
        self.end.take().is_some_and(|end| end.send(why).is_ok())
    }
}

/// An attempt's place in the table; as a future it ends when a switch ends the attempt, with that switch.
pub struct Cut {
    gateway: Arc<Gateway>,
    id: u64,
    // None once it has come.
    end: Option<oneshot::Receiver<End>>,
}

impl Running {
    fn part(&self, id: u64) -> MutexGuard<'_, HashMap<u64, Run>> {
        let index = usize::try_from(id % PARTS as u64).unwrap_or(0);
        // A table of attempts is whole at every step.
        self.parts[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends every attempt that `row` is about; how many these were.
    fn cut(&self, row: &Arc<SwitchRow>) -> usize {
        self.tell(|run| is_about(row, &run.caller, &run.candidate).then(|| End::Switched(Arc::clone(row))))
    }

    /// Tells each attempt what `why` has for it; how many heard it.
    fn tell(&self, why: impl Fn(&Run) -> Option<End>) -> usize {
        let mut told = 0;
        for part in 0..PARTS as u64 {
            for run in self.part(part).values_mut() {
                told += why(run).map_or(0, |why| usize::from(run.tell(why)));
            }
        }
        told
    }

    /// Whether any stream is under way.
    fn any_stream(&self) -> bool {
        (0..PARTS as u64).any(|part| self.part(part).values().any(|run| run.streams))
    }
}

impl Cut {
    /// Enters an attempt of `caller` by `candidate`.
    pub fn enter(gateway: &Arc<Gateway>, caller: &Caller, candidate: &Arc<Candidate>) -> Self {
        let (end, receiver) = oneshot::channel();
        let id = gateway.running.next.fetch_add(1, Ordering::Relaxed);
        let run = Run { caller: caller.clone(), candidate: Arc::clone(candidate), streams: false, end: Some(end) };
        gateway.running.part(id).insert(id, run);
        Self { gateway: Arc::clone(gateway), id, end: Some(receiver) }
    }

    /// The client reads a stream of it from now on.
    pub fn streams(&self) {
        let running = &self.gateway.running;
        if let Some(run) = running.part(self.id).get_mut(&self.id) {
            run.streams = true;
            // Whoever stops them looks under the same lock afterwards.
            if running.stopped.load(Ordering::SeqCst) {
                run.tell(End::Stopped);
            }
        }
    }

    /// Why it is to end.
    pub fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<End> {
        let Some(end) = &mut self.end else { return Poll::Pending };
        match Pin::new(end).poll(context) {
            Poll::Ready(why) => {
                self.end = None;
                // Nobody can end it any more where its sender is gone.
                why.map_or(Poll::Pending, Poll::Ready)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Future for Cut {
    type Output = Arc<SwitchRow>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Arc<SwitchRow>> {
        match self.poll_end(context) {
            Poll::Ready(End::Switched(row)) => Poll::Ready(row),
            // Streams alone are told of the process's end.
            Poll::Ready(End::Stopped) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.gateway.running.part(self.id).remove(&self.id);
    }
}

/// Whether `row` is about an attempt of `caller` by `candidate`.
fn is_about(row: &SwitchRow, caller: &Caller, candidate: &Candidate) -> bool {
    match row.kind {
        SwitchKind::Team => caller.team.lineage().any(|team| *team.name == *row.name),
        SwitchKind::Key => *caller.key == *row.name,
        SwitchKind::Backend => *candidate.backend.name == *row.name,
        SwitchKind::Provider => *candidate.backend.provider == *row.name,
        SwitchKind::Model => *candidate.model.name == *row.name,
        // Whoever was dealt to an arm stays.
        SwitchKind::Arm => false,
    }
}

/// The switch by which a candidate is off.
pub fn off<'k>(known: &'k Known, candidate: &Candidate, now: Timestamp) -> Option<&'k Arc<SwitchRow>> {
    if known.is_empty() {
        return None;
    }
    let of = |kind, name: &str| known.off(kind, name, now);
    of(SwitchKind::Backend, &candidate.backend.name)
        .or_else(|| of(SwitchKind::Provider, candidate.backend.provider))
        .or_else(|| of(SwitchKind::Model, &candidate.model.name))
}

impl Gateway {
    /// Nobody may be tried, as the switches stand now.
    pub(super) fn nobody(&self, decision: &Decision) -> Refusal {
        let (known, now) = (self.ledger.books().switches().load(), self.now());
        nobody(decision, &|candidate| {
            let until = off(&known, candidate, now)?.until_ms?;
            u64::try_from(until.saturating_sub(now.as_millisecond())).ok().map(Duration::from_millis)
        })
    }
}

/// The switch by which a caller is off: its key's, its team's, or that of a team above.
fn caller_off<'k>(known: &'k Known, caller: &Caller, now: Timestamp) -> Option<&'k Arc<SwitchRow>> {
    if known.is_empty() {
        return None;
    }
    let of_team = || caller.team.lineage().find_map(|team| known.off(SwitchKind::Team, &team.name, now));
    known.off(SwitchKind::Key, &caller.key, now).or_else(of_team)
}

/// What a switch is of, why, by whom and until when: `provider openai: leaks (by ops)`.
pub fn told(row: &SwitchRow) -> String {
    format!("{} {}: {}", row.kind.as_str(), row.name, row.reason())
}

/// The end of an attempt that a switch has ended before it gave anything.
pub fn ended(row: &SwitchRow) -> Outcome {
    let (message, verdict) = (told(row), Verdict::Unknown);
    Outcome { label: "switched_off", status: 0, message, verdict, bill: Bill::Metered }
}

/// What is said to a caller that meets a switch of its own.
pub fn refusal(row: &SwitchRow) -> Refusal {
    Refusal::new(Code::SwitchedOff, format!("{} `{}` is switched off: {}", row.kind.as_str(), row.name, row.reason()))
}

/// What ends a stream that is cut.
pub fn ending(row: &SwitchRow) -> Refusal {
    let refusal = refusal(row);
    Refusal { message: format!("the answer ends here: {}", refusal.message), ..refusal }
}

/// What ends a stream when the process ends.
pub fn stopped() -> Refusal {
    Refusal::new(Code::Overloaded, "the answer ends here: this gateway is being stopped")
}

/// Whether a switch is of those who ask, so that nobody else may serve them either.
pub const fn is_of_caller(row: &SwitchRow) -> bool {
    matches!(row.kind, SwitchKind::Team | SwitchKind::Key)
}

impl Gateway {
    /// Refuses a caller that is switched off, and everybody once the process ends.
    pub(super) fn let_in(&self, caller: &Caller) -> Result<(), Refusal> {
        if self.running.stopped.load(Ordering::SeqCst) {
            return Err(Refusal::new(Code::Overloaded, "this gateway is being stopped").retry_after(Some(AGAIN)));
        }
        let known = self.ledger.books().switches().load();
        match caller_off(&known, caller, self.now()) {
            Some(row) => Err(refusal(row).to_team(&caller.team.name)),
            None => Ok(()),
        }
    }

    /// The switch that stands in the way of an attempt.
    pub(super) fn in_the_way(&self, caller: &Caller, candidate: &Candidate) -> Option<Arc<SwitchRow>> {
        let (known, now) = (self.ledger.books().switches().load(), self.now());
        caller_off(&known, caller, now).or_else(|| off(&known, candidate, now)).cloned()
    }

    /// Switches something off or on, here when this returns and at the other gateways of the deployment soon after.
    ///
    /// # Errors
    /// The system's error when it cannot be booked; then nothing is switched.
    pub fn switch(&self, row: SwitchRow) -> io::Result<()> {
        self.ledger.switch(row.clone())?;
        self.switched(row);
        Ok(())
    }

    /// Puts in force what has come from other gateways. It reads the keys' file: not for an async task.
    pub fn heard(&self, news: &News, keys: &KeyStore) {
        if news.keys {
            match keys.export() {
                Ok(snapshot) => self.replace_keys(snapshot),
                Err(error) => tracing::error!(%error, "keys of other gateways cannot be put in force"),
            }
        }
        for row in &news.switched {
            self.switched(row.clone());
        }
    }

    /// Ends all streams with an error event, now and from now on, lets nobody in who waits, and waits until the streams are
    /// settled and gone, so long at most: a client that does not read keeps nobody. How many there were.
    pub async fn end_streams(&self, patience: Duration) -> usize {
        self.running.stopped.store(true, Ordering::SeqCst);
        let ended = self.running.tell(|run| run.streams.then_some(End::Stopped));
        let gone = async {
            while self.running.any_stream() {
                tokio::time::sleep(LOOK).await;
            }
        };
        let _ = tokio::time::timeout(patience, gone).await;
        ended
    }

    fn switched(&self, row: SwitchRow) {
        let word = if row.off { "off" } else { "on" };
        if row.is_off(self.now()) {
            self.notices().switched(&self.policies(), &row, self.now());
        }
        let cut =
            if row.off && row.cut && row.is_off(self.now()) { self.running.cut(&Arc::new(row.clone())) } else { 0 };
        self.begin_anew(&row);
        tracing::warn!(kind = row.kind.as_str(), name = %row.name, by = %row.who, why = %row.why, cut, "switched {word}");
    }

    /// Says what is off. Keys are counted and not named: no metric names one.
    pub(super) fn show_switches(&self, live: &Live) {
        let (known, now) = (self.ledger.books().switches().load(), self.now());
        let metric = &self.metrics.switched_off;
        metric.clear();
        let labels = |kind: &str, name: Arc<str>| SwitchLabels { kind: Label(kind.into()), name: Label(name) };
        for backend in live.policies.backends.values() {
            metric.get_or_create(&labels("backend", backend.name.shared())).set(i64::from(backend.off.is_some()));
        }
        for row in known.rows().filter(|row| row.is_off(now)) {
            if row.kind == SwitchKind::Arm {
                // Shown with the splits that there are.
                continue;
            }
            if row.kind == SwitchKind::Key {
                metric.get_or_create(&labels("key", "".into())).inc();
            } else {
                metric.get_or_create(&labels(row.kind.as_str(), Arc::clone(&row.name))).set(1);
            }
        }
    }
}
