//! `turnpike catalog diff`: what a newer set of the catalog changes, and which routes move by it.

use super::{POLICIES, json, policies, run};

#[test]
fn a_price_cut_of_a_newer_set_is_shown_with_the_routes_that_move() {
    let folder = policies(POLICIES);
    // In the morning in Beijing, when DeepSeek bills twice.
    let ask = ["catalog", "diff", "--from", "2026-08-01", "--at", "2026-11-23T10:00+08:00"];
    let answer = json(folder.path(), &ask);
    let changes = answer["changes"].as_array().unwrap();
    let cut = changes.iter().find(|change| {
        change["what"] == "price"
            && change["of"] == "deepseek-v4-flash at deepseek (intl)"
            && change["since"] == "2026-09-10"
    });
    let cut = cut.unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(cut["before"], "0.14 in, 0.0028 cached, 0.28 out USD");
    assert_eq!(cut["after"], "0.15 in, 0.003 cached, 0.6 out USD, by the hour");
    assert!(changes.iter().all(|change| change["used"] == true), "{answer}");
    assert!(answer["changes_of_unused_models"].as_u64().unwrap() > 50);
    let moved = answer["moves"].as_array().unwrap();
    let chat = moved.iter().find(|moved| moved["route"] == "quick" && moved["sample"] == "a short chat").unwrap();
    assert_eq!(chat["before"]["candidate"], "flash@deepseek");
    assert_eq!(chat["after"]["candidate"], "mini@openai");
    assert!(moved.iter().all(|moved| moved["before"]["candidate"] != moved["after"]["candidate"]));
    let table = run(folder.path(), &ask).stdout;
    assert!(table.contains("routes that move") && table.contains("--all"), "{table}");
}

#[test]
fn a_set_beside_itself_changes_nothing_and_moves_no_route() {
    let folder = policies(POLICIES);
    let answer = json(folder.path(), &["catalog", "diff", "--from", "2026-11-23", "--to", "2026-11-23", "--all"]);
    assert_eq!((answer["changes"].as_array().unwrap().len(), answer["moves"].as_array().unwrap().len()), (0, 0));
}

#[test]
fn the_pin_is_where_the_difference_begins_and_without_one_a_date_is_asked_for() {
    let folder = policies(POLICIES);
    let ran = run(folder.path(), &["catalog", "diff"]);
    assert!(ran.code == 1 && ran.stderr.contains("--from"), "{}", ran.stderr);
    std::fs::write(folder.path().join("turnpike.yaml"), "catalog: 2026-08-01\n").unwrap();
    let answer = json(folder.path(), &["catalog", "diff"]);
    assert_eq!((&answer["from"], &answer["to"]), (&"2026-08-01".into(), &"2026-11-23".into()));
    let ran = run(folder.path(), &["catalog", "diff", "--from", "2026-11-01", "--to", "2026-10-01"]);
    assert!(ran.code == 2 && ran.stderr.contains("is before"), "{}", ran.stderr);
}
