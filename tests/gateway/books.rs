//! The books in use: what `usage` and `audit` say is what the upstream billed, with a gateway running and without.

use serde_json::Value;

use crate::{
    harness::{Gateway, Setup, Site, chat, streamed, until},
    upstream::{Gate, Script, Upstream},
};

const READER: &str = "token-of-a-dashboard";
const TOKEN: (&str, &str) = ("TURNPIKE_TOKEN", READER);
const PATH: &str = "/v1/chat/completions";

/// A gateway whose second team has a budget.
async fn gateway() -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let team = "{budgets: [{name: month, limit: 5 USD, per: month}], labels: {cost_center: \"4711\"}}";
    let setup = Setup::new().backend("one", &upstream.base_url()).token("reader", READER, "read");
    (upstream, setup.team("thrifty", "sk-thrifty", team).start().await)
}

/// What the upstream billed, in nano-dollars: 2,000 for a token read, 8,000 for one written.
fn billed(upstream: &Upstream) -> u64 {
    upstream.tally().billed.values().map(|billed| billed.input * 2_000 + billed.output * 8_000).sum()
}

/// A decimal of the API in nano-dollars.
fn nano(value: &Value) -> u64 {
    (value.as_f64().unwrap() * 1e9).round() as u64
}

async fn until_settled(gateway: &Gateway) {
    until("no hold is open", async || gateway.metric("turnpike_holds_open", &[]).await == 0.0).await;
}

fn usage(site: &Site, arguments: &[&str]) -> Value {
    site.run(&[&["usage", "--json"], arguments].concat()).json()
}

#[tokio::test]
async fn usage_says_what_was_billed_to_whom() {
    let (upstream, gateway) = gateway().await;
    upstream.always(Script::says("a b c d e"));
    gateway.ask("one-model").await.says("a b c d e");
    let thrifty = gateway.client_with("sk-thrifty");
    for _ in 0..2 {
        thrifty.post(PATH, &chat("one-model")).await.says("a b c d e");
    }
    until_settled(&gateway).await;
    let site = gateway.site().clone();
    let by_team = usage(&site, &["--by", "team,day,label:cost_center"]);
    assert_eq!(nano(&by_team["total"]["charge_usd"]), billed(&upstream));
    assert_eq!((&by_team["total"]["requests"], &by_team["total"]["attempts"]), (&3.into(), &3.into()));
    let lines = by_team["lines"].as_array().unwrap();
    let told = |line: &Value| (line["group"]["team"].clone(), line["group"]["label:cost_center"].clone());
    assert_eq!(
        lines.iter().map(told).collect::<Vec<_>>(),
        [("test".into(), "".into()), ("thrifty".into(), "4711".into())]
    );
    let only = usage(&site, &["--team", "thrifty", "--label", "cost_center=4711"]);
    assert_eq!(nano(&only["total"]["charge_usd"]) * 3, billed(&upstream) * 2);
    // The running gateway says the same over its API.
    let server = site.admin_url();
    let remote = ["usage", "--json", "--by", "team,day,label:cost_center", "--server", &server];
    let remote = site.run_with(&[TOKEN], &remote).json();
    assert_eq!(remote["lines"], by_team["lines"]);
    site.run(&["usage", "--server", &server]).failed(1, &["wants a token"]);
    site.run_with(&[TOKEN], &["usage", "--by", "colour", "--server", &server]).failed(2, &["no `colour`", "hint: "]);
    // And so do the other forms, and the folder of a gateway that has ended.
    let csv = site.run(&["usage", "--by", "team", "--csv"]).done();
    assert!(csv.starts_with("team,requests,attempts,input_tokens,") && csv.contains("\nthrifty,2,2,"), "{csv}");
    let table = site.run(&["usage", "--by", "team"]).done();
    assert!(table.contains("thrifty") && table.contains("total"), "{table}");
    drop(gateway);
    assert_eq!(usage(&site, &["--by", "team,day,label:cost_center"])["lines"], by_team["lines"]);
}

#[tokio::test]
async fn a_difference_is_split_into_parts_that_sum_to_it() {
    let (upstream, gateway) = gateway().await;
    upstream.always(Script::says("a b c"));
    gateway.ask("one-model").await.says("a b c");
    upstream.push(Script::error(503, "overloaded", "come again"));
    gateway.ask("one-model").await;
    until_settled(&gateway).await;
    let compared = usage(gateway.site(), &["--against", "2026-01", "--why"]);
    let parts = compared["why"]["parts"].as_array().unwrap();
    let sum: u64 = parts.iter().map(|part| nano(&part["usd"])).sum();
    assert_eq!((sum, parts.len()), (billed(&upstream), 11));
    let text = gateway.site().run(&["usage", "--against", "2026-01", "--why"]).done();
    for part in ["volume", "exchange rate", "retries and hedges", "rounding", "sum"] {
        assert!(text.contains(part), "`{part}` is missing:\n{text}");
    }
}

