//! LiteLLM's price map (`model_prices_and_context_window.json`) as price rows, beside what is charged now.

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use jiff::Timestamp;

use super::{
    super::{Faults, tree::Node},
    Text, Work, cost, write,
};
use crate::base::{
    money::Currency,
    price::{PriceRow, Rate, When, in_force},
    tier::Tier,
};

/// LiteLLM's words for Turnpike's providers, as prefixes of names in the map.
const PREFIXES: &[(&str, &[&str])] = &[
    ("openai", &["openai"]),
    ("azure", &["azure"]),
    ("qwen", &["dashscope"]),
    ("deepseek", &["deepseek"]),
    ("anthropic", &["anthropic"]),
    ("gemini", &["gemini"]),
    ("mistral", &["mistral"]),
    ("moonshot", &["moonshot"]),
    ("volcengine", &["volcengine"]),
    ("zhipu", &["zai"]),
    ("together", &["together_ai"]),
    ("fireworks", &["fireworks_ai"]),
];

/// One seller of a model whose price may be in the map.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The operator's backend, or the vendor where rows are for the catalog.
    pub seller: String,
    /// The provider.
    pub provider: String,
    /// What it calls the model.
    pub upstream: String,
    /// What is charged for it, sorted by `from`.
    pub rows: Vec<Arc<PriceRow>>,
}

/// How the map stands to what is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It says the same.
    Same,
    /// It says something else.
    Differs,
    /// Nothing was known.
    New,
    /// The map has no such name.
    Missing,
    /// The map has the name, and no price for tokens.
    Unpriced,
    /// It is billed in another currency; the map holds dollars.
    Foreign(Currency),
}

/// One seller beside the map.
#[derive(Clone, Debug)]
pub struct Compared {
    /// Whose price.
    pub wanted: Wanted,
    /// How the map stands to it.
    pub verdict: Verdict,
    /// What is charged, in short; empty = nothing is known.
    pub before: String,
    /// What the map says.
    pub after: String,
    /// The map's name and line, and the page that it names.
    pub source: String,
    /// The rates of the map.
    pub rates: Vec<Rate>,
    /// Amounts that were rounded up at the ninth place.
    pub rounded: usize,
    /// Costs that are not carried over.
    pub left_out: Vec<String>,
    /// What is odd about the rates, in words.
    pub odd: Vec<&'static str>,
}

/// Lays the map beside what is charged at `at`.
///
/// # Errors
/// A file that is no JSON, or no mapping of names.
pub fn compare(map: Text, wanted: Vec<Wanted>, at: Timestamp) -> Result<Vec<Compared>, Faults> {
    let mut work = Work::new();
    let root = work.read(map);
    let Some(root) = root.filter(|root| !root.entries().is_empty()) else {
        if !work.report.has_faults() {
            work.report
                .fault_at(None, "no names in the price map")
                .hint("name LiteLLM's `model_prices_and_context_window.json`");
        }
        return Err(work.report.into_faults());
    };
    let names: HashMap<&str, &Node> = root.entries().iter().map(|(key, node)| (key.text.as_str(), node)).collect();
    Ok(wanted.into_iter().map(|wanted| one(&work, &names, wanted, at)).collect())
}

/// The map's entry: with the provider's prefix, else the bare name where the entry says that it is this provider's.
fn find<'a>(names: &HashMap<&str, &'a Node>, wanted: &Wanted) -> Option<(String, &'a Node)> {
    let prefixes =
        PREFIXES.iter().find(|(provider, _)| *provider == wanted.provider).map_or(&[][..], |(_, words)| words);
    let prefixed = prefixes.iter().map(|prefix| format!("{prefix}/{}", wanted.upstream));
    let found = prefixed.into_iter().find_map(|name| names.get(name.as_str()).map(|node| (name, *node)));
    found.or_else(|| {
        let node = names.get(wanted.upstream.as_str())?;
        let seller = node.word("litellm_provider")?;
        prefixes.contains(&seller).then(|| (wanted.upstream.clone(), *node))
    })
}

fn one(work: &Work, names: &HashMap<&str, &Node>, wanted: Wanted, at: Timestamp) -> Compared {
    let current = in_force(&wanted.rows, at).cloned();
    let before = current.as_ref().map(|row| short(&row.rates, row.currency)).unwrap_or_default();
    let mut compared = Compared {
        wanted,
        verdict: Verdict::Missing,
        before,
        after: String::new(),
        source: String::new(),
        rates: Vec::new(),
        rounded: 0,
        left_out: Vec::new(),
        odd: Vec::new(),
    };
    let Some((name, node)) = find(names, &compared.wanted) else { return compared };
    let page = node.word("source").map(|page| format!("{page}, as read in ")).unwrap_or_default();
    compared.source = format!("{page}litellm {} `{name}`", work.place(node.span));
    let costs = cost::costs(node);
    (compared.rounded, compared.left_out, compared.odd) = (costs.rounded, costs.left_out, costs.odd);
    if costs.rates.is_empty() {
        compared.verdict = Verdict::Unpriced;
        return compared;
    }
    compared.after = short(&costs.rates, Currency::USD);
    compared.verdict = match &current {
        None => Verdict::New,
        Some(row) if row.currency != Currency::USD => Verdict::Foreign(row.currency),
        Some(row) if same(row, &costs.rates) => Verdict::Same,
        Some(_) => Verdict::Differs,
    };
    compared.rates = costs.rates;
    compared
}

