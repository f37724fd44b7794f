//! Two gateways with one store: what an operator does at one of them holds at both within a second.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use crate::{
    harness::{Answer, Client, Gateway, KEY, Setup, Site, chat, streamed, until},
    redis_server::Server,
    upstream::{Fault, Gate, Script, Upstream},
};

const PATH: &str = "/v1/chat/completions";
const OPS: &str = "token-of-the-operators";
/// What is done at one gateway holds at the other within a second; the rest is for a machine that is busy with tests.
const SOON: Duration = Duration::from_secs(5);

/// Two gateways of one deployment, with one upstream.
struct Pair {
    redis: Server,
    upstream: Upstream,
    a: Gateway,
    b: Gateway,
}

fn setup(redis: &Server, upstream: &Upstream) -> Setup {
    Setup::new().backend("one", &upstream.base_url()).server(&format!("store: {{redis: \"{}\"}}", redis.url())).token(
        "ops",
        OPS,
        "read, keys, budgets, switch",
    )
}

impl Pair {
    async fn start() -> Self {
        Self::start_with(|setup| setup).await
    }

    async fn start_with(more: impl Fn(Setup) -> Setup) -> Self {
        let (redis, upstream) = (Server::start(&[]).await, Upstream::start().await);
        let sites = [(); 2].map(|()| more(setup(&redis, &upstream)).site());
        let (a, b) = tokio::join!(sites[0].start(), sites[1].start());
        let pair = Self { redis, upstream, a, b };
        pair.up().await;
        pair
    }

    /// Waits until both count in the store and know all that is there.
    async fn up(&self) {
        for gateway in [&self.a, &self.b] {
            until("the store is up", async || ask(gateway, "sk-nobody").await.status == 401).await;
        }
    }
}

fn ops(gateway: &Gateway) -> Client {
    gateway.admin().header("authorization", &format!("Bearer {OPS}"))
}

async fn ask(gateway: &Gateway, key: &str) -> Answer {
    gateway.client_with(key).post(PATH, &chat("one-model")).await
}

async fn status(gateway: &Gateway, key: &str) -> u16 {
    ask(gateway, key).await.status.as_u16()
}

/// Id and secret of a new key.
async fn create(gateway: &Gateway) -> (String, String) {
    let made = ops(gateway).post("/api/v1/keys", &json!({"team": "test", "why": "a new service"})).await;
    assert_eq!(made.status, 201, "{made:?}");
    let text = |field: &str| made.json()[field].as_str().unwrap().to_owned();
    (text("id"), text("secret"))
}

async fn act(gateway: &Gateway, path: &str, body: Value) -> Answer {
    let done = ops(gateway).post(path, &body).await;
    assert!(done.status.is_success(), "{done:?}");
    done
}

/// Waits for what was done elsewhere since `done`, and fails if that took too long.
async fn soon(what: &str, done: Instant, is: impl AsyncFnMut() -> bool) {
    until(what, is).await;
    assert!(done.elapsed() < SOON, "{what}: {:?}", done.elapsed());
}

#[tokio::test]
async fn a_key_made_here_opens_there_and_one_revoked_there_is_refused_here_on_an_open_connection() {
    let pair = Pair::start().await;
    let (id, secret) = create(&pair.a).await;
    soon("the key is known at the other gateway", Instant::now(), async || status(&pair.b, &secret).await == 200).await;
    let stream = tokio::net::TcpStream::connect(pair.a.address()).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut asked = async || {
        let request = Request::post(PATH)
            .header("host", "turnpike")
            .header("authorization", format!("Bearer {secret}"))
            .body(Full::new(Bytes::from(chat("one-model").to_string())));
        sender.ready().await.unwrap();
        let (head, body) = sender.send_request(request.unwrap()).await.unwrap().into_parts();
        body.collect().await.unwrap();
        head.status.as_u16()
    };
    assert_eq!(asked().await, 200);
    let rotated = act(&pair.b, &format!("/api/v1/keys/{id}/rotate"), json!({"overlap": "1h"})).await.json();
    let second = rotated["secret"].as_str().unwrap();
    soon("the new secret opens", Instant::now(), async || status(&pair.a, second).await == 200).await;
    assert_eq!(asked().await, 200, "the old one still does");
    act(&pair.b, &format!("/api/v1/keys/{id}/revoke"), json!({"why": "leaked"})).await;
    soon("it is revoked on the open connection", Instant::now(), async || asked().await == 401).await;
    let refused = ask(&pair.a, second).await;
    refused.is_refused(401, "invalid_api_key");
    assert!(refused.message().contains("revoked"), "{}", refused.message());
    // Who did what is known at both.
    let detail = ops(&pair.a).get(&format!("/api/v1/keys/{id}")).await.json();
    let acts: Vec<&str> = detail["acts"].as_array().unwrap().iter().map(|act| act["act"].as_str().unwrap()).collect();
    assert_eq!(acts, ["created", "rotated", "revoked"]);
}

