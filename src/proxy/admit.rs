//! Admission: a request's body, facts and fences, checked before any work is done for it.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Gateway,
    auth::{self, Caller},
    code::Code,
    deadlines,
    gate::{Entry, Scarce},
    live::{Live, warm::Turn},
    refusal::Refusal,
    standing::Standing,
    users::{self, Users},
};
use crate::{
    base::{
        fences::{Fence, Unit},
        names::RouteName,
        priority::Priority,
    },
    ledger::{HoldError, row::About},
    policy::{self, Policies, Route},
    telemetry::record::Trail,
    wire::request::{BadRequest, ChatRequest},
};

/// A body must arrive within this time; a client that sends slower than that holds memory for nothing.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest text that is taken from a header of Turnpike's own.
const MAX_HEADER: usize = 256;

/// An admitted request.
pub struct Ask {
    /// The `x-request-id`.
    pub id: Arc<str>,
    /// The same as it stands in the books.
    pub uuid: Uuid,
    /// Who asks for what, in the words of the books.
    pub about: Arc<About>,
    /// Everything that surrounds the request, whoever serves it: its user, key, team and the teams above, its route.
    pub fences: Vec<Arc<Fence>>,
    /// When its head arrived.
    pub arrival: Instant,
    /// When its body was there: what came before was the client's time, not Turnpike's.
    pub admitted: Instant,
    /// Who asks.
    pub caller: Caller,
    /// The end user, if named.
    pub user: String,
    /// The session, if named.
    pub session: String,
    /// The turn that it is of a conversation.
    pub turn: Turn,
    /// The body and its facts.
    pub chat: ChatRequest,
    /// The configuration for the whole of the request.
    pub live: Arc<Live>,
    /// What the client's `model` named.
    pub route: Arc<Route>,
    /// The arm of a split that it was dealt to, once that is known: it stays there.
    pub arm: Option<RouteName>,
    /// When the client will no longer wait, as it said to Turnpike.
    pub deadline: Option<Instant>,
    /// When its SDK gives up unless something has come: until then an answer must be there, or a stream have begun.
    pub patience: Option<Instant>,
    /// Its class, where there is too little for all.
    pub priority: Priority,
    /// Its place in the gateway, until its answer has ended.
    pub entry: Arc<Entry>,
    /// Randomness of this request.
    pub seed: u64,
    /// What is recorded of its decisions, where anybody wants to know.
    pub trail: Option<Arc<Trail>>,
    /// The client asked for the decision, and may see it.
    pub explain: bool,
}

