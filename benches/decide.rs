//! How long a decision takes: 4, 20 and 200 candidates, plain and in full dress (a rule, a floor, a budget, a
//! currency). Goals: 2, 8 and 80 µs.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to say")]

use std::{collections::BTreeMap, hint::black_box, sync::Arc, time::Duration};

use criterion::{BenchmarkId, Criterion};
use jiff::{Timestamp, civil};
use turnpike::{
    base::{
        catalog::{
            Backend, Candidate, CandidateId, Endpoint, Model, Pick, SpeedPrior, Thinking, Timeouts, Tokenizer,
            USUAL_PROBE,
        },
        facts::{Category, Facts},
        fences::Owner,
        money::{Currency, ExchangeRate, Money},
        price::{PriceRow, Rate, When},
        scores::{Benchmark, By, ScoreRow, Scores, Trust, Unit},
        tenants::{Allowance, Budget, Period, Quota, Team},
    },
    config::catalog::built_in,
    policy::{
        BudgetSeen, Caller, Choice, Floor, Observations, Policies, Prefer, Question, Require, Route, Seen,
        decide::decide,
        rules::{Condition, Rule},
    },
};

struct Measured;

impl Observations for Measured {
    fn seen(&self, candidate: &Candidate) -> Seen {
        Seen {
            first_token: Some(Duration::from_millis(300 + u64::from(candidate.id.0) * 7 % 900)),
            output_tokens: Some(250),
            ..Seen::default()
        }
    }
}

fn candidate(number: u32) -> Candidate {
    let price = i64::from(number * 37 % 50 + 1) * 100_000_000;
    let rate = Rate {
        when: When::default(),
        input: price,
        cached_input: price / 4,
        cache_write: price,
        output: price * 4,
        reasoning: price * 4,
        audio_input: price,
        audio_output: price * 4,
    };
    let row = PriceRow {
        currency: Currency::parse(if number.is_multiple_of(2) { "USD" } else { "CNY" }).unwrap(),
        from: Timestamp::UNIX_EPOCH,
        until: None,
        rates: vec![rate],
        calendar: Vec::new(),
        source: "bench".into(),
        own: false,
    };
    let backend = Backend {
        name: format!("backend-{number}").into(),
        provider: "openai",
        endpoints: vec![Endpoint::usual("http://127.0.0.1:1".parse().unwrap())],
        discover: None,
        probe: USUAL_PROBE,
        accounts: Vec::new(),
        pick: Pick::Order,
        balance: "least_loaded",
        location: Some("eu".into()),
        region: None,
        timeouts: Timeouts::default(),
        max_in_flight: None,
        rent: None,
        spill: None,
        tier: Default::default(),
        shows_reasoning: false,
        off: None,
        fences: Arc::default(),
    };
    let model = Model {
        name: format!("model-{number}").into(),
        catalog: None,
        context: 128_000,
        max_output: 8_192,
        abilities: None,
        thinking: Thinking::Never,
        tokenizer: Tokenizer::O200k,
        prior: SpeedPrior::default(),
        expected_output: 300,
        fences: Arc::default(),
    };
    Candidate {
        id: CandidateId(number),
        model: Arc::new(model),
        backend: Arc::new(backend),
        upstream: "upstream".into(),
        prices: vec![Arc::new(row)],
        served: Vec::new(),
    }
}

