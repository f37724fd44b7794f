//! The rules of the house, held by reading the source: what ARCHITECTURE.md promises and the compiler does not check.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "tidy/source.rs"]
mod source;

use std::{collections::BTreeSet, fs, process::Command};

use source::{Source, all_rust_files, functions, literals, paths, root, rust_files, words};

/// What each module of `src/` may import besides itself.
const IMPORTS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("policy", &["base"]),
    ("wire", &["base"]),
    ("provider", &["base", "wire"]),
    ("config", &["base", "policy", "provider"]),
    ("ledger", &["base"]),
    ("net", &["base"]),
    ("telemetry", &["base", "policy"]),
    ("proxy", &["base", "policy", "wire", "provider", "config", "ledger", "net", "telemetry"]),
    ("admin", &["base", "policy", "wire", "provider", "config", "ledger", "net", "telemetry", "proxy", "cli"]),
    ("cli", &["base", "policy", "wire", "provider", "config", "ledger", "net", "telemetry", "proxy", "admin"]),
];

/// Layers without I/O, clock or chance.
const PURE: &[&str] = &["base", "policy", "wire", "provider"];

/// Paths and words that no pure layer names.
const IMPURE: &[&str] = &[
    "tokio",
    "hyper",
    "hyper_util",
    "redis",
    "redb",
    "rand",
    "std::fs",
    "std::net",
    "std::io",
    "std::process",
    "std::thread",
    "std::env",
    "std::time::Instant",
    "Instant",
    "SystemTime",
    "Timestamp::now",
    "Zoned::now",
    "async",
    "await",
];

/// Where a pure layer may calculate with floats, or hand one on; a folder or the beginning of a file's name.
const FLOATS: &[&str] = &[
    "src/policy/value",
    "src/policy/rules.rs",
    "src/policy/balance",
    "src/policy/rollout",
    "src/base/scores",
    "src/base/json.rs",
];

/// Where a type may be read from or written to text by serde.
const SERDE: &[&str] =
    &["src/config/file", "src/wire/", "src/provider/", "src/ledger/row", "src/telemetry/record", "src/admin/api"];

/// Values of `type` in OpenAI's errors, which its own documentation lists.
const OPENAI_TYPES: &[&str] =
    &["authentication_error", "permission_error", "server_error", "invalid_request_error", "rate_limit_error"];

const LONGEST_FILE: usize = 500;
const LONGEST_FUNCTION: usize = 70;
const MOST_PACKAGES: usize = 300;

/// Fails with one line a fault.
#[track_caller]
fn none(faults: Vec<String>) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn modules_import_only_what_the_layers_allow() {
    let mut faults = Vec::new();
    for source in rust_files("src") {
        let Some(module) = source.module() else { continue };
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == module) else {
            faults.push(format!("{}: `{module}` is not in the import table", source.path));
            continue;
        };
        for (path, offset) in paths(&source.code) {
            let Some(imported) = module_named_by(&path, &source.path) else { continue };
            if imported != module && !allowed.contains(&imported) {
                faults.push(format!("{}: `{module}` may not import `{imported}`", source.at(offset)));
            }
        }
    }
    none(faults);
}

/// The module of `src/` that a path leads to, from the crate's root or by climbing there with `super`.
fn module_named_by<'a>(path: &'a str, file: &str) -> Option<&'a str> {
    let mut segments = path.split("::").peekable();
    let name = match *segments.peek()? {
        "crate" | "turnpike" => segments.nth(1)?,
        "super" => {
            let climbs = path.split("::").take_while(|segment| *segment == "super").count();
            let depth = file.matches('/').count() - usize::from(file.ends_with("/mod.rs"));
            if climbs < depth {
                return None;
            }
            segments.nth(climbs)?
        }
        _ => return None,
    };
    IMPORTS.iter().any(|(module, _)| *module == name).then_some(name)
}

#[test]
fn pure_layers_name_no_io_no_clock_and_no_chance() {
    let mut faults = Vec::new();
    for source in rust_files("src").iter().filter(|source| source.module().is_some_and(|name| PURE.contains(&name))) {
        for (path, offset) in paths(&source.product) {
            let found = IMPURE.iter().find(|impure| {
                let tail = path.strip_prefix(**impure).unwrap_or("-");
                tail.is_empty() || tail.starts_with("::")
            });
            if let Some(impure) = found {
                faults.push(format!("{}: a pure layer names `{impure}`", source.at(offset)));
            }
        }
    }
    none(faults);
}

