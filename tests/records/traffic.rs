//! Traffic of the demo's policies: random requests, meters, breakers, accounts and budgets on a virtual clock, requests that
//! overlap, failures and failovers, and in each hour an outage of one vendor and a storm of refusals (429) by another.

mod world;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use rand::{Rng, SeedableRng, rngs::StdRng};
use turnpike::{
    base::{
        catalog::{CandidateId, Tokenizer},
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
        BudgetSeen, Caller, Decision, Policies, Question, Ranked, Route,
        decide::decide,
        observe::noting::Noting,
        retry::{self, AttemptSeen, Next},
        value,
    },
    telemetry::record::{
        AttemptRecord, Made, Record, Trail,
        keep::{Counts, Keeper},
    },
};

use world::{Ending, Flight, OUTAGE, STORM, Watching, World};

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

/// What happens next.
enum Event {
    /// A request comes.
    Arrive,
    /// An attempt ends.
    End(Box<UnderWay>),
}

/// A request with an attempt under way.
struct UnderWay {
    asked: Asked,
    record: Record,
    seen: Vec<AttemptSeen>,
    decision: Arc<Decision>,
    winner: Ranked,
    flight: Flight,
    attempt: AttemptRecord,
    usage: Usage,
    ending: Ending,
}

/// Events by their instants; those of one instant in the order in which they were thought of.
#[derive(Default)]
struct Agenda {
    events: BTreeMap<(Duration, u64), Event>,
    count: u64,
}

impl Agenda {
    fn at(&mut self, at: Duration, event: Event) {
        self.count += 1;
        self.events.insert((at, self.count), event);
    }
}

/// Records `count` requests of traffic in `folder`, with the policies beside them, in the order in which they end. The seed
/// is printed.
pub fn record(folder: &Path, loaded: &Loaded, count: usize, seed: u64) {
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let keeper = Keeper::start(folder, RecordsConfig::default(), Counts::default()).unwrap();
    config::keep_recorded(folder, loaded).unwrap();
    let mut run = Run { world: World::new(&loaded.policies), agenda: Agenda::default(), spent: (0, 0) };
    run.agenda.at(run.world.now, Event::Arrive);
    let (mut came, mut kept) = (0, 0);
    while let Some(((now, _), event)) = run.agenda.events.pop_first() {
        run.world.now = now;
        let ended = match event {
            Event::Arrive => {
                if came + 1 < count {
                    run.agenda.at(now + Duration::from_micros(random.random_range(10_000..4_000_000)), Event::Arrive);
                }
                came += 1;
                run.arrive(&mut random, came - 1)
            }
            Event::End(under_way) => run.end(&mut random, *under_way),
        };
        let Some(record) = ended else { continue };
        keeper.keep(Arc::new(record), None);
        kept += 1;
        if kept % 4000 == 0 {
            keeper.flush();
        }
    }
    keeper.close();
}

struct Run {
    world: World,
    agenda: Agenda,
    /// The day, and what the team with a budget has spent on it.
    spent: (i64, i64),
}

impl Run {
    fn clock(&self) -> Timestamp {
        let start: Timestamp = "2026-11-23T05:00:00Z".parse().unwrap();
        start + SignedDuration::try_from(self.world.now).unwrap()
    }

    fn spent_today(&mut self) -> &mut i64 {
        let day = self.clock().as_second() / 86_400;
        if self.spent.0 != day {
            self.spent = (day, 0);
        }
        &mut self.spent.1
    }

    fn arrive(&mut self, random: &mut StdRng, number: usize) -> Option<Record> {
        let (at, spent) = (self.clock(), *self.spent_today());
        let asked = Asked::random(&self.world, random, at, number, spent);
        let record = asked.record(random);
        self.go_on(random, asked, record, Vec::new(), &[])
    }

    /// Decides, and begins an attempt; the record where that is the end.
    fn go_on(
        &mut self,
        random: &mut StdRng,
        asked: Asked,
        record: Record,
        seen: Vec<AttemptSeen>,
        failed: &[CandidateId],
    ) -> Option<Record> {
        let now = self.clock();
        let decision = asked.decide(&self.world, random, now, failed);
        let Some(winner) = decision.ranked.first().cloned() else {
            return Some(Record { status: 503, code: "no_candidate", end: "failed", ..record });
        };
        if seen.is_empty() && asked.budget.left.is_some_and(|left| decision.ceiling > left) {
            return Some(Record { status: 402, code: "budget_exceeded", end: "refused", ..record });
        }
        let flight = self.world.board(&winner.candidate);
        let (attempt, usage, ending) = self.attempt(random, &winner, &asked.facts, now, asked.trail.latest());
        let ends = self.world.now + Duration::from_millis(attempt.total_ms);
        let under_way = UnderWay { asked, record, seen, decision, winner, flight, attempt, usage, ending };
        self.agenda.at(ends, Event::End(Box::new(under_way)));
        None
    }

