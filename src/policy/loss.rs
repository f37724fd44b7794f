//! What the policies let a gateway spend while the store of budgets is away.

use super::Policies;
use crate::base::{
    fences::Purpose,
    money::Money,
    tenants::{OnStoreLoss, Team},
};

/// Whether a budget, of whatever unit, binds the team or its users.
pub fn is_budgeted(team: &Team) -> bool {
    team.lineage().any(|team| {
        let users = team.per_user.as_ref().is_some_and(|allowance| !allowance.budgets.is_empty());
        users || team.fences.iter().any(|fence| fence.purpose == Purpose::Budget)
    })
}

/// The teams that spend from the budgets of `team` (itself and those below it) and are `open` without the store, each
/// with its amount, by name. What they do not say themselves is `lease`: nobody inherits it.
pub fn open_below<'a>(policies: &'a Policies, team: &Team) -> Vec<(&'a Team, Money)> {
    let below = policies.teams.values().filter(|other| other.lineage().any(|above| above.name == team.name));
    let open = below.filter_map(|other| match other.on_store_loss {
        OnStoreLoss::Open(most) => Some((other.as_ref(), most)),
        OnStoreLoss::Lease | OnStoreLoss::Closed => None,
    });
    let mut open: Vec<_> = open.collect();
    open.sort_by_key(|(team, _)| &team.name);
    open
}

/// By how much one gateway may pass the budgets of `team` each time that the store is away: the sum of what those who
/// spend from them are open for. Slices are part of the budgets, so spending them passes nothing.
pub fn bound(policies: &Policies, team: &Team) -> Money {
    open_below(policies, team).into_iter().map(|(_, most)| most).sum()
}
