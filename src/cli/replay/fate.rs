//! What becomes of one recorded request: as it is recorded, or as a [`Course`](super::course) through other policies
//! finds it.

use std::sync::Arc;

use crate::{
    base::usage::Usage,
    policy::Policies,
    telemetry::record::{
        Line,
        line::{AttemptLine, Label},
    },
};

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fate {
    /// Who answered; `None` = nobody.
    pub(super) served: Option<Label>,
    /// Why nobody did; empty when somebody did.
    pub(super) refused: Arc<str>,
    /// What it cost, without what those of `unpriced` did.
    pub(super) cost_nanousd: i64,
    /// Who used tokens at a price that is not known.
    pub(super) unpriced: Vec<Label>,
    /// What was not recorded and had to be estimated.
    pub(super) estimate: Option<Estimate>,
    /// The chance of a right answer.
    pub(super) right_ppm: u32,
    /// To the first token; `None` = whole answers do not tell.
    pub(super) first_token_ms: Option<u64>,
    /// All attempts together.
    pub(super) total_ms: u64,
}

/// What is estimated of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Estimate {
    /// The part of the cost that its answer's length makes.
    pub(super) output_nanousd: i64,
}

impl Fate {
    /// As it is recorded. `before`: the policies that it was recorded under, where they are known.
    pub(super) fn recorded(line: &Line, before: Option<&Policies>) -> Self {
        let mut all = line.decisions.iter().rev().flat_map(|decision| &decision.decided.ranked);
        let ranked = |label: &Label| all.find(|ranked| ranked.candidate == *label);
        let served = line.served.clone();
        let terms = served.as_ref().and_then(ranked).map(|ranked| &ranked.terms);
        let (first_token_ms, total_ms) = times(line);
        Self {
            refused: if served.is_none() { why(line) } else { "".into() },
            cost_nanousd: line.cost_nanousd,
            unpriced: unpriced(line, before),
            estimate: None,
            right_ppm: terms.map_or(0, |terms| terms.right_ppm),
            first_token_ms,
            total_ms,
            served,
        }
    }

    /// Nobody answered, for that reason.
    pub(super) fn nobody(why: &str, cost_nanousd: i64) -> Self {
        Self { refused: why.into(), cost_nanousd, ..Self::default() }
    }
}

/// Of a recorded answer: whose it is, its tokens, and those that had been expected.
pub(super) fn length(line: &Line) -> Option<(&Label, u64, u64)> {
    let served = line.served.as_ref()?;
    let answered = line.attempts.iter().rfind(|attempt| attempt.is_ok() && !attempt.estimated)?;
    let mut all = line.decisions.iter().rev().flat_map(|decision| &decision.decided.ranked);
    let ranked = all.find(|ranked| ranked.candidate == *served)?;
    Some((served, answered.output, ranked.terms.output))
}

/// Whom no price was known of when they used tokens. Servers that are rented need none: their rent is paid anyway.
fn unpriced(line: &Line, before: Option<&Policies>) -> Vec<Label> {
    let rented = |label: &Label| {
        let mut all = before.into_iter().flat_map(|policies| &policies.candidates);
        all.any(|candidate| candidate.backend.rent.is_some() && label.is(candidate))
    };
    let mut found = Vec::new();
    for attempt in &line.attempts {
        let label = &attempt.candidate;
        // What is charged is told as the vendor bills it, be it nothing.
        if attempt.native.is_empty() && uses_tokens(attempt) && !found.contains(label) && !rented(label) {
            found.push(label.clone());
        }
    }
    found
}

/// Whether there is something to pay for.
pub(super) fn uses_tokens(attempt: &AttemptLine) -> bool {
    let Usage { input, output, reasoning, audio_input, audio_output, .. } = attempt.usage();
    [input, output, reasoning, audio_input, audio_output].iter().any(|tokens| *tokens > 0)
}

/// Why nobody answered.
pub(super) fn why(line: &Line) -> Arc<str> {
    if line.code.is_empty() { line.end.clone() } else { line.code.clone() }
}

/// To the first token of the last attempt, and of all attempts. Where two ran at once, what the client saw.
pub(super) fn times(line: &Line) -> (Option<u64>, u64) {
    let attempts = &line.attempts;
    if attempts.iter().any(|attempt| attempt.hedge) {
        return (line.first_byte_ms.filter(|_| line.facts.stream), line.total_ms);
    }
    let all: u64 = attempts.iter().map(|attempt| attempt.total_ms).sum();
    let last = attempts.last();
    let before = all - last.map_or(0, |last| last.total_ms);
    (last.and_then(|last| last.first_token_ms).map(|first| before + first), all)
}
