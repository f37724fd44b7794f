//! Records of requests, and decisions that are explained: live, dry and from the files, the numbers are the same.

use serde_json::{Value, json};

use turnpike::telemetry::record::{
    Line,
    decided::DecidedLine,
    recall::{Again, Change},
};

use crate::{
    harness::{Answer, Gateway, Setup, chat, streamed, until},
    upstream::{Script, Upstream},
};

const OPS: &str = "token-of-the-operators";
const PATH: &str = "/v1/chat/completions";

/// Two models of which `one` is preferred, a budget, and a key that may ask for decisions.
fn setup(one: &Upstream, two: &Upstream) -> Setup {
    Setup::new()
        .token("ops", OPS, "read")
        .backend("one", &one.base_url())
        .backend_with("two", &two.base_url(), "provider: openai, location: eu")
        .priced("model: dear-model", "20 USD", "80 USD")
        .model_with("dear-model", "two", "dear-upstream", "")
        .team("paid", "sk-paid", "{budgets: [{name: month, limit: 100 USD, per: month}]}")
        .key_row(&format!("{{id: asks, team: paid, explain: true, hash: \"sha256:{}\"}}", sha("sk-curious")))
        .policies(
            "routes:\n  auto:\n    candidates: [one-model, two-model, dear-model]\n    prefer: cheapest\n    require: \
             {max_cost: 0.01 USD}\n    rules: [{when: 'request.images > 0', candidates: [two-model]}]\n",
        )
}

async fn start() -> (Gateway, Upstream, Upstream) {
    let (one, two) = (Upstream::start().await, Upstream::start().await);
    (setup(&one, &two).start().await, one, two)
}

fn sha(key: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(key.as_bytes()).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

fn ask() -> Value {
    json!({"model": "auto", "max_tokens": 200, "messages": [{"role": "user", "content": "a secret question"}]})
}

async fn explained(gateway: &Gateway, body: &Value) -> Answer {
    let client = gateway.client_with("sk-curious").header("x-turnpike-explain", "true");
    client.post(PATH, body).await
}

fn header(answer: &Answer) -> Value {
    serde_json::from_str(answer.header("x-turnpike-decision")).unwrap()
}

async fn decision(gateway: &Gateway, id: &str) -> Value {
    let ops = gateway.admin().header("authorization", &format!("Bearer {OPS}"));
    ops.get(&format!("/api/v1/decisions/{id}")).await.json()
}

/// The lines of all records, the oldest first.
fn lines(gateway: &Gateway) -> Vec<Value> {
    let folder = gateway.site().path().join("data/records");
    let mut lines = Vec::new();
    for file in turnpike::telemetry::record::read::files_in(&folder).unwrap() {
        let read = turnpike::telemetry::record::read::each_chunk(&file, |text, _| {
            lines.extend(text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec));
            std::ops::ControlFlow::Continue(())
        });
        read.unwrap();
    }
    lines.iter().map(|line| serde_json::from_slice(line).unwrap()).collect()
}

