//! What `replay` prints, beside a count that knows nothing of it: plain JSON and long arithmetic.

use std::{collections::BTreeMap, path::Path, process::Command};

use serde_json::Value;

use crate::{
    again::lines,
    traffic::{demo, record, requests, save},
};

fn replay(arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnpike"));
    let output = command.arg("replay").args(arguments).arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn the_same_policies_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = demo("1.5 USD", str::to_owned);
    let (records, policies) = (folder.path().join("records"), folder.path().join("policies"));
    record(&records, &loaded, requests(), 11);
    save(&loaded, &policies);
    let answer = replay(&["--policies", text(&policies), text(&records)]);
    assert_eq!(answer["requests"], requests());
    assert_eq!((&answer["verified"]["other"], &answer["verified"]["unknown"]), (&0.into(), &0.into()));
    assert_eq!(answer["difference_nanousd"], 0);
    assert_eq!(answer["moves"], Value::Array(Vec::new()));
    let (mut old, mut new) = (answer["old"].clone(), answer["new"].clone());
    assert_eq!(old["estimated"], 0);
    // What was expected of a known answer is read from the record on one side and worked out on the other.
    for side in [&mut old, &mut new] {
        side.as_object_mut().unwrap().remove("exhausted");
    }
    assert_eq!(old, new);
    assert!(!answer["old"]["exhausted"].as_array().unwrap().is_empty(), "the budget ran out");
    assert_eq!(answer["old"]["exhausted"], answer["new"]["exhausted"]);
    assert_eq!(answer["unreadable_lines"], 0);
}

/// The rates of one candidate, in nano-USD per million tokens: input, cached input, output.
type Rates = BTreeMap<&'static str, [i128; 3]>;

/// The cost of an attempt by those rates, rounded up.
fn cost(attempt: &Value, rates: &Rates) -> i128 {
    let of = |name: &str| i128::from(attempt[name].as_u64().unwrap_or(0));
    let Some([input, cached, output]) = rates.get(attempt["candidate"].as_str().unwrap()) else { return 0 };
    let sum = (of("input") - of("cached_input")) * input + of("cached_input") * cached + of("output") * output;
    (sum + 999_999) / 1_000_000
}

#[test]
fn a_changed_price_changes_the_cost_by_what_an_independent_count_says() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = demo("4000 USD", str::to_owned);
    let (records, policies) = (folder.path().join("records"), folder.path().join("policies"));
    record(&records, &loaded, requests(), 12);
    // Own servers at twice the price: whoever was served there and stays is known, whoever leaves is estimated.
    let edited =
        demo("4000 USD", |text| text.replace("input: 0.60 USD, output: 1.80 USD", "input: 0.61 USD, output: 1.83 USD"));
    save(&edited, &policies);
    let answer = replay(&["--policies", text(&policies), text(&records)]);
    let rates: Rates = [("llama-405b@gpu", [10_000_000, 10_000_000, 30_000_000])].into();
    // Moves are the replay's word; what did not move is counted here: recorded cost and the higher price's difference.
    let moved: u64 = answer["moves"].as_array().unwrap().iter().map(|line| line["requests"].as_u64().unwrap()).sum();
    let (mut recorded, mut served, mut stayed) = (0_i128, 0_u64, 0_i128);
    let mut base: Rates = BTreeMap::new();
    base.insert("llama-405b@gpu", [600_000_000, 600_000_000, 1_800_000_000]);
    lines(&records, |line| {
        let line: Value = serde_json::from_slice(line).unwrap();
        recorded += i128::from(line["cost_nanousd"].as_i64().unwrap());
        served += u64::from(line["served"].is_string());
        for attempt in line["attempts"].as_array().unwrap() {
            if attempt["candidate"] == "llama-405b@gpu" {
                assert_eq!(
                    cost(attempt, &base),
                    i128::from(attempt["cost_nanousd"].as_i64().unwrap_or(0)),
                    "{attempt}"
                );
                stayed += cost(attempt, &[("llama-405b@gpu", [610_000_000, 610_000_000, 1_830_000_000])].into())
                    - cost(attempt, &base);
            }
        }
        let _ = &rates;
    });
    assert_eq!(i128::from(answer["old"]["cost_nanousd"].as_i64().unwrap()), recorded);
    assert_eq!(answer["old"]["served"], served);
    let difference = i128::from(answer["difference_nanousd"].as_i64().unwrap());
    assert_eq!(answer["new"]["estimated"], moved, "who did not move is known");
    if moved == 0 {
        assert_eq!(difference, stayed);
    } else {
        // Of those that moved, their own old cost goes and the estimate comes; the rest is exact.
        let of_moved: i128 = answer["moves"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| i128::from(line["difference_nanousd"].as_i64().unwrap()))
            .sum();
        let from_gpu = answer["moves"].as_array().unwrap().iter().any(|line| line["from"] == "llama-405b@gpu");
        assert!(from_gpu, "a dearer candidate loses requests: {answer}");
        assert!(difference - of_moved <= stayed && difference - of_moved > 0, "{difference} {of_moved} {stayed}");
    }
    let low = answer["new"]["cost_low_nanousd"].as_i64().unwrap();
    let high = answer["new"]["cost_high_nanousd"].as_i64().unwrap();
    let new = answer["new"]["cost_nanousd"].as_i64().unwrap();
    assert!(low <= new && new <= high && (low < high) == (moved > 0));
}

