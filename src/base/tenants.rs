//! Tenants: teams, their keys, and what each may use.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{Timestamp, tz::TimeZone};

use super::{
    fences::{Fence, Owner, Purpose, Unit},
    money::Money,
    names::{KeyId, Location, TeamName},
    priority::Priority,
};

/// A team: who pays, and within which fences.
#[derive(Clone, Debug)]
pub struct Team {
    /// Its name.
    pub name: TeamName,
    /// The team above, whose fences and budgets bind too.
    pub parent: Option<Arc<Team>>,
    /// Routes, models and aliases that it may name; `None` = all.
    pub may_use: Option<Vec<Arc<str>>>,
    /// Where its data may go; `None` = anywhere. Already narrowed by the parent's.
    pub locations: Option<Vec<Location>>,
    /// The class of its requests, and the best that they may ask for; `None` = the usual one.
    pub priority: Option<Priority>,
    /// What it may spend, and how fast: its budgets first, then its limits.
    pub fences: Arc<[Arc<Fence>]>,
    /// What each of its users may spend, and how fast.
    pub per_user: Option<Allowance>,
    /// Where a request names its user; the first that is there counts.
    pub user_from: Arc<[UserSource]>,
    /// What happens when a budget has too little left.
    pub on_empty: OnEmpty,
    /// Whether an answer's cap may be lowered to what a budget of money can still pay, rather than refusing.
    pub clamp_output: bool,
    /// What happens to a stream that outgrows a budget.
    pub midstream: Midstream,
    /// What happens while the store is away.
    pub on_store_loss: OnStoreLoss,
    /// Labels booked with every row.
    pub labels: Arc<BTreeMap<String, String>>,
    /// No text of its requests is kept, whatever the operator's records hold of others'.
    pub no_texts: bool,
}

impl Team {
    /// A team with no fences, no parent and no labels.
    pub fn named(name: impl Into<TeamName>) -> Self {
        Self {
            name: name.into(),
            parent: None,
            may_use: None,
            locations: None,
            priority: None,
            fences: Arc::default(),
            per_user: None,
            user_from: UserSource::usual(),
            on_empty: OnEmpty::default(),
            clamp_output: false,
            midstream: Midstream::default(),
            on_store_loss: OnStoreLoss::default(),
            labels: Arc::default(),
            no_texts: false,
        }
    }

    /// This team and those above it, from the bottom up.
    pub fn lineage(&self) -> impl Iterator<Item = &Team> {
        std::iter::successors(Some(self), |team| team.parent.as_deref())
    }

    /// Whether the team, and every team above it, may name `target`.
    pub fn may_name(&self, target: &str) -> bool {
        self.lineage()
            .all(|team| team.may_use.as_ref().is_none_or(|allowed| allowed.iter().any(|name| name.as_ref() == target)))
    }

    /// Whether data of this team may go to `location`. A backend that states no location is outside every fence.
    pub fn may_send_to(&self, location: Option<&Location>) -> bool {
        self.lineage().all(|team| {
            team.locations.as_ref().is_none_or(|allowed| location.is_some_and(|location| allowed.contains(location)))
        })
    }

    /// Whether its prompts and answers may be kept in records: neither it nor a team above says never.
    pub fn may_keep_texts(&self) -> bool {
        self.lineage().all(|team| !team.no_texts)
    }

    /// The class of its requests, capped by what the teams above state.
    pub fn priority(&self) -> Priority {
        let stated = self.lineage().filter_map(|team| team.priority);
        stated.chain(self.priority.is_none().then(Priority::default)).min().unwrap_or_default()
    }

    /// Whether any budget of money binds the team or its users: then every cost must be known.
    pub fn has_budget(&self) -> bool {
        let of_money = |fence: &Arc<Fence>| fence.unit == Unit::Money;
        self.lineage().any(|team| {
            let users = team.per_user.as_ref().is_some_and(Allowance::has_money);
            users || team.fences.iter().any(of_money)
        })
    }
}

/// What somebody may spend, and how fast, as operators write it.
#[derive(Clone, Debug, Default)]
pub struct Allowance {
    /// Amounts to be spent.
    pub budgets: Vec<Budget>,
    /// Paces to be kept.
    pub limits: Limits,
}

impl Allowance {
    /// Whether any of it is money.
    pub fn has_money(&self) -> bool {
        self.budgets.iter().any(|budget| matches!(budget.limit, Quota::Money(_)))
    }

    /// The fences that it puts around `owner`.
    pub fn around<'a>(&'a self, owner: &'a Owner) -> impl Iterator<Item = Arc<Fence>> + 'a {
        let budgets = self.budgets.iter().map(move |budget| budget.fence(owner));
        budgets.chain(self.limits.fences(owner)).map(Arc::new)
    }
}

