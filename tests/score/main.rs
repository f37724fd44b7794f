//! `turnpike score` against the scripted upstream: grades, money, resumption, retries, a judge, bad usage.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../upstream/mod.rs"]
#[allow(unused_imports, reason = "each target that includes the module uses a part of it")]
mod upstream;

mod bounds;
mod files;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use upstream::{Gate, Received, Script, Upstream};

/// A folder with the suite and policies of two models at the upstream; 10 USD per million tokens in, 1,000 out.
fn folder(upstream: &Upstream, questions: &[Value]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("policies")).unwrap();
    let policies = format!(
        "backends: {{up: {{provider: openai_compatible, endpoints: [\"{}\"], api_key: \"${{KEY}}\"}}}}\n\
         models: {{m1: {{backends: {{up: one}}}}, m2: {{backends: {{up: two}}}}, judge: {{backends: {{up: judge}}}}}}\n\
         prices: [{}]\nteams: {{default: {{}}}}\n",
        upstream.base_url(),
        ["one", "two", "judge"]
            .map(|name| format!("{{backend: up, upstream: {name}, input: 10 USD, output: 1000 USD}}"))
            .join(", ")
    );
    fs::write(folder.path().join("policies/a.yaml"), policies).unwrap();
    let lines: Vec<String> = questions.iter().map(Value::to_string).collect();
    let head = json!({"suite": "own", "version": "1"}).to_string();
    fs::write(folder.path().join("suite.jsonl"), format!("{head}\n{}\n", lines.join("\n"))).unwrap();
    folder
}

fn numbers(count: u32) -> Vec<Value> {
    (0..count)
        .map(|n| json!({"id": format!("q{n}"), "category": "math", "prompt": format!("say {n}"), "check": {"number": n.to_string()}}))
        .collect()
}

/// What was asked, without the run's own words.
fn asked(received: &Received) -> String {
    received.json()["messages"][0]["content"].as_str().unwrap_or_default().to_owned()
}

/// Says what it is asked to say.
fn obedient(received: &Received) -> Script {
    Script::says(asked(received).strip_prefix("say ").unwrap_or("no")).prompt_tokens(100)
}

