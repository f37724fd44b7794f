//! Starts the real binary with policies written for one test, and talks to it.

#![allow(dead_code, unused_imports, reason = "each test target that includes the module uses a part of it")]

mod chance;
mod client;
mod proxy;
mod site;
mod transcript;

use std::{
    fmt::Write as _,
    net::{SocketAddr, TcpListener},
    process::{Child, Command},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub use chance::Chance;
pub use client::{Answer, Client, Stream};
pub use proxy::{Blow, Proxy, Way, Weather};
pub use site::{Said, Site};
pub use transcript::{Transcript, without_cost};

/// The client key of the team `test`, which has no fences and no budget.
pub const KEY: &str = "sk-test-client-key";
/// What is not seen by then is not going to be, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What a gateway is started with.
#[derive(Clone, Default)]
pub struct Setup {
    server: String,
    tokens: Vec<String>,
    backends: String,
    models: String,
    prices: String,
    teams: String,
    keys: String,
    policies: String,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// One team `test` with the key [`KEY`], and nothing to route to.
    pub fn new() -> Self {
        Self::default().team("test", KEY, "{}")
    }

    /// The backend `name` at `url` with the model `NAME-model`, there called `NAME-upstream`; 2 USD and 8 USD per
    /// million tokens, so 2,000 and 8,000 nano-USD each.
    pub fn backend(self, name: &str, url: &str) -> Self {
        self.backend_with(name, url, "provider: openai")
    }

    /// A backend with these keys besides its endpoint and credential.
    pub fn backend_with(mut self, name: &str, url: &str, keys: &str) -> Self {
        writeln!(self.backends, "  {name}: {{{keys}, api_key: sk-upstream-{name}, endpoints: [\"{url}\"]}}").unwrap();
        self.model(&format!("{name}-model"), name, &format!("{name}-upstream"))
    }

    /// A further model of a backend.
    pub fn model(self, name: &str, backend: &str, upstream: &str) -> Self {
        self.model_with(name, backend, upstream, "").price(&format!("backend: {backend}, upstream: {upstream}"))
    }

    /// A further model of a backend, without a price and with these keys.
    pub fn model_with(mut self, name: &str, backend: &str, upstream: &str, keys: &str) -> Self {
        writeln!(self.models, "  {name}: {{backends: {{{backend}: {upstream}}}, {keys}}}").unwrap();
        self
    }

    /// A further row of prices: `{model: …, input: …, output: …}`.
    pub fn price_row(mut self, row: &str) -> Self {
        writeln!(self.prices, "  - {row}").unwrap();
        self
    }

    fn price(self, what: &str) -> Self {
        self.priced(what, "2 USD", "8 USD")
    }

    /// A price per million tokens read and written, of `model: …` or `backend: …, upstream: …`.
    pub fn priced(mut self, what: &str, input: &str, output: &str) -> Self {
        writeln!(self.prices, "  - {{{what}, from: 2025-01-01, input: {input}, output: {output}}}").unwrap();
        self
    }

    /// A team with these keys, and its one client key.
    pub fn team(mut self, name: &str, key: &str, keys: &str) -> Self {
        writeln!(self.teams, "  {name}: {keys}").unwrap();
        let hash = Sha256::digest(key.as_bytes()).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        writeln!(self.keys, "  - {{id: {name}key, team: {name}, hash: \"sha256:{hash}\"}}").unwrap();
        self
    }

    /// A further row of `keys:`.
    pub fn key_row(mut self, row: &str) -> Self {
        writeln!(self.keys, "  - {row}").unwrap();
        self
    }

    /// Further sections for the policies: routes, aliases.
    pub fn policies(mut self, yaml: &str) -> Self {
        self.policies.push_str(yaml);
        self.policies.push('\n');
        self
    }

    /// Further keys for `turnpike.yaml`.
    pub fn server(mut self, yaml: &str) -> Self {
        self.server.push_str(yaml);
        self.server.push('\n');
        self
    }

    /// An admin token, which may do that (`read, keys`).
    pub fn token(mut self, name: &str, token: &str, may: &str) -> Self {
        self.tokens.push(format!("{{name: {name}, token: {token}, may: [{may}]}}"));
        self
    }

    /// A variable of the gateway's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The policies as one file.
    pub fn policy_file(&self) -> String {
        let mut file = String::new();
        let sections = [
            ("backends", &self.backends),
            ("models", &self.models),
            ("prices", &self.prices),
            ("teams", &self.teams),
            ("keys", &self.keys),
        ];
        for (name, lines) in sections.into_iter().filter(|(_, lines)| !lines.is_empty()) {
            write!(file, "{name}:\n{lines}").unwrap();
        }
        file + &self.policies
    }

    /// Writes the files into a folder of their own; nothing is started.
    pub fn site(&self) -> Site {
        Site::write(self)
    }

    /// Starts the gateway and waits until it is ready.
    pub async fn start(&self) -> Gateway {
        self.site().start().await
    }
}

/// An address that nobody listens on. Ports come from below the range that the kernel gives to outgoing connections,
/// and no two calls of this process get the same one.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % 1000).unwrap() * 12;
    loop {
        let port = 20_000 + (own + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// A running gateway; dropping it kills the process.
pub struct Gateway {
    site: Site,
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Gateway {
    /// The base URL for an SDK.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.site.clients)
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.site.clients
    }

    /// A client of the team `test`.
    pub fn client(&self) -> Client {
        self.client_with(KEY)
    }

    /// A client with this key.
    pub fn client_with(&self, key: &str) -> Client {
        Client::new(self.site.clients).header("authorization", &format!("Bearer {key}"))
    }

    /// Its files, and the commands that work on them.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// The operators' side.
    pub fn admin(&self) -> Client {
        Client::new(self.site.admin)
    }

    /// A plain answer to `hi`.
    pub async fn ask(&self, model: &str) -> Answer {
        self.client().post("/v1/chat/completions", &chat(model)).await
    }

    /// A whole stream in answer to `hi`.
    pub async fn ask_stream(&self, model: &str) -> Transcript {
        self.client().post_stream("/v1/chat/completions", &streamed(model)).await.transcript().await
    }

    /// The sum of all series of a metric whose labels contain all of `labels`.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.admin().get("/metrics").await.text();
        let series = text.lines().filter_map(|line| line.strip_prefix(name));
        let matching = series.filter(|rest| rest.starts_with(['{', ' ']) && labels.iter().all(|it| rest.contains(it)));
        matching.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).fold(0.0, |sum, value| sum + value)
    }

    /// What it has written to stderr so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Replaces the policy file in one step, as an editor does.
    pub fn save_policies(&self, yaml: &str) {
        self.site.save_policies(yaml);
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks the process to end.
    pub fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// The exit code, once the process has ended.
    pub async fn exit_code(&mut self) -> Option<i32> {
        let mut status = None;
        until("the gateway has ended", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.and_then(|status| status.code())
    }

    async fn ready(&self) {
        until(&format!("the gateway is ready; its log:\n{}", self.log()), async || {
            self.admin().try_get("/readyz").await.is_ok_and(|answer| answer.status == 200)
                || self.log().contains("error")
        })
        .await;
        let ready = self.admin().try_get("/readyz").await;
        assert!(ready.is_ok_and(|answer| answer.status == 200), "the gateway did not start:\n{}", self.log());
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("--- the gateway's log\n{}---", self.log());
        }
    }
}

/// Asks again and again until `condition` holds.
///
/// # Panics
/// After [`PATIENCE`].
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, asking).await.is_ok(), "waited in vain until {what}");
}

/// A plain request that says `hi`.
pub fn chat(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hi"}]})
}

/// The same as a stream.
pub fn streamed(model: &str) -> Value {
    let mut body = chat(model);
    body["stream"] = json!(true);
    body
}

/// The same as a stream with usage.
pub fn streamed_with_usage(model: &str) -> Value {
    let mut body = streamed(model);
    body["stream_options"] = json!({"include_usage": true});
    body
}
