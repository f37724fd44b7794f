//! What a replay must not hide: costs that nobody knows, files that are named twice or cannot be read, pages that are not
//! its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};
use turnpike::telemetry::record::read::files_in;

use crate::{
    recount::{replay, text},
    traffic::{demo, record, save},
};

const AMPLE: &str = "400000 USD";

fn turnpike(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_turnpike")).args(arguments).output().unwrap()
}

fn told(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The own servers have no price.
fn unpriced(text: &str) -> String {
    text.lines().filter(|line| !line.contains("model: llama-405b, from")).map(|line| format!("{line}\n")).collect()
}

/// Records of some traffic below `folder`, and policies beside them.
fn recorded(folder: &Path, count: usize, seed: u64, edit: impl Fn(&str) -> String) -> (PathBuf, PathBuf) {
    let (records, policies) = (folder.join("records"), folder.join("policies"));
    record(&records, &demo(AMPLE, str::to_owned), count, seed);
    save(&demo(AMPLE, edit), &policies);
    (records, policies)
}

#[test]
fn a_cost_that_nobody_knows_is_told_and_is_no_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (records, policies) = recorded(folder.path(), 1_500, 31, |text| {
        unpriced(text).replace(
            "cheap: {candidates: [deepseek-v4-flash, llama-405b, gpt-4o], prefer: cheapest}",
            "cheap: {order: [llama-405b]}",
        )
    });
    let answer = replay(&["--policies", text(&policies), text(&records)]);
    let new = &answer["new"];
    let own = &new["by_candidate"]["llama-405b@gpu"];
    assert!(own["requests"].as_u64() > Some(20) && own["cost_nanousd"] == 0, "{own}");
    assert_eq!(new["unpriced"], own["requests"]);
    assert_eq!(new["unpriced_by_candidate"], json!({"llama-405b@gpu": own["requests"]}));
    assert_eq!((&answer["old"]["unpriced"], &answer["old"]["unpriced_by_candidate"]), (&json!(0), &json!({})));
    // Like is compared with like: what the others cost before and after.
    let cost = |side: &str| answer[side]["cost_nanousd"].as_i64().unwrap();
    let hours = answer["hours"].as_object().unwrap().values();
    let known: i64 = hours.map(|both| both[1].as_i64().unwrap() - both[0].as_i64().unwrap()).sum();
    assert_eq!(answer["difference_nanousd"], known);
    assert!(known > cost("new") - cost("old"), "the sums differ by what is not known, too");
    let moves = answer["moves"].as_array().unwrap().iter();
    let to_own: Vec<&Value> = moves.filter(|line| line["to"] == "llama-405b@gpu").collect();
    assert!(to_own.iter().all(|line| line["unpriced"] == line["requests"] && line["difference_nanousd"] == 0));
    let changed = answer["changed_most"].as_array().unwrap();
    assert!(changed.iter().all(|line| line["to"] != "llama-405b@gpu"), "{changed:?}");
    let page = folder.path().join("report.html");
    let output = turnpike(&["replay", "--policies", text(&policies), text(&records), "--html", text(&page)]);
    let (table, page) = (told(&output.stdout), fs::read_to_string(page).unwrap());
    let said = format!("the cost of {} requests is not known on the new side", new["unpriced"]);
    for (what, where_) in [("the table", &table), ("the page", &page), ("stderr", &told(&output.stderr))] {
        assert!(where_.contains(&said) && where_.contains("llama-405b@gpu"), "{what}: {where_}");
    }
    let cost = table.lines().find(|line| line.contains("cost, USD")).unwrap();
    assert!(!cost.contains('%'), "a share of what is not known: {cost}");
    assert!(page.contains("as far as costs are known"), "{page}");
}

