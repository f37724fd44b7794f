//! The table of a decision: every candidate with its terms in money, or with the number that failed; and the rows that
//! stand behind the numbers.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};
use jiff::Timestamp;

use super::super::books::shown;
use crate::{
    admin::api::{DecisionAnswer, OutcomeLine},
    base::money::Money,
    policy::Prefer,
    telemetry::record::{
        decided::{AskedLine, DecidedLine, DecisionLine, PreferLine, PriceLine, TermsLine},
        evidence::{EvidenceLine, PriceRowLine, RateLine},
        texts::Texts,
    },
};

/// How many score rows are shown of one candidate.
const ROWS_SHOWN: usize = 6;

/// The whole answer as text.
pub(super) fn text(answer: &DecisionAnswer) -> String {
    let mut text = String::new();
    if let Some(outcome) = &answer.outcome {
        outcome_told(&mut text, outcome);
    }
    if let Some(request) = &answer.shadow_of {
        let _ = writeln!(text, "shadow of {request}: the operator's own, nobody was given its answer");
    }
    if let Some(shadow) = &answer.shadow {
        text.push_str("its shadow, at the operator's expense\n");
        outcome_told(&mut text, shadow);
    }
    let facts = &answer.facts;
    let mut asked = vec![format!("`{}`", shown(&facts.model)), format!("{} prompt tokens", facts.input_tokens)];
    asked.push(match &facts.counted_with {
        Some(vocabulary) => format!("counted as {vocabulary} does"),
        None => "estimated".to_owned(),
    });
    asked.extend(facts.max_output.map(|most| format!("at most {most} of answer")));
    let marks = [
        (facts.stream, "stream"),
        (facts.json, "JSON"),
        (facts.tools > 0, "tools"),
        (facts.images > 0, "images"),
        (facts.audio > 0, "audio"),
    ];
    asked.extend(marks.into_iter().filter(|(is, _)| *is).map(|(_, word)| word.to_owned()));
    let unsure = if facts.category_confident { "" } else { " (unsure: overall ability)" };
    let _ = writeln!(text, "asked     {}; team {}, category {}{unsure}", asked.join(", "), answer.team, facts.category);
    if !answer.reason.is_empty() {
        let _ = writeln!(text, "reason    {}", answer.reason);
    }
    if let Some(unknown) = &answer.unknown {
        let _ = writeln!(text, "not known {}", shown(unknown));
    }
    for (number, decision) in answer.decisions.iter().enumerate() {
        if number > 0 {
            let _ = writeln!(text, "\ndecided again, {}", after(&decision.asked));
        }
        decision_told(&mut text, decision, &answer.policy);
    }
    evidence_told(&mut text, &answer.evidence);
    if let Some(texts) = &answer.texts {
        texts_told(&mut text, texts);
    }
    text
}

/// What was asked and answered, without what would move the cursor.
fn texts_told(text: &mut String, texts: &Texts) {
    for (name, said, cut) in [("asked", &texts.prompt, texts.prompt_cut), ("answered", &texts.answer, texts.answer_cut)]
    {
        let cut = if cut { ", cut off" } else { "" };
        let _ = writeln!(text, "\nwhat was {name} ({} bytes kept{cut})", said.len());
        said.lines().for_each(|line| text.push_str(&format!("{}\n", shown(line))));
    }
}

fn outcome_told(text: &mut String, outcome: &OutcomeLine) {
    let by = outcome.served.as_ref().map(|served| format!(" by {served}")).unwrap_or_default();
    let code = if outcome.code.is_empty() { String::new() } else { format!(" {}", outcome.code) };
    let cost = Money::from_nanousd(outcome.cost_nanousd);
    let total = seconds(outcome.total_ms);
    let _ = writeln!(text, "request   {}", outcome.id);
    let _ = writeln!(text, "answered  {}{code}, {}{by}, for {cost} USD, after {total} s", outcome.status, outcome.end);
    for (number, attempt) in outcome.attempts.iter().enumerate() {
        let _ = writeln!(
            text,
            "attempt {} {} ({}): {}, {}+{} tokens, {} USD, {} s",
            number + 1,
            attempt.candidate,
            attempt.account,
            attempt.outcome,
            attempt.input,
            attempt.output,
            Money::from_nanousd(attempt.cost_nanousd),
            seconds(attempt.total_ms)
        );
    }
}

fn after(asked: &AskedLine) -> String {
    let mut causes = Vec::new();
    if !asked.failed.is_empty() {
        let failed: Vec<String> = asked.failed.iter().map(ToString::to_string).collect();
        causes.push(format!("without {}", failed.join(", ")));
    }
    if let Some(purse) = asked.purse {
        causes.push(format!("with {} USD left", Money::from_nanousd(purse.left_nanousd)));
    }
    causes.extend(asked.exhausted.iter().map(|(label, fence)| format!("{label} being at {fence}")));
    if causes.is_empty() { "with what had changed".to_owned() } else { causes.join(", ") }
}

