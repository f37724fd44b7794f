//! `turnpike key`: the same commands with a gateway running and without one.

use serde_json::{Value, json};

use crate::{
    harness::{Gateway, KEY, Setup, Site, chat, until},
    upstream::Upstream,
};

const OPS: &str = "token-of-the-operators";
const READER: &str = "token-of-a-dashboard";
const TOKEN: (&str, &str) = ("TURNPIKE_TOKEN", OPS);

fn setup(upstream: &Upstream) -> Setup {
    let setup = Setup::new().backend("one", &upstream.base_url());
    setup.token("ops", OPS, "read, keys").token("reader", READER, "read")
}

/// The id inside a key.
fn id(key: &str) -> &str {
    key.split('_').nth(1).unwrap()
}

fn line(list: &Value, id: &str) -> Value {
    let line = list["keys"].as_array().unwrap().iter().find(|key| key["id"] == id).cloned();
    line.unwrap_or_else(|| panic!("{id} is not in {list}"))
}

async fn status(gateway: &Gateway, key: &str) -> u16 {
    gateway.client_with(key).post("/v1/chat/completions", &chat("one-model")).await.status.as_u16()
}

/// A life of a key by commands alone; with a gateway running or not, they say the same.
fn life_of_a_key(site: &Site, by: &str, via: &str) -> [String; 3] {
    let run = |arguments: &[&str]| site.run_with(&[TOKEN], &[&["key"], arguments].concat());
    let first = run(&["create", "--team", "test", "--name", "ci", "--why", "a pipeline"]).done();
    let id = id(&first);
    assert_eq!(line(&run(&["list", "--json"]).json(), id)["state"], "active");
    let rotated = run(&["rotate", id, "--overlap", "7d"]);
    assert!(rotated.stderr.contains("the one before ends at"), "{rotated:?}");
    let second = rotated.done();
    let list = run(&["list", "--team", "test"]).done();
    for part in ["test", "ci", "rotating until", "never", "store", "policy file", "testkey"] {
        assert!(list.contains(part), "`{part}` is missing:\n{list}");
    }
    run(&["list", "--team", "tets"]).failed(1, &["there is no team `tets`", "hint: did you mean `test`?"]);
    let third = run(&["rotate", id, "--json"]).json();
    assert_eq!(third["id"], id);
    // Somebody found the whole key and pastes it.
    assert!(run(&["revoke", &second, "--why", "found in a repository"]).stderr.contains(id));
    let detail = run(&["list", id, "--json"]).json();
    assert_eq!(detail["key"]["state"], "revoked");
    let acts = detail["acts"].as_array().unwrap();
    let whats: Vec<&str> = acts.iter().map(|act| act["act"].as_str().unwrap()).collect();
    assert_eq!(whats, ["created", "rotated", "rotated", "revoked"]);
    assert_eq!((&acts[0]["why"], &acts[3]["why"]), (&json!("a pipeline"), &json!("found in a repository")));
    assert!(acts.iter().all(|act| act["by"] == by && act["via"] == via), "{detail}");
    assert!(run(&["list", id]).done().contains("found in a repository"));
    run(&["revoke", id, "--why", "again"]).failed(1, &["was revoked at", "hint: `turnpike key list"]);
    run(&["rotate", id]).failed(1, &["was revoked at"]);
    run(&["revoke", "testkez", "--why", "x"]).failed(1, &["there is no key `testkez`", "did you mean `testkey`?"]);
    run(&["list", "testkez"]).failed(1, &["did you mean `testkey`?"]);
    run(&["rotate", "testkey"]).failed(1, &["comes from a policy file", "hint: "]);
    run(&["rotate", id, "--overlap", "soon"]).failed(2, &["--overlap", "hint: "]);
    run(&["revoke", id, "--why", ""]).failed(1, &["`why`: says nothing"]);
    run(&["create", "--team", "tset"]).failed(1, &["no team `tset`", "did you mean `test`?"]);
    run(&["revoke", "tpk_something", "--why", "x"]).failed(2, &["not the id of a key", "hint: "]);
    run(&["revoke", id]).failed(2, &["--why"]);
    [first, second, third["key"].as_str().unwrap().to_owned()]
}

#[tokio::test]
async fn keys_live_and_die_by_command_without_a_gateway() {
    let upstream = Upstream::start().await;
    let site = setup(&upstream).site();
    let user = std::process::Command::new("id").arg("-un").output().unwrap().stdout;
    let user = String::from_utf8(user).unwrap();
    let keys = life_of_a_key(&site, user.trim(), "command_line");
    let kept = site.run(&["key", "create", "--team", "test"]).done();
    let gateway = site.start().await;
    for dead in &keys {
        assert_eq!(status(&gateway, dead).await, 401);
    }
    assert_eq!((status(&gateway, &kept).await, status(&gateway, KEY).await), (200, 200));
}

#[tokio::test]
async fn keys_live_and_die_by_command_through_a_running_gateway() {
    let upstream = Upstream::start().await;
    let gateway = setup(&upstream).start().await;
    for dead in &life_of_a_key(gateway.site(), "ops", "api") {
        assert_eq!(status(&gateway, dead).await, 401);
    }
    let kept = gateway.site().run_with(&[TOKEN], &["key", "create", "--team", "test"]).done();
    assert_eq!(status(&gateway, &kept).await, 200);
}

