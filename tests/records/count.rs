//! What a replay must come to, counted again from the lines of the records alone: plain JSON, integers, and the rules as
//! ARCHITECTURE.md and the module texts state them. Nothing of `cli/replay` or `policy::decide` is used here; of the
//! policies only the price rows are read.
//!
//! It knows changed prices and changed orders of routes, in traffic without budgets that bind.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use serde_json::Value;
use turnpike::{base::price::PriceRow, policy::Policies};

use crate::again::lines;

/// How a route puts its candidates in order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As it is recorded.
    Recorded,
    /// By value, whatever it was.
    Worth,
    /// This one alone, where it is among the candidates.
    Only(&'static str),
}

/// What one side comes to.
#[derive(Debug, Default, PartialEq)]
pub struct Sums {
    pub cost: i128,
    pub served: u64,
    pub known: u64,
    pub estimated: u64,
    pub estimated_cost: i128,
    pub by_candidate: BTreeMap<String, (u64, i128)>,
    pub refused: BTreeMap<String, u64>,
}

/// What both come to.
#[derive(Debug, Default)]
pub struct Count {
    pub old: Sums,
    pub new: Sums,
    pub moves: BTreeMap<(String, String), (u64, i128)>,
    /// Ends of the interval in which the new cost lies with 80 %.
    pub within: (f64, f64),
    lengths: BTreeMap<String, Vec<f64>>,
    outputs: BTreeMap<String, Vec<f64>>,
}

/// Who answers at which cost, and which part of it is the estimated answer's.
struct End {
    served: Option<String>,
    refused: String,
    cost: i128,
    estimated_output: Option<i128>,
}

/// A candidate as a decision saw it, at the new prices.
struct Able {
    label: String,
    key: [i128; 4],
    input: i128,
    cached: i128,
    output: i128,
    cap: i128,
    rates: Rates,
}

/// Prices per million tokens, in billionths of a dollar, and what the hour multiplies them by, in parts per million.
#[derive(Clone, Copy)]
struct Rates {
    input: i128,
    cached: i128,
    output: i128,
    factor: i128,
}

impl Rates {
    /// In nano-dollars, rounded up once.
    fn cost(self, input: i128, cached: i128, output: i128) -> i128 {
        let sum = (input - cached) * self.input + cached * self.cached + output * self.output;
        (sum * self.factor + 999_999_999_999) / 1_000_000_000_000
    }
}

/// Counts the records in `folder` again, under `policies`, whose route `model` orders as `order` says.
pub fn count(folder: &Path, policies: &Policies, order: impl Fn(&str) -> Order) -> Count {
    let mut count = Count::default();
    lines(folder, |text| {
        let line: Value = serde_json::from_slice(text).unwrap();
        let old = recorded(&line);
        let new = Request { line: &line, policies, order: order(name(&line["facts"]["model"])) }.end();
        count.add(&line, &old, &new);
    });
    count.within = count.interval();
    count
}