fn decision_told(text: &mut String, decision: &DecisionLine, policy: &str) {
    let (asked, decided) = (&decision.asked, &decision.decided);
    let arm = decided.arm.as_ref().map(|arm| format!(" (arm {arm})")).unwrap_or_default();
    let _ = writeln!(text, "route     {}{arm}, policies {policy}, at {}", decided.route, shortly(asked.at));
    let _ = writeln!(text, "prefers   {}; scores as fitted on {}", preference(decided.prefer), decided.fit);
    let require = &decided.require;
    let mut conditions = Vec::new();
    conditions.extend(require.right.as_ref().map(|right| format!("right {right}")));
    conditions.extend(require.max_cost_nanousd.map(|max| format!("at most {} USD", Money::from_nanousd(max))));
    let p95 = require.first_token_p95_ns;
    conditions.extend(p95.map(|ns| format!("first token within {} s (95 %)", seconds(ns / 1_000_000))));
    conditions.extend((!decided.rules.is_empty()).then(|| format!("rules that matched: {}", decided.rules.join(", "))));
    if !conditions.is_empty() {
        let _ = writeln!(text, "requires  {}", conditions.join("; "));
    }
    if let Some(budget) = &asked.budget {
        let fence = budget.fence.as_deref().unwrap_or("the tightest");
        let (used, left) = (percent(budget.used_ppm), Money::from_nanousd(budget.left_nanousd));
        let _ = writeln!(text, "budget    {}: {used} used, {left} USD left", shown(fence));
    }
    for (arm, why) in &decided.withdrawn {
        let _ = writeln!(text, "withdrawn arm {arm}: {}", shown(why));
    }
    candidates_told(text, decided);
}

/// Every candidate with its terms or the number that failed, and from which load on the rented ones pay.
pub(in crate::cli) fn candidates_told(text: &mut String, decided: &DecidedLine) {
    candidates(decided).lines().for_each(|line| text.push_str(&format!("{}\n", line.trim_end())));
    for found in &decided.break_even {
        let (rented, sold, tokens) = (&found.candidate, &found.against, found.tokens_per_hour);
        let _ = writeln!(text, "the rent of {rented} pays from {tokens} tokens an hour on, against {sold}");
    }
}

/// `balanced` is shown with what it stands for, since that is what the terms are made of.
fn worth(prefer: PreferLine) -> (i64, i64) {
    match prefer {
        PreferLine::Worth { right_answer_nanousd, second_nanousd } => (right_answer_nanousd, second_nanousd),
        PreferLine::Listed | PreferLine::Cheapest | PreferLine::Fastest | PreferLine::Best => match Prefer::BALANCED {
            Prefer::Worth { right_answer, second } => (right_answer.nanousd(), second.nanousd()),
            Prefer::Cheapest | Prefer::Fastest | Prefer::Best => (0, 0),
        },
    }
}

fn preference(prefer: PreferLine) -> String {
    let (right, second) = worth(prefer);
    let terms =
        format!("a right answer {} USD, a second {} USD", Money::from_nanousd(right), Money::from_nanousd(second));
    match prefer {
        PreferLine::Listed => format!("the order of the file (value as balanced: {terms})"),
        PreferLine::Cheapest => format!("the cheapest (value as balanced: {terms})"),
        PreferLine::Fastest => format!("the fastest (value as balanced: {terms})"),
        PreferLine::Best => format!("the best (value as balanced: {terms})"),
        PreferLine::Worth { .. } => terms,
    }
}

