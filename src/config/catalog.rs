//! The built-in catalog: models, prices and scores of the known vendors, compiled in and parsed once.
//!
//! The files hold every set that was ever shipped: a row that came with a later set than the first says so with
//! `added:`, one that was taken back stays with `dropped:`, and what a later set says differently of a model stands
//! under its `revised:`. So [`as_of`] gives an operator who pins `catalog: DATE` the same rows from every binary.
//! Public holidays are not pinned: they are facts of the calendar, and a price that misses one is wrong.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use sha2::{Digest, Sha256};

use super::{
    diagnostic::Report,
    lower::{amounts, rows},
    tree::{self, Node},
    units,
};
use crate::base::{
    catalog::{Served, SpeedPrior, Thinking, Tokenizer},
    facts::Abilities,
    names::{BenchmarkName, ModelName},
    price::PriceRow,
    scores::{Benchmark, ScoreRow},
};

/// The files of `policies/catalog/`; a test holds that none is missing here.
pub const FILES: &[(&str, &str)] = &[
    ("benchmarks.yaml", include_str!("../../policies/catalog/benchmarks.yaml")),
    ("holidays.yaml", include_str!("../../policies/catalog/holidays.yaml")),
    ("models.yaml", include_str!("../../policies/catalog/models.yaml")),
    ("prices.yaml", include_str!("../../policies/catalog/prices.yaml")),
    ("scores.yaml", include_str!("../../policies/catalog/scores.yaml")),
];

static BUILT_IN: LazyLock<Catalog> = LazyLock::new(|| Catalog::read(FILES, None));
/// The set asked for last, with its date: a gateway asks for one.
static PINNED: Mutex<Option<Arc<Catalog>>> = Mutex::new(None);

static DIGEST: LazyLock<String> = LazyLock::new(|| {
    let digest = FILES.iter().fold(Sha256::new(), |digest, (_, text)| digest.chain_update(text));
    digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
});

/// Twelve hexadecimal digits of the SHA-256 of the built-in files.
pub fn digest() -> &'static str {
    &DIGEST
}

/// The catalog that this binary carries.
pub fn built_in() -> &'static Catalog {
    &BUILT_IN
}

/// The set of `date`: without the rows that came later, and without those that begin later.
pub fn as_of(date: civil::Date) -> Arc<Catalog> {
    let mut pinned = PINNED.lock().unwrap_or_else(PoisonError::into_inner);
    match pinned.as_ref().filter(|catalog| catalog.date == date) {
        Some(catalog) => Arc::clone(catalog),
        None => Arc::clone(pinned.insert(Arc::new(Catalog::read(FILES, Some(date))))),
    }
}

/// What is known of the vendors' models.
#[derive(Debug, Default)]
pub struct Catalog {
    /// The date of the set.
    pub date: civil::Date,
    /// Models by the catalog's name.
    pub models: BTreeMap<ModelName, Entry>,
    /// Prices by (provider, upstream name).
    pub prices: HashMap<(String, String), Vec<VendorPrice>>,
    /// What each benchmark measures.
    pub benchmarks: BTreeMap<BenchmarkName, Benchmark>,
    /// Scores under the catalog's names.
    pub scores: Vec<ScoreRow>,
    /// Public holidays by name.
    pub holidays: BTreeMap<String, Arc<[civil::Date]>>,
    /// Who offers which entry, by (provider, upstream name).
    offers: HashMap<(String, String), Vec<(ModelName, Served)>>,
}

/// One model of the catalog.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Tokens of prompt and answer together; 0 = unknown.
    pub context: u64,
    /// The longest answer; 0 = unknown.
    pub max_output: u64,
    /// What it can do; `None` = unknown.
    pub abilities: Option<Abilities>,
    /// How it reasons.
    pub thinking: Thinking,
    /// Its vocabulary.
    pub tokenizer: Tokenizer,
    /// What is expected of its speed.
    pub prior: SpeedPrior,
    /// Expected tokens of an answer.
    pub expected_output: u64,
    /// Who serves it, under which name, in which span.
    pub offers: Vec<Offer>,
}

/// One seller of a model.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The seller.
    pub provider: String,
    /// What the seller calls it.
    pub upstream: String,
    /// When.
    pub served: Served,
}

/// A price of the catalog.
#[derive(Clone, Debug)]
pub struct VendorPrice {
    /// The vendor's site that asks it; `None` = every site.
    pub region: Option<String>,
    /// The row.
    pub row: Arc<PriceRow>,
}

