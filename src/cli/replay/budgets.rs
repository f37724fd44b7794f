//! Budgets in a replay: how much more or less of each is spent than was, and whom that would have turned away.
//!
//! A record tells how the tightest budget stood when its request came, other gateways' spend and all that came before
//! included. What a replay adds is the difference of its own costs to the recorded ones, window by window. As long as
//! there is none, budgets stand as recorded. Budgets of single users, and of models, backends and providers, are not
//! followed.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use jiff::Timestamp;

use crate::{
    base::{
        fences::{Fence, Purpose, Unit},
        money::Money,
        names::KeyId,
    },
    ledger::window::Window,
    policy::{BudgetSeen, Policies},
    telemetry::record::{Line, recall::Again},
};

/// Where a budget was found with too little left: by its id and window, first when.
pub(super) type Exhausted = BTreeMap<(Arc<str>, Timestamp), Timestamp>;

/// The budgets of one side of a replay.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    levels: HashMap<Arc<str>, Level>,
    /// First times at which a request found too little.
    pub(super) exhausted: Exhausted,
}

#[derive(Debug)]
struct Level {
    window: Window,
    /// What was spent or held by the records, as far as they tell.
    recorded: i64,
    /// What the replay has spent beyond that.
    beyond: i64,
}

/// The budgets around one request.
pub(super) struct Around<'a> {
    fences: Vec<&'a Arc<Fence>>,
    /// None of them stands otherwise than recorded.
    pub(super) as_recorded: bool,
}

impl Budgets {
    /// The budgets around a request before other policies, brought up to it. `before`: the policies that it was recorded
    /// under, where they are known, to see whether caps were edited.
    pub(super) fn around<'a>(&mut self, again: &Again<'a>, before: Option<&Policies>) -> Around<'a> {
        let line = again.line;
        let of_key = again.policies.key_fences.get(&KeyId::from(line.key.as_ref()));
        let of_key = of_key.map(AsRef::as_ref).unwrap_or_default();
        let of_team = again.team().lineage().flat_map(|team| team.fences.iter());
        let arm = line.decisions.first().and_then(|decision| decision.decided.arm.as_deref());
        let arm = arm.and_then(|arm| again.policies.routes.get(arm));
        let of_route = again.route().fences.iter().chain(arm.into_iter().flat_map(|arm| arm.fences.iter()));
        let all = of_key.iter().chain(of_team).chain(of_route);
        let fences: Vec<&Arc<Fence>> =
            all.filter(|fence| fence.unit == Unit::Money && fence.purpose == Purpose::Budget).collect();
        let mut as_recorded = true;
        for fence in &fences {
            let level = self.level(fence, line.at);
            as_recorded &= level.beyond == 0;
        }
        if let Some(before) = before {
            let known = |fence: &Fence| before.fences().any(|old| old.id == fence.id && old.cap == fence.cap);
            as_recorded = as_recorded && fences.iter().all(|fence| known(fence));
        }
        let around = Around { fences, as_recorded };
        self.hear(line, &around, before);
        around
    }

    fn level(&mut self, fence: &Fence, at: Timestamp) -> &mut Level {
        let level = self.levels.entry(Arc::clone(&fence.id)).or_insert_with(|| Level {
            window: Window::of(fence, at),
            recorded: 0,
            beyond: 0,
        });
        if at >= level.window.end {
            *level = Level { window: Window::of(fence, at), recorded: 0, beyond: 0 };
        }
        level
    }

    /// Takes in how the record says that its tightest budget stood.
    fn hear(&mut self, line: &Line, around: &Around<'_>, before: Option<&Policies>) {
        let Some(budget) = line.decisions.first().and_then(|decision| decision.asked.budget.as_ref()) else { return };
        let Some(id) = &budget.fence else { return };
        let Some(fence) = around.fences.iter().find(|fence| fence.id == *id) else { return };
        let old = before.and_then(|before| before.fences().find(|old| old.id == *id).map(|old| old.cap));
        let cap = old.unwrap_or(fence.cap);
        self.level(fence, line.at).recorded = cap.saturating_sub(budget.left_nanousd);
    }

    /// The tightest of them, as this side has it.
    pub(super) fn seen(&mut self, around: &Around<'_>, at: Timestamp) -> BudgetSeen {
        let mut seen = BudgetSeen::default();
        for fence in &around.fences {
            let level = self.level(fence, at);
            let used = level.recorded.saturating_add(level.beyond);
            let used_ppm = share_ppm(used, fence.cap);
            if seen.left.is_none() || used_ppm >= seen.used_ppm {
                let left = Some(Money::from_nanousd(fence.cap.saturating_sub(used).max(0)));
                let pace_ppm = used_ppm.saturating_mul(1_000_000) / level.window.elapsed_ppm(at);
                seen = BudgetSeen { used_ppm, left, pace_ppm };
            }
        }
        seen
    }

    /// What the tightest has left where that is less than `need`; noted as exhausted.
    pub(super) fn short(&mut self, around: &Around<'_>, need: Money, at: Timestamp) -> Option<Money> {
        let mut short = None;
        for fence in &around.fences {
            let level = self.level(fence, at);
            let left = fence.cap.saturating_sub(level.recorded.saturating_add(level.beyond)).max(0);
            if left < need.nanousd() {
                let window = level.window.start;
                self.exhausted.entry((Arc::clone(&fence.id), window)).or_insert(at);
                short = Some(short.map_or(left, |other: i64| other.min(left)));
            }
        }
        short.map(Money::from_nanousd)
    }

    /// A request was refused as recorded: its tightest budget had too little left.
    pub(super) fn refused(&mut self, again: &Again<'_>) {
        note_refusal(&mut self.exhausted, again.line, Some(again.policies));
    }

    /// A request cost so much here, and so much by its record.
    pub(super) fn spent(&mut self, around: &Around<'_>, cost: i64, recorded: i64, at: Timestamp) {
        for fence in &around.fences {
            let level = self.level(fence, at);
            level.recorded = level.recorded.saturating_add(recorded);
            level.beyond = level.beyond.saturating_add(cost.saturating_sub(recorded));
        }
    }
}

/// Notes the tightest budget of a request that was refused for want of money, in the window that `policies` cut.
pub(super) fn note_refusal(exhausted: &mut Exhausted, line: &Line, policies: Option<&Policies>) {
    if line.code.as_ref() != "budget_exceeded" {
        return;
    }
    let asked = line.decisions.last().and_then(|decision| decision.asked.budget.as_ref());
    let Some(id) = asked.and_then(|budget| budget.fence.clone()) else { return };
    let fence = policies.and_then(|policies| policies.fences().find(|fence| fence.id == id));
    let window = fence.map_or(Timestamp::UNIX_EPOCH, |fence| Window::of(fence, line.at).start);
    exhausted.entry((id, window)).or_insert(line.at);
}

fn share_ppm(part: i64, whole: i64) -> u64 {
    u64::try_from(i128::from(part).max(0) * 1_000_000 / i128::from(whole).max(1)).unwrap_or(u64::MAX)
}
