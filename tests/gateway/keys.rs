//! Client keys through the admin API: what is done to a key holds from its next request on.

use std::io::{Read, Write};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use crate::{
    harness::{Answer, Client, Gateway, KEY, Setup, chat, until},
    upstream::Upstream,
};

const OPS: &str = "token-of-the-operators";
const READER: &str = "token-of-a-dashboard";

/// A gateway with one model, a token for everything about keys, and one that may only read.
async fn gateway() -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let gateway = setup(&upstream).start().await;
    (upstream, gateway)
}

fn setup(upstream: &Upstream) -> Setup {
    let setup = Setup::new().backend("one", &upstream.base_url());
    setup.token("ops", OPS, "read, keys").token("reader", READER, "read")
}

fn admin(gateway: &Gateway, token: &str) -> Client {
    gateway.admin().header("authorization", &format!("Bearer {token}"))
}

async fn ask(gateway: &Gateway, key: &str) -> Answer {
    gateway.client_with(key).post("/v1/chat/completions", &chat("one-model")).await
}

/// Id and secret of a new key.
async fn create(gateway: &Gateway) -> (String, String) {
    let made = admin(gateway, OPS).post("/api/v1/keys", &json!({"team": "test", "name": "ci"})).await;
    assert_eq!(made.status, 201, "{made:?}");
    let text = |field: &str| made.json()[field].as_str().unwrap().to_owned();
    (text("id"), text("secret"))
}

async fn rotate(gateway: &Gateway, id: &str, body: Value) -> Value {
    let rotated = admin(gateway, OPS).post(&format!("/api/v1/keys/{id}/rotate"), &body).await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    rotated.json()
}

async fn revoke(gateway: &Gateway, id: &str) -> Answer {
    admin(gateway, OPS).post(&format!("/api/v1/keys/{id}/revoke"), &json!({"why": "leaked"})).await
}

async fn line(gateway: &Gateway, id: &str) -> Value {
    let list = admin(gateway, READER).get("/api/v1/keys").await.json();
    let line = list["keys"].as_array().unwrap().iter().find(|key| key["id"] == id).cloned();
    line.unwrap_or_else(|| panic!("{id} is not in {list}"))
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once_also_on_an_open_connection() {
    let (upstream, gateway) = gateway().await;
    let (id, secret) = create(&gateway).await;
    let stream = tokio::net::TcpStream::connect(gateway.address()).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut asked = async || {
        let request = Request::post("/v1/chat/completions")
            .header("host", "turnpike")
            .header("authorization", format!("Bearer {secret}"))
            .body(Full::new(Bytes::from(chat("one-model").to_string())));
        sender.ready().await.unwrap();
        let (head, body) = sender.send_request(request.unwrap()).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
    };
    assert_eq!(asked().await.0, 200);
    let revoked = revoke(&gateway, &id).await;
    assert_eq!((revoked.status.as_u16(), &revoked.json()["state"]), (200, &json!("revoked")), "{revoked:?}");
    let (status, body) = asked().await;
    assert_eq!(status, 401);
    assert!(body.contains("invalid_api_key") && body.contains("revoked"), "{body}");
    ask(&gateway, &secret).await.is_refused(401, "invalid_api_key");
    ask(&gateway, KEY).await.says("hello");
    assert_eq!(upstream.tally().requests, 2);
    let line = line(&gateway, &id).await;
    assert_eq!((&line["state"], &line["from"], &line["name"]), (&json!("revoked"), &json!("store"), &json!("ci")));
    assert!(line["last_used"].is_string() && line["revoked"].is_string() && line["created"].is_string(), "{line}");
}

#[tokio::test]
async fn both_secrets_of_a_key_open_during_the_overlap_and_only_the_new_one_after_it() {
    let (_upstream, gateway) = gateway().await;
    let (id, first) = create(&gateway).await;
    let rotated = rotate(&gateway, &id, json!({"overlap": "7d", "why": "yearly"})).await;
    assert_eq!(rotated["id"], id);
    let second = rotated["secret"].as_str().unwrap();
    ask(&gateway, &first).await.says("hello");
    let answer = ask(&gateway, second).await;
    answer.says("hello");
    let state = line(&gateway, &id).await;
    assert_eq!((&state["state"], &state["rotating_until"]), (&json!("rotating"), &rotated["former_until"]));
    // The key is the same: a receipt of one secret is shown to the other.
    let receipt = format!("/v1/requests/{}/cost", answer.header("x-request-id"));
    until("the request is booked", async || gateway.client_with(&first).get(&receipt).await.status == 200).await;
    let third = rotate(&gateway, &id, json!({})).await["secret"].as_str().unwrap().to_owned();
    ask(&gateway, &third).await.says("hello");
    for ended in [first.as_str(), second] {
        let refused = ask(&gateway, ended).await;
        refused.is_refused(401, "invalid_api_key");
        assert!(refused.message().contains("another secret"), "{}", refused.message());
    }
    assert_eq!(line(&gateway, &id).await["state"], "active");
    let detail = admin(&gateway, READER).get(&format!("/api/v1/keys/{id}")).await.json();
    let acts: Vec<&str> = detail["acts"].as_array().unwrap().iter().map(|act| act["act"].as_str().unwrap()).collect();
    assert_eq!(acts, ["created", "rotated", "rotated"]);
    let act = &detail["acts"][1];
    assert_eq!((&act["by"], &act["via"], &act["why"]), (&json!("ops"), &json!("api"), &json!("yearly")));
}

#[tokio::test]
async fn a_key_of_a_policy_file_is_revoked_without_an_edit_and_stays_so() {
    let upstream = Upstream::start().await;
    let setup = setup(&upstream);
    let gateway = setup.start().await;
    ask(&gateway, KEY).await.says("hello");
    assert_eq!(line(&gateway, "testkey").await["from"], "policy_file");
    let path = "/api/v1/keys/testkey/rotate";
    let refused = admin(&gateway, OPS).post(path, &json!({})).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (409, "key_of_policy_file"));
    assert_eq!(revoke(&gateway, "testkey").await.status, 200);
    let dead = async |gateway: &Gateway| {
        let refused = ask(gateway, KEY).await;
        refused.is_refused(401, "invalid_api_key");
        assert!(refused.message().contains("revoked"), "{}", refused.message());
        assert_eq!(line(gateway, "testkey").await["state"], "revoked");
    };
    dead(&gateway).await;
    // Neither a reload, nor another name for it, nor a crash brings it back.
    let renamed = setup.policy_file().replace("{id: testkey", "{id: otherkey");
    gateway.save_policies(&renamed);
    until("the row has another name", async || {
        let list = admin(&gateway, READER).get("/api/v1/keys").await.text();
        list.contains("otherkey")
    })
    .await;
    dead(&gateway).await;
    assert_eq!(line(&gateway, "otherkey").await["state"], "revoked");
    let site = gateway.site().clone();
    // Killed, not asked: what was told is on disk.
    drop(gateway);
    dead(&site.start().await).await;
}

