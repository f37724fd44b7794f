//! Whether an arm is surely beyond its guard's bounds, by what was seen of it and of its control.
//!
//! - errors: the share of failed requests, by Chernoff's bound (H. Chernoff, 1952): n·KL(seen ‖ bound) > ln(1/α), which
//!   holds for any n; its difference to the control's by Newcombe's hybrid of two intervals (R. G. Newcombe, 1998,
//!   method 10), here Chernoff's;
//! - first tokens: the 95th percentile is above a bound when more than 5 % of them come later, so this is a share too;
//! - cost: the mean of the arm less (1 + excess) × the mean of the control, by the normal approximation (B. L. Welch,
//!   1947). Costs have long tails, so it asks for five standard deviations.

use std::fmt;

use super::{
    Breach, ErrorBound, Guard,
    tally::{Basis, Tally},
};

/// ln(1/α) of the shares' tests.
const DOUBT: f64 = 10.3;
/// Standard deviations of the costs' test.
const Z: f64 = 5.0;
/// The share of first tokens that may come after the 95th percentile.
const BEYOND_P95: f64 = 0.05;

impl Tally {
    fn errors(&self) -> Share {
        Share { hits: self.failed, of: self.requests }
    }

    fn lateness(&self) -> Share {
        Share { hits: self.late, of: self.timed }
    }
}

/// A share of requests.
#[derive(Clone, Copy, Debug)]
struct Share {
    hits: u32,
    of: u32,
}

impl Share {
    fn rate(self) -> f64 {
        if self.of == 0 { 0.0 } else { f64::from(self.hits) / f64::from(self.of) }
    }

    /// The shares that could have shown this by a chance of more than α; of nothing seen it is all of them.
    fn interval(self) -> (f64, f64) {
        (self.end(0.0), self.end(1.0))
    }

    /// The farthest such share towards `edge`, by halving.
    fn end(self, edge: f64) -> f64 {
        let (mut inside, mut outside) = (self.rate(), edge);
        if self.of == 0 {
            return edge;
        }
        for _ in 0..40 {
            let middle = f64::midpoint(inside, outside);
            if f64::from(self.of) * divergence(self.rate(), middle) > DOUBT {
                outside = middle;
            } else {
                inside = middle;
            }
        }
        inside
    }

    /// The lower end of the difference of two shares, by Newcombe's method 10.
    fn surely_beyond(self, other: Self) -> f64 {
        let ((low, _), (_, high)) = (self.interval(), other.interval());
        let (own, others) = (self.rate(), other.rate());
        own - others - ((own - low).powi(2) + (high - others).powi(2)).sqrt()
    }

    /// Whether it is surely above `bound`, and above the other's, if there is another to compare with.
    fn surely_above(self, bound: f64, other: Self) -> bool {
        self.interval().0 > bound && (other.of == 0 || self.surely_beyond(other) > 0.0)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} % of {}", 100.0 * self.rate(), self.of)
    }
}

impl Guard {
    /// Why an arm is to be withdrawn of which this was seen, if it is.
    pub(super) fn breach(&self, Basis { arm, control, gateways }: &Basis) -> Option<Breach> {
        let why = self.errors_of(arm, control);
        let why = why.or_else(|| self.cost_of(arm, control)).or_else(|| self.waits_of(arm, control))?;
        Some(Breach { why, requests: arm.requests, gateways: *gateways })
    }

    fn errors_of(&self, arm: &Tally, control: &Tally) -> Option<String> {
        let (own, others) = (arm.errors(), control.errors());
        let (passed, bound) = match self.errors? {
            ErrorBound::Share(ppm) => (own.surely_above(share(ppm), others), format!("{} %", per_cent(ppm))),
            ErrorBound::Beyond(ppm) => (own.surely_beyond(others) > share(ppm), format!("+{} %", per_cent(ppm))),
        };
        let text = || format!("error rate {own} requests, control {others}; the guard allows {bound}");
        passed.then(text)
    }

    fn cost_of(&self, arm: &Tally, control: &Tally) -> Option<String> {
        let excess = self.cost_ppm?;
        if control.requests < 2 {
            return None;
        }
        let ((own, own_variance), (others, others_variance)) = (arm.mean_cost(), control.mean_cost());
        let factor = 1.0 + share(excess);
        let deviation = (own_variance + factor * factor * others_variance).sqrt();
        let passed = own - factor * others > Z * deviation && own > others;
        let text = || {
            let (own, others) = (own / 1e9, others / 1e9);
            format!(
                "a request costs {own:.6} USD on average of {}, control {others:.6} USD of {}; the guard allows +{} %",
                arm.requests,
                control.requests,
                per_cent(excess)
            )
        };
        passed.then(text)
    }

    fn waits_of(&self, arm: &Tally, control: &Tally) -> Option<String> {
        let bound = self.first_token_p95?;
        let (own, others) = (arm.lateness(), control.lateness());
        let text = || {
            let seconds = bound.as_secs_f64();
            format!("first token later than {seconds} s in {own} streams, control {others}; the guard allows 5 %")
        };
        own.surely_above(BEYOND_P95, others).then(text)
    }
}

/// KL(p ‖ q) of two shares, in nats.
fn divergence(p: f64, q: f64) -> f64 {
    let part = |p: f64, q: f64| if p <= 0.0 { 0.0 } else { p * libm::log(p / q) };
    part(p, q) + part(1.0 - p, 1.0 - q)
}

fn share(ppm: u32) -> f64 {
    f64::from(ppm) / 1e6
}

fn per_cent(ppm: u32) -> f64 {
    f64::from(ppm) / 1e4
}
