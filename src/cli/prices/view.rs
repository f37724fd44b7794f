//! What the register says of each (model, seller) at an instant: its rows, which of them is in force, what comes next.

use std::sync::Arc;

use jiff::{Timestamp, civil};
use serde_json::{Value, json};

use crate::{
    admin::books::Currencies,
    base::{
        catalog::Thinking,
        money::{Currency, NANO, write_nano},
        price::{PriceRow, Rate, Window, in_force, rate_in_force},
        tier::Tier,
        usage::Usage,
    },
    config::catalog::Catalog,
    policy::Policies,
};

/// A number of billionths as a decimal.
pub struct Nano(pub i128);

impl std::fmt::Display for Nano {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write_nano(f, self.0)
    }
}

/// One seller of one model, with its rows sorted by `from`.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The operator's model; for the catalog's own view the catalog's.
    pub model: String,
    /// The catalog's name, where it was recognised.
    pub entry: Option<String>,
    /// The operator's backend.
    pub backend: Option<String>,
    /// The vendor.
    pub provider: String,
    /// The vendor's site.
    pub region: Option<String>,
    /// What the seller calls it.
    pub upstream: String,
    /// Whether it reasons unless told not to.
    pub thinks: bool,
    /// The rows.
    pub rows: Vec<Arc<PriceRow>>,
}

impl Offer {
    /// Under what it is found.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        [Some(self.model.as_str()), self.entry.as_deref(), Some(self.upstream.as_str())].into_iter().flatten()
    }

    /// `model@backend`, or the vendor where there is no backend.
    pub fn seller(&self) -> String {
        let site = self.region.as_ref().map(|region| format!(" ({region})")).unwrap_or_default();
        format!("{}{site}", self.backend.as_ref().unwrap_or(&self.provider))
    }

    /// The row in force at `at`, and its rate for a short request of the usual tier.
    pub fn current(&self, at: Timestamp) -> Option<(&Arc<PriceRow>, &Rate)> {
        let row = in_force(&self.rows, at)?;
        let short = Usage { input: 1000, output: 300, ..Usage::default() };
        Some((row, row.rate(&short, self.thinks)?))
    }

    /// Where the row ends: at its `until`, or where the next begins.
    pub fn end_of(&self, row: &PriceRow) -> Option<Timestamp> {
        let next = self.rows.iter().map(|other| other.from).find(|from| *from > row.from);
        row.until.into_iter().chain(next).min()
    }

    /// The next instant at which another row, or none, is in force.
    pub fn next_row(&self, at: Timestamp) -> Option<(Timestamp, Option<&Arc<PriceRow>>)> {
        let edges = self.rows.iter().flat_map(|row| [Some(row.from), row.until]).flatten();
        let edge = edges.filter(|edge| *edge > at).min()?;
        Some((edge, in_force(&self.rows, edge)))
    }
}

/// What the policies may send requests to.
pub fn of_policies(policies: &Policies) -> Vec<Offer> {
    let candidates = policies.candidates.iter();
    let offer = |candidate: &Arc<crate::base::catalog::Candidate>| Offer {
        model: candidate.model.name.to_string(),
        entry: candidate.model.catalog.as_ref().map(ToString::to_string),
        backend: Some(candidate.backend.name.to_string()),
        provider: candidate.backend.provider.to_owned(),
        region: candidate.backend.region.as_ref().map(ToString::to_string),
        upstream: candidate.upstream.to_string(),
        thinks: matches!(candidate.model.thinking, Thinking::ByDefault | Thinking::Always),
        rows: candidate.prices.clone(),
    };
    candidates.map(offer).collect()
}