    fn end(&mut self, random: &mut StdRng, under_way: UnderWay) -> Option<Record> {
        let UnderWay { asked, mut record, mut seen, decision, winner, flight, attempt, usage, ending } = under_way;
        self.world.land(&winner.candidate, flight, &ending);
        let (id, clock, took) = (winner.candidate.id, self.world.now, Duration::from_millis(attempt.total_ms));
        record.cost_nanousd += attempt.cost_nanousd;
        record.total_ms += attempt.total_ms;
        record.attempts.push(attempt);
        let meter = self.world.meters[id.0 as usize].get_mut().unwrap();
        let (fault, retry_after) = match ending {
            Ending::Served => {
                meter.first_token(took / 4, clock);
                meter.answer(usage.output, took * 3 / 4, usage.input, usage.cached_input, clock);
                *self.spent_today() += if asked.fence.is_some() { record.cost_nanousd } else { 0 };
                let (model, backend) = (winner.candidate.model.name.shared(), winner.candidate.backend.name.shared());
                return Some(Record { model, backend, reason: decision.reason(), ..record });
            }
            Ending::Failed => (Fault::Backend, None),
            Ending::Refused(wait) => (Fault::Quota, Some(wait)),
        };
        meter.failure(None, clock);
        let class = Class::Elsewhere;
        seen.push(AttemptSeen { candidate: id, class, fault, retry_after, elapsed: took });
        match retry::next(&seen, &decision, false, &mut || true, None) {
            Next::Stop(_) => Some(Record { status: 502, code: "upstream_error", end: "failed", ..record }),
            Next::Try { .. } if seen.len() >= 3 => {
                Some(Record { status: 502, code: "upstream_error", end: "failed", ..record })
            }
            Next::Resolve | Next::Try { .. } => {
                let failed = retry::failed(&seen, &decision);
                self.go_on(random, asked, record, seen, &failed)
            }
        }
    }

    /// One attempt: 6 % fail, answers are half to twice as long as expected; nobody answers in an outage, and in a storm who
    /// comes beyond two at once is refused.
    fn attempt(
        &self,
        random: &mut StdRng,
        winner: &Ranked,
        facts: &Facts,
        at: Timestamp,
        decision: u32,
    ) -> (AttemptRecord, Usage, Ending) {
        let thinking = value::thinks(&winner.candidate.model, facts);
        let account = &self.world.accounts[winner.candidate.backend.name.as_str()];
        let ending = if self.world.is_time_of(STORM, &winner.candidate) && account.under_way() > 2 {
            Ending::Refused(Duration::from_secs(random.random_range(1..5)))
        } else if self.world.is_time_of(OUTAGE, &winner.candidate) || random.random_bool(0.06) {
            Ending::Failed
        } else {
            Ending::Served
        };
        let ok = matches!(ending, Ending::Served);
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
        let (outcome, upstream_status) = match ending {
            Ending::Served => ("ok", 200),
            Ending::Failed => ("error", 500),
            Ending::Refused(_) => ("quota", 429),
        };
        let record = AttemptRecord {
            model: winner.candidate.model.name.shared(),
            backend: winner.candidate.backend.name.shared(),
            account: "default".into(),
            decision,
            at,
            outcome,
            upstream_status,
            first_token_ms: (ok && facts.stream).then(|| random.random_range(100..900)),
            total_ms: if ok { 1000 + output * 11 } else { 300 },
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
        (record, usage, ending)
    }
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
    warm: Option<(CandidateId, u64)>,
    trail: Arc<Trail>,
}

impl Asked {
    fn random(world: &World, random: &mut StdRng, at: Timestamp, number: usize, spent: i64) -> Self {
        let policies = Arc::clone(&world.policies);
        let team = Arc::clone(&policies.teams[["default", "paid"][number % 2]]);
        let facts = facts(random);
        let route = Arc::clone(policies.route(&facts.model).unwrap());
        let candidate = CandidateId(random.random_range(0..u32::try_from(policies.candidates.len()).unwrap()));
        let warm = random.random_bool(0.3).then_some((candidate, facts.input_tokens / 2));
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
        Self { policies, team, route, facts, user, seed, budget, fence, warm, trail }
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
        let watching = Watching { world, warm: self.warm };
        let noting = Noting::new(&watching);
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
