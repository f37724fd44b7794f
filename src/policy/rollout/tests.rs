//! Guards on drawn requests: what is surely worse goes soon, what is as good stays.

use super::*;

mod together;

/// Numbers from one seed (splitmix64).
struct Draw(u64);

impl Draw {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A request that fails with chance `errors`, costs 1 cent on average times `cost` with a tail of Pareto's kind
    /// (α = 3), and waits an exponential time of mean `wait` seconds.
    fn ended(&mut self, errors: f64, cost: f64, wait: f64) -> Ended {
        let nano = 1e7 * cost * (2.0 / 3.0) / (1.0 - self.unit()).cbrt();
        Ended {
            failed: self.unit() < errors,
            cost: Money::from_nanousd(nano as i64),
            first_token: Some(Duration::from_secs_f64(-wait * (1.0 - self.unit()).ln())),
        }
    }
}

const GUARD: Guard = Guard {
    errors: Some(ErrorBound::Share(20_000)),
    cost_ppm: Some(200_000),
    first_token_p95: Some(Duration::from_secs(3)),
    min_requests: 500,
};

/// What a request of an arm is like: chance of failure, cost, mean wait.
type Kind = (f64, f64, f64);
const SOUND: Kind = (0.005, 1.0, 0.8);

fn arms() -> Vec<Arm> {
    vec![Arm { route: "old".into(), weight: 90 }, Arm { route: "new".into(), weight: 10 }]
}

/// After how many requests of the new arm it is withdrawn, and why; at most `most` are made.
fn withdrawn(guard: Guard, seed: u64, old: Kind, new: Kind, most: u32) -> Option<(u32, String)> {
    let (mut rollout, mut draw, mut made) = (Rollout::new(guard, &arms()), Draw(seed), 0);
    while made < most {
        let is_new = draw.unit() < 0.1;
        let kind = if is_new { new } else { old };
        let ended = draw.ended(kind.0, kind.1, kind.2);
        made += u32::from(is_new);
        let name = if is_new { "new" } else { "old" };
        if let Some(breach) = rollout.take(&name.into(), &ended, 0) {
            return Some((made, breach.to_string()));
        }
    }
    None
}

#[test]
fn what_is_surely_worse_is_withdrawn_soon_and_the_reason_names_the_numbers() {
    for seed in 0..20 {
        for (new, word) in
            [((0.08, 1.0, 0.8), "error rate"), ((0.005, 2.0, 0.8), "costs"), ((0.005, 1.0, 2.0), "first token")]
        {
            let (after, why) =
                withdrawn(GUARD, seed, SOUND, new, 5_000).unwrap_or_else(|| panic!("{seed}: {new:?} stays"));
            assert!((500..2_000).contains(&after) && why.contains(word), "{seed}: after {after}: {why}");
        }
    }
}

#[test]
fn what_is_as_good_or_within_its_bounds_stays() {
    for seed in 0..20 {
        for new in [SOUND, (0.015, 1.1, 0.8)] {
            assert_eq!(withdrawn(GUARD, seed, SOUND, new, 20_000), None, "{seed}: {new:?}");
        }
    }
}

#[test]
fn chance_alone_hardly_ever_withdraws_an_arm_that_is_just_at_its_bounds() {
    let at_bounds: Kind = (0.02, 1.2, 3.0 / 20_f64.ln());
    let gone = (100..140).filter(|seed| withdrawn(GUARD, *seed, SOUND, at_bounds, 20_000).is_some()).count();
    assert!(gone <= 1, "{gone} of 40 in 800,000 requests");
    let like_control = (200..240).filter(|seed| withdrawn(GUARD, *seed, SOUND, SOUND, 50_000).is_some()).count();
    assert_eq!(like_control, 0, "in 2,000,000 requests");
}

#[test]
fn what_befalls_both_withdraws_nobody() {
    for seed in 0..20 {
        let outage: Kind = (0.3, 1.0, 5.0);
        assert_eq!(withdrawn(GUARD, seed, outage, outage, 10_000), None, "{seed}");
    }
}

#[test]
fn an_arm_that_breaks_after_long_good_service_goes_as_fast() {
    let (mut rollout, mut draw) = (Rollout::new(GUARD, &arms()), Draw(7));
    let mut serve = |rollout: &mut Rollout, errors: f64, most: u32| {
        (0..most).find(|_| {
            let control = (0..9).map(|_| draw.ended(SOUND.0, SOUND.1, SOUND.2)).collect::<Vec<_>>();
            control.iter().for_each(|ended| drop(rollout.take(&"old".into(), ended, 0)));
            rollout.take(&"new".into(), &draw.ended(errors, SOUND.1, SOUND.2), 0).is_some()
        })
    };
    assert_eq!(serve(&mut rollout, SOUND.0, 20_000), None);
    let after = serve(&mut rollout, 0.5, 1_000).unwrap();
    assert!(after <= 126, "{after}");
}

#[test]
fn a_bound_beyond_the_controls_counts_from_the_control() {
    let guard = Guard { errors: Some(ErrorBound::Beyond(20_000)), cost_ppm: None, first_token_p95: None, ..GUARD };
    let bad: Kind = (0.10, 1.0, 0.8);
    assert_eq!(withdrawn(guard, 1, bad, (0.11, 1.0, 0.8), 20_000), None);
    assert!(withdrawn(guard, 1, bad, (0.30, 1.0, 0.8), 5_000).is_some());
}

#[test]
fn the_control_is_the_largest_share_and_is_never_withdrawn() {
    let named = |weights: [u32; 3]| {
        let arms: Vec<Arm> =
            ["a", "b", "c"].iter().zip(weights).map(|(name, weight)| Arm { route: (*name).into(), weight }).collect();
        control(&arms).unwrap().route.to_string()
    };
    assert_eq!((named([5, 90, 5]), named([50, 50, 0])), ("b".to_owned(), "a".to_owned()));
    let mut rollout = Rollout::new(GUARD, &arms());
    let failed = Ended { failed: true, ..Ended::default() };
    assert!((0..5_000).all(|_| rollout.take(&"old".into(), &failed, 0).is_none()));
    assert!(rollout.take(&"unknown".into(), &failed, 0).is_none());
}

#[test]
fn too_few_requests_withdraw_nobody_and_a_reset_begins_anew() {
    let mut rollout = Rollout::new(GUARD, &arms());
    let failed = Ended { failed: true, ..Ended::default() };
    let until = |rollout: &mut Rollout| (1..2_000).find(|_| rollout.take(&"new".into(), &failed, 0).is_some()).unwrap();
    // Slots of 63 requests: eight of them are the first to hold 500.
    assert_eq!(until(&mut rollout), 504);
    assert_eq!(until(&mut rollout), 63);
    rollout.begin("new", 7);
    assert_eq!(until(&mut rollout), 504);
    // It is the same switch still.
    rollout.begin("new", 7);
    assert_eq!(until(&mut rollout), 63);
}