#[tokio::test]
async fn without_the_store_a_known_key_works_and_an_unknown_one_is_told_to_come_again() {
    let mut pair = Pair::start().await;
    let (_, secret) = create(&pair.a).await;
    until("the key is known", async || status(&pair.b, &secret).await == 200).await;
    pair.redis.kill();
    for gateway in [&pair.a, &pair.b] {
        until("the store is away", async || status(gateway, "sk-nobody").await == 503).await;
        let away = ask(gateway, "sk-nobody").await;
        away.is_refused(503, "key_store_unavailable");
        assert!(!away.header("retry-after").is_empty(), "{away:?}");
        assert_eq!(status(gateway, &secret).await, 200);
        assert_eq!(status(gateway, KEY).await, 200);
    }
    // What is done meanwhile holds where it is done, and everywhere once the store is back, though it comes back empty.
    let (late, late_secret) = create(&pair.a).await;
    assert_eq!(status(&pair.a, &late_secret).await, 200);
    ask(&pair.b, &late_secret).await.is_refused(503, "key_store_unavailable");
    pair.redis.run().await;
    pair.up().await;
    until("the late key is known", async || status(&pair.b, &late_secret).await == 200).await;
    act(&pair.b, &format!("/api/v1/keys/{late}/revoke"), json!({"why": "was a test"})).await;
    soon("it is revoked", Instant::now(), async || status(&pair.a, &late_secret).await == 401).await;
}

#[tokio::test]
async fn a_store_that_was_emptied_is_filled_again_and_a_gateway_that_comes_later_knows_all() {
    let pair = Pair::start().await;
    let (revoked, dead) = create(&pair.a).await;
    let (_, secret) = create(&pair.b).await;
    act(&pair.a, &format!("/api/v1/keys/{revoked}/revoke"), json!({"why": "leaked"})).await;
    act(&pair.a, "/api/v1/switches", json!({"target": "backend:one", "off": true, "why": "an incident"})).await;
    until("all is known", async || {
        status(&pair.b, &dead).await == 401
            && status(&pair.b, KEY).await == 503
            && status(&pair.a, &secret).await == 503
    })
    .await;
    pair.redis.tell("FLUSHALL").await;
    // Only one of the two is there to fill it, and it did neither of these.
    let Pair { redis, upstream, a, b } = pair;
    drop(a);
    until("the store has it", async || {
        let board: Vec<String> =
            redis::cmd("HKEYS").arg("{tp:turnpike}:a").query_async(&mut redis.look().await).await.unwrap();
        ["key/", "act/", "switch/backend/one"].iter().all(|kind| board.iter().any(|name| name.starts_with(kind)))
    })
    .await;
    let c = setup(&redis, &upstream).start().await;
    until("the new gateway counts in the store", async || status(&c, "sk-nobody").await == 401).await;
    assert_eq!(status(&c, &dead).await, 401);
    assert_eq!(status(&c, &secret).await, 503);
    assert!(ask(&c, &secret).await.message().contains("an incident (by ops)"));
    act(&c, "/api/v1/switches", json!({"target": "backend:one", "off": false, "why": "it is over"})).await;
    assert_eq!(status(&c, &secret).await, 200);
    soon("it is on at the other too", Instant::now(), async || status(&b, &secret).await == 200).await;
}

