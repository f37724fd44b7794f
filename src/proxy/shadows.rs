//! Shadows: a share of a route's requests is sent to another model too, and what it answers is metered and thrown away.
//!
//! A shadow is a request of its own from the hold on: with its own id, its own fence (the operator's, not the team's), its
//! own rows in the books, under the team `@shadow` and the operation `shadow`. It goes where the data of the team that
//! asked may go. The client's request knows nothing of it: it begins when that one is about to be sent, never waits for
//! a place, and is not asked for twice.

use std::{future::poll_fn, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, timeout},
};
use uuid::Uuid;

use super::{
    Gateway,
    admit::Ask,
    auth::Caller,
    course::{self, Course},
    delivery::Delivery,
    live::warm::Turn,
};
use crate::{
    base::{
        names::RouteName,
        priority::Priority,
        tenants::{OnStoreLoss, Team},
    },
    ledger::row::About,
    policy::Shadow,
    telemetry::{
        metrics::{Label, ShadowLabels},
        record::Trail,
    },
};

/// Shadows under way at most; beyond, requests have none.
const MOST: u32 = 32;
/// Who pays, in the books. No team of the policies can be called so.
const TEAM: &str = "@shadow";

/// The shadows under way.
#[derive(Debug)]
pub struct Shadows {
    places: Arc<Semaphore>,
    over: watch::Sender<bool>,
}

impl Default for Shadows {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(MOST as usize)), over: watch::Sender::new(false) }
    }
}

impl Gateway {
    /// Sends the shadow of an admitted request, if its route or the route of its arm has one that takes it.
    pub(super) fn cast_shadow(self: &Arc<Self>, ask: &Ask, decided: &RouteName) {
        let of_arm = || {
            // Without an arm it is the route itself that decided.
            ask.arm.as_ref().and_then(|_| ask.live.policies.routes.get(decided)?.shadow.as_ref())
        };
        let Some(shadow) = ask.route.shadow.as_ref().or_else(of_arm).filter(|shadow| shadow.takes(ask.seed)) else {
            return;
        };
        let Ok(place) = Arc::clone(&self.shadows.places).try_acquire_owned() else {
            return self.count_shadow(&ask.route.name, "busy");
        };
        let (gateway, route) = (Arc::clone(self), ask.route.name.clone());
        let shadow = shadow_of(self, ask, shadow);
        if let Some(trail) = &ask.trail {
            trail.cast(Arc::clone(&shadow.id));
        }
        let course: Course = Box::pin(course::run(Arc::clone(self), Box::new(shadow)));
        let mut over = self.shadows.over.subscribe();
        tokio::spawn(async move {
            let outcome = tokio::select! {
                outcome = run(course) => outcome,
                _ = over.wait_for(|over| *over) => "cut",
            };
            gateway.count_shadow(&route, outcome);
            drop(place);
        });
    }

    fn count_shadow(&self, route: &RouteName, outcome: &'static str) {
        let labels = ShadowLabels { route: Label(route.shared()), outcome: Label(outcome.into()) };
        self.metrics.shadows.get_or_create(&labels).inc();
    }

    /// Lets the shadows under way end, for so long at most; then cuts them. They are settled when it returns.
    pub async fn end_shadows(&self, patience: Duration) {
        let places = &self.shadows.places;
        if timeout(patience, places.acquire_many(MOST)).await.is_err() {
            self.shadows.over.send_replace(true);
            let _ = places.acquire_many(MOST).await;
        }
        places.close();
    }
}

/// Reads the answer to its end; how that was.
async fn run(course: Course) -> &'static str {
    match course.await {
        Ok(Delivery::Plain { .. }) => "served",
        Ok(Delivery::Stream { mut relay, .. }) => {
            while poll_fn(|context| relay.poll_bytes(context)).await.is_some() {}
            "served"
        }
        Err(refusal) => refusal.code.as_str(),
    }
}

/// The same request as the operator's own.
fn shadow_of(gateway: &Gateway, ask: &Ask, shadow: &Shadow) -> Ask {
    let team = Team {
        // Already narrowed by those of the teams above.
        locations: ask.caller.team.locations.clone(),
        on_store_loss: OnStoreLoss::Closed,
        no_texts: !ask.caller.team.may_keep_texts(),
        ..Team::named(TEAM)
    };
    let about = About {
        team: team.name.shared(),
        route: ask.route.name.shared(),
        operation: "shadow".into(),
        dialect: Arc::clone(&ask.about.dialect),
        ..About::default()
    };
    let millis = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
    let uuid = uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid();
    let (now, seed) = (Instant::now(), rand::random());
    let trail = gateway.records().map(|_| {
        let (facts, policies) = (ask.chat.facts.clone(), Arc::clone(&ask.live.policies));
        let trail = Trail::new(gateway.now(), facts, String::new(), String::new(), seed, policies);
        Arc::new(trail.booked_as(&about.operation, &about.labels).repeating(&ask.id))
    });
    Ask {
        id: uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()).to_string().into(),
        uuid,
        about: Arc::new(about),
        fences: vec![Arc::clone(&shadow.fence)],
        arrival: now,
        admitted: now,
        caller: Caller { team: Arc::new(team), key: "".into(), explain: false },
        user: String::new(),
        session: String::new(),
        turn: Turn::default(),
        chat: ask.chat.clone(),
        live: Arc::clone(&ask.live),
        route: Arc::clone(&shadow.route),
        arm: None,
        deadline: None,
        patience: None,
        // A copy never stands in the way of what somebody waits for.
        priority: Priority::Sheddable,
        entry: Arc::clone(&ask.entry),
        seed,
        trail,
        explain: false,
    }
}
