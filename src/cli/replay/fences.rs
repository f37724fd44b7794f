//! Budgets and limits in a replay: how much more or less of each is used than was, and whom that would have turned away.
//!
//! Fences are those of `serve`: around who asks (user, key, team, the teams above, route, arm) and around who answers
//! (model, backend, provider). A record tells how the tightest budget stood when its request came, other gateways' spend
//! and all that came before included; of the others, what the records add up to is known. What a replay adds is the
//! difference of its own use to the recorded one, window by window. As long as a fence is written as it was and there is
//! no difference, it stands as recorded. Records come in the order in which their requests did, so that a request counts
//! from then on with all that it used. Requests at once are not followed.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use jiff::Timestamp;

use crate::{
    base::{
        catalog::{Candidate, CandidateId},
        fences::{Fence, Purpose, Unit},
        money::Money,
        names::KeyId,
        tenants::Team,
    },
    ledger::{Demand, window::Window},
    policy::{BudgetSeen, Policies, Route},
    proxy::Users,
    telemetry::record::{Line, line::Label, recall::Again},
};

/// Where a budget was found with too little left: by its id and window, first when.
pub(super) type Exhausted = BTreeMap<(Arc<str>, Timestamp), Timestamp>;

/// How many windows of a fence are kept, the latest ones: a request that took very long is shown late.
const WINDOWS: usize = 8;
/// With more fences than this, those whose windows are over are forgotten: users name themselves.
const CROWDED: usize = 100_000;

/// The policies that records were made under, and what is asked of them again and again.
pub(super) struct Before {
    pub(super) policies: Arc<Policies>,
    users: Users,
    /// The budgets of candidates, by what is said of them.
    budgets: HashMap<String, Arc<Fence>>,
    /// Candidates have fences of their own.
    of_attempts: bool,
}

impl Before {
    pub(super) fn new(policies: Arc<Policies>) -> Self {
        let of_attempts = || policies.fences().filter(|fence| fence.owner.of_attempts() && is_followed(fence));
        let budgets = of_attempts().filter(|fence| fence.purpose == Purpose::Budget);
        let budgets = budgets.map(|fence| (fence.label(), Arc::clone(fence))).collect();
        let any = of_attempts().next().is_some();
        Self { users: Users::default(), budgets, of_attempts: any, policies }
    }

    /// The fences around who asks, as they were then; `None` where the team or the route is not there.
    fn around(&self, line: &Line) -> Option<Vec<Arc<Fence>>> {
        let team = self.policies.teams.get(line.team.as_ref())?;
        let route = self.policies.route(&line.facts.model)?;
        Some(around(&self.policies, &self.users, line, team, route))
    }

    /// The fences of a candidate, as they were then.
    fn of(&self, candidate: &Candidate) -> impl Iterator<Item = &Arc<Fence>> {
        let mut all = self.policies.candidates.iter();
        let known =
            all.find(|known| known.model.name == candidate.model.name && known.backend.name == candidate.backend.name);
        known.into_iter().flat_map(|known| known.fences()).filter(|fence| is_followed(fence))
    }
}

fn is_followed(fence: &Fence) -> bool {
    fence.unit != Unit::Concurrent
}

fn around(policies: &Policies, users: &Users, line: &Line, team: &Team, route: &Route) -> Vec<Arc<Fence>> {
    let of_user = users.fences(team, &line.user);
    let of_key = policies.key_fences.get(&KeyId::from(line.key.as_ref())).map(AsRef::as_ref).unwrap_or_default();
    let of_team = team.lineage().flat_map(|team| team.fences.iter());
    let arm = line.decisions.iter().find_map(|decision| decision.decided.arm.as_deref());
    let of_arm = arm.and_then(|arm| policies.routes.get(arm)).into_iter().flat_map(|arm| arm.fences.iter());
    let all = of_user.iter().chain(of_key).chain(of_team).chain(route.fences.iter()).chain(of_arm);
    all.filter(|fence| is_followed(fence)).cloned().collect()
}

/// Whether both count the same against the same.
fn alike<'f>(now: impl Iterator<Item = &'f Arc<Fence>>, then: impl Iterator<Item = &'f Arc<Fence>>) -> bool {
    let written = |fence: &'f Arc<Fence>| (&fence.id, fence.unit, fence.cap, fence.per);
    now.map(written).eq(then.map(written))
}