/// What the catalog knows prices of, by vendor, site and name.
pub fn of_catalog(catalog: &Catalog) -> Vec<Offer> {
    let mut offers: Vec<Offer> = Vec::new();
    let mut pairs: Vec<_> = catalog.prices.iter().collect();
    pairs.sort_by_key(|(pair, _)| *pair);
    for ((provider, upstream), prices) in pairs {
        let mut regions: Vec<Option<&str>> = prices.iter().map(|price| price.region.as_deref()).collect();
        regions.sort_unstable();
        regions.dedup();
        let entry = catalog.recognise(provider, upstream, upstream);
        let thinking = entry.and_then(|entry| catalog.models.get(entry)).map(|entry| entry.thinking);
        for region in regions {
            offers.push(Offer {
                model: entry.map_or_else(|| upstream.clone(), ToString::to_string),
                entry: entry.map(ToString::to_string),
                backend: None,
                provider: provider.clone(),
                region: region.map(str::to_owned),
                upstream: upstream.clone(),
                thinks: matches!(thinking, Some(Thinking::ByDefault | Thinking::Always)),
                rows: catalog.prices_of(provider, region, upstream),
            });
        }
    }
    offers
}

/// The offers of that name.
pub fn named(offers: Vec<Offer>, name: &str) -> Vec<Offer> {
    offers.into_iter().filter(|offer| offer.names().any(|known| known == name)).collect()
}

/// The register at an instant.
pub struct View<'a> {
    /// The instant.
    pub at: Timestamp,
    /// The set of the catalog.
    pub catalog: civil::Date,
    /// The operator's exchange rates.
    pub currencies: &'a Currencies,
    /// What is shown.
    pub offers: &'a [Offer],
}

/// How a row stands to the instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is charged.
    InForce,
    /// It is over, or another takes its place.
    Past,
    /// It begins later.
    Announced,
}

impl State {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InForce => "in force",
            Self::Past => "past",
            Self::Announced => "announced",
        }
    }
}

impl View<'_> {
    /// How a row stands to the instant.
    pub fn state(&self, offer: &Offer, row: &Arc<PriceRow>) -> State {
        match in_force(&offer.rows, self.at) {
            Some(current) if Arc::ptr_eq(current, row) => State::InForce,
            _ if row.from > self.at => State::Announced,
            _ => State::Past,
        }
    }

    /// Nano-USD for one unit of the currency at the instant; `None` without a rate.
    pub fn exchange(&self, currency: Currency) -> Option<i64> {
        if currency == Currency::USD {
            return Some(NANO);
        }
        rate_in_force(self.currencies.get(&currency)?, self.at).map(|rate| rate.nanousd)
    }

    /// An amount in dollars, times a factor, rounded up to a billionth as a charge is.
    pub fn usd(&self, nano: i64, currency: Currency, factor_ppm: i64) -> Option<Nano> {
        let scaled = i128::from(nano) * i128::from(factor_ppm) * i128::from(self.exchange(currency)?);
        let unit = 1_000_000 * i128::from(NANO);
        Some(Nano(scaled.div_euclid(unit) + i128::from(scaled.rem_euclid(unit) > 0)))
    }

    /// All of it as JSON; amounts are decimals in strings, exact.
    pub fn json(&self) -> Value {
        let offers: Vec<Value> = self.offers.iter().map(|offer| self.offer(offer)).collect();
        json!({"at": self.at.to_string(), "catalog": self.catalog.to_string(), "prices": offers})
    }

    fn offer(&self, offer: &Offer) -> Value {
        let rows: Vec<Value> = offer.rows.iter().map(|row| self.row(offer, row)).collect();
        let current = in_force(&offer.rows, self.at);
        let window = current.and_then(|row| row.next_factor(self.at));
        let next = offer.next_row(self.at);
        json!({
            "model": offer.model,
            "catalog_name": offer.entry,
            "backend": offer.backend,
            "provider": offer.provider,
            "region": offer.region,
            "upstream": offer.upstream,
            "rows": rows,
            "next_row": next.map(|(at, row)| json!({"at": at.to_string(), "priced": row.is_some()})),
            "next_factor": window.map(|(at, ppm)| json!({"at": at.to_string(), "factor": factor(ppm)})),
        })
    }

    fn row(&self, offer: &Offer, row: &Arc<PriceRow>) -> Value {
        let state = self.state(offer, row);
        let ppm = row.factor_ppm(self.at);
        let rates: Vec<Value> = row.rates.iter().map(|rate| self.rate(row, rate, state, ppm)).collect();
        let windows = row.calendar.iter().map(|window| self.window(window));
        json!({
            "state": state.as_str(),
            "by": if row.own { "operator" } else { "catalog" },
            "currency": row.currency.as_str(),
            "usd_per_unit": self.exchange(row.currency).map(|nano| Nano(nano.into()).to_string()),
            "from": bounded(row.from),
            "until": offer.end_of(row).map(|end| end.to_string()),
            "factor": (state == State::InForce).then(|| factor(ppm)),
            "rates": rates,
            "calendar": windows.collect::<Vec<_>>(),
            "source": row.source.as_ref(),
        })
    }

    fn rate(&self, row: &PriceRow, rate: &Rate, state: State, ppm: i64) -> Value {
        let amounts = |show: &dyn Fn(i64) -> Option<String>| -> Value {
            kinds(rate).into_iter().map(|(kind, nano)| (kind.to_owned(), json!(show(nano)))).collect()
        };
        let usd = |ppm| move |nano| self.usd(nano, row.currency, ppm).map(|usd| usd.to_string());
        json!({
            "tier": rate.when.tier.as_str(),
            "input_upto": rate.when.input_upto,
            "output_upto": rate.when.output_upto,
            "thinking": rate.when.thinking,
            "per_million": amounts(&|nano| Some(Nano(nano.into()).to_string())),
            "usd_per_million": amounts(&usd(1_000_000)),
            "usd_per_million_now": (state == State::InForce).then(|| amounts(&usd(ppm))),
        })
    }

    fn window(&self, window: &Window) -> Value {
        json!({
            "zone": window.zone.iana_name(),
            "days": days(window),
            "hours": hours(window),
            "not_on": window.not_on.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "factor": factor(window.factor_ppm),
            "open": window.is_open(self.at),
        })
    }
}