impl Ask {
    /// The caller as a decision sees it.
    pub fn policy_caller(&self) -> policy::Caller<'_> {
        policy::Caller { team: &self.caller.team, key: &self.caller.key, user: &self.user, session: &self.session }
    }

    /// Books the request under the arm that it was dealt to.
    pub fn deal(&mut self, arm: Option<&RouteName>) {
        self.about = Arc::new(About { arm: arm.map(|arm| arm.shared()), ..About::clone(&self.about) });
        self.arm = arm.cloned();
    }

    /// When an answer must be there, or a stream have begun.
    pub fn first_byte_by(&self) -> Option<Instant> {
        [self.deadline, self.patience].into_iter().flatten().min()
    }

    /// What is left until then.
    pub fn time_left(&self) -> Option<Duration> {
        self.first_byte_by().map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

/// Admits one chat request.
///
/// # Errors
/// A [`Refusal`] with status 400, 401, 402, 403, 404, 413, 429 or 504.
pub async fn admit(
    gateway: &Gateway,
    id: Arc<str>,
    arrival: Instant,
    head: Parts,
    body: Incoming,
) -> Result<Ask, Refusal> {
    let live = gateway.live();
    let caller = auth::authenticate(gateway, &head.headers, &live.policies, gateway.now())?;
    let team = caller.team.name.clone();
    let ask = admit_caller(gateway, live, caller, id, arrival, head, body).await;
    ask.map_err(|refusal| refusal.to_team(&team))
}

async fn admit_caller(
    gateway: &Gateway,
    live: Arc<Live>,
    caller: Caller,
    id: Arc<str>,
    arrival: Instant,
    head: Parts,
    body: Incoming,
) -> Result<Ask, Refusal> {
    full(gateway, &live, &caller)?;
    let deadline = deadlines::stated(&head.headers, arrival)?;
    let class = priority(&head.headers, &live, &caller)?;
    let entry = gateway.gate.enter(class, deadline).await.map_err(|scarce| gateway.overloaded(class, scarce))?;
    // Much may have happened while it waited.
    gateway.let_in(&caller)?;
    check_encoding(&head.headers)?;
    let body = collect(body, gateway.settings.body_limit).await?;
    let admitted = Instant::now();
    let mut chat = ChatRequest::parse(body).map_err(|error| bad_request(&error))?;
    let patience = match deadline {
        Some(_) => None,
        None => {
            deadlines::of_sdk(&head.headers, arrival, chat.facts.stream.then_some(gateway.settings.stream_commit_after))
        }
    };
    let route = named_route(&live, &caller, &chat.facts.model)?;
    let priority = route.priority.map_or(class, |best| best.min(class));
    if priority < class && !gateway.gate.admits(priority) {
        return Err(gateway.overloaded(priority, Scarce::Lag));
    }
    gateway.vocabularies.count(&live.policies, &route, &mut chat);
    let user = users::named(&caller.team, &head.headers, &chat)?;
    let session =
        text_header(&head.headers, const { HeaderName::from_static("x-turnpike-session") }).unwrap_or_default();
    let turn = live.warm.turn(&caller.team.name, &caller.key, &session, &chat);
    let about = about(&caller, &user, &route, gateway.settings.operation);
    let fences = fences(&live.policies, &live.users, &caller, &user, &route);
    let (about, uuid) = (Arc::new(about), Uuid::parse_str(&id).unwrap_or_default());
    let seed = rand::random();
    let explain = wants_decision(&head.headers, &caller)?;
    let trail = (explain || gateway.records().is_some()).then(|| {
        let (user, session, policies) = (user.clone(), session.clone(), Arc::clone(&live.policies));
        let trail = Trail::new(gateway.now(), chat.facts.clone(), user, session, seed, policies);
        Arc::new(trail.booked_as(&about.operation, &about.labels))
    });
    Ok(Ask {
        id,
        uuid,
        about,
        fences,
        arrival,
        admitted,
        caller,
        user,
        session,
        turn,
        chat,
        live,
        route,
        arm: None,
        deadline,
        patience,
        priority,
        entry: Arc::new(entry),
        seed,
        trail,
        explain,
    })
}

/// Who asks for what, in the words of the books.
fn about(caller: &Caller, user: &str, route: &Route, operation: &str) -> About {
    About {
        team: caller.team.name.shared(),
        user: user.into(),
        key: caller.key.shared(),
        route: route.name.shared(),
        arm: None,
        operation: operation.into(),
        dialect: "openai".into(),
        labels: Arc::clone(&caller.team.labels),
    }
}

/// Refuses before the body is read what a limit on requests or places will surely refuse: a client that comes too often
/// costs little.
fn full(gateway: &Gateway, live: &Live, caller: &Caller) -> Result<(), Refusal> {
    let now = gateway.now();
    let around = fences_of_caller(&live.policies, caller);
    let refused = around
        .filter(|fence| matches!(fence.unit, Unit::Requests | Unit::Concurrent))
        .find_map(|fence| gateway.ledger.full(fence, now));
    let Some(refused) = refused else { return Ok(()) };
    let around: Vec<Arc<Fence>> = fences_of_caller(&live.policies, caller).cloned().collect();
    let standing = Standing::of(&gateway.ledger, &around, now);
    Err(Refusal::hold(&HoldError::Refused(Box::new(refused))).standing(standing))
}

/// What surrounds every request of a caller: its key's fences first, then its team's, then those of the teams above.
fn fences_of_caller<'a>(policies: &'a Policies, caller: &'a Caller) -> impl Iterator<Item = &'a Arc<Fence>> {
    let of_key = policies.key_fences.get(&caller.key).map(AsRef::as_ref).unwrap_or_default();
    of_key.iter().chain(caller.team.lineage().flat_map(|team| team.fences.iter()))
}

/// What surrounds a request: its user's fences first, then its caller's, then its route's.
pub(super) fn fences(
    policies: &Policies,
    users: &Users,
    caller: &Caller,
    user: &str,
    route: &Route,
) -> Vec<Arc<Fence>> {
    let of_user = users.fences(&caller.team, user);
    of_user.iter().chain(fences_of_caller(policies, caller)).chain(route.fences.iter()).cloned().collect()
}

fn bad_request(error: &BadRequest) -> Refusal {
    let refusal = Refusal::new(Code::InvalidRequest, error.message.clone());
    match &error.param {
        Some(param) => refusal.param(param.clone()),
        None => refusal,
    }
}

/// Reads a body of at most `limit` bytes; one frame is taken as it is, without a copy.
async fn collect(mut body: Incoming, limit: usize) -> Result<Bytes, Refusal> {
    let too_large = || {
        Refusal::new(Code::RequestTooLarge, format!("the body is longer than {limit} bytes\nhint: see `limits.body`"))
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let reading = async {
        let mut whole = Bytes::new();
        let mut joined: Option<BytesMut> = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Refusal::new(Code::InvalidRequest, "the body broke off before its end"))?;
            let Ok(data) = frame.into_data() else { continue };
            if whole.len() + joined.as_ref().map_or(0, BytesMut::len) + data.len() > limit {
                return Err(too_large());
            }
            match &mut joined {
                Some(joined) => joined.extend_from_slice(&data),
                None if whole.is_empty() => whole = data,
                None => {
                    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(0).min(limit);
                    let mut both = BytesMut::with_capacity(whole.len() + data.len() + expected);
                    both.extend_from_slice(&std::mem::take(&mut whole));
                    both.extend_from_slice(&data);
                    joined = Some(both);
                }
            }
        }
        Ok(joined.map_or(whole, BytesMut::freeze))
    };
    let slow = || Refusal::new(Code::DeadlineExceeded, "the body did not arrive within a minute");
    tokio::time::timeout(BODY_TIMEOUT, reading).await.map_err(|_| slow())?
}