#[tokio::test]
async fn a_running_gateway_is_found_and_wants_a_token() {
    let upstream = Upstream::start().await;
    let gateway = setup(&upstream).start().await;
    let (site, url) = (gateway.site(), gateway.site().admin_url());
    site.run(&["key", "list"]).failed(1, &["wants a token", "TURNPIKE_TOKEN"]);
    site.run_with(&[("TURNPIKE_TOKEN", "token-of-nobody-at-all")], &["key", "list"]).failed(1, &["refused (401)"]);
    let reader = [("TURNPIKE_TOKEN", READER)];
    site.run_with(&reader, &["key", "revoke", "testkey", "--why", "x"]).failed(1, &["refused (403)", "`reader`"]);
    assert_eq!(line(&site.run_with(&reader, &["key", "list", "--json"]).json(), "testkey")["state"], "active");
    // Elsewhere there is no configuration: address and token are all that it takes.
    let elsewhere = setup(&upstream).site();
    std::fs::remove_file(elsewhere.path().join("turnpike.yaml")).unwrap();
    std::fs::write(elsewhere.path().join("token"), format!("{OPS}\n")).unwrap();
    elsewhere.run(&["key", "list"]).failed(1, &["turnpike.yaml"]);
    elsewhere.run(&["key", "revoke", "testkey", "--why", "x", "--server", &url, "--token-file", "token"]).done();
    assert_eq!(status(&gateway, KEY).await, 401);
    let environment = [TOKEN, ("TURNPIKE_SERVER", url.as_str())];
    assert_eq!(
        line(&elsewhere.run_with(&environment, &["key", "list", "--json"]).json(), "testkey")["state"],
        "revoked"
    );
    elsewhere.run(&["key", "list", "--server", &url, "--token-file", "nowhere"]).failed(1, &["`nowhere`"]);
    let nobody = crate::harness::free_address().to_string();
    let run = |server: &str| elsewhere.run_with(&[TOKEN], &["key", "list", "--server", server]);
    run(&format!("http://{nobody}")).failed(1, &["no gateway answers at"]);
    run(&nobody).failed(2, &["is not an address"]);
}

#[tokio::test]
async fn a_list_makes_no_store_and_missing_variables_keep_nobody_from_revoking() {
    let upstream = Upstream::start().await;
    let setup = setup(&upstream).backend_with("two", "${SERVER}/v1", "provider: vllm");
    let file = setup.policy_file().replace("sk-upstream-two", "\"${KEY_OF_TWO}\"");
    let site = setup.token("more", "\"${TOKEN}\"", "read").site();
    site.save_policies(&file);
    assert_eq!(line(&site.run(&["key", "list", "--json"]).json(), "testkey")["from"], "policy_file");
    assert!(!site.path().join("data").exists(), "looking is not making");
    site.run(&["key", "revoke", "testkey", "--why", "leaked"]).done();
    assert_eq!(line(&site.run(&["key", "list", "--json"]).json(), "testkey")["state"], "revoked");
}

#[tokio::test]
async fn a_gateway_whose_only_key_is_revoked_does_not_open() {
    let upstream = Upstream::start().await;
    let setup = setup(&upstream);
    let file = setup.policy_file();
    let site = setup.site();
    let key = site.run(&["key", "create", "--team", "test"]).done();
    site.run(&["key", "revoke", id(&key), "--why", "leaked"]).done();
    let keys = file.find("keys:").unwrap();
    let end = file[keys..].find("}\n").unwrap();
    site.save_policies(&format!("{}{}", &file[..keys], &file[keys + end + 2..]));
    let gateway = site.start().await;
    assert_eq!(status(&gateway, &key).await, 401);
    let open = crate::harness::Client::new(gateway.address()).post("/v1/chat/completions", &chat("one-model")).await;
    open.is_refused(401, "invalid_api_key");
}

#[tokio::test]
async fn the_last_use_is_shown_while_the_gateway_runs_and_after_it_ended() {
    let upstream = Upstream::start().await;
    let mut gateway = setup(&upstream).start().await;
    let site = gateway.site().clone();
    let list = |id: &str| line(&site.run_with(&[TOKEN], &["key", "list", "--json"]).json(), id);
    assert_eq!(list("testkey")["last_used"], Value::Null);
    assert_eq!(status(&gateway, KEY).await, 200);
    let used = list("testkey")["last_used"].clone();
    assert!(used.is_string(), "{used}");
    gateway.terminate();
    assert_eq!(gateway.exit_code().await, Some(0));
    assert_eq!(list("testkey")["last_used"], used);
    let again = site.start().await;
    assert_eq!(list("testkey")["last_used"], used);
    until("it is used again later", async || {
        assert_eq!(status(&again, KEY).await, 200);
        list("testkey")["last_used"].as_str() > used.as_str()
    })
    .await;
}

#[tokio::test]
async fn a_key_with_an_odd_id_and_a_hash_from_elsewhere_is_revoked_too() {
    let upstream = Upstream::start().await;
    let site = setup(&upstream).site();
    let hash = <sha2::Sha256 as sha2::Digest>::digest(b"sk-from-elsewhere");
    let hash = hash.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02X}"));
    let row = format!("keys: [{{id: \"team/ci?.%25\", team: test, hash: \"sha256:{hash}\"}}]");
    std::fs::write(site.path().join("policies/odd.yaml"), row).unwrap();
    let gateway = site.start().await;
    assert_eq!(status(&gateway, "sk-from-elsewhere").await, 200);
    site.run_with(&[TOKEN], &["key", "revoke", "team/ci?.%25", "--why", "leaked"]).done();
    assert_eq!(status(&gateway, "sk-from-elsewhere").await, 401);
    assert_eq!(site.run_with(&[TOKEN], &["key", "list", "team/ci?.%25", "--json"]).json()["key"]["state"], "revoked");
}
