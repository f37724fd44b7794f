//! Texts of requests: nowhere on the disk unless the operator opts in; then up to the bound, and shown to nobody who does
//! not ask.

use std::{
    fs,
    ops::ControlFlow,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    harness::{Gateway, KEY, Setup, until},
    upstream::{Fault, Gate, Script, Upstream},
};

const PATH: &str = "/v1/chat/completions";
const ASKED: &str = "where is the treasure of 7431 buried";
const ANSWERED: &str = "below the oak of 7431 behind the mill";
const OPS: &str = "token-of-the-operators";

fn ask(stream: bool) -> Value {
    json!({"model": "auto", "stream": stream, "messages": [{"role": "user", "content": ASKED}]})
}

/// Two upstreams, of which the second gets a shadow of everything, and three teams.
fn setup(one: &Upstream, two: &Upstream, server: &str) -> Setup {
    Setup::new()
        .server(server)
        .token("ops", OPS, "read")
        .backend("one", &one.base_url())
        .backend("two", &two.base_url())
        .team("silent", "sk-silent", "{records: {content: never}}")
        .team("below", "sk-below", "{parent: silent}")
        .policies("routes:\n  auto: {order: [one-model], shadow: {to: two-model, share: 100%, limit: 1 USD/day}}")
}

async fn upstreams() -> (Upstream, Upstream) {
    let (one, two) = (Upstream::start().await, Upstream::start().await);
    one.always(Script::says(ANSWERED));
    two.always(Script::says("the shadow of 7431 says so too"));
    (one, two)
}

