//! `turnpike score` with the shipped suite against a real engine: a tiny random model, which knows nothing and answers
//! all the same.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use super::{Engine, harness, script, until};
use harness::Client;

/// An engine, and a folder with a server's file, policies and a journal.
struct Bench {
    engine: Engine,
    folder: tempfile::TempDir,
}

impl Bench {
    async fn start() -> Self {
        let python = std::env::var("TURNPIKE_TEST_PYTHON").expect("see the head of main.rs");
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("tiny.gguf");
        let made = Command::new(&python).arg(script("make_model.py")).args([&model, Path::new("2")]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let engine = Engine::start(&python, &model, harness::free_address());
        let client = Client::new(engine.address);
        until("an engine answers", async || client.try_get("/health").await.is_ok_and(|answer| answer.status == 200))
            .await;
        let policies = folder.path().join("policies");
        fs::create_dir(&policies).unwrap();
        let text = format!(
            "backends: {{gpu: {{provider: llamacpp, api_key: sk-engine, endpoints: [\"http://{}\"]}}}}\n\
             models: {{tiny: {{backends: {{gpu: tiny-random}}, tokenizer: other}}}}\n\
             prices: [{{model: tiny, from: 2025-01-01, input: 1 USD, output: 2 USD, source: \"a test\"}}]\n",
            engine.address
        );
        fs::write(policies.join("main.yaml"), text).unwrap();
        fs::write(folder.path().join("turnpike.yaml"), "journal: data\n").unwrap();
        Self { engine, folder }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_turnpike"));
        command.args(arguments).current_dir(self.folder.path()).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The shipped suite, with short answers: a model of random weights never comes to an end.
    fn score(&self, more: &[&str]) -> Command {
        let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/suites/first-steps.jsonl");
        let suite = suite.to_string_lossy().into_owned();
        let mut arguments = vec!["score", "--suite", &suite, "--model", "tiny", "--max-output", "12"];
        arguments.extend(["--results", "results.jsonl", "--out", "policies/scores.yaml"]);
        arguments.extend(more);
        self.command(&arguments)
    }

    fn results(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.file("results.jsonl")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let Output { stdout, stderr, .. } = self.command(arguments).output().unwrap();
        serde_json::from_slice(&stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&stderr)))
    }
}

async fn ended(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

#[tokio::test]
async fn the_shipped_suite_scores_a_real_engine_goes_on_after_a_kill_and_stops_at_its_budget() {
    let bench = Bench::start().await;
    // Killed once some answers have come.
    let mut first = bench.score(&["--concurrency", "2"]).spawn().unwrap();
    until("some are answered", async || bench.results().len() >= 3).await;
    first.kill().unwrap();
    first.wait().unwrap();
    let before: Vec<Value> = bench.results();
    assert!(!bench.file("policies/scores.yaml").exists(), "no category is whole yet");

    // A budget that was spent before this run asks nothing more, and says so.
    let poor = ended(bench.score(&["--budget", "0.000001 USD"])).await;
    let said = String::from_utf8_lossy(&poor.stderr).into_owned();
    assert!(poor.status.code() == Some(1) && said.contains("budget"), "{said}");
    assert_eq!(bench.results().len(), before.len());

    let ran = ended(bench.score(&["--concurrency", "4", "--budget", "1 USD"])).await;
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "{said}\n{}", String::from_utf8_lossy(&ran.stdout));
    let results = bench.results();
    assert_eq!(results[..before.len()], before[..], "what had come is not asked again");
    let mut asked: Vec<&str> = results.iter().map(|row| row["id"].as_str().unwrap()).collect();
    let all = asked.len();
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), all, "each question has one verdict");
    assert!(results.iter().all(|row| row["right"].is_boolean() && row["output_tokens"].as_u64() > Some(0)));

    // The rows, with their intervals, are policies that load; the money is in the books.
    let rows = fs::read_to_string(bench.file("policies/scores.yaml")).unwrap();
    assert!(rows.matches("by: own, sample_size: ").count() >= 3 && rows.contains("interval: ["), "{rows}");
    let shown = bench.json(&["scores", "tiny", "--json"]).to_string();
    assert!(shown.contains("\"by\":\"own\""), "{shown}");
    let booked = bench.json(&["usage", "--team", "@score", "--json"]);
    let spent: f64 = results.iter().map(|row| row["cost_usd"].as_str().unwrap().parse::<f64>().unwrap()).sum();
    assert!(booked["total"]["charge_usd"].as_f64().unwrap() >= spent - 1e-9, "{booked}: {spent}");
    assert_eq!(bench.json(&["audit", "--json"])["balanced"], true);
    drop(bench.engine);
}
