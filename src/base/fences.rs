//! Fences: what a store counts, and against which cap. Budgets and rate limits are the same thing to it.
//!
//! A fence has an id under which everything is booked; its cap, zone and period may be edited without resetting
//! what stands under the id. Fences are made when the policies are loaded, except those of single users.

use std::{fmt::Write, sync::Arc};

use jiff::tz::TimeZone;

use super::{
    money::Money,
    names::{BackendName, KeyId, ModelName, RouteName, TeamName},
    tenants::Period,
};

/// What a fence counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Nano-USD.
    Money,
    /// Prompt and completion tokens.
    Tokens,
    /// Requests, whatever becomes of them.
    Requests,
    /// Requests under way; nothing is left of one that has ended.
    Concurrent,
}

impl Unit {
    /// The word in files, books and headers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Money => "usd",
            Self::Tokens => "tokens",
            Self::Requests => "requests",
            Self::Concurrent => "concurrent",
        }
    }

    /// An amount of this unit as text: `0.25 USD`, `400 tokens`.
    pub fn write(self, amount: i64) -> String {
        match self {
            Self::Money => format!("{} USD", Money::from_nanousd(amount)),
            Self::Tokens => format!("{amount} tokens"),
            Self::Requests => format!("{amount} requests"),
            Self::Concurrent => format!("{amount} requests at once"),
        }
    }
}

/// Whom a fence surrounds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A team and every team below it.
    Team(TeamName),
    /// One user of a team.
    User(TeamName, Arc<str>),
    /// One client key.
    Key(KeyId),
    /// A route.
    Route(RouteName),
    /// A model, whoever serves it.
    Model(ModelName),
    /// One backend.
    Backend(BackendName),
    /// All backends of one provider.
    Provider(Arc<str>),
}

impl Owner {
    /// The word for its kind.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Team(_) => "team",
            Self::User(..) => "user",
            Self::Key(_) => "key",
            Self::Route(_) => "route",
            Self::Model(_) => "model",
            Self::Backend(_) => "backend",
            Self::Provider(_) => "provider",
        }
    }

    /// Its name without its kind; a user's with the team's.
    pub fn name(&self) -> String {
        match self {
            Self::Team(name) => name.to_string(),
            Self::User(team, user) => format!("{team}/{user}"),
            Self::Key(id) => id.to_string(),
            Self::Route(name) => name.to_string(),
            Self::Model(name) => name.to_string(),
            Self::Backend(name) => name.to_string(),
            Self::Provider(name) => name.to_string(),
        }
    }

    /// The team whose labels its metrics bear, if it is one.
    pub const fn team(&self) -> Option<&TeamName> {
        match self {
            Self::Team(name) | Self::User(name, _) => Some(name),
            Self::Key(_) | Self::Route(_) | Self::Model(_) | Self::Backend(_) | Self::Provider(_) => None,
        }
    }

    /// Whether it surrounds single attempts (by who serves them) rather than whole requests (by who asks).
    pub const fn of_attempts(&self) -> bool {
        matches!(self, Self::Model(_) | Self::Backend(_) | Self::Provider(_))
    }

    /// Whether an attempt served by `model` through `backend` of `provider` is inside.
    pub fn surrounds(&self, model: &str, backend: &str, provider: &str) -> bool {
        match self {
            Self::Team(_) | Self::User(..) | Self::Key(_) | Self::Route(_) => true,
            Self::Model(name) => name.as_str() == model,
            Self::Backend(name) => name.as_str() == backend,
            Self::Provider(name) => name.as_ref() == provider,
        }
    }
}

/// What a fence does when it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// An amount to be spent: 402, and a stream that outgrows it is cut.
    Budget,
    /// A pace: 429; estimated when a request begins, charged as used when it ends, never cut.
    Limit,
}

