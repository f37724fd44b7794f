//! A request that is decided and not sent: what it would get, by given observations and the given state of its budget.
//!
//! It goes the way of a course up to its first attempt: decide, hold, and again with less where a budget refuses.

use std::sync::Arc;

use jiff::tz::TimeZone;

use super::{funds::Funds, nobody::nobody, refusal::Refusal};
use crate::{
    base::{
        fences::{Fence, Owner, Purpose, Unit},
        money::Money,
        tenants::Team,
    },
    ledger::{HoldError, Refused},
    policy::{Decision, Observations, Policies, Question, decide::decide},
};

/// Decides, and says with what the client would be refused. `left` is what the tightest budget of money can still pay;
/// `None` = nothing limits it.
pub fn dry(
    policies: &Policies,
    observations: &dyn Observations,
    question: &Question<'_>,
    left: Option<Money>,
) -> (Decision, Option<Refusal>) {
    let team = question.caller.team;
    let mut funds = Funds::default();
    loop {
        let asked = Question { affordable: funds.purse, exhausted: &funds.exhausted, ..*question };
        let decision = decide(policies, observations, &asked);
        let Some(first) = decision.ranked.first() else {
            if funds.shorten(team) {
                continue;
            }
            let refusal = funds.refusal(&decision).unwrap_or_else(|| nobody(&decision, &|_| None));
            return (decision, Some(refusal));
        };
        let Some(left) = left.filter(|left| decision.ceiling > *left) else { return (decision, None) };
        let refused = refused(team, left, decision.ceiling);
        if !funds.short(team, first.candidate.id, &refused, Money::ZERO) {
            return (decision, Some(Refusal::hold(&HoldError::Refused(Box::new(refused)))));
        }
    }
}

/// The refusal of a budget with so much left: the team's nearest one of money, or one that stands for what was given.
fn refused(team: &Team, left: Money, wanted: Money) -> Refused {
    let mut of_money = team.lineage().flat_map(|team| team.fences.iter()).filter(|fence| fence.unit == Unit::Money);
    let fence = of_money.find(|fence| fence.purpose == Purpose::Budget).cloned().unwrap_or_else(|| {
        let owner = Owner::Team(team.name.clone());
        Arc::new(Fence {
            id: Fence::id_of(&owner, "given"),
            owner,
            name: "given".into(),
            unit: Unit::Money,
            purpose: Purpose::Budget,
            cap: left.nanousd(),
            raised: 0,
            per: None,
            zone: TimeZone::UTC,
            warn_ppm: Arc::default(),
        })
    });
    let used = fence.cap.saturating_sub(left.nanousd());
    Refused { fence, used, wanted: wanted.nanousd(), renews_at: None }
}
