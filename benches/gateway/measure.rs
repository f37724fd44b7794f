//! The measures: each puts one load on one subject and reads what it cost.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::load::{Ask, Outcome, Plan, Running, Sample};
use crate::process::{CpuReading, Process, pin, resident};
use crate::report::Key;

/// Connections of the request measure.
pub const CONNECTIONS: u32 = 64;
/// Streams at once in the paced measure, each of `PACED_EVENTS` events.
pub const PACED_STREAMS: u32 = 300;
/// Events of a paced stream, 20 ms apart: one second.
pub const PACED_EVENTS: u64 = 50;
/// Streams at once in the burst measure, each of `BURST_EVENTS` events.
pub const BURST_STREAMS: u32 = 16;
/// Events of a burst, each its own write of the upstream.
pub const BURST_EVENTS: u64 = 200;
/// Streams held open while memory is read.
pub const OPEN_STREAMS: u32 = 500;
/// Streams at once in the crowd measure.
pub const CROWD: u32 = 1_000;
/// Milliseconds between the events of a paced stream.
const PACE: u64 = 20;

/// One thing that is measured: a proxy, or the upstream itself (`direct`).
pub struct Subject {
    /// Its column in the table.
    pub name: &'static str,
    /// Where it takes requests.
    pub address: SocketAddr,
    /// Its process; none for `direct`, whose CPU time is the load's own.
    pub process: Option<Process>,
}

/// How long the loads run.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Time between the start of a load and its first reading.
    pub warm: Duration,
    /// Time between readings of a closed loop.
    pub window: Duration,
    /// Events of each stream of the crowd, 20 ms apart.
    pub crowd_events: u64,
}

/// The two cores: one for the proxy that is measured, one for everything else.
#[derive(Clone, Copy, Debug)]
pub struct Cores {
    /// The proxies' core.
    pub proxy: usize,
    /// The core of the load generator and the upstream.
    pub load: usize,
}

/// Readings of one measure.
pub type Readings = Vec<(Key, f64)>;

impl Subject {
    fn cpu(&self) -> Result<Option<CpuReading>> {
        self.process.as_ref().map(|process| CpuReading::of(process.pid())).transpose()
    }
}

/// What a closed loop counted between two readings.
struct Window {
    answers: f64,
    events: f64,
    seconds: f64,
    cpu: Option<Duration>,
    waited: Option<Duration>,
    samples: Vec<Sample>,
}

/// Keeps this thread, and with it the load's core, from ever going to sleep.
///
/// Waking a core that sleeps costs the sender an interrupt, in a virtual machine several microseconds. A fast proxy
/// keeps the load's core awake and never pays it, a slow one pays it with every write: what is measured would depend
/// on how idle the *load* is. With peers behind a network card nobody pays it.
struct Awake(AbortHandle);

