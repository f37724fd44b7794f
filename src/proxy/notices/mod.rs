//! What operators are told without asking: which event is told, once in which window, and in which words.
//!
//! The path of a request only looks whether a mark stands already and hands an event over; [`deliver`] writes it down
//! and brings it to its receivers.

mod deliver;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

pub use deliver::deliver;

use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{
    base::{
        catalog::{Backend, Candidate},
        fences::{Fence, Purpose, Unit},
        money::Money,
        notices::{EventKind, Webhook},
    },
    ledger::{
        Refused,
        balances::Level,
        outbox::Mark,
        row::switches::{SwitchKind, SwitchRow},
    },
    policy::Policies,
    proxy::rollouts::Withdrawal,
};

/// How often it is told that the store is away, in seconds.
const STORE_LOST_EVERY: i64 = 300;
/// How often it is told that a candidate's breaker has opened, in seconds.
const BROKEN_EVERY: i64 = 300;
/// An act of an operator is new for so long, in seconds: 35 days.
const SWITCH_TOLD: i64 = 35 * 24 * 3600;
/// Events that wait to be written down.
const QUEUE: usize = 1024;

/// An event on its way into the outbox.
#[derive(Debug)]
pub struct Event {
    kind: EventKind,
    /// What keeps it from being told again.
    mark: Option<Mark>,
    body: Value,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Notices {
    /// What has been told, with the second from which it means nothing any more.
    told: Mutex<HashMap<String, i64>>,
    events: OnceLock<mpsc::Sender<Event>>,
}

impl Notices {
    /// Begins to tell: what `marks` say was told before. The events come out of what it gives; `None` the second time.
    pub fn begin(&self, marks: Vec<Mark>) -> Option<mpsc::Receiver<Event>> {
        let (events, receiver) = mpsc::channel(QUEUE);
        self.events.set(events).ok()?;
        self.told().extend(marks.into_iter().map(|mark| (mark.name, mark.until)));
        Some(receiver)
    }

    fn told(&self) -> MutexGuard<'_, HashMap<String, i64>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wanted(&self, webhooks: &[Webhook], kind: EventKind) -> bool {
        self.events.get().is_some() && webhooks.iter().any(|webhook| webhook.on.contains(&kind))
    }

    /// Looks whether a fence has passed a share that it warns of, after something was settled in it.
    pub fn settled(&self, webhooks: &[Webhook], fence: &Fence, level: Level, now: Timestamp) {
        if fence.warn_ppm.is_empty() || fence.cap <= 0 || !self.wanted(webhooks, EventKind::BudgetWarn) {
            return;
        }
        let share = i128::from(level.settled.max(0)) * 1_000_000 / i128::from(fence.cap);
        let until = level.window.end.as_second();
        for ppm in fence.warn_ppm.iter().filter(|ppm| i128::from(**ppm) <= share) {
            let mark = Mark { name: format!("warn/{}/{until}/{ppm}{}", fence.id, raise(fence)), until };
            let about = || {
                let mut body = budget(fence, level.settled, Some(level.window.end));
                body["share_percent"] = json!(percent(*ppm));
                let (used, cap) = (fence.unit.write(level.settled), fence.unit.write(fence.cap));
                body["text"] = json!(format!("{}: {used} of {cap} used, beyond {} %", fence.label(), percent(*ppm)));
                body
            };
            self.tell(EventKind::BudgetWarn, Some(mark), now, about);
        }
    }

    /// Notes that a budget has refused a request.
    pub fn refused(&self, webhooks: &[Webhook], refused: &Refused, now: Timestamp) {
        let fence = &refused.fence;
        if fence.purpose != Purpose::Budget || !self.wanted(webhooks, EventKind::BudgetEmpty) {
            return;
        }
        let until = refused.renews_at.map_or(i64::MAX, Timestamp::as_second);
        let mark = Mark { name: format!("empty/{}/{until}{}", fence.id, raise(fence)), until };
        self.tell(EventKind::BudgetEmpty, Some(mark), now, || {
            let mut body = budget(fence, refused.used, refused.renews_at);
            let left = fence.unit.write(refused.left());
            body["text"] = json!(format!("{} refuses requests: {left} left", fence.label()));
            body
        });
    }

    /// Notes the backends that are off now and were not before.
    pub fn reloaded(&self, before: &Policies, after: &Policies, now: Timestamp) {
        if !self.wanted(&after.notify, EventKind::BackendOff) {
            return;
        }
        for backend in after.backends.values() {
            let was_off = before.backends.get(&backend.name).is_some_and(|before| before.off.is_some());
            let Some(why) = backend.off.as_ref().filter(|_| !was_off) else { continue };
            let name = backend.name.as_str();
            self.tell(
                EventKind::BackendOff,
                None,
                now,
                || json!({"backend": name, "why": why.as_ref(), "text": format!("backend `{name}` is off: {why}")}),
            );
        }
    }

    /// Notes that the guard of a split has withdrawn an arm. Gateways that judge by the same requests may find so at once;
    /// what they tell is the same event.
    pub fn withdrawn(&self, webhooks: &[Webhook], of: &Withdrawal<'_>, now: Timestamp) {
        if !self.wanted(webhooks, EventKind::RolloutWithdrawn) {
            return;
        }
        let Withdrawal { route, arm, revision, before, since, breach } = *of;
        let name = format!("withdrawn/{arm}@{route}/{revision}/{before}");
        let mark = Mark { name, until: now.as_second().saturating_add(SWITCH_TOLD) };
        self.tell(EventKind::RolloutWithdrawn, Some(mark), now, || {
            json!({
                "route": route.as_str(),
                "arm": arm.as_str(),
                "since_ms": since,
                "why": breach.to_string(),
                "requests": breach.requests,
                "gateways": breach.gateways,
                "text": format!("arm `{arm}` of route `{route}` is withdrawn: {breach}"),
            })
        });
    }

