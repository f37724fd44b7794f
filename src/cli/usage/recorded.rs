//! Usage from records of requests: the rows that the books have of them, put together from what was recorded, and summed
//! up by the report that reads the books.

use std::{io, path::PathBuf, sync::Arc};

use jiff::Timestamp;
use uuid::Uuid;

use super::super::{
    books::configuration,
    flags::BadUsage,
    records::{
        self,
        stream::{self, Passed},
    },
    remote::Server,
};
use crate::{
    admin::{api::UsageAnswer, books},
    base::money::Currency,
    config,
    ledger::{
        report::ask::Ask,
        row::{About, PriceUsed, Row, Served, SettleRow, Tokens},
    },
    telemetry::record::{
        Line,
        line::{AttemptLine, CHAT},
    },
};

/// What the records in `named` come to.
///
/// # Errors
/// A question that is none, records that cannot be read.
pub(super) fn ask(server: &Server, named: &[PathBuf], pairs: &[(String, String)]) -> anyhow::Result<UsageAnswer> {
    let ask = Ask::read(pairs, Timestamp::now()).map_err(|wrong| BadUsage(wrong.to_string()))?;
    let policies = match ask.currency {
        Currency::USD => None,
        _ => Some(configuration(server)?.policies),
    };
    let files = stream::files(named)?;
    anstream::eprintln!(
        "note: summed up from records; the books are the truth, and tell of what was swept or not recorded, too"
    );
    let mut passed = Passed::default();
    let answer = books::answer_of(&ask, policies.as_deref(), |_, show| {
        passed = stream::each(&files, |line| show(&settled(line))).map_err(io::Error::other)?;
        Ok(passed.lost_bytes())
    })?;
    records::warn(&passed);
    Ok(answer)
}

/// A request as the books have it.
fn settled(line: &Line) -> SettleRow {
    let request = Uuid::parse_str(&line.id).unwrap_or_default();
    let about = Arc::new(About {
        team: Arc::clone(&line.team),
        user: Arc::clone(&line.user),
        key: Arc::clone(&line.key),
        route: Arc::clone(&line.route),
        arm: line.decisions.iter().find_map(|decision| decision.decided.arm.clone()),
        operation: if line.operation.is_empty() { CHAT.into() } else { Arc::clone(&line.operation) },
        dialect: Arc::default(),
        labels: Arc::clone(&line.labels),
    });
    let mut attempts: Vec<(u32, &AttemptLine)> = (1..).zip(&line.attempts).collect();
    // Books have them in the order in which they ended: nothing but what lost comes after an answer.
    attempts.sort_by_key(|(_, attempt)| (attempt.is_ok(), ended_ms(attempt)));
    SettleRow {
        id: request,
        held_at_ms: line.at.as_millisecond(),
        at_ms: line.at.as_millisecond().saturating_add_unsigned(line.total_ms),
        places: Vec::new(),
        rows: attempts.into_iter().map(|(number, attempt)| row(request, &about, number, attempt)).collect(),
        swept: false,
    }
}

fn ended_ms(attempt: &AttemptLine) -> i64 {
    attempt.at.as_millisecond().saturating_add_unsigned(attempt.total_ms)
}

fn row(request: Uuid, about: &Arc<About>, number: u32, attempt: &AttemptLine) -> Row {
    let (price, native_nano) = billed(&attempt.native);
    Row {
        request,
        attempt: number,
        revision: 0,
        hedge: attempt.hedge,
        at_ms: attempt.at.as_millisecond(),
        about: Arc::clone(about),
        served: Served {
            model: Arc::clone(&attempt.candidate.model),
            upstream: Arc::clone(&attempt.upstream),
            backend: Arc::clone(&attempt.candidate.backend),
            provider: Arc::clone(&attempt.provider),
            account: Arc::clone(&attempt.account),
        },
        outcome: Arc::clone(&attempt.outcome),
        tokens: Tokens::from(&attempt.usage()),
        price,
        native_nano,
        charge_nanousd: attempt.cost_nanousd,
        held_nanousd: 0,
        estimated: attempt.estimated,
        swept: false,
    }
}

/// What the vendor bills (`0.00123 CNY`), in billionths, and the currency of the price: all of it that sums ask for.
fn billed(native: &str) -> (Option<PriceUsed>, i64) {
    let Some((amount, currency)) = native.split_once(' ') else { return (None, 0) };
    let nano = config::decimal(amount, 9).ok().and_then(|nano| i64::try_from(nano).ok()).unwrap_or(0);
    let price =
        PriceUsed { currency: currency.into(), from: 0, rates: [0; 7], factor_ppm: 1_000_000, exchange_nanousd: 0 };
    (Some(price), nano)
}
