//! Rows for tests of reports, charged as the gateway charges.

use std::{collections::BTreeMap, sync::Arc};

use uuid::Uuid;

use crate::ledger::row::{About, PriceUsed, Row, Served, SettleRow, Tokens};

/// 2026-11-23T12:00:00Z in milliseconds.
pub const NOON: i64 = 1_795_435_200_000;

/// 2.50, 1.25 and 10 USD per million prompt, cached and completion tokens.
pub fn price() -> PriceUsed {
    let rates = [2_500_000_000, 1_250_000_000, 2_500_000_000, 10_000_000_000, 10_000_000_000, 0, 0];
    PriceUsed { currency: "USD".into(), from: 0, rates, factor_ppm: 1_000_000, exchange_nanousd: 1_000_000_000 }
}

/// 2, 0.5 and 8 CNY, a yuan at 0.1389 USD.
pub fn price_in_yuan() -> PriceUsed {
    let rates = [2_000_000_000, 500_000_000, 2_000_000_000, 8_000_000_000, 8_000_000_000, 0, 0];
    PriceUsed { currency: "CNY".into(), exchange_nanousd: 138_900_000, rates, ..price() }
}

/// A priced attempt of request `id`: `input` prompt tokens, `output` completion tokens.
pub fn row(id: u128, attempt: u32, model: &str, input: u64, output: u64, price: PriceUsed) -> Row {
    let about = About {
        team: "search".into(),
        route: "auto".into(),
        operation: "chat".into(),
        dialect: "openai".into(),
        labels: Arc::new(BTreeMap::from([("cost_center".into(), "4711".into())])),
        ..About::default()
    };
    let served = Served {
        model: model.into(),
        upstream: format!("{model}-upstream").into(),
        backend: "openai".into(),
        provider: "openai".into(),
        account: "default".into(),
    };
    let row = Row {
        request: Uuid::from_u128(id),
        attempt,
        revision: 0,
        hedge: false,
        at_ms: NOON,
        about: Arc::new(about),
        served,
        outcome: "ok".into(),
        tokens: Tokens { input, output, ..Tokens::default() },
        price: Some(price),
        native_nano: 0,
        charge_nanousd: 0,
        held_nanousd: 1_000_000_000,
        estimated: false,
        swept: false,
    };
    charged(row)
}

/// The row with the amounts that its tokens and its price make.
pub fn charged(mut row: Row) -> Row {
    if let Some((native, money)) = row.recomputed() {
        row.native_nano = native;
        row.charge_nanousd = money.nanousd();
    }
    row
}

/// A settled request with these attempts.
pub fn settled(rows: Vec<Row>) -> SettleRow {
    let first = &rows[0];
    SettleRow {
        id: first.request,
        held_at_ms: first.at_ms,
        at_ms: first.at_ms + 1000,
        places: Vec::new(),
        swept: first.swept,
        rows,
    }
}