#[tokio::test]
async fn live_dry_and_recorded_decisions_have_the_same_numbers() {
    let (gateway, _one, _two) = start().await;
    let ops = gateway.admin().header("authorization", &format!("Bearer {OPS}"));
    let asked = json!({"request": ask(), "team": "paid"});
    let dry = ops.post("/api/v1/explain", &asked).await.json();
    let by_command =
        gateway.site().run(&["explain", "-c", "turnpike.yaml", "--team", "paid", "--json", "request.json"]);
    assert_eq!(by_command.code, Some(1), "no such file yet: {by_command:?}");
    std::fs::write(gateway.site().path().join("request.json"), ask().to_string()).unwrap();
    let arguments = ["explain", "-c", "turnpike.yaml", "--team", "paid", "--json", "request.json"];
    let by_command = gateway.site().run(&arguments).json();
    let live = explained(&gateway, &ask()).await;
    assert_eq!(live.status, 200, "{live:?}");
    let id = live.header("x-request-id").to_owned();
    let recorded = decision(&gateway, &id).await;
    let decided = &recorded["decisions"][0]["decided"];
    assert_eq!(header(&live), *decided);
    assert_eq!(dry["decisions"][0]["decided"], *decided);
    assert_eq!(by_command["decisions"][0]["decided"], *decided);
    assert_eq!(dry["evidence"], recorded["evidence"]);
    assert_eq!(live.header("x-turnpike-reason"), recorded["reason"].as_str().unwrap());
    let asked = json!({"request": ask(), "team": "paid", "at": "foo"});
    let wrong = ops.post("/api/v1/explain", &asked).await;
    let message = wrong.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
    assert_eq!(wrong.status, 400, "{message}");
    assert!(message.starts_with("`at`: ") && message.contains("\nhint: ") && message.contains("2025-02-"), "{message}");
    // The command reads the same from the files.
    let from_files = gateway.site().run(&["why", &id, "--json"]).json();
    assert_eq!(from_files, recorded);
    let table = gateway.site().run(&["why", &id]).done();
    for part in
        ["one-model@one", "dear-model@two", "expected to cost", "budget", "team/paid/month", "price of 2025-01-01"]
    {
        assert!(table.contains(part), "`{part}` is missing:\n{table}");
    }
    assert_eq!(decided["ranked"][0]["candidate"], "one-model@one");
    assert_eq!(decided["rejected"][0]["kind"], "too_dear");
    replayed_alike(&gateway, &recorded);
}

#[tokio::test]
async fn explain_knows_who_asks_and_says_when_that_is_nobody() {
    let (one, two) = (Upstream::start().await, Upstream::start().await);
    let policies = "routes:\n  dealt: {split: {one-model: 50, two-model: 50}}\n  ruled: {order: [one-model, two-model], \
                    rules: [{when: 'caller.user == \"ceo\"', candidates: [two-model]}]}";
    let gateway = Setup::new()
        .token("ops", OPS, "read")
        .backend("one", &one.base_url())
        .backend("two", &two.base_url())
        .team("named", "sk-named", "{user_from: [header:x-turnpike-user, body:user]}")
        .policies(policies)
        .start()
        .await;
    let ops = gateway.admin().header("authorization", &format!("Bearer {OPS}"));
    for user in ["ann", "bob", "cid", "dan", "eve", "ceo"] {
        for route in ["dealt", "ruled"] {
            let mut body = chat(route);
            body["user"] = json!(user);
            let live = gateway.client_with("sk-named").post(PATH, &body).await;
            let of_body = ops.post("/api/v1/explain", &json!({"request": body, "team": "named"})).await.json();
            let command = ["explain", "--route", route, "--team", "named", "--user", user, "--json"];
            for told in [of_body, gateway.site().run(&command).json()] {
                let winner = told["decisions"][0]["decided"]["ranked"][0]["candidate"].as_str().unwrap().to_owned();
                let served = format!("{}@{}", live.header("x-turnpike-model"), live.header("x-turnpike-backend"));
                assert_eq!((winner, &told["unknown"]), (served, &Value::Null), "{user}, {route}");
            }
        }
    }
    let nobody = gateway.site().run(&["explain", "--route", "dealt", "--team", "named"]).done();
    assert!(nobody.contains("deals its arms by user, and none is named"), "{nobody}");
    let wrong = json!({"request": chat("dealt"), "team": "default", "key": "namedkey"});
    let wrong = ops.post("/api/v1/explain", &wrong).await;
    assert_eq!(wrong.status, 400, "{}", wrong.message());
}