#[tokio::test]
async fn what_was_done_in_a_folder_reaches_the_others_when_its_gateway_runs() {
    let (redis, upstream) = (Server::start(&[]).await, Upstream::start().await);
    let site: Site = setup(&redis, &upstream).site();
    let made = site.run(&["key", "create", "--team", "test", "--json"]);
    assert!(made.stderr.contains("the others hear of this when this one does"), "{made:?}");
    let made = made.json();
    let secret = made["key"].as_str().unwrap();
    let b = setup(&redis, &upstream).start().await;
    until("the store is up", async || status(&b, "sk-nobody").await == 401).await;
    assert_eq!(status(&b, secret).await, 401);
    let a = site.start().await;
    until("its key is known", async || status(&b, secret).await == 200).await;
    drop(a);
    site.run(&["key", "revoke", made["id"].as_str().unwrap(), "--why", "while nothing runs"]).done();
    site.run(&["off", "backend:one", "--why", "while nothing runs"]).done();
    let _a = site.start().await;
    until("it is revoked", async || status(&b, secret).await == 401).await;
    until("it is off", async || status(&b, KEY).await == 503).await;
}

#[tokio::test]
async fn a_command_says_whose_sums_it_shows_and_whether_the_others_hear_of_it() {
    let (mut redis, upstream) = (Server::start(&[]).await, Upstream::start().await);
    let thrifty = "{budgets: [{name: month, limit: 1 USD, per: month}]}";
    let site = setup(&redis, &upstream).team("thrifty", "sk-thrifty", thrifty).site();
    let raise = ["budget", "raise", "team/thrifty/month", "1 USD", "--for", "4h", "--why", "a launch"];
    let token = [("TURNPIKE_TOKEN", OPS)];
    let said = |arguments: &[&str], what: &str| {
        let said = site.run_with(&token, arguments);
        assert!(said.stderr.contains(what), "{said:?}");
        said.done();
    };
    let own = "these are the sums of this gateway alone";
    said(&["budget", "list"], own);
    said(&raise, "the others hear of this when this one does");
    let gateway = site.start().await;
    until("the store is up", async || ask(&gateway, "sk-nobody").await.status == 401).await;
    let list = site.run_with(&token, &["budget", "list"]);
    assert!(!list.stderr.contains(own), "a gateway that runs has the sums of all: {list:?}");
    assert!(list.done().contains("a launch"));
    said(&raise, "the other gateways have it within a second");
    redis.kill();
    until("the store is away", async || status(&gateway, "sk-nobody").await == 503).await;
    said(&["off", "backend:one", "--why", "a test"], "the other gateways hear of this when it is back");
}

#[tokio::test]
async fn what_a_gateway_that_is_gone_leases_is_given_back_by_command() {
    let rich = "{budgets: [{name: month, limit: 900 USD, per: month}]}";
    let pair = Pair::start_with(|setup| setup.team("rich", "sk-rich", rich)).await;
    until("something is leased", async || {
        assert_eq!(status(&pair.a, "sk-rich").await, 200);
        pair.a.metric("turnpike_lease_usd", &[]).await > 0.0
    })
    .await;
    let node = std::fs::read_to_string(pair.a.site().path().join("data/books/node")).unwrap();
    let node = node.trim();
    let (b, redis) = (pair.b, pair.redis);
    let token = [("TURNPIKE_TOKEN", OPS)];
    let release = ["audit", "--release", node, "--why", "its machine burnt down"];
    b.site().run_with(&token, &release).failed(1, &["may spend what it leases"]);
    let mut look = redis.look().await;
    let mut heard = String::new();
    until("it has told what it leases", async || {
        heard = redis::cmd("HGET").arg("{tp:turnpike}:n").arg(node).query_async(&mut look).await.unwrap();
        heard.contains("team/rich/month")
    })
    .await;
    drop(pair.a);
    // As if eleven minutes had passed.
    let (ms, slices) = heard.split_once(' ').unwrap();
    let long_ago = format!("{} {slices}", ms.parse::<i64>().unwrap() - 660_000);
    let mut set = redis::cmd("HSET");
    set.arg("{tp:turnpike}:n").arg(node).arg(long_ago).query_async::<()>(&mut look).await.unwrap();
    let audit = || b.site().run_with(&token, &["audit"]);
    until("it is disputed", async || audit().stdout.contains(&format!("audit --release {node}"))).await;
    let said = b.site().run_with(&token, &release).done();
    assert!(said.contains("team/rich/month") && said.contains("given back"), "{said}");
    until("it is disputed no more", async || !audit().stdout.contains(node)).await;
    audit().done();
    b.site().run_with(&token, &release).failed(1, &["leases anything"]);
}