#[tokio::test]
async fn an_audit_proves_that_the_books_balance_and_names_what_does_not() {
    let (upstream, gateway) = gateway().await;
    upstream.always(Script::says("a b c"));
    for _ in 0..3 {
        gateway.client_with("sk-thrifty").post(PATH, &chat("one-model")).await.says("a b c");
    }
    until_settled(&gateway).await;
    let site = gateway.site().clone();
    let running = site.run_with(&[TOKEN], &["audit", "--json"]).json();
    assert_eq!(
        (&running["balanced"], &running["requests"], &running["compared"]),
        (&true.into(), &3.into(), &1.into())
    );
    assert_eq!(nano(&running["charge_usd"]), billed(&upstream));
    site.run(&["audit"]).failed(1, &["wants a token"]);
    gateway.terminate();
    drop(gateway);
    assert!(site.run(&["audit"]).done().contains("the books balance: 3 requests"));
    // A bit of the journal turns over.
    let segment = first_segment(&site);
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&segment, bytes).unwrap();
    let damaged = site.run(&["audit"]);
    assert_eq!(damaged.code, Some(1), "{damaged:?}");
    assert!(damaged.stdout.contains("are no entry"), "{damaged:?}");
}

#[tokio::test]
async fn the_books_balance_after_a_kill_and_tell_what_was_swept() {
    let (upstream, gateway) = gateway().await;
    upstream.always(Script::says("a b c"));
    let thrifty = gateway.client_with("sk-thrifty");
    thrifty.post(PATH, &chat("one-model")).await.says("a b c");
    let gate = Gate::closed();
    upstream.always(Script::says("a b c").behind(&gate));
    let under_way: Vec<_> = [chat("one-model"), streamed("one-model")]
        .map(|body| {
            let client = gateway.client_with("sk-thrifty");
            // The connection breaks with the gateway, and with it the task.
            tokio::spawn(async move { client.post(PATH, &body).await })
        })
        .into();
    until("two holds are open", async || gateway.metric("turnpike_holds_open", &[]).await == 2.0).await;
    let site = gateway.site().clone();
    drop(gateway);
    for asked in under_way {
        let _ = asked.await;
    }
    // Nobody has swept yet: the holds are under way for all that the books know.
    let between = site.run(&["audit", "--json"]).json();
    assert_eq!((&between["balanced"], &between["under_way"]), (&true.into(), &2.into()), "{between}");
    let _gateway = site.start().await;
    let after = site.run_with(&[TOKEN], &["audit", "--json"]).json();
    assert_eq!(
        (&after["balanced"], &after["requests"], &after["under_way"]),
        (&true.into(), &3.into(), &0.into()),
        "{after}"
    );
    let swept = nano(&after["swept_usd"]);
    assert!(swept > 0 && nano(&after["charge_usd"]) >= billed(&upstream), "{after}");
    let told = usage(&site, &["--by", "outcome"]);
    assert_eq!(nano(&told["total"]["swept_usd"]), swept);
    assert_eq!(told["lines"][1]["group"]["outcome"], "swept", "{told}");
}

fn first_segment(site: &Site) -> std::path::PathBuf {
    let files = std::fs::read_dir(site.path().join("data/books")).unwrap();
    let mut segments: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|kind| kind == "seg"));
    segments.sort();
    segments.remove(0)
}

#[tokio::test]
async fn a_bill_is_compared_by_day_and_model() {
    let (upstream, gateway) = gateway().await;
    upstream.always(Script::says("a b c d e"));
    for _ in 0..2 {
        gateway.ask("one-model").await.says("a b c d e");
    }
    until_settled(&gateway).await;
    let site = gateway.site().clone();
    let day = usage(&site, &["--by", "day"])["lines"][0]["group"]["day"].as_str().unwrap().to_owned();
    let read = upstream.tally().billed["one-upstream"];
    let amount = |nano: u64| format!("0.{nano:09}");
    let bill = |output: u64, amount: &str| {
        let head = "date,model,input_tokens,output_tokens,amount,currency";
        let line = format!("{day},one-upstream-2026-08-06,{},{output},{amount},USD", read.input);
        std::fs::write(site.path().join("bill.csv"), format!("{head}\n{line}\n")).unwrap();
    };
    bill(read.output, &amount(billed(&upstream)));
    let agreed = site.run(&["audit", "--invoice", "bill.csv"]).done();
    assert!(agreed.contains("plain: 1 of 1 days and models agree"), "{agreed}");
    bill(read.output + 1, &amount(billed(&upstream) + 8_000));
    let differs = site.run(&["audit", "--invoice", "bill.csv"]);
    assert_eq!(differs.code, Some(1), "{differs:?}");
    assert!(differs.stdout.contains("-0.000008") && differs.stdout.contains("output"), "{differs:?}");
    let answer: Value = serde_json::from_str(&site.run(&["audit", "--invoice", "bill.csv", "--json"]).stdout).unwrap();
    assert_eq!((&answer["agree"], &answer["differ"]), (&false.into(), &1.into()));
    assert!(site.run(&["audit", "--invoice", "bill.csv", "--tolerance", "50%"]).code == Some(0));
    site.run(&["audit", "--invoice", "bill.csv", "--tolerance", "much"]).failed(2, &["hint: write `0.5%`"]);
    site.run(&["audit", "--invoice", "turnpike.yaml"]).failed(1, &["of no known bill", "hint: "]);
}
