//! Two upstreams and a gateway whose team has a budget, and what its books must say after whatever happens.

use crate::{
    harness::{Answer, Client, Gateway, Setup, Site, chat},
    upstream::{Script, Upstream},
};

/// The client key of a team with a budget of [`LIMIT`].
pub const PAYER: &str = "sk-payer";
/// What that team may spend, in nano-dollars.
pub const LIMIT: u64 = 1_000_000_000_000;
/// Where chat requests go.
pub const PATH: &str = "/v1/chat/completions";
/// The token of somebody who may read the books.
pub const READER: &str = "token-of-an-auditor";
/// The token of somebody who may switch things off.
pub const OPS: &str = "token-of-the-operators";
/// Nano-dollars for a token read and for one written.
const READ: u64 = 2_000;
const WRITTEN: u64 = 8_000;

/// A gateway with the route `chain`: `first-model`, then `second-model`.
pub struct Sky {
    pub first: Upstream,
    pub second: Upstream,
    pub gateway: Gateway,
    /// What the gateway counts the prompt of [`chat`] as, in tokens. Scripts that bill as much make charge and bill
    /// comparable where only the gateway's own count is known.
    pub prompt: u64,
}

impl Sky {
    /// The usual one.
    pub async fn new() -> Self {
        Self::with("", "").await
    }

    /// The first backend with these clocks, the route with these keys.
    pub async fn with(clocks: &str, route: &str) -> Self {
        let first = Upstream::start().await;
        let url = first.base_url();
        Self::behind(first, &url, clocks, route).await
    }

    /// The first upstream is reached at `url`.
    pub async fn behind(first: Upstream, url: &str, clocks: &str, route: &str) -> Self {
        let second = Upstream::start().await;
        let gateway = setup()
            .backend_with("first", url, &format!("provider: openai, timeouts: {{{clocks}}}"))
            .backend("second", &second.base_url())
            .policies(&format!("routes: {{chain: {{order: [first-model, second-model]{route}}}}}"))
            .start()
            .await;
        let prompt = counted_prompt(&gateway, &second, "second-model").await;
        second.always(Script::says("whole answer").prompt_tokens(prompt));
        Self { first, second, gateway, prompt }
    }

    /// A client that pays.
    pub fn client(&self) -> Client {
        self.gateway.client_with(PAYER)
    }

    /// A plain answer on the route.
    pub async fn ask(&self) -> Answer {
        self.client().post(PATH, &chat("chain")).await
    }

    /// What both upstreams would bill, in nano-dollars.
    pub fn billed(&self) -> u64 {
        billed(&self.first) + billed(&self.second)
    }

    /// Requests that have reached the upstreams but for the one that counted the prompt.
    pub fn calls(&self) -> u64 {
        self.first.tally().requests + self.second.tally().requests - 1
    }

    /// Waits until the books say what the upstreams billed, and `unbilled` prompts that were dispatched and never
    /// answered: nobody can know whether a vendor bills those, so the books do.
    pub async fn balances(&self, unbilled: u64) {
        balances(&self.gateway, self.billed() + (1 + unbilled) * self.prompt * READ).await;
    }
}

/// A gateway's setup with the team and the token that these tests want.
pub fn setup() -> Setup {
    let team = "{budgets: [{name: month, limit: 1000 USD, per: month}]}";
    Setup::new().team("payer", PAYER, team).token("auditor", READER, "read").token("ops", OPS, "read, switch")
}

/// Switches `target` (`backend:NAME`, `team:NAME` …) off or on.
pub async fn switch(gateway: &Gateway, target: &str, off: bool, cut: bool) {
    let row = serde_json::json!({"target": target, "off": off, "cut": cut, "why": "a rehearsal"});
    let admin = gateway.admin().header("authorization", &format!("Bearer {OPS}"));
    let done = admin.post("/api/v1/switches", &row).await;
    assert_eq!(done.status, 201, "{done:?}");
}

/// What the gateway counts the prompt of [`chat`] as: the cost of an answer whose upstream tells no usage, and tallies no
/// prompt either.
pub async fn counted_prompt(gateway: &Gateway, upstream: &Upstream, model: &str) -> u64 {
    upstream.push(Script::says("a").without_usage().prompt_tokens(0));
    let told = gateway.client_with(PAYER).post(PATH, &chat(model)).await;
    let prompt = (nano(told.header("x-turnpike-cost-usd").parse().unwrap()) - WRITTEN) / READ;
    assert!(prompt > 0, "{told:?}");
    prompt
}

/// Waits until `nanousd` are booked and taken from the budget, no hold is open, and the books agree with themselves.
pub async fn balances(gateway: &Gateway, nanousd: u64) {
    let mut said = (0, 0.0, 0);
    let settled = tokio::time::timeout(crate::harness::PATIENCE, async {
        loop {
            let booked = nano(gateway.metric("turnpike_cost_usd_total", &[]).await);
            let open = gateway.metric("turnpike_holds_open", &[]).await;
            let left = nano(gateway.metric("turnpike_budget_left_usd", &["payer"]).await);
            said = (booked, open, left);
            if said == (nanousd, 0.0, LIMIT - nanousd) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    assert!(settled.await.is_ok(), "{nanousd} were billed; booked, open, left: {said:?}\n{}", gateway.log());
    audited(gateway.site(), nanousd);
}

/// The journal balances and adds up to that much.
pub fn audited(site: &Site, nanousd: u64) {
    let audit = site.run_with(&[("TURNPIKE_TOKEN", READER)], &["audit", "--json"]).json();
    assert_eq!(audit["balanced"], true, "{audit}");
    assert_eq!(nano(audit["charge_usd"].as_f64().unwrap()), nanousd, "{audit}");
}

/// What an upstream would bill, in nano-dollars.
pub fn billed(upstream: &Upstream) -> u64 {
    upstream.tally().billed.values().map(|billed| billed.input * READ + billed.output * WRITTEN).sum()
}

fn nano(usd: f64) -> u64 {
    (usd * 1e9).round() as u64
}
