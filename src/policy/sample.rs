//! A small world for tests: candidates built from a few plain numbers.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use super::{BudgetSeen, Caller, Choice, Observations, Policies, Prefer, Question, Require, Route, Seen};
use crate::base::{
    catalog::{
        Backend, Candidate, CandidateId, Endpoint, Model, Pick, Served, SpeedPrior, Thinking, Timeouts, Tokenizer,
        USUAL_PROBE,
    },
    facts::{Abilities, Category, Facts},
    fences::Owner,
    money::{Currency, Money, NANO},
    names::Location,
    price::{PriceRow, Rate, When},
    rent::Rent,
    scores::{Benchmark, By, ScoreRow, Scores, Trust, Unit},
    tenants::{Allowance, Budget, Period, Quota, Team},
};

/// What one candidate is made of; its model is `m{number}`, its backend `b{number}`.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) number: u32,
    /// Cents per million tokens, in and out; `None` = no price known.
    pub(super) price: Option<(i64, i64)>,
    pub(super) seen: Seen,
    pub(super) location: Option<Location>,
    pub(super) off: bool,
    pub(super) abilities: Option<Abilities>,
    pub(super) context: u64,
    pub(super) tokenizer: Tokenizer,
    pub(super) served: Vec<Served>,
    /// USD an hour, in nano-USD.
    pub(super) rent: Option<i64>,
    pub(super) spill: Option<Duration>,
}

impl Made {
    pub(super) fn new(number: u32) -> Self {
        Self {
            number,
            price: Some((100, 300)),
            seen: Seen::default(),
            location: None,
            off: false,
            abilities: None,
            context: 0,
            tokenizer: Tokenizer::default(),
            served: Vec::new(),
            rent: None,
            spill: None,
        }
    }

    fn candidate(&self, id: u32) -> Candidate {
        let model = Model {
            name: format!("m{}", self.number).into(),
            catalog: None,
            context: self.context,
            max_output: 0,
            abilities: self.abilities,
            thinking: Thinking::Never,
            tokenizer: self.tokenizer,
            prior: SpeedPrior::default(),
            expected_output: 300,
            fences: Arc::default(),
        };
        let backend = Backend {
            name: format!("b{}", self.number).into(),
            provider: "openai",
            endpoints: vec![Endpoint::usual("http://127.0.0.1:1".parse().unwrap())],
            discover: None,
            probe: USUAL_PROBE,
            accounts: Vec::new(),
            pick: Pick::Order,
            balance: "least_loaded",
            location: self.location.clone(),
            region: None,
            timeouts: Timeouts::default(),
            max_in_flight: None,
            rent: self.rent.map(|hour| Rent { hour, currency: Currency::USD, capacity: None }),
            spill: self.spill,
            tier: Default::default(),
            shows_reasoning: false,
            off: self.off.then(|| "maintenance".into()),
            fences: Arc::default(),
        };
        Candidate {
            id: CandidateId(id),
            model: Arc::new(model),
            backend: Arc::new(backend),
            upstream: "upstream".into(),
            prices: self.price.map(|(input, output)| Arc::new(price(input, output))).into_iter().collect(),
            served: self.served.clone(),
        }
    }
}

/// Percent of model `m{number}` in the one benchmark: 30 to 90, rising and falling with the number.
fn score(number: u32) -> u32 {
    30 + number * 17 % 61
}

fn price(input: i64, output: i64) -> PriceRow {
    let (input, output) = (input * (NANO / 100), output * (NANO / 100));
    let rate = Rate {
        when: When::default(),
        input,
        cached_input: input / 2,
        cache_write: input,
        output,
        reasoning: output,
        audio_input: input,
        audio_output: output,
    };
    PriceRow {
        currency: Currency::USD,
        from: Timestamp::UNIX_EPOCH,
        until: None,
        rates: vec![rate],
        calendar: Vec::new(),
        source: "test".into(),
        own: false,
    }
}

