//! A configuration without any file: backends from the keys in the environment, models from the catalog.
//!
//! It is written as a policy text and loaded like any other, so that nothing here needs rules of its own.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use jiff::Timestamp;

use super::{Diagnostic, Environment, Loaded, Severity, catalog};
use crate::provider::{self, Provider};

/// Names the models of a self-hosted server, with commas between them: nobody is asked for them at the start.
const MODELS_VARIABLE: &str = "VLLM_MODEL";

/// Why there is nothing to serve.
#[derive(Debug, thiserror::Error)]
pub enum NoKeys {
    /// No key and no file.
    #[error(
        "no `turnpike.yaml`, and no key of a known vendor in the environment\nhint: set one of {known}, or \
         `VLLM_BASE_URL` with `VLLM_MODEL`; `turnpike demo` needs no key{later}{nameless}"
    )]
    None {
        /// The variables that are read.
        known: String,
        /// The variables that are set, but whose vendor comes later.
        later: String,
        /// What a server of one's own still needs.
        nameless: String,
    },
    /// A key does not fit, or an address is none.
    #[error("{0}")]
    Faults(#[from] super::Faults),
}

/// A server's address and the catalog's prices: the backends that the environment has keys for, all of the catalog's
/// models that they serve and price today, and the routes `auto`, `cheap`, `fast` and `best`.
///
/// # Errors
/// [`NoKeys`] says what to set.
pub fn from_environment(env: Environment<'_>) -> Result<Loaded, NoKeys> {
    let now = Timestamp::now();
    let later: Vec<(&'static str, &'static str)> =
        provider::LATER.iter().copied().filter(|(_, variable)| is_set(env, variable)).collect();
    let Some(text) = written(env, now) else {
        let known = provider::TABLE.iter().filter_map(|dialect| dialect.key_variable());
        let known: Vec<String> = known.map(|variable| format!("`{variable}`")).collect();
        let names: Vec<String> = later.iter().map(|(_, variable)| format!("`{variable}`")).collect();
        let later = if names.is_empty() {
            String::new()
        } else {
            format!("; set, but their vendors come with a later version: {}", names.join(", "))
        };
        let nameless = nameless(env).map(|title| format!("; {title}")).collect();
        return Err(NoKeys::None { known: known.join(", "), later, nameless });
    };
    let mut loaded = super::from_texts(&[(PathBuf::from("environment"), text)], env, now)?;
    loaded.later = later;
    // What is doubtful about a text that nobody wrote, nobody can mend.
    let told = nameless(env).map(|title| {
        Diagnostic::nowhere(Severity::Warning, title, format!("set `{MODELS_VARIABLE}` to the name it serves"))
    });
    loaded.warnings = told.collect();
    Ok(loaded)
}

/// A line for every server of one's own whose address is set, but not the models that it serves.
fn nameless(env: Environment<'_>) -> impl Iterator<Item = String> {
    let own = provider::TABLE.iter().copied().filter(|dialect| dialect.self_hosted());
    let unnamed = own.filter(|_| !is_set(env, MODELS_VARIABLE));
    let addresses = unnamed.filter_map(|dialect| dialect.base_url_variable());
    addresses
        .filter(|variable| is_set(env, variable))
        .map(|variable| format!("`{variable}` is set, but its server is not used until `{MODELS_VARIABLE}` is set too"))
}

fn is_set(env: Environment<'_>, variable: &str) -> bool {
    env(variable).is_some_and(|value| !value.trim().is_empty())
}

/// The policies as a text; `None` = no key of any use.
fn written(env: Environment<'_>, now: Timestamp) -> Option<String> {
    let mut backends = String::new();
    let mut models: BTreeMap<String, Vec<(&str, String)>> = BTreeMap::new();
    for dialect in provider::TABLE.iter().copied().filter(|dialect| usable(env, *dialect)) {
        let name = dialect.name();
        let offered = offered(env, dialect, now);
        if dialect.self_hosted() && offered.is_empty() {
            continue;
        }
        let _ = write!(backends, "  {name}: {{provider: {name}");
        if let Some(variable) = dialect.key_variable().filter(|variable| is_set(env, variable)) {
            let _ = write!(backends, ", api_key: \"${{{variable}}}\"");
        }
        if let Some(variable) = dialect.base_url_variable() {
            let _ = write!(backends, ", endpoints: [\"${{{variable}}}\"]");
        }
        let _ = writeln!(backends, "}}");
        for (model, upstream) in offered {
            models.entry(model).or_default().push((name, upstream));
        }
    }
    if models.is_empty() {
        return None;
    }
    let mut text = format!("backends:\n{backends}models:\n");
    for (model, sellers) in &models {
        let sellers: Vec<String> = sellers.iter().map(|(name, upstream)| format!("{name}: {upstream:?}")).collect();
        let _ = writeln!(text, "  {model:?}: {{backends: {{{}}}}}", sellers.join(", "));
    }
    let names: Vec<String> = models.keys().map(|model| format!("{model:?}")).collect();
    let names = names.join(", ");
    text.push_str("routes:\n");
    for (route, prefer) in [("auto", "balanced"), ("cheap", "cheapest"), ("fast", "fastest"), ("best", "best")] {
        let _ = writeln!(text, "  {route}: {{candidates: [{names}], prefer: {prefer}}}");
    }
    text.push_str("teams: {default: {}}\n");
    Some(text)
}

/// Whether the environment has what this provider needs.
fn usable(env: Environment<'_>, dialect: &dyn Provider) -> bool {
    let key = dialect.key_variable().is_some_and(|variable| is_set(env, variable));
    let address = dialect.base_url_variable().map(|variable| is_set(env, variable));
    if dialect.self_hosted() { address.unwrap_or(false) } else { key && address.unwrap_or(true) }
}

/// Models of this provider with what it calls them: the catalog's that are served and priced today, or the ones that
/// the environment names for a server of one's own.
fn offered(env: Environment<'_>, dialect: &dyn Provider, now: Timestamp) -> Vec<(String, String)> {
    if dialect.self_hosted() {
        let named = env(MODELS_VARIABLE).unwrap_or_default();
        let named = named.split(',').map(str::trim).filter(|name| !name.is_empty());
        return named.map(|name| (name.to_owned(), name.to_owned())).collect();
    }
    let known = catalog::built_in();
    let region = dialect.regions().first().copied().unwrap_or("intl");
    let mut offered: Vec<(String, String)> = Vec::new();
    for (model, entry) in &known.models {
        let of_dialect = entry.offers.iter().filter(|offer| offer.provider == dialect.name());
        let mut today = of_dialect.filter(|offer| {
            let served = offer.served;
            let rows = known.prices_of(dialect.name(), Some(region), &offer.upstream);
            served.from.is_none_or(|from| from <= now)
                && served.until.is_none_or(|until| now < until)
                && rows.iter().any(|row| row.holds(now))
        });
        offered.extend(today.next().map(|offer| (model.to_string(), offer.upstream.clone())));
    }
    offered
}
