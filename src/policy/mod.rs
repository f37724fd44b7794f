//! Layer 1, pure: the policies as the gateway holds them, and the decision that they make.
//!
//! Nothing here reads a clock, a file, a socket or a random source: `decide(policies, observations, question)` gives
//! the same [`Decision`] for the same arguments, so a recorded one can be made again.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use crate::base::{
    catalog::{Backend, Candidate, CandidateId, Model},
    facts::Facts,
    fences::Fence,
    money::{Currency, ExchangeRate, Money},
    names::{BackendName, KeyId, ModelName, RouteName, TeamName},
    notices::Webhook,
    priority::Priority,
    scores::Scores,
    tenants::{Key, Team},
};

pub mod account;
pub mod aimd;
pub mod balance;
pub mod breaker;
pub mod decide;
mod decision;
mod filter;
pub mod flow;
pub mod hedge;
pub mod hints;
pub mod lineup;
pub mod loss;
pub mod observe;
pub mod patience;
pub mod queue;
mod reason;
mod rent;
pub mod retry;
pub mod rollout;
mod route;
pub mod rules;
#[cfg(test)]
mod sample;
pub mod shed;
mod split;
pub mod stake;
mod terms;

pub mod value;

use observe::margins::Margins;
use queue::Line;

pub use decision::{BreakEven, Decision, Ordering, PriceInForce, Ranked, Rejected, Rejection};
pub use route::{Arm, Choice, Floor, Prefer, Require, Route, Shadow, StickyBy};
pub use terms::Terms;

/// Everything that operators wrote, checked and lowered: one immutable snapshot for the whole of a request.
pub struct Policies {
    /// Twelve hex digits of the SHA-256 of all policy texts.
    pub hash: Arc<str>,
    /// Backends by name.
    pub backends: BTreeMap<BackendName, Arc<Backend>>,
    /// Models by name.
    pub models: BTreeMap<ModelName, Arc<Model>>,
    /// All (model, backend) pairs; `CandidateId` is the index.
    pub candidates: Vec<Arc<Candidate>>,
    /// Routes by name; every model has one of its own name unless the operator wrote one.
    pub routes: BTreeMap<RouteName, Arc<Route>>,
    /// Other names of routes and models.
    pub aliases: BTreeMap<String, String>,
    /// Teams by name.
    pub teams: HashMap<TeamName, Arc<Team>>,
    /// Keys of the `keys:` section by public id.
    pub keys: HashMap<KeyId, Arc<Key>>,
    /// The best class of requests with a key of that section, where it is stated.
    pub key_priorities: HashMap<KeyId, Priority>,
    /// What may be spent with a key of that section, and how fast, where it has such fences.
    pub key_fences: HashMap<KeyId, Arc<[Arc<Fence>]>>,
    /// Exchange rates by currency, sorted by `from`.
    pub currencies: BTreeMap<Currency, Vec<ExchangeRate>>,
    /// The register of scores with its fit.
    pub scores: Scores,
    /// Where operators are told of what.
    pub notify: Vec<Webhook>,
}

impl Policies {
    /// Every budget and limit but those of single users, each once, in the order of owners.
    pub fn fences(&self) -> impl Iterator<Item = &Arc<Fence>> {
        let teams = self.teams.values().flat_map(|team| team.fences.iter());
        let keys = self.key_fences.values().flat_map(|fences| fences.iter());
        let routes = self.routes.values().flat_map(|route| route.fences.iter());
        let shadows = self.routes.values().filter_map(|route| route.shadow.as_ref()).map(|shadow| &shadow.fence);
        let models = self.models.values().flat_map(|model| model.fences.iter());
        let backends = self.backends.values().flat_map(|backend| backend.fences.iter());
        let all = teams.chain(keys).chain(routes).chain(shadows).chain(models).chain(backends);
        // A provider's stand with each of its backends.
        let by_id: BTreeMap<&str, &Arc<Fence>> = all.map(|fence| (fence.id.as_ref(), fence)).collect();
        by_id.into_values()
    }

    /// The route that a client's `model` names: a route, a model or an alias of either.
    pub fn route(&self, name: &str) -> Option<&Arc<Route>> {
        let name = self.aliases.get(name).map_or(name, String::as_str);
        self.routes.get(name)
    }

    /// The candidate of that number.
    pub fn candidate(&self, id: CandidateId) -> &Arc<Candidate> {
        &self.candidates[id.0 as usize]
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The team that pays.
    pub team: &'a Team,
    /// The public id of the key; empty when the gateway is open.
    pub key: &'a str,
    /// The end user, if named.
    pub user: &'a str,
    /// The session, if named.
    pub session: &'a str,
}

/// The tightest budget as last seen, for rules; shares are parts per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetSeen {
    /// The share that is spent or held.
    pub used_ppm: u64,
    /// What is left; `None` = no budget.
    pub left: Option<Money>,
    /// Share spent ÷ share of the window gone by (1,000,000 = on pace).
    pub pace_ppm: u64,
}