/// The same rates for every tier that is charged now; what the map adds (batches) or leaves out is no difference. With
/// hours, the map's plain price is that of the peak.
fn same(row: &PriceRow, rates: &[Rate]) -> bool {
    let peak = row.calendar.iter().map(|window| window.factor_ppm).max().unwrap_or(1_000_000).max(1_000_000);
    let scaled = |nano: i64| i64::try_from(i128::from(nano) * i128::from(peak) / 1_000_000).unwrap_or(i64::MAX);
    let tiers = rates.iter().filter(|rate| row.has(rate.when.tier));
    // Where the largest size ends is no difference: what is longer is charged by it.
    let last = row.rates.iter().rfind(|rate| rate.when.tier == Tier::Standard).map(|rate| rate.when);
    let open = |when: When| if Some(when) == last { When { input_upto: None, ..when } } else { when };
    let theirs: Vec<_> = tiers.map(|rate| (rate.when, rate.prices())).collect();
    let ours = row.rates.iter().filter(|rate| rates.iter().any(|other| other.when.tier == rate.when.tier));
    let ours: Vec<_> = ours.map(|rate| (open(rate.when), rate.prices().map(scaled))).collect();
    theirs == ours
}

/// `2.5 in, 1.25 cached, 10 out USD (2 rates)`.
fn short(rates: &[Rate], currency: Currency) -> String {
    let usual = rates.iter().find(|rate| rate.when.tier == Tier::Standard).or(rates.first());
    let Some(rate) = usual else { return String::new() };
    let mut text = format!("{} in", amount(rate.input));
    if rate.cached_input != rate.input {
        let _ = write!(text, ", {} cached", amount(rate.cached_input));
    }
    let _ = write!(text, ", {} out {currency}", amount(rate.output));
    if rates.len() > 1 {
        let _ = write!(text, " ({} rates)", rates.len());
    }
    text
}

fn amount(nano: i64) -> String {
    crate::base::money::Money::from_nanousd(nano).to_string()
}

/// One line of `prices:`.
pub fn line(backend: &str, upstream: &str, from: Option<&str>, rates: &[Rate], source: &str) -> String {
    let mut fields =
        vec![("backend".to_owned(), write::scalar(backend)), ("upstream".to_owned(), write::scalar(upstream))];
    fields.extend(from.map(|from| ("from".to_owned(), from.to_owned())));
    fields.extend(amounts(rates));
    fields.push(("source".to_owned(), serde_json::Value::from(source).to_string()));
    format!("- {}", write::map(&fields))
}

/// One row of the catalog's `prices.yaml`.
pub fn catalog_line(provider: &str, upstream: &str, from: &str, rates: &[Rate], source: &str) -> String {
    line(provider, upstream, Some(from), rates, source).replacen("{backend:", "{provider:", 1)
}

/// The amounts of a row: plain where there is one rate without a condition.
fn amounts(rates: &[Rate]) -> Vec<(String, String)> {
    if let [only] = rates
        && only.when == Default::default()
    {
        return kinds(only);
    }
    let rates = rates.iter().map(|rate| {
        let mut fields = Vec::new();
        let mut when: Vec<(String, String)> = Vec::new();
        if rate.when.tier != Tier::Standard {
            when.push(("tier".to_owned(), rate.when.tier.as_str().to_owned()));
        }
        when.extend(rate.when.input_upto.map(|upto| ("input_upto".to_owned(), upto.to_string())));
        if !when.is_empty() {
            fields.push(("when".to_owned(), write::map(&when)));
        }
        fields.extend(kinds(rate));
        write::map(&fields)
    });
    vec![("rates".to_owned(), format!("[{}]", rates.collect::<Vec<_>>().join(", ")))]
}

fn kinds(rate: &Rate) -> Vec<(String, String)> {
    let kinds = [
        ("input", rate.input, None),
        ("cached_input", rate.cached_input, Some(rate.input)),
        ("cache_write", rate.cache_write, Some(rate.input)),
        ("output", rate.output, None),
        ("reasoning", rate.reasoning, Some(rate.output)),
        ("audio_input", rate.audio_input, Some(rate.input)),
        ("audio_output", rate.audio_output, Some(rate.output)),
    ];
    let told = kinds.into_iter().filter(|(_, nano, usual)| Some(*nano) != *usual);
    told.map(|(key, nano, _)| (key.to_owned(), format!("{} USD", amount(nano)))).collect()
}
