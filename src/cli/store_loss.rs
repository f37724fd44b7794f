//! By how much budgets may be passed while the shared store is away, and how long requests go on: what `check` prints.

use std::time::Duration;

use crate::{
    base::{
        fences::{Fence, Owner, Purpose},
        money::Money,
        store::{LeaseConfig, RedisConfig, StoreConfig},
        tenants::{OnStoreLoss, Team},
    },
    ledger::redis::lease,
    policy::{Policies, loss},
};

/// One line for every team that a budget binds, where gateways share a store.
pub fn lines(store: &StoreConfig, policies: &Policies) -> Vec<String> {
    let StoreConfig::Redis(redis) = store else { return Vec::new() };
    let mut teams: Vec<&Team> = policies.teams.values().map(AsRef::as_ref).collect();
    teams.retain(|team| loss::is_budgeted(team));
    teams.sort_by_key(|team| &team.name);
    teams.into_iter().map(|team| line(redis, policies, team)).collect()
}

fn line(redis: &RedisConfig, policies: &Policies, team: &Team) -> String {
    let begins = format!("team `{}` while the store is away", team.name);
    let refused = format!("503 once the store has been silent for {}", text_of(redis.timeout));
    let passed = passed(policies, team);
    match team.on_store_loss {
        OnStoreLoss::Open(most) => {
            format!("{begins} (`open({most} USD)`): {passed}; its own requests go on until that is spent, then 503")
        }
        OnStoreLoss::Closed => format!("{begins} (`closed`): {passed}; {refused}"),
        OnStoreLoss::Lease => match unleased(&redis.lease, team) {
            None => format!(
                "{begins} (`lease`): {passed}; slices last for some {} s of a gateway's own pace at most, then 503",
                lease::SECONDS
            ),
            Some((why, hint)) => format!("{begins} (`lease`): {passed}; {refused}, since {why}\n  hint: {hint}"),
        },
    }
}

/// By how much, and through whom.
fn passed(policies: &Policies, team: &Team) -> String {
    let open = loss::open_below(policies, team);
    if open.is_empty() {
        return "its budgets are not passed".to_owned();
    }
    let bound: Money = open.iter().map(|(_, most)| *most).sum();
    let mut text = format!("each gateway may pass its budgets by {bound} USD each time");
    let others: Vec<String> = open
        .iter()
        .filter(|(other, _)| other.name != team.name)
        .map(|(other, most)| format!("{most} USD by team `{}`", other.name))
        .collect();
    if !others.is_empty() {
        text.push_str(&format!(" ({})", others.join(", ")));
    }
    text
}

/// Why no request of the team can do without the store, if so, and what would change it. All fences around a request
/// must be covered by slices, so a single one that is too small for a slice is enough.
fn unleased(config: &LeaseConfig, team: &Team) -> Option<(String, String)> {
    if config.share_ppm == 0 {
        return Some(("nothing is leased (`lease.share` is 0)".to_owned(), "raise the share".to_owned()));
    }
    let small = |fence: &Fence| !lease::may_be_leased(config, fence.cap);
    team.lineage().find_map(|team| {
        let own = team.fences.iter().find(|fence| small(fence));
        let whose = own.map(|fence| (fence.as_ref().clone(), format!("team `{}`", team.name)));
        let (fence, whose) = whose.or_else(|| {
            let owner = Owner::User(team.name.clone(), "".into());
            let of_user = team.per_user.as_ref()?.around(&owner).find(|fence| small(fence))?;
            Some((of_user.as_ref().clone(), format!("each user of team `{}`", team.name)))
        })?;
        let what = if fence.purpose == Purpose::Budget { "budget" } else { "limit" };
        let why =
            format!("{what} `{}` of {whose} ({}) is too small to be leased", fence.name, fence.unit.write(fence.cap));
        let hint = format!(
            "a slice is of {} requests or more, and at most {} % of what is left (`lease.share`)",
            lease::HOLDS,
            percent(config.share_ppm)
        );
        Some((why, hint))
    })
}

fn percent(ppm: u32) -> String {
    Money::from_nanousd(i64::from(ppm) * 100_000).to_string()
}

fn text_of(duration: Duration) -> String {
    match (duration.as_millis(), duration.as_secs()) {
        (millis, seconds) if millis == u128::from(seconds) * 1_000 => format!("{seconds} s"),
        (millis, _) => format!("{millis} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::store::RedisPlace, config};

    fn redis(share_ppm: u32) -> StoreConfig {
        let mut config = RedisConfig::at(RedisPlace::Single("redis://127.0.0.1:1".to_owned().into()));
        config.lease.share_ppm = share_ppm;
        StoreConfig::Redis(config)
    }

    fn policies(teams: &str) -> config::Loaded {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.yaml"), format!("teams:\n{teams}")).unwrap();
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        config::load_at(folder.path(), &|_| None, now).map_err(|faults| faults.render(false)).unwrap()
    }

    fn lines_of(teams: &str) -> Vec<String> {
        lines(&redis(10_000), &policies(teams).policies)
    }

    const BUDGET: &str = "budgets: [{name: month, limit: 500 USD, per: month}]";

    #[test]
    fn a_team_that_leases_or_is_closed_passes_nothing() {
        let wide = "limits: {requests: 100k/min, tokens: 100M/min, concurrent: 10k}";
        let leased = lines_of(&format!("  t: {{{BUDGET}, {wide}}}\n"));
        assert!(leased[0].contains("not passed; slices last for some 10 s"), "{leased:?}");
        let closed = lines_of(&format!("  t: {{{BUDGET}, {wide}, on_store_loss: closed}}\n"));
        assert!(
            closed[0]
                .ends_with("(`closed`): its budgets are not passed; 503 once the store has been silent for 250 ms")
        );
        assert_eq!(lines(&StoreConfig::Embedded, &policies(&format!("  t: {{{BUDGET}}}\n")).policies), [""; 0]);
        assert_eq!(lines_of("  t: {}\n"), [""; 0], "no budget, nothing to pass");
    }

    #[test]
    fn a_limit_that_is_too_small_to_be_leased_is_told() {
        let small = lines_of(&format!("  t: {{{BUDGET}, limits: {{requests: 100k/min, concurrent: 1999}}}}\n"));
        assert!(small[0].contains("limit `concurrent` of team `t` (1999 requests at once) is too small"), "{small:?}");
        let enough = lines_of(&format!("  t: {{{BUDGET}, limits: {{requests: 100k/min, concurrent: 2000}}}}\n"));
        assert!(enough[0].contains("slices last"), "{enough:?}");
        let none = lines(&redis(0), &policies(&format!("  t: {{{BUDGET}}}\n")).policies);
        assert!(none[0].contains("nothing is leased"), "{none:?}");
    }

    #[test]
    fn what_teams_below_are_open_for_passes_the_budgets_above() {
        let loaded = policies(&format!(
            "  above: {{{BUDGET}, on_store_loss: closed}}\n  a: {{parent: above, on_store_loss: open(20 USD)}}\n  \
             b: {{parent: above, on_store_loss: open(0.5 USD)}}\n"
        ));
        let lines = lines(&redis(10_000), &loaded.policies);
        assert!(lines[0].contains("`a` while") && lines[0].contains("by 20 USD each time; its own"), "{lines:?}");
        assert!(lines[1].contains("by 20.5 USD each time (20 USD by team `a`, 0.5 USD by team `b`)"), "{lines:?}");
        assert_eq!(loss::bound(&loaded.policies, &loaded.policies.teams["above"]).nanousd(), 20_500_000_000);
    }
}