/// What is used of a fence in one of its windows.
#[derive(Clone, Copy, Debug)]
struct Level {
    window: Window,
    /// By the records, as far as they tell.
    recorded: i64,
    /// By the replay beyond that.
    beyond: i64,
}

impl Level {
    fn used(&self) -> i64 {
        self.recorded.saturating_add(self.beyond)
    }
}

/// The fences of one side of a replay.
#[derive(Debug, Default)]
pub(super) struct Fences {
    levels: HashMap<Arc<str>, Vec<Level>>,
    users: Users,
    /// First times at which a request found too little.
    pub(super) exhausted: Exhausted,
}

/// The fences around who asks.
pub(super) struct Around {
    fences: Vec<Arc<Fence>>,
    /// One of them is written otherwise than it was, or stands otherwise than recorded.
    pub(super) touched: bool,
}

impl Around {
    /// Whether a budget of money is among them.
    pub(super) fn has_money(&self) -> bool {
        self.fences.iter().any(|fence| fence.unit == Unit::Money)
    }
}

/// A fence with too little left.
pub(super) struct Short {
    pub(super) fence: Arc<Fence>,
    pub(super) left: i64,
}

/// What one attempt used, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spent {
    pub(super) by: CandidateId,
    pub(super) used: Demand,
}

impl Fences {
    /// The fences around who asks before other policies, brought up to that request. `before`: the policies that it was
    /// recorded under, where they are known.
    pub(super) fn around(&mut self, again: &Again<'_>, before: Option<&Before>) -> Around {
        let line = again.line;
        let fences = around(again.policies, &self.users, line, again.team(), again.route());
        let then = before.map(|before| match before.policies.hash == again.policies.hash {
            true => Some(fences.clone()),
            false => before.around(line),
        });
        let same = then.as_ref().is_none_or(|then| then.as_ref().is_some_and(|then| alike(fences.iter(), then.iter())));
        self.hear(line, &fences, then.flatten().as_deref());
        let moved = fences.iter().any(|fence| self.level(fence, line.at).beyond != 0);
        Around { fences, touched: !same || moved }
    }

    /// Whether a fence of that candidate is written otherwise than it was, or stands otherwise than recorded.
    pub(super) fn touched(&mut self, again: &Again<'_>, candidate: &Candidate, before: Option<&Before>) -> bool {
        let mut fences = candidate.fences().filter(|fence| is_followed(fence)).peekable();
        let same = before.is_none_or(|before| {
            before.policies.hash == again.policies.hash
                || (fences.peek().is_none() && !before.of_attempts)
                || alike(candidate.fences().filter(|fence| is_followed(fence)), before.of(candidate))
        });
        !same || fences.any(|fence| self.level(fence, again.line.at).beyond != 0)
    }

    fn level(&mut self, fence: &Fence, at: Timestamp) -> &mut Level {
        if self.levels.len() > CROWDED && !self.levels.contains_key(&fence.id) {
            self.levels.retain(|_, levels| levels.iter().any(|level| at < level.window.end));
        }
        let levels = self.levels.entry(Arc::clone(&fence.id)).or_default();
        let holds = |level: &Level| level.window.start <= at && at < level.window.end;
        let place = levels.iter().rposition(holds).unwrap_or_else(|| {
            let oldest = levels.iter().enumerate().min_by_key(|(_, level)| level.window.start);
            if let Some((oldest, _)) = oldest.filter(|_| levels.len() == WINDOWS) {
                levels.remove(oldest);
            }
            levels.push(Level { window: Window::of(fence, at), recorded: 0, beyond: 0 });
            levels.len() - 1
        });
        &mut levels[place]
    }

    /// Takes in how the record says that its tightest budget stood.
    fn hear(&mut self, line: &Line, fences: &[Arc<Fence>], then: Option<&[Arc<Fence>]>) {
        let Some(budget) = line.decisions.first().and_then(|decision| decision.asked.budget.as_ref()) else { return };
        let Some(fence) = fences.iter().find(|fence| budget.fence.as_ref() == Some(&fence.id)) else { return };
        let old = then.and_then(|then| then.iter().find(|old| old.id == fence.id)).map(|old| old.cap);
        let recorded = old.unwrap_or(fence.cap).saturating_sub(budget.left_nanousd);
        self.level(fence, line.at).recorded = recorded;
    }

