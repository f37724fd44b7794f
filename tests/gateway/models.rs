//! The list of models: what the caller may name, in OpenAI's shape.

use crate::{
    harness::{Gateway, Setup},
    upstream::Upstream,
};

async fn gateway() -> (Gateway, Upstream) {
    let upstream = Upstream::start().await;
    let gateway = Setup::new()
        .backend("one", &upstream.base_url())
        .backend("two", &upstream.base_url())
        .team("fenced", "sk-fenced", "{may_use: [chain, one-model]}")
        .policies("routes: {chain: {order: [one-model, two-model]}}\naliases: {vendor/one: one-model}")
        .start()
        .await;
    (gateway, upstream)
}

async fn names(gateway: &Gateway, key: &str) -> Vec<String> {
    let list = gateway.client_with(key).get("/v1/models").await.json();
    assert_eq!(list["object"], "list", "{list}");
    let data = list["data"].as_array().unwrap();
    for model in data {
        assert_eq!(model["object"], "model", "{model}");
        assert!(model["created"].is_u64() && model["owned_by"].is_string(), "{model}");
    }
    data.iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_list_has_routes_and_models() {
    let (gateway, _upstream) = gateway().await;
    let names = names(&gateway, crate::harness::KEY).await;
    for name in ["chain", "one-model", "two-model"] {
        assert!(names.iter().any(|listed| listed == name), "`{name}` is missing: {names:?}");
    }
}

#[tokio::test]
async fn the_list_has_only_what_the_team_may_name() {
    let (gateway, _upstream) = gateway().await;
    let mut names = names(&gateway, "sk-fenced").await;
    names.sort();
    assert_eq!(names, ["chain", "one-model"]);
}

#[tokio::test]
async fn one_model_can_be_looked_up() {
    let (gateway, _upstream) = gateway().await;
    for name in ["chain", "one-model", "vendor/one", "vendor%2Fone"] {
        let model = gateway.client().get(&format!("/v1/models/{name}")).await;
        assert_eq!(model.status, 200, "{name}: {model:?}");
        assert_eq!(model.json()["object"], "model");
    }
    gateway.client().get("/v1/models/nothing").await.is_refused(404, "model_not_found");
    let fenced = gateway.client_with("sk-fenced").get("/v1/models/two-model").await;
    assert!([403, 404].contains(&fenced.status.as_u16()), "{fenced:?}");
}