/// One budget or limit as a store counts it.
#[derive(Clone, Debug)]
pub struct Fence {
    /// What everything is booked under: the owner's kind and name and the fence's own (`team/search/month`).
    pub id: Arc<str>,
    /// Whom it surrounds.
    pub owner: Owner,
    /// Its own name among its owner's; limits are called after what they count (`requests/minute`).
    pub name: Arc<str>,
    /// What it counts.
    pub unit: Unit,
    /// What happens when it is reached.
    pub purpose: Purpose,
    /// The most of one window, in the unit, raises included.
    pub cap: i64,
    /// Of the cap, what raises add to it for now.
    pub raised: i64,
    /// The length of a window; `None` = it counts what is under way.
    pub per: Option<Period>,
    /// The zone whose calendar cuts the windows.
    pub zone: TimeZone,
    /// Shares of the cap that are told to operators when they are passed, in parts per million, ascending.
    pub warn_ppm: Arc<[u32]>,
}

impl Fence {
    /// The id of an owner's fence. What could break a key or a line is written as `%XX`; so is a slash in the name of
    /// a user, since users name themselves and none may be taken for one of another team.
    pub fn id_of(owner: &Owner, name: &str) -> Arc<str> {
        let mut id = String::with_capacity(64);
        id.push_str(owner.kind());
        id.push('/');
        match owner {
            Owner::User(team, user) => {
                write_plain(&mut id, team, true);
                id.push('/');
                write_plain(&mut id, user, false);
            }
            other => write_plain(&mut id, &other.name(), true),
        }
        id.push('/');
        id.push_str(name);
        id.into()
    }

    /// The same fence with its cap raised by so much, whatever had raised it before.
    #[must_use]
    pub fn raised_by(self: &Arc<Self>, amount: i64) -> Arc<Self> {
        if amount == self.raised {
            return Arc::clone(self);
        }
        let cap = self.cap.saturating_sub(self.raised).saturating_add(amount);
        Arc::new(Self { cap, raised: amount, ..Self::clone(self) })
    }

    /// What is said of it to whoever reached it: budget `month` of team `search`.
    pub fn label(&self) -> String {
        let what = match self.purpose {
            Purpose::Budget => "budget",
            Purpose::Limit => "limit",
        };
        match &self.owner {
            // Whom a team counts under which user is between it and its users; the name is the user's own.
            Owner::User(team, _) => format!("{what} `{}` of this user of team `{team}`", self.name),
            owner => format!("{what} `{}` of {} `{}`", self.name, owner.kind(), owner.name()),
        }
    }
}

/// Adds `name` to an id.
fn write_plain(id: &mut String, name: &str, slash: bool) {
    for letter in name.chars() {
        let plain = letter.is_alphanumeric() || matches!(letter, '-' | '_' | '.' | '@' | '+' | '=');
        if plain || (slash && letter == '/') {
            id.push(letter);
            continue;
        }
        let mut bytes = [0; 4];
        for byte in letter.encode_utf8(&mut bytes).bytes() {
            let _ = write!(id, "%{byte:02x}");
        }
    }
}

#[cfg(test)]
impl Fence {
    /// One for tests: a budget of money, or a limit of something else, called `day` and by the day of UTC.
    pub fn sample(owner: Owner, unit: Unit, cap: i64) -> Self {
        Self {
            id: Self::id_of(&owner, "day"),
            owner,
            name: "day".into(),
            unit,
            purpose: if unit == Unit::Money { Purpose::Budget } else { Purpose::Limit },
            cap,
            raised: 0,
            per: (unit != Unit::Concurrent).then_some(Period::Day),
            zone: TimeZone::UTC,
            warn_ppm: Arc::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_apart_and_hold_nothing_that_breaks_a_line() {
        let user = |name: &str| Owner::User("search".into(), name.into());
        assert_eq!(&*Fence::id_of(&Owner::Team("search".into()), "month"), "team/search/month");
        assert_eq!(&*Fence::id_of(&user("ann@example.com"), "day"), "user/search/ann@example.com/day");
        assert_eq!(&*Fence::id_of(&user("a b\n{x}"), "day"), "user/search/a%20b%0a%7bx%7d/day");
        assert_ne!(Fence::id_of(&user("a%20b"), "day"), Fence::id_of(&user("a b"), "day"));
        let of_another_team = Owner::User("search/eu".into(), "ann".into());
        assert_ne!(Fence::id_of(&user("eu/ann"), "day"), Fence::id_of(&of_another_team, "day"));
    }
}