/// What has been observed of one candidate lately. Copied into the decision, so that it can be made again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Mean time to the first token; `None` = never measured, the model's prior counts.
    pub first_token: Option<Duration>,
    /// 95th percentile of it.
    pub first_token_p95: Option<Duration>,
    /// Mean time for each further token.
    pub per_token: Option<Duration>,
    /// Mean tokens of an answer on this candidate.
    pub output_tokens: Option<u64>,
    /// Expected share of a prompt that the vendor reads from its cache though the conversation is new to it, in parts per
    /// million.
    pub cached_ppm: u32,
    /// Tokens that this conversation's last turn left in the vendor's cache; 0 = it was served elsewhere, or long ago.
    pub warm_tokens: u64,
    /// How much of what should be warm the vendor has lately read from its cache, in parts per million.
    pub warm_ppm: u32,
    /// Tokens that nine of ten answers of this model on this route do not pass; `None` = too few were seen.
    pub answer_p90: Option<u64>,
    /// By how much its bills pass what was counted.
    pub margins: Margins,
    /// What a request would find at its queue; nothing is looked at where neither `rent` nor `spill` asks for it.
    pub line: Line,
    /// How many servers it has now; `None` = as many as are listed.
    pub servers: Option<u32>,
    /// Its breaker is open, it is parked or full: for how long.
    pub unavailable: Option<Unavailable>,
}

impl Seen {
    /// What is seen of a candidate that nobody has asked yet.
    pub fn unmeasured() -> Self {
        observe::Meter::default().seen(Duration::ZERO, None)
    }
}

/// Why a candidate cannot be tried now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// It failed too often; a probe is due after so long.
    Broken(Duration),
    /// None of its servers is ready, by their own word.
    NotReady,
    /// All its accounts are parked for at least so long.
    Parked(Duration),
    /// As many requests are in flight as it takes.
    Full,
    /// It refused one for its load a moment ago, or as many are in flight as it took before it last did. That was learned
    /// and may be wrong, so it is tried if nobody else is able.
    Crowded,
}

/// Where observations come from: live meters, a record, or a test.
pub trait Observations: Sync {
    /// What has been seen of that candidate.
    fn seen(&self, candidate: &Candidate) -> Seen;

    /// [`Seen::answer_p90`] of that candidate's model on `route`, which is asked for where it is needed only.
    fn answer_p90(&self, candidate: &Candidate, route: &RouteName) -> Option<u64> {
        let _ = route;
        self.seen(candidate).answer_p90
    }

    /// Why an operator has switched that candidate off, apart from the policies.
    fn off(&self, candidate: &Candidate) -> Option<Arc<str>> {
        let _ = candidate;
        None
    }

    /// Why nobody is dealt to that arm of `route` now: its guard or an operator has withdrawn it.
    fn withdrawn(&self, route: &RouteName, arm: &RouteName) -> Option<Arc<str>> {
        let _ = (route, arm);
        None
    }
}

/// One request as the decision sees it.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// The route that the client named.
    pub route: &'a Route,
    /// What is known of the request.
    pub facts: &'a Facts,
    /// Who asks.
    pub caller: Caller<'a>,
    /// The tightest budget.
    pub budget: BudgetSeen,
    /// The instant, for prices, calendars and rules.
    pub now: Timestamp,
    /// What the time limit of the request leaves; `None` = no limit.
    pub time_left: Option<Duration>,
    /// Randomness of this request: ties and splits are drawn from it.
    pub seed: u64,
    /// Candidates that failed already: rejected as [`Rejection::Failed`].
    pub failed: &'a [CandidateId],
    /// What a budget can still pay, when that is less than what would be held.
    pub affordable: Option<Purse>,
    /// A budget of money binds the request, so that every cost must be known.
    pub budgeted: bool,
    /// Candidates with a budget or limit of their own that is reached, and which: rejected as
    /// [`Rejection::Exhausted`].
    pub exhausted: &'a [(CandidateId, Arc<str>)],
}

/// What a budget of money can still pay, and how far a decision goes to stay within.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purse {
    /// What is left.
    pub left: Money,
    /// The cheapest wins, whatever the route prefers.
    pub cheapest: bool,
    /// An answer's cap is lowered to what is left rather than rejecting the candidate.
    pub clamp: bool,
}
