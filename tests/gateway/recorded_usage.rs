//! Usage from records: the same sums as from the books, in every grouping.

use serde_json::{Value, json};

use crate::{
    harness::{Gateway, KEY, Setup, chat, streamed_with_usage, until},
    upstream::{Script, Upstream},
};

const PATH: &str = "/v1/chat/completions";

fn setup(one: &Upstream, two: &Upstream) -> Setup {
    Setup::new()
        .backend_with("one", &one.base_url(), "provider: openai, location: eu")
        .backend_with("two", &two.base_url(), "provider: deepseek, location: eu")
        .team("labelled", "sk-labelled", "{labels: {cost_center: \"4711\"}, budgets: [{name: d, limit: 9 USD, per: day}]}")
        .policies(
            "aliases: {nick: auto}\nroutes:\n  auto: {order: [one-model, two-model], shadow: {to: two-model, share: 40%, \
             limit: 1 USD/day}}\n  dealt: {split: {one-model: 50, two-model: 50}, by: request}",
        )
}

async fn traffic(gateway: &Gateway, one: &Upstream) {
    for number in 0..40 {
        match number % 8 {
            1 => one.push(Script::error(500, "server_error", "no")),
            3 => one.push(Script::says("half of it is lost").cut_after_events(2)),
            5 => one.push(Script::says("nobody tells how much").without_usage()),
            _ => {}
        }
        let client = gateway.client_with([KEY, "sk-labelled"][number % 2]);
        let client = client.header("x-turnpike-user", &format!("user-{}", number % 3));
        let model = ["auto", "dealt", "nick", "one-model", "two-model"][number % 5];
        if number % 3 == 0 {
            client.post(PATH, &chat(model)).await;
        } else {
            client.post_stream(PATH, &streamed_with_usage(model)).await.transcript().await;
        }
    }
    let refused = json!({"model": "auto", "messages": chat("auto")["messages"], "max_tokens": 4_000_000});
    gateway.client_with("sk-labelled").post(PATH, &refused).await;
}

#[tokio::test]
async fn sums_of_records_are_those_of_the_books() {
    let (one, two) = (Upstream::start().await, Upstream::start().await);
    let mut gateway = setup(&one, &two).start().await;
    traffic(&gateway, &one).await;
    until("nothing is under way", async || gateway.metric("turnpike_holds_open", &[]).await == 0.0).await;
    gateway.terminate();
    assert_eq!(gateway.exit_code().await, Some(0));
    let site = gateway.site();
    let whole = site.run(&["usage", "--json"]).json();
    assert!(whole["total"]["requests"].as_u64() > Some(40), "shadows count, too: {whole}");
    assert!(whole["total"]["attempts"].as_u64() > whole["total"]["requests"].as_u64(), "some failed over: {whole}");
    for by in [
        "",
        "team,user,key",
        "route,arm",
        "model,upstream,backend,provider,account",
        "operation,outcome",
        "day,hour",
        "label:cost_center",
    ] {
        let ask = |more: &[&str]| -> Value {
            let mut answer = site.run(&[&["usage", "--json", "--by", by], more].concat()).json();
            answer["until"] = Value::Null;
            answer
        };
        assert_eq!(ask(&["--records", "data/records"]), ask(&[]), "by {by}");
    }
    let filtered =
        |more: &[&str]| site.run(&[&["usage", "--team", "labelled", "--by", "model", "--csv"], more].concat()).done();
    assert_eq!(filtered(&["--records", "data/records"]), filtered(&[]));
    let told = site.run(&["usage", "--records", "data/records"]);
    assert!(told.stderr.contains("the books are the truth"), "{told:?}");
    site.run(&["usage", "--records", "data/none"]).failed(1, &["`data/none` cannot be read", "hint: "]);
    site.run(&["usage", "--records", "data/records", "--against", "2026-01"]).failed(2, &["--against"]);
}