/// A replay of one request: it is decided again from its record alone, and every number is that of the answer's header.
fn replayed_alike(gateway: &Gateway, recorded: &Value) {
    let line: Line = serde_json::from_value(lines(gateway).pop().unwrap()).unwrap();
    let folder = gateway.site().path().join("data/records");
    let kept = turnpike::config::recorded(&folder, &line.policy).unwrap();
    let again = Again::new(&kept.policies, &line, None).unwrap();
    let made = DecidedLine::from(&again.decide(&line.decisions[0].asked, &Change::default()));
    assert_eq!(serde_json::to_value(made).unwrap(), recorded["decisions"][0]["decided"]);
    let replayed = gateway.site().run(&["replay", "--policies", "policies", "data/records", "--json"]).json();
    assert_eq!(replayed["verified"], json!({"same": 1, "other": 0, "unknown": 0}));
    let (outcome, winner) = (&recorded["outcome"], &recorded["decisions"][0]["decided"]["ranked"][0]);
    for side in [&replayed["old"], &replayed["new"]] {
        assert_eq!(side["cost_nanousd"], outcome["cost_nanousd"]);
        assert_eq!(side["right_ppm"], winner["terms"]["right_ppm"]);
        assert_eq!(side["by_candidate"]["one-model@one"]["requests"], 1);
        // Times are told in steps of a sixty-fourth.
        let (told, exact) = (side["total_ms"][0].as_u64(), outcome["attempts"][0]["total_ms"].as_u64());
        assert!(told <= exact && told >= exact.map(|exact| exact - exact / 64), "{told:?} {exact:?}");
    }
}

#[tokio::test]
async fn the_moment_decides_by_its_own_prices() {
    let (gateway, _one, _two) = start().await;
    let arguments = ["explain", "--route", "auto", "--team", "paid", "--json", "--at"];
    let at = |time: &str| gateway.site().run(&[&arguments[..], &[time]].concat()).json();
    let before = at("2024-12-31T23:59:59Z");
    assert_eq!(before["decisions"][0]["decided"]["rejected"][0]["kind"], "no_price", "{before}");
    let after = at("2025-01-01T08:00+08:00");
    assert_eq!(after["decisions"][0]["decided"]["ranked"][0]["candidate"], "one-model@one", "{after}");
    assert_eq!(after["decisions"][0]["asked"]["at"], "2025-01-01T00:00:00Z");
    gateway
        .site()
        .run(&["explain", "--route", "auto", "--at", "soon"])
        .failed(2, &["--at", "`soon` is not a date", "hint: "]);
    gateway.site().run(&["explain", "--route", "aut", "--team", "paid"]).failed(1, &["aut", "hint: "]);
    let other = gateway.site().run(&["explain", "--route", "auto", "--team", "nobody"]);
    other.failed(1, &["no team `nobody`", "hint: "]);
    gateway.site().run(&["explain"]).failed(2, &["nothing to explain"]);
    gateway.site().run(&["explain", "gone.json"]).failed(1, &["`gone.json` cannot be read", "hint: name a file"]);
    // Without a file of the server the folder is enough, as for `check`.
    std::fs::rename(gateway.site().path().join("turnpike.yaml"), gateway.site().path().join("elsewhere")).unwrap();
    let by_folder = at("2025-01-01T08:00+08:00");
    assert_eq!(by_folder["decisions"], after["decisions"]);
}

