//! `turnpike scores`: every row with where it comes from and what it weighs, and the number that they come to.

use super::{POLICIES, json, policies, run};

#[test]
fn every_row_tells_its_source_its_weight_and_whether_it_counts() {
    let folder = policies(POLICIES);
    let answer = json(folder.path(), &["scores", "gpt-4o", "--at", "2026-11-23"]);
    let model = &answer["models"][0];
    assert_eq!((&model["model"], &model["register_name"]), (&"gpt-4o".into(), &"gpt-4o".into()));
    let rows = model["rows"].as_array().unwrap();
    let aider = rows.iter().find(|row| row["benchmark"] == "aider-polyglot/pass_rate_2").unwrap();
    assert_eq!(
        (&aider["value"], &aider["date"], &aider["by"]),
        (&23.1.into(), &"2024-12-30".into(), &"independent".into())
    );
    assert_eq!((&aider["category"], &aider["counts_half_on"]), (&"code".into(), &"2025-12-30".into()));
    assert!(aider["source"].as_str().unwrap().starts_with("Aider-AI/aider@"));
    let (fresh, weight) = (aider["freshness"].as_f64().unwrap(), aider["weight"].as_f64().unwrap());
    assert!(fresh > 0.2 && fresh < 0.5 && (weight - fresh).abs() < 1e-9, "two years old: {aider}");
    let fitted = &model["categories"]["code"]["fitted"];
    let ppm = |key: &str| fitted[key].as_u64().unwrap();
    assert!(ppm("low_ppm") < ppm("right_ppm") && ppm("right_ppm") < ppm("high_ppm"), "{fitted}");
    assert!(rows.iter().all(|row| row["date"].as_str().unwrap() <= "2026-11-23"));
}

#[test]
fn an_operators_row_takes_the_catalogs_place_with_its_sample_and_interval() {
    let own = "scores: [{model: flash, benchmark: lmarena-text/full, value: 1400, date: 2026-11-20, by: own, \
               sample_size: 400, interval: [1390, 1410], expires: 2027-02-01, source: \"our panel\"}]\n";
    let folder = policies(&format!("{POLICIES}{own}"));
    let row = |day| {
        let answer = json(folder.path(), &["scores", "flash", "--at", day, "--category", "chat"]);
        let rows = answer["models"][0]["rows"].as_array().unwrap().clone();
        let mut full = rows.into_iter().filter(|row| row["benchmark"] == "lmarena-text/full");
        let row = full.next().unwrap();
        assert!(full.next().is_none(), "the catalog's row is still there");
        row
    };
    let known = row("2026-11-23");
    assert_eq!((&known["sample_size"], &known["by"], &known["counts"]), (&400.into(), &"own".into(), &true.into()));
    assert!(known["precision"].as_f64().unwrap() < 1.0);
    let over = row("2027-03-01");
    assert_eq!(
        (&over["counts"], &over["out"], &over["expires"]),
        (&false.into(), &"expired".into(), &"2027-02-01".into())
    );
}

#[test]
fn the_overview_has_a_line_for_every_model_and_marks_where_vendor_and_others_part() {
    let folder = policies(POLICIES);
    let table = run(folder.path(), &["scores", "--all", "--at", "2026-11-23"]);
    assert_eq!(table.code, 0, "{table:?}");
    assert!(table.stdout.contains("deepseek-r1") && table.stdout.contains("fit 2026-11-23 "), "{}", table.stdout);
    assert!(table.stdout.contains('!'), "{}", table.stdout);
    let own = run(folder.path(), &["scores", "--at", "2026-11-23"]).stdout;
    assert!(own.contains("flash") && !own.contains("deepseek-r1"), "{own}");
    let ran = run(folder.path(), &["scores", "gpt-4oo"]);
    assert!(ran.code == 1 && ran.stderr.contains("`gpt-4o`"), "{}", ran.stderr);
    let ran = run(folder.path(), &["scores", "--category", "cod"]);
    assert!(ran.code == 2 && ran.stderr.contains("`code`"), "{}", ran.stderr);
}
