//! What differs between two sets of the built-in catalog: prices, models, sellers and scores.

use std::{collections::BTreeSet, sync::Arc};

use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use crate::{
    base::{price::PriceRow, scores::ScoreRow, tier::Tier},
    cli::prices::{Nano, Offer, of_catalog},
    config::catalog::{Catalog, Entry},
    policy::Policies,
    provider,
};

/// One difference.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// `price`, `model`, `seller` or `score`.
    pub what: &'static str,
    /// Of what: a model, or a model with its seller.
    pub of: String,
    /// What the older set says; empty = nothing.
    pub before: String,
    /// What the newer says.
    pub after: String,
    /// From when it holds.
    pub since: String,
    /// Where it was read.
    pub source: String,
    /// The policies use it.
    pub used: bool,
}

impl Change {
    /// As JSON.
    pub fn json(&self) -> Value {
        let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        json!({
            "what": self.what,
            "of": self.of,
            "before": said(&self.before),
            "after": said(&self.after),
            "since": said(&self.since),
            "source": said(&self.source),
            "used": self.used,
        })
    }

    /// As the cells of a line.
    pub fn cells(&self) -> [String; 6] {
        let said = |text: &str| if text.is_empty() { "–".to_owned() } else { text.to_owned() };
        [
            self.what.to_owned(),
            self.of.clone(),
            said(&self.before),
            said(&self.after),
            said(&self.since),
            self.source.clone(),
        ]
    }
}

/// What the policies use of the catalog.
struct Used {
    /// (provider, region, upstream).
    pairs: BTreeSet<(String, Option<String>, String)>,
    /// Names of the catalog.
    models: BTreeSet<String>,
}

impl Used {
    fn of(policies: Option<&Policies>) -> Self {
        let candidates = policies.into_iter().flat_map(|policies| &policies.candidates);
        let mut used = Self { pairs: BTreeSet::new(), models: BTreeSet::new() };
        for candidate in candidates {
            let name = candidate.backend.provider;
            let usual = provider::by_name(name).and_then(|dialect| dialect.regions().first().copied());
            let region = candidate.backend.region.as_deref().or(usual).unwrap_or("intl");
            used.pairs.insert((name.to_owned(), Some(region.to_owned()), candidate.upstream.to_string()));
            used.pairs.insert((name.to_owned(), None, candidate.upstream.to_string()));
            used.models.extend(candidate.model.catalog.as_ref().map(ToString::to_string));
        }
        used
    }
}

/// All differences, what the policies use marked.
pub fn changes(older: &Catalog, newer: &Catalog, policies: Option<&Policies>) -> Vec<Change> {
    let used = Used::of(policies);
    let mut changes = prices(older, newer, &used);
    changes.extend(models(older, newer, &used));
    changes.extend(scores(older, newer, &used));
    changes
}

fn same(a: &PriceRow, b: &PriceRow) -> bool {
    let windows = |row: &PriceRow| {
        row.calendar
            .iter()
            .map(|window| (window.opens, window.closes, window.days, window.factor_ppm))
            .collect::<Vec<_>>()
    };
    a.from == b.from && a.currency == b.currency && a.rates == b.rates && windows(a) == windows(b)
}

fn prices(older: &Catalog, newer: &Catalog, used: &Used) -> Vec<Change> {
    let before = of_catalog(older);
    let mut changes = Vec::new();
    for offer in of_catalog(newer) {
        let key = |offer: &Offer| (offer.provider.clone(), offer.region.clone(), offer.upstream.clone());
        let known = before.iter().find(|other| key(other) == key(&offer));
        let rows = known.map(|offer| offer.rows.as_slice()).unwrap_or_default();
        for row in offer.rows.iter().filter(|row| !rows.iter().any(|other| same(other, row))) {
            // What the older set would charge at the instant from which the new row holds.
            let replaced = crate::base::price::in_force(rows, row.from.max(Timestamp::UNIX_EPOCH));
            changes.push(Change {
                what: "price",
                of: format!("{} at {}", offer.upstream, offer.seller()),
                before: replaced.map(price).unwrap_or_default(),
                after: price(row),
                since: row.from.to_zoned(TimeZone::UTC).date().to_string(),
                source: row.source.to_string(),
                used: used.pairs.contains(&key(&offer)),
            });
        }
    }
    changes
}