#[test]
fn floats_of_pure_layers_stay_where_values_and_scores_are() {
    let mut faults = Vec::new();
    for source in rust_files("src").iter().filter(|source| source.module().is_some_and(|name| PURE.contains(&name))) {
        let allowed = FLOATS.iter().any(|prefix| source.path.starts_with(prefix));
        for (word, offset) in words(&source.product).filter(|(word, _)| !allowed && matches!(*word, "f32" | "f64")) {
            faults.push(format!("{}: `{word}` outside {FLOATS:?}", source.at(offset)));
        }
    }
    none(faults);
}

#[test]
fn serde_derives_stay_at_the_edges() {
    let mut faults = Vec::new();
    for source in rust_files("src") {
        if SERDE.iter().any(|prefix| source.path.starts_with(prefix)) {
            continue;
        }
        for (offset, _) in source.product.match_indices("derive(") {
            let list = source.product[offset..].split(')').next().unwrap();
            if words(list).any(|(word, _)| matches!(word, "Serialize" | "Deserialize")) {
                faults.push(format!("{}: a serde derive outside {SERDE:?}", source.at(offset)));
            }
        }
    }
    none(faults);
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent = |source: &Source| !source.text.starts_with("//! ");
    none(all_rust_files().iter().filter(|source| silent(source)).map(|source| source.path.clone()).collect());
}

#[test]
fn files_and_functions_fit_into_a_head() {
    let mut faults = Vec::new();
    for source in all_rust_files() {
        let lines = source.text.lines().count();
        if lines > LONGEST_FILE {
            faults.push(format!("{}: {lines} lines, {LONGEST_FILE} are allowed", source.path));
        }
        for (name, body) in functions(&source.code) {
            let lines = 1 + source.text[body.clone()].matches('\n').count();
            if lines > LONGEST_FUNCTION {
                faults.push(format!("{}: `{name}` has {lines} lines, not {LONGEST_FUNCTION}", source.at(body.start)));
            }
        }
    }
    none(faults);
}

#[test]
fn nothing_is_left_undone_or_switched_off() {
    let mut faults = Vec::new();
    for source in all_rust_files() {
        for mark in ["#[ignore", "todo!(", "unimplemented!("] {
            let found = source.code.match_indices(mark);
            faults.extend(found.map(|(offset, _)| format!("{}: `{mark}`", source.at(offset))));
        }
    }
    none(faults);
}

/// The words of README.md and ARCHITECTURE.md.
fn documented() -> BTreeSet<String> {
    let read = |file: &str| fs::read_to_string(root().join(file)).unwrap();
    let text = read("README.md") + &read("ARCHITECTURE.md");
    let in_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    text.split(|letter| !in_word(letter)).map(str::to_owned).collect()
}

/// String literals with the file and offset where they stand.
fn literals_of(sources: &[Source]) -> impl Iterator<Item = (&Source, &str, usize)> {
    sources.iter().flat_map(|source| literals(&source.text).into_iter().map(move |(inner, at)| (source, inner, at)))
}

#[test]
fn every_metric_is_documented_and_every_documented_metric_is_there() {
    let table = Source::read(&root().join("src/telemetry/metrics.rs"));
    let names = literals(&table.text).into_iter().filter(|(_, at)| table.text[..*at].ends_with(",\n        "));
    // Counters get their `_total` from the encoder.
    let bare = |name: &str| name.strip_suffix("_total").unwrap_or(name).to_owned();
    let there: BTreeSet<String> = names.map(|(name, _)| format!("turnpike_{name}")).collect();
    let written: BTreeSet<String> =
        documented().iter().filter(|word| word.starts_with("turnpike_")).map(|word| bare(word)).collect();
    assert!(there.len() > 10, "the table of metrics is not read: {there:?}");
    assert_eq!(there, written);
}

#[test]
fn every_header_is_documented_and_every_documented_header_is_there() {
    let sources = rust_files("src");
    let documented = documented();
    let mut faults = Vec::new();
    let mut there = BTreeSet::new();
    // A provider's headers are the vendor's.
    for (source, header, at) in literals_of(&sources).filter(|(source, ..)| source.module() != Some("provider")) {
        let is_header =
            header.starts_with("x-") && header.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        if is_header && !documented.contains(header) {
            faults.push(format!("{}: the header `{header}` is not documented", source.at(at)));
        }
        there.insert(header);
    }
    let written = documented.iter().filter(|word| word.starts_with("x-turnpike-"));
    faults.extend(
        written.filter(|word| !there.contains(word.as_str())).map(|word| format!("`{word}` is not in the code")),
    );
    none(faults);
}