/// The amounts of a rate by kind of token.
pub fn kinds(rate: &Rate) -> [(&'static str, i64); 7] {
    [
        ("input", rate.input),
        ("cached_input", rate.cached_input),
        ("cache_write", rate.cache_write),
        ("output", rate.output),
        ("reasoning", rate.reasoning),
        ("audio_input", rate.audio_input),
        ("audio_output", rate.audio_output),
    ]
}

/// A factor as a decimal.
pub fn factor(ppm: i64) -> String {
    Nano(i128::from(ppm) * 1000).to_string()
}

/// An instant; `None` for one before all.
fn bounded(at: Timestamp) -> Option<String> {
    (at != Timestamp::MIN).then(|| at.to_string())
}

/// `mon-fri`, or `mon, wed`.
pub fn days(window: &Window) -> String {
    const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let open: Vec<usize> = (0..7).filter(|day| window.days[*day]).collect();
    match open.as_slice() {
        [first, .., last] if last - first + 1 == open.len() => format!("{}-{}", NAMES[*first], NAMES[*last]),
        days => days.iter().map(|day| NAMES[*day]).collect::<Vec<_>>().join(", "),
    }
}

/// `09:00-12:00`, or the whole day.
pub fn hours(window: &Window) -> String {
    if window.opens == window.closes {
        return "00:00-24:00".to_owned();
    }
    let time = |time: civil::Time| format!("{:02}:{:02}", time.hour(), time.minute());
    format!("{}-{}", time(window.opens), time(window.closes))
}

/// What a rate is for: `priority, input ≤ 32000, thinking`.
pub fn condition(rate: &Rate) -> String {
    let when = rate.when;
    let mut parts: Vec<String> = Vec::new();
    if when.tier != Tier::Standard {
        parts.push(when.tier.as_str().to_owned());
    }
    parts.extend(when.input_upto.map(|upto| format!("input ≤ {upto}")));
    parts.extend(when.output_upto.map(|upto| format!("output ≤ {upto}")));
    parts.extend(when.thinking.map(|on| if on { "thinking" } else { "not thinking" }.to_owned()));
    parts.join(", ")
}
