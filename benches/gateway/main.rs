//! `cargo bench --bench gateway`: Turnpike beside nginx and a floor, one core each, in alternating rounds.
//!
//! What is compared is taken within one run on one machine: CPU time of the proxy's process per request and per
//! streamed event, and times less those of the upstream itself (`direct`). Options, behind `--`:
//! `--quick` (a minute), `--rounds N`, `--only nginx,floor,turnpike`, `--measure requests,latency,paced,burst,memory,crowd`,
//! `--turnpike FILE` (another binary), `--window MS` (how long a closed loop is measured).
#![allow(clippy::float_arithmetic, reason = "figures of a measurement, never money")]

mod answer;
mod floor;
mod load;
mod measure;
mod nginx;
mod process;
mod report;
mod turnpike;
mod upstream;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::signal::unix::{SignalKind, signal};

use crate::measure::{Cores, Readings, Scale, Subject};
use crate::process::Process;
use crate::report::{Key, Report};

/// The same allocator as the `turnpike` binary, so that the floor is one for it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MEASURES: [&str; 6] = ["requests", "latency", "paced", "burst", "memory", "crowd"];
const PROXIES: [&str; 3] = ["nginx", "floor", "turnpike"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.context("no runtime").and_then(|runtime| match words[..] {
        ["floor", upstream] => upstream.parse().map_err(Into::into).and_then(|at| runtime.block_on(floor::serve(at))),
        _ if !words.contains(&"--bench") => {
            eprintln!("a measurement, not a test; hint: `cargo bench --bench gateway`");
            Ok(())
        }
        _ => Options::parse(&words).and_then(|options| runtime.block_on(until_stopped(options))),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the bench; a signal drops it, and with it every process that it started.
async fn until_stopped(options: Options) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        outcome = run(options) => outcome,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}

struct Options {
    rounds: usize,
    scale: Scale,
    only: Vec<&'static str>,
    measures: Vec<&'static str>,
    turnpike: PathBuf,
}

impl Options {
    fn parse(words: &[&str]) -> Result<Self> {
        let quick = words.contains(&"--quick");
        let [warm, window, crowd_events] = if quick { [200, 800, 50] } else { [300, 2_000, 200] };
        let (warm, window) = (Duration::from_millis(warm), Duration::from_millis(window));
        let mut options = Self {
            rounds: if quick { 1 } else { 3 },
            scale: Scale { warm, window, crowd_events },
            only: PROXIES.to_vec(),
            measures: MEASURES.to_vec(),
            turnpike: turnpike::program(),
        };
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("`{word}` wants a value"));
            match word {
                "--bench" | "--quick" => {}
                "--rounds" => options.rounds = value()?.parse()?,
                "--window" => options.scale.window = Duration::from_millis(value()?.parse()?),
                "--only" => options.only = chosen(value()?, &PROXIES)?,
                "--measure" => options.measures = chosen(value()?, &MEASURES)?,
                "--turnpike" => options.turnpike = std::fs::canonicalize(value()?)?,
                _ => bail!("unknown option `{word}`"),
            }
        }
        ensure!((1..=20).contains(&options.rounds), "between 1 and 20 rounds");
        ensure!(options.scale.window <= Duration::from_secs(60), "a window of at most 60000 ms");
        Ok(options)
    }
}

