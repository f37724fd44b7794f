//! `currencies:` and `prices:`: dated rows of the operator, each for one (backend, upstream name).

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use super::{
    super::{close, diagnostic::Span, tree::Node, units},
    Work, rates, rows,
};
use crate::base::{
    money::{Currency, ExchangeRate},
    names::BackendName,
    price::PriceRow,
};

/// Exchange rates by currency, sorted by `from`.
pub type Currencies = BTreeMap<Currency, Vec<ExchangeRate>>;

/// The operator's price rows by (backend, upstream name), sorted by `from`.
#[derive(Default)]
pub struct Own {
    rows: BTreeMap<(String, String), Vec<OwnRow>>,
}

/// A row with its place.
#[derive(Clone)]
pub struct OwnRow {
    /// Where it stands.
    pub span: Span,
    /// The row.
    pub row: Arc<PriceRow>,
}

impl Own {
    /// The rows for a pair.
    pub fn rows(&self, backend: &BackendName, upstream: &str) -> Vec<Arc<PriceRow>> {
        self.placed(backend, upstream).iter().map(|own| Arc::clone(&own.row)).collect()
    }

    /// The rows for a pair, with their places.
    pub fn placed(&self, backend: &BackendName, upstream: &str) -> &[OwnRow] {
        self.rows.get(&(backend.as_str().to_owned(), upstream.to_owned())).map(Vec::as_slice).unwrap_or_default()
    }
}

/// The operator's exchange rates.
pub fn currencies(work: &mut Work<'_, '_>) -> Currencies {
    let mut currencies = Currencies::new();
    let sections = work.sections;
    for (key, node) in sections.table("currencies") {
        let Some(currency) = Currency::parse(&key.text).filter(|currency| *currency != Currency::USD) else {
            let fault = work.report.fault(key.span, format!("`{}` is not a currency to exchange", key.text));
            fault
                .label("not a currency code")
                .hint("write the three letters of another currency than USD, as in `CNY`");
            continue;
        };
        let mut rates: Vec<ExchangeRate> = Vec::new();
        for item in node.items() {
            let Some(nanousd) = item.read("rate", units::usd) else { continue };
            let from = item.read("from", units::instant).unwrap_or(Timestamp::MIN);
            if nanousd == 0 {
                work.report
                    .fault(item.span, "a rate of nothing")
                    .label("worth nothing")
                    .hint("write what one unit is worth, as in `0.14 USD`");
            }
            if rates.iter().any(|rate| rate.from == from) {
                let fault = work.report.fault(item.span, format!("two rates of {currency} from the same instant"));
                fault.label("here again").hint("give one of them another `from`");
            }
            rates.push(ExchangeRate { nanousd, from });
        }
        rates.sort_by_key(|rate| rate.from);
        currencies.insert(currency, rates);
    }
    currencies
}

/// The operator's price rows.
pub fn lower(work: &mut Work<'_, '_>, currencies: &Currencies) -> Own {
    let mut own = Own::default();
    let sections = work.sections;
    for node in sections.list("prices") {
        let Some(pair) = pair(work, node) else { continue };
        let Some(row) = row(work, node, currencies) else { continue };
        own.rows.entry(pair).or_default().push(OwnRow { span: node.span, row: Arc::new(row) });
    }
    for rows in own.rows.values_mut() {
        rows.sort_by_key(|own| own.row.from);
        for two in rows.windows(2) {
            let (first, second) = (&two[0], &two[1]);
            let overlap = first.row.until.is_some_and(|until| until > second.row.from);
            if overlap || first.row.from == second.row.from {
                let fault = work.report.fault(second.span, "two prices for the same time");
                let fault = fault.label("begins while the other holds").also(first.span, "holds already");
                fault.hint("let the first end with `until:` where the second begins");
            }
        }
    }
    own
}

/// The (backend, upstream name) that a row is for.
fn pair(work: &mut Work<'_, '_>, node: &Node) -> Option<(String, String)> {
    match (node.get("model"), node.get("backend"), node.get("upstream")) {
        (Some(_), _, Some(upstream)) => {
            let fault = work.report.fault(upstream.span, "both `model` and `upstream`");
            fault.label("one too many").hint("a price is for a `model`, or for a `backend` and its `upstream` name");
            None
        }
        (Some(model), backend, None) => pair_of_model(work, model, backend),
        (None, Some(backend), Some(upstream)) => pair_of_backend(work, backend, upstream),
        (None, _, _) => {
            let fault = work.report.fault(node.span, "a price for nobody");
            fault.label("whose price is it?").hint("write `model:`, or `backend:` and `upstream:`");
            None
        }
    }
}