#[tokio::test]
async fn an_expired_key_says_so() {
    let upstream = Upstream::start().await;
    let site = setup(&upstream).site();
    let row = site.run(&["key", "create", "--team", "test", "--yaml"]);
    let secret = row.stderr.trim().rsplit(' ').next().unwrap().to_owned();
    let row = row.done().replace('}', ", expires: 2025-01-01}");
    std::fs::write(site.path().join("policies/old.yaml"), format!("keys:\n  {row}\n")).unwrap();
    let gateway = site.start().await;
    let refused = ask(&gateway, &secret).await;
    refused.is_refused(401, "invalid_api_key");
    assert!(refused.message().contains("expired"), "{}", refused.message());
    let list = admin(&gateway, READER).get("/api/v1/keys?team=test").await.json();
    assert!(list["keys"].as_array().unwrap().iter().any(|key| key["state"] == "expired"), "{list}");
}

#[tokio::test]
async fn every_right_is_needed_where_it_is_needed() {
    let upstream = Upstream::start().await;
    let setup = setup(&upstream).token("writer", "token-of-a-pipeline", "keys");
    let gateway = setup.start().await;
    let body = json!({"team": "test", "why": "x"});
    let posts = ["/api/v1/keys", "/api/v1/keys/testkey/rotate", "/api/v1/keys/testkey/revoke"];
    let gets = ["/api/v1/keys", "/api/v1/keys/testkey"];
    for (token, status) in [("", 401), ("token-of-nobody-at-all", 401), (READER, 403)] {
        for path in posts {
            let refused = admin(&gateway, token).post(path, &body).await;
            assert_eq!((refused.status.as_u16(), refused.code().as_str()), (status, "not_authorised"), "{path}");
        }
    }
    for (token, status) in [("", 401), ("token-of-a-pipeline", 403)] {
        for path in gets {
            let refused = admin(&gateway, token).get(path).await;
            assert_eq!((refused.status.as_u16(), refused.code().as_str()), (status, "not_authorised"), "{path}");
        }
    }
    ask(&gateway, KEY).await.says("hello");
    assert_eq!(line(&gateway, "testkey").await["state"], "active");
}

