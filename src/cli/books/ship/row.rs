//! A row as the database takes it.

use serde_json::{Value, json};

use crate::ledger::row::{Row, SettleRow};

/// The row of a settled request by the names of the columns.
pub(super) fn json(row: &Row, settled: &SettleRow) -> Value {
    let (about, served, tokens, price) = (&row.about, &row.served, &row.tokens, row.price.as_ref());
    let labels: serde_json::Map<String, Value> =
        about.labels.iter().map(|(name, value)| (text(name), text(value).into())).collect();
    json!({
        "request": row.request,
        "attempt": row.attempt,
        "revision": row.revision,
        "dispatched_ms": row.at_ms,
        "settled_ms": settled.at_ms,
        "team": text(&about.team),
        "user_name": text(&about.user),
        "key_id": text(&about.key),
        "route": text(&about.route),
        "arm": about.arm.as_deref().map(text),
        "operation": text(&about.operation),
        "dialect": text(&about.dialect),
        "labels": labels,
        "model": text(&served.model),
        "upstream": text(&served.upstream),
        "backend": text(&served.backend),
        "provider": text(&served.provider),
        "account": text(&served.account),
        "outcome": text(&row.outcome),
        "input_tokens": count(tokens.input),
        "cached_input_tokens": count(tokens.cached_input),
        "cache_write_tokens": count(tokens.cache_write),
        "audio_input_tokens": count(tokens.audio_input),
        "output_tokens": count(tokens.output),
        "reasoning_tokens": count(tokens.reasoning),
        "audio_output_tokens": count(tokens.audio_output),
        "currency": price.map(|price| text(&price.currency)),
        "price_from_s": price.map(|price| price.from),
        "price_rates_nano": price.map(|price| price.rates),
        "price_factor_ppm": price.map(|price| price.factor_ppm),
        "exchange_nanousd": price.map(|price| price.exchange_nanousd),
        "native_nano": row.native_nano,
        "charge_nanousd": row.charge_nanousd,
        "held_nanousd": row.held_nanousd,
        "estimated": row.estimated,
        "swept": row.swept,
    })
}

/// PostgreSQL has no text with a zero byte in it, and users name themselves.
fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