fn candidates(decided: &DecidedLine) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "",
        "candidate",
        "P(right)",
        "× worth",
        "seconds",
        "× worth",
        "tokens",
        "cost USD",
        "value USD",
        "",
    ]);
    for (place, ranked) in decided.ranked.iter().enumerate() {
        let mut row = vec![(place + 1).to_string(), ranked.candidate.to_string()];
        row.extend(terms(&ranked.terms, ranked.price.is_some(), decided.prefer));
        let price = ranked.price.as_ref().map_or_else(|| "no price known".to_owned(), price_in_short);
        let clamped = if ranked.clamped { format!("; capped at {} tokens", ranked.max_output) } else { String::new() };
        row.push(format!("{price}{clamped}"));
        table.add_row(row);
    }
    for rejected in &decided.rejected {
        let mut row = vec!["–".to_owned(), rejected.candidate.to_string()];
        match &rejected.terms {
            Some(known) => row.extend(terms(known, rejected.kind.as_ref() != "no_price", decided.prefer)),
            None => row.extend(std::iter::repeat_n(String::new(), 7)),
        }
        row.push(shown(&rejected.why));
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(2).take(7) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The seven cells of the terms.
fn terms(terms: &TermsLine, priced: bool, prefer: PreferLine) -> [String; 7] {
    let (right, second) = worth(prefer);
    let gain = i128::from(terms.right_ppm) * i128::from(right) / 1_000_000;
    let wait = i128::from(terms.expected_ms) * i128::from(second) / 1000;
    let cached = if terms.cached > 0 { format!(" ({} cached)", terms.cached) } else { String::new() };
    [
        format!("{} (≥ {})", percent(terms.right_ppm.into()), percent(terms.right_low_ppm.into())),
        usd(Money::saturating_from(gain)),
        seconds(terms.expected_ms),
        usd(Money::saturating_from(-wait)),
        format!("{}{cached} + {}", terms.input, terms.output),
        match terms.marginal_nanousd {
            Some(marginal) => format!(
                "{} ({} more)",
                usd(Money::from_nanousd(terms.cost_nanousd)),
                usd(Money::from_nanousd(marginal))
            ),
            None if priced => usd(Money::from_nanousd(terms.cost_nanousd)),
            None => "?".to_owned(),
        },
        // A value without a cost would be too good.
        if priced || terms.marginal_nanousd.is_some() {
            usd(Money::from_nanousd(terms.value_nanousd))
        } else {
            "?".to_owned()
        },
    ]
}

fn price_in_short(price: &PriceLine) -> String {
    let exchange = price.exchange_nanousd.map(|rate| format!(" at {} USD", Money::from_nanousd(rate)));
    let factor = price.factor_ppm.map(|ppm| format!(" × {}", Money::from_nanousd(ppm.saturating_mul(1000))));
    let (exchange, factor) = (exchange.unwrap_or_default(), factor.unwrap_or_default());
    let since =
        if price.from == Timestamp::MIN { String::new() } else { format!(" of {}", price.from.strftime("%Y-%m-%d")) };
    format!("price{since} in {}{exchange}{factor}", price.currency)
}

fn evidence_told(text: &mut String, evidence: &[EvidenceLine]) {
    if evidence.is_empty() {
        return;
    }
    let _ = writeln!(text, "\nwhat stands behind it");
    for line in evidence {
        let _ = writeln!(text, "{}", line.candidate);
        match &line.price {
            Some(price) => {
                let _ = writeln!(text, "  price   {}", price_told(price));
            }
            None => {
                let _ = writeln!(text, "  price   none is known");
            }
        }
        for score in line.scores.iter().take(ROWS_SHOWN) {
            let (by, source) = (&score.by, shown(&score.source));
            let _ = writeln!(text, "  score   {} {}, {} ({by}), {source}", score.benchmark, score.value, score.date);
        }
        match line.scores.len().saturating_sub(ROWS_SHOWN) {
            0 if line.scores.is_empty() => {
                let _ = writeln!(text, "  score   none is known: the weakest tenth's chance counts");
            }
            0 => {}
            more => {
                let _ = writeln!(text, "          and {more} older ones; all with --json");
            }
        }
    }
}

fn price_told(price: &PriceRowLine) -> String {
    let rate = |rate: &RateLine| {
        let when = if rate.when.is_empty() { String::new() } else { format!("{}: ", rate.when) };
        let reasoning = rate.reasoning.as_ref().map(|price| format!(" reasoning {price}")).unwrap_or_default();
        format!("{when}input {} cached {} output {}{reasoning}", rate.input, rate.cached_input, rate.output)
    };
    let rates: Vec<String> = price.rates.iter().map(rate).collect();
    let until = price.until.map(|until| format!(" until {}", shortly(until))).unwrap_or_default();
    let exchange = price.exchange.as_ref();
    let exchange = exchange.map(|(rate, from)| format!(", 1 {} = {rate} USD since {}", price.currency, shortly(*from)));
    let factor = price.factor.as_ref().map(|factor| format!(", × {factor} at this hour")).unwrap_or_default();
    let since =
        if price.from == Timestamp::MIN { "at all times".to_owned() } else { format!("from {}", shortly(price.from)) };
    let source = if price.source.is_empty() { String::new() } else { format!(", {}", shown(&price.source)) };
    format!(
        "{} per million: {}{factor}; {since}{until}{}{source}",
        price.currency,
        rates.join(" | "),
        exchange.unwrap_or_default(),
    )
}

/// An instant to the second, without a time of day where it is midnight.
fn shortly(at: Timestamp) -> String {
    let whole = at.round(jiff::Unit::Second).unwrap_or(at);
    if whole.as_second() % 86_400 == 0 { whole.strftime("%Y-%m-%d").to_string() } else { whole.to_string() }
}

/// Dollars to six decimals, or all where that shows nothing.
fn usd(amount: Money) -> String {
    let cut = Money::from_nanousd(amount.nanousd() / 1000 * 1000);
    if cut == Money::ZERO { amount.to_string() } else { cut.to_string() }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:02}", ms / 1000, ms % 1000 / 10)
}

fn percent(ppm: u64) -> String {
    let permille = ppm.saturating_add(500) / 1000;
    format!("{}.{} %", permille / 10, permille % 10)
}
