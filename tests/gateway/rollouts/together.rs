//! Two gateways with one store judge an arm by what both have served; without the store each by its own.

use super::*;

const PAGES: &str = "{tp:turnpike}:g";

async fn two(setup: &Setup) -> (Gateway, Gateway) {
    let sites = [setup.site(), setup.site()];
    let (one, two) = tokio::join!(sites[0].start(), sites[1].start());
    for gateway in [&one, &two] {
        until("the store is up", async || gateway.metric("turnpike_store_up", &[]).await == 1.0).await;
    }
    (one, two)
}

/// What the guard would judge the new arm by: requests and gateways.
async fn seen(gateway: &Gateway) -> (f64, f64) {
    let arm = ["route=\"canary\"", "arm=\"new-model\""];
    let requests = gateway.metric("turnpike_rollout_requests", &arm).await;
    (requests, gateway.metric("turnpike_rollout_gateways", &arm).await)
}

async fn until_seen(gateway: &Gateway, requests: f64, gateways: f64) {
    until("it knows what both have seen", async || seen(gateway).await == (requests, gateways)).await;
}

async fn pages(redis: &Server) -> std::collections::HashMap<String, String> {
    ::redis::cmd("HGETALL").arg(PAGES).query_async(&mut redis.look().await).await.unwrap()
}

#[tokio::test]
async fn two_gateways_withdraw_an_arm_of_which_neither_has_seen_enough() {
    let (old, new) = upstreams().await;
    new.always(Script::error(500, "internal", "down"));
    let (redis, receiver) = (Server::start(&[]).await, Receiver::start(&[]).await);
    let notify = format!("notify: [{{webhook: \"{}\", on: [rollout_withdrawn]}}]", receiver.address);
    let store = format!("store: {{redis: \"{}\"}}", redis.url());
    let (mut one, two) = two(&setup(&old, &new).policies(&notify).server(&store)).await;
    deal(&one, 20).await;
    until_seen(&two, 20.0, 1.0).await;
    deal(&two, 19).await;
    until_seen(&one, 39.0, 2.0).await;

    // Who was restarted tells the same again, and what was told under its name is told by nobody else.
    let site = one.site().clone();
    one.terminate();
    assert_eq!(one.exit_code().await, Some(0));
    drop(one);
    let one = site.start().await;
    until_seen(&one, 39.0, 2.0).await;
    // A store that has lost its data is told again.
    redis.tell("FLUSHALL").await;
    until("both have told again", async || pages(&redis).await.len() == 2).await;
    for gateway in [&one, &two] {
        until_seen(gateway, 39.0, 2.0).await;
    }
    assert!(!is_withdrawn(&one).await && !is_withdrawn(&two).await, "{}{}", one.log(), two.log());

    deal(&one, 1).await;
    for gateway in [&one, &two] {
        until("it is withdrawn", async || is_withdrawn(gateway).await).await;
    }
    let log = one.log() + &two.log();
    let told = log.lines().find(|line| line.contains("rollout withdrawn")).unwrap_or_else(|| panic!("{log}"));
    assert!(told.contains("error rate 100.0 % of 40 requests"), "{told}");
    assert!(told.contains("(seen at 2 gateways)") && told.contains("requests=40 gateways=2"), "{told}");
    until("the receiver is told", async || !receiver.taken().is_empty()).await;
    let notices = receiver.taken();
    assert!(notices.iter().all(|notice| notice["id"] == notices[0]["id"]), "one event, whoever found it: {notices:?}");
    assert_eq!((&notices[0]["requests"], &notices[0]["gateways"]), (&json!(40), &json!(2)));
}

#[tokio::test]
async fn without_the_store_each_judges_by_its_own_and_tells_it_when_the_store_is_back() {
    let (old, new) = upstreams().await;
    new.always(Script::error(500, "internal", "down"));
    let mut redis = Server::start(&[]).await;
    let (one, two) = two(&setup(&old, &new).server(&format!("store: {{redis: \"{}\"}}", redis.url()))).await;
    redis.kill();
    deal(&one, 30).await;
    deal(&two, 30).await;
    assert!(!is_withdrawn(&one).await && !is_withdrawn(&two).await, "{}{}", one.log(), two.log());
    deal(&one, 10).await;
    assert!(is_withdrawn(&one).await && !is_withdrawn(&two).await, "{}{}", one.log(), two.log());
    assert!(!one.log().contains("seen at"), "{}", one.log());
    redis.run().await;
    until("the other hears of it", async || is_withdrawn(&two).await).await;
}

#[tokio::test]
async fn what_a_gateway_saw_that_is_gone_counts_for_a_day_and_an_edit_begins_anew_at_all() {
    let (old, new) = upstreams().await;
    let redis = Server::start(&[]).await;
    let setup = setup(&old, &new).server(&format!("store: {{redis: \"{}\"}}", redis.url()));
    let (one, two) = two(&setup).await;
    deal(&one, 12).await;
    until_seen(&two, 12.0, 1.0).await;
    drop(one);
    deal(&two, 3).await;
    until_seen(&two, 15.0, 2.0).await;
    // The same a year ago, by another that is gone.
    let page = pages(&redis).await.into_values().find(|page| page.contains("\"total\":12")).unwrap();
    let mut page: Value = serde_json::from_str(&page).unwrap();
    page["at_ms"] = json!(1_700_000_000_000_i64);
    let mut put_up = ::redis::cmd("HSET");
    put_up.arg(PAGES).arg("gone").arg(page.to_string());
    put_up.query_async::<()>(&mut redis.look().await).await.unwrap();
    until("it is taken down", async || !pages(&redis).await.contains_key("gone")).await;
    assert_eq!(seen(&two).await, (15.0, 2.0));

    two.save_policies(&setup.policy_file().replace(&split("60", "40"), &split("60", "41")));
    until_seen(&two, 0.0, 0.0).await;
    deal(&two, 2).await;
    until_seen(&two, 2.0, 1.0).await;
}
