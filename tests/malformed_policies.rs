//! No policy text, however mangled, makes the loader panic; what it tells can be rendered; and a text that loads once
//! loads again to the same policies.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::PathBuf;

use proptest::{collection::vec, prelude::*, sample::select};
use turnpike::config;

/// A text with every section, which the mutations start from.
const WHOLE: &str = include_str!("whole.yaml");

/// Values that have broken parsers.
const NASTY: &[&str] = &[
    "",
    "~",
    "null",
    "[]",
    "{}",
    "[[[[[[[[",
    "{a: {a: {a: {a: ",
    "&a [*a, *a]",
    "*nobody",
    "<<: *x",
    "!!binary x",
    "|\n  x",
    ">-",
    "-1",
    "0",
    "0.0",
    "1e400",
    "NaN",
    ".inf",
    "0x10",
    "99999999999999999999999999999999999999999",
    "-9223372036854775809",
    "0.0000000000000000000000001",
    "1_000",
    "00",
    "١٢",
    "1 USD",
    "999999999999 USD",
    "1 ZZZ",
    "1 usd",
    "5",
    "5 s",
    "1h1m",
    "9999999d",
    "100.0001%",
    "-5%",
    "1MiB",
    "99999999999GiB",
    "12:00-12:00",
    "24:00-00:00",
    "2025-02-30",
    "9999-12-31",
    "-9999-01-01T00:00Z",
    "2025-01-01T00:00:00.000000000+25:59",
    "${",
    "${}",
    "${X",
    "${file:}",
    "${file:/dev/zero}",
    "$${X}",
    "a@b",
    "@",
    "gpt-4o@",
    "\"\\u0000\"",
    "\"\\x80\"",
    "\u{feff}",
    "\u{202e}",
    "\t",
    "'",
    "\"",
    "#",
    "---",
    "...",
    "%YAML 9.9",
    "? a",
    "- - - -",
    "request.images > 0",
    "size(request)",
    "[1,2,3].map(x, x)",
    "((((((((((((",
    "hour(\"Mars\") == 1",
    "true",
];

