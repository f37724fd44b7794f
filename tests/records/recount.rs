//! What `replay` prints, beside a count that knows nothing of it ([`crate::count`]).

use std::{path::Path, process::Command};

use serde_json::Value;
use turnpike::config::Loaded;

use crate::{
    count::{Count, Order, Sums, count},
    traffic::{demo, record, requests, save},
};

pub fn replay(arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnpike"));
    let output = command.arg("replay").args(arguments).arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A budget that binds nobody.
const AMPLE: &str = "400000 USD";

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

/// Holds every sum of a replay against the count.
#[track_caller]
fn agree(answer: &Value, count: &Count) {
    let number = |value: &Value| i128::from(value.as_i64().unwrap());
    for (side, sums) in [(&answer["old"], &count.old), (&answer["new"], &count.new)] {
        let by_candidate = side["by_candidate"].as_object().unwrap().iter();
        let of = |line: &Value| (line["requests"].as_u64().unwrap(), number(&line["cost_nanousd"]));
        let refused = side["refused"].as_object().unwrap().iter();
        let printed = Sums {
            cost: number(&side["cost_nanousd"]),
            served: side["served"].as_u64().unwrap(),
            known: side["known"].as_u64().unwrap(),
            estimated: side["estimated"].as_u64().unwrap(),
            estimated_cost: number(&side["estimated_nanousd"]),
            by_candidate: by_candidate.map(|(label, line)| (label.clone(), of(line))).collect(),
            refused: refused.map(|(code, many)| (code.clone(), many.as_u64().unwrap())).collect(),
        };
        assert_eq!(printed, *sums);
    }
    assert_eq!(number(&answer["difference_nanousd"]), count.new.cost - count.old.cost);
    let moves = answer["moves"].as_array().unwrap().iter().map(|line| {
        let who = |side: &Value| side.as_str().unwrap_or_default().to_owned();
        let moved = (line["requests"].as_u64().unwrap(), number(&line["difference_nanousd"]));
        ((who(&line["from"]), who(&line["to"])), moved)
    });
    assert_eq!(moves.collect::<std::collections::BTreeMap<_, _>>(), count.moves);
    let ends =
        [(&answer["new"]["cost_low_nanousd"], count.within.0), (&answer["new"]["cost_high_nanousd"], count.within.1)];
    for (printed, counted) in ends {
        // Sums of floats in another order.
        let (printed, near) = (printed.as_i64().unwrap() as f64, 2.0 + counted * 1e-9);
        assert!((printed - counted).abs() <= near, "{printed} {counted}");
    }
}

struct Case {
    folder: tempfile::TempDir,
    edited: Loaded,
}

impl Case {
    fn new(seed: u64, edit: impl Fn(&str) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        record(&folder.path().join("records"), &demo(AMPLE, str::to_owned), requests(), seed);
        let edited = demo(AMPLE, edit);
        save(&edited, &folder.path().join("policies"));
        Self { folder, edited }
    }

    fn agrees(&self, order: impl Fn(&str) -> Order) -> (Value, Count) {
        let records = self.folder.path().join("records");
        let answer = replay(&["--policies", text(&self.folder.path().join("policies")), text(&records)]);
        assert_eq!((&answer["verified"]["other"], &answer["verified"]["unknown"]), (&0.into(), &0.into()));
        let count = count(&records, &self.edited.policies, order);
        agree(&answer, &count);
        (answer, count)
    }
}

#[test]
fn a_changed_price_changes_what_an_independent_count_says_also_of_those_that_move() {
    for (seed, input, output) in [(12, "0.61", "1.83"), (15, "0.06", "0.18"), (16, "6.00", "18.00")] {
        let price = format!("input: {input} USD, output: {output} USD");
        let case = Case::new(seed, |text| text.replace("input: 0.60 USD, output: 1.80 USD", &price));
        let (_, count) = case.agrees(|_| Order::Recorded);
        println!("{} of {} move at {price}", count.new.estimated, count.new.served);
        assert!(count.new.estimated > 0 && count.new.known > 0, "too dull");
    }
}

#[test]
fn a_changed_policy_changes_what_an_independent_count_says_also_of_those_that_move() {
    let case = Case::new(17, |text| text.replace("prefer: best}", "prefer: balanced}"));
    let (_, count) = case.agrees(|model| if model == "best" { Order::Worth } else { Order::Recorded });
    assert!(count.moves.len() > 3 && count.new.estimated > 50, "{:?}", count.moves);
    let case =
        Case::new(18, |text| text.replace("prefer: fastest}", "prefer: {right_answer: 0.02 USD, second: 0.0002 USD}}"));
    let (_, count) = case.agrees(|model| if model == "fast" { Order::Worth } else { Order::Recorded });
    assert!(count.new.estimated > 50, "{:?}", count.moves);
}

#[test]
fn what_is_said_of_new_policies_does_not_depend_on_what_they_are_compared_with() {
    let case = Case::new(19, |text| text.replace("prefer: best}", "prefer: balanced}"));
    let [records, policies, against] = ["records", "policies", "against"].map(|name| case.folder.path().join(name));
    save(&demo(AMPLE, |text| text.replace("prefer: best}", "prefer: cheapest}")), &against);
    let beside_records = replay(&["--policies", text(&policies), text(&records)]);
    let beside_others = replay(&["--policies", text(&policies), "--against", text(&against), text(&records)]);
    assert!(beside_records["new"]["estimated"].as_u64() > Some(50), "too dull: {}", beside_records["new"]);
    assert_ne!(beside_records["old"]["cost_nanousd"], beside_others["old"]["cost_nanousd"]);
    assert_eq!(beside_records["new"], beside_others["new"]);
}

#[test]
fn a_route_that_is_turned_over_is_counted_request_by_request() {
    // `cheap` goes to own servers alone now, whether they are full, down or well.
    let case = Case::new(13, |text| {
        text.replace(
            "cheap: {candidates: [deepseek-v4-flash, llama-405b, gpt-4o], prefer: cheapest}",
            "cheap: {order: [llama-405b]}",
        )
    });
    let only = Order::Only("llama-405b@gpu");
    let (answer, count) = case.agrees(|model| if model == "cheap" { only } else { Order::Recorded });
    assert!(count.new.refused["no_candidate"] > count.old.refused.get("no_candidate").copied().unwrap_or(0));
    let sizes: Vec<i64> = answer["changed_most"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["new_nanousd"].as_i64().unwrap() - line["old_nanousd"].as_i64().unwrap()).abs())
        .collect();
    assert!(sizes.len() == 10 && sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
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
    let records = folder.path().join("records");
    record(&records, &demo(AMPLE, edit), 1_000, 14);
    let report = folder.path().join("report.html");
    let answer = replay(&["--prices-at", "2027-02-01", "--html", text(&report), text(&records)]);
    // The same prices, at all times.
    let then =
        demo(AMPLE, |text| text.replace("input: 0.60 USD, output: 1.80 USD", "input: 0.30 USD, output: 0.90 USD"));
    agree(&answer, &count(&records, &then.policies, |_| Order::Recorded));
    let page = std::fs::read_to_string(report).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    for fetched in ["http://", "https://", "<script", "src=", "@import", "url("] {
        assert!(!page.contains(fetched), "`{fetched}` is in the page");
    }
    assert!(page.contains("<svg") && page.contains("prefers-color-scheme"));
}
