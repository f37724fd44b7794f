//! `turnpike budget` and its API: what budgets stand at, raises, and edits that keep what was spent.

use serde_json::{Value, json};

use crate::{
    harness::{Answer, Gateway, Setup, chat, until},
    upstream::{Script, Upstream},
};

const PATH: &str = "/v1/chat/completions";
const OPS: &str = "token-of-the-operators";
const READER: &str = "token-of-a-dashboard";

/// A team `thrifty` (key `sk-thrifty`) with these budgets; each answer costs 8 millidollars and a little.
fn setup(upstream: &Upstream, budgets: &str) -> Setup {
    upstream.always(Script::says(&"word ".repeat(1000)));
    Setup::new()
        .backend("one", &upstream.base_url())
        .team(
            "thrifty",
            "sk-thrifty",
            &format!("{{budgets: [{budgets}], per_user: {{budgets: [{{name: day, limit: 1 USD, per: day}}]}}}}"),
        )
        .token("ops", OPS, "read, budgets")
        .token("reader", READER, "read")
}

const MONTH: &str = "{name: month, limit: 0.01 USD, per: month}";

async fn ask(gateway: &Gateway) -> Answer {
    let mut body = chat("one-model");
    body["max_completion_tokens"] = json!(1000);
    gateway.client_with("sk-thrifty").post(PATH, &body).await
}

fn operator(gateway: &Gateway, token: &str) -> crate::harness::Client {
    gateway.admin().header("authorization", &format!("Bearer {token}"))
}

/// The line of that budget in a list.
fn line(list: &Value, id: &str) -> Value {
    let line = list["budgets"].as_array().unwrap().iter().find(|line| line["id"] == id).cloned();
    line.unwrap_or_else(|| panic!("{id} is not in {list}"))
}

