//! `/api/v1/budgets`: what every budget stands at, and raises of one; the same for commands that open the books
//! themselves.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;

use super::{
    Admin,
    api::{BudgetLine, BudgetList, RaiseBudget, RaiseLine},
    body, error,
    unknown::UnknownName,
};
use crate::{
    base::{
        fences::{Fence, Owner, Purpose, Unit},
        money::Money,
        names::TeamName,
        tenants::Quota,
    },
    config::{self, Right},
    ledger::{Ledger, row::RaiseRow},
    policy::Policies,
};

/// The longest reason, in bytes.
const MAX_WHY: usize = 500;
/// The most that a cap may be with its raises: counters of a store may be doubles.
const MAX_CAP: i64 = 1 << 53;

/// Why a budget is not raised.
#[derive(Debug, thiserror::Error)]
pub enum RaiseError {
    /// No budget has that id.
    #[error("there is no budget `{id}`\nhint: {hint}")]
    Unknown {
        /// What was asked for.
        id: String,
        /// What is close.
        hint: String,
    },
    /// The amount, the end or the reason is not one.
    #[error("{0}")]
    Unfit(String),
    /// It cannot be booked.
    #[error("the journal cannot be written: {0}")]
    Journal(#[from] std::io::Error),
}

/// Which budgets are listed.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Only those of this team.
    pub team: Option<String>,
    /// Those of single users too: of every user that has spent something lately.
    pub users: bool,
}

/// The budgets that are wanted.
pub fn lines(policies: &Policies, ledger: &Ledger, now: Timestamp, wanted: &Wanted) -> Vec<BudgetLine> {
    let budgets = policies.fences().filter(|fence| fence.purpose == Purpose::Budget).cloned();
    let booked = if wanted.users { ledger.books().standing().unwrap_or_default().settled } else { Vec::new() };
    let users = booked.iter().filter(|place| place.fence.starts_with("user/"));
    let users = users.filter_map(|place| find(policies, &place.fence));
    let of_team = |fence: &Arc<Fence>| {
        wanted.team.as_ref().is_none_or(|team| fence.owner.team().is_some_and(|own| own.as_str() == team))
    };
    budgets.chain(users).filter(of_team).map(|fence| line(&fence, ledger, now)).collect()
}

fn line(fence: &Arc<Fence>, ledger: &Ledger, now: Timestamp) -> BudgetLine {
    let raises = ledger.books().raises();
    let level = ledger.level(fence, now);
    let fence = raises.apply(fence, now);
    let plain = |amount: i64| plain(fence.unit, amount);
    let used_percent = i128::from(level.used().max(0)) * 100_000_000 / i128::from(fence.cap.max(1));
    let pace = used_percent / i128::from(level.window.elapsed_ppm(now));
    let of_fence = raises.rows(now).into_iter().filter(|row| row.fence == fence.id);
    BudgetLine {
        id: fence.id.to_string(),
        kind: fence.owner.kind().to_owned(),
        owner: fence.owner.name(),
        name: fence.name.to_string(),
        unit: fence.unit.as_str().to_owned(),
        per: fence.per.map(|per| per.as_str()).unwrap_or_default().to_owned(),
        limit: plain(fence.cap),
        raised: plain(fence.raised),
        used: plain(level.used()),
        held: plain(level.held),
        left: plain(fence.cap.saturating_sub(level.used()).max(0)),
        pace_percent: u64::try_from(pace).unwrap_or(u64::MAX),
        since: level.window.start,
        renews_at: level.window.end,
        raises: of_fence
            .map(|row| RaiseLine {
                amount: plain(row.amount),
                until: Timestamp::from_millisecond(row.until_ms).unwrap_or(Timestamp::MAX),
                who: row.who,
                why: row.why,
            })
            .collect(),
        reached: None,
    }
}

fn plain(unit: Unit, amount: i64) -> String {
    if unit == Unit::Money { Money::from_nanousd(amount).to_string() } else { amount.to_string() }
}

/// Raises a budget and books who did and why. It is in force when this returns.
///
/// # Errors
/// [`RaiseError`].
pub fn raise(
    policies: &Policies,
    ledger: &Ledger,
    wanted: &RaiseBudget,
    who: &str,
    now: Timestamp,
) -> Result<BudgetLine, RaiseError> {
    let fence = find(policies, &wanted.budget).ok_or_else(|| {
        let ids: Vec<&str> =
            policies.fences().filter(|fence| fence.purpose == Purpose::Budget).map(|fence| &*fence.id).collect();
        let hint = config::close_names(&wanted.budget, ids, "`turnpike budget list` names them");
        RaiseError::Unknown { id: wanted.budget.clone(), hint }
    })?;
    let amount = amount(&fence, &wanted.amount)?;
    let unfit = |text: &str| Err(RaiseError::Unfit(text.to_owned()));
    if wanted.until <= now {
        return unfit("the end lies in the past\nhint: a raise is for a time to come");
    }
    let why = wanted.why.trim();
    if why.is_empty() || why.len() > MAX_WHY {
        return unfit("a raise needs a reason of at most 500 bytes");
    }
    if ledger.books().raises().apply(&fence, now).cap.saturating_add(amount) > MAX_CAP {
        return unfit("that is more than a budget can hold\nhint: at most `9007199.254740992 USD` with all raises");
    }
    let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
    ledger.raise(RaiseRow {
        id: uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid(),
        fence: Arc::clone(&fence.id),
        unit: fence.unit.into(),
        amount,
        from_ms: now.as_millisecond(),
        until_ms: wanted.until.as_millisecond(),
        who: who.to_owned(),
        why: why.to_owned(),
    })?;
    Ok(line(&fence, ledger, now))
}

