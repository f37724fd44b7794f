//! A gateway on the virtual clock: the real decision, breakers, retries and picker, put together as `proxy` does it.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use turnpike::{
    base::{
        catalog::Candidate,
        facts::Facts,
        failure::Fault,
        tenants::{Limits, Team},
    },
    config,
    policy::{
        BudgetSeen, Caller, Decision, Observations, Policies, Question, Seen, Unavailable,
        account::{self, Account, Boarded, Busy, Passage},
        balance::{Ask, End, Pool, ReplicaId, Ticket, mix},
        breaker::{Breaker, Outcome, Permit},
        decide::decide,
        queue::{Line, Queue},
        retry::{self, AttemptSeen, RetryBudget},
    },
};

use crate::{pickers::Picker, scenario::Scenario};

/// How long a backend is left alone after a 429, as `proxy::live` does.
const PARK_QUOTA: Duration = Duration::from_secs(5);

/// Attempts that a request may make.
const ATTEMPTS: u32 = 3;

/// The policies: backends `b0`, `b1`, … of so many servers each, tried in that order, the first with its longest wait in
/// milliseconds. Read once, since the catalog's scores come with them.
pub fn policies(sites: &[usize], spill: Option<u64>) -> Arc<Policies> {
    type Read = BTreeMap<(Vec<usize>, Option<u64>), Arc<Policies>>;
    static READ: Mutex<Read> = Mutex::new(BTreeMap::new());
    let mut read = READ.lock().unwrap();
    Arc::clone(read.entry((sites.to_vec(), spill)).or_insert_with(|| load(sites, spill)))
}

fn load(sites: &[usize], spill: Option<u64>) -> Arc<Policies> {
    let mut text = String::from("backends:\n");
    for (site, servers) in sites.iter().enumerate() {
        let urls: Vec<String> = (0..*servers).map(|server| format!("\"http://s{server}.b{site}:8000\"")).collect();
        let spill =
            spill.filter(|_| site == 0).map(|ms| format!(", spill: {{queue_wait: {ms}ms}}")).unwrap_or_default();
        text += &format!("  b{site}: {{provider: vllm, endpoints: [{}]{spill}}}\n", urls.join(", "));
    }
    text += "models:\n";
    let names = 0..sites.len();
    names.clone().for_each(|site| text += &format!("  m{site}: {{backends: {{b{site}: m}}}}\n"));
    let order: Vec<String> = names.map(|site| format!("m{site}")).collect();
    text += &format!("routes: {{r: {{order: [{}], attempts: {ATTEMPTS}}}}}\n", order.join(", "));
    let files = [(PathBuf::from("policies/sim.yaml"), text)];
    let loaded = config::from_texts(&files, &|_: &str| None, Timestamp::UNIX_EPOCH);
    loaded.map(|loaded| loaded.policies).unwrap_or_else(|faults| panic!("{:?}", faults.list))
}

/// One gateway.
pub struct Gateway {
    policies: Arc<Policies>,
    pub sites: Vec<Site>,
    budget: RetryBudget,
    team: Team,
    facts: Facts,
    /// The decision while everybody may be asked.
    usual: Option<Arc<Decision>>,
    /// Whether refusals lower what is sent at once.
    adaptive: bool,
}

/// One backend of it.
pub struct Site {
    pub pool: Pool,
    pub members: Vec<ReplicaId>,
    breaker: Breaker,
    account: Account,
    /// Where `spill` asks for it.
    queue: Option<Queue>,
}

/// What a vendor takes at once is not known in advance, and nothing was agreed.
const LIMITS: Limits = Limits { requests: None, tokens: None, concurrent: None };

fn busy(site: &Site, now: Duration) -> Option<Busy> {
    site.account.busy(&LIMITS, &Passage { model: &"m".into(), cap: None, tokens: 0 }, now)
}