/// Tokens of an answer where nothing is known of the model.
pub const EXPECTED_OUTPUT: u64 = 400;

impl Catalog {
    /// Reads the set of `pin` from the catalog's own files; `None` = the newest. They are checked when Turnpike is built,
    /// so what does not fit is passed over.
    pub fn read(files: &[(&str, &str)], pin: Option<civil::Date>) -> Self {
        let mut catalog = Self::default();
        let mut report = Report::default();
        let roots: Vec<Node> = files
            .iter()
            .filter_map(|(name, text)| {
                let (file, _) = report.add(PathBuf::from(name), String::new());
                tree::parse(&mut report, file, text).ok()?
            })
            .collect();
        for root in &roots {
            if let Some(date) = root.read("date", units::day) {
                catalog.date = date;
            }
            for (name, node) in root.get("holidays").map(Node::entries).unwrap_or_default() {
                let dates = node.get("dates").map(rows::days).unwrap_or_default();
                catalog.holidays.insert(name.text.clone(), dates);
            }
        }
        catalog.date = pin.unwrap_or(catalog.date);
        for root in &roots {
            catalog.take(root, pin);
        }
        catalog
    }

    fn take(&mut self, root: &Node, pin: Option<civil::Date>) {
        let belongs = |node: &Node| in_set(node, pin);
        for (name, node) in root.get("models").map(Node::entries).unwrap_or_default() {
            if !belongs(node) {
                continue;
            }
            let name = ModelName::from(name.text.as_str());
            let entry = entry(node, pin);
            for offer in &entry.offers {
                let seller = (offer.provider.clone(), offer.upstream.clone());
                self.offers.entry(seller).or_default().push((name.clone(), offer.served));
            }
            self.models.insert(name, entry);
        }
        let (last, mut hidden) = (pin.and_then(end_of), HashSet::new());
        for node in root.get("prices").map(Node::items).unwrap_or_default().iter().filter(|node| belongs(node)) {
            let (Some(provider), Some(upstream)) = (node.word("provider"), node.word("upstream")) else { continue };
            let Some(row) = rows::row(node, &|name| self.holidays.get(name).cloned()) else { continue };
            let (pair, region) = ((provider.to_owned(), upstream.to_owned()), node.word("region").map(str::to_owned));
            if last.is_some_and(|last| row.from > last) {
                hidden.insert((pair, region, row.from));
                continue;
            }
            self.prices.entry(pair).or_default().push(VendorPrice { region, row: Arc::new(row) });
        }
        self.reopen(&hidden);
        for (name, node) in root.get("benchmarks").map(Node::entries).unwrap_or_default() {
            self.benchmarks.extend(amounts::benchmark(node).map(|known| (name.text.as_str().into(), known)));
        }
        let scores = root.get("scores").map(Node::items).unwrap_or_default();
        let scores = scores.iter().filter(|node| belongs(node)).filter_map(amounts::score);
        self.scores.extend(scores.filter(|row| pin.is_none_or(|pin| row.date <= pin)));
    }

    /// A price that ends where one begins that the operator does not follow goes on: else there would be none.
    fn reopen(&mut self, hidden: &HashSet<((String, String), Option<String>, Timestamp)>) {
        for (pair, prices) in &mut self.prices {
            for price in prices {
                let next = price.row.until.map(|until| (pair.clone(), price.region.clone(), until));
                if next.is_some_and(|next| hidden.contains(&next)) {
                    price.row = Arc::new(PriceRow { until: None, ..price.row.as_ref().clone() });
                }
            }
        }
    }

    /// The entry that `upstream` at `provider` is: of several, the one named `own`, else the one served last.
    pub fn recognise(&self, provider: &str, upstream: &str, own: &str) -> Option<&ModelName> {
        let offers = self.offers.get(&(provider.to_owned(), upstream.to_owned()))?;
        let named = offers.iter().find(|(name, _)| name.as_str() == own);
        let last = offers
            .iter()
            .max_by_key(|(_, served)| (served.until.unwrap_or(Timestamp::MAX), served.from.unwrap_or(Timestamp::MIN)));
        named.or(last).map(|(name, _)| name)
    }

