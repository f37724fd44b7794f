//! Funds: what is tried when a fence has too little left for a request.
//!
//! A budget or limit of a model, a backend or a provider takes out the candidates inside it; the request goes on to
//! another. A budget of money around the request itself is refused, or, as its team says, narrows the choice to what it
//! can still pay (`on_empty: downgrade`) and at last the length of the answer (`clamp_output`).

use std::sync::Arc;

use super::refusal::Refusal;
use crate::{
    base::{
        catalog::CandidateId,
        fences::{Purpose, Unit},
        money::Money,
        tenants::{OnEmpty, Team},
    },
    ledger::{HoldError, Refused},
    policy::{Decision, Purse, Rejection},
};

/// How often a request asks again for less: what it was told is left may be gone by then.
const ROUNDS: u8 = 3;

/// What is known of the fences that refused a request.
#[derive(Debug, Default)]
pub struct Funds {
    /// What its budget can still pay, once that was too little.
    pub purse: Option<Purse>,
    /// Candidates whose own fences are reached, and which those are.
    pub exhausted: Vec<(CandidateId, Arc<str>)>,
    refused: Option<Refused>,
    rounds: u8,
}

impl Funds {
    /// Takes in that a fence refused an attempt by `candidate`, `charged` having been spent by the request before.
    /// True when a new decision may find a way, false when the refusal stands.
    pub fn short(&mut self, team: &Team, candidate: CandidateId, refused: &Refused, charged: Money) -> bool {
        let fence = &refused.fence;
        let label: Arc<str> = fence.label().into();
        self.refused = Some(refused.clone());
        if fence.owner.of_attempts() {
            self.exhausted.push((candidate, label));
            return true;
        }
        let cheapest = team.on_empty == OnEmpty::Downgrade;
        let left = Money::from_nanousd(refused.left()) - charged;
        let of_money = fence.purpose == Purpose::Budget && fence.unit == Unit::Money;
        if !of_money || left <= Money::ZERO || !(cheapest || team.clamp_output) || self.rounds == ROUNDS {
            return false;
        }
        self.rounds += 1;
        // A downgrade keeps the answer whole as long as any candidate can give it.
        let clamp = !cheapest || self.purse.is_some_and(|purse| purse.clamp);
        self.purse = Some(Purse { left, cheapest, clamp });
        true
    }

    /// Nobody fits into what is left: whether a shorter answer may.
    pub fn shorten(&mut self, team: &Team) -> bool {
        match &mut self.purse {
            Some(purse) if team.clamp_output && !purse.clamp => {
                purse.clamp = true;
                true
            }
            _ => false,
        }
    }

    /// The refusal when nobody may be tried: the fence's own, unless somebody is only busy and a later try may do.
    pub fn refusal(&self, decision: &Decision) -> Option<Refusal> {
        let refused = self.refused.as_ref()?;
        let busy = decision
            .rejected
            .iter()
            .any(|rejected| matches!(rejected.why, Rejection::Unavailable(_) | Rejection::Spilled { .. }));
        if busy && refused.fence.owner.of_attempts() {
            return None;
        }
        Some(Refusal::hold(&HoldError::Refused(Box::new(refused.clone()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fences::{Fence, Owner};

    fn refused(owner: Owner, unit: Unit, cap: i64, used: i64) -> Refused {
        let fence = Fence { purpose: Purpose::Budget, ..Fence::sample(owner, unit, cap) };
        Refused { fence: Arc::new(fence), used, wanted: cap, renews_at: None }
    }

    fn team(on_empty: OnEmpty, clamp_output: bool) -> Team {
        Team { on_empty, clamp_output, ..Team::named("search") }
    }

    fn short(team: &Team, refused: &Refused) -> Option<Option<Purse>> {
        let mut funds = Funds::default();
        funds.short(team, CandidateId(0), refused, Money::from_nanousd(10)).then_some(funds.purse)
    }

    #[test]
    fn a_team_says_how_far_it_goes_with_what_is_left() {
        let of_team = |used| refused(Owner::Team("search".into()), Unit::Money, 1_000, used);
        let purse = |cheapest, clamp| Some(Some(Purse { left: Money::from_nanousd(90), cheapest, clamp }));
        assert_eq!(short(&team(OnEmpty::Refuse, false), &of_team(900)), None);
        assert_eq!(short(&team(OnEmpty::Refuse, true), &of_team(900)), purse(false, true));
        assert_eq!(short(&team(OnEmpty::Downgrade, false), &of_team(900)), purse(true, false));
        assert_eq!(short(&team(OnEmpty::Downgrade, true), &of_team(900)), purse(true, false));
        assert_eq!(short(&team(OnEmpty::Downgrade, true), &of_team(990)), None);
        let tokens = refused(Owner::Team("search".into()), Unit::Tokens, 1_000, 900);
        assert_eq!(short(&team(OnEmpty::Downgrade, true), &tokens), None);
        let of_model = refused(Owner::Model("m".into()), Unit::Tokens, 1_000, 1_000);
        assert_eq!(short(&team(OnEmpty::Refuse, false), &of_model), Some(None));
    }

    #[test]
    fn a_downgrade_shortens_the_answer_last_and_gives_up_at_last() {
        let (team, refused) =
            (team(OnEmpty::Downgrade, true), refused(Owner::Team("search".into()), Unit::Money, 1_000, 900));
        let mut funds = Funds::default();
        assert!(!funds.shorten(&team));
        let mut again = || funds.short(&team, CandidateId(0), &refused, Money::ZERO);
        assert!(again());
        assert!(again());
        assert!(again());
        assert!(!again());
        assert!(funds.shorten(&team));
        assert!(!funds.shorten(&team));
    }
}
