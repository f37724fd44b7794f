//! Policies change while the gateway runs; a bad file changes nothing.

use crate::{
    harness::{Setup, until},
    upstream::{Script, Upstream},
};

#[tokio::test]
async fn a_saved_policy_takes_effect_and_a_bad_one_does_not() {
    let (old, new) = (Upstream::start().await, Upstream::start().await);
    old.always(Script::says("old"));
    new.always(Script::says("new"));
    let setup = Setup::new().backend("old", &old.base_url()).backend("new", &new.base_url());
    let before = setup.clone().policies("routes: {chain: {order: [old-model]}}");
    let after = setup.clone().policies("routes: {chain: {order: [new-model]}}").policy_file();
    let bad = setup.policies("routes: {chain: {order: [no-such-model]}}").policy_file();
    let gateway = before.start().await;
    let first = gateway.ask("chain").await;
    first.says("old");
    assert_eq!(gateway.metric("turnpike_config_last_reload_successful", &[]).await, 1.0);

    gateway.save_policies(&bad);
    until("the bad file is seen", async || gateway.metric("turnpike_config_last_reload_successful", &[]).await == 0.0)
        .await;
    until("the log names the fault", async || gateway.log().contains("no-such-model")).await;
    let still = gateway.ask("chain").await;
    still.says("old");
    assert_eq!(still.header("x-turnpike-policy"), first.header("x-turnpike-policy"));

    gateway.save_policies(&after);
    until("the good file is in force", async || gateway.ask("chain").await.content() == "new").await;
    // It serves a moment before it says so.
    until("it is told", async || gateway.metric("turnpike_config_last_reload_successful", &[]).await == 1.0).await;
    assert_ne!(gateway.ask("chain").await.header("x-turnpike-policy"), first.header("x-turnpike-policy"));
    assert_eq!(gateway.admin().get("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_stream_outlives_the_policy_that_it_began_under() {
    let upstream = Upstream::start().await;
    let gate = crate::upstream::Gate::closed();
    upstream.push(Script::says("long lived").after_events(2, crate::upstream::Fault::Wait(gate.clone())));
    let setup = Setup::new().backend("one", &upstream.base_url());
    let gateway = setup.start().await;
    let body = crate::harness::streamed("one-model");
    let mut stream = gateway.client().post_stream("/v1/chat/completions", &body).await;
    let begun = stream.read_until("long").await;
    gateway.save_policies(&setup.policy_file().replace("one-model", "renamed-model"));
    until("the model has gone", async || gateway.ask("one-model").await.status == 404).await;
    gate.release();
    let rest = stream.transcript().await;
    assert!(rest.is_done() && !rest.broken, "{begun} {}", rest.text());
}
