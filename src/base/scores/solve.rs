//! Least squares for the additive model, exactly enough to be the same on every machine.
#![allow(clippy::float_arithmetic, reason = "scores are fitted on the logit scale; no amount of money is touched")]

/// One observation: `ability[model] + leaning[pair] − difficulty[benchmark] ≈ y`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observation {
    pub(super) model: usize,
    /// The (model, category) pair.
    pub(super) pair: usize,
    pub(super) benchmark: usize,
    pub(super) y: f64,
    pub(super) weight: f64,
}

/// How many unknowns of each kind there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) models: usize,
    pub(super) pairs: usize,
    pub(super) benchmarks: usize,
}

/// The solution.
#[derive(Debug)]
pub(super) struct Solution {
    pub(super) ability: Vec<f64>,
    pub(super) leaning: Vec<f64>,
    pub(super) difficulty: Vec<f64>,
}

/// Sweeps at most; 2,000 rows of 300 models take about 60.
const MAX_SWEEPS: usize = 1000;
/// The squared residual at which a sweep stops, relative to the first.
const TOLERANCE: f64 = 1e-24;

/// Minimises `Σ weight (ability + leaning − difficulty − y)² + ridge_ability Σ ability² + ridge_leaning Σ leaning²`
/// by conjugate gradients with a diagonal preconditioner. All sums run in the order of the slices, so that the same
/// input gives the same bits.
pub(super) fn solve(observations: &[Observation], size: Size, ridge_ability: f64, ridge_leaning: f64) -> Solution {
    let normal = Normal { observations, size, ridge_ability, ridge_leaning };
    let diagonal = normal.diagonal();
    let mut x = vec![0.0; size.models + size.pairs + size.benchmarks];
    let mut residual = normal.right_side();
    let mut scaled = divide(&residual, &diagonal);
    let mut direction = scaled.clone();
    let mut norm = dot(&residual, &scaled);
    let enough = norm * TOLERANCE;
    for _ in 0..MAX_SWEEPS {
        if norm <= enough {
            break;
        }
        let image = normal.apply(&direction);
        let step = norm / dot(&direction, &image);
        if !step.is_finite() {
            break;
        }
        add_scaled(&mut x, step, &direction);
        add_scaled(&mut residual, -step, &image);
        scaled = divide(&residual, &diagonal);
        let next = dot(&residual, &scaled);
        let keep = next / norm;
        norm = next;
        for (direction, scaled) in direction.iter_mut().zip(&scaled) {
            *direction = scaled + keep * *direction;
        }
    }
    let difficulty = x.split_off(size.models + size.pairs);
    let leaning = x.split_off(size.models);
    Solution { ability: x, leaning, difficulty }
}

/// The normal equations, never written out as a matrix.
struct Normal<'a> {
    observations: &'a [Observation],
    size: Size,
    ridge_ability: f64,
    ridge_leaning: f64,
}

impl Normal<'_> {
    fn places(&self, observation: &Observation) -> (usize, usize, usize) {
        let pair = self.size.models + observation.pair;
        (observation.model, pair, self.size.models + self.size.pairs + observation.benchmark)
    }

    fn ridge(&self, place: usize) -> f64 {
        if place < self.size.models {
            self.ridge_ability
        } else if place < self.size.models + self.size.pairs {
            self.ridge_leaning
        } else {
            0.0
        }
    }

    fn apply(&self, x: &[f64]) -> Vec<f64> {
        let mut out: Vec<f64> = x.iter().enumerate().map(|(place, x)| self.ridge(place) * x).collect();
        for observation in self.observations {
            let (model, pair, benchmark) = self.places(observation);
            let pull = observation.weight * (x[model] + x[pair] - x[benchmark]);
            out[model] += pull;
            out[pair] += pull;
            out[benchmark] -= pull;
        }
        out
    }

    fn right_side(&self) -> Vec<f64> {
        let mut out = vec![0.0; self.size.models + self.size.pairs + self.size.benchmarks];
        for observation in self.observations {
            let (model, pair, benchmark) = self.places(observation);
            let pull = observation.weight * observation.y;
            out[model] += pull;
            out[pair] += pull;
            out[benchmark] -= pull;
        }
        out
    }

    fn diagonal(&self) -> Vec<f64> {
        let places = self.size.models + self.size.pairs + self.size.benchmarks;
        let mut out: Vec<f64> = (0..places).map(|place| self.ridge(place)).collect();
        for observation in self.observations {
            let (model, pair, benchmark) = self.places(observation);
            for place in [model, pair, benchmark] {
                out[place] += observation.weight;
            }
        }
        out
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + a * b)
}

fn divide(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| if *b > 0.0 { a / b } else { 0.0 }).collect()
}

fn add_scaled(x: &mut [f64], scale: f64, by: &[f64]) {
    for (x, by) in x.iter_mut().zip(by) {
        *x += scale * by;
    }
}
