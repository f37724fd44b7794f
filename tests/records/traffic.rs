//! Traffic of the demo's policies: random requests, meters and budgets on a virtual clock, failures and failovers.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use rand::{Rng, SeedableRng, rngs::StdRng};
use turnpike::{
    base::{
        catalog::{Candidate, CandidateId, Tokenizer},
        facts::{Category, Facts},
        failure::{Class, Fault},
        fences::Unit,
        money::Money,
        records::RecordsConfig,
        tenants::Team,
        usage::Usage,
    },
    config::{self, Loaded},
    policy::{
        BudgetSeen, Caller, Decision, Observations, Policies, Question, Ranked, Route, Seen, Unavailable,
        decide::decide,
        observe::{Meter, noting::Noting},
        retry::{self, AttemptSeen, Next},
        value,
    },
    telemetry::record::{
        AttemptRecord, Made, Record, Trail,
        keep::{Counts, Keeper},
    },
};

/// The demo's policies with a team that has a budget of so many dollars a day.
pub fn demo(budget: &str, edit: impl Fn(&str) -> String) -> Loaded {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/demo");
    let mut files: Vec<(PathBuf, String)> = Vec::new();
    for name in ["backends.yaml", "models.yaml", "routes.yaml"] {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        let paid = format!("teams:\n  paid: {{budgets: [{{name: day, limit: {budget}, per: day}}]}}");
        files.push((name.into(), edit(&text.replace("teams:", &paid))));
    }
    config::from_texts(&files, &|_| None, "2026-11-23T00:00:00Z".parse().unwrap()).unwrap()
}

/// Writes policies into a folder, as `--policies` takes them.
pub fn save(loaded: &Loaded, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    for (path, text) in &loaded.texts {
        std::fs::write(folder.join(path), text).unwrap();
    }
}

