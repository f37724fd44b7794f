//! The register of prices as tables: one line a seller, or every row of one model.

use comfy_table::{CellAlignment, Table, presets};
use jiff::Timestamp;

use super::view::{Nano, Offer, State, View, condition, days, factor, hours, kinds};
use crate::{
    base::price::{PriceRow, Rate, Window},
    cli::books::time,
};

fn plain(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(head);
    table
}

/// One line a seller: what a short request of the usual tier costs at the instant.
pub fn overview(view: &View<'_>) -> String {
    let head =
        ["model", "seller", "input", "cached", "output", "", "now", "USD in", "USD out", "since", "next change", ""];
    let mut table = plain(&head);
    for offer in view.offers {
        let Some((row, rate)) = offer.current(view.at) else {
            let mut line = vec![offer.model.clone(), offer.seller(), "no price".to_owned()];
            line.resize(head.len() - 2, String::new());
            line.push(next(offer, view.at).unwrap_or_default());
            table.add_row(line);
            continue;
        };
        let ppm = row.factor_ppm(view.at);
        let usd = |nano| view.usd(nano, row.currency, ppm).map_or_else(|| "no rate".to_owned(), |usd| usd.to_string());
        let more = match row.rates.len() {
            1 => String::new(),
            rates => format!("{rates} rates"),
        };
        table.add_row([
            offer.model.clone(),
            offer.seller(),
            Nano(rate.input.into()).to_string(),
            Nano(rate.cached_input.into()).to_string(),
            Nano(rate.output.into()).to_string(),
            row.currency.to_string(),
            if ppm == 1_000_000 { String::new() } else { format!("× {}", factor(ppm)) },
            usd(rate.input),
            usd(rate.output),
            since(row.from),
            next(offer, view.at).unwrap_or_default(),
            [more, if row.own { "yours".to_owned() } else { String::new() }].join(" ").trim().to_owned(),
        ]);
    }
    for column in [2, 3, 4, 7, 8] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!(
        "per million tokens at {}, catalog {}; USD with the factor of the hour\n{table}",
        time(view.at),
        view.catalog
    )
}

/// What changes next: another row, or the factor of the hour.
fn next(offer: &Offer, at: Timestamp) -> Option<String> {
    let row = offer.next_row(at).map(|(at, row)| {
        let what = if row.is_some() { "another price" } else { "no price" };
        (at, what.to_owned())
    });
    let window = offer.current(at).and_then(|(row, _)| row.next_factor(at));
    let window = window.map(|(at, ppm)| (at, format!("× {}", factor(ppm))));
    let (at, what) = row.into_iter().chain(window).min_by_key(|(at, _)| *at)?;
    Some(format!("{what} from {}", time(at)))
}

/// Every row of every seller.
pub fn detailed(view: &View<'_>) -> String {
    let parts: Vec<String> = view.offers.iter().map(|offer| one(view, offer)).collect();
    let head = format!("per million tokens, as of {}, catalog {}", time(view.at), view.catalog);
    format!("{head}\n\n{}", parts.join("\n\n"))
}

fn one(view: &View<'_>, offer: &Offer) -> String {
    let mut text = format!("{} at {}, called `{}`", offer.model, offer.seller(), offer.upstream);
    if let Some(next) = next(offer, view.at) {
        text.push_str(&format!("; {next}"));
    }
    // A kind of token that no row prices by itself is left out.
    let shown: Vec<usize> = (0..7).filter(|kind| offer.rows.iter().any(|row| special(row, *kind))).collect();
    let conditions = offer.rows.iter().flat_map(|row| &row.rates).any(|rate| !condition(rate).is_empty());
    let mut head = vec!["state", "from", "until"];
    head.extend(conditions.then_some("when"));
    const NAMES: [&str; 7] = ["input", "cached", "write", "output", "reasoning", "audio in", "audio out"];
    head.extend(shown.iter().map(|kind| NAMES[*kind]));
    head.extend(["", "USD in", "USD out", "whose"]);
    let mut table = plain(&head);
    let mut notes: Vec<String> = Vec::new();
    for row in &offer.rows {
        let state = view.state(offer, row);
        for (index, rate) in row.rates.iter().enumerate() {
            table.add_row(line(view, offer, row, rate, index, state, &shown, conditions));
        }
        let about = if state == State::InForce { "in force".to_owned() } else { since(row.from) };
        notes.extend(row.calendar.iter().map(|window| format!("  {about}: {}", sentence(window, view.at))));
        notes.push(format!("  {about}: {}", if row.source.is_empty() { "no source" } else { &row.source }));
    }
    if offer.rows.is_empty() {
        return format!("{text}: no price is known");
    }
    format!("{text}\n{table}\n{}", notes.join("\n"))
}

/// Whether any rate of a row prices that kind apart from plain input or output.
fn special(row: &PriceRow, kind: usize) -> bool {
    row.rates.iter().any(|rate| {
        let plain = if kind < 3 || kind == 5 { rate.input } else { rate.output };
        matches!(kind, 0 | 3) || kinds(rate)[kind].1 != plain
    })
}

#[expect(clippy::too_many_arguments, reason = "the cells of one line, put together in one place")]
fn line(
    view: &View<'_>,
    offer: &Offer,
    row: &PriceRow,
    rate: &Rate,
    index: usize,
    state: State,
    shown: &[usize],
    conditions: bool,
) -> Vec<String> {
    let first = |text: String| if index == 0 { text } else { String::new() };
    let mut cells = vec![
        first(state.as_str().to_owned()),
        first(since(row.from)),
        first(offer.end_of(row).map_or_else(|| "–".to_owned(), time)),
    ];
    cells.extend(conditions.then(|| condition(rate)));
    cells.extend(shown.iter().map(|kind| Nano(kinds(rate)[*kind].1.into()).to_string()));
    cells.push(row.currency.to_string());
    let usd =
        |nano| view.usd(nano, row.currency, 1_000_000).map_or_else(|| "no rate".to_owned(), |usd| usd.to_string());
    cells.extend([usd(rate.input), usd(rate.output), if row.own { "yours" } else { "catalog" }.to_owned()]);
    cells
}

/// `× 2 mon-fri 09:00-12:00 Asia/Shanghai, not on 61 holidays (open)`.
fn sentence(window: &Window, at: Timestamp) -> String {
    let zone = window.zone.iana_name().unwrap_or("a fixed offset");
    let not_on = match window.not_on.len() {
        0 => String::new(),
        days => format!(", not on {days} holidays"),
    };
    let open = if window.is_open(at) { " (open)" } else { "" };
    format!("× {} {} {} {zone}{not_on}{open}", factor(window.factor_ppm), days(window), hours(window))
}

fn since(from: Timestamp) -> String {
    if from == Timestamp::MIN { "always".to_owned() } else { time(from) }
}
