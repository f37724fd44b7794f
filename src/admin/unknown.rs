//! Names in a question that nothing bears: told with what is close, since a sum of nothing would be taken for an answer.

use std::collections::BTreeSet;

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

/// The names of a question about the books that the policies do not know. A row may: what was there before.
pub struct Unheard<'p> {
    policies: Option<&'p Policies>,
    names: Vec<(Dimension, String)>,
    /// What rows bear on those dimensions, for the hint.
    met: BTreeSet<String>,
}

/// So many names are kept for a hint.
const MOST: usize = 1000;

impl<'p> Unheard<'p> {
    /// Those of `filter`. What begins with `@` is Turnpike's own, such as the team of shadows.
    pub fn of(policies: Option<&'p Policies>, filter: &Filter) -> Self {
        let mut unheard = Vec::new();
        for (dimension, values) in filter.0.iter().filter(|(dimension, _)| is_defined(dimension)) {
            let known = policies.map(|policies| names(policies, dimension)).unwrap_or_default();
            let strange = |value: &&String| !known.contains(&value.as_str()) && !value.starts_with('@');
            unheard.extend(values.iter().filter(strange).map(|value| (dimension.clone(), value.clone())));
        }
        Self { policies, names: unheard, met: BTreeSet::new() }
    }

    /// Whatever this row bears is a name.
    pub fn meet(&mut self, row: &Row) {
        let Some((first, _)) = self.names.first() else { return };
        let zone = jiff::tz::TimeZone::UTC;
        let value = first.value(row, &zone);
        if self.met.len() < MOST && !self.met.contains(&*value) {
            self.met.insert(value.into_owned());
        }
        self.names.retain(|(dimension, name)| dimension.value(row, &zone) != name.as_str());
    }

    /// Whether all were met.
    ///
    /// # Errors
    /// The first that was not.
    pub fn check(&self) -> Result<(), UnknownName> {
        let Some((dimension, name)) = self.names.first() else { return Ok(()) };
        let known = self.policies.map(|policies| names(policies, dimension)).unwrap_or_default();
        let known: Vec<&str> = known.into_iter().chain(self.met.iter().map(String::as_str)).collect();
        let hint = close_names(name, known, "nothing is booked, and the policies define none");
        let beyond = match self.policies {
            Some(_) => ", neither in the policies nor in the books of that time",
            None => " in what was read",
        };
        Err(UnknownName { what: dimension.to_string(), name: name.clone(), beyond, hint })
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