fn check_encoding(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(encoding) = headers.get(header::CONTENT_ENCODING) else { return Ok(()) };
    if encoding.as_bytes().eq_ignore_ascii_case(b"identity") {
        return Ok(());
    }
    Err(Refusal::new(
        Code::InvalidRequest,
        "a compressed body is not accepted\nhint: send it without `content-encoding`",
    ))
}

/// The route that `name` means to this caller.
fn named_route(live: &Live, caller: &Caller, name: &str) -> Result<Arc<Route>, Refusal> {
    let policies = &live.policies;
    let Some(route) = policies.route(name) else {
        return Err(unknown_model(live, caller, name));
    };
    let allowed = caller.team.may_name(name) || caller.team.may_name(&route.name);
    if !allowed {
        let message = format!("team `{}` may not use `{}`", caller.team.name, route.name);
        return Err(Refusal::new(Code::ModelNotAllowed, message).param("model"));
    }
    Ok(Arc::clone(route))
}

/// A 404 that names what the caller may have meant.
pub fn unknown_model(live: &Live, caller: &Caller, name: &str) -> Refusal {
    let known: Vec<&str> = live.names().filter(|known| caller.team.may_name(known)).collect();
    let hint = crate::config::close_names(name, known.iter().copied(), "`GET /v1/models` lists them");
    let shown: String = name.chars().filter(|letter| !letter.is_control()).take(80).collect();
    Refusal::new(Code::ModelNotFound, format!("no route, model or alias is called `{shown}`\nhint: {hint}"))
        .param("model")
}

/// `x-turnpike-explain: true` asks for the decision in a header, which a key needs the right for.
fn wants_decision(headers: &HeaderMap, caller: &Caller) -> Result<bool, Refusal> {
    let refused = |message| Refusal::new(Code::InvalidRequest, message).param("x-turnpike-explain");
    match headers.get(const { HeaderName::from_static("x-turnpike-explain") }).map(HeaderValue::as_bytes) {
        None | Some(b"" | b"false") => Ok(false),
        Some(b"true") if caller.explain => Ok(true),
        Some(b"true") => Err(refused(
            "this key may not ask for the decision\nhint: keys with `explain: true` may, and operators with `turnpike why`",
        )),
        Some(_) => Err(refused("header `x-turnpike-explain` is neither `true` nor `false`")),
    }
}

/// `x-turnpike-priority: sheddable`: at best what the key and its team have.
fn priority(headers: &HeaderMap, live: &Live, caller: &Caller) -> Result<Priority, Refusal> {
    let of_key = live.policies.key_priorities.get(&caller.key).copied();
    let best = caller.team.priority().min(of_key.unwrap_or(Priority::Critical));
    let Some(value) = headers.get(const { HeaderName::from_static("x-turnpike-priority") }) else { return Ok(best) };
    match value.to_str().ok().and_then(Priority::parse) {
        Some(asked) => Ok(asked.min(best)),
        None => Err(Refusal::new(
            Code::InvalidRequest,
            "header `x-turnpike-priority` is not a class\nhint: write `critical`, `standard` or `sheddable`",
        )
        .param("x-turnpike-priority")),
    }
}

fn text_header(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    (!text.is_empty() && text.len() <= MAX_HEADER).then(|| text.to_owned())
}
