//! What a candidate is worth for one request: expected tokens, cost, seconds and the value that they add up to.
//!
//! `value = P(right) × right_answer − expected seconds × second − expected cost`, all in nano-USD and in integers,
//! every term of one candidate alone: another candidate changes none of its numbers. The cost of own servers that are
//! rented is what one more request costs there, see [`Terms::marginal`].

use std::time::Duration;

use jiff::Timestamp;

use super::{Policies, Prefer, PriceInForce, Question, Seen, Terms};
use crate::base::{
    catalog::{Candidate, Model, Thinking},
    facts::Facts,
    money::{Currency, Money, NANO},
    price::{in_force, rate_in_force},
    scores::Right,
    tier::Tier,
    usage::Usage,
};

const MILLION: u128 = 1_000_000;

/// Whether a model reasons on this request: what selects a rate with a `thinking` condition, unless the upstream
/// tells otherwise.
pub fn thinks(model: &Model, facts: &Facts) -> bool {
    match model.thinking {
        Thinking::Never => false,
        Thinking::OnRequest => facts.reasoning == Some(true),
        Thinking::ByDefault => facts.reasoning != Some(false),
        Thinking::Always => true,
    }
}

/// The price of a candidate at an instant; `None` when no row holds then, or its currency has no exchange rate.
pub fn price_in_force(policies: &Policies, candidate: &Candidate, at: Timestamp) -> Option<PriceInForce> {
    let row = in_force(&candidate.prices, at)?;
    let exchange_nanousd = if row.currency == Currency::USD {
        NANO
    } else {
        rate_in_force(policies.currencies.get(&row.currency)?, at)?.nanousd
    };
    let factor_ppm = if row.calendar.is_empty() { 1_000_000 } else { row.factor_ppm(at) };
    Some(PriceInForce { row: row.clone(), factor_ppm, exchange_nanousd })
}

/// The cap on one answer that is written upstream: the client's, else the route's, within what the model can write
/// and what its context leaves beside the prompt. At least one token.
pub fn output_cap(model: &Model, facts: &Facts, route_cap: u64) -> u64 {
    let wanted = facts.max_output.unwrap_or(route_cap);
    let within = |limit: u64, cap: u64| if limit == 0 { cap } else { cap.min(limit) };
    let written = within(model.max_output, wanted);
    let input = facts.input_for(model.tokenizer);
    let room = if model.context == 0 { u64::MAX } else { model.context.saturating_sub(input) };
    written.min(room).max(1)
}

/// Expected tokens of one answer: as measured, else the model's prior, within the cap.
pub fn expected_output(model: &Model, seen: &Seen, cap: u64) -> u64 {
    seen.output_tokens.unwrap_or(model.expected_output).clamp(1, cap.max(1))
}

/// How many tokens of context the request needs: the prompt, and the answer that the client reserved; where it
/// reserved none, the answer that is expected.
pub(super) fn needed_context(model: &Model, facts: &Facts, seen: &Seen, route_cap: u64) -> u64 {
    let most = if model.max_output == 0 { u64::MAX } else { model.max_output };
    let answer = match facts.max_output {
        Some(reserved) => reserved.min(most),
        None => expected_output(model, seen, route_cap.min(most)),
    };
    facts.input_for(model.tokenizer).saturating_add(answer)
}

/// Expected time to the first token: as measured, else the model's prior; not before the request's turn comes.
pub fn first_token(candidate: &Candidate, seen: &Seen) -> Duration {
    seen.first_token.unwrap_or(candidate.model.prior.first_token).max(seen.line.wait)
}

/// The part of the expected time that was measured: to the first token of a stream, to the end of a plain answer. Nothing
/// measured is zero.
pub(super) fn measured(seen: &Seen, facts: &Facts, terms: &Terms) -> Duration {
    let first = seen.first_token.unwrap_or_default().max(seen.line.wait);
    if facts.stream {
        return first;
    }
    let further = u32::try_from(terms.output_tokens.saturating_sub(1)).unwrap_or(u32::MAX);
    first.saturating_add(seen.per_token.unwrap_or_default().saturating_mul(further))
}