/// An attempt under way.
#[derive(Clone, Debug)]
pub struct Flight {
    pub site: usize,
    /// Which server of the site.
    pub server: usize,
    pub ticket: Ticket,
    permit: Permit,
    boarded: Boarded,
    queued: Option<u64>,
}

/// What a request is to the course.
#[derive(Clone, Debug, Default)]
pub struct Course {
    pub seed: u64,
    pub seen: Vec<AttemptSeen>,
    tried: Vec<ReplicaId>,
    decision: Option<Arc<Decision>>,
}

/// How a failed attempt looks.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    pub fault: Fault,
    pub retry_after: Option<Duration>,
}

/// What is left to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Again(Duration),
    Stop,
}

struct Watching<'a>(&'a Gateway, Duration);

impl Observations for Watching<'_> {
    fn seen(&self, candidate: &Candidate) -> Seen {
        let site = &self.0.sites[place(candidate)];
        let broken = site.breaker.broken_for(self.1).map(Unavailable::Broken);
        let busy = busy(site, self.1).map(|busy| match busy {
            Busy::For(wait) => Unavailable::Parked(wait),
            Busy::Full => Unavailable::Full,
            Busy::Crowded => Unavailable::Crowded,
        });
        Seen { unavailable: broken.or(busy), line: site.line(self.1), ..Seen::default() }
    }
}

fn place(candidate: &Candidate) -> usize {
    candidate.backend.name.as_str()[1..].parse().unwrap()
}

impl Site {
    fn line(&self, now: Duration) -> Line {
        self.queue.as_ref().map(|queue| queue.line(self.pool.company(&self.members, now), now)).unwrap_or_default()
    }

    /// Its first token came.
    pub fn first_token(&mut self, flight: &Flight, now: Duration) {
        self.pool.first_token(&flight.ticket, now);
        if let Some((queue, number)) = self.queue.as_mut().zip(flight.queued) {
            queue.answered(number, now);
        }
    }

    fn unqueue(&mut self, flight: &Flight) {
        if let Some((queue, number)) = self.queue.as_mut().zip(flight.queued) {
            queue.left(number);
        }
    }
}

impl Course {
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }
}

impl Gateway {
    pub fn new(policies: &Arc<Policies>, scenario: &Scenario, sites: &[usize], seed: u64) -> Self {
        let sites = sites.iter().enumerate().map(|(site, servers)| {
            let names: Vec<Arc<str>> = (0..*servers).map(|server| format!("http://s{server}.b{site}").into()).collect();
            let mut pool = Pool::new(mix(seed ^ site as u64));
            let members = pool.set(&names, Duration::ZERO);
            let queue = scenario.spill.filter(|_| site == 0).map(|_| Queue::default());
            Site { pool, members, breaker: Breaker::new(seed), account: Account::default(), queue }
        });
        let facts = Facts { model: "r".into(), stream: true, answers: 1, messages: 1, ..Facts::default() };
        Self {
            policies: Arc::clone(policies),
            sites: sites.collect(),
            budget: RetryBudget::default(),
            team: Team::named("sim"),
            facts,
            usual: None,
            adaptive: scenario.adaptive,
        }
    }

    /// A request came.
    pub fn begin(&mut self, course: &mut Course, now: Duration) {
        self.budget.on_request(now);
        let sound = |site: &Site| !site.breaker.is_open() && busy(site, now).is_none() && site.queue.is_none();
        let all_sound = self.sites.iter().all(sound);
        course.decision = Some(match &self.usual {
            // A decision over the same observations is the same one.
            Some(usual) if all_sound => Arc::clone(usual),
            _ => {
                let decision = Arc::new(self.decide(course, now));
                if all_sound {
                    self.usual = Some(Arc::clone(&decision));
                }
                decision
            }
        });
    }