    /// The tightest budget of money around who asks, as this side has it.
    pub(super) fn seen(&mut self, around: &Around, at: Timestamp) -> BudgetSeen {
        let mut seen = BudgetSeen::default();
        for fence in around.fences.iter().filter(|fence| fence.unit == Unit::Money) {
            let level = self.level(fence, at);
            let used_ppm = share_ppm(level.used(), fence.cap);
            if seen.left.is_none() || used_ppm >= seen.used_ppm {
                let left = Some(Money::from_nanousd(fence.cap.saturating_sub(level.used()).max(0)));
                let pace_ppm = used_ppm.saturating_mul(1_000_000) / level.window.elapsed_ppm(at);
                seen = BudgetSeen { used_ppm, left, pace_ppm };
            }
        }
        seen
    }

    /// The first fence around who asks, or of `candidate`, that has less left than `need`. Budgets are noted as exhausted.
    pub(super) fn short(
        &mut self,
        around: &Around,
        candidate: &Candidate,
        need: Demand,
        at: Timestamp,
    ) -> Option<Short> {
        let all = around.fences.iter().chain(candidate.fences().filter(|fence| is_followed(fence)));
        for fence in all {
            let level = *self.level(fence, at);
            let left = fence.cap.saturating_sub(level.used()).max(0);
            if left < need.amount(fence.unit) {
                if fence.purpose == Purpose::Budget {
                    note_short(&mut self.exhausted, Arc::clone(&fence.id), level.window.start, at);
                }
                return Some(Short { fence: Arc::clone(fence), left });
            }
        }
        None
    }

    /// A request went as recorded: budgets that had too little left for it then have too little now.
    pub(super) fn as_recorded(&mut self, line: &Line, before: Option<&Before>) {
        note_exhausted(&mut self.exhausted, line, before);
    }

    /// What a request used here, and what it used by its record.
    pub(super) fn spent(&mut self, again: &Again<'_>, around: &Around, spent: &[Spent]) {
        let line = again.line;
        let recorded = line.attempts.iter().filter_map(|attempt| {
            let used =
                Demand { money: Money::from_nanousd(attempt.cost_nanousd), tokens: attempt.input + attempt.output };
            Some(Spent { by: again.id(&attempt.candidate)?, used })
        });
        let recorded: Vec<Spent> = recorded.collect();
        // Of who is gone from the policies the cost is known all the same.
        let all = line.attempts.iter().fold(Demand::default(), |sum, attempt| {
            let money = Money::from_nanousd(attempt.cost_nanousd);
            sum.plus(Demand { money, tokens: attempt.input + attempt.output })
        });
        let now = spent.iter().fold(Demand::default(), |sum, spent| sum.plus(spent.used));
        for fence in &around.fences {
            let then = amount(fence, all, !line.attempts.is_empty());
            let now = amount(fence, now, !spent.is_empty());
            self.add(fence, line.at, then, now);
        }
        let mut asked: Vec<CandidateId> = recorded.iter().chain(spent).map(|spent| spent.by).collect();
        asked.sort_unstable_by_key(|id| id.0);
        asked.dedup();
        let mut done: Vec<&Arc<str>> = Vec::new();
        for fence in asked.iter().flat_map(|id| again.policies.candidate(*id).fences()) {
            if !is_followed(fence) || done.contains(&&fence.id) {
                continue;
            }
            done.push(&fence.id);
            let inside = |spent: &[Spent]| {
                let mut mine = spent
                    .iter()
                    .filter(|spent| again.policies.candidate(spent.by).fences().any(|other| other.id == fence.id));
                let first = mine.next().map(|spent| spent.used);
                let sum = mine.fold(first.unwrap_or_default(), |sum, spent| sum.plus(spent.used));
                amount(fence, sum, first.is_some())
            };
            let (then, now) = (inside(&recorded), inside(spent));
            self.add(fence, line.at, then, now);
        }
    }

