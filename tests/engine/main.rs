//! Four real engines behind the gateway: llama.cpp's own server with a tiny random model, killed when it hurts most.
//!
//! `TURNPIKE_TEST_PYTHON` names a Python with `tests/engine/requirements.txt`; `tests/run` makes one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::float_arithmetic,
    reason = "a test fails by panicking, and compares what is measured as floats"
)]

#[path = "../gateway/harness/mod.rs"]
mod harness;
mod pool;
mod scored;
mod table;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use harness::{Client, Gateway, KEY, Setup, until};
use serde_json::{Value, json};

/// An operator's token.
const TOKEN: &str = "ops-token-of-the-tests";

/// A server process; dropping it kills it.
struct Engine {
    address: SocketAddr,
    process: Child,
}

impl Engine {
    fn start(python: &str, model: &Path, address: SocketAddr) -> Self {
        let process = Command::new(python)
            .arg(script("serve.py"))
            .args([model.as_os_str(), address.port().to_string().as_ref()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { address, process }
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Stops it where it stands, every thread of it: connections stay open, nothing moves.
    async fn freeze(&self) {
        self.signal("-STOP");
        let tasks = format!("/proc/{}/task", self.process.id());
        until("all threads stand still", async || {
            std::fs::read_dir(&tasks).unwrap().all(|task| {
                let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
                // The state follows the name, which stands in brackets.
                stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
            })
        })
        .await;
    }

    /// Lets it go on.
    fn thaw(&self) {
        self.signal("-CONT");
    }

    fn kill(&self) {
        self.signal("-KILL");
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engine").join(name)
}

/// Four engines, and one gateway before them: as the pool `gpus`, and each on its own as `gpu0` … `gpu3`.
struct World {
    engines: Vec<Engine>,
    gateway: Gateway,
    python: String,
    /// Their models.
    models: Vec<PathBuf>,
    _folder: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        Self::of(&[2; 4], &[]).await
    }

    /// Engines whose models have so many layers; for each of `balances` the pool `gpus-BALANCE` besides.
    async fn of(layers: &[u32], balances: &[&str]) -> Self {
        let python = std::env::var("TURNPIKE_TEST_PYTHON")
            .expect("TURNPIKE_TEST_PYTHON names a Python with tests/engine/requirements.txt; hint: use `tests/run`");
        let folder = tempfile::tempdir().unwrap();
        let model = |layers: &u32| {
            let model = folder.path().join(format!("tiny-{layers}.gguf"));
            let made = Command::new(&python)
                .arg(script("make_model.py"))
                .arg(&model)
                .arg(layers.to_string())
                .output()
                .unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            model
        };
        let models: Vec<PathBuf> = layers.iter().map(model).collect();
        let engine = |model: &PathBuf| Engine::start(&python, model, harness::free_address());
        let engines: Vec<Engine> = models.iter().map(engine).collect();
        for engine in &engines {
            let client = Client::new(engine.address);
            until("an engine answers", async || {
                client.try_get("/health").await.is_ok_and(|answer| answer.status == 200)
            })
            .await;
        }
        let gateway = setup(&engines, balances).start().await;
        Self { engines, gateway, python, models, _folder: folder }
    }

    /// Starts an engine anew where it was.
    fn restart(&mut self, engine: usize) {
        let address = self.engines[engine].address;
        self.engines[engine] = Engine::start(&self.python, &self.models[engine], address);
    }

    /// What operators see of a backend.
    async fn seen(&self, backend: &str) -> Value {
        let admin = self.gateway.admin().header("authorization", &format!("Bearer {TOKEN}"));
        let list = admin.get("/api/v1/backends").await.json();
        list["backends"].as_array().unwrap().iter().find(|seen| seen["name"] == backend).unwrap().clone()
    }

    async fn in_flight(&self, backend: &str) -> u64 {
        self.seen(backend).await["in_flight"].as_u64().unwrap()
    }

    async fn ask(&self, model: &str, tokens: u64) -> harness::Answer {
        self.gateway.client().post("/v1/chat/completions", &prompt(model, tokens)).await
    }
}

fn setup(engines: &[Engine], balances: &[&str]) -> Setup {
    let mut backends = String::from("backends:\n");
    let mut models = String::from("models:\n");
    let mut endpoints = Vec::new();
    for (number, engine) in engines.iter().enumerate() {
        let endpoint = format!("\"http://{}\"", engine.address);
        backends += &format!("  gpu{number}: {{provider: llamacpp, api_key: sk-engine, endpoints: [{endpoint}]}}\n");
        models += &format!("  tiny{number}: {{backends: {{gpu{number}: tiny-random}}}}\n");
        endpoints.push(endpoint);
    }
    let endpoints = endpoints.join(", ");
    backends += &format!("  gpus: {{provider: llamacpp, api_key: sk-engine, endpoints: [{endpoints}]}}\n");
    models += "  tiny: {backends: {gpus: tiny-random}}\n";
    for balance in balances {
        let keys = format!("provider: llamacpp, api_key: sk-engine, balance: {balance}");
        backends += &format!("  gpus-{balance}: {{{keys}, endpoints: [{endpoints}]}}\n");
        models += &format!("  tiny-{balance}: {{backends: {{gpus-{balance}: tiny-random}}}}\n");
    }
    let routes = "routes: {chain: {order: [tiny0, tiny1, tiny2, tiny3]}}";
    Setup::new().policies(&backends).policies(&models).policies(routes).token("ops", TOKEN, "read")
}

/// A prompt whose answer has exactly so many tokens.
fn prompt(model: &str, tokens: u64) -> Value {
    json!({"model": model, "max_tokens": tokens, "ignore_eos": true,
        "messages": [{"role": "user", "content": "tell me a story"}]})
}

fn streamed(model: &str, tokens: u64) -> Value {
    let mut body = prompt(model, tokens);
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    body
}

#[tokio::test]
async fn real_engines_answer_plain_and_streamed() {
    let world = World::start().await;
    for model in ["tiny", "chain"] {
        let answer = world.ask(model, 24).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["usage"]["completion_tokens"], 24);
        assert!(!answer.content().is_empty());
        let client = world.gateway.client();
        let stream = client.post_stream("/v1/chat/completions", &streamed(model, 24)).await.transcript().await;
        assert!(stream.is_done() && stream.error().is_none(), "{}", stream.text());
        assert_eq!(stream.usage().unwrap()["completion_tokens"], 24);
    }
    let long = json!({"model": "tiny", "messages": [{"role": "user", "content": "word ".repeat(4000)}]});
    let answer = world.gateway.client().post("/v1/chat/completions", &long).await;
    answer.is_refused(400, "context_length_exceeded");
}

#[tokio::test]
async fn an_engine_killed_before_its_first_token_costs_no_client_an_error() {
    let world = World::start().await;
    world.engines[0].freeze().await;
    let client = world.gateway.client();
    let streaming = tokio::spawn({
        let client = client.clone();
        async move { client.post_stream("/v1/chat/completions", &streamed("chain", 24)).await.transcript().await }
    });
    let plain = tokio::spawn(async move { client.post("/v1/chat/completions", &prompt("chain", 24)).await });
    until("both requests hang on the frozen engine", async || world.in_flight("gpu0").await == 2).await;
    world.engines[0].kill();
    let stream = streaming.await.unwrap();
    assert!(stream.is_done() && stream.error().is_none(), "{}", stream.text());
    assert_eq!((stream.header("x-turnpike-backend"), stream.header("x-turnpike-attempts")), ("gpu1", "2"));
    let answer = plain.await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.header("x-turnpike-backend")), (200, "gpu1"), "{answer:?}");
}

#[tokio::test]
async fn an_engine_killed_midway_ends_its_own_streams_only() {
    let world = World::start().await;
    let mut streams = Vec::new();
    for number in 0..4 {
        let body = streamed(&format!("tiny{number}"), 3000);
        let mut stream = world.gateway.client().post_stream("/v1/chat/completions", &body).await;
        stream.read_until("\"content\":\"").await;
        if number == 0 {
            world.engines[0].freeze().await;
        }
        streams.push(stream);
    }
    world.engines[0].kill();
    let mut transcripts = Vec::new();
    for stream in streams {
        transcripts.push(stream.transcript().await);
    }
    transcripts[0].ends_with_error("upstream_error");
    for stream in &transcripts[1..] {
        assert!(stream.is_done() && stream.error().is_none(), "{}", stream.text());
        assert_eq!(stream.usage().unwrap()["completion_tokens"], 3000);
    }
    let client = Client::new(world.gateway.address()).header("authorization", &format!("Bearer {KEY}"));
    for _ in 0..8 {
        let answer = client.post("/v1/chat/completions", &prompt("tiny", 8)).await;
        assert_eq!(answer.status, 200, "the pool goes on without the dead engine: {answer:?}");
    }
}