    /// The entry that anybody offers under `upstream`, for self-hosted servers.
    pub fn recognise_anywhere(&self, upstream: &str) -> Option<&ModelName> {
        let mut names: Vec<&ModelName> = self
            .models
            .iter()
            .filter(|(_, entry)| entry.offers.iter().any(|offer| offer.upstream == upstream))
            .map(|(name, _)| name)
            .collect();
        names.sort();
        names.first().copied()
    }

    /// In which spans `provider` served `model` as `upstream`; empty = not known.
    pub fn served(&self, provider: &str, upstream: &str, model: &ModelName) -> Vec<Served> {
        let offers = self.offers.get(&(provider.to_owned(), upstream.to_owned()));
        let offers = offers.map(Vec::as_slice).unwrap_or_default();
        offers.iter().filter(|(name, _)| name == model).map(|(_, served)| *served).collect()
    }

    /// The rows for `upstream` at `provider`'s site `region`, sorted by `from`.
    pub fn prices_of(&self, provider: &str, region: Option<&str>, upstream: &str) -> Vec<Arc<PriceRow>> {
        let known = self.prices.get(&(provider.to_owned(), upstream.to_owned()));
        let mut rows: Vec<Arc<PriceRow>> = known
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter()
            .filter(|price| price.region.is_none() || price.region.as_deref() == region)
            .map(|price| Arc::clone(&price.row))
            .collect();
        rows.sort_by_key(|row| row.from);
        rows
    }

    /// The sites that prices of `provider` name.
    pub fn regions_of(&self, provider: &str) -> Vec<&str> {
        let of_provider = self.prices.iter().filter(|((name, _), _)| name == provider);
        let mut regions: Vec<&str> =
            of_provider.flat_map(|(_, prices)| prices).filter_map(|price| price.region.as_deref()).collect();
        regions.sort_unstable();
        regions.dedup();
        regions
    }
}

/// Whether a row belongs to the set of `pin`: it had come by then, and had not been taken back.
fn in_set(node: &Node, pin: Option<civil::Date>) -> bool {
    let by_then = |key: &str| node.read(key, units::day).map(|day| pin.is_none_or(|pin| day <= pin));
    by_then("added").unwrap_or(true) && !by_then("dropped").unwrap_or(false)
}

/// The last instant of a day in UTC.
fn end_of(day: civil::Date) -> Option<Timestamp> {
    let next = day.tomorrow().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp();
    next.checked_sub(SignedDuration::from_nanos(1)).ok()
}

/// A model as the set of `pin` knows it: of its revisions until then the last that says anything counts.
fn entry(node: &Node, pin: Option<civil::Date>) -> Entry {
    let revisions = node.get("revised").map(Node::items).unwrap_or_default().iter().rev();
    let until_then = revisions.filter(|revision| in_set(revision, pin));
    let said: Vec<&Node> = until_then.chain(std::iter::once(node)).collect();
    let get = |key: &str| said.iter().find_map(|node| node.get(key));
    let count = |key: &str| get(key).and_then(Node::text).and_then(|text| units::count(text).ok());
    let word = |key: &str| get(key).and_then(Node::text);
    let offers = node.get("offers").map(Node::items).unwrap_or_default();
    let offers = offers.iter().filter(|offer| in_set(offer, pin));
    let offer = |node: &Node| {
        Some(Offer {
            provider: node.word("provider")?.to_owned(),
            upstream: node.word("upstream")?.to_owned(),
            served: Served { from: node.read("from", units::instant), until: node.read("until", units::instant) },
        })
    };
    Entry {
        context: count("context").unwrap_or(0),
        max_output: count("max_output").unwrap_or(0),
        abilities: get("abilities").map(amounts::abilities),
        thinking: word("thinking").and_then(amounts::thinking).unwrap_or_default(),
        tokenizer: word("tokenizer").and_then(Tokenizer::parse).unwrap_or_default(),
        prior: get("speed").map_or_else(SpeedPrior::default, speed),
        expected_output: count("expected_output").unwrap_or(EXPECTED_OUTPUT),
        offers: offers.filter_map(offer).collect(),
    }
}

/// A prior of a model's speed; what is left out is the general one.
pub fn speed(node: &Node) -> SpeedPrior {
    let usual = SpeedPrior::default();
    let read = |key: &str, other: Duration| node.read(key, units::duration).unwrap_or(other);
    SpeedPrior { first_token: read("first_token", usual.first_token), per_token: read("per_token", usual.per_token) }
}

#[cfg(test)]
mod invoices;
#[cfg(test)]
mod tests;