#[test]
fn every_error_code_is_documented() {
    let table = Source::read(&root().join("src/proxy/code.rs"));
    let codes: Vec<(&str, usize)> =
        literals(&table.text).into_iter().filter(|(_, at)| table.text[..*at].trim_end().ends_with("=>")).collect();
    assert!(codes.len() > 10, "the table of codes is not read: {codes:?}");
    let documented = documented();
    let missing = codes.iter().filter(|(code, _)| !documented.contains(*code) && !OPENAI_TYPES.contains(code));
    none(missing.map(|(code, at)| format!("{}: the code `{code}` is not documented", table.at(*at))).collect());
}

#[test]
fn every_row_of_hard_weather_names_tests_that_are_there() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let section = text.split("## Hard weather").nth(1).unwrap().split("### ").next().unwrap();
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 20, "the table is not read: {rows:?}");
    let mut faults = Vec::new();
    for row in rows {
        let cell = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let mut module = "";
        let names: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        for name in &names {
            let (of, name) = name.split_once("::").unwrap_or((module, name));
            module = of;
            // A module is a file of tests/weather unless a folder is named, below tests/ or from the root.
            let places = [format!("tests/weather/{module}.rs"), format!("tests/{module}.rs"), format!("{module}.rs")];
            let Some(file) = places.iter().map(|place| root().join(place)).find(|file| file.is_file()) else {
                faults.push(format!("`{module}` is no file of tests"));
                continue;
            };
            let source = Source::read(&file);
            // What is left out of a name is an ellipsis or an asterisk.
            let there = functions(&source.code).iter().any(|(function, _)| {
                let parts = name.split(['…', '*']).filter(|part| !part.is_empty());
                let mut rest = Some(*function);
                parts.for_each(|part| rest = rest.and_then(|rest| rest.split_once(part)).map(|(_, rest)| rest));
                rest.is_some()
            });
            if !there {
                faults.push(format!("`{module}::{name}` is no test"));
            }
        }
        if names.is_empty() {
            faults.push(format!("no test: {row}"));
        }
    }
    none(faults);
}

#[test]
fn every_test_that_a_table_names_is_there() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let sources = all_rust_files();
    let there: BTreeSet<&str> = sources.iter().flat_map(|source| words(&source.code)).map(|(word, _)| word).collect();
    let (mut faults, mut named, mut names_tests) = (Vec::new(), 0, false);
    // "Hard weather" leaves out parts of names, and has a test of its own.
    let (before, after) = text.split_once("## Hard weather").unwrap_or((&text, ""));
    let after = after.split_once("\n## ").map_or("", |(_, after)| after);
    for line in before.lines().chain(after.lines()) {
        let Some(row) = line.strip_prefix('|') else {
            names_tests = false;
            continue;
        };
        let last = row.trim_end().trim_end_matches('|').rsplit('|').next().unwrap_or_default().trim();
        if last.starts_with("test") {
            names_tests = true;
        } else if names_tests && !last.starts_with("---") {
            let tests: Vec<&str> = last.split('`').skip(1).step_by(2).filter(|name| name.contains('_')).collect();
            if tests.is_empty() {
                faults.push(format!("no test stands behind `{row}`"));
            }
            // Names in capitals are variables that a test reads.
            let small = |name: &&str| !name.starts_with(|first: char| first.is_ascii_uppercase());
            let tests = tests.into_iter().filter(small).inspect(|_| named += 1);
            faults.extend(tests.filter(|name| !there.contains(name)).map(|name| format!("`{name}` is no test")));
        }
    }
    assert!(named > 20, "the tables are not read");
    none(faults);
}

#[test]
fn the_package_tree_stays_small() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "-e", "normal", "--prefix", "none", "--format", "{p}"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let listed = String::from_utf8(tree.stdout).unwrap();
    let packages: BTreeSet<&str> = listed.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    assert!(packages.len() <= MOST_PACKAGES, "{} packages, {MOST_PACKAGES} are allowed", packages.len());
}

#[test]
fn paths_are_followed_to_their_module() {
    assert_eq!(module_named_by("crate::ledger::x", "src/policy/rules.rs"), Some("ledger"));
    assert_eq!(module_named_by("super::super::ledger::x", "src/policy/rules.rs"), Some("ledger"));
    assert_eq!(module_named_by("super::ledger", "src/policy/rules.rs"), None);
    assert_eq!(module_named_by("super::ledger", "src/policy/mod.rs"), Some("ledger"));
}
