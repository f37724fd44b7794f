//! Webhooks: operators are told of budgets and backends, at least once, whatever ends the gateway.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::{
    harness::{Setup, chat, until},
    upstream::{Script, Upstream},
};

const PATH: &str = "/v1/chat/completions";

/// Takes notices, once it has refused as many as it was told to.
#[derive(Clone)]
pub struct Receiver {
    pub address: String,
    seen: Arc<Mutex<Vec<(u16, Value)>>>,
}

impl Receiver {
    pub async fn start(refusals: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/hook/s3cret", listener.local_addr().unwrap());
        let receiver = Self { address, seen: Arc::default() };
        let statuses = Arc::new(Mutex::new(refusals.iter().copied().collect::<VecDeque<u16>>()));
        let seen = Arc::clone(&receiver.seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (statuses, seen) = (Arc::clone(&statuses), Arc::clone(&seen));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (statuses, seen) = (Arc::clone(&statuses), Arc::clone(&seen));
                    async move {
                        assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/hook/s3cret"));
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        let status = statuses.lock().unwrap().pop_front().unwrap_or(204);
                        seen.lock().unwrap().push((status, serde_json::from_slice(&body).unwrap()));
                        Response::builder().status(status).body(Full::<bytes::Bytes>::default())
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        receiver
    }

    /// What it took.
    pub fn taken(&self) -> Vec<Value> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|(status, _)| *status < 300).map(|(_, body)| body.clone()).collect()
    }

    fn refused(&self) -> usize {
        self.seen.lock().unwrap().iter().filter(|(status, _)| *status >= 300).count()
    }
}

/// A team whose month holds four answers, and a receiver.
fn setup(upstream: &Upstream, receiver: &Receiver, on: &str) -> Setup {
    let team = "{budgets: [{name: month, limit: 0.04 USD, per: month, warn: [40%]}]}";
    let notify = format!("notify: [{{webhook: \"{}\", on: [{on}]}}]", receiver.address);
    Setup::new().backend("one", &upstream.base_url()).team("thrifty", "sk-thrifty", team).policies(&notify)
}

#[tokio::test]
async fn a_budget_warns_once_and_tells_when_it_is_empty_over_refusals_and_restarts() {
    let upstream = Upstream::start().await;
    // 1000 words are 0.008 USD, and as much is held for each.
    upstream.always(Script::says(&"word ".repeat(1000)));
    let receiver = Receiver::start(&[500, 302]).await;
    let gateway = setup(&upstream, &receiver, "budget_warn, budget_empty").start().await;
    let site = gateway.site().clone();
    let mut body = chat("one-model");
    body["max_completion_tokens"] = 1000.into();
    let client = gateway.client_with("sk-thrifty");
    for _ in 0..2 {
        assert_eq!(client.post(PATH, &body).await.status, 200);
    }
    until("the first refusal has been seen", async || receiver.refused() >= 1).await;
    // It has not been taken yet: the next process brings it.
    drop(gateway);
    let gateway = site.start().await;
    until("the warning is taken", async || receiver.taken().len() == 1).await;
    let warning = receiver.taken().remove(0);
    assert_eq!((&warning["event"], &warning["budget"]), (&"budget_warn".into(), &"month".into()), "{warning}");
    assert_eq!((&warning["share_percent"], &warning["limit"]), (&"40".into(), &"0.04".into()), "{warning}");
    assert_eq!(warning["owner"], serde_json::json!({"kind": "team", "name": "thrifty"}));
    let client = gateway.client_with("sk-thrifty");
    until("the budget is empty", async || client.post(PATH, &body).await.status == 402).await;
    client.post(PATH, &body).await.is_refused(402, "budget_exceeded");
    until("that is told", async || receiver.taken().len() == 2).await;
    assert_eq!(receiver.taken()[1]["event"], "budget_empty");
    // Neither is told again, by this process or the next.
    drop(gateway);
    let gateway = site.start().await;
    gateway.client_with("sk-thrifty").post(PATH, &body).await.is_refused(402, "budget_exceeded");
    gateway.terminate();
    // A kill between the delivery and its note brings one again, under the id that it had: at least once.
    let events: std::collections::BTreeSet<String> =
        receiver.taken().iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(events.len(), 2);
    assert!(!gateway.log().contains("s3cret"));
}

#[tokio::test]
async fn a_backend_that_is_switched_off_is_told_with_its_reason() {
    let upstream = Upstream::start().await;
    let receiver = Receiver::start(&[]).await;
    let setup = setup(&upstream, &receiver, "backend_off");
    let gateway = setup.start().await;
    let off = setup.policy_file().replace("provider: openai", "provider: openai, off: \"its prices doubled\"");
    gateway.save_policies(&off);
    until("it is told", async || !receiver.taken().is_empty()).await;
    let told = receiver.taken().remove(0);
    assert_eq!(
        (&told["event"], &told["backend"], &told["why"]),
        (&"backend_off".into(), &"one".into(), &"its prices doubled".into())
    );
}

#[tokio::test]
async fn a_backend_that_an_operator_switches_off_is_told_once() {
    let upstream = Upstream::start().await;
    let receiver = Receiver::start(&[]).await;
    let gateway =
        setup(&upstream, &receiver, "backend_off").token("ops", "token-of-the-operators", "switch").start().await;
    let site = gateway.site().clone();
    let token = [("TURNPIKE_TOKEN", "token-of-the-operators")];
    site.run_with(&token, &["off", "backend:one", "--why", "leaks prompts"]).done();
    until("it is told", async || !receiver.taken().is_empty()).await;
    let told = receiver.taken().remove(0);
    assert_eq!((&told["event"], &told["backend"]), (&"backend_off".into(), &"one".into()));
    assert_eq!(told["why"], "leaks prompts (by ops)");
    site.run_with(&token, &["on", "backend:one", "--why", "mended"]).done();
    site.run_with(&token, &["off", "provider:openai", "--why", "again"]).done();
    until("the other act is told", async || receiver.taken().len() >= 2).await;
    let told: Vec<Value> = receiver.taken().iter().map(|event| event["why"].clone()).collect();
    assert_eq!(told, ["leaks prompts (by ops)", "again (by ops)"]);
}

#[tokio::test]
async fn a_backend_that_fails_so_often_that_it_is_left_alone_is_told_once() {
    let upstream = Upstream::start().await;
    upstream.always(Script::error(500, "broken", "down"));
    let receiver = Receiver::start(&[]).await;
    let gateway = setup(&upstream, &receiver, "backend_off").start().await;
    until("its breaker opens", async || {
        gateway.ask("one-model").await;
        gateway.metric("turnpike_breaker_state", &["one"]).await > 0.0
    })
    .await;
    until("it is told", async || !receiver.taken().is_empty()).await;
    for _ in 0..20 {
        gateway.ask("one-model").await;
    }
    let told = receiver.taken();
    assert_eq!((told.len(), &told[0]["backend"], &told[0]["model"]), (1, &"one".into(), &"one-model".into()));
    assert!(told[0]["text"].as_str().unwrap().contains("no requests for model `one-model`"), "{told:?}");
}
