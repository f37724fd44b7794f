//! What is written of what the policies made.

use std::sync::Arc;

use super::{
    BreakEvenLine, DecidedLine, PreferLine, PriceLine, PurseLine, RankedLine, RejectedLine, RequireLine, StakeLine,
    TermsLine, nanos,
};
use crate::{
    base::tier::Tier,
    policy::{
        BreakEven, Decision, Floor, Ordering, Prefer, PriceInForce, Purse, Ranked, Rejected, Require, Terms,
        stake::Stake,
    },
    telemetry::record::line::Label,
};

impl From<&Decision> for DecidedLine {
    fn from(decision: &Decision) -> Self {
        Self {
            route: decision.route.shared(),
            arm: decision.arm.as_ref().map(|arm| arm.shared()),
            category: decision.category.as_str().into(),
            fit: Arc::clone(&decision.fit),
            prefer: decision.order.into(),
            require: RequireLine::from(&decision.require),
            rules: decision.rules.clone(),
            rule_errors: decision.rule_errors,
            attempts: decision.attempts,
            ceiling_nanousd: decision.ceiling.nanousd(),
            last_resort: decision.last_resort,
            late: decision.late,
            ranked: decision.ranked.iter().map(RankedLine::from).collect(),
            rejected: decision.rejected.iter().map(RejectedLine::from).collect(),
            withdrawn: withdrawn(decision),
            break_even: decision.break_even.iter().map(BreakEvenLine::from).collect(),
            left_out: 0,
        }
    }
}

impl From<&BreakEven> for BreakEvenLine {
    fn from(found: &BreakEven) -> Self {
        let (candidate, against) = (Label::of(&found.candidate), Label::of(&found.against));
        Self { candidate, against, tokens_per_hour: found.tokens_per_hour }
    }
}

impl From<Purse> for PurseLine {
    fn from(purse: Purse) -> Self {
        Self { left_nanousd: purse.left.nanousd(), cheapest: purse.cheapest, clamp: purse.clamp }
    }
}

impl From<Ordering> for PreferLine {
    fn from(order: Ordering) -> Self {
        match order {
            Ordering::Listed => Self::Listed,
            Ordering::Prefer(Prefer::Cheapest) => Self::Cheapest,
            Ordering::Prefer(Prefer::Fastest) => Self::Fastest,
            Ordering::Prefer(Prefer::Best) => Self::Best,
            Ordering::Prefer(Prefer::Worth { right_answer, second }) => {
                Self::Worth { right_answer_nanousd: right_answer.nanousd(), second_nanousd: second.nanousd() }
            }
        }
    }
}

impl From<&Require> for RequireLine {
    fn from(require: &Require) -> Self {
        Self {
            right: require.right.as_ref().map(floor),
            max_cost_nanousd: require.max_cost.map(|max| max.nanousd()),
            first_token_p95_ns: require.first_token_p95.map(nanos),
        }
    }
}

/// A floor as operators write it, in parts per million or thousandths.
fn floor(floor: &Floor) -> String {
    match floor {
        Floor::Fitted(ppm) => format!("{ppm} ppm"),
        Floor::Of { at_least_ppm, model } => format!("{at_least_ppm} ppm of {model}"),
        Floor::Benchmark { benchmark, at_least_milli } => format!("{at_least_milli} thousandths in {benchmark}"),
    }
}

impl From<&Terms> for TermsLine {
    fn from(terms: &Terms) -> Self {
        let Terms {
            right_ppm,
            right_low_ppm,
            score_rows,
            expected_ms,
            input_tokens,
            cached_tokens,
            output_tokens,
            tier,
            cost,
            marginal,
            value,
        } = *terms;
        Self {
            right_ppm,
            right_low_ppm,
            score_rows,
            expected_ms,
            input: input_tokens,
            cached: cached_tokens,
            output: output_tokens,
            tier: (tier != Tier::Standard).then(|| tier.as_str().into()),
            cost_nanousd: cost.nanousd(),
            marginal_nanousd: (marginal != cost).then_some(marginal.nanousd()),
            value_nanousd: value.nanousd(),
        }
    }
}

impl From<&PriceInForce> for PriceLine {
    fn from(price: &PriceInForce) -> Self {
        let dollars = price.row.currency == crate::base::money::Currency::USD;
        Self {
            from: price.row.from,
            currency: price.row.currency.as_str().into(),
            factor_ppm: (price.factor_ppm != 1_000_000).then_some(price.factor_ppm),
            exchange_nanousd: (!dollars).then_some(price.exchange_nanousd),
        }
    }
}

impl From<&Stake> for StakeLine {
    fn from(stake: &Stake) -> Self {
        Self {
            input: stake.input,
            counted: stake.counted,
            margin: stake.margin,
            output: stake.output,
            cap: stake.cap,
            unseen_ppm: stake.unseen_ppm,
            first_nanousd: stake.first.nanousd(),
        }
    }
}

impl From<&Ranked> for RankedLine {
    fn from(ranked: &Ranked) -> Self {
        Self {
            candidate: Label::of(&ranked.candidate),
            terms: TermsLine::from(&ranked.terms),
            price: ranked.price.as_ref().map(PriceLine::from),
            max_output: ranked.max_output,
            clamped: ranked.clamped,
            ceiling_nanousd: ranked.ceiling.nanousd(),
            stake: StakeLine::from(&ranked.stake),
        }
    }
}

impl From<&Rejected> for RejectedLine {
    fn from(rejected: &Rejected) -> Self {
        Self {
            candidate: Label::of(&rejected.candidate),
            kind: rejected.why.word().into(),
            why: rejected.why.to_string(),
            terms: rejected.terms.as_ref().map(TermsLine::from),
        }
    }
}

/// The arms that nobody was dealt to, and why.
pub(super) fn withdrawn(decision: &Decision) -> Vec<(Arc<str>, Arc<str>)> {
    decision.withdrawn.iter().map(|(arm, why)| (arm.shared(), Arc::clone(why))).collect()
}