#[derive(Clone, Debug)]
enum Mutation {
    Delete(prop::sample::Index),
    Duplicate(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    Value(prop::sample::Index, &'static str),
    Insert(prop::sample::Index, String),
    Indent(prop::sample::Index, usize),
    Nest(prop::sample::Index, usize),
    Cut(prop::sample::Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let line = any::<prop::sample::Index>;
    prop_oneof![
        line().prop_map(Mutation::Delete),
        line().prop_map(Mutation::Duplicate),
        (line(), line()).prop_map(|(a, b)| Mutation::Swap(a, b)),
        (line(), select(NASTY)).prop_map(|(at, value)| Mutation::Value(at, value)),
        (line(), "\\PC{0,24}").prop_map(|(at, text)| Mutation::Insert(at, text)),
        (line(), 0_usize..12).prop_map(|(at, depth)| Mutation::Indent(at, depth)),
        (line(), 1_usize..400).prop_map(|(at, depth)| Mutation::Nest(at, depth)),
        line().prop_map(Mutation::Cut),
    ]
}

/// Applies one mutation to a text's lines.
fn apply(lines: &mut Vec<String>, mutation: &Mutation) {
    if lines.is_empty() {
        lines.push(String::new());
    }
    let count = lines.len();
    match mutation {
        Mutation::Delete(at) => drop(lines.remove(at.index(count))),
        Mutation::Duplicate(at) => lines.insert(at.index(count), lines[at.index(count)].clone()),
        Mutation::Swap(a, b) => lines.swap(a.index(count), b.index(count)),
        Mutation::Value(at, value) => {
            // Behind a colon of the line, one of them by the same draw.
            let line = &mut lines[at.index(count)];
            let colons: Vec<usize> = line.match_indices(": ").map(|(offset, _)| offset + 2).collect();
            if !colons.is_empty() {
                let start = colons[at.index(colons.len())];
                let end = line[start..].find([',', '}', ']']).map_or(line.len(), |length| start + length);
                line.replace_range(start..end, value);
            }
        }
        Mutation::Insert(at, text) => {
            let line = &mut lines[at.index(count)];
            let offset =
                line.char_indices().map(|(offset, _)| offset).nth(at.index(line.chars().count().max(1))).unwrap_or(0);
            line.insert_str(offset, text);
        }
        Mutation::Indent(at, depth) => {
            let line = lines[at.index(count)].trim_start().to_owned();
            lines[at.index(count)] = format!("{}{line}", " ".repeat(*depth));
        }
        Mutation::Nest(at, depth) => lines[at.index(count)].push_str(&"[{a: ".repeat(*depth)),
        Mutation::Cut(at) => lines.truncate(at.index(count)),
    }
}

/// The whole text after these mutations.
fn mangled(mutations: &[Mutation]) -> String {
    let mut lines: Vec<String> = WHOLE.lines().map(str::to_owned).collect();
    mutations.iter().for_each(|mutation| apply(&mut lines, mutation));
    lines.join("\n")
}

fn environment(name: &str) -> Option<String> {
    (name == "KEY").then(|| "sk-1".to_owned())
}

/// What `check` says of a folder of policies with this text among its tests.
fn check_tests(text: &str) -> Result<(String, String), String> {
    let folder = tempfile::tempdir().unwrap();
    let policies = "backends: {b: {provider: openai_compatible, endpoints: [\"http://127.0.0.1:1/v1\"]}}\n\
        models: {one: {backends: {b: one}}, two: {backends: {b: two}}}\n\
        routes: {auto: {candidates: [one, two]}, canary: {split: {one: 9, two: 1}}}\nteams: {search: {}}\n\
        prices: [{model: one, input: 1 USD, output: 2 USD}, {model: two, input: 1 USD, output: 2 USD}]\n";
    std::fs::write(folder.path().join("a.yaml"), policies).unwrap();
    std::fs::create_dir(folder.path().join("tests")).unwrap();
    std::fs::write(folder.path().join("tests/a.yaml"), text).unwrap();
    assert!(config::load_at(folder.path(), &environment, jiff::Timestamp::UNIX_EPOCH).is_ok(), "a gateway reads them");
    turnpike::cli::check::text(folder.path(), &environment, jiff::Timestamp::UNIX_EPOCH, false)
}

/// A text with every key of a policy test.
const TESTS: &str = "at: 2026-11-23T12:00Z
tests:
  - name: all keys
    at: 2026-11-23T12:00+08:00
    request: {model: auto, input_tokens: 2k, counted_with: qwen, max_output: 100, stream: true, answers: 2, messages: 3}
    caller: {team: search, key: k1, user: ann, session: s, labels: {a: b}}
    budget: {used: 40%, left: 3 USD, pace: 1.2}
    seen:
      one: {first_token: 2s, first_token_p95: 3s, per_token: 20ms, output_tokens: 300, cached: 40%}
      two@b: {broken: 3s}
    failed: [two]
    seed: 7
    expect: {model: one, backend: [b], order: [one], able: [one], rules: []}
  - name: a split
    request: {model: canary, images: 0, audio: 0, tools: 0, json: false, reasoning: false, category: code, tier: default}
    off: [\"arm:two@canary\", \"model:two\"]
    expect: {arm: one}
  - name: refused
    request: {model: auto, deadline: 5s}
    seen: {\"@b\": {first_token: 2s}}
    off: [\"model:one\", \"model:two\"]
    expect: {rejected: {one: off}, refused: {code: no_candidate, status: 503}}
";

#[test]
fn every_key_of_a_policy_test_is_read() {
    let (_, summary) = check_tests(TESTS).unwrap_or_else(|faults| panic!("{faults}"));
    assert!(summary.contains("policy tests: 3 passed"), "{summary}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn mangled_policy_tests_are_told_of_and_never_panic(mutations in vec(mutation(), 1..4)) {
        let mut lines: Vec<String> = TESTS.lines().map(str::to_owned).collect();
        mutations.iter().for_each(|mutation| apply(&mut lines, mutation));
        let text = lines.join("\n");
        let first = check_tests(&text).map_err(|faults| faults.lines().count());
        let again = check_tests(&text).map_err(|faults| faults.lines().count());
        prop_assert_eq!(first.map(|(_, summary)| summary), again.map(|(_, summary)| summary));
    }
}

/// Loads a text; its policies' hash, or the rendered faults.
fn load(text: &str) -> Result<String, String> {
    let files = [(PathBuf::from("a.yaml"), text.to_owned())];
    let now = "2026-11-23T00:00:00Z".parse().unwrap();
    match config::from_texts(&files, &environment, now) {
        Ok(loaded) => {
            loaded.warnings.iter().for_each(|warning| drop(warning.render(true)));
            Ok(loaded.policies.hash.to_string())
        }
        Err(faults) => {
            assert!(!faults.list.is_empty());
            Err(faults.render(false))
        }
    }
}

#[test]
fn the_whole_text_loads() {
    load(WHOLE).unwrap_or_else(|faults| panic!("{faults}"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_mangled_place_is_told_of_and_never_panics(mutation in mutation()) {
        let _ = load(&mangled(&[mutation]));
    }

    #[test]
    fn many_mangled_places_are_told_of_and_never_panic(mutations in vec(mutation(), 2..8)) {
        let _ = load(&mangled(&mutations));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_text_is_told_of_in_the_same_words(mutations in vec(mutation(), 1..3)) {
        let text = mangled(&mutations);
        prop_assert_eq!(load(&text), load(&text));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_texts_never_panic(text in "(\\PC|[\\n\\t {}\\[\\]:,&*!|>'\"#-]){0,200}") {
        let _ = load(&text);
    }
}