/// How many requests a test takes.
pub fn requests() -> usize {
    std::env::var("TURNPIKE_RECORDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3_000)
}

struct World {
    policies: Arc<Policies>,
    meters: Vec<Mutex<Meter>>,
    broken: HashMap<CandidateId, Duration>,
    warm: Option<(CandidateId, u64)>,
    now: Duration,
}

impl Observations for World {
    fn seen(&self, candidate: &Candidate) -> Seen {
        let left = self.broken.get(&candidate.id).and_then(|until| until.checked_sub(self.now));
        let unavailable = left.filter(|left| !left.is_zero()).map(Unavailable::Broken);
        let seen = self.meters[candidate.id.0 as usize].lock().unwrap().seen(self.now, unavailable);
        let warm_tokens = self.warm.filter(|(id, _)| *id == candidate.id).map_or(0, |(_, tokens)| tokens);
        Seen { warm_tokens, ..seen }
    }

    fn answer_p90(&self, candidate: &Candidate, _: &turnpike::base::names::RouteName) -> Option<u64> {
        candidate.id.0.is_multiple_of(2).then(|| 300 + u64::from(candidate.id.0))
    }
}

/// Records `count` requests of traffic in `folder`, with the policies beside them. The seed is printed.
pub fn record(folder: &Path, loaded: &Loaded, count: usize, seed: u64) {
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let keeper = Keeper::start(folder, RecordsConfig::default(), Counts::default()).unwrap();
    config::keep_recorded(folder, loaded).unwrap();
    let policies = Arc::clone(&loaded.policies);
    let meters = policies.candidates.iter().map(|_| Mutex::default()).collect();
    let mut world = World { policies, meters, broken: HashMap::new(), warm: None, now: Duration::from_secs(1000) };
    let start: Timestamp = "2026-11-23T05:00:00Z".parse().unwrap();
    let mut spent = (0, 0_i64);
    for number in 0..count {
        world.now += Duration::from_micros(random.random_range(10_000..4_000_000));
        let at = start + SignedDuration::try_from(world.now).unwrap();
        let day = at.as_second() / 86_400;
        if spent.0 != day {
            spent = (day, 0);
        }
        let record = one(&mut world, &mut random, at, number, &mut spent.1);
        keeper.keep(Arc::new(record), None);
        if number % 4000 == 3999 {
            keeper.flush();
        }
    }
    keeper.close();
}

fn facts(random: &mut StdRng) -> Facts {
    let model = ["auto", "auto", "auto", "cheap", "fast", "best", "gpt-4o"][random.random_range(0..7)];
    let bytes = random.random_range(100..20_000_u64);
    let counted = random.random_bool(0.7);
    Facts {
        model: model.to_owned(),
        stream: random.random_bool(0.5),
        input_tokens: bytes / 4,
        counted_with: counted.then_some(Tokenizer::O200k),
        estimated_tokens: bytes / 3,
        other_script_ppm: if random.random_bool(0.2) { 400_000 } else { 0 },
        input_bound: bytes,
        body_bytes: bytes,
        max_output: random.random_bool(0.4).then(|| random.random_range(16..4000)),
        answers: 1,
        messages: random.random_range(1..12),
        images: u64::from(random.random_bool(0.02)),
        category: Category::ALL[random.random_range(0..Category::ALL.len())],
        category_confident: random.random_bool(0.6),
        ..Facts::default()
    }
}

/// What is asked of every decision of one request.
struct Asked {
    policies: Arc<Policies>,
    team: Arc<Team>,
    route: Arc<Route>,
    facts: Facts,
    user: String,
    seed: u64,
    budget: BudgetSeen,
    fence: Option<Arc<str>>,
    trail: Arc<Trail>,
}

impl Asked {
    fn random(world: &mut World, random: &mut StdRng, at: Timestamp, number: usize, spent: i64) -> Self {
        let policies = Arc::clone(&world.policies);
        let team = Arc::clone(&policies.teams[["default", "paid"][number % 2]]);
        let facts = facts(random);
        let route = Arc::clone(policies.route(&facts.model).unwrap());
        let candidate = CandidateId(random.random_range(0..u32::try_from(policies.candidates.len()).unwrap()));
        world.warm = random.random_bool(0.3).then_some((candidate, facts.input_tokens / 2));
        let fence = team.fences.iter().find(|fence| fence.unit == Unit::Money);
        let budget = fence.map_or_else(BudgetSeen::default, |fence| BudgetSeen {
            used_ppm: u64::try_from(i128::from(spent) * 1_000_000 / i128::from(fence.cap)).unwrap(),
            left: Some(Money::from_nanousd((fence.cap - spent).max(0))),
            pace_ppm: 1_000_000,
        });
        let fence = fence.map(|fence| Arc::clone(&fence.id));
        let (seed, user) = (random.random(), format!("user-{}", number % 50));
        let (named, session) = (user.clone(), String::new());
        let trail = Arc::new(Trail::new(at, facts.clone(), named, session, seed, Arc::clone(&policies)));
        Self { policies, team, route, facts, user, seed, budget, fence, trail }
    }

    fn record(&self, random: &mut StdRng) -> Record {
        let millis = u64::try_from(Timestamp::now().as_millisecond()).unwrap();
        let id = uuid::Builder::from_unix_timestamp_millis(millis, &random.random()).into_uuid();
        Record {
            id: id.to_string(),
            team: self.team.name.shared(),
            key: "k1".into(),
            route: self.route.name.shared(),
            policy: Arc::clone(&self.policies.hash),
            status: 200,
            end: "whole",
            trail: Some(Arc::clone(&self.trail)),
            ..Record::default()
        }
    }

    fn decide(&self, world: &World, random: &mut StdRng, now: Timestamp, failed: &[CandidateId]) -> Arc<Decision> {
        let question = Question {
            route: &self.route,
            facts: &self.facts,
            caller: Caller { team: &self.team, key: "k1", user: &self.user, session: "" },
            budget: self.budget,
            now,
            time_left: random.random_bool(0.1).then_some(Duration::from_millis(60_123)),
            seed: self.seed,
            failed,
            affordable: None,
            budgeted: self.fence.is_some(),
            exhausted: &[],
        };
        let noting = Noting::new(world);
        let decision = Arc::new(decide(&self.policies, &noting, &question));
        self.trail.add(Made {
            at: now,
            time_left: question.time_left,
            budget: self.budget,
            fence: self.fence.clone(),
            budgeted: self.fence.is_some(),
            failed: failed.to_vec(),
            exhausted: Vec::new(),
            noted: noting.noted(),
            decision: Arc::clone(&decision),
        });
        decision
    }
}

fn one(world: &mut World, random: &mut StdRng, at: Timestamp, number: usize, spent: &mut i64) -> Record {
    let asked = Asked::random(world, random, at, number, *spent);
    let mut record = asked.record(random);
    let mut seen: Vec<AttemptSeen> = Vec::new();
    let (mut failed, mut now) = (Vec::new(), at);
    loop {
        let decision = asked.decide(world, random, now, &failed);
        let Some(winner) = decision.ranked.first() else {
            return Record { status: 503, code: "no_candidate", end: "failed", ..record };
        };
        if seen.is_empty() && asked.budget.left.is_some_and(|left| winner.stake.first > left) {
            return Record { status: 402, code: "budget_exceeded", end: "refused", ..record };
        }
        let (attempt, usage, ok) = attempt(random, winner, &asked.facts, now, asked.trail.latest());
        let took = Duration::from_millis(attempt.total_ms);
        record.cost_nanousd += attempt.cost_nanousd;
        record.attempts.push(attempt);
        world.now += took;
        now += SignedDuration::try_from(took).unwrap();
        let (id, clock) = (winner.candidate.id, world.now);
        let meter = world.meters[id.0 as usize].get_mut().unwrap();
        if ok {
            meter.first_token(took / 4, clock);
            meter.answer(usage.output, took * 3 / 4, usage.input, usage.cached_input, clock);
            *spent += if asked.fence.is_some() { record.cost_nanousd } else { 0 };
            let (model, backend) = (winner.candidate.model.name.shared(), winner.candidate.backend.name.shared());
            return Record { model, backend, reason: decision.reason(), ..record };
        }
        meter.failure(None, clock);
        if random.random_bool(0.3) {
            world.broken.insert(id, clock + Duration::from_secs(30));
        }
        let (class, fault) = (Class::Elsewhere, Fault::Backend);
        seen.push(AttemptSeen { candidate: id, class, fault, retry_after: None, elapsed: took });
        match retry::next(&seen, &decision, false, &mut || true, None) {
            Next::Stop(_) => return Record { status: 502, code: "upstream_error", end: "failed", ..record },
            Next::Try { .. } if seen.len() >= 3 => {
                return Record { status: 502, code: "upstream_error", end: "failed", ..record };
            }
            Next::Resolve | Next::Try { .. } => failed = retry::failed(&seen, &decision),
        }
    }
}

/// One attempt: 6 % fail, answers are half to twice as long as expected.
fn attempt(
    random: &mut StdRng,
    winner: &Ranked,
    facts: &Facts,
    at: Timestamp,
    decision: u32,
) -> (AttemptRecord, Usage, bool) {
    let thinking = value::thinks(&winner.candidate.model, facts);
    let ok = !random.random_bool(0.06);
    let share = random.random_range(500..2000_u64);
    let output = (winner.terms.output_tokens * share / 1000).clamp(1, winner.max_output);
    let usage = Usage {
        input: winner.terms.input_tokens + random.random_range(0..9),
        cached_input: winner.terms.cached_tokens,
        output,
        reasoning: if thinking { output / 2 } else { 0 },
        tier: winner.terms.tier,
        ..Usage::default()
    };
    let charge = winner.price.as_ref().filter(|_| ok).map(|price| price.charge(&usage, thinking));
    let paid = if ok { usage } else { Usage::default() };
    let record = AttemptRecord {
        model: winner.candidate.model.name.shared(),
        backend: winner.candidate.backend.name.shared(),
        account: "default".into(),
        decision,
        at,
        outcome: if ok { "ok" } else { "status" },
        upstream_status: if ok { 200 } else { 500 },
        first_token_ms: (ok && facts.stream).then(|| random.random_range(100..900)),
        total_ms: 1000 + output * 11,
        input_tokens: paid.input,
        cached_input_tokens: paid.cached_input,
        output_tokens: paid.output,
        reasoning_tokens: paid.reasoning,
        tier: paid.tier.as_str(),
        thinking,
        native: charge.map(|charge| charge.native.to_string()).unwrap_or_default(),
        cost_nanousd: charge.map_or(0, |charge| charge.money.nanousd()),
        ..AttemptRecord::default()
    };
    (record, usage, ok)
}
