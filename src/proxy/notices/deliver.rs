//! The task that writes events down and brings them to their receivers, each at least once.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use http::{Request, header};
use http_body_util::{BodyExt, Limited};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use tokio::{sync::mpsc, time::Instant};

use super::{Event, receiver};
use crate::{
    base::notices::Webhook,
    ledger::outbox::{Message, Outbox, OutboxError},
    net::{body::UpstreamBody, pool::Pool},
    proxy::Gateway,
};

/// How long one delivery may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait after the first failure, and at most; it doubles in between.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// How often it is looked how the store stands: away twice in a row is news, a slow answer is none.
const STEADY: Duration = Duration::from_secs(3);
/// A receiver that has refused a message for so many seconds will not take it.
const GIVE_UP: i64 = 3 * 24 * 3600;
/// The longest answer that is read, so that the connection may be used again.
const LONGEST_ANSWER: usize = 64 << 10;

/// Delivers until the gateway ends. What was not delivered by then waits for the next start.
pub async fn deliver(gateway: Arc<Gateway>, outbox: Arc<Outbox>, pool: Pool) {
    let marks = match outbox.marks() {
        Ok(marks) => marks,
        Err(error) => return tracing::error!(%error, "nobody is notified of anything"),
    };
    let Some(mut events) = gateway.notices().begin(marks) else { return };
    let mut look_at = gateway.ledger().store().map(|_| Instant::now() + STEADY);
    let mut was_away = false;
    let mut courier = Courier { gateway, outbox, pool, rests: HashMap::new() };
    loop {
        courier.round().await;
        if look_at.is_some_and(|at| at <= Instant::now()) {
            look_at = Some(Instant::now() + STEADY);
            let away = courier.gateway.ledger().store().is_some_and(|store| !store.is_up());
            if away && was_away {
                courier.gateway.told_store();
            }
            was_away = away;
        }
        let rest = courier.rests.values().map(|rest| rest.until).chain(look_at).min();
        let wait = async {
            match rest {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => courier.write_down(event, &mut events).await,
                None => return,
            },
            () = wait => {}
        }
    }
}

/// A receiver that failed is left alone for a while.
struct Rest {
    until: Instant,
    next: Duration,
}

struct Courier {
    gateway: Arc<Gateway>,
    outbox: Arc<Outbox>,
    pool: Pool,
    rests: HashMap<String, Rest>,
}

impl Courier {
    /// Writes an event down, and all that wait behind it.
    async fn write_down(&mut self, first: Event, events: &mut mpsc::Receiver<Event>) {
        let mut next = Some(first);
        while let Some(event) = next {
            let policies = self.gateway.policies();
            let wanting = policies.notify.iter().filter(|webhook| webhook.on.contains(&event.kind));
            let receivers: Vec<String> = wanting.map(receiver).collect();
            let now = Timestamp::now().as_second();
            let put =
                self.blocking(move |outbox| outbox.put(event.mark.as_ref(), &receivers, &event.body.to_string(), now));
            if let Err(error) = put.await {
                tracing::error!(%error, "a notice is lost");
            }
            next = events.try_recv().ok();
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Outbox) -> Result<T, OutboxError> + Send + 'static,
    ) -> Result<T, OutboxError> {
        let outbox = Arc::clone(&self.outbox);
        let done = tokio::task::spawn_blocking(move || work(&outbox)).await;
        done.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    }

    /// Tries every message whose receiver does not rest, the oldest of each receiver first.
    async fn round(&mut self) {
        let waiting = match self.blocking(Outbox::waiting).await {
            Ok(waiting) => waiting,
            Err(error) => return tracing::error!(%error, "notices cannot be delivered"),
        };
        let policies = self.gateway.policies();
        let webhooks: HashMap<String, &Webhook> =
            policies.notify.iter().map(|webhook| (receiver(webhook), webhook)).collect();
        let (mut done, mut left) = (Vec::new(), HashSet::new());
        for message in waiting {
            let Some(webhook) = webhooks.get(&message.receiver) else {
                tracing::warn!("a notice waits for a webhook that is no longer named: it is dropped");
                done.push(message.number);
                continue;
            };
            if self.rests.get(&message.receiver).is_some_and(|rest| rest.until > Instant::now()) {
                left.insert(message.receiver);
                continue;
            }
            match self.send(webhook, &message).await {
                Ok(()) => {
                    self.rests.remove(&message.receiver);
                    done.push(message.number);
                }
                Err(why) => {
                    let age = Timestamp::now().as_second() - message.since;
                    if age > GIVE_UP {
                        tracing::error!(why, "a notice could not be delivered for three days: it is dropped");
                        done.push(message.number);
                    } else {
                        self.rest(message.receiver.clone(), &why);
                        left.insert(message.receiver);
                    }
                }
            }
        }
        if !done.is_empty()
            && let Err(error) = self.blocking(move |outbox| outbox.take_out(&done)).await
        {
            tracing::error!(%error, "notices that were delivered will be delivered again");
        }
        // Of a receiver for whom nothing waits nobody needs to know how it fared.
        self.rests.retain(|receiver, _| left.contains(receiver));
    }

    fn rest(&mut self, receiver: String, why: &str) {
        let pause = self.rests.get(&receiver).map_or(RETRY.0, |rest| rest.next);
        let rest = Rest { until: Instant::now() + pause, next: (2 * pause).min(RETRY.1) };
        tracing::warn!(why, again_in = ?pause, "a notice could not be delivered");
        self.rests.insert(receiver, rest);
    }

    /// One delivery; a text says why it failed, without the address.
    async fn send(&self, webhook: &Webhook, message: &Message) -> Result<(), String> {
        let request = Request::post(webhook.url.expose_secret())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("turnpike/", env!("CARGO_PKG_VERSION")))
            .body(UpstreamBody::new(vec![message.body.clone().into()]))
            .map_err(|_| "the address is none".to_owned())?;
        let delivery = async {
            let answer = self.pool.send(request, PATIENCE).await.map_err(|error| error.to_string())?;
            let status = answer.status();
            // Read to its end, if that is near.
            let _ = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await;
            if status.is_success() { Ok(()) } else { Err(format!("the receiver answers {}", status.as_u16())) }
        };
        tokio::time::timeout(PATIENCE, delivery).await.map_err(|_| "the receiver does not answer".to_owned())?
    }
}