/// Expected milliseconds to the last of `output` tokens.
fn expected_ms(candidate: &Candidate, seen: &Seen, output: u64) -> u64 {
    let per_token = seen.per_token.unwrap_or(candidate.model.prior.per_token);
    let nanos = first_token(candidate, seen)
        .as_nanos()
        .saturating_add(per_token.as_nanos().saturating_mul(u128::from(output.saturating_sub(1))));
    u64::try_from(nanos / MILLION).unwrap_or(u64::MAX)
}

/// The usage that is expected: the prompt as the model counts it, `n` answers of `output` tokens. Of the prompt the vendor
/// has cached what is warm there of this conversation, or what it has of any prompt on average, whichever is more.
fn expected_usage(model: &Model, facts: &Facts, seen: &Seen, output: u64) -> Usage {
    let input = facts.input_for(model.tokenizer);
    let share = |tokens: u64, ppm: u32| u128::from(tokens) * u128::from(ppm.min(1_000_000)) / MILLION;
    let cached = share(input, seen.cached_ppm).max(share(seen.warm_tokens.min(input), seen.warm_ppm));
    Usage {
        input,
        cached_input: u64::try_from(cached).unwrap_or(input),
        output: output.saturating_mul(facts.answers.max(1)),
        ..Usage::default()
    }
}

/// The terms of a candidate's value under `prefer`; an unknown price counts as zero here, and the order knows it.
pub(super) fn terms(
    question: &Question<'_>,
    candidate: &Candidate,
    seen: &Seen,
    price: Option<&PriceInForce>,
    right: Right,
    cap: u64,
    prefer: Prefer,
) -> Terms {
    let output = expected_output(&candidate.model, seen, cap);
    let asked = question.facts.tier.expected(candidate.backend.tier);
    // A server that knows no tiers serves all at its one price.
    let tier = if price.is_some_and(|price| price.row.has(asked)) { asked } else { Tier::Standard };
    let usage = Usage { tier, ..expected_usage(&candidate.model, question.facts, seen, output) };
    let thinking = thinks(&candidate.model, question.facts);
    let cost = price.map_or(Money::ZERO, |price| price.charge(&usage, thinking).money);
    let expected_ms = expected_ms(candidate, seen, output);
    let marginal = marginal(question, candidate, seen, cost, prefer);
    Terms {
        right_ppm: right.ppm,
        right_low_ppm: right.low_ppm,
        score_rows: right.rows,
        expected_ms,
        input_tokens: usage.input,
        cached_tokens: usage.cached_input,
        output_tokens: output,
        tier,
        cost,
        marginal,
        value: value(right.ppm, expected_ms, marginal, prefer),
    }
}

/// What one more request costs. Rented servers are paid whether they work or not, so there it is what the longer wait of
/// those behind it is worth ([`super::queue`]); its own wait is in its seconds. Where a budget binds the choice, what is
/// charged to it counts.
fn marginal(question: &Question<'_>, candidate: &Candidate, seen: &Seen, cost: Money, prefer: Prefer) -> Money {
    let of_budget = question.affordable.is_some_and(|purse| purse.cheapest);
    if candidate.backend.rent.is_none() || of_budget {
        return cost;
    }
    let Prefer::Worth { second, .. } = worth(prefer) else { return Money::ZERO };
    let micros = i128::try_from(seen.line.behind().as_micros()).unwrap_or(i128::MAX);
    Money::saturating_from(micros.saturating_mul(i128::from(second.nanousd())) / 1_000_000)
}

/// The limits of the formula value a second and an answer as `balanced` does.
fn worth(prefer: Prefer) -> Prefer {
    if matches!(prefer, Prefer::Worth { .. }) { prefer } else { Prefer::BALANCED }
}

/// `P × right_answer − seconds × second − cost`; for the limits of the formula, what `balanced` would make of it.
fn value(right_ppm: u32, expected_ms: u64, cost: Money, prefer: Prefer) -> Money {
    let Prefer::Worth { right_answer, second } = worth(prefer) else { return Money::ZERO };
    let gain = i128::from(right_ppm) * i128::from(right_answer.nanousd()) / 1_000_000;
    let wait = i128::from(expected_ms).saturating_mul(i128::from(second.nanousd())) / 1000;
    Money::saturating_from(gain.saturating_sub(wait).saturating_sub(i128::from(cost.nanousd())))
}