/// Monday 2026-11-23, noon UTC.
pub(super) fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

/// Policies with one route, and what is seen of each candidate.
pub(super) struct World {
    pub(super) policies: Policies,
    pub(super) seen: Vec<Seen>,
    pub(super) facts: Facts,
    pub(super) team: Team,
}

impl Observations for World {
    fn seen(&self, candidate: &Candidate) -> Seen {
        self.seen[candidate.id.0 as usize]
    }
}

impl World {
    /// A world of these candidates in this order, with the route `auto` over all of them.
    pub(super) fn new(made: &[Made]) -> Self {
        let candidates: Vec<_> = (0..).zip(made).map(|(id, made)| Arc::new(made.candidate(id))).collect();
        // The register does not depend on who is a candidate: models from 32 on have no row.
        let rows = (0..32_u32).map(|number| ScoreRow {
            model: format!("m{number}").into(),
            benchmark: "exam".into(),
            value: score(number).into(),
            date: jiff::civil::date(2026, 11, 1),
            by: By::Independent,
            source: "test".into(),
            sample: None,
            interval: None,
            expires: None,
        });
        let exam = Benchmark { category: Category::Code, unit: Unit::PERCENT };
        let benchmarks = BTreeMap::from([("exam".into(), exam)]);
        let scores = Scores::new(rows.collect(), benchmarks, Trust::default());
        let policies = Policies {
            hash: "0123456789ab".into(),
            backends: candidates.iter().map(|c| (c.backend.name.clone(), c.backend.clone())).collect(),
            models: candidates.iter().map(|c| (c.model.name.clone(), c.model.clone())).collect(),
            candidates,
            routes: BTreeMap::new(),
            aliases: BTreeMap::new(),
            teams: HashMap::new(),
            keys: HashMap::new(),
            key_fences: HashMap::new(),
            key_priorities: HashMap::new(),
            currencies: BTreeMap::new(),
            scores,
            notify: Vec::new(),
        };
        let facts = Facts {
            model: "auto".into(),
            stream: true,
            input_tokens: 1_000,
            answers: 1,
            messages: 1,
            category: Category::Code,
            category_confident: true,
            ..Facts::default()
        };
        let seen = made.iter().map(|made| made.seen).collect();
        Self { policies, seen, facts, team: team(false) }
    }

    pub(super) fn ids(&self) -> Vec<CandidateId> {
        self.policies.candidates.iter().map(|candidate| candidate.id).collect()
    }

    /// A route over all candidates.
    pub(super) fn route(&self, prefer: Prefer) -> Route {
        route("auto", Choice::Value { candidates: self.ids(), prefer })
    }

    pub(super) fn question<'a>(&'a self, route: &'a Route) -> Question<'a> {
        Question {
            route,
            facts: &self.facts,
            caller: Caller { team: &self.team, key: "key", user: "", session: "" },
            budget: BudgetSeen::default(),
            now: now(),
            time_left: None,
            seed: 1,
            failed: &[],
            affordable: None,
            budgeted: false,
            exhausted: &[],
        }
    }
}

pub(super) fn route(name: &str, choice: Choice) -> Route {
    Route {
        name: name.into(),
        implicit: false,
        choice,
        require: Require::default(),
        category: None,
        rules: Vec::new(),
        attempts: 3,
        priority: None,
        hedge: None,
        max_output: 1_000,
        fences: Arc::default(),
        shadow: None,
    }
}

pub(super) fn team(budget: bool) -> Team {
    let month = Budget {
        name: "month".into(),
        limit: Quota::Money(Money::from_nanousd(NANO)),
        per: Period::Month,
        zone: jiff::tz::TimeZone::UTC,
        warn_ppm: Arc::default(),
    };
    let allowance = Allowance { budgets: budget.then_some(month).into_iter().collect(), ..Allowance::default() };
    let fences = allowance.around(&Owner::Team("search".into())).collect();
    Team { fences, ..Team::named("search") }
}