    /// Notes that an operator has switched something off: told of each backend that it takes out.
    pub fn switched(&self, policies: &Policies, row: &SwitchRow, now: Timestamp) {
        if !self.wanted(&policies.notify, EventKind::BackendOff) {
            return;
        }
        let ends = row.until_ms.map_or(i64::MAX, |until| until.div_euclid(1000));
        let until = ends.min(now.as_second().saturating_add(SWITCH_TOLD));
        let is_meant = |backend: &&Arc<Backend>| match row.kind {
            SwitchKind::Backend => *backend.name == *row.name,
            SwitchKind::Provider => *backend.provider == *row.name,
            SwitchKind::Model | SwitchKind::Team | SwitchKind::Key | SwitchKind::Arm => false,
        };
        for backend in policies.backends.values().filter(is_meant) {
            let (name, why) = (backend.name.as_str(), row.reason());
            let mark = Mark { name: format!("off/{}/{name}", row.id), until };
            self.tell(
                EventKind::BackendOff,
                Some(mark),
                now,
                || json!({"backend": name, "why": why, "text": format!("backend `{name}` is switched off: {why}")}),
            );
        }
    }

    /// Notes that a candidate has failed so often that nobody is sent to it; told once in five minutes.
    pub fn broken(&self, webhooks: &[Webhook], candidate: &Candidate, now: Timestamp) {
        if !self.wanted(webhooks, EventKind::BackendOff) {
            return;
        }
        let (model, backend) = (candidate.model.name.as_str(), candidate.backend.name.as_str());
        let slot = now.as_second().div_euclid(BROKEN_EVERY);
        let mark = Mark { name: format!("broken/{model}@{backend}/{slot}"), until: (slot + 1) * BROKEN_EVERY };
        let why = "too many of its attempts fail";
        let text = format!("backend `{backend}` gets no requests for model `{model}` for now: {why}");
        let about = || json!({"backend": backend, "model": model, "why": why, "text": text});
        self.tell(EventKind::BackendOff, Some(mark), now, about);
    }

    /// Notes that the store of budgets cannot be asked; told once in five minutes.
    pub fn store_lost(&self, webhooks: &[Webhook], why: &str, now: Timestamp) {
        if !self.wanted(webhooks, EventKind::StoreLost) {
            return;
        }
        let slot = now.as_second().div_euclid(STORE_LOST_EVERY);
        let mark = Mark { name: format!("store/{slot}"), until: (slot + 1) * STORE_LOST_EVERY };
        self.tell(
            EventKind::StoreLost,
            Some(mark),
            now,
            || json!({"why": why, "text": format!("the store of budgets is away: {why}")}),
        );
    }

    /// Hands an event over, unless its mark stands.
    fn tell(&self, kind: EventKind, mark: Option<Mark>, now: Timestamp, about: impl FnOnce() -> Value) {
        let Some(events) = self.events.get() else { return };
        if let Some(mark) = &mark {
            let mut told = self.told();
            if told.contains_key(&mark.name) {
                return;
            }
            // A mark whose window is over keeps nothing from being told; the next window has another.
            told.retain(|_, until| *until > now.as_second());
            told.insert(mark.name.clone(), mark.until);
        }
        let mut body = about();
        body["id"] = json!(id(kind, mark.as_ref()));
        body["event"] = json!(kind.as_str());
        body["at"] = json!(now.to_string());
        let name = mark.as_ref().map(|mark| mark.name.clone());
        if let (Err(_), Some(name)) = (events.try_send(Event { kind, mark, body }), name) {
            // Nobody can take it now, so the next occasion tells it.
            self.told().remove(&name);
        }
    }
}

/// The same for the same event from any gateway, so that a receiver may tell what came twice.
fn id(kind: EventKind, mark: Option<&Mark>) -> Uuid {
    let Some(mark) = mark else { return Uuid::from_u128(rand::random()) };
    let digest = Sha256::digest(format!("{}/{}", kind.as_str(), mark.name));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

fn budget(fence: &Fence, used: i64, renews_at: Option<Timestamp>) -> Value {
    let amount = |amount: i64| match fence.unit {
        Unit::Money => json!(Money::from_nanousd(amount).to_string()),
        Unit::Tokens | Unit::Requests | Unit::Concurrent => json!(amount.to_string()),
    };
    json!({
        "budget": fence.name.as_ref(),
        "owner": {"kind": fence.owner.kind(), "name": fence.owner.name()},
        "unit": fence.unit.as_str(),
        "limit": amount(fence.cap),
        "used": amount(used),
        "renews_at": renews_at.map(|at| at.to_string()),
    })
}

/// A budget that was raised is another one to those who are told of it.
fn raise(fence: &Fence) -> String {
    if fence.raised == 0 { String::new() } else { format!("/+{}", fence.raised) }
}

/// Parts per million as per cent.
fn percent(ppm: u32) -> String {
    let (whole, part) = (ppm / 10_000, ppm % 10_000);
    if part == 0 { whole.to_string() } else { format!("{whole}.{part:04}").trim_end_matches('0').to_owned() }
}

/// What tells a receiver without its address.
fn receiver(webhook: &Webhook) -> String {
    let digest = Sha256::digest(webhook.url.expose_secret());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
