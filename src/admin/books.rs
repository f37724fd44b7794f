//! The books in use: `GET /api/v1/usage` and `GET /api/v1/audit`, and the same for commands that read the folder
//! themselves.

use std::{collections::BTreeMap, io, path::Path, sync::Arc};

use axum::{
    Json,
    extract::{Query as Pairs, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;

use super::{
    Admin,
    api::{AuditAnswer, Decimal, FindingLine, PartLine, RateUsed, UsageAnswer, UsageLine, WhyAnswer},
    error,
};
use crate::{
    base::money::{Currency, ExchangeRate},
    config::Right,
    ledger::{
        journal::{Position, Reader, Reading},
        report::{
            ask::{Ask, AskError},
            audit::{Audit, Outcome, Standing},
            usage::{Exchange, Query, Sums, Usage},
            variance::{self, Side},
        },
        row::{Checkpoint, Entry, SettleRow},
    },
};

/// Exchange rates by currency.
pub type Currencies = BTreeMap<Currency, Vec<ExchangeRate>>;

/// Why the books do not answer.
#[derive(Debug, thiserror::Error)]
pub enum BooksFault {
    /// The question is not one.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// No rate is known at some instant.
    #[error("no rate of {0} holds for all of that time\nhint: add one to `currencies:`")]
    NoRate(Currency),
    /// The journal cannot be read.
    #[error("the books cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// What the books in `folder` say.
///
/// # Errors
/// [`BooksFault`].
pub fn answer(folder: &Path, ask: &Ask, currencies: &Currencies) -> Result<UsageAnswer, BooksFault> {
    let exchange = (ask.currency != Currency::USD).then(|| {
        let rates = currencies.get(&ask.currency).cloned().unwrap_or_default();
        Exchange { currency: ask.currency, rates }
    });
    let query = Query {
        stretch: ask.stretch,
        by: ask.by.clone(),
        filter: ask.filter.clone(),
        zone: ask.zone.clone(),
        currency: exchange,
    };
    let (mut usage, mut after, mut before) = (Usage::default(), Side::default(), Side::default());
    let since = ask.against.map_or(ask.stretch.since, |against| against.since.min(ask.stretch.since));
    let damaged_bytes = each_settled(folder, since, |row| {
        usage.add(row, &query);
        if let Some(against) = ask.against {
            after.add(row, ask.stretch, &ask.filter, &ask.zone);
            before.add(row, against, &ask.filter, &ask.zone);
        }
    })?;
    let names: Vec<String> = ask.by.iter().map(ToString::to_string).collect();
    let line = |values: &[String], sums: &Sums| {
        let group = names.iter().cloned().zip(values.iter().cloned()).collect();
        let amount = sums.in_currency(ask.currency).ok_or(BooksFault::NoRate(ask.currency))?;
        Ok::<_, BooksFault>(UsageLine::new(group, sums, amount))
    };
    let rates = usage.total.exchanged.iter().filter_map(|(rate, exchanged)| {
        Some(RateUsed { usd: Decimal::from_nano((*rate)?.into()), exchanged_usd: Decimal::from_nano(*exchanged) })
    });
    Ok(UsageAnswer {
        since: ask.stretch.since,
        until: ask.stretch.until,
        zone: ask.zone.iana_name().unwrap_or("UTC").to_owned(),
        by: names.clone(),
        currency: ask.currency.to_string(),
        rates: rates.collect(),
        lines: usage.groups.iter().map(|(key, sums)| line(key, sums)).collect::<Result<_, _>>()?,
        total: line(&[], &usage.total)?,
        damaged_bytes,
        why: ask.against.map(|against| why(against.since, against.until, &before, &after)),
    })
}

fn why(since: Timestamp, until: Timestamp, before: &Side, after: &Side) -> WhyAnswer {
    let told = variance::explain(before, after);
    let part = |(part, amount): (variance::Part, i128)| PartLine {
        part: part.as_str().to_owned(),
        about: part.about().to_owned(),
        usd: Decimal::from_nano(amount),
    };
    WhyAnswer {
        since,
        until,
        requests_before: before.requests,
        requests: after.requests,
        before_usd: Decimal::from_nano(told.before),
        after_usd: Decimal::from_nano(told.after),
        difference_usd: Decimal::from_nano(told.after - told.before),
        parts: told.parts.into_iter().map(part).collect(),
    }
}

/// Shows every settled request since `since`, and some from before; tells how many bytes could not be read.
fn each_settled(folder: &Path, since: Timestamp, mut show: impl FnMut(&SettleRow)) -> io::Result<u64> {
    let mut damaged = 0;
    for reading in Reader::since(folder, since)? {
        match reading? {
            Reading::Entry(entry, _) => {
                if let Entry::Settle(row) = *entry {
                    show(&row);
                }
            }
            Reading::Damage { bytes, .. } => damaged += bytes,
            // What a gateway is about to write looks like that.
            Reading::Torn { .. } => {}
        }
    }
    Ok(damaged)
}

/// Whether the books in `folder` balance, and agree with what a store counted when it was last summed up.
///
/// # Errors
/// The system's error when the journal cannot be read.
pub fn balance(folder: &Path, store: Option<&Checkpoint>, now: Timestamp) -> io::Result<AuditAnswer> {
    let standing = store.into_iter().flat_map(|store| &store.settled);
    let mut audit = Audit::against(standing.map(|place| Standing {
        fence: Arc::clone(&place.fence),
        window: place.window(),
        settled: place.amount,
    }));
    let end = store.map(|store| Position { segment: store.segment, offset: store.offset });
    for reading in Reader::open(folder, Position::default())? {
        match reading? {
            Reading::Entry(entry, behind) => {
                if end.is_some_and(|end| behind > end) {
                    audit.freeze();
                }
                audit.add(&entry);
            }
            Reading::Damage { at, bytes } => audit.damage(at.segment, at.offset, bytes),
            Reading::Torn { .. } => {}
        }
    }
    Ok(told(audit.finish(now.as_millisecond())))
}

fn told(outcome: Outcome) -> AuditAnswer {
    let finding = |finding: &crate::ledger::report::audit::Finding| FindingLine {
        kind: finding.kind().to_owned(),
        what: finding.to_string(),
    };
    AuditAnswer {
        balanced: outcome.found == 0,
        requests: outcome.requests,
        rows: outcome.rows,
        under_way: outcome.under_way,
        charge_usd: Decimal::from_nano(outcome.charge),
        swept_usd: Decimal::from_nano(outcome.swept),
        corrected_usd: Decimal::from_nano(outcome.corrected),
        compared: outcome.compared,
        found: outcome.found,
        findings: outcome.findings.iter().map(finding).collect(),
    }
}

/// Spend and tokens.
pub(super) async fn usage(
    State(admin): State<Arc<Admin>>,
    headers: HeaderMap,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
) -> Response {
    if let Err(refused) = admin.authorise(&headers, Right::Read) {
        return *refused;
    }
    let ask = match Ask::read(&pairs, Timestamp::now()) {
        Ok(ask) => ask,
        Err(wrong) => return error(StatusCode::BAD_REQUEST, "invalid_request", &wrong.to_string()),
    };
    let Some(folder) = admin.gateway.ledger().books().folder().map(Path::to_owned) else { return no_books() };
    let policies = admin.gateway.policies();
    let answered = tokio::task::spawn_blocking(move || answer(&folder, &ask, &policies.currencies)).await;
    match answered {
        Ok(Ok(answer)) => Json(answer).into_response(),
        Ok(Err(wrong @ (BooksFault::Ask(_) | BooksFault::NoRate(_)))) => {
            error(StatusCode::BAD_REQUEST, "invalid_request", &wrong.to_string())
        }
        Ok(Err(BooksFault::Io(failed))) => unreadable(&failed),
        Err(failed) => unreadable(&failed),
    }
}

/// Whether the books balance.
pub(super) async fn audit(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    if let Err(refused) = admin.authorise(&headers, Right::Read) {
        return *refused;
    }
    let books = Arc::clone(admin.gateway.ledger().books());
    let Some(folder) = books.folder().map(Path::to_owned) else { return no_books() };
    let answered =
        tokio::task::spawn_blocking(move || balance(&folder, books.standing().as_ref(), Timestamp::now())).await;
    match answered {
        Ok(Ok(answer)) => Json(answer).into_response(),
        Ok(Err(failed)) => unreadable(&failed),
        Err(failed) => unreadable(&failed),
    }
}

fn no_books() -> Response {
    error(StatusCode::CONFLICT, "no_books", "this gateway runs without a journal, so it keeps no books")
}

fn unreadable(failed: &dyn std::fmt::Display) -> Response {
    tracing::error!(%failed, "the books cannot be read");
    error(StatusCode::INTERNAL_SERVER_ERROR, "books_failed", "the books cannot be read")
}