    fn add(&mut self, fence: &Fence, at: Timestamp, then: i64, now: i64) {
        let level = self.level(fence, at);
        level.recorded = level.recorded.saturating_add(then);
        level.beyond = level.beyond.saturating_add(now.saturating_sub(then));
    }
}

/// What a request that used so much counts against a fence; nothing if it was not let in.
fn amount(fence: &Fence, used: Demand, let_in: bool) -> i64 {
    if let_in { used.amount(fence.unit) } else { 0 }
}

/// Notes the budgets that had too little left for a recorded request: the tightest one where it was refused for want of
/// money, and those of candidates that were passed over.
pub(super) fn note_exhausted(exhausted: &mut Exhausted, line: &Line, before: Option<&Before>) {
    let Some(asked) = line.decisions.last().map(|decision| &decision.asked) else { return };
    if let Some(before) = before {
        for fence in asked.exhausted.iter().filter_map(|(_, label)| before.budgets.get(label.as_ref())) {
            let window = Window::of(fence, line.at).start;
            note_short(exhausted, Arc::clone(&fence.id), window, line.at);
        }
    }
    if line.code.as_ref() != "budget_exceeded" || !asked.exhausted.is_empty() {
        return;
    }
    let Some(id) = asked.budget.as_ref().and_then(|budget| budget.fence.clone()) else { return };
    let then = before.and_then(|before| before.around(line));
    let fence = then.as_ref().and_then(|then| then.iter().find(|fence| fence.id == id));
    let window = fence.map_or(Timestamp::UNIX_EPOCH, |fence| Window::of(fence, line.at).start);
    note_short(exhausted, id, window, line.at);
}

/// The earliest counts, also where one is shown late.
fn note_short(exhausted: &mut Exhausted, budget: Arc<str>, window: Timestamp, at: Timestamp) {
    exhausted.entry((budget, window)).and_modify(|known| *known = at.min(*known)).or_insert(at);
}

/// Whether it was turned away by a fence.
pub(super) fn was_refused(line: &Line) -> bool {
    line.attempts.is_empty() && matches!(line.code.as_ref(), "budget_exceeded" | "rate_limit_exceeded")
}

/// The candidates that a recorded decision passed over since a fence of their own was reached, if that still is so.
pub(super) fn still_exhausted(
    fences: &mut Fences,
    again: &Again<'_>,
    exhausted: &[(Label, Arc<str>)],
    before: Option<&Before>,
) -> Vec<(CandidateId, Arc<str>)> {
    let mut still = Vec::new();
    for (label, fence) in exhausted {
        let Some(id) = again.id(label) else { continue };
        if !fences.touched(again, again.policies.candidate(id), before) {
            still.push((id, Arc::clone(fence)));
        }
    }
    still
}

/// What of these policies a replay does not follow.
pub(super) fn not_followed(policies: &Policies) -> Vec<String> {
    let of_users = policies.teams.values().filter_map(|team| team.per_user.as_ref());
    let limits_of_users = || of_users.clone().map(|allowance| allowance.limits);
    let at_once = policies.fences().any(|fence| fence.unit == Unit::Concurrent)
        || limits_of_users().any(|limits| limits.concurrent.is_some());
    let paces = policies.fences().any(|fence| fence.purpose == Purpose::Limit && is_followed(fence))
        || limits_of_users().any(|limits| limits.requests.is_some() || limits.tokens.is_some());
    let accounts = policies.backends.values().flat_map(|backend| &backend.accounts);
    let of_accounts = accounts.into_iter().any(|account| account.limits != crate::base::tenants::Limits::default());
    [
        (at_once, "limits on requests at once, which stand as recorded"),
        (of_accounts, "limits of accounts, which stand as recorded"),
        (paces, "requests that a full limit turned away before they were read: they left no record"),
    ]
    .into_iter()
    .filter(|(is, _)| *is)
    .map(|(_, what)| what.to_owned())
    .collect()
}

fn share_ppm(part: i64, whole: i64) -> u64 {
    u64::try_from(i128::from(part).max(0) * 1_000_000 / i128::from(whole).max(1)).unwrap_or(u64::MAX)
}
