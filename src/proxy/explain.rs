//! Decisions that somebody asked to see: in a header of the answer, or before any request is sent.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;

use super::{
    Gateway,
    admit::{self, Ask},
    auth,
    standing::Standing,
    users::{self, Users},
    vocabularies,
};
use crate::{
    base::{
        fences::{Fence, Unit},
        tenants::Team,
    },
    policy::{
        BudgetSeen, Caller, Choice, Decision, Observations, Policies, Question, Route, Seen, StickyBy,
        decide::decide,
        observe::noting::{Noted, Noting},
    },
    telemetry::record::{
        Made, Trail,
        decided::{DecidedLine, DecisionLine},
        facts::FactsLine,
    },
    wire::request::{BadRequest, ChatRequest},
};

/// The longest header: what nginx and the SDKs take without a word in their configuration, with room for the others.
const LONGEST_HEADER: usize = 6000;

/// The decision that an answer came from as a header, the last one where nobody answered: one line of JSON in ASCII. Candidates that do not fit are left out from
/// the end, and counted in `left_out`.
pub(super) fn header(ask: &Ask, decision: Option<&Decision>) -> Option<HeaderValue> {
    let trail = ask.trail.as_ref().filter(|_| ask.explain)?;
    let last = || trail.each(|made| Arc::clone(&made.decision)).pop();
    let mut decided = match decision {
        Some(decision) => DecidedLine::from(decision),
        None => DecidedLine::from(last()?.as_ref()),
    };
    loop {
        let text = ascii(&serde_json::to_string(&decided).ok()?);
        if text.len() <= LONGEST_HEADER {
            return HeaderValue::from_str(&text).ok();
        }
        if decided.rejected.pop().is_none() {
            decided.ranked.pop()?;
        }
        decided.left_out += 1;
    }
}

/// JSON without letters beyond ASCII: they stand in its strings only, where they may be escaped.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        if letter.is_ascii() && !letter.is_ascii_control() {
            text.push(letter);
            continue;
        }
        let mut units = [0; 2];
        for unit in letter.encode_utf16(&mut units) {
            text.push_str(&format!("\\u{unit:04x}"));
        }
    }
    text
}

/// What is to be explained.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The body of a chat request.
    pub body: Bytes,
    /// The route, instead of the body's `model`.
    pub route: Option<String>,
    /// Who asks.
    pub who: Who,
    /// The moment; `None` = now.
    pub at: Option<Timestamp>,
}

/// Who asks, as far as somebody is named.
#[derive(Clone, Debug, Default)]
pub struct Who {
    /// Who pays; `None` = the key's team, team `default`, or the only one.
    pub team: Option<String>,
    /// The public id of a client key.
    pub key: Option<String>,
    /// The end user; `None` = whom the body names, where the team looks there.
    pub user: Option<String>,
    /// The session.
    pub session: Option<String>,
}

/// What would be decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    /// Who would pay.
    pub team: Arc<str>,
    /// What is known of the request.
    pub facts: FactsLine,
    /// The decision.
    pub decision: DecisionLine,
    /// The winner's headline, as in `x-turnpike-reason`.
    pub reason: String,
    /// What of the request is not known and may change the decision.
    pub unknown: Option<String>,
}

/// Why nothing can be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The body is no chat request.
    #[error("the request is none: {0}")]
    Request(#[from] BadRequest),
    /// There is no such route.
    #[error("no route, model or alias is called `{name}`\nhint: {hint}")]
    Route {
        /// What was asked for.
        name: String,
        /// What is close.
        hint: String,
    },
    /// There is no such team.
    #[error("there is no team `{name}`\nhint: {hint}")]
    Team {
        /// What was asked for.
        name: String,
        /// What is close.
        hint: String,
    },
    /// It is not clear who pays.
    #[error("there are several teams, and none is called `default`\nhint: name the one that pays: {0}")]
    WhichTeam(String),
    /// A key is another team's.
    #[error("the key `{key}` is one of team `{of}`, not of `{team}`\nhint: name one of the two")]
    Key {
        /// The key.
        key: String,
        /// Its team.
        of: String,
        /// The team that was named.
        team: String,
    },
    /// The team may not use it.
    #[error("team `{team}` may not use `{route}`")]
    MayNot {
        /// The team.
        team: String,
        /// The route.
        route: String,
    },
}