#[tokio::test]
async fn every_decision_of_a_request_that_failed_over_is_recorded_and_no_text_is() {
    let (gateway, one, _two) = start().await;
    one.always(Script::error(500, "server_error", "words of the upstream"));
    let answer = gateway.client_with("sk-paid").post(PATH, &ask()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let id = answer.header("x-request-id").to_owned();
    let recorded = decision(&gateway, &id).await;
    let decisions = recorded["decisions"].as_array().unwrap();
    assert_eq!(decisions.len(), 2);
    assert_eq!(decisions[1]["asked"]["failed"], json!(["one-model@one"]));
    let attempts = recorded["outcome"]["attempts"].as_array().unwrap();
    let of = |name: &str| attempts.iter().map(|attempt| attempt[name].clone()).collect::<Vec<_>>();
    assert_eq!(of("candidate"), [json!("one-model@one"), json!("two-model@two")]);
    assert_eq!(of("decision"), [Value::Null, json!(1)]);
    let cost: f64 = answer.header("x-turnpike-cost-usd").parse().unwrap();
    assert_eq!(recorded["outcome"]["cost_nanousd"].as_f64().unwrap() / 1e9, cost);
    let line = lines(&gateway).pop().unwrap();
    assert_eq!((line["v"].clone(), line["id"].as_str()), (json!(2), Some(id.as_str())));
    assert_eq!(line["key"], "paidkey");
    let text = line.to_string();
    for secret in ["a secret question", "words of the upstream", "sk-upstream", "sk-paid"] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
    let table = gateway.site().run(&["why", &id]).done();
    assert!(table.contains("decided again, without one-model@one"), "{table}");
}

#[tokio::test]
async fn streams_and_refusals_are_recorded_too() {
    let (gateway, one, two) = start().await;
    let stream = gateway.client_with("sk-paid").post_stream(PATH, &streamed("auto")).await.transcript().await;
    assert!(!stream.text().is_empty());
    for upstream in [&one, &two] {
        upstream.always(Script::error(400, "invalid", "no"));
    }
    gateway.client_with("sk-paid").post(PATH, &chat("auto")).await;
    let refused =
        explained(&gateway, &json!({"model": "dear-model", "messages": ask()["messages"], "max_tokens": 2_000_000}))
            .await;
    assert_eq!(refused.status, 402, "{refused:?}");
    assert_eq!(header(&refused)["ranked"][0]["candidate"], "dear-model@two");
    until("all are in the file", async || lines(&gateway).len() == 3).await;
    let lines = lines(&gateway);
    let of = |name: &str| lines.iter().map(|line| line[name].clone()).collect::<Vec<_>>();
    assert_eq!(of("status"), [json!(200), json!(400), json!(402)]);
    assert_eq!(of("end"), [json!("whole"), json!("failed"), json!("refused")]);
    assert_eq!(lines[2]["code"], "budget_exceeded");
    assert!(lines[0]["attempts"][0]["first_token_ms"].is_u64());
    assert_eq!(gateway.metric("turnpike_records_total", &[]).await, 3.0);
    assert_eq!(gateway.metric("turnpike_records_dropped_total", &[]).await, 0.0);
}

#[tokio::test]
async fn only_keys_with_the_right_see_decisions() {
    let (gateway, _one, _two) = start().await;
    let ask_with = async |key: &str, word: &str| {
        gateway.client_with(key).header("x-turnpike-explain", word).post(PATH, &ask()).await
    };
    let refused = ask_with("sk-paid", "true").await;
    refused.is_refused(400, "invalid_request");
    ask_with("sk-curious", "yes").await.is_refused(400, "invalid_request");
    for (key, word) in [("sk-paid", "false"), ("sk-curious", "false")] {
        let answer = ask_with(key, word).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-turnpike-decision")), (200, ""));
    }
    let admin = gateway.admin();
    assert_eq!(admin.get("/api/v1/decisions/x").await.status, 401);
    assert_eq!(admin.post("/api/v1/explain", &json!({})).await.status, 401);
    let ops = gateway.admin().header("authorization", &format!("Bearer {OPS}"));
    assert_eq!(ops.get("/api/v1/decisions/x").await.status, 400);
    assert_eq!(ops.get("/api/v1/decisions/019ab3c4-5a6b-7ac2-a434-14fbdf71643a").await.status, 404);
    let wrong = ops.post("/api/v1/explain", &json!({"request": {"model": "auto"}})).await;
    assert_eq!(wrong.status, 400, "{wrong:?}");
}

#[tokio::test]
async fn a_killed_gateway_loses_the_last_moment_at_most_and_the_next_goes_on_in_a_file_of_its_own() {
    let (gateway, _one, _two) = start().await;
    for _ in 0..5 {
        assert_eq!(gateway.client_with("sk-paid").post(PATH, &ask()).await.status, 200);
    }
    // Asked for one, the writer flushes all.
    let answer = gateway.client_with("sk-paid").post(PATH, &ask()).await;
    let id = answer.header("x-request-id").to_owned();
    decision(&gateway, &id).await;
    let site = gateway.site().clone();
    drop(gateway);
    let gateway = site.start().await;
    assert_eq!(decision(&gateway, &id).await["outcome"]["id"], id.as_str());
    assert_eq!(lines(&gateway).len(), 6);
    let again = gateway.client_with("sk-paid").post(PATH, &ask()).await;
    let again = again.header("x-request-id").to_owned();
    assert_eq!(decision(&gateway, &again).await["outcome"]["status"], 200);
    assert_eq!(lines(&gateway).len(), 7);
}

#[tokio::test]
async fn live_traffic_is_replayed_bit_for_bit_and_under_other_policies() {
    let (gateway, one, _two) = start().await;
    for number in 0..40 {
        if number % 7 == 3 {
            one.push(Script::error(500, "server_error", "no"));
        }
        let key = ["sk-paid", "sk-curious"][number % 2];
        assert_eq!(gateway.client_with(key).post(PATH, &ask()).await.status, 200);
    }
    until("all are in the file", async || lines(&gateway).len() == 40).await;
    let same = gateway.site().run(&["replay", "--policies", "policies", "data/records", "--json"]).json();
    assert_eq!(
        (&same["requests"], &same["verified"]["other"], &same["verified"]["unknown"]),
        (&json!(40), &json!(0), &json!(0))
    );
    assert_eq!(
        (&same["difference_nanousd"], &same["new"]["estimated"], &same["moves"]),
        (&json!(0), &json!(0), &json!([]))
    );
    let (now, other) = (gateway.site().path().join("policies/test.yaml"), gateway.site().path().join("other"));
    let text = std::fs::read_to_string(now).unwrap();
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("a.yaml"), text.replace("[one-model, two-model, dear-model]", "[two-model]")).unwrap();
    let moved = gateway.site().run(&["replay", "--policies", "other", "data/records", "--json"]).json();
    let of = |to: &str| moved["new"]["by_candidate"][to]["requests"].clone();
    assert_eq!((of("two-model@two"), of("one-model@one")), (json!(40), Value::Null), "{moved}");
    // Those that failed over to it are known.
    assert_eq!(moved["new"]["known"], moved["old"]["by_candidate"]["two-model@two"]["requests"], "{moved}");
    let table = gateway.site().run(&["replay", "--policies", "other", "data/records"]).done();
    for part in ["40 requests", "who moved", "one-model@one", "of it estimated", "number for number"] {
        assert!(table.contains(part), "`{part}` is missing:\n{table}");
    }
    let wrong: [(&[&str], &[&str]); 4] = [
        (&["--policies", "nowhere", "data/records"], &["`nowhere` is not there", "hint: `--policies` names"]),
        (&["--policies", "other", "--against", "gone", "data/records"], &["`gone` is not there", "`--against`"]),
        (
            &["--policies", "other", "data/nothing"],
            &["`data/nothing` cannot be read", "hint: name a folder of records"],
        ),
        (&["--policies", "other", "--html", "no/folder.html", "data/records"], &["no/folder.html", "hint: `--html`"]),
    ];
    for (arguments, told) in wrong {
        gateway.site().run(&[&["replay"], arguments].concat()).failed(1, told);
    }
    gateway.site().run(&["replay", "data/records"]).failed(2, &["--policies"]);
}

#[tokio::test]
async fn records_may_be_off() {
    let (one, two) = (Upstream::start().await, Upstream::start().await);
    let gateway = setup(&one, &two).server("records: off").start().await;
    assert_eq!(gateway.client_with("sk-paid").post(PATH, &ask()).await.status, 200);
    assert!(!gateway.site().path().join("data/records").exists());
    let ops = gateway.admin().header("authorization", &format!("Bearer {OPS}"));
    assert_eq!(ops.get("/api/v1/decisions/019ab3c4-5a6b-7ac2-a434-14fbdf71643a").await.status, 409);
}