fn chosen(list: &str, known: &[&'static str]) -> Result<Vec<&'static str>> {
    let find = |name| known.iter().copied().find(|each| *each == name);
    list.split(',').map(|name| find(name).with_context(|| format!("`{name}` is none of {known:?}"))).collect()
}

struct Bench {
    options: Options,
    cores: Cores,
    folder: tempfile::TempDir,
    subjects: Vec<Subject>,
    report: Report,
}

async fn run(options: Options) -> Result<()> {
    let begin = Instant::now();
    let count = std::thread::available_parallelism()?.get();
    ensure!(count >= 2, "needs two cores: one for the proxy, one for load and upstream");
    let cores = Cores { proxy: 0, load: 1 };
    process::raise_open_files()?;
    process::pin(std::process::id(), cores.load)?;
    conditions(&options, count)?;
    let address = upstream::start().await?;
    // Not /tmp, which may lie in memory: the journal is to cost what it costs on a disk.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let direct = Subject { name: "direct", address, process: None };
    let mut bench = Bench { options, cores, folder, subjects: vec![direct], report: Report::default() };
    for name in bench.options.only.clone() {
        let (subject, _) = bench.start(name, "rounds")?;
        eprintln!("{name}: process {}", subject.process.as_ref().map_or(0, Process::pid));
        bench.subjects.push(subject);
    }
    for round in 0..bench.options.rounds {
        bench.round(round).await?;
    }
    let names: Vec<&'static str> = bench.subjects.iter().map(|subject| subject.name).collect();
    println!("{}", bench.report.table(&names));
    println!(
        "{} rounds in {:.0} s; ÷ = turnpike's, median (least–greatest) of the rounds' own ratios",
        bench.options.rounds,
        begin.elapsed().as_secs_f64()
    );
    Ok(())
}

impl Bench {
    /// Starts the proxy `name` with its files under `part`; returns also the milliseconds until it listened.
    fn start(&self, name: &'static str, part: &str) -> Result<(Subject, f64)> {
        let folder: &Path = &self.folder.path().join(part);
        let (core, upstream) = (self.cores.proxy, self.subjects[0].address);
        let begin = Instant::now();
        let (process, address) = match name {
            "nginx" => nginx::start(core, folder, upstream),
            "floor" => Process::start_part("floor", core, &["floor", &upstream.to_string()]),
            _ => turnpike::start(core, folder, upstream, &self.options.turnpike),
        }
        .with_context(|| format!("cannot start `{name}`"))?;
        let taken = begin.elapsed().as_secs_f64() * 1e3;
        Ok((Subject { name, address, process: Some(process) }, taken))
    }

    /// Every measure on every subject; each round begins with another subject.
    async fn round(&mut self, round: usize) -> Result<()> {
        for measure in self.options.measures.clone() {
            for at in 0..self.subjects.len() {
                let at = (at + round) % self.subjects.len();
                let name = self.subjects[at].name;
                eprintln!("round {}: {measure} of {name}", round + 1);
                for (key, value) in self.measure(measure, at).await.with_context(|| format!("{measure} of {name}"))? {
                    self.report.add(name, key, value);
                }
            }
        }
        Ok(())
    }

    async fn measure(&self, measure: &str, at: usize) -> Result<Readings> {
        let (subject, scale) = (&self.subjects[at], self.options.scale);
        match measure {
            "requests" => measure::requests(subject, scale).await,
            "latency" => measure::latency(subject, scale, self.cores).await,
            "paced" => measure::paced(subject, scale).await,
            "burst" => measure::burst(subject, scale).await,
            "crowd" => measure::crowd(subject, scale).await,
            _ if subject.process.is_none() => Ok(Vec::new()),
            _ => {
                // A process of its own: allocators keep what earlier loads needed.
                let (fresh, taken) = self.start(subject.name, "memory")?;
                let mut readings = measure::memory(&fresh).await?;
                readings.push((Key::Start, taken));
                Ok(readings)
            }
        }
    }
}

/// Prints what a reader must know to judge the figures.
fn conditions(options: &Options, cores: usize) -> Result<()> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("\t: unknown");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let load = std::fs::read_to_string("/proc/loadavg")?;
    println!("CPU {}, {} cores, Linux {}", model.trim_start_matches(['\t', ' ', ':']), cores, kernel.trim());
    if options.only.contains(&"nginx") {
        println!("{}, one process, proxy_buffering off, keep-alive to the upstream", nginx::version()?);
    }
    println!("turnpike {}: {}", env!("CARGO_PKG_VERSION"), options.turnpike.display());
    println!(
        "keep-alive, no TLS, loopback; request body {} B, answer body {} B; load average before: {}",
        load::REQUEST_BYTES,
        upstream::ANSWER_BYTES,
        load.split_whitespace().next().unwrap_or("?")
    );
    println!(
        "proxies on core 0, load and upstream on core 1 (latency: all on core 0); windows of {:?}; {} connections; paced: {} streams of {} events; burst: {} of {}; memory: {} open streams",
        options.scale.window,
        measure::CONNECTIONS,
        measure::PACED_STREAMS,
        measure::PACED_EVENTS,
        measure::BURST_STREAMS,
        measure::BURST_EVENTS,
        measure::OPEN_STREAMS
    );
    Ok(())
}