/// An amount that may be spent in each window of the calendar.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Its name; an edit of the rest never resets what is booked under it.
    pub name: Arc<str>,
    /// The amount for one window.
    pub limit: Quota,
    /// The length of a window.
    pub per: Period,
    /// The zone whose calendar cuts the windows.
    pub zone: TimeZone,
    /// Shares of the amount that are told to operators when they are passed, in parts per million, ascending.
    pub warn_ppm: Arc<[u32]>,
}

impl Budget {
    fn fence(&self, owner: &Owner) -> Fence {
        let (unit, cap) = match self.limit {
            Quota::Money(money) => (Unit::Money, money.nanousd()),
            Quota::Tokens(tokens) => (Unit::Tokens, count(tokens)),
            Quota::Requests(requests) => (Unit::Requests, count(requests)),
        };
        Fence {
            id: Fence::id_of(owner, &self.name),
            owner: owner.clone(),
            name: Arc::clone(&self.name),
            unit,
            purpose: Purpose::Budget,
            cap,
            raised: 0,
            per: Some(self.per),
            zone: self.zone.clone(),
            warn_ppm: Arc::clone(&self.warn_ppm),
        }
    }
}

/// What a budget is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// Money.
    Money(Money),
    /// Tokens of prompts and answers.
    Tokens(u64),
    /// Requests.
    Requests(u64),
}

/// Paces to be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests.
    pub requests: Option<Rate>,
    /// Tokens of prompts and answers.
    pub tokens: Option<Rate>,
    /// Requests under way.
    pub concurrent: Option<u64>,
}

/// So many per window, cut in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub amount: u64,
    /// The length of a window.
    pub per: Period,
}

impl Limits {
    fn fences(self, owner: &Owner) -> impl Iterator<Item = Fence> + '_ {
        let rates = [(Unit::Requests, self.requests), (Unit::Tokens, self.tokens)];
        let rates = rates.into_iter().filter_map(|(unit, rate)| Some((unit, rate?.amount, Some(rate?.per))));
        let concurrent = self.concurrent.map(|most| (Unit::Concurrent, most, None));
        rates.chain(concurrent).map(|(unit, amount, per)| {
            let name = match per {
                Some(per) => format!("{}/{}", unit.as_str(), per.as_str()),
                None => unit.as_str().to_owned(),
            };
            Fence {
                id: Fence::id_of(owner, &name),
                owner: owner.clone(),
                name: name.into(),
                unit,
                purpose: Purpose::Limit,
                cap: count(amount),
                raised: 0,
                per,
                zone: TimeZone::UTC,
                warn_ppm: Arc::default(),
            }
        })
    }
}

fn count(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

/// Where a request names its end user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserSource {
    /// A request header, in lower case.
    Header(Arc<str>),
    /// A text at the top level of the body.
    Body(Arc<str>),
}

impl UserSource {
    /// Where users are looked for unless the team says otherwise.
    pub fn usual() -> Arc<[Self]> {
        [Self::Header("x-turnpike-user".into()), Self::Body("safety_identifier".into()), Self::Body("user".into())]
            .into()
    }
}

/// What happens when a budget has too little left for a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnEmpty {
    /// It is refused.
    #[default]
    Refuse,
    /// The cheapest able candidate serves it while anything is left.
    Downgrade,
}

/// What happens to a stream that outgrows a budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Midstream {
    /// It ends with an error event.
    #[default]
    Cut,
    /// It may end, and the overdraft is booked.
    Finish,
}

/// What happens to a team's requests while the store is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStoreLoss {
    /// What this gateway has leased is spent, then requests are refused.
    #[default]
    Lease,
    /// Requests are refused.
    Closed,
    /// At most so much is spent by each gateway.
    Open(Money),
}

/// The length of a budget's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A calendar day.
    Day,
    /// Monday to Sunday.
    Week,
    /// A calendar month.
    Month,
}

impl Period {
    /// All periods, the shortest first.
    pub const ALL: [Self; 5] = [Self::Minute, Self::Hour, Self::Day, Self::Week, Self::Month];

    /// The word in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }
}

/// What is stored of a client key: never the secret.
#[derive(Clone, Debug)]
pub struct Key {
    /// The public id.
    pub id: KeyId,
    /// Who pays.
    pub team: TeamName,
    /// SHA-256 of the whole key as the client sends it.
    pub hash: [u8; 32],
    /// What its owner calls it.
    pub name: Option<Arc<str>>,
    /// The first instant at which it is no longer valid.
    pub expires: Option<Timestamp>,
    /// May ask for the decision in a header.
    pub explain: bool,
}
