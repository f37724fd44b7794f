//! Tenants: teams, their keys, and what each may use.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{Timestamp, tz::TimeZone};

use super::{
    money::Money,
    names::{KeyId, Location, TeamName},
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
    /// Its budgets.
    pub budgets: Vec<Budget>,
    /// Labels booked with every row.
    pub labels: Arc<BTreeMap<String, String>>,
}

impl Team {
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

    /// Whether any budget binds the team: then every cost must be known.
    pub fn has_budget(&self) -> bool {
        self.lineage().any(|team| !team.budgets.is_empty())
    }
}

/// An amount that a team may spend in each window of the calendar.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Its name; an edit of the rest never resets what is booked under it.
    pub name: Arc<str>,
    /// The amount for one window.
    pub limit: Money,
    /// The length of a window.
    pub per: Period,
    /// The zone whose calendar cuts the windows.
    pub zone: TimeZone,
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
