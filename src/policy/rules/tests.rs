//! What a condition may say, and what is refused at load.

use std::collections::BTreeMap;

use super::*;
use crate::base::tenants::Team;

fn team() -> Team {
    let labels = Arc::new(BTreeMap::from([("cost_center".to_owned(), "4711".to_owned())]));
    Team { labels, ..Team::named("batch") }
}

/// Thursday 2026-11-26, 23:30 UTC: Friday 07:30 in Shanghai.
fn holds(text: &str) -> Result<bool, Failed> {
    let team = team();
    let facts = Facts {
        model: "auto".into(),
        stream: true,
        input_tokens: 1200,
        images: 1,
        reasoning: Some(true),
        ..Facts::default()
    };
    let scope = Scope {
        facts: &facts,
        caller: Caller { team: &team, key: "k7Qm2x", user: "ann", session: "" },
        budget: BudgetSeen { used_ppm: 850_000, left: Some(Money::from_nanousd(1_500_000_000)), pace_ppm: 1_200_000 },
        now: "2026-11-26T23:30:00Z".parse().unwrap(),
        live: None,
    };
    Condition::compile(text).unwrap().holds(&scope)
}

#[test]
fn every_variable_and_function_of_the_contract_is_read() {
    for text in [
        "request.images > 0",
        "budget.used > 0.8",
        "budget.left_usd < 2.0 && budget.left_usd > 1.4",
        "budget.pace >= 1.2",
        "caller.team == \"batch\" && hour(\"Asia/Shanghai\") < 8",
        "hour('Asia/Shanghai') == 7 && minute('Asia/Shanghai') == 30 && weekday('Asia/Shanghai') == 5",
        "weekday('UTC') == 4",
        "request.model == 'auto' && request.stream && request.input_tokens == 1200 && request.reasoning",
        "request.max_output == 0 && request.audio == 0 && request.tools == 0 && !request.json",
        "request.messages == 0 && request.category == 'chat'",
        "caller.key == 'k7Qm2x' && caller.user.startsWith('a')",
        "caller.labels.cost_center == '4711' && caller.labels['cost_center'] == '4711'",
        "caller.labels.absent == '' && !('absent' in caller.labels) && has(caller.labels.cost_center)",
        "has(request.images)",
        "caller.team in ['batch', 'night']",
        "['ba', 'night'].exists(prefix, caller.team.startsWith(prefix))",
        "request.input_tokens > 1000 ? request.images == 1 : false",
        "size(caller.labels) == 1",
        "!off_peak('x') && !available(request.model)",
    ] {
        assert_eq!(holds(text), Ok(true), "{text}");
    }
}

#[test]
fn a_condition_that_fails_while_it_runs_does_not_hold() {
    assert_eq!(holds("request.input_tokens / request.tools > 1"), Err(Failed));
    assert_eq!(holds("caller.labels[caller.user] == 'x'"), Err(Failed));
}

#[test]
fn what_cannot_hold_is_refused_at_load() {
    let refused = |text: &str| {
        let error = Condition::compile(text).expect_err(text);
        format!("{}@{}", error.message, error.offset.map_or_else(|| "-".to_owned(), |at| at.to_string()))
    };
    for (text, part) in [
        ("request.imags > 0", "unknown variable `request.imags`"),
        ("request > 0", "`request` is no value"),
        ("team == 'x'", "unknown variable `team`"),
        ("hours('UTC') < 8", "unknown function `hours`"),
        ("hour('Mars/Base') < 8", "unknown time zone `Mars/Base`"),
        ("hour(8) < 8", "`hour` takes one text in quotes"),
        ("request.images", "the condition is int, not true or false"),
        ("request.images > 0 && budget.used", "`&&` joins true and false, not double"),
        ("false && request.images + 'x' == 1", "`+` does not take"),
        ("budget.used * 2 > 1.0", "`*` does not take"),
        ("request.stream ? request.images < 'x' : true", "`<` does not take `int` and `string`"),
        ("caller.team == 5", "`==` compares string with int"),
        ("caller.team == \"x", "syntax error"),
        ("caller.team == 'x' &&", "syntax error"),
        ("[1].exists(x, [1].exists(y, x == y))", "a loop inside of a loop"),
        ("caller.team.matches('x')", "unknown function `matches`"),
        ("", "syntax error"),
    ] {
        let error = refused(text);
        assert!(error.contains(part), "{text}: {error}");
    }
    assert_eq!(Condition::compile("true && request.imags > 0").unwrap_err().offset, Some(16));
    assert!(refused(&format!("{} true", "!".repeat(2_001))).contains("bytes"));
    assert!(Condition::compile(&"(".repeat(1_900)).is_err());
    assert!(Condition::compile(&"!".repeat(1_900)).is_err());
    assert!(Condition::compile(&vec!["true"; 300].join("&&")).is_err(), "too many nodes");
}

#[test]
fn the_models_that_a_condition_asks_about_are_told() {
    let condition = Condition::compile("off_peak('deepseek-v3') || available('qwen-max')").unwrap();
    assert_eq!(condition.models().collect::<Vec<_>>(), ["deepseek-v3", "qwen-max"]);
}
