//! The books in use: `GET /api/v1/usage` and `GET /api/v1/audit`, and the same for commands that read the folder
//! themselves.

use std::{collections::BTreeMap, io, path::Path, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{Query as Pairs, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;

use super::{
    Admin,
    api::{
        AuditAnswer, Decimal, DisputedLine, FindingLine, PartLine, RateUsed, ReleaseNode, ReleasedNode, SliceLine,
        StoreLine, UsageAnswer, UsageLine, WhyAnswer,
    },
    body, error,
    unknown::{Unheard, UnknownName},
};
use crate::{
    base::money::{Currency, ExchangeRate},
    config::Right,
    ledger::{
        Ledger,
        journal::{Position, Reader, Reading},
        mirror_folder,
        redis::{Release, Silent, Store},
        report::{
            ask::{Ask, AskError},
            audit::{Audit, Outcome, Standing},
            usage::{Exchange, Query, Sums, Usage},
            variance::{self, Side},
        },
        row::{Checkpoint, Entry, PlaceRow, SettleRow},
    },
    policy::Policies,
};

/// The store's clock is less off than this.
const SKEW: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);
/// The longest reason for a release, in bytes.
const MAX_WHY: usize = 500;

/// Exchange rates by currency.
pub type Currencies = BTreeMap<Currency, Vec<ExchangeRate>>;

fn known_rates(rates: &Currencies) -> String {
    let known: Vec<String> = rates.keys().map(ToString::to_string).chain(["USD".to_owned()]).collect();
    format!("`currencies:` has `{}`", known.join("`, `"))
}

/// Why the books do not answer.
#[derive(Debug, thiserror::Error)]
pub enum BooksFault {
    /// The question is not one.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// No rate is known at some instant.
    #[error("no rate of {0} holds for all of that time\nhint: add one to `currencies:`")]
    NoRate(Currency),
    /// Nobody bills in that currency, and it has no rate.
    #[error("`{0}` is in no row, and has no rate\nhint: {1}")]
    Foreign(Currency, String),
    /// Nothing bears that name.
    #[error(transparent)]
    Unknown(#[from] UnknownName),
    /// The journal cannot be read.
    #[error("the books cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// What the books in `folder` say. `policies`: whose names and rates of exchange are meant.
///
/// # Errors
/// [`BooksFault`].
pub fn answer(folder: &Path, ask: &Ask, policies: &Policies) -> Result<UsageAnswer, BooksFault> {
    answer_of(ask, Some(policies), |since, show| each_settled(folder, since, ask.own, show))
}

/// What settled requests come to, wherever they are read. `policies`: whose names and rates of exchange are meant; `each` shows those since an instant, and some from before, and
/// tells how many bytes could not be read.
///
/// # Errors
/// [`BooksFault`].
pub fn answer_of(
    ask: &Ask,
    policies: Option<&Policies>,
    each: impl FnOnce(Timestamp, &mut dyn FnMut(&SettleRow)) -> io::Result<u64>,
) -> Result<UsageAnswer, BooksFault> {
    let none = Currencies::new();
    let currencies = policies.map_or(&none, |policies| &policies.currencies);
    let mut unheard = Unheard::of(policies, &ask.filter);
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
    let damaged_bytes = each(since, &mut |row| {
        for row in &row.rows {
            let within = ask.stretch.has(row) || ask.against.is_some_and(|against| against.has(row));
            unheard.meet(row, within, &ask.zone);
        }
        usage.add(row, &query);
        if let Some(against) = ask.against {
            after.add(row, ask.stretch, &ask.filter, &ask.zone);
            before.add(row, against, &ask.filter, &ask.zone);
        }
    })?;
    unheard.check()?;
    let foreign = ask.currency != Currency::USD && !currencies.contains_key(&ask.currency);
    if foreign && !usage.total.native.contains_key(ask.currency.as_str()) {
        return Err(BooksFault::Foreign(ask.currency, known_rates(currencies)));
    }
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
        absent: unheard.absent(),
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
fn each_settled(folder: &Path, since: Timestamp, own: bool, mut show: impl FnMut(&SettleRow)) -> io::Result<u64> {
    let mut damaged = 0;
    // What comes from other nodes was written by the store's clock; and it is read first, so that what another node
    // has swept comes before its correction.
    let earlier = since.checked_sub(SKEW).unwrap_or(Timestamp::MIN);
    let others = if own { None } else { Some(Reader::since(&mirror_folder(folder), earlier)?) };
    for reading in others.into_iter().flatten().chain(Reader::since(folder, since)?) {
        match reading? {
            Reading::Entry(entry, _) => match *entry {
                Entry::Settle(row) => show(&row),
                Entry::Told(told) => told.settled.iter().for_each(&mut show),
                _ => {}
            },
            Reading::Damage { bytes, .. } => damaged += bytes,
            // What a gateway is about to write looks like that.
            Reading::Torn { .. } => {}
        }
    }
    Ok(damaged)
}

/// What the books are laid beside: what is settled, by the entries of the journal up to a position.
#[derive(Debug)]
pub struct Against {
    standing: Vec<Standing>,
    end: Position,
    /// All rows of other nodes are known here that were settled after this instant, in milliseconds since 1970.
    rows_since_ms: i64,
}

impl From<Checkpoint> for Against {
    fn from(summed_up: Checkpoint) -> Self {
        let standing = |place: PlaceRow| Standing {
            window: place.window(),
            fence: place.fence,
            settled: place.amount,
            elsewhere: 0,
            at_least: false,
        };
        let end = Position { segment: summed_up.segment, offset: summed_up.offset };
        Self { standing: summed_up.settled.into_iter().map(standing).collect(), end, rows_since_ms: i64::MAX }
    }
}

/// Whether the books in `folder` balance, and agree with what a store counts.
///
/// # Errors
/// The system's error when the journal cannot be read.
pub fn balance(folder: &Path, store: Option<Against>, now: Timestamp) -> io::Result<AuditAnswer> {
    let end = store.as_ref().map(|store| store.end);
    let others = mirror_folder(folder);
    let known = store.as_ref().map_or(i64::MAX, |store| store.rows_since_ms);
    let rows_since_ms = if others.is_dir() { known } else { i64::MIN };
    let mut audit = Audit::against(store.into_iter().flat_map(|store| store.standing));
    if rows_since_ms > i64::MIN {
        audit.knows_rows_since(rows_since_ms);
    }
    if rows_since_ms < i64::MAX {
        for reading in Reader::since(&others, Timestamp::MIN)? {
            if let Reading::Entry(entry, _) = reading?
                && let Entry::Told(told) = *entry
            {
                told.settled.iter().for_each(|settled| audit.elsewhere(settled));
            }
        }
    }
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
        rent_usd: Decimal::from_nano(outcome.rent),
        unallocated_usd: Decimal::from_nano(outcome.unallocated),
        rents: outcome.rents,
        rents_in_part: outcome.rents_in_part,
        compared: outcome.compared,
        found: outcome.found,
        findings: outcome.findings.iter().map(finding).collect(),
        store: None,
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
    let answered = tokio::task::spawn_blocking(move || answer(&folder, &ask, &policies)).await;
    match answered {
        Ok(Ok(answer)) => Json(answer).into_response(),
        Ok(Err(BooksFault::Io(failed))) => unreadable(&failed),
        Ok(Err(wrong)) => error(StatusCode::BAD_REQUEST, "invalid_request", &wrong.to_string()),
        Err(failed) => unreadable(&failed),
    }
}

/// Whether the books balance.
pub(super) async fn audit(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    if let Err(refused) = admin.authorise(&headers, Right::Read) {
        return *refused;
    }
    let ledger = admin.gateway.ledger();
    let Some(folder) = ledger.books().folder().map(Path::to_owned) else { return no_books() };
    let (against, store) = match ledger.store() {
        None => (ledger.books().standing().map(Against::from), None),
        Some(store) => counted(ledger, store).await,
    };
    let answered = tokio::task::spawn_blocking(move || balance(&folder, against, Timestamp::now())).await;
    match answered {
        Ok(Ok(answer)) => Json(AuditAnswer { store, ..answer }).into_response(),
        Ok(Err(failed)) => unreadable(&failed),
        Err(failed) => unreadable(&failed),
    }
}

/// What a shared store counts, and how it stands; without it the books are audited alone.
async fn counted(ledger: &Ledger, store: &Store) -> (Option<Against>, Option<StoreLine>) {
    let own = ledger.books().standing().unwrap_or_default().settled;
    let disputed = |silent: Silent| DisputedLine {
        node: silent.node,
        silent_seconds: silent.silent_ms / 1000,
        slices: silent.slices.into_iter().map(|(fence, amount)| SliceLine { fence, amount }).collect(),
    };
    let mut line = StoreLine { disputed: store.silent().into_iter().map(disputed).collect(), ..StoreLine::default() };
    match store.count(&own).await {
        Ok(count) => {
            (line.in_part, line.passed_over) = (count.in_part, count.passed_over);
            let (end, rows_since_ms) = (Position::of(count.position), store.rows_since_ms());
            (Some(Against { standing: count.standing, end, rows_since_ms }), Some(line))
        }
        Err(away) => {
            line.away = Some(away.to_string());
            (None, Some(line))
        }
    }
}

/// Gives back what a node leases that is gone.
pub(super) async fn release(State(admin): State<Arc<Admin>>, headers: HeaderMap, body: Body) -> Response {
    let answer = async {
        let who = admin.authorise(&headers, Right::Budgets)?.to_owned();
        let wanted: ReleaseNode = body::json(body).await?;
        let refused = |status, code, text: &str| Box::new(error(status, code, text));
        let why = wanted.why.trim();
        if why.is_empty() || why.len() > MAX_WHY {
            let text = "a release needs a reason of at most 500 bytes";
            return Err(refused(StatusCode::BAD_REQUEST, "invalid_request", text));
        }
        let released = admin.gateway.ledger().release(&wanted.node, &who, why, Timestamp::now()).await;
        let slices = released.map_err(|failed| match &failed {
            Release::Heard(..) => refused(StatusCode::CONFLICT, "node_is_alive", &failed.to_string()),
            Release::Unknown(_) => refused(StatusCode::NOT_FOUND, "unknown_node", &failed.to_string()),
            Release::Store(_) | Release::Journal(_) => {
                refused(StatusCode::SERVICE_UNAVAILABLE, "budget_store_unavailable", &failed.to_string())
            }
        })?;
        tracing::info!(by = %who, node = wanted.node, "what a silent node leased is given back");
        let slices = slices.into_iter().map(|(fence, amount)| SliceLine { fence, amount }).collect();
        Ok(Json(ReleasedNode { node: wanted.node, slices }).into_response())
    };
    answer.await.unwrap_or_else(|refused: Box<Response>| *refused)
}

fn no_books() -> Response {
    error(StatusCode::CONFLICT, "no_books", "this gateway runs without a journal, so it keeps no books")
}

fn unreadable(failed: &dyn std::fmt::Display) -> Response {
    tracing::error!(%failed, "the books cannot be read");
    error(StatusCode::INTERNAL_SERVER_ERROR, "books_failed", "the books cannot be read")
}