#[test]
fn a_cost_that_nobody_knew_when_it_was_recorded_is_not_known_on_either_side() {
    let folder = tempfile::tempdir().unwrap();
    let (records, policies) = (folder.path().join("records"), folder.path().join("policies"));
    let loaded = demo(AMPLE, unpriced);
    record(&records, &loaded, 1_500, 32);
    save(&loaded, &policies);
    let answer = replay(&["--policies", text(&policies), text(&records)]);
    assert!(answer["old"]["unpriced"].as_u64() > Some(0), "too dull: {}", answer["old"]);
    assert_eq!(answer["old"]["unpriced"], answer["old"]["by_candidate"]["llama-405b@gpu"]["requests"]);
    assert_eq!(answer["old"], answer["new"]);
    assert_eq!(answer["difference_nanousd"], 0);
}

#[test]
fn records_that_are_named_twice_count_once() {
    let folder = tempfile::tempdir().unwrap();
    let (records, policies) = recorded(folder.path(), 60, 33, str::to_owned);
    let file = files_in(&records).unwrap().pop().unwrap();
    let (link, other, round) =
        (folder.path().join("link.jsonl.zst"), folder.path().join("other"), records.join("../records"));
    std::os::unix::fs::symlink(&file, &link).unwrap();
    std::os::unix::fs::symlink(&records, &other).unwrap();
    let alone = replay(&["--policies", text(&policies), text(&records)]);
    let used = |named: &[&str]| -> Value {
        let output = turnpike(&[&["usage", "--month", "2026-11", "--json", "--records"], named].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", told(&output.stderr)))
    };
    let summed = used(&[text(&records)]);
    assert_eq!((&alone["requests"], &summed["total"]["requests"]), (&json!(60), &json!(60)));
    for again in [&records, &file, &link, &other, &round] {
        assert_eq!(replay(&["--policies", text(&policies), text(&records), text(again)]), alone, "{again:?}");
        assert_eq!(used(&[text(again), text(&records)])["total"], summed["total"], "{again:?}");
    }
}

#[test]
fn copies_of_records_count_once_and_are_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let (records, policies) = recorded(folder.path(), 60, 36, str::to_owned);
    let alone = replay(&["--policies", text(&policies), text(&records)]);
    let (copy, file) = (folder.path().join("copy"), files_in(&records).unwrap().pop().unwrap());
    fs::create_dir(&copy).unwrap();
    fs::copy(&file, copy.join("20200101T000000.000Z.jsonl.zst")).unwrap();
    let mut plain = Vec::new();
    crate::again::lines(&records, |line| plain.extend([line, b"\n"].concat()));
    let told_of = |arguments: &[&str]| {
        let output = turnpike(arguments);
        assert!(told(&output.stderr).contains("warning: 60 records are copies of others"), "{}", told(&output.stderr));
        told(&output.stdout)
    };
    let page = folder.path().join("report.html");
    let both = ["replay", "--policies", text(&policies), text(&records), text(&copy), "--html", text(&page)];
    let table = told_of(&both);
    for said in [table, fs::read_to_string(&page).unwrap()] {
        assert!(said.contains("records that are copies of others, which count once: 60"), "{said}");
    }
    fs::write(records.join("extracted.jsonl"), plain).unwrap();
    let mut beside = replay(&["--policies", text(&policies), text(&records)]);
    assert_eq!(beside["repeated"], 60);
    beside["repeated"] = json!(0);
    assert_eq!(beside, alone);
    let summed = told_of(&["usage", "--month", "2026-11", "--json", "--records", text(&records)]);
    let summed: Value = serde_json::from_str(&summed).unwrap();
    assert_eq!(summed["total"]["requests"], 60);
}

