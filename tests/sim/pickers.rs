//! The algorithms that ours is compared with, and ours.
//!
//! All go through the same [`Pool`](turnpike::policy::balance::Pool): retries, the 5 s after a failure, ejection and
//! slow start are the same for each, so that only the choice among sound replicas differs.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use turnpike::policy::balance::{Balancer, ReplicaId, Scene, by_name, warm_tokens};

/// Rows of the table.
pub const PICKERS: &[&str] =
    &["random", "round robin", "least request", "P2C peak-EWMA", "bounded-load hash", "LMetric", "least_loaded", OURS];
/// Ours.
pub const OURS: &str = "prefix (ours)";

/// One of them.
pub struct Picker {
    balancer: Kind,
}

enum Kind {
    Of(&'static dyn Balancer),
    Peak(PeakEwma),
}

impl Picker {
    /// One of [`PICKERS`], that has seen nothing yet.
    pub fn named(name: &'static str) -> Picker {
        let balancer = match name {
            "random" => Kind::Of(&Random),
            "round robin" => Kind::Of(by_name("round_robin")),
            "least request" => Kind::Of(&LeastRequest),
            "P2C peak-EWMA" => Kind::Peak(PeakEwma::default()),
            "bounded-load hash" => Kind::Of(by_name("sticky")),
            "LMetric" => Kind::Of(&LMetric),
            "least_loaded" => Kind::Of(by_name("least_loaded")),
            _ => Kind::Of(by_name("prefix")),
        };
        Picker { balancer }
    }

    pub fn balancer(&self) -> &dyn Balancer {
        match &self.balancer {
            Kind::Of(balancer) => *balancer,
            Kind::Peak(peak) => peak,
        }
    }

    /// A first token came from a replica of a gateway.
    pub fn observed(&self, replica: ReplicaId, took: Duration, now: Duration) {
        if let Kind::Peak(peak) = &self.balancer {
            peak.observed(replica, took, now);
        }
    }
}

struct Random;

impl Balancer for Random {
    fn name(&self) -> &'static str {
        "random"
    }

    fn pick(&self, scene: &Scene<'_>) -> Option<usize> {
        scene.draw(0).checked_rem(scene.sound.len() as u64).map(|place| place as usize)
    }
}

struct LeastRequest;

impl Balancer for LeastRequest {
    fn name(&self) -> &'static str {
        "least request"
    }

    fn pick(&self, scene: &Scene<'_>) -> Option<usize> {
        scene.least(|replica| replica.in_flight(scene.now))
    }
}

struct LMetric;

impl Balancer for LMetric {
    fn name(&self) -> &'static str {
        "LMetric"
    }

    fn needs_blocks(&self) -> bool {
        true
    }

    fn pick(&self, scene: &Scene<'_>) -> Option<usize> {
        scene.least(|replica| {
            let new = scene.ask.tokens - warm_tokens(scene.ask, replica.warm_blocks(scene.ask.blocks));
            u128::from(new + replica.queued_tokens() + 1) * u128::from(replica.in_flight(scene.now) + 1)
        })
    }
}

/// Of two drawn at random, the one with less of latency × (in flight + 1); latency jumps to peaks and fades in 10 s.
#[derive(Default)]
struct PeakEwma(Mutex<HashMap<ReplicaId, (f64, Duration)>>);

impl PeakEwma {
    fn observed(&self, replica: ReplicaId, took: Duration, now: Duration) {
        let mut seen = self.0.lock().unwrap();
        let (mean, at) = seen.entry(replica).or_insert((0.0, now));
        let (took, kept) = (took.as_secs_f64(), (-(now.saturating_sub(*at)).as_secs_f64() / 10.0).exp());
        *mean = if took > *mean { took } else { took + (*mean - took) * kept };
        *at = now;
    }

    fn cost(&self, scene: &Scene<'_>, place: usize) -> f64 {
        let replica = scene.sound[place];
        let seen = self.0.lock().unwrap();
        let latency = seen
            .get(&replica.id())
            .map_or(0.0, |(mean, at)| mean * (-(scene.now.saturating_sub(*at)).as_secs_f64() / 10.0).exp());
        (latency + 0.001) * (replica.in_flight(scene.now) + 1) as f64
    }
}

impl Balancer for PeakEwma {
    fn name(&self) -> &'static str {
        "P2C peak-EWMA"
    }

    fn pick(&self, scene: &Scene<'_>) -> Option<usize> {
        let count = scene.sound.len() as u64;
        let first = scene.draw(0).checked_rem(count)?;
        let second = (first + 1 + scene.draw(1) % (count - 1).max(1)) % count;
        let (first, second) = (first as usize, second as usize);
        Some(if self.cost(scene, second) < self.cost(scene, first) { second } else { first })
    }
}