    fn decide(&self, course: &Course, now: Duration) -> Decision {
        let failed = course.decision.as_ref().map(|last| retry::failed(&course.seen, last)).unwrap_or_default();
        let question = Question {
            route: self.policies.route("r").unwrap(),
            facts: &self.facts,
            caller: Caller { team: &self.team, key: "", user: "", session: "" },
            budget: BudgetSeen::default(),
            now: Timestamp::UNIX_EPOCH,
            time_left: None,
            seed: course.seed,
            failed: &failed,
            affordable: None,
            budgeted: false,
            exhausted: &[],
        };
        decide(&self.policies, &Watching(self, now), &question)
    }

    /// The next attempt; `None` = nobody is left.
    pub fn board(&mut self, course: &mut Course, picker: &Picker, ask: Ask<'_>, now: Duration) -> Option<Flight> {
        let decision = Arc::clone(course.decision.as_ref()?);
        let first = decision.ranked.first()?;
        let number = place(&first.candidate);
        let site = &mut self.sites[number];
        let permit =
            if decision.last_resort { site.breaker.admit_anyway(now) } else { site.breaker.admit(now).ok()? };
        let passage = Passage { model: &"m".into(), cap: None, tokens: 0 };
        let boarded = site.account.board(&LIMITS, &passage, true, now).ok()?;
        let ticket = site.pool.pick(picker.balancer(), &site.members, &course.tried, &ask, now)?;
        let server = site.members.iter().position(|id| *id == ticket.replica)?;
        let company = site.pool.company(&site.members, now);
        let queued = site.queue.as_mut().map(|queue| queue.sent(company, true, now));
        Some(Flight { site: number, server, ticket, permit, boarded, queued })
    }

    /// An attempt served to its end.
    pub fn served(&mut self, flight: &Flight, cached: u64, now: Duration) {
        let site = &mut self.sites[flight.site];
        site.pool.ended(&flight.ticket, End::Served { cached }, now);
        site.unqueue(flight);
        site.breaker.report(flight.permit, Outcome::Success, now);
        site.account.ended(&LIMITS, &flight.boarded, account::End::Served { tokens: 0 }, now);
        site.account.left(&flight.boarded);
    }

    /// An attempt failed: what is to be done next, as `proxy::course` does it.
    pub fn failed(&mut self, course: &mut Course, flight: &Flight, failure: Failure, now: Duration) -> Then {
        let site = &mut self.sites[flight.site];
        let mut at_rest;
        site.unqueue(flight);
        let outcome = if failure.fault == Fault::Backend {
            site.pool.ended(&flight.ticket, End::Failed { retry_after: failure.retry_after }, now);
            let others = site.pool.has_sound(&site.members, flight.ticket.replica, now);
            course.tried.push(flight.ticket.replica);
            at_rest = others;
            if others { Outcome::Unknown } else { Outcome::Failure }
        } else {
            site.pool.ended(&flight.ticket, End::Unknown, now);
            at_rest = true;
            site.account.park(failure.retry_after.unwrap_or(PARK_QUOTA), now);
            Outcome::Unknown
        };
        let refused = failure.fault == Fault::Quota && self.adaptive;
        let end = if refused { account::End::Refused } else { account::End::Other { tokens: 0 } };
        site.account.ended(&LIMITS, &flight.boarded, end, now);
        site.account.left(&flight.boarded);
        site.breaker.report(flight.permit, outcome, now);
        at_rest |= site.breaker.broken_for(now).is_some();
        let decision = Arc::clone(course.decision.as_ref().unwrap());
        let candidate = decision.ranked[0].candidate.id;
        let class = turnpike::base::failure::Class::Elsewhere;
        let (fault, retry_after) = (failure.fault, failure.retry_after);
        course.seen.push(AttemptSeen { candidate, class, fault, retry_after, elapsed: Duration::ZERO });
        match retry::next(&course.seen, &decision, at_rest, &mut || self.budget.try_take(now), None) {
            retry::Next::Try { delay, .. } => Then::Again(delay),
            retry::Next::Resolve => {
                course.tried.clear();
                course.decision = Some(Arc::new(self.decide(course, now)));
                Then::Again(Duration::ZERO)
            }
            retry::Next::Stop(_) => Then::Stop,
        }
    }
}