#[test]
fn what_cannot_be_read_is_named_unless_a_gateway_may_be_writing_it() {
    let folder = tempfile::tempdir().unwrap();
    let (records, policies) = recorded(folder.path(), 60, 34, str::to_owned);
    let newest = files_in(&records).unwrap().pop().unwrap();
    let bytes = fs::read(&newest).unwrap();
    let told_of = |named: &Path| {
        let arguments = ["replay", "--policies", text(&policies), text(named)];
        let (replayed, summed) = (turnpike(&arguments), turnpike(&["usage", "--records", text(named)]));
        (told(&replayed.stderr), told(&summed.stderr), told(&replayed.stdout))
    };
    let (replayed, summed, _) = told_of(&records);
    assert!(!replayed.contains("bytes") && !summed.contains("bytes"), "{replayed}{summed}");
    // The newest is open: that is how it is while a gateway writes.
    fs::write(&newest, &bytes[..bytes.len() - 7]).unwrap();
    let (replayed, summed, table) = told_of(&records);
    for said in [&replayed, &summed] {
        assert!(said.contains("note: ") && said.contains("being written, or were cut off"), "{said}");
        assert!(!said.contains("warning"), "{said}");
    }
    assert!(table.contains("the newest file is being written"), "{table}");
    // An older one was closed, and one has nothing of ours.
    let (closed, foreign) = (records.join("20200101T000000.000Z.jsonl.zst"), records.join("20200102.jsonl.zst"));
    fs::write(&closed, &bytes[..bytes.len() - 9]).unwrap();
    fs::write(&foreign, "this is no record").unwrap();
    let (replayed, summed, table) = told_of(&records);
    for said in [&replayed, &summed] {
        for part in [
            "warning: records are missing",
            "warning: the last records of a file may be missing",
            &format!("`{}`: it was cut off in its last {} bytes, of which ", closed.display(), bytes.len() - 9),
            &format!("`{}`: nothing of its 17 bytes can be read as records", foreign.display()),
            "note: ",
        ] {
            assert!(said.contains(part), "`{part}` is missing: {said}");
        }
    }
    let page = folder.path().join("report.html");
    let answer = replay(&["--policies", text(&policies), text(&records), "--html", text(&page)]);
    let page = fs::read_to_string(page).unwrap();
    for said in [&table, &page] {
        for part in ["17 bytes could not be read", "17 bytes of ", " was cut off: ", "the newest file is being written"]
        {
            assert!(said.contains(part), "`{part}` is missing: {said}");
        }
    }
    let read = &answer["cut_files"][text(&closed)];
    assert!((30..=60).contains(&read.as_u64().unwrap()), "{answer}");
    assert!(replayed.contains(&format!("of which {read} requests were read")), "{replayed}");
    assert_eq!((&answer["damaged_files"], &answer["lost_bytes"]), (&json!({text(&foreign): 17}), &json!(17)));
    // What the two have of the same requests counts once.
    assert!(answer["requests"].as_u64() <= Some(60) && answer["repeated"].as_u64() > Some(0), "{answer}");
    // Alone in its folder it is the newest, and yet nothing a gateway writes.
    let (_, summed, _) = told_of(&foreign);
    assert!(summed.contains("nothing of its 17 bytes"), "{summed}");
}

#[test]
fn only_a_report_is_replaced_by_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let (records, policies) = recorded(folder.path(), 60, 35, str::to_owned);
    let run = |page: &Path| turnpike(&["replay", "--policies", text(&policies), text(&records), "--html", text(page)]);
    let page = folder.path().join("a.html");
    for time in ["first", "again"] {
        assert!(run(&page).status.success(), "{time}");
        assert!(fs::read_to_string(&page).unwrap().ends_with("</html>\n"), "{time}");
    }
    let (other, named) = (folder.path().join("b.html"), folder.path().join("turnpike.yaml"));
    for (path, kept, code) in [(&other, "<!doctype html>\n<title>mine</title>", 1), (&named, "listen: x", 2)] {
        fs::write(path, kept).unwrap();
        let output = run(path);
        assert_eq!((output.status.code(), told(&output.stdout).as_str()), (Some(code), ""), "{path:?}");
        assert!(told(&output.stderr).contains("hint: "), "{}", told(&output.stderr));
        assert_eq!(fs::read_to_string(path).unwrap(), kept);
    }
}

#[test]
fn a_replay_of_nothing_else_says_what_to_name() {
    let output = turnpike(&["replay", "data/records"]);
    let said = told(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("hint: ") && said.contains("`--policies NEW`") && said.contains("`--prices-at DATE`"),
        "{said}"
    );
}