/// A plain request, a stream, and one that its upstream refuses with words of its own.
async fn traffic(gateway: &Gateway, one: &Upstream, key: &str) -> Vec<String> {
    let client = gateway.client_with(key);
    let plain = client.post(PATH, &ask(false)).await;
    plain.says(ANSWERED);
    let stream = client.post_stream(PATH, &ask(true)).await.transcript().await;
    stream.says(ANSWERED);
    let id = stream.header("x-request-id").to_owned();
    one.push(Script::error(400, "invalid", "no treasure of 7431 here"));
    let refused = client.post(PATH, &ask(false)).await;
    assert_eq!(refused.status, 400);
    vec![plain.header("x-request-id").to_owned(), id, refused.header("x-request-id").to_owned()]
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// What a file holds: its bytes, and of records the text.
fn held(file: &Path) -> Vec<u8> {
    let mut bytes = fs::read(file).unwrap();
    if file.to_string_lossy().ends_with(".zst") {
        turnpike::telemetry::record::read::each_chunk(file, |text, _| {
            bytes.extend_from_slice(text);
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    bytes
}

fn records(gateway: &Gateway) -> Vec<Value> {
    let mut files = files(&gateway.site().path().join("data/records"));
    files.retain(|file| file.to_string_lossy().ends_with(".zst"));
    files.sort();
    let mut lines = Vec::new();
    for file in files {
        turnpike::telemetry::record::read::each_chunk(&file, |text, _| {
            lines.extend(text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec));
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    lines.iter().map(|line| serde_json::from_slice(line).unwrap()).collect()
}

fn of<'l>(lines: &'l [Value], id: &str) -> &'l Value {
    lines.iter().find(|line| line["id"] == id).unwrap()
}

async fn written(gateway: &Gateway, many: f64) {
    until("all are written", async || gateway.metric("turnpike_records_total", &[]).await == many).await;
    until("all are in the files", async || records(gateway).len() as f64 == many).await;
}

#[tokio::test]
async fn no_byte_of_a_prompt_or_an_answer_is_on_the_disk_unless_an_operator_opts_in() {
    let (one, two) = upstreams().await;
    let mut gateway = setup(&one, &two, "").start().await;
    traffic(&gateway, &one, KEY).await;
    written(&gateway, 6.0).await;
    gateway.terminate();
    assert_eq!(gateway.exit_code().await, Some(0));
    let files = files(&gateway.site().path().join("data"));
    assert!(files.iter().any(|file| file.to_string_lossy().ends_with(".jsonl.zst")), "{files:?}");
    for file in files {
        assert!(memchr::memmem::find(&held(&file), b"7431").is_none(), "{}", file.display());
    }
    assert!(!gateway.log().contains("7431"));
}

#[tokio::test]
async fn who_opts_in_finds_prompts_and_answers_in_files_that_are_the_owners_alone() {
    let (one, two) = upstreams().await;
    let gateway = setup(&one, &two, "records: {content: 4KiB}").start().await;
    let ids = traffic(&gateway, &one, KEY).await;
    let mut silent = Vec::new();
    for key in ["sk-silent", "sk-below"] {
        silent.extend(traffic(&gateway, &one, key).await);
    }
    written(&gateway, 18.0).await;
    for id in [silent.first(), silent.last()].into_iter().flatten() {
        let why = gateway.site().run(&["why", id, "--content"]).stderr;
        assert!(why.contains("has `records: {content: never}`") && !why.contains("those to come"), "{why}");
    }
    let lines = records(&gateway);
    for (id, answered) in ids.iter().zip([true, true, false]) {
        let texts = &of(&lines, id)["texts"];
        let prompt: Value = serde_json::from_str(texts["prompt"].as_str().unwrap()).unwrap();
        assert_eq!(prompt["messages"][0]["content"], ASKED);
        assert_eq!((&texts["prompt_cut"], &texts["answer_cut"]), (&Value::Null, &Value::Null));
        assert_eq!(texts["answer"].is_string(), answered, "{texts}");
        if answered {
            let answer: Value = serde_json::from_str(texts["answer"].as_str().unwrap()).unwrap();
            assert_eq!(answer["choices"][0]["message"]["content"], ANSWERED, "also of a stream");
        }
    }
    for line in &lines {
        let own = line["team"] == "test";
        let of_own = ids.iter().any(|id| line["shadow_of"] == id.as_str());
        assert_eq!(line["texts"].is_object(), own || of_own, "{line}");
    }
    for file in files(&gateway.site().path().join("data/records")) {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    let folder = fs::metadata(gateway.site().path().join("data/records")).unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
    assert!(!gateway.log().contains("treasure") && !gateway.log().contains("oak"), "no log has them");
}

#[tokio::test]
async fn texts_are_shown_to_those_alone_who_ask_for_them() {
    let (one, two) = upstreams().await;
    let gateway = setup(&one, &two, "records: {content: 4KiB}").start().await;
    let ids = traffic(&gateway, &one, KEY).await;
    written(&gateway, 6.0).await;
    let site = gateway.site();
    for arguments in [&["why", &ids[0]][..], &["why", &ids[0], "--json"]] {
        let told = site.run(arguments).done();
        assert!(!told.contains("treasure") && !told.contains("oak"), "{told}");
    }
    let ops = gateway.admin().header("authorization", &format!("Bearer {OPS}"));
    let told = ops.get(&format!("/api/v1/decisions/{}", ids[0])).await.text();
    assert!(!told.contains("treasure") && !told.contains("oak"), "{told}");
    let told = site.run(&["why", &ids[1], "--content"]).done();
    assert!(told.contains(ASKED) && told.contains(ANSWERED), "{told}");
    let told = site.run(&["why", &ids[1], "--content", "--json"]).json();
    assert!(told["texts"]["answer"].as_str().unwrap().contains(ANSWERED), "{told}");
    site.run(&["why", &ids[1], "--content", "--server", "http://127.0.0.1:1"]).failed(2, &["--content"]);
    let checked = site.run(&["check"]);
    assert!(checked.stderr.contains("prompts and answers are kept on the disk"), "{checked:?}");
    let same = site.run(&["replay", "--policies", "policies", "data/records", "--json"]);
    assert!(!same.stdout.contains("treasure"));
    let same = same.json();
    assert_eq!((&same["requests"], &same["shadows"], &same["verified"]["other"]), (&json!(3), &json!(3), &json!(0)));
}

#[tokio::test]
async fn a_long_text_is_cut_at_the_bound_and_says_so() {
    let (one, two) = upstreams().await;
    let gateway = setup(&one, &two, "records: {content: 1KiB}").start().await;
    let long = "Ärger ".repeat(1_500).trim_end().to_owned();
    one.always(Script::says(&long));
    let client = gateway.client();
    let body =
        |stream: bool| json!({"model": "auto", "stream": stream, "messages": [{"role": "user", "content": long}]});
    client.post(PATH, &body(false)).await.says(&long);
    client.post_stream(PATH, &body(true)).await.transcript().await.says(&long);
    written(&gateway, 4.0).await;
    for line in records(&gateway).iter().filter(|line| line["team"] == "test") {
        let texts = &line["texts"];
        for (text, cut) in [("prompt", "prompt_cut"), ("answer", "answer_cut")] {
            let size = texts[text].as_str().unwrap().len();
            assert!((1_000..=1_024).contains(&size), "{text}: {size}");
            assert_eq!(texts[cut], true, "{text}");
        }
        let told = gateway.site().run(&["why", line["id"].as_str().unwrap(), "--content"]).done();
        assert!(told.contains("cut off"), "{told}");
    }
}

#[tokio::test]
async fn of_a_stream_that_breaks_or_is_left_what_came_is_kept() {
    let (one, two) = upstreams().await;
    let gateway = setup(&one, &two, "records: {content: 4KiB}").start().await;
    one.push(Script::says(ANSWERED).after_events(4, Fault::Abort));
    let broken = gateway.client().post_stream(PATH, &ask(true)).await.transcript().await;
    let broken_id = broken.header("x-request-id").to_owned();
    let gate = Gate::closed();
    one.push(Script::says(ANSWERED).after_events(4, Fault::Wait(gate.clone())));
    let mut left = gateway.client().post_stream(PATH, &ask(true)).await;
    let left_id = left.headers["x-request-id"].to_str().unwrap().to_owned();
    left.read_until("below").await;
    drop(left);
    written(&gateway, 4.0).await;
    gate.release();
    let lines = records(&gateway);
    for (id, end) in [(broken_id, "cut"), (left_id, "abandoned")] {
        let line = of(&lines, &id);
        assert_eq!(line["end"], end);
        let answer: Value = serde_json::from_str(line["texts"]["answer"].as_str().unwrap()).unwrap();
        let said = answer["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(!said.is_empty() && ANSWERED.starts_with(said) && said != ANSWERED, "{said}");
    }
}