#[tokio::test]
async fn the_token_is_checked_before_the_body_is_read() {
    let (_upstream, gateway) = gateway().await;
    let answered = |token: &str, body: &[u8], length: usize| {
        let address = gateway.site().admin_url().replace("http://", "");
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let head = format!(
            "POST /api/v1/keys HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        // The gateway may have hung up on the rest.
        let _ = stream.write_all(body);
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        String::from_utf8(answer[9..].to_vec()).unwrap()
    };
    assert_eq!(answered("token-of-nobody-at-all", b"", 1000), "401");
    assert_eq!(answered(READER, b"", 1000), "403");
    assert_eq!(answered(OPS, &vec![b' '; 70 << 10], 70 << 10), "413");
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_a_hint() {
    let (_upstream, gateway) = gateway().await;
    let (id, _) = create(&gateway).await;
    let admin = admin(&gateway, OPS);
    let near = format!("{}{}", &id[..7], if id.ends_with('x') { "y" } else { "x" });
    let refused = async |path: &str, body: Value, status: u16, code: &str, told: &str| {
        let answer = admin.post(path, &body).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{path} {body}: {answer:?}");
        assert!(answer.message().contains(told), "{path} {body}: {}", answer.message());
    };
    let (rotate, revoke) = (format!("/api/v1/keys/{id}/rotate"), format!("/api/v1/keys/{id}/revoke"));
    let why = json!({"why": "x"});
    refused("/api/v1/keys", json!({"team": "tset"}), 400, "unknown_team", "did you mean `test`?").await;
    refused("/api/v1/keys", json!({"team": "test", "budget": 1}), 400, "invalid_request", "budget").await;
    refused("/api/v1/keys", json!({"team": "test", "expires": "2025-01-01T00:00:00Z"}), 400, "invalid_request", "past")
        .await;
    refused("/api/v1/keys", json!({"team": "test", "name": "a\u{1b}[2Jb"}), 400, "invalid_request", "name").await;
    let nobody = format!("/api/v1/keys/{near}/revoke");
    refused(&nobody, why.clone(), 404, "key_not_found", &format!("did you mean `{id}`?")).await;
    refused(&nobody.replace("revoke", "rotate"), json!({}), 404, "key_not_found", "did you mean").await;
    refused(&rotate, json!({"overlap": "7"}), 400, "invalid_request", "`overlap`: `7` has no unit").await;
    refused(&rotate, json!({"overlap": 7}), 400, "invalid_request", "expected a string").await;
    refused(&revoke, json!({}), 400, "invalid_request", "why").await;
    refused(&revoke, json!({"why": "  "}), 400, "invalid_request", "says nothing").await;
    refused("/api/v1/keys/x/y/z", json!({}), 404, "endpoint_not_supported", "").await;
    assert_eq!(line(&gateway, &id).await["state"], "active", "nothing of that was done");
    assert_eq!(admin.post(&revoke, &why).await.status, 200);
    refused(&revoke, why, 409, "key_revoked", "hint: `turnpike key list").await;
    refused(&rotate, json!({}), 409, "key_revoked", "was revoked at").await;
    let one = admin.get(&format!("/api/v1/keys/{id}")).await.json();
    assert_eq!(one["acts"].as_array().unwrap().len(), 2, "what is refused is not booked: {one}");
    let unknown = admin.get("/api/v1/keys?tema=test").await;
    assert_eq!((unknown.status.as_u16(), unknown.code().as_str()), (400, "invalid_request"));
    assert_eq!(admin.get("/api/v1/keys/nobody").await.code(), "key_not_found");
    assert_eq!(admin.get(&rotate).await.code(), "endpoint_not_supported");
}

#[tokio::test]
async fn no_secret_is_in_a_list_or_in_the_log() {
    let (_upstream, gateway) = gateway().await;
    let (id, first) = create(&gateway).await;
    let second = rotate(&gateway, &id, json!({"overlap": "1h"})).await["secret"].as_str().unwrap().to_owned();
    ask(&gateway, &first).await.says("hello");
    let list = admin(&gateway, READER).get("/api/v1/keys").await.text();
    let one = admin(&gateway, READER).get(&format!("/api/v1/keys/{id}")).await.text();
    until("the log tells of the rotation", async || gateway.log().contains("rotated")).await;
    for text in [list, one, gateway.log()] {
        for secret in [&first[13..], &second[13..], OPS, READER] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