fn policies(count: u32) -> Policies {
    let rows = (0..count).map(|number| ScoreRow {
        model: format!("model-{number}").into(),
        benchmark: "exam".into(),
        value: f64::from(40 + number * 13 % 50),
        date: civil::date(2026, 11, 1),
        by: By::Independent,
        source: "bench".into(),
        sample: None,
        interval: None,
        expires: None,
    });
    let exam = Benchmark { category: Category::Code, unit: Unit::PERCENT };
    let scores = Scores::new(rows.collect(), BTreeMap::from([("exam".into(), exam)]), Trust::default());
    let candidates: Vec<_> = (0..count).map(|number| Arc::new(candidate(number))).collect();
    let rate = ExchangeRate { nanousd: 138_900_000, from: Timestamp::UNIX_EPOCH };
    Policies {
        hash: "0123456789ab".into(),
        backends: BTreeMap::new(),
        models: candidates.iter().map(|candidate| (candidate.model.name.clone(), candidate.model.clone())).collect(),
        candidates,
        routes: BTreeMap::new(),
        aliases: BTreeMap::new(),
        teams: Default::default(),
        keys: Default::default(),
        key_priorities: std::collections::HashMap::new(),
        key_fences: Default::default(),
        currencies: BTreeMap::from([(Currency::parse("CNY").unwrap(), vec![rate])]),
        scores,
        notify: Vec::new(),
    }
}

fn route(count: u32, dressed: bool) -> Route {
    let rule = || Rule {
        name: "rule 1".into(),
        when: Condition::compile("budget.used > 0.8 && request.images == 0 && caller.team == 'search'").unwrap(),
        candidates: None,
        prefer: Some(Prefer::Cheapest),
        right: None,
        max_cost: None,
        first_token_p95: None,
    };
    let floor = Floor::Of { at_least_ppm: 800_000, model: "model-1".into() };
    Route {
        name: "auto".into(),
        implicit: false,
        choice: Choice::Value { candidates: (0..count).map(CandidateId).collect(), prefer: Prefer::BALANCED },
        require: Require { right: dressed.then_some(floor), ..Require::default() },
        category: None,
        rules: dressed.then(rule).into_iter().collect(),
        attempts: 3,
        priority: None,
        hedge: None,
        max_output: 4_096,
        fences: Arc::default(),
        shadow: None,
    }
}

fn team(dressed: bool) -> Team {
    let month = Budget {
        name: "month".into(),
        limit: Quota::Money(Money::from_nanousd(1)),
        per: Period::Month,
        zone: jiff::tz::TimeZone::UTC,
        warn_ppm: Arc::default(),
    };
    let allowance = Allowance { budgets: dressed.then_some(month).into_iter().collect(), ..Allowance::default() };
    let fences = allowance.around(&Owner::Team("search".into())).collect();
    Team { locations: dressed.then(|| vec!["eu".into()]), fences, ..Team::named("search") }
}

fn decisions(c: &mut Criterion) {
    let facts = Facts {
        model: "auto".into(),
        stream: true,
        input_tokens: 1_200,
        answers: 1,
        messages: 3,
        category: Category::Code,
        category_confident: true,
        ..Facts::default()
    };
    for dressed in [false, true] {
        let mut group = c.benchmark_group(if dressed { "decide, full dress" } else { "decide" });
        for count in [4, 20, 200] {
            let (policies, route, team) = (policies(count), route(count, dressed), team(dressed));
            let question = Question {
                route: &route,
                facts: &facts,
                caller: Caller { team: &team, key: "k7Qm2x", user: "ann", session: "" },
                budget: BudgetSeen { used_ppm: 850_000, ..BudgetSeen::default() },
                now: "2026-11-23T12:00:00Z".parse().unwrap(),
                time_left: Some(Duration::from_secs(60)),
                seed: 1,
                failed: &[],
                affordable: None,
                budgeted: false,
                exhausted: &[],
            };
            group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
                bencher.iter(|| decide(&policies, &Measured, black_box(&question)));
            });
        }
    }
}

/// What the first request of a day waits for: the fit of the built-in catalog.
fn fit(c: &mut Criterion) {
    let catalog = built_in();
    let scores = Scores::new(catalog.scores.clone(), catalog.benchmarks.clone(), Trust::default());
    let mut day = civil::date(2026, 11, 23);
    c.bench_function("fit of the catalog", |bencher| {
        bencher.iter(|| {
            day = day.tomorrow().unwrap_or(civil::date(2026, 11, 23));
            scores.fit(day)
        });
    });
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    decisions(&mut criterion);
    fit(&mut criterion);
    criterion.final_summary();
}