/// A request that is only asked about, before some policies.
struct Asked {
    chat: ChatRequest,
    route: Arc<Route>,
    caller: auth::Caller,
    user: String,
    session: String,
    fences: Vec<Arc<Fence>>,
    at: Timestamp,
}

impl Asked {
    fn read(policies: &Policies, users: &Users, wanted: Wanted, now: Timestamp) -> Result<Self, ExplainError> {
        let mut chat = ChatRequest::parse(wanted.body)?;
        if let Some(route) = wanted.route {
            chat.facts.model = route;
        }
        let name = chat.facts.model.clone();
        let route = policies.route(&name).cloned().ok_or_else(|| {
            let known = policies.routes.keys().map(|known| known.as_str());
            let hint = crate::config::close_names(&name, known, "`turnpike check` counts them");
            ExplainError::Route { name: name.clone(), hint }
        })?;
        let Who { team, key, user, session } = wanted.who;
        let team = self::team(policies, team.as_deref(), key.as_deref())?;
        if !team.may_name(&name) && !team.may_name(&route.name) {
            return Err(ExplainError::MayNot { team: team.name.to_string(), route: route.name.to_string() });
        }
        let user = match user {
            Some(user) => user,
            // Without a header there is none that could be wrong.
            None => users::named(&team, &HeaderMap::new(), &chat).unwrap_or_default(),
        };
        let caller = auth::Caller { team, key: key.unwrap_or_default().as_str().into(), explain: true };
        let fences = admit::fences(policies, users, &caller, &user, &route);
        let session = session.unwrap_or_default();
        Ok(Self { chat, route, caller, user, session, fences, at: wanted.at.unwrap_or(now) })
    }

    fn decide(
        &self,
        policies: &Policies,
        seen: &dyn Observations,
        standing: (BudgetSeen, Option<Arc<str>>),
    ) -> Explained {
        let (budget, fence) = standing;
        let budgeted = self.fences.iter().any(|fence| fence.unit == Unit::Money);
        let noting = Noting::new(seen);
        let question = Question {
            route: &self.route,
            facts: &self.chat.facts,
            caller: Caller { team: &self.caller.team, key: &self.caller.key, user: &self.user, session: &self.session },
            budget,
            now: self.at,
            time_left: None,
            seed: 0,
            failed: &[],
            affordable: None,
            budgeted,
            exhausted: &[],
        };
        let decision = decide(policies, &noting, &question);
        let reason = decision.reason();
        let made = Made {
            at: self.at,
            time_left: None,
            budget,
            fence,
            budgeted,
            failed: Vec::new(),
            exhausted: Vec::new(),
            noted: noting.noted(),
            decision: Arc::new(decision),
        };
        Explained {
            team: self.caller.team.name.shared(),
            facts: FactsLine::from(&self.chat.facts),
            decision: DecisionLine::of(&made, policies),
            reason,
            unknown: self.unknown(),
        }
    }

    /// By whom a split deals its arms, where that is nobody here: then another request may go elsewhere.
    fn unknown(&self) -> Option<String> {
        let Choice::Split { by, .. } = &self.route.choice else { return None };
        let (name, by) = (&self.route.name, *by);
        let keyless = self.caller.key.is_empty();
        let missing = match by {
            StickyBy::Request => {
                return Some(format!("`{name}` deals every request anew; this is one of its arms"));
            }
            StickyBy::User => keyless.then_some("user")?,
            StickyBy::Session => keyless.then_some("session")?,
            StickyBy::Key => keyless.then_some("key")?,
        };
        let named = match by {
            StickyBy::User => !self.user.is_empty(),
            StickyBy::Session => !self.session.is_empty(),
            StickyBy::Key | StickyBy::Request => false,
        };
        (!named).then(|| format!("`{name}` deals its arms by {missing}, and none is named; this is one of them"))
    }
}