#[tokio::test]
async fn a_raise_is_in_force_at_once_and_booked() {
    let upstream = Upstream::start().await;
    let gateway = setup(&upstream, MONTH).start().await;
    ask(&gateway).await;
    ask(&gateway).await.is_refused(402, "budget_exceeded");
    let raise = |amount: &str, until: &str| json!({"budget": "team/thrifty/month", "amount": amount, "until": until, "why": "a launch"});
    let api = "/api/v1/budgets/raise";
    let ops = operator(&gateway, OPS);
    assert_eq!(operator(&gateway, READER).post(api, &raise("1 USD", "2100-01-01T00:00:00Z")).await.status, 403);
    assert_eq!(gateway.admin().post(api, &raise("1 USD", "2100-01-01T00:00:00Z")).await.status, 401);
    for (amount, until, told) in [
        ("1 USD", "2020-01-01T00:00:00Z", "the end lies in the past"),
        ("1k tokens", "2100-01-01T00:00:00Z", "another unit"),
        ("1", "2100-01-01T00:00:00Z", "has no unit"),
        ("9007199.25 USD", "2100-01-01T00:00:00Z", "more than a budget can hold"),
    ] {
        let refused = ops.post(api, &raise(amount, until)).await;
        assert!(refused.status == 400 && refused.message().contains(told), "{refused:?}");
    }
    let mut unknown = raise("1 USD", "2100-01-01T00:00:00Z");
    unknown["budget"] = json!("team/thrifty/mont");
    let refused = ops.post(api, &unknown).await;
    assert!(refused.status == 404 && refused.message().contains("team/thrifty/month"), "{refused:?}");

    let raised = ops.post(api, &raise("0.01 USD", "2100-01-01T00:00:00Z")).await;
    assert_eq!(raised.status, 201, "{raised:?}");
    assert_eq!((&raised.json()["limit"], &raised.json()["raised"]), (&json!("0.02"), &json!("0.01")));
    assert_eq!(raised.json()["raises"][0]["who"], "ops");
    assert_eq!(ask(&gateway).await.status, 200);
    ask(&gateway).await.is_refused(402, "budget_exceeded");
    assert_eq!(gateway.metric("turnpike_budget_limit_usd", &["thrifty"]).await, 0.02);

    let list = ops.get("/api/v1/budgets?team=thrifty").await.json();
    let month = line(&list, "team/thrifty/month");
    assert_eq!((&month["unit"], &month["per"], &month["held"]), (&json!("usd"), &json!("month"), &json!("0")));
    assert_eq!(month["raises"][0]["why"], "a launch");
    assert!(ops.get("/api/v1/budgets?team=test").await.json()["budgets"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn the_commands_work_with_a_gateway_and_without_one() {
    let upstream = Upstream::start().await;
    let site = setup(&upstream, MONTH).site();
    let token = [("TURNPIKE_TOKEN", OPS)];
    let run = |arguments: &[&str]| site.run_with(&token, &[&["budget"], arguments].concat());
    let raise = |more: &[&str]| run(&[&["raise", "team/thrifty/month"], more].concat());
    raise(&["0.01 USD", "--for", "4h"]).failed(2, &["--why"]);
    raise(&["0.01 USD", "--why", "x"]).failed(2, &["--until"]);
    raise(&["0.01", "--for", "4h", "--why", "x"]).failed(2, &["has no unit"]);
    run(&["raise", "team/thrifty/year", "1 USD", "--for", "4h", "--why", "x"]).failed(1, &["there is no budget"]);
    let raised = raise(&["0.01", "USD", "--until", "2100-01-01", "--why", "before it runs", "--json"]).json();
    assert_eq!((&raised["limit"], &raised["left"]), (&json!("0.02"), &json!("0.02")));
    assert!(raised["raises"][0]["who"].as_str().is_some_and(|who| who != "ops"), "{raised}");

    let gateway = site.start().await;
    for _ in 0..2 {
        assert_eq!(ask(&gateway).await.status, 200);
    }
    ask(&gateway).await.is_refused(402, "budget_exceeded");
    let said = raise(&["0.01 USD", "--for", "4h", "--why", "while it runs"]);
    assert!(said.stderr.contains("`team/thrifty/month` is raised by 0.01 USD until"), "{said:?}");
    said.done();
    assert_eq!(ask(&gateway).await.status, 200);
    run(&["raise", "user/thrifty/ann@example.com/day", "1 USD", "--for", "1h", "--why", "x"]).done();
    run(&["raise", "user/thrifty//day", "1 USD", "--for", "1h", "--why", "x"]).failed(1, &["there is no budget"]);
    let table = run(&["list"]).done();
    for part in ["budget", "team/thrifty/month", "0.03", "pace", "0.02 by 2"] {
        assert!(table.contains(part), "`{part}` is missing:\n{table}");
    }
    let mut body = chat("one-model");
    body["user"] = json!("ann@example.com");
    body["max_completion_tokens"] = json!(10);
    assert_eq!(gateway.client_with("sk-thrifty").post(PATH, &body).await.status, 200);
    let users = run(&["list", "--users", "--json"]).json();
    let ann = line(&users, "user/thrifty/ann@example.com/day");
    assert_eq!((&ann["kind"], &ann["limit"], &ann["raised"]), (&json!("user"), &json!("2"), &json!("1")));
    let spent = line(&run(&["list", "--team", "thrifty", "--json"]).json(), "team/thrifty/month")["used"].clone();
    drop(gateway);
    until("the books are free", async || site.run(&["budget", "list", "--json"]).code == Some(0)).await;
    let after = line(&site.run(&["budget", "list", "--json"]).json(), "team/thrifty/month");
    assert_eq!((&after["used"], after["raises"].as_array().unwrap().len()), (&spent, 2), "{after}");
}

#[tokio::test]
async fn an_edit_of_a_budget_keeps_what_was_spent() {
    let upstream = Upstream::start().await;
    let gateway = setup(&upstream, MONTH).start().await;
    ask(&gateway).await;
    let used = async || {
        let list = operator(&gateway, OPS).get("/api/v1/budgets").await.json();
        let month = line(&list, "team/thrifty/month");
        (month["used"].as_str().unwrap().to_owned(), month["limit"].as_str().unwrap().to_owned(), month["per"].clone())
    };
    let (spent, ..) = used().await;
    assert!(spent.starts_with("0.008"), "{spent}");
    let edits = [
        ("{name: month, limit: 0.02 USD, per: month}", "0.02", "month"),
        ("{name: month, limit: 0.005 USD, per: week}", "0.005", "week"),
        ("{name: month, limit: 0.005 USD, per: day, zone: Asia/Tokyo}", "0.005", "day"),
        ("{name: month, limit: 0.5 USD, per: month, zone: Europe/Berlin}", "0.5", "month"),
    ];
    for (budget, limit, per) in edits {
        gateway.save_policies(&setup(&upstream, budget).policy_file());
        until("the edit is in force", async || used().await == (spent.clone(), limit.to_owned(), json!(per))).await;
        if limit == "0.005" {
            ask(&gateway).await.is_refused(402, "budget_exceeded");
        }
    }
    assert_eq!(ask(&gateway).await.status, 200);
}