#[tokio::test]
async fn a_raise_at_one_gateway_raises_the_cap_at_both_and_outlives_the_store() {
    let thrifty = "{budgets: [{name: month, limit: 0.01 USD, per: month}]}";
    let mut pair = Pair::start_with(|setup| setup.team("thrifty", "sk-thrifty", thrifty)).await;
    pair.upstream.always(Script::says(&"word ".repeat(1000)));
    let ask = async |gateway: &Gateway| {
        let mut body = chat("one-model");
        body["max_completion_tokens"] = json!(1000);
        gateway.client_with("sk-thrifty").post(PATH, &body).await
    };
    assert_eq!(ask(&pair.a).await.status, 200);
    until("it is spent for both", async || ask(&pair.b).await.status == 402).await;
    let raise = json!({
        "budget": "team/thrifty/month", "amount": "0.01 USD", "until": "2100-01-01T00:00:00Z", "why": "a launch"
    });
    act(&pair.a, "/api/v1/budgets/raise", raise).await;
    let shown = async |gateway: &Gateway| {
        let list = ops(gateway).get("/api/v1/budgets?team=thrifty").await.json();
        (list["budgets"][0]["limit"].clone(), list["budgets"][0]["raises"][0]["why"].clone())
    };
    let raised = (json!("0.02"), json!("a launch"));
    soon("the raise is known", Instant::now(), async || shown(&pair.b).await == raised).await;
    assert_eq!(ask(&pair.b).await.status, 200);
    for gateway in [&pair.a, &pair.b] {
        until("no more is left", async || ask(gateway).await.status == 402).await;
    }
    // A store without its data gets the raise from the one that only heard of it.
    drop(pair.a);
    pair.redis.kill();
    pair.redis.run().await;
    let c = setup(&pair.redis, &pair.upstream).team("thrifty", "sk-thrifty", thrifty).start().await;
    until("a new gateway knows the raise", async || shown(&c).await == raised).await;
}

#[tokio::test]
async fn a_switch_holds_at_both_gateways_and_ends_streams_that_run_at_either() {
    let pair = Pair::start().await;
    let gate = Gate::closed();
    let open = async |gateway: &Gateway| {
        pair.upstream.push(Script::says("a long answer").after_events(3, Fault::Wait(gate.clone())));
        let mut stream = gateway.client().post_stream(PATH, &streamed("one-model")).await;
        let begun = stream.read_until("long").await;
        (stream, begun)
    };
    let streams = [open(&pair.a).await.0, open(&pair.b).await.0];
    let off = |cut: bool| json!({"target": "provider:openai", "off": true, "cut": cut, "why": "leaks prompts"});
    act(&pair.a, "/api/v1/switches", off(true)).await;
    let done = Instant::now();
    for stream in streams {
        let transcript = stream.transcript().await;
        transcript.ends_with_error("switched_off");
        assert!(transcript.text().contains("leaks prompts (by ops)"), "{}", transcript.text());
    }
    assert!(done.elapsed() < SOON, "{:?}", done.elapsed());
    let refused = ask(&pair.b, KEY).await;
    refused.is_refused(503, "no_candidate");
    assert!(refused.message().contains("provider openai: leaks prompts (by ops)"), "{}", refused.message());
    act(&pair.b, "/api/v1/switches", json!({"target": "provider:openai", "off": false, "why": "mended"})).await;
    soon("it is on", Instant::now(), async || status(&pair.a, KEY).await == 200).await;
}
