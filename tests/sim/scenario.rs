//! What happens in a run: servers, load, and what goes wrong when.

use crate::load::Mix;

/// A second, in the simulator's microseconds.
pub const SECOND: u64 = 1_000_000;

/// How a server behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As it should.
    Sound,
    /// It answers everything with a 500 within 2 ms.
    FailsFast,
    /// No connection.
    Refuses,
    /// It answers 429 beyond so many requests a second, and asks for two seconds of rest.
    Quota(u64),
}

/// Something that changes at a time.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub at: u64,
    pub server: usize,
    pub mode: Mode,
}

/// One kind of run.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: &'static str,
    /// Own servers, each with how slow it is in thousandths.
    pub servers: Vec<u64>,
    /// Paid vendors behind them, as the last candidates.
    pub vendors: usize,
    /// Requests a second.
    pub rate: f64,
    pub mix: Mix,
    pub seconds: u64,
    pub gateways: usize,
    /// How often each gateway reads the engines' own load; `None` = never.
    pub scrape: Option<u64>,
    /// What would wait longer for its turn at own servers goes to a vendor, in milliseconds.
    pub spill: Option<u64>,
    pub changes: Vec<Change>,
    /// Refusals lower what is sent to an account at once.
    pub adaptive: bool,
    /// From, until, and how many times the load.
    pub burst: Option<(u64, u64, f64)>,
    /// The most that the 99th percentile of the time to the first token may be, in seconds.
    pub bar: Option<f64>,
    /// What fails here fails a client at most so often, in parts per million.
    pub errors_ppm: u64,
}

const USUAL: Mix = Mix { continued: 60, hot: 0 };
/// Requests a second for eight servers: so many that LMetric has 0.37 s at the 99th percentile, about as where the bars
/// come from (0.38 s).
const RATE: f64 = 72.0;

impl Scenario {
    fn of(name: &'static str, servers: Vec<u64>, rate: f64) -> Self {
        Self {
            name,
            servers,
            vendors: 0,
            rate,
            mix: USUAL,
            seconds: 60,
            gateways: 1,
            scrape: None,
            spill: None,
            changes: Vec::new(),
            adaptive: true,
            burst: None,
            bar: None,
            errors_ppm: 0,
        }
    }

    /// All of them.
    pub fn all() -> Vec<Self> {
        let usual = |name| Self::of(name, vec![1_000; 8], RATE);
        let change = |at, server, mode| Change { at: at * SECOND, server, mode };
        let mut mixed = vec![700; 3];
        mixed.extend([1_000, 1_000, 1_500, 2_000, 3_000]);
        let mut degraded = vec![1_000; 8];
        degraded[3] = 6_000;
        let two_vendors = |name| Self { vendors: 2, ..Self::of(name, Vec::new(), 20.0) };
        vec![
            Self { bar: Some(0.40), ..usual("homogeneous") },
            Self { bar: Some(0.60), ..Self::of("mixed speeds", mixed, RATE * 0.9) },
            Self { bar: Some(0.45), ..Self::of("one 6x slower", degraded, RATE * 0.9) },
            Self {
                changes: vec![change(15, 2, Mode::FailsFast), change(40, 2, Mode::Sound)],
                errors_ppm: 1_000,
                ..Self::of("one fails fast", vec![1_000; 8], RATE * 0.8)
            },
            Self {
                changes: vec![change(20, 5, Mode::Refuses), change(25, 5, Mode::Sound)],
                errors_ppm: 1_000,
                ..Self::of("cold restart", vec![1_000; 8], RATE * 0.8)
            },
            Self { burst: Some((25 * SECOND, 28 * SECOND, 5.0)), ..Self::of("burst x 5", vec![1_000; 8], RATE * 0.6) },
            Self { mix: Mix { hot: 50, ..USUAL }, ..usual("one hot prefix") },
            Self { gateways: 4, ..usual("4 gateways") },
            Self { gateways: 4, scrape: Some(SECOND), ..usual("4 gateways, scraped") },
            Self {
                vendors: 1,
                gateways: 8,
                scrape: Some(SECOND),
                spill: Some(500),
                ..Self::of("spill, 8 gateways", vec![4_000; 8], RATE * 0.5)
            },
            Self {
                changes: vec![change(10, 0, Mode::Quota(5)), change(40, 0, Mode::Sound)],
                ..two_vendors("429 storm")
            },
            Self {
                changes: vec![change(10, 0, Mode::FailsFast), change(40, 0, Mode::Sound)],
                ..two_vendors("provider outage")
            },
        ]
    }

    /// The same in a quarter of the time, for runs that are many.
    pub fn brief(self) -> Self {
        let changes = self.changes.into_iter().map(|change| Change { at: change.at / 4, ..change }).collect();
        let burst = self.burst.map(|(from, until, times)| (from / 4, until / 4, times));
        Self { changes, burst, seconds: self.seconds / 4, ..self }
    }

    /// Whether which replica is chosen makes a difference.
    pub fn has_choice(&self) -> bool {
        !self.servers.is_empty()
    }
}