/// The amount in the fence's own unit.
fn amount(fence: &Fence, text: &str) -> Result<i64, RaiseError> {
    let quota = config::quota(text)
        .map_err(|unfit| RaiseError::Unfit(format!("the amount: {}\nhint: {}", unfit.problem, unfit.hint)))?;
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    match (quota, fence.unit) {
        (Quota::Money(money), Unit::Money) => Ok(money.nanousd()),
        (Quota::Tokens(tokens), Unit::Tokens) => Ok(count(tokens)),
        (Quota::Requests(requests), Unit::Requests) => Ok(count(requests)),
        _ => {
            let unit = if fence.unit == Unit::Money { "USD" } else { fence.unit.as_str() };
            Err(RaiseError::Unfit(format!(
                "`{text}` is in another unit than the budget\nhint: write an amount of {unit}"
            )))
        }
    }
}

/// The budget of that id; one of a single user is found by the team that has it for each of its users.
fn find(policies: &Policies, id: &str) -> Option<Arc<Fence>> {
    let known = policies.fences().find(|fence| fence.purpose == Purpose::Budget && &*fence.id == id);
    known.cloned().or_else(|| policies.teams.values().find_map(|team| of_user(&team.name, team.per_user.as_ref()?, id)))
}

fn of_user(team: &TeamName, per_user: &crate::base::tenants::Allowance, id: &str) -> Option<Arc<Fence>> {
    let nobody = Owner::User(team.clone(), "".into());
    let of_nobody = Fence::id_of(&nobody, "");
    let rest = id.strip_prefix(of_nobody.strip_suffix('/')?)?;
    let (user, budget) = rest.split_once('/')?;
    let model = per_user.around(&nobody).find(|fence| fence.purpose == Purpose::Budget && &*fence.name == budget)?;
    // The name stands in the id as it is booked; decoded it would be booked elsewhere.
    let owner = Owner::User(team.clone(), user.into());
    (!user.is_empty()).then(|| Arc::new(Fence { id: id.into(), owner, ..Fence::clone(&model) }))
}

/// All budgets but those of single users, or with `?users=true` all; `?team=` those of one team.
pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    headers: HeaderMap,
    Query(wanted): Query<HashMap<String, String>>,
) -> Response {
    if let Err(refused) = admin.authorise(&headers, Right::Read) {
        return *refused;
    }
    let mut listed = Wanted::default();
    for (name, value) in wanted {
        match (name.as_str(), value.as_str()) {
            ("team", _) => listed.team = Some(value),
            ("users", "true" | "false") => listed.users = value == "true",
            _ => {
                let message =
                    format!("there is no parameter `{name}` with that value\nhint: `team=NAME`, `users=true`");
                return error(StatusCode::BAD_REQUEST, "invalid_request", &message);
            }
        }
    }
    let gateway = &admin.gateway;
    let policies = gateway.policies();
    if let Err(unknown) = UnknownName::check_team(&policies, None, listed.team.as_deref()) {
        return error(StatusCode::BAD_REQUEST, "unknown_team", &unknown.to_string());
    }
    let budgets = lines(&policies, gateway.ledger(), Timestamp::now(), &listed);
    Json(BudgetList { budgets }).into_response()
}

/// Raises one.
pub(super) async fn raise_one(State(admin): State<Arc<Admin>>, headers: HeaderMap, body: Body) -> Response {
    let answer = async {
        let who = admin.authorise(&headers, Right::Budgets)?.to_owned();
        let wanted: RaiseBudget = body::json(body).await?;
        let (policies, ledger) = (admin.gateway.policies(), admin.gateway.ledger());
        let mut raised =
            raise(&policies, ledger, &wanted, &who, Timestamp::now()).map_err(|failed| refused(&failed))?;
        raised.reached = ledger.reached().await;
        tracing::info!(by = %who, budget = %raised.id, amount = %wanted.amount, until = %wanted.until, "budget raised");
        Ok((StatusCode::CREATED, Json(raised)).into_response())
    };
    answer.await.unwrap_or_else(|refused: Box<Response>| *refused)
}

fn refused(failed: &RaiseError) -> Box<Response> {
    let (status, code) = match failed {
        RaiseError::Unknown { .. } => (StatusCode::NOT_FOUND, "unknown_budget"),
        RaiseError::Unfit(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
        RaiseError::Journal(_) => (StatusCode::SERVICE_UNAVAILABLE, "budget_store_unavailable"),
    };
    Box::new(error(status, code, &failed.to_string()))
}