#[test]
fn a_route_that_is_turned_over_is_counted_request_by_request() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = demo("4000 USD", str::to_owned);
    let (records, policies) = (folder.path().join("records"), folder.path().join("policies"));
    record(&records, &loaded, requests().min(20_000), 13);
    // `cheap` goes in the order of the file now, and own servers come first in it.
    let edited = demo("4000 USD", |text| {
        text.replace(
            "cheap: {candidates: [deepseek-v4-flash, llama-405b, gpt-4o], prefer: cheapest}",
            "cheap: {order: [llama-405b]}",
        )
    });
    save(&edited, &policies);
    let answer = replay(&["--policies", text(&policies), text(&records)]);
    let mut leave = 0_u64;
    lines(&records, |line| {
        let line: Value = serde_json::from_slice(line).unwrap();
        let stays = line["served"].is_null() || line["served"] == "llama-405b@gpu";
        leave += u64::from(line["facts"]["model"] == "cheap" && !stays);
    });
    let moves = answer["moves"].as_array().unwrap();
    let count = |test: &dyn Fn(&Value) -> bool| -> u64 {
        moves.iter().filter(|line| test(line)).map(|line| line["requests"].as_u64().unwrap()).sum()
    };
    assert!(leave > 100, "{leave}");
    assert_eq!(count(&|line| !line["from"].is_null()), leave, "nobody else leaves anybody");
    assert_eq!(count(&|line| !line["to"].is_null() && line["to"] != "llama-405b@gpu"), 0, "and nobody goes elsewhere");
    assert!(count(&|line| line["to"] == "llama-405b@gpu") > leave * 9 / 10, "most are able there");
    assert_eq!(answer["changed_most"].as_array().unwrap().len(), 10);
    let sizes: Vec<i64> = answer["changed_most"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["new_nanousd"].as_i64().unwrap() - line["old_nanousd"].as_i64().unwrap()).abs())
        .collect();
    assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
}

#[test]
fn prices_of_another_day_cost_what_they_say_and_the_report_stands_alone() {
    let folder = tempfile::tempdir().unwrap();
    let edit = |text: &str| {
        text.replace(
            "\nprices:\n",
            "\nprices:\n  - {model: llama-405b, from: 2027-01-01, input: 0.30 USD, output: 0.90 USD}\n",
        )
        .replace(", source: \"the operator's own rate for two rented servers\"", ", until: 2027-01-01")
    };
    let loaded = demo("4000 USD", edit);
    let records = folder.path().join("records");
    record(&records, &loaded, 1_000, 14);
    let report = folder.path().join("report.html");
    let answer = replay(&["--prices-at", "2027-02-01", "--html", text(&report), text(&records)]);
    assert_eq!((&answer["verified"]["other"], &answer["verified"]["unknown"]), (&0.into(), &0.into()));
    let mut saved = 0_i128;
    lines(&records, |line| {
        let line: Value = serde_json::from_slice(line).unwrap();
        for attempt in line["attempts"].as_array().unwrap().iter().filter(|it| it["candidate"] == "llama-405b@gpu") {
            let before: Rates = [("llama-405b@gpu", [600_000_000, 600_000_000, 1_800_000_000])].into();
            let after: Rates = [("llama-405b@gpu", [300_000_000, 300_000_000, 900_000_000])].into();
            saved += cost(attempt, &before) - cost(attempt, &after);
        }
    });
    let of_moved: i128 = answer["moves"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| i128::from(line["difference_nanousd"].as_i64().unwrap()))
        .sum();
    let difference = i128::from(answer["difference_nanousd"].as_i64().unwrap());
    assert_eq!(difference - of_moved, -saved, "who stays at own servers saves half");
    let page = std::fs::read_to_string(report).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    for fetched in ["http://", "https://", "<script", "src=", "@import", "url("] {
        assert!(!page.contains(fetched), "`{fetched}` is in the page");
    }
    assert!(page.contains("<svg") && page.contains("prefers-color-scheme"));
}
