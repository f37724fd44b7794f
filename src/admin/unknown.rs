//! Names in a question that nothing bears: told with what is close, since a sum of nothing would be taken for an answer.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use super::api::AbsentLine;
use crate::{
    config::close_names,
    ledger::{
        report::{Dimension, Filter},
        row::Row,
    },
    policy::Policies,
    proxy::OPEN_TEAM,
};

/// A name that neither the policies nor the books know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} `{name}`{beyond}\nhint: {hint}")]
pub struct UnknownName {
    what: String,
    name: String,
    beyond: &'static str,
    hint: String,
}

impl UnknownName {
    /// Whether that is a team of the policies, or one of `more`.
    ///
    /// # Errors
    /// It is not: the names that are close.
    pub fn check_team<'a>(
        policies: &'a Policies,
        more: impl IntoIterator<Item = &'a str>,
        team: Option<&str>,
    ) -> Result<(), Self> {
        let Some(team) = team else { return Ok(()) };
        let names: Vec<&str> = names(policies, &Dimension::Team).into_iter().chain(more).collect();
        if names.contains(&team) {
            return Ok(());
        }
        let hint = close_names(team, names, "the policies define no team");
        Err(Self { what: "team".to_owned(), name: team.to_owned(), beyond: "", hint })
    }
}

/// What the policies have on a dimension; empty for those that they do not define.
fn names<'p>(policies: &'p Policies, dimension: &Dimension) -> Vec<&'p str> {
    match dimension {
        Dimension::Team if policies.teams.is_empty() => vec![OPEN_TEAM],
        Dimension::Team => policies.teams.keys().map(|name| name.as_str()).collect(),
        Dimension::Route => policies.routes.keys().map(|name| name.as_str()).collect(),
        Dimension::Model => policies.models.keys().map(|name| name.as_str()).collect(),
        Dimension::Backend => policies.backends.keys().map(|name| name.as_str()).collect(),
        Dimension::Provider => policies.backends.values().map(|backend| backend.provider).collect(),
        Dimension::Account => {
            let accounts = policies.backends.values().flat_map(|backend| &backend.accounts);
            accounts.map(|account| account.name.as_str()).collect()
        }
        _ => Vec::new(),
    }
}

/// The values that a question about the books is bound to: those that no row of its time bears, and among them names that
/// the policies do not know either. A row may: what was there before.
pub struct Unheard<'p> {
    policies: Option<&'p Policies>,
    sought: Vec<Sought>,
    /// What rows bear on each of those dimensions, for hints.
    met: Vec<(Dimension, BTreeSet<String>)>,
}

/// One value.
struct Sought {
    dimension: Dimension,
    value: String,
    /// The policies could define it, and do not.
    strange: bool,
    /// A row that was read bears it.
    heard: bool,
    /// A row of the time that was asked for bears it.
    booked: bool,
}

/// So many names are kept for a hint, on each dimension.
const MOST: usize = 1000;

impl<'p> Unheard<'p> {
    /// Those of `filter`. What begins with `@` is Turnpike's own, such as the team of shadows.
    pub fn of(policies: Option<&'p Policies>, filter: &Filter) -> Self {
        let mut unheard = Self { policies, sought: Vec::new(), met: Vec::new() };
        for (dimension, values) in &filter.0 {
            let known = policies.map(|policies| names(policies, dimension)).unwrap_or_default();
            unheard.sought.extend(values.iter().map(|value| Sought {
                dimension: dimension.clone(),
                value: value.clone(),
                strange: is_defined(dimension) && !known.contains(&value.as_str()) && !value.starts_with('@'),
                heard: false,
                booked: false,
            }));
            unheard.met.push((dimension.clone(), BTreeSet::new()));
        }
        unheard
    }

    /// Whatever this row bears is a name; `within`: it is of the time that was asked for.
    pub fn meet(&mut self, row: &Row, within: bool, zone: &TimeZone) {
        let Self { sought, met, .. } = self;
        for (dimension, met) in met {
            let mut sought =
                sought.iter_mut().filter(|sought| sought.dimension == *dimension && !sought.booked).peekable();
            if sought.peek().is_none() {
                continue;
            }
            let value = dimension.value(row, zone);
            if met.len() < MOST && !value.is_empty() && !met.contains(&*value) {
                met.insert(value.clone().into_owned());
            }
            for sought in sought.filter(|sought| sought.value == *value) {
                sought.heard = true;
                sought.booked |= within;
            }
        }
    }

    /// Whether all names were met.
    ///
    /// # Errors
    /// The first that was not.
    pub fn check(&self) -> Result<(), UnknownName> {
        let Some(Sought { dimension, value, .. }) = self.sought.iter().find(|sought| sought.strange && !sought.heard)
        else {
            return Ok(());
        };
        let known = self.policies.map(|policies| names(policies, dimension)).unwrap_or_default();
        let known: Vec<&str> = known.into_iter().chain(self.met(dimension)).collect();
        let hint = close_names(value, known, "nothing is booked, and the policies define none");
        let beyond = match self.policies {
            Some(_) => ", neither in the policies nor in the books of that time",
            None => " in what was read",
        };
        Err(UnknownName { what: dimension.to_string(), name: value.clone(), beyond, hint })
    }

    /// The values that nothing of the time bears.
    pub fn absent(&self) -> Vec<AbsentLine> {
        let absent = self.sought.iter().filter(|sought| !sought.booked);
        let line = |Sought { dimension, value, .. }: &Sought| AbsentLine {
            what: dimension.to_string(),
            value: value.clone(),
            hint: close_names(
                value,
                self.met(dimension).filter(|met| met != value).collect::<Vec<_>>(),
                "there is none at all",
            ),
        };
        absent.map(line).collect()
    }

    fn met(&self, dimension: &Dimension) -> impl Iterator<Item = &str> + Clone {
        let met = self.met.iter().filter(move |(known, _)| known == dimension);
        met.flat_map(|(_, met)| met.iter().map(String::as_str))
    }
}

/// Whether the policies define what is on a dimension.
const fn is_defined(dimension: &Dimension) -> bool {
    matches!(
        dimension,
        Dimension::Team
            | Dimension::Route
            | Dimension::Model
            | Dimension::Backend
            | Dimension::Provider
            | Dimension::Account
    )
}