/// `2.5 in, 1.25 cached, 10 out USD, 2 rates, by the hour`: the first rate of the usual tier.
fn price(row: &Arc<PriceRow>) -> String {
    let usual = row.rates.iter().find(|rate| rate.when.tier == Tier::Standard);
    let Some(rate) = usual.or(row.rates.first()) else { return String::new() };
    let mut text = format!("{} in", Nano(rate.input.into()));
    if rate.cached_input != rate.input {
        text.push_str(&format!(", {} cached", Nano(rate.cached_input.into())));
    }
    text.push_str(&format!(", {} out {}", Nano(rate.output.into()), row.currency));
    if row.rates.len() > 1 {
        text.push_str(&format!(", {} rates", row.rates.len()));
    }
    if !row.calendar.is_empty() {
        text.push_str(", by the hour");
    }
    text
}

fn models(older: &Catalog, newer: &Catalog, used: &Used) -> Vec<Change> {
    let mut changes = Vec::new();
    for (name, entry) in &newer.models {
        let before = older.models.get(name);
        let change = |what, before: String, after: String| Change {
            what,
            of: name.to_string(),
            before,
            after,
            since: String::new(),
            source: String::new(),
            used: used.models.contains(name.as_str()),
        };
        let facts = before.map(facts).unwrap_or_default();
        if facts != self::facts(entry) {
            changes.push(change("model", facts, self::facts(entry)));
        }
        let sellers = |entry: &Entry| -> BTreeSet<String> {
            entry.offers.iter().map(|offer| format!("{} as {}", offer.provider, offer.upstream)).collect()
        };
        let (then, now) = (before.map(sellers).unwrap_or_default(), sellers(entry));
        changes.extend(
            now.difference(&then)
                .filter(|_| before.is_some())
                .map(|seller| change("seller", String::new(), seller.clone())),
        );
    }
    let gone = older.models.keys().filter(|name| !newer.models.contains_key(*name));
    changes.extend(gone.map(|name| Change {
        what: "model",
        of: name.to_string(),
        before: "known".to_owned(),
        after: "taken back".to_owned(),
        since: String::new(),
        source: String::new(),
        used: used.models.contains(name.as_str()),
    }));
    changes
}

/// What decides of a model besides prices and scores.
fn facts(entry: &Entry) -> String {
    let abilities = entry.abilities.map_or_else(String::new, |abilities| {
        let known = crate::base::facts::Ability::ALL.into_iter().filter(|ability| abilities.has(*ability));
        known.map(|ability| format!(" {}", ability.as_str())).collect()
    });
    format!(
        "context {}, answers {} (expected {}),{abilities}, first token {} ms, {} µs a token",
        entry.context,
        entry.max_output,
        entry.expected_output,
        entry.prior.first_token.as_millis(),
        entry.prior.per_token.as_micros(),
    )
}

fn scores(older: &Catalog, newer: &Catalog, used: &Used) -> Vec<Change> {
    let same = |a: &ScoreRow, b: &ScoreRow| {
        (&a.model, &a.benchmark, a.by, a.date) == (&b.model, &b.benchmark, b.by, b.date)
            && a.value.to_bits() == b.value.to_bits()
    };
    let new = newer.scores.iter().filter(|row| !older.scores.iter().any(|other| same(other, row)));
    let change = |row: &ScoreRow| {
        let earlier = older.scores.iter().filter(|other| other.model == row.model && other.benchmark == row.benchmark);
        let before = earlier.max_by_key(|row| row.date).map(|row| format!("{} ({})", row.value, row.date));
        Change {
            what: "score",
            of: format!("{} in {}", row.model, row.benchmark),
            before: before.unwrap_or_default(),
            after: row.value.to_string(),
            since: row.date.to_string(),
            source: row.source.to_string(),
            used: used.models.contains(row.model.as_str()),
        }
    };
    new.map(change).collect()
}
