//! Traffic of the demo's policies: random requests, meters, breakers, accounts and budgets on a virtual clock, requests that
//! overlap, failures and failovers, and in each hour an outage of one vendor and a storm of refusals (429) by another.

use std::{
    collections::BTreeMap,
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
        tenants::{Limits, Team},
        usage::Usage,
    },
    config::{self, Loaded},
    policy::{
        BudgetSeen, Caller, Decision, Observations, Policies, Question, Ranked, Route, Seen, Unavailable,
        account::{Account, Boarded, Busy, End, Passage},
        breaker::{Breaker, Outcome, Permit},
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

/// In which ten minutes of each hour who is down, and whose vendor refuses what comes beyond two at once.
const OUTAGE: (u64, &str) = (1, "deepseek");
const STORM: (u64, &str) = (3, "deepseek");
/// How many requests at once the vendor of own servers is known to take.
const AT_ONCE: u32 = 3;

struct World {
    policies: Arc<Policies>,
    meters: Vec<Mutex<Meter>>,
    breakers: Vec<Breaker>,
    accounts: BTreeMap<String, Account>,
    now: Duration,
}

/// What an attempt holds of its candidate while it is under way.
struct Flight {
    permit: Permit,
    boarded: Boarded,
}

impl World {
    fn new(policies: &Arc<Policies>) -> Self {
        Self {
            policies: Arc::clone(policies),
            meters: policies.candidates.iter().map(|_| Mutex::default()).collect(),
            breakers: policies.candidates.iter().map(|candidate| Breaker::new(candidate.id.0.into())).collect(),
            accounts: policies.backends.keys().map(|name| (name.to_string(), Account::default())).collect(),
            now: Duration::from_secs(1000),
        }
    }

    fn is_time_of(&self, (part, backend): (u64, &str), candidate: &Candidate) -> bool {
        self.now.as_secs() % 3_600 / 600 == part && *candidate.backend.name == *backend
    }

    fn passage(candidate: &Candidate) -> Passage<'_> {
        let cap = (*candidate.backend.name == *"gpu").then_some(AT_ONCE);
        Passage { model: &candidate.upstream, cap, tokens: 0 }
    }

    fn board(&mut self, candidate: &Candidate) -> Flight {
        let permit = self.breakers[candidate.id.0 as usize].admit_anyway(self.now);
        let account = self.accounts.get_mut(candidate.backend.name.as_str()).unwrap();
        let boarded = account.board(&Limits::default(), &Self::passage(candidate), true, self.now).unwrap();
        Flight { permit, boarded }
    }

    fn land(&mut self, candidate: &Candidate, flight: Flight, end: &Ending) {
        let account = self.accounts.get_mut(candidate.backend.name.as_str()).unwrap();
        let (outcome, end) = match end {
            Ending::Served => (Outcome::Success, End::Served { tokens: 0 }),
            Ending::Failed => (Outcome::Failure, End::Other { tokens: 0 }),
            Ending::Refused(wait) => {
                account.park(*wait, self.now);
                (Outcome::Unknown, End::Refused)
            }
        };
        account.ended(&Limits::default(), &flight.boarded, end, self.now);
        account.left(&flight.boarded);
        self.breakers[candidate.id.0 as usize].report(flight.permit, outcome, self.now);
    }
}

/// The world as one conversation sees it, which may be warm with somebody.
struct Watching<'w> {
    world: &'w World,
    warm: Option<(CandidateId, u64)>,
}

impl Observations for Watching<'_> {
    fn seen(&self, candidate: &Candidate) -> Seen {
        let Self { world, warm } = self;
        let broken = world.breakers[candidate.id.0 as usize].broken_for(world.now).map(Unavailable::Broken);
        let account = &world.accounts[candidate.backend.name.as_str()];
        let busy = account.busy(&Limits::default(), &World::passage(candidate), world.now).map(|busy| match busy {
            Busy::For(wait) => Unavailable::Parked(wait),
            Busy::Full => Unavailable::Full,
            Busy::Crowded => Unavailable::Crowded,
        });
        let seen = world.meters[candidate.id.0 as usize].lock().unwrap().seen(world.now, broken.or(busy));
        let warm_tokens = warm.filter(|(id, _)| *id == candidate.id).map_or(0, |(_, tokens)| tokens);
        Seen { warm_tokens, ..seen }
    }

    fn answer_p90(&self, candidate: &Candidate, _: &turnpike::base::names::RouteName) -> Option<u64> {
        candidate.id.0.is_multiple_of(2).then(|| 300 + u64::from(candidate.id.0))
    }
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

/// How an attempt ends.
enum Ending {
    Served,
    Failed,
    /// With 429, and for how long its vendor wants to be left alone.
    Refused(Duration),
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
