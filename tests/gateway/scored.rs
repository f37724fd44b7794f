//! `turnpike score` beside gateways that share a Redis: it counts there as one of them.

use serde_json::json;

use crate::{
    harness::{Setup, until},
    redis_server::Server,
    upstream::{Script, Upstream},
};

#[tokio::test]
async fn a_run_counts_in_the_shared_store_and_the_other_gateways_see_what_it_spent() {
    let (upstream, server) = (Upstream::start().await, Server::start(&[]).await);
    upstream.always(Script::says("4"));
    let store = format!("store: {{redis: \"{}\"}}", server.url());
    let setup = Setup::new().backend("one", &upstream.base_url()).server(&store);
    let setup = setup.policies("providers: {openai_compatible: {budgets: [{name: day, limit: 5 USD, per: day}]}}");
    let gateway = setup.start().await;
    gateway.ask("one-model").await.says("4");
    let site = setup.site();
    let question = |id: &str| json!({"id": id, "category": "math", "prompt": "2 + 2?", "check": {"number": "4"}});
    let suite = [json!({"suite": "own", "version": "1"}), question("a"), question("b"), question("c")];
    let suite = suite.map(|line| line.to_string()).join("\n");
    std::fs::write(site.path().join("suite.jsonl"), suite + "\n").unwrap();
    let run = site.clone();
    let scored = tokio::task::spawn_blocking(move || {
        run.run(&["score", "--suite", "suite.jsonl", "--model", "one-model", "--budget", "1 USD", "--json"])
    });
    let scored = scored.await.unwrap().json();
    assert_eq!((&scored["scores"][0]["right"], &scored["scores"][0]["open"]), (&json!(3), &json!(0)), "{scored}");
    // The gateway hears of its rows through the store, and its books balance with it.
    let told = gateway.site().clone();
    until("the other gateway has its rows", async || {
        let said = told.run(&["usage", "--team", "@score", "--json"]).json();
        let charge = said["total"]["charge_usd"].to_string();
        said["total"]["requests"] == 3 && scored["spent_usd"] == charge
    })
    .await;
}
