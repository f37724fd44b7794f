//! From checked nodes to the policies that the gateway decides by: names become references, texts become amounts,
//! and what does not hold together becomes a fault.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{Timestamp, civil};

use super::{
    catalog::Catalog,
    close,
    diagnostic::{Report, Span},
    merge::Sections,
    secrets::Secrets,
};
use crate::policy::Policies;

pub mod amounts;
mod backends;
mod fences;
pub mod idle;
mod models;
mod notify;
mod prices;
mod rates;
mod rent;
mod routes;
pub mod rows;
mod rules;
mod scores;
mod servers;
mod shadow;
mod teams;
pub mod warnings;

/// What every part of the lowering works with.
pub struct Work<'a, 'e> {
    /// Where faults go.
    pub report: &'a mut Report,
    /// What the operator wrote.
    pub sections: &'a Sections,
    /// What is built in, as far as the operator follows it (`catalog: DATE`).
    pub catalog: &'a Catalog,
    /// What is built in, the newest set: for warnings only.
    pub newest: &'a Catalog,
    /// Where secrets come from.
    pub secrets: &'a mut Secrets<'e>,
    /// The instant of the load, for warnings only: no decision depends on it.
    pub now: Timestamp,
}

impl Work<'_, '_> {
    /// Whether `name` stands in `section`; if not, a fault that names what is close.
    fn known(&mut self, section: &str, what: &str, name: &str, span: Span) -> bool {
        if self.sections.find(section, name).is_some() {
            return true;
        }
        let hint = close::hint(name, self.sections.names(section), &format!("define it under `{section}:`"));
        self.report.fault(span, format!("no {what} `{name}`")).label("not defined").hint(hint);
        false
    }

    /// The holidays of that name, the operator's before the catalog's.
    fn holidays(&self, name: &str) -> Option<Arc<[civil::Date]>> {
        let own = self.sections.find("holidays", name).map(|(_, node)| rows::days(node));
        own.or_else(|| self.catalog.holidays.get(name).cloned())
    }
}

/// Lowers everything. What it returns is whole only if no fault was noted.
pub fn lower(work: &mut Work<'_, '_>, hash: Arc<str>) -> Policies {
    fences::check_providers(work);
    let currencies = prices::currencies(work);
    let backends = backends::lower(work, &currencies);
    let own_prices = prices::lower(work, &currencies);
    let (models, candidates) = models::lower(work, &backends, &own_prices);
    let scores = scores::lower(work, &models);
    let routes = routes::lower(work, &models, &candidates);
    let aliases = routes::aliases(work);
    let (teams, keys) = teams::lower(work);
    let (key_fences, key_priorities) = (teams::key_fences(work), teams::key_priorities(work));
    let notify = notify::lower(work);
    let policies = Policies {
        hash,
        backends,
        models,
        candidates,
        routes,
        aliases,
        teams,
        keys,
        key_fences,
        key_priorities,
        currencies,
        scores,
        notify,
    };
    warnings::note(work, &policies, &own_prices);
    idle::note(work, &policies);
    policies
}

/// A map from names to shared values.
type Named<K, V> = BTreeMap<K, Arc<V>>;