impl Awake {
    fn keep() -> Self {
        let spin = async {
            loop {
                tokio::task::yield_now().await;
            }
        };
        Self(tokio::spawn(spin).abort_handle())
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn closed_loop(subject: &Subject, plan: Plan, scale: Scale) -> Result<Window> {
    let running = Running::start(subject.address, plan).await?;
    sleep(plan.spread + scale.warm).await;
    running.record();
    let (counts, cpu) = (running.counts(), subject.cpu()?);
    sleep(scale.window).await;
    let (counts_after, cpu_after) = (running.counts(), subject.cpu()?);
    let samples = checked(subject, running.finish().await?)?;
    let waited = cpu_after.as_ref().zip(cpu.as_ref()).map(|(after, before)| after.waited_since(before));
    let cpu = cpu_after.zip(cpu).map(|(after, before)| after.since(&before));
    Ok(Window {
        answers: (counts_after.answers - counts.answers) as f64,
        events: (counts_after.events - counts.events) as f64,
        seconds: (counts_after.at - counts.at).as_secs_f64(),
        cpu,
        waited,
        samples,
    })
}

/// The samples, unless anything went wrong: figures that hide failed requests are worth nothing.
fn checked(subject: &Subject, outcome: Outcome) -> Result<Vec<Sample>> {
    match outcome.first_error {
        Some(first) => bail!("`{}` failed {} requests, the first with: {first}", subject.name, outcome.errors),
        None => Ok(outcome.samples),
    }
}

/// CPU per request, requests per second and how busy the proxy's core was.
pub async fn requests(subject: &Subject, scale: Scale) -> Result<Readings> {
    let _awake = Awake::keep();
    let plan = Plan { ask: Ask::Answer, connections: CONNECTIONS, spread: Duration::ZERO, once: false };
    let window = closed_loop(subject, plan, scale).await?;
    let mut readings = vec![(Key::RequestRate, window.answers / window.seconds)];
    if let Some(cpu) = window.cpu {
        readings.push((Key::RequestCpu, micros(cpu) / window.answers));
        readings.push((Key::RequestBusy, cpu.as_secs_f64() / window.seconds * 100.0));
    }
    readings.extend(window.waited.map(|waited| (Key::Waited, waited.as_secs_f64() / window.seconds * 100.0)));
    Ok(readings)
}

/// Latency of one connection with everything on one core, where no idle core has to be woken.
pub async fn latency(subject: &Subject, scale: Scale, cores: Cores) -> Result<Readings> {
    let own = std::process::id();
    pin(own, cores.proxy)?;
    let plan = Plan { ask: Ask::Answer, connections: 1, spread: Duration::ZERO, once: false };
    let window = closed_loop(subject, plan, scale).await;
    pin(own, cores.load)?;
    let times = sorted(window?.samples.iter().map(|sample| sample.total));
    Ok(vec![(Key::LatencyMiddle, micros(quantile(&times, 0.5))), (Key::LatencyTail, micros(quantile(&times, 0.99)))])
}

/// CPU per event of streams at the pace of a model, and the time to their first byte.
pub async fn paced(subject: &Subject, scale: Scale) -> Result<Readings> {
    let _awake = Awake::keep();
    let ask = Ask::Stream { events: PACED_EVENTS, pace: PACE };
    let spread = Duration::from_millis(PACED_EVENTS * PACE);
    let plan = Plan { ask, connections: PACED_STREAMS, spread, once: false };
    let window = closed_loop(subject, plan, scale).await?;
    let first = sorted(window.samples.iter().map(|sample| sample.first));
    let mut readings =
        vec![(Key::FirstMiddle, millis(quantile(&first, 0.5))), (Key::FirstTail, millis(quantile(&first, 0.99)))];
    readings.extend(window.cpu.map(|cpu| (Key::PacedCpu, micros(cpu) / window.events)));
    Ok(readings)
}

/// CPU per event of streams that come as fast as they go.
pub async fn burst(subject: &Subject, scale: Scale) -> Result<Readings> {
    let _awake = Awake::keep();
    let ask = Ask::Stream { events: BURST_EVENTS, pace: 0 };
    let plan = Plan { ask, connections: BURST_STREAMS, spread: Duration::ZERO, once: false };
    let window = closed_loop(subject, plan, scale).await?;
    let mut readings = vec![(Key::BurstRate, window.events / window.seconds / 1_000.0)];
    readings.extend(window.cpu.map(|cpu| (Key::BurstCpu, micros(cpu) / window.events)));
    Ok(readings)
}

/// Resident memory of a fresh process, and what each open stream adds to it.
pub async fn memory(subject: &Subject) -> Result<Readings> {
    let Some(process) = &subject.process else { return Ok(Vec::new()) };
    sleep(Duration::from_millis(300)).await;
    let rest = resident(process.pid())?;
    // What a first request loads for good is no stream's.
    let ask = Ask::Stream { events: 8, pace: 0 };
    let plan = Plan { ask, connections: 1, spread: Duration::ZERO, once: true };
    checked(subject, Running::start(subject.address, plan).await?.finish().await?)?;
    sleep(Duration::from_millis(700)).await;
    let used = resident(process.pid())?;
    let ask = Ask::Stream { events: 8, pace: 200 };
    let plan = Plan { ask, connections: OPEN_STREAMS, spread: Duration::from_millis(100), once: true };
    let running = Running::start(subject.address, plan).await?;
    sleep(Duration::from_millis(1_000)).await;
    let open = resident(process.pid())?;
    checked(subject, running.finish().await?)?;
    let per_stream = open.saturating_sub(used) as f64 / f64::from(OPEN_STREAMS);
    Ok(vec![
        (Key::MemoryRest, rest as f64 / 1e6),
        (Key::MemoryUsed, used as f64 / 1e6),
        (Key::MemoryStream, per_stream / 1e3),
    ])
}

/// A thousand streams of 50 events a second, all begun at once.
pub async fn crowd(subject: &Subject, scale: Scale) -> Result<Readings> {
    let ask = Ask::Stream { events: scale.crowd_events, pace: PACE };
    let plan = Plan { ask, connections: CROWD, spread: Duration::ZERO, once: true };
    let _awake = Awake::keep();
    let begin = Instant::now();
    let cpu = subject.cpu()?;
    let running = Running::start(subject.address, plan).await?;
    running.record();
    let events = CROWD as f64 * scale.crowd_events as f64;
    let limit = Duration::from_millis(scale.crowd_events * PACE) * 4 + Duration::from_secs(5);
    while running.counts().answers < u64::from(CROWD) && begin.elapsed() < limit && !running.has_failed() {
        sleep(Duration::from_millis(20)).await;
    }
    let cpu_after = subject.cpu()?;
    let samples = checked(subject, running.finish().await?)?;
    let times = sorted(samples.iter().map(|sample| sample.total));
    let ideal = (scale.crowd_events * PACE) as f64;
    let mut readings = vec![
        (Key::CrowdMiddle, millis(quantile(&times, 0.5)) / ideal),
        (Key::CrowdTail, millis(quantile(&times, 0.99)) / ideal),
    ];
    let spent = cpu_after.zip(cpu).map(|(after, before)| after.since(&before));
    readings.extend(spent.map(|cpu| (Key::CrowdCpu, micros(cpu) / events)));
    Ok(readings)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn sorted(times: impl Iterator<Item = Duration>) -> Vec<Duration> {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times
}

/// The smallest time that at least `share` of the sorted times do not exceed; zero when there are none.
fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}