fn command(folder: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnpike"));
    command.args(["score", "--suite", "suite.jsonl"]).args(more).current_dir(folder);
    command.env_clear().env("KEY", "sk-1").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

async fn run(folder: &Path, more: &[&str]) -> Ran {
    let mut command = command(folder, more);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Lines of the results file.
fn results(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("suite.results.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the upstream would have billed, in nano-USD.
fn billed(upstream: &Upstream) -> u64 {
    upstream.tally().billed.values().map(|billed| billed.input * 10_000 + billed.output * 1_000_000).sum()
}

fn nano(text: &str) -> u64 {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{part:0<9}").parse().unwrap()
}

#[tokio::test]
async fn scores_are_appended_with_their_intervals_and_count_in_the_register() {
    let upstream = Upstream::start().await;
    // The second model says every third number wrong.
    upstream.choose(|received| {
        let number: u32 = asked(received).strip_prefix("say ").and_then(|text| text.parse().ok()).unwrap_or(0);
        let said = if received.model() == "two" && number.is_multiple_of(3) { number + 1 } else { number };
        Script::says(&format!("It is {said}")).prompt_tokens(100)
    });
    let mut questions = numbers(12);
    questions.push(json!({"id": "c", "category": "code", "prompt": "say 7", "check": {"choice": "B", "of": 4}}));
    let folder = folder(&upstream, &questions);
    let out = ["--model", "m1", "--model", "m2", "--out", "policies/scores.yaml"];
    let ran = run(folder.path(), &out).await;
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
    let text = fs::read_to_string(folder.path().join("policies/scores.yaml")).unwrap();
    for line in [
        r#""own-1/math": {category: math, unit: percent, floor: 0, ceiling: 100}"#,
        r#""own-1/code": {category: code, unit: percent, floor: 25, ceiling: 100}"#,
        r#"{model: "m1", benchmark: "own-1/math", value: 100.00, date: "#,
        r#"{model: "m2", benchmark: "own-1/math", value: 66.67, date: "#,
        "by: own, sample_size: 12, interval: [39.06, 86.19], source: \"turnpike score, suite own-1 (",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
    let answer = run_other(folder.path(), &["scores", "m2", "-c", "policies", "--json"]).await;
    let row = answer["models"][0]["rows"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["benchmark"] == "own-1/math")
        .unwrap()
        .clone();
    assert_eq!((&row["by"], &row["sample_size"], &row["counts"]), (&"own".into(), &12.into(), &true.into()));
    // The same again: nothing is asked, and no row comes twice.
    let before = upstream.tally().requests;
    assert_eq!(run(folder.path(), &out).await.code, 0);
    assert_eq!(upstream.tally().requests, before, "every verdict is in the results file");
    assert_eq!(fs::read_to_string(folder.path().join("policies/scores.yaml")).unwrap(), text);
    let spent: u64 = results(folder.path()).iter().map(|row| nano(row["cost_usd"].as_str().unwrap())).sum();
    assert_eq!(spent, billed(&upstream), "what was noted is what the vendor bills");
}

async fn run_other(folder: &Path, arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnpike"));
    command.args(arguments).current_dir(folder).env_clear();
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

#[tokio::test]
async fn a_budget_is_never_passed_and_a_larger_one_goes_on_where_it_stopped() {
    let upstream = Upstream::start().await;
    upstream.choose(obedient);
    let folder = folder(&upstream, &numbers(20));
    // An answer costs 0.002 USD and is held for with 8 tokens, the question with its bytes: about 0.01 USD.
    let ask = ["--model", "m1", "--max-output", "8", "--concurrency", "3"];
    let ran = run(folder.path(), &[&ask[..], &["--budget", "0.02 USD"]].concat()).await;
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("the budget cannot pay for the next question"), "{}", ran.stderr);
    // The same run again would end the same.
    assert!(ran.stderr.contains("hint: a larger `--budget` or a smaller `--max-output`"), "{}", ran.stderr);
    assert!(!ran.stdout.contains("scores:"), "a category that is not whole has no score: {}", ran.stdout);
    let first = upstream.tally().requests;
    assert!(billed(&upstream) <= 20_000_000 && (2..20).contains(&first), "{first} asked, {} billed", billed(&upstream));
    let again = run(folder.path(), &[&ask[..], &["--budget", "0.02 USD"]].concat()).await;
    assert!(again.code == 1 && billed(&upstream) <= 20_000_000, "the budget is that of all runs");
    let ran = run(folder.path(), &[&ask[..], &["--budget", "1 USD"]].concat()).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("sample_size: 20"), "{}", ran.stdout);
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    upstream.received().iter().for_each(|received| *times.entry(asked(received)).or_default() += 1);
    assert!(times.len() == 20 && times.values().all(|times| *times == 1), "{times:?}");
    let spent: u64 = results(folder.path()).iter().map(|row| nano(row["cost_usd"].as_str().unwrap())).sum();
    assert_eq!(spent, billed(&upstream));
}

/// Ends the command with SIGKILL, as a crash would.
fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn after_a_kill_no_answer_that_had_come_is_asked_for_again() {
    let upstream = Upstream::start().await;
    let gate = Gate::closed();
    let held = gate.clone();
    // The first ten come at once, the rest is held back until the run has been killed.
    upstream.choose(move |received| {
        let number: u32 = asked(received).strip_prefix("say ").unwrap().parse().unwrap();
        if number < 10 { obedient(received) } else { obedient(received).behind(&held) }
    });
    let folder = folder(&upstream, &numbers(16));
    let child = command(folder.path(), &["--model", "m1", "--concurrency", "2"]).spawn().unwrap();
    upstream.until(|tally| tally.requests == 12).await;
    // Both workers wait for an answer that does not come, so all ten others are noted or about to be.
    while results_or_torn(folder.path()) < 10 {
        tokio::task::yield_now().await;
    }
    kill(child);
    // A line that the kill cut off is no answer.
    let file = folder.path().join("suite.results.jsonl");
    let text = fs::read_to_string(&file).unwrap() + "{\"v\":1,\"suite\":\"torn";
    fs::write(&file, text).unwrap();
    gate.release();
    let ran = run(folder.path(), &["--model", "m1", "--concurrency", "2"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    upstream.received().iter().for_each(|received| *times.entry(asked(received)).or_default() += 1);
    for number in 0..16 {
        let twice = u32::from((10..12).contains(&number));
        assert_eq!(times[&format!("say {number}")], 1 + twice, "{number}: {times:?}");
    }
    assert_eq!(results(folder.path()).len(), 16);
    assert!(ran.stdout.contains("value: 100.00") && ran.stdout.contains("sample_size: 16"), "{}", ran.stdout);
}

fn results_or_torn(folder: &Path) -> usize {
    fs::read_to_string(folder.join("suite.results.jsonl")).unwrap_or_default().matches('\n').count()
}

#[tokio::test]
async fn what_the_upstream_could_not_answer_is_asked_again_and_is_never_a_wrong_answer() {
    let upstream = Upstream::start().await;
    upstream.push(Script::error(503, "overloaded", "try later").header("retry-after", "0"));
    upstream.choose(|received| match asked(received).as_str() {
        "say 2" => Script::error(400, "content_filter", "not this one"),
        _ => obedient(received),
    });
    let folder = folder(&upstream, &numbers(4));
    let ran = run(folder.path(), &["--model", "m1", "--concurrency", "1", "--json"]).await;
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let told: Value = serde_json::from_str(&ran.stdout).unwrap();
    let score = &told["scores"][0];
    assert_eq!((&score["right"], &score["asked"], &score["open"]), (&3.into(), &3.into(), &1.into()), "{told}");
    let open: Vec<Value> = results(folder.path()).into_iter().filter(|row| row["right"].is_null()).collect();
    assert!(open.len() == 1 && open[0]["note"].as_str().unwrap().starts_with("400"), "{open:?}");
}

#[tokio::test]
async fn a_judge_decides_what_no_rule_can_and_its_part_is_paid_and_noted() {
    let upstream = Upstream::start().await;
    upstream.choose(|received| match received.model().as_str() {
        "judge" if asked(received).contains("a fine haiku") => {
            Script::says("```json\n{\"right\": true}\n```").prompt_tokens(300)
        }
        "judge" => Script::says("{\"right\": false}").prompt_tokens(300),
        "one" => Script::says("a fine haiku").prompt_tokens(20),
        _ => Script::says("a limerick").prompt_tokens(20),
    });
    let question =
        json!({"id": "h", "category": "language", "prompt": "Write a haiku.", "check": {"judge": "it is a haiku"}});
    let folder = folder(&upstream, &[question]);
    let none = run(folder.path(), &["--model", "m1"]).await;
    assert!(none.code == 1 && none.stderr.contains("--judge") && upstream.tally().requests == 0, "{}", none.stderr);
    let ran = run(folder.path(), &["--model", "m1", "--model", "m2", "--judge", "judge", "--json"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let told: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&told["scores"][0]["right"], &told["scores"][1]["right"]), (&1.into(), &0.into()), "{told}");
    assert_eq!(nano(told["spent_usd"].as_str().unwrap()), billed(&upstream));
}

/// Lets the folder have a journal, and an operator's token.
fn with_journal(folder: &Path) {
    let listen = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (clients, admin) = (listen(), listen());
    let key = "keys: [{id: k, team: default, hash: \"sha256:4f2b5bd95f3b6ed1dd9c3c2f9b1fd8ff0e8b77e3e8b5e8f3f2b7a0a9d4f9f0a1\"}]\n";
    fs::write(folder.join("turnpike.yaml"), format!("listen: {clients}\nadmin: {{listen: \"{admin}\"}}\n")).unwrap();
    fs::write(folder.join("policies/keys.yaml"), key).unwrap();
}

/// Charge and requests of `@score`, and whether the books balance.
async fn booked(folder: &Path) -> (u64, u64) {
    let usage = run_other(folder, &["usage", "--team", "@score", "--by", "team", "--json"]).await;
    let audit = run_other(folder, &["audit", "--json"]).await;
    assert_eq!(audit["balanced"], true, "{audit}");
    let total = &usage["total"];
    (nano(&total["charge_usd"].to_string()), total["requests"].as_u64().unwrap())
}

#[tokio::test]
async fn what_a_run_spends_is_in_the_books_under_the_operators_own_name() {
    let upstream = Upstream::start().await;
    upstream.choose(obedient);
    let folder = folder(&upstream, &numbers(12));
    with_journal(folder.path());
    let ask = ["--model", "m1", "--max-output", "8", "--concurrency", "3"];
    let ran = run(folder.path(), &[&ask[..], &["--budget", "0.02 USD"]].concat()).await;
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let (charge, requests) = booked(folder.path()).await;
    assert_eq!((charge, requests), (billed(&upstream), upstream.tally().requests as u64));
    // What earlier runs spent stands in the books, and binds the next one only by the results file.
    let ran = run(folder.path(), &[&ask[..], &["--budget", "1 USD"]].concat()).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(booked(folder.path()).await, (billed(&upstream), 12));
    let by_team = run_other(folder.path(), &["usage", "--by", "team", "--json"]).await;
    assert_eq!(by_team["lines"].as_array().unwrap().len(), 1, "no team has paid: {by_team}");
    let by_operation = run_other(folder.path(), &["usage", "--by", "operation", "--json"]).await;
    assert_eq!(by_operation["lines"][0]["group"]["operation"], "score", "{by_operation}");
    assert_eq!(by_operation["lines"].as_array().unwrap().len(), 1, "{by_operation}");
    // A vendor's bill of the same day agrees.
    let day = by_team["lines"][0].clone();
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let usd = billed(&upstream);
    let bill = format!(
        "date,model,input_tokens,cached_input_tokens,output_tokens,amount,currency\n{date},one,{},0,{},{}.{:09},USD\n",
        day["input_tokens"],
        day["output_tokens"],
        usd / 1_000_000_000,
        usd % 1_000_000_000
    );
    fs::write(folder.path().join("bill.csv"), bill).unwrap();
    let agrees = run_other(folder.path(), &["audit", "--invoice", "bill.csv", "--backend", "up", "--json"]).await;
    assert_eq!(agrees["agree"], true, "{agrees}");
}

#[tokio::test]
async fn a_run_that_is_killed_has_booked_no_less_than_it_spent() {
    let upstream = Upstream::start().await;
    let gate = Gate::closed();
    let held = gate.clone();
    upstream.choose(move |received| {
        let number: u32 = asked(received).strip_prefix("say ").unwrap().parse().unwrap();
        if number < 4 { obedient(received) } else { obedient(received).behind(&held) }
    });
    let folder = folder(&upstream, &numbers(6));
    with_journal(folder.path());
    let child = command(folder.path(), &["--model", "m1", "--concurrency", "2"]).spawn().unwrap();
    upstream.until(|tally| tally.requests == 6).await;
    while results_or_torn(folder.path()) < 4 {
        tokio::task::yield_now().await;
    }
    kill(child);
    gate.release();
    let ran = run(folder.path(), &["--model", "m1", "--concurrency", "2"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    // The two that were under way are charged as they were held, and asked again.
    let (charge, requests) = booked(folder.path()).await;
    assert!(requests == 8 && charge >= billed(&upstream), "{requests}: {charge}, {} billed", billed(&upstream));
}

#[tokio::test]
async fn beside_a_gateway_that_runs_nothing_is_asked_but_through_it() {
    let upstream = Upstream::start().await;
    upstream.choose(obedient);
    let folder = folder(&upstream, &numbers(4));
    with_journal(folder.path());
    fs::remove_file(folder.path().join("policies/keys.yaml")).unwrap();
    let made = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_turnpike"));
        command.args(["key", "create", "--team", "default"]).current_dir(folder.path()).env_clear().env("KEY", "sk-1");
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let key = made();
    let mut serving = Command::new(env!("CARGO_BIN_EXE_turnpike"));
    serving.arg("serve").current_dir(folder.path()).env_clear().env("KEY", "sk-1");
    let gateway = serving.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let text = fs::read_to_string(folder.path().join("turnpike.yaml")).unwrap();
    let listen = text.lines().next().unwrap().strip_prefix("listen: ").unwrap().to_owned();
    while tokio::net::TcpStream::connect(&listen).await.is_err() {
        tokio::task::yield_now().await;
    }
    let refused = run(folder.path(), &["--model", "m1"]).await;
    let hint = format!("`--through http://{listen}`");
    assert!(refused.code == 1 && refused.stderr.contains(&hint), "{}", refused.stderr);
    assert_eq!(upstream.tally().requests, 0);
    let address = format!("http://{listen}");
    let mut through = command(folder.path(), &["--model", "m1", "--through", &address]);
    through.env("TURNPIKE_KEY", key.trim());
    let ran = tokio::task::spawn_blocking(move || through.output()).await.unwrap().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    kill(gateway);
    let spent: u64 = results(folder.path()).iter().map(|row| nano(row["cost_usd"].as_str().unwrap())).sum();
    assert_eq!(spent, billed(&upstream));
    let usage = run_other(folder.path(), &["usage", "--team", "default", "--json"]).await;
    assert_eq!(nano(&usage["total"]["charge_usd"].to_string()), spent, "its own team has paid: {usage}");
}

#[tokio::test]
async fn bad_usage_is_told_of_before_anything_is_asked() {
    let upstream = Upstream::start().await;
    let folder = folder(&upstream, &numbers(1));
    for (more, told) in [
        (&["--model", "m3"][..], "no model `m3`"),
        (&["--model", "m1", "--budget", "2"][..], "twice"),
        (&["--model", "m1", "--suite", "nowhere.jsonl"][..], "twice"),
        (&["--model", "m1", "--judge", "m1"][..], "cannot judge itself"),
        (&["--model", "m1", "--out", "policies/a.yaml"][..], "does not look like one of `turnpike score`"),
    ] {
        let ran = run(folder.path(), more).await;
        let usage = told == "twice" && ran.code == 2;
        assert!(usage || (ran.code == 1 && ran.stderr.contains(told)), "{more:?} {}: {}", ran.code, ran.stderr);
    }
    fs::write(folder.path().join("suite.jsonl"), "{\"id\": 1}\n").unwrap();
    let ran = run(folder.path(), &["--model", "m1"]).await;
    assert!(ran.code == 1 && ran.stderr.contains("suite.jsonl:1") && ran.stderr.contains("hint: "), "{}", ran.stderr);
}