/// Who pays: the team that is named, or the key's.
fn team(policies: &Policies, name: Option<&str>, key: Option<&str>) -> Result<Arc<Team>, ExplainError> {
    let mut known: Vec<&str> = policies.teams.keys().map(|name| name.as_str()).collect();
    known.sort_unstable();
    let of_key = key.and_then(|key| policies.keys.get(key)).map(|key| key.team.as_str());
    if let (Some(team), Some(of)) = (name, of_key)
        && team != of
    {
        let key = key.unwrap_or_default().to_owned();
        return Err(ExplainError::Key { key, of: of.to_owned(), team: team.to_owned() });
    }
    let name = name.or(of_key);
    let name = match (name, known.as_slice()) {
        (Some(name), _) => name,
        (None, [only]) => only,
        (None, known) if known.contains(&super::OPEN_TEAM) => super::OPEN_TEAM,
        (None, known) => return Err(ExplainError::WhichTeam(known.join(", "))),
    };
    policies.teams.get(name).cloned().ok_or_else(|| ExplainError::Team {
        name: name.to_owned(),
        hint: crate::config::close_names(name, known.iter().copied(), "see `teams:`"),
    })
}

/// Nothing has been measured: the models' priors count.
struct Unmeasured;

impl Observations for Unmeasured {
    fn seen(&self, _: &crate::base::catalog::Candidate) -> Seen {
        Seen::unmeasured()
    }
}

/// What `policies` would decide with nothing measured and nothing spent. A vocabulary is loaded where one is needed: not
/// for an async task.
///
/// # Errors
/// [`ExplainError`].
pub fn dry(policies: &Policies, wanted: Wanted, now: Timestamp) -> Result<Explained, ExplainError> {
    let mut asked = Asked::read(policies, &Users::default(), wanted, now)?;
    vocabularies::load(policies, &asked.route);
    vocabularies::Vocabularies::default().count(policies, &asked.route, &mut asked.chat);
    Ok(asked.decide(policies, &Unmeasured, (BudgetSeen::default(), None)))
}

impl Gateway {
    /// What would be decided now, with what has been seen of the candidates and spent of the budgets. Not for an async
    /// task, since a vocabulary may be loaded.
    ///
    /// # Errors
    /// [`ExplainError`].
    pub fn explain(&self, wanted: Wanted) -> Result<Explained, ExplainError> {
        let (live, now) = (self.live(), self.now());
        let policies = &live.policies;
        let mut asked = Asked::read(policies, &live.users, wanted, now)?;
        vocabularies::load(policies, &asked.route);
        self.vocabularies.count(policies, &asked.route, &mut asked.chat);
        let standing = Standing::of(&self.ledger, &asked.fences, now);
        let fence = standing.tightest.and_then(|place| asked.fences.get(place)).map(|fence| Arc::clone(&fence.id));
        let switches = self.ledger.books().switches().load();
        let turn = live.warm.turn(&asked.caller.team.name, &asked.caller.key, &asked.session, &asked.chat);
        let watching = live.watching(turn).of(&asked.chat.facts).heeding(Arc::clone(&switches), asked.at);
        Ok(asked.decide(policies, &watching, (standing.budget, fence)))
    }
}

/// Notes of a decision under way, if anybody wants to know.
pub(super) enum Notes<'a> {
    /// Nobody does.
    None(&'a dyn Observations),
    /// Somebody does.
    Some(Noting<'a>),
}

impl<'a> Notes<'a> {
    /// Notes what `seen` tells, where there is a trail to add it to.
    pub(super) fn on(trail: Option<&Arc<Trail>>, seen: &'a dyn Observations) -> Self {
        if trail.is_some() { Self::Some(Noting::new(seen)) } else { Self::None(seen) }
    }

    /// What the decision is to ask.
    pub(super) fn observations(&self) -> &dyn Observations {
        match self {
            Self::None(seen) => *seen,
            Self::Some(noting) => noting,
        }
    }

    /// What was told.
    pub(super) fn noted(self) -> Vec<Noted> {
        match self {
            Self::None(_) => Vec::new(),
            Self::Some(noting) => noting.noted(),
        }
    }
}
