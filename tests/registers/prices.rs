//! `turnpike prices`: what is in force at an instant, in the vendor's currency and in dollars, and what comes next.

use serde_json::Value;

use super::{POLICIES, json, policies, run};

fn offer<'a>(answer: &'a Value, model: &str) -> &'a Value {
    let offers = answer["prices"].as_array().unwrap();
    offers.iter().find(|offer| offer["model"] == model).unwrap_or_else(|| panic!("{model} in {answer}"))
}

fn in_force(offer: &Value) -> &Value {
    let rows = offer["rows"].as_array().unwrap();
    let held: Vec<&Value> = rows.iter().filter(|row| row["state"] == "in force").collect();
    assert_eq!(held.len(), 1, "{offer}");
    held[0]
}

#[test]
fn the_factor_of_the_hour_and_its_next_change_are_told() {
    let folder = policies(POLICIES);
    let at = |time| json(folder.path(), &["prices", "fast", "--at", time]);
    let (peak, after) = (at("2026-11-23T09:00+08:00"), at("2026-11-23T12:00+08:00"));
    let now = |answer: &Value| {
        let row = in_force(offer(answer, "flash")).clone();
        (row["factor"].clone(), row["rates"][0]["usd_per_million_now"]["output"].clone())
    };
    assert_eq!(now(&peak), ("2".into(), "1.2".into()));
    assert_eq!(now(&after), ("1".into(), "0.6".into()));
    assert_eq!(offer(&peak, "flash")["next_factor"]["at"], "2026-11-23T04:00:00Z");
    assert_eq!(offer(&after, "flash")["next_factor"]["at"], "2026-11-23T06:00:00Z");
    let window = &in_force(offer(&peak, "flash"))["calendar"][0];
    assert_eq!(
        (&window["zone"], &window["days"], &window["hours"]),
        (&"Asia/Shanghai".into(), &"mon-fri".into(), &"09:00-12:00".into())
    );
    assert!(window["not_on"].as_array().unwrap().contains(&"2026-10-01".into()));
}

#[test]
fn prices_in_yuan_come_with_dollars_at_the_rate_of_that_moment_and_with_every_tier() {
    let folder = policies(POLICIES);
    let of = |time| json(folder.path(), &["prices", "qwen-plus", "--at", time]);
    let (october, november) = (of("2026-10-15"), of("2026-11-15"));
    let dollars =
        |answer: &Value| in_force(offer(answer, "qwen-plus"))["rates"][1]["usd_per_million"]["output"].clone();
    assert_eq!((dollars(&october), dollars(&november)), ("1.1112".into(), "1.12".into()));
    let rates = in_force(offer(&october, "qwen-plus"))["rates"].as_array().unwrap().clone();
    assert_eq!(rates.len(), 6);
    assert_eq!(
        (&rates[1]["input_upto"], &rates[1]["thinking"], &rates[1]["per_million"]["output"]),
        (&128_000.into(), &true.into(), &"8".into())
    );
}

#[test]
fn an_operators_announced_row_follows_the_catalogs_and_each_says_whose_it_is() {
    let folder = policies(POLICIES);
    let answer = json(folder.path(), &["prices", "gpt-4o", "--at", "2026-11-24"]);
    let offer = offer(&answer, "gpt-4o");
    let rows = offer["rows"].as_array().unwrap();
    let told: Vec<_> = rows.iter().map(|row| (row["state"].as_str().unwrap(), row["by"].as_str().unwrap())).collect();
    assert_eq!(told, [("past", "catalog"), ("in force", "catalog"), ("announced", "operator")]);
    assert_eq!(rows[1]["until"], "2026-12-01T00:00:00Z");
    assert_eq!(offer["next_row"]["at"], "2026-12-01T00:00:00Z");
    assert_eq!(rows[2]["source"], "our contract");
    let table = run(folder.path(), &["prices", "--at", "2026-11-24"]);
    assert_eq!(table.code, 0, "{table:?}");
    assert!(table.stdout.contains("another price from 2026-12-01"), "{}", table.stdout);
    let detailed = run(folder.path(), &["prices", "gpt-4o", "--at", "2026-11-24"]).stdout;
    assert!(detailed.contains("priority") && detailed.contains("our contract"), "{detailed}");
}

#[test]
fn without_policies_the_catalog_is_shown_and_an_unknown_name_gets_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let all = json(folder.path(), &["prices"]);
    assert!(all["prices"].as_array().unwrap().len() > 100);
    let ran = run(folder.path(), &["prices", "gpt-4oo"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("no price of `gpt-4oo` is known") && ran.stderr.contains("`gpt-4o`"), "{}", ran.stderr);
    assert!(ran.stdout.is_empty());
    let ran = run(folder.path(), &["prices", "--at", "yesterday"]);
    assert!(ran.code == 2 && ran.stderr.contains("hint: "), "{}", ran.stderr);
}
