//! Budgets and limits that only the new policies have: who is turned away and from when on, beside a count of what the
//! records used.

use std::{collections::BTreeMap, path::Path};

use jiff::{Timestamp, ToSpan, tz::TimeZone};
use serde_json::Value;
use turnpike::config::Loaded;

use crate::{
    again::lines,
    recount::{replay, text},
    traffic::{demo, record, save},
};

const AMPLE: &str = "400000 USD";
const HASH: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000001";
const REQUESTS: usize = 2_500;

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn tokens(attempt: &Value) -> i64 {
    number(&attempt["input"]) + number(&attempt["output"])
}

fn at(line: &Value) -> Timestamp {
    line["at"].as_str().unwrap().parse().unwrap()
}

fn day(at: Timestamp) -> Timestamp {
    at.to_zoned(TimeZone::UTC).start_of_day().unwrap().timestamp()
}

fn minute(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second().div_euclid(60) * 60).unwrap()
}

/// The records in the order in which their requests came.
fn in_order(folder: &Path) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    lines(folder, |text| all.push(serde_json::from_slice(text).unwrap()));
    all.sort_by_key(|line| (at(line), line["id"].as_str().unwrap().to_owned()));
    all
}

/// Records, and what the replay says of them before policies with `edit`.
fn replayed(seed: u64, edit: impl Fn(&str) -> String) -> (tempfile::TempDir, Value) {
    let folder = tempfile::tempdir().unwrap();
    let loaded: Loaded = demo(AMPLE, str::to_owned);
    record(&folder.path().join("records"), &loaded, REQUESTS, seed);
    save(&demo(AMPLE, edit), &folder.path().join("policies"));
    let answer = replay(&["--policies", text(&folder.path().join("policies")), text(&folder.path().join("records"))]);
    assert_eq!((&answer["verified"]["other"], &answer["verified"]["unknown"]), (&0.into(), &0.into()));
    (folder, answer)
}

/// What a fence around who asks lets through, by its windows: a request that finds less left than it sets aside is turned
/// away and uses nothing. When each window was first found short, and how many were turned away.
fn turned_away(
    folder: &Path,
    cap: i64,
    owner: impl Fn(&Value) -> Option<String>,
    window: impl Fn(Timestamp) -> Timestamp,
    need_and_use: impl Fn(&Value) -> (i64, i64),
) -> (BTreeMap<(String, Timestamp), Timestamp>, u64) {
    let (mut used, mut first, mut many) = (BTreeMap::<_, i64>::new(), BTreeMap::new(), 0);
    for line in in_order(&folder.join("records")) {
        let Some(owner) = owner(&line) else { continue };
        let at = at(&line);
        let key = (owner, window(at));
        let (need, uses) = need_and_use(&line);
        // Nobody was able: nothing is asked of a fence.
        if line["decisions"][0]["decided"]["ranked"][0].is_null() {
            continue;
        }
        let level = used.entry(key.clone()).or_default();
        if cap - *level < need {
            first.entry(key).or_insert(at);
            many += 1;
        } else {
            *level += uses;
        }
    }
    (first, many)
}

fn money(line: &Value) -> (i64, i64) {
    (number(&line["decisions"][0]["decided"]["ceiling_nanousd"]), number(&line["cost_nanousd"]))
}

fn exhausted(side: &Value) -> BTreeMap<(String, Timestamp), Timestamp> {
    let line = |line: &Value| {
        let time = |name: &str| line[name].as_str().unwrap().parse().unwrap();
        ((line["budget"].as_str().unwrap().to_owned(), time("window")), time("at"))
    };
    side["exhausted"].as_array().unwrap().iter().map(line).collect()
}

fn of_default(line: &Value) -> bool {
    line["team"] == "default"
}

