//! Every diagnostic of `turnpike check`, as a case under `tests/fail/`: a folder with `policies/*.yaml`, a
//! `turnpike.yaml` where the fault is there, and the whole text that is printed. `UPDATE_EXPECT=1` writes the texts.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use turnpike::cli::check;

fn folders(below: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(below);
    let mut folders: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    folders
}

/// The day of the built-in catalog: warnings tell what is retired by then.
fn today() -> jiff::Timestamp {
    "2026-11-23T00:00:00Z".parse().unwrap()
}

/// What `check` prints for a case, with paths as if run in its folder.
fn printed(case: &Path) -> (bool, String) {
    let environment = |name: &str| (name == "KEY").then(|| "sk-1".to_owned());
    let file = case.join("turnpike.yaml");
    let path = if file.exists() { file } else { case.join("policies") };
    let (ok, text) = match check::text(&path, &environment, today(), false) {
        Ok((warnings, _)) => (true, warnings),
        Err(faults) => (false, faults),
    };
    (ok, text.replace(&format!("{}/", case.display()), ""))
}

#[test]
fn every_bad_input_is_told_of_with_its_place_and_a_hint() {
    let (mut differing, mut wanting) = (Vec::new(), Vec::new());
    for case in folders("tests/fail") {
        let (ok, text) = printed(&case);
        let name = case.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(!text.contains("sk-live"), "{name} shows a secret:\n{text}");
        let warning = name.starts_with("warning_");
        assert_eq!(ok, warning, "{name}: cases that load are named `warning_…`:\n{text}");
        for told in text.split("\n\n").filter(|told| told.starts_with("error") || told.starts_with("warning")) {
            wanting.extend(
                ["hint: ", "-->"].iter().filter(|part| !told.contains(**part)).map(|part| (part, told.to_owned())),
            );
            let label =
                told.lines().any(|line| line.trim_end().rsplit_once("^ ").is_some_and(|(_, label)| !label.is_empty()));
            if told.contains("-->") && !label {
                wanting.push((&"label", told.to_owned()));
            }
        }
        let file = case.join("expected.stderr");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&file, &text).unwrap();
        } else if fs::read_to_string(&file).unwrap_or_default() != text {
            differing.push(format!("{name}:\n{text}"));
        }
    }
    let wanting: Vec<String> = wanting.into_iter().map(|(part, told)| format!("no {part} in:\n{told}")).collect();
    assert!(wanting.is_empty(), "{}", wanting.join("\n\n"));
    assert!(differing.is_empty(), "differ from `expected.stderr`:\n\n{}", differing.join("\n"));
}

#[test]
fn no_case_prints_the_same_as_another() {
    let mut texts: Vec<(String, PathBuf)> = folders("tests/fail")
        .into_iter()
        .map(|case| (fs::read_to_string(case.join("expected.stderr")).unwrap(), case))
        .collect();
    texts.sort();
    for two in texts.windows(2) {
        assert_ne!(two[0].0, two[1].0, "{} and {}", two[0].1.display(), two[1].1.display());
    }
}

#[test]
fn what_no_policy_test_reaches_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let policies = "backends: {a: {provider: openai_compatible, endpoints: [\"http://127.0.0.1:1/v1\"]}}
models: {one: {backends: {a: one}}, two: {backends: {a: two}}}
prices: [{model: one, input: 1 USD, output: 2 USD}, {model: two, input: 2 USD, output: 3 USD}]
routes: {auto: {order: [one, two]}}";
    fs::write(folder.path().join("a.yaml"), policies).unwrap();
    let summary = || check::text(folder.path(), &|_| None, today(), false).unwrap().1;
    assert!(summary().contains("\npolicy tests: none in `"), "{}", summary());
    let tests = folder.path().join("tests");
    fs::create_dir(&tests).unwrap();
    let test = "{at: 2026-11-23, tests: [{name: first, request: {model: auto}, expect: {model: one}}]}";
    fs::write(tests.join("a.yaml"), test).unwrap();
    assert!(summary().contains("1 of 2 candidates chosen; never chosen: two@a"), "{}", summary());
}

#[test]
fn the_policies_that_ship_load_without_any_secret_and_pass_their_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let mut all = folders("policies");
    all.retain(|path| !["catalog", "suites", "tests"].iter().any(|folder| path.ends_with(folder)));
    all.push(root);
    for folder in all {
        match check::text(&folder, &|_| None, today(), false) {
            Ok((warnings, summary)) => {
                assert!(
                    summary.contains("policy tests: ") && summary.contains(" passed; "),
                    "{}: {summary}",
                    folder.display()
                );
                assert!(!warnings.contains("no policy test meets"), "{}:\n{warnings}", folder.display());
            }
            Err(faults) => panic!("{}:\n{faults}", folder.display()),
        }
    }
}
