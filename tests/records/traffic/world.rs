//! Who answers the traffic: meters, breakers and accounts of every candidate on a virtual clock.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use turnpike::{
    base::{
        catalog::{Candidate, CandidateId},
        names::RouteName,
        tenants::Limits,
    },
    policy::{
        Observations, Policies, Seen, Unavailable,
        account::{Account, Boarded, Busy, End, Passage},
        breaker::{Breaker, Outcome, Permit},
        observe::Meter,
    },
};

/// In which ten minutes of each hour who is down, and whose vendor refuses what comes beyond two at once.
pub const OUTAGE: (u64, &str) = (1, "deepseek");
pub const STORM: (u64, &str) = (3, "deepseek");
/// How many requests at once the vendor of own servers is known to take.
pub const AT_ONCE: u32 = 3;

/// Candidates, backends and what has been seen of them, at an instant.
pub struct World {
    pub policies: Arc<Policies>,
    pub meters: Vec<Mutex<Meter>>,
    breakers: Vec<Breaker>,
    pub accounts: BTreeMap<String, Account>,
    pub now: Duration,
}

/// What an attempt holds of its candidate while it is under way.
pub struct Flight {
    permit: Permit,
    boarded: Boarded,
}

impl World {
    pub fn new(policies: &Arc<Policies>) -> Self {
        Self {
            policies: Arc::clone(policies),
            meters: policies.candidates.iter().map(|_| Mutex::default()).collect(),
            breakers: policies.candidates.iter().map(|candidate| Breaker::new(candidate.id.0.into())).collect(),
            accounts: policies.backends.keys().map(|name| (name.to_string(), Account::default())).collect(),
            now: Duration::from_secs(1000),
        }
    }

    pub fn is_time_of(&self, (part, backend): (u64, &str), candidate: &Candidate) -> bool {
        self.now.as_secs() % 3_600 / 600 == part && *candidate.backend.name == *backend
    }

    fn passage(candidate: &Candidate) -> Passage<'_> {
        let cap = (*candidate.backend.name == *"gpu").then_some(AT_ONCE);
        Passage { model: &candidate.upstream, cap, tokens: 0 }
    }

    pub fn board(&mut self, candidate: &Candidate) -> Flight {
        let permit = self.breakers[candidate.id.0 as usize].admit_anyway(self.now);
        let account = self.accounts.get_mut(candidate.backend.name.as_str()).unwrap();
        let boarded = account.board(&Limits::default(), &Self::passage(candidate), true, self.now).unwrap();
        Flight { permit, boarded }
    }

    pub fn land(&mut self, candidate: &Candidate, flight: Flight, end: &Ending) {
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
pub struct Watching<'w> {
    pub world: &'w World,
    pub warm: Option<(CandidateId, u64)>,
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

    fn answer_p90(&self, candidate: &Candidate, _: &RouteName) -> Option<u64> {
        candidate.id.0.is_multiple_of(2).then(|| 300 + u64::from(candidate.id.0))
    }
}

/// How an attempt ends.
pub enum Ending {
    Served,
    Failed,
    /// With 429, and for how long its vendor wants to be left alone.
    Refused(Duration),
}