#[test]
fn budgets_of_users_keys_teams_and_routes_turn_away_whom_they_would_have() {
    let budget = |name: &str, usd: &str| format!("budgets: [{{name: {name}, limit: {usd}, per: day}}]");
    type Edit = (&'static str, String);
    type Whose = fn(&Value) -> Option<String>;
    let users: Whose = |line| of_default(line).then(|| format!("user/default/{}/d", line["user"].as_str().unwrap()));
    let team: Whose = |line| of_default(line).then(|| "team/default/d".to_owned());
    let route: Whose = |line| (line["facts"]["model"] == "cheap").then(|| "route/cheap/d".to_owned());
    let key: Whose = |_| Some("key/k1/d".to_owned());
    let cases: [(u64, Edit, i64, Whose); 4] = [
        (31, ("default: {}", format!("default: {{per_user: {{{}}}}}", budget("d", "0.15 USD"))), 150_000_000, users),
        (32, ("default: {}", format!("default: {{{}}}", budget("d", "2 USD"))), 2_000_000_000, team),
        (
            33,
            ("gpt-4o], prefer: cheapest}", format!("gpt-4o], prefer: cheapest, {}}}", budget("d", "0.2 USD"))),
            200_000_000,
            route,
        ),
        (
            34,
            (
                "default: {}",
                format!("default: {{}}\nkeys: [{{id: k1, team: default, hash: \"{HASH}\", {}}}]", budget("d", "5 USD")),
            ),
            5_000_000_000,
            key,
        ),
    ];
    for (seed, (before, after), cap, whose) in cases {
        let (folder, answer) = replayed(seed, |text| text.replace(before, &after));
        let (first, many) = turned_away(folder.path(), cap, whose, day, money);
        assert!(!first.is_empty() && many > 20, "{after}: too dull");
        assert_eq!(exhausted(&answer["new"]), first, "{after}");
        assert_eq!(answer["new"]["refused"]["budget_exceeded"], many, "{after}");
        assert_eq!(answer["new"]["estimated"], 0, "{after}: nobody goes elsewhere");
        assert_eq!(answer["old"]["exhausted"], Value::Array(Vec::new()));
    }
}

#[test]
fn limits_turn_away_whom_they_would_have_and_what_is_not_followed_is_told() {
    let limit = |text: &str| format!("default: {{limits: {{{text}, concurrent: 500}}}}");
    let tokens_of = |line: &Value| {
        let winner = &line["decisions"][0]["decided"]["ranked"][0];
        // What was not counted in the model's own vocabulary is estimated.
        let prompt = if winner["stake"]["counted"] == true { &winner["stake"] } else { &winner["terms"] };
        let used = line["attempts"].as_array().into_iter().flatten().map(tokens).sum();
        (number(&prompt["input"]) + number(&winner["stake"]["output"]), used)
    };
    let one = |_: &Value| (1, 1);
    let whose = |line: &Value| of_default(line).then(|| "team".to_owned());
    for (seed, text, cap) in [(35, "requests: 12/min", 12), (36, "tokens: 60k/min", 60_000)] {
        let (folder, answer) = replayed(seed, |policy| policy.replace("default: {}", &limit(text)));
        let (_, many) = if cap == 12 {
            turned_away(folder.path(), cap, whose, minute, one)
        } else {
            turned_away(folder.path(), cap, whose, minute, tokens_of)
        };
        assert!(many > 20, "{text}: too dull");
        assert_eq!(answer["new"]["refused"]["rate_limit_exceeded"], many, "{text}");
        assert_eq!(answer["new"]["exhausted"], Value::Array(Vec::new()), "a limit is no budget");
        let told = answer["not_followed"].to_string();
        assert!(told.contains("requests at once") && told.contains("left no record"), "{told}");
    }
}

#[test]
fn budgets_of_models_backends_and_providers_send_requests_elsewhere_and_are_never_passed() {
    let budget = "budgets: [{name: d, limit: 1 USD, per: day}]";
    let cases = [
        (
            41,
            "llama-3.1-405b}",
            format!("llama-3.1-405b, limits: {{tokens: 900k/min}}, {budget}}}"),
            "model/llama-405b/d",
            "llama-405b@gpu",
        ),
        (
            42,
            "first_token: 4s, total: 20s}}\n  newcomer",
            format!("first_token: 4s, total: 20s}}, {budget}}}\n  newcomer"),
            "backend/deepseek/d",
            "@deepseek",
        ),
        (
            43,
            "teams:\n  paid",
            format!("providers: {{openai: {{{budget}}}}}\nteams:\n  paid"),
            "provider/openai/d",
            "@openai",
        ),
    ];
    for (seed, before, after, id, inside) in cases {
        let (folder, answer) = replayed(seed, |text| text.replacen(before, &after, 1));
        let spent = |side: &Value| -> i64 {
            let all = side["by_candidate"].as_object().unwrap().iter();
            all.filter(|(label, _)| label.ends_with(inside)).map(|(_, line)| number(&line["cost_nanousd"])).sum()
        };
        // A stream that outgrows what it began with counts whole: where it would have been cut is not recorded.
        assert!(spent(&answer["old"]) > 1_000_000_000, "{id}: too dull, {}", spent(&answer["old"]));
        assert!((700_000_000..=1_010_000_000).contains(&spent(&answer["new"])), "{id}: {}", spent(&answer["new"]));
        // Until it first has too little left, all goes as recorded: that instant can be counted.
        let (mut used, mut first) = (0, None);
        for line in in_order(&folder.path().join("records")) {
            let winner = &line["decisions"][0]["decided"]["ranked"][0]["candidate"];
            let of_it = winner.as_str().is_some_and(|label| label.ends_with(inside));
            if first.is_none() && of_it && 1_000_000_000 - used < money(&line).0 {
                first = Some(at(&line));
            }
            let attempts = line["attempts"].as_array().into_iter().flatten();
            let own = attempts.filter(|it| it["candidate"].as_str().unwrap().ends_with(inside));
            used += own.map(|attempt| number(&attempt["cost_nanousd"])).sum::<i64>();
        }
        let day_of = |at: Timestamp| (id.to_owned(), day(at));
        let told = exhausted(&answer["new"]);
        assert_eq!(
            told.first_key_value().map(|(key, at)| (key.clone(), *at)),
            first.map(|at| (day_of(at), at)),
            "{id}"
        );
        let moves = answer["moves"].as_array().unwrap();
        let requests = |from: &dyn Fn(&str) -> bool| -> i64 {
            let of = moves.iter().filter(|line| from(line["from"].as_str().unwrap_or_default()));
            of.map(|line| number(&line["requests"])).sum()
        };
        // Of some whose first attempt would have been there, the record knows who came after its failure.
        let (left, others) = (requests(&|label| label.ends_with(inside)), requests(&|label| !label.ends_with(inside)));
        assert!(left > 50 && others * 20 < left, "{id}: {moves:?}");
        assert!(moves.iter().any(|line| line["to"].is_string()), "{id}: somebody else does: {moves:?}");
    }
}

#[test]
fn a_budget_that_is_taken_away_lets_in_whom_it_refused() {
    let folder = tempfile::tempdir().unwrap();
    let records = folder.path().join("records");
    record(&records, &demo("1 USD", str::to_owned), REQUESTS, 44);
    let open = demo("1 USD", |text| text.replace("paid: {budgets: [{name: day, limit: 1 USD, per: day}]}", "paid: {}"));
    save(&open, &folder.path().join("policies"));
    let answer = replay(&["--policies", text(&folder.path().join("policies")), text(&records)]);
    assert!(number(&answer["old"]["refused"]["budget_exceeded"]) > 100);
    assert_eq!(answer["new"]["refused"]["budget_exceeded"], Value::Null, "{}", answer["new"]["refused"]);
    assert_eq!(answer["new"]["exhausted"], Value::Array(Vec::new()));
    let first: Timestamp = answer["old"]["exhausted"][0]["at"].as_str().unwrap().parse().unwrap();
    assert!(first > day(first) && first < day(first) + 24.hours());
}

#[test]
fn records_of_several_gateways_count_against_the_same_windows_in_whatever_order_they_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = demo(AMPLE, str::to_owned);
    record(&folder.path().join("made"), &loaded, 600, 45);
    // Over sixteen days, and as two gateways would have written them: five at a time, some of which overlap.
    let mut written: Vec<Value> = Vec::new();
    lines(&folder.path().join("made"), |text| written.push(serde_json::from_slice(text).unwrap()));
    for (number, line) in (0..).zip(&mut written) {
        line["at"] = (at(line) + (number / 5 * 195).minutes()).to_string().into();
    }
    let [all, one, other] = ["records", "one", "other"].map(|name| folder.path().join(name));
    let file = "20261123T050000.000Z.jsonl";
    for (place, of) in [(&all, None), (&one, Some(0)), (&other, Some(1))] {
        let mine = (0..).zip(&written).filter(|(number, _)| of.is_none_or(|of| number % 2 == of));
        let text: String = mine.map(|(_, line)| format!("{line}\n")).collect();
        std::fs::create_dir(place).unwrap();
        std::fs::write(place.join(file), text).unwrap();
        turnpike::config::keep_recorded(place, &loaded).unwrap();
    }
    let policies = folder.path().join("policies");
    let budget = "default: {budgets: [{name: d, limit: 10 requests, per: day}]}";
    save(&demo(AMPLE, |text| text.replace("default: {}", budget)), &policies);
    let answer = |named: &[&Path]| {
        let named = named.iter().map(|path| text(path));
        replay(&["--policies", text(&policies)].into_iter().chain(named).collect::<Vec<_>>())
    };
    let whole = answer(&[&all]);
    let whose = |line: &Value| of_default(line).then(|| "team/default/d".to_owned());
    let (first, many) = turned_away(folder.path(), 10, whose, day, |_| (1, 1));
    assert!(first.len() > 8 && many > 100, "too dull: {} days, {many}", first.len());
    assert_eq!((&whole["new"]["refused"]["budget_exceeded"], exhausted(&whole["new"])), (&many.into(), first));
    let (one_file, other_file) = (one.join(file), other.join(file));
    for named in [[&one, &other], [&other, &one], [&one_file, &other_file], [&other, &one_file]] {
        assert_eq!(answer(&named.map(AsRef::as_ref)), whole, "{named:?}");
    }
}