fn name(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn number(value: &Value) -> i128 {
    value.as_i64().map_or_else(|| value.as_u64().unwrap_or(0).into(), i128::from)
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn recorded(line: &Value) -> End {
    End {
        served: line["served"].as_str().map(str::to_owned),
        refused: [name(&line["code"]), name(&line["end"])].into_iter().find(|it| !it.is_empty()).unwrap().to_owned(),
        cost: number(&line["cost_nanousd"]),
        estimated_output: None,
    }
}

impl Count {
    fn add(&mut self, line: &Value, old: &End, new: &End) {
        for (sums, end) in [(&mut self.old, old), (&mut self.new, new)] {
            sums.cost += end.cost;
            let Some(served) = &end.served else {
                *sums.refused.entry(end.refused.clone()).or_default() += 1;
                continue;
            };
            sums.served += 1;
            let of = sums.by_candidate.entry(served.clone()).or_default();
            *of = (of.0 + 1, of.1 + end.cost);
            if end.estimated_output.is_some() {
                sums.estimated += 1;
                sums.estimated_cost += end.cost;
            } else {
                sums.known += 1;
            }
        }
        if let (Some(served), Some(output)) = (&new.served, new.estimated_output) {
            self.outputs.entry(served.clone()).or_default().push(output as f64);
        }
        if old.served != new.served {
            let who = |end: &End| end.served.clone().unwrap_or_default();
            let moved = self.moves.entry((who(old), who(new))).or_default();
            *moved = (moved.0 + 1, moved.1 + new.cost - old.cost);
        }
        let answered = array(&line["attempts"]).iter().rfind(|attempt| attempt["outcome"] == "ok");
        let mut ranked = array(&line["decisions"]).iter().rev().flat_map(|made| array(&made["decided"]["ranked"]));
        if let (Some(served), Some(answered)) = (&old.served, answered)
            && let Some(ranked) = ranked.find(|ranked| name(&ranked["candidate"]) == served)
        {
            let share = number(&answered["output"]) as f64 / number(&ranked["terms"]["output"]) as f64;
            self.lengths.entry(served.clone()).or_default().push(share);
        }
    }

    /// `var = Σ_m sd_m² Σ c² + between² Σ_m (Σ c)²`, 80 % of a normal distribution.
    fn interval(&self) -> (f64, f64) {
        let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
        let variance = |all: &[f64]| all.iter().map(|one| (one - mean(all)).powi(2)).sum::<f64>() / all.len() as f64;
        let everything: Vec<f64> = self.lengths.values().flatten().copied().collect();
        let overall = variance(&everything).sqrt();
        let own = |label: &str| match self.lengths.get(label) {
            Some(all) if all.len() >= 20 => variance(all).sqrt(),
            _ => overall,
        };
        let means: Vec<f64> = self.lengths.values().filter(|all| all.len() >= 20).map(|all| mean(all)).collect();
        let between = (variance(&means) * means.len() as f64 / (means.len() as f64 - 1.0)).sqrt();
        let sum: f64 = self
            .outputs
            .iter()
            .map(|(label, costs)| {
                let squares: f64 = costs.iter().map(|cost| cost * cost).sum();
                own(label).powi(2) * squares + between.powi(2) * costs.iter().sum::<f64>().powi(2)
            })
            .sum();
        let (half, cost) = (1.281_551_565_544_6 * sum.sqrt(), self.new.cost as f64);
        ((cost - half).max(cost - self.new.estimated_cost as f64), cost + half)
    }
}

/// One recorded request before other policies.
struct Request<'a> {
    line: &'a Value,
    policies: &'a Policies,
    order: Order,
}

impl Request<'_> {
    fn end(&self) -> End {
        let mut cost = 0;
        for (place, made) in array(&self.line["decisions"]).iter().enumerate() {
            let able = self.able(made, &[]);
            let then = array(&made["decided"]["ranked"]).first().map(|ranked| name(&ranked["candidate"]));
            if able.first().map(|able| able.label.as_str()) != then {
                return self.elsewhere(made, cost, place);
            }
            let attempts = array(&self.line["attempts"]).iter();
            let of_it = attempts.filter(|attempt| number(&attempt["decision"]) == place as i128);
            cost += of_it.map(|it| paid(it, self.rates(name(&it["candidate"]), &made["asked"]["at"]))).sum::<i128>();
        }
        End { cost, ..recorded(self.line) }
    }

    /// From the first other winner on: what the record knows of a candidate counts, else what is expected of it.
    fn elsewhere(&self, made: &Value, mut cost: i128, place: usize) -> End {
        let before = array(&self.line["attempts"]).iter().filter(|it| number(&it["decision"]) < place as i128).count();
        let (mut failed, mut tried): (Vec<String>, usize) = (Vec::new(), before);
        let nobody = |why: &str, cost| End { served: None, refused: why.to_owned(), cost, estimated_output: None };
        loop {
            let Some(winner) = self.able(made, &failed).into_iter().next() else {
                return nobody(if tried > 0 { "upstream_error" } else { "no_candidate" }, cost);
            };
            let attempts = array(&self.line["attempts"]).iter();
            let known: Vec<&Value> = attempts.filter(|it| name(&it["candidate"]) == winner.label).collect();
            let served = Some(winner.label.clone());
            let Some(last) = known.last() else {
                let [input, cached, output] = self.expected(&winner);
                let whole = winner.rates.cost(input, cached, output);
                let of_answer = whole - winner.rates.cost(input, cached, 0);
                return End { served, refused: String::new(), cost: cost + whole, estimated_output: Some(of_answer) };
            };
            cost += known.iter().map(|attempt| paid(attempt, winner.rates)).sum::<i128>();
            tried += known.len();
            if last["outcome"] == "ok" || self.line["served"] == winner.label.as_str() {
                return End { served, refused: String::new(), cost, estimated_output: None };
            }
            if tried as i128 >= number(&made["decided"]["attempts"]) {
                return nobody("upstream_error", cost);
            }
            failed.push(winner.label);
        }
    }

    /// Its expected prompt, cached part and answer, each scaled as the known bill strayed from what was expected of its own.
    fn expected(&self, winner: &Able) -> [i128; 3] {
        let answered = array(&self.line["attempts"]).iter().rfind(|attempt| attempt["outcome"] == "ok");
        let Some(answered) = answered else { return [winner.input, winner.cached, winner.output.max(1)] };
        let made = &self.line["decisions"][usize::try_from(number(&answered["decision"])).unwrap()];
        let mut ranked = array(&made["decided"]["ranked"]).iter();
        let of = &ranked.find(|ranked| ranked["candidate"] == answered["candidate"]).unwrap()["terms"];
        let strayed = |what: i128, part: &str| what * number(&answered[part]) / number(&of[part]).max(1);
        let output = strayed(winner.output.max(1), "output").clamp(1, winner.cap);
        [strayed(winner.input, "input"), strayed(winner.cached, "input"), output]
    }

    /// Who is able, the best first, at the new prices and in the new order, without those that failed.
    fn able(&self, made: &Value, failed: &[String]) -> Vec<Able> {
        let decided = &made["decided"];
        let out = |line: &&Value| {
            let label = name(&line["candidate"]);
            !failed.iter().any(|other| other == label) && !matches!(self.order, Order::Only(only) if only != label)
        };
        let ranked = array(&decided["ranked"]).iter().filter(out);
        // Whose breaker is open, or who is crowded, is tried if nobody else is able.
        let waits = |line: &Value| -> Option<i128> {
            match name(&line["kind"]) {
                "broken" => {
                    let mut seen = array(&made["asked"]["seen"]).iter();
                    seen.find(|seen| seen["candidate"] == line["candidate"]).map(|seen| number(&seen["broken_ns"]))
                }
                "crowded" => Some(0),
                _ => None,
            }
        };
        let last_resort = decided["last_resort"] == true;
        let mut able: Vec<Able> = ranked.clone().filter(|_| !last_resort).map(|line| self.weigh(made, line)).collect();
        able.sort_by(|a, b| (a.key, &a.label).cmp(&(b.key, &b.label)));
        if !able.is_empty() {
            return able;
        }
        let rejected = array(&decided["rejected"]).iter().filter(out);
        let first = ranked.filter(|_| last_resort).map(|line| (self.wait_of_last_resort(made, line), line));
        let mut broken: Vec<(i128, Able)> = rejected
            .filter_map(|line| Some((waits(line)?, line)))
            .chain(first)
            .map(|(wait, line)| (wait, self.weigh(made, line)))
            .collect();
        broken.sort_by(|(a_wait, a), (b_wait, b)| (a_wait, a.key, &a.label).cmp(&(b_wait, b.key, &b.label)));
        broken.into_iter().take(1).map(|(_, able)| able).collect()
    }

    fn wait_of_last_resort(&self, made: &Value, line: &Value) -> i128 {
        let mut seen = array(&made["asked"]["seen"]).iter();
        seen.find(|seen| seen["candidate"] == line["candidate"]).map_or(0, |seen| number(&seen["broken_ns"]))
    }

    fn weigh(&self, made: &Value, line: &Value) -> Able {
        let (label, terms) = (name(&line["candidate"]).to_owned(), &line["terms"]);
        let [input, cached, output] = ["input", "cached", "output"].map(|part| number(&terms[part]));
        let rates = self.rates(&label, &made["asked"]["at"]);
        let cost = rates.cost(input, cached, output);
        let (right, ms) = (number(&terms["right_ppm"]), number(&terms["expected_ms"]));
        let value = number(&terms["value_nanousd"]) + number(&terms["cost_nanousd"]) - cost;
        let key = match (self.order, &made["decided"]["prefer"]) {
            (Order::Only(_), _) => [0; 4],
            (Order::Worth, _) | (Order::Recorded, Value::Object(_)) => [0, -value, cost, ms],
            (Order::Recorded, prefer) => match name(prefer) {
                "cheapest" => [0, cost, -right, ms],
                "fastest" => [ms, 0, cost, -right],
                "best" => [-right, 0, cost, ms],
                other => panic!("no order is known for {other}"),
            },
        };
        Able { cap: self.cap(&label, input), label, key, input, cached, output, rates }
    }

    /// The one row in force; those of the demo have one rate in dollars, and none of its own for reasoning.
    fn rates(&self, label: &str, at: &Value) -> Rates {
        let at: jiff::Timestamp = name(at).parse().unwrap();
        let mut all = self.policies.candidates.iter();
        let candidate = all.find(|candidate| candidate.label() == label).unwrap();
        let holds = |row: &&Arc<PriceRow>| row.from <= at && row.until.is_none_or(|until| at < until);
        let row = candidate.prices.iter().rfind(holds).unwrap();
        let plain = row.rates.iter().skip(1).all(|rate| rate.when.tier != Default::default());
        let [input, cached, _, output, reasoning, _, _] = row.rates[0].prices().map(i128::from);
        assert!(plain && output == reasoning && row.currency.as_str() == "USD", "{label}");
        Rates { input, cached, output, factor: row.factor_ppm(at).into() }
    }

    /// The longest answer: the client's cap or the route's 4,096, within the model's own and its context.
    fn cap(&self, label: &str, input: i128) -> i128 {
        let mut all = self.policies.candidates.iter();
        let model = &all.find(|candidate| candidate.label() == label).unwrap().model;
        let wanted = self.line["facts"]["max_output"].as_u64().map_or(4096, i128::from);
        let within = |most: u64, cap: i128| if most == 0 { cap } else { cap.min(most.into()) };
        let room = if model.context == 0 { i128::MAX } else { i128::from(model.context) - input };
        within(model.max_output, wanted).min(room).max(1)
    }
}

fn paid(attempt: &Value, rates: Rates) -> i128 {
    let [input, cached, output] = ["input", "cached_input", "output"].map(|part| number(&attempt[part]));
    rates.cost(input, cached, output)
}