fn pair_of_model(work: &mut Work<'_, '_>, model: &Node, backend: Option<&Node>) -> Option<(String, String)> {
    let name = model.text()?;
    if !work.known("models", "model", name, model.span) {
        return None;
    }
    let sections = work.sections;
    let served = sections.find("models", name).and_then(|(_, node)| node.get("backends")).map(Node::entries)?;
    let names: Vec<&str> = served.iter().map(|(key, _)| key.text.as_str()).collect();
    let wanted = match (backend, names.as_slice()) {
        (Some(backend), _) => {
            let wanted = backend.text()?;
            if !names.contains(&wanted) {
                let fault = work.report.fault(backend.span, format!("`{name}` is not served by `{wanted}`"));
                fault.label("not among its backends").hint(close::hint(
                    wanted,
                    names,
                    "name its backends in `models:`",
                ));
                return None;
            }
            wanted
        }
        (None, [only]) => only,
        (None, several) => {
            let fault = work.report.fault(model.span, format!("`{name}` is served by {} backends", several.len()));
            let hint = format!("add `backend:` with {}", close::list(several, "or"));
            fault.label("which one asks this price?").hint(hint);
            return None;
        }
    };
    let (_, upstream) = served.iter().find(|(key, _)| key.text == wanted)?;
    Some((wanted.to_owned(), upstream.text()?.to_owned()))
}

fn pair_of_backend(work: &mut Work<'_, '_>, backend: &Node, upstream: &Node) -> Option<(String, String)> {
    let (name, wanted) = (backend.text()?, upstream.text()?);
    if !work.known("backends", "backend", name, backend.span) {
        return None;
    }
    let models = work.sections.table("models").iter();
    let served: Vec<&str> = models
        .filter_map(|(_, node)| node.get("backends"))
        .flat_map(Node::entries)
        .filter(|(key, _)| key.text == name)
        .filter_map(|(_, upstream)| upstream.text())
        .collect();
    if !served.contains(&wanted) {
        let fault = work.report.fault(upstream.span, format!("no model is called `{wanted}` on `{name}`"));
        fault.label("not defined").hint(close::hint(wanted, served, "name it in `models:`"));
        return None;
    }
    Some((name.to_owned(), wanted.to_owned()))
}

fn row(work: &mut Work<'_, '_>, node: &Node, currencies: &Currencies) -> Option<PriceRow> {
    let flat = rows::RATES.iter().find_map(|key| node.get(key));
    match (flat, node.get("rates")) {
        (Some(flat), Some(rates)) => {
            let fault = work.report.fault(flat.span, "both an amount and `rates`");
            fault.label("an amount").also(rates.span, "rates").hint("move the amounts into `rates`");
        }
        (_, None) if node.get("input").is_none() || node.get("output").is_none() => {
            let fault = work.report.fault(node.span, "a price without its amounts");
            fault.label("amounts are missing").hint("write `input:` and `output:`, or `rates:`; `0 USD` is free");
        }
        (None, Some(rates)) => {
            let usual =
                |rate: &Node| rate.get("when").and_then(|when| when.word("tier")).is_none_or(|tier| tier == "default");
            if !rates.items().is_empty() && !rates.items().iter().any(usual) {
                let fault = work.report.fault(rates.span, "no rate for the usual service tier");
                fault.label("only for other tiers").hint("add a rate without `tier`: it holds where none is named");
            }
        }
        _ => {}
    }
    check_currency(work, node, currencies);
    let (from, until) = (node.read("from", units::instant), node.get("until"));
    let ends = until.and_then(Node::text).and_then(|text| units::instant(text).ok());
    if let (Some(from), Some(ends), Some(until)) = (from, ends, until)
        && ends <= from
    {
        let fault = work.report.fault(until.span, "`until` is not after `from`");
        fault.label("ends before it begins").hint("a price holds from `from` up to, but not at, `until`");
    }
    for window in node.get("calendar").map(Node::items).unwrap_or_default() {
        let Some(place) = window.get("not_on") else { continue };
        let name = place.text()?;
        if work.holidays(name).is_none() {
            let own = work.sections.names("holidays");
            let names: Vec<&str> = own.chain(work.catalog.holidays.keys().map(String::as_str)).collect();
            let fault = work.report.fault(place.span, format!("no holidays `{name}`"));
            fault.label("not defined").hint(close::hint(name, names, "define them under `holidays:`"));
        }
    }
    let row = rows::row(node, &|name| work.holidays(name)).map(|row| PriceRow { own: true, ..row })?;
    rates::note(work, node, &row);
    Some(row)
}

fn check_currency(work: &mut Work<'_, '_>, node: &Node, currencies: &Currencies) {
    let mut amounts = rows::currencies(node);
    let Some((first, currency)) = amounts.next() else { return };
    if let Some((other, another)) = amounts.find(|(_, other)| *other != currency) {
        let fault = work.report.fault(other.span, format!("{another} in a row of {currency}"));
        fault.label("another currency").also(first.span, "the row's currency").hint("write one row for each currency");
    }
    check_exchange(work, first, currency, currencies);
}

/// Notes an amount whose currency has no exchange rate.
pub fn check_exchange(work: &mut Work<'_, '_>, amount: &Node, currency: Currency, currencies: &Currencies) {
    if currency != Currency::USD && !currencies.contains_key(&currency) {
        let fault = work.report.fault(amount.span, format!("no exchange rate for {currency}"));
        fault
            .label("cannot be exchanged")
            .hint(format!("add `currencies: {{{currency}: [{{rate: … USD, from: 2025-01-01}}]}}`"));
    }
}
