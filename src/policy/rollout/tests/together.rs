//! Several gateways that tell each other what they have seen: they judge as one would that served everything.

use super::*;

/// Gateways with the same split. Each tells what it has seen whenever `told` requests have been served by all.
struct Fleet {
    gateways: Vec<Rollout>,
    told: u32,
    served: u32,
    draw: Draw,
}

impl Fleet {
    fn new(gateways: usize, told: u32, seed: u64) -> Self {
        Self { gateways: vec![Rollout::new(GUARD, &arms()); gateways], told, served: 0, draw: Draw(seed) }
    }

    /// Everyone tells and hears.
    fn exchange(&mut self) -> Option<Breach> {
        let seen: Vec<Seen> = self.gateways.iter().map(seen).collect();
        let others = |own: usize| seen.iter().enumerate().filter(move |(other, _)| *other != own);
        let hear = |(own, gateway): (usize, &mut Rollout)| {
            gateway.hear(|_| others(own).map(|(_, seen)| seen.clone()).collect());
            gateway.look(0).into_iter().next().map(|(_, breach)| breach)
        };
        self.gateways.iter_mut().enumerate().filter_map(hear).next()
    }

    /// Any gateway serves a request, the new arm one of a hundred; after how many of that arm it is withdrawn, and why.
    fn withdrawn(&mut self, new: Kind, most: u32) -> Option<(u32, Breach)> {
        let mut made = 0;
        while made < most {
            let gateway = (self.draw.unit() * self.gateways.len() as f64) as usize;
            let is_new = self.draw.unit() < 0.01;
            let (name, kind) = if is_new { ("new", new) } else { ("old", SOUND) };
            let ended = self.draw.ended(kind.0, kind.1, kind.2);
            made += u32::from(is_new);
            self.served += 1;
            let breach = self.gateways[gateway].take(&name.into(), &ended, 0);
            let told = self.served.is_multiple_of(self.told).then(|| self.exchange()).flatten();
            if let Some(breach) = breach.or(told) {
                return Some((made, breach));
            }
        }
        None
    }
}

fn seen(rollout: &Rollout) -> Seen {
    rollout.seen().next().unwrap().1.clone()
}

/// What a look would rest on: requests and gateways.
fn basis(rollout: &Rollout, now_ms: i64) -> (u32, usize) {
    let (_, requests, gateways) = rollout.basis(now_ms).next().unwrap();
    (requests, gateways)
}

/// One that has seen so many requests of the new arm, all failed, and none of the old.
fn after(failed: u32, now_ms: i64) -> Rollout {
    let mut rollout = Rollout::new(GUARD, &arms());
    take(&mut rollout, failed, now_ms);
    rollout
}

fn take(rollout: &mut Rollout, failed: u32, now_ms: i64) -> Option<Breach> {
    let ended = Ended { failed: true, ..Ended::default() };
    (0..failed).filter_map(|_| rollout.take(&"new".into(), &ended, now_ms)).last()
}

#[test]
fn eight_gateways_withdraw_an_arm_together_long_before_one_of_them_has_seen_enough() {
    for seed in 0..5 {
        let mut fleet = Fleet::new(8, 1_000, seed);
        let (after, breach) = fleet.withdrawn((0.5, 1.0, 0.8), 4_000).unwrap_or_else(|| panic!("{seed}: it stays"));
        assert!((500..=600).contains(&after), "{seed}: after {after}");
        assert!((500..=562).contains(&breach.requests) && breach.gateways == 8, "{seed}: {breach:?}");
        assert!(breach.to_string().ends_with(" (seen at 8 gateways)"), "{seed}: {breach}");
        assert!(fleet.gateways.iter().all(|gateway| seen(gateway).total < 200), "{seed}");
    }
}

#[test]
fn those_who_hear_nobody_each_judge_by_their_own() {
    let mut fleet = Fleet::new(4, u32::MAX, 3);
    let (after, breach) = fleet.withdrawn((0.5, 1.0, 0.8), 4_000).unwrap();
    assert!(after > 1_500 && breach.gateways == 1 && breach.requests == 504, "after {after}: {breach:?}");
    assert!(!breach.to_string().contains("gateways"), "{breach}");
}

#[test]
fn what_is_as_good_or_at_its_bounds_stays_at_several_gateways_too() {
    let at_bounds: Kind = (0.02, 1.2, 3.0 / 20_f64.ln());
    for seed in 0..3 {
        assert_eq!(Fleet::new(8, 1_000, seed).withdrawn(SOUND, 4_000), None, "{seed}");
        assert_eq!(Fleet::new(8, 1_000, seed).withdrawn(at_bounds, 4_000), None, "{seed}: at its bounds");
    }
}

#[test]
fn what_is_told_again_or_after_a_restart_counts_once() {
    let (one, mut two) = (after(300, 1), after(150, 2));
    for _ in 0..3 {
        two.hear(|_| vec![seen(&one)]);
        assert_eq!((two.look(3), basis(&two, 3)), (vec![], (450, 2)));
    }
    let told = seen(&one);
    let mut again = Rollout::new(GUARD, &arms());
    let kept = Seen::of_kept(told.since_ms, told.total, &told.kept()).unwrap();
    assert_eq!(kept, told);
    again.restore("new", kept);
    two.hear(|_| vec![seen(&again)]);
    again.hear(|_| vec![seen(&two)]);
    assert_eq!((basis(&two, 3), basis(&again, 3)), ((450, 2), (450, 2)));
    // Looks are where they were: at multiples of 63 requests of both.
    assert_eq!((take(&mut again, 53, 4), again.look(4)), (None, vec![]));
    let breach = take(&mut again, 1, 4).unwrap();
    assert_eq!((breach.requests, breach.gateways), (504, 2));
}

#[test]
fn a_switch_begins_anew_at_all_and_who_has_not_heard_of_it_does_not_count() {
    let (mut one, mut two) = (after(450, 1), after(450, 1));
    two.begin("new", 5);
    two.hear(|_| vec![seen(&one)]);
    assert_eq!((two.look(6), basis(&two, 6)), (vec![], (0, 0)));
    take(&mut two, 40, 6);
    one.hear(|_| vec![seen(&two)]);
    assert_eq!(basis(&one, 6), (450, 1));
    one.begin("new", 5);
    one.hear(|_| vec![seen(&two)]);
    assert_eq!((one.look(6), basis(&one, 6)), (vec![], (40, 1)));
    // What was kept from before the switch is not taken up.
    one.restore("new", seen(&after(450, 1)));
    assert_eq!(basis(&one, 6), (40, 1));
    // A switch at this gateway forgets what was heard as well.
    one.begin("new", 9);
    assert_eq!(basis(&one, 9), (0, 0));
}

#[test]
fn newer_requests_stand_in_for_older_ones_wherever_they_were_served() {
    let day = 24 * 3_600 * 1_000;
    let bad = after(504, 1_000);
    let mut rollout = Rollout::new(GUARD, &arms());
    let serve = |rollout: &mut Rollout, count: u32, now_ms: i64| {
        (0..count).find_map(|_| {
            rollout.take(&"old".into(), &Ended::default(), now_ms);
            rollout.take(&"new".into(), &Ended::default(), now_ms)
        })
    };
    assert_eq!(serve(&mut rollout, 504, 2_000), None);
    rollout.hear(|_| vec![seen(&bad)]);
    assert_eq!((rollout.look(2_000), basis(&rollout, 2_000)), (vec![], (504, 1)));
    // The other way round the failures are the newer.
    let mut failing = after(0, 0);
    serve(&mut failing, 100, 500);
    failing.hear(|_| vec![seen(&bad)]);
    assert_eq!(failing.look(2_000).len(), 1);
    // What others have seen is forgotten after a day.
    assert_eq!((basis(&failing, day), basis(&failing, day + 1_000)), ((504, 1), (100, 1)));
}

#[test]
fn a_window_is_never_short_whatever_slots_were_heard_when() {
    for heard in 0..130 {
        let (mut rollout, other) = (after(600, 2), after(heard, 1));
        rollout.hear(|_| vec![seen(&other)]);
        for _ in 0..130 {
            take(&mut rollout, 1, 3);
            let (requests, _) = basis(&rollout, 3);
            assert!((500..=562).contains(&requests), "{heard}: {requests}");
        }
    }
}

#[test]
fn numbers_that_no_requests_give_are_not_taken() {
    let kept = seen(&after(70, 1)).kept();
    assert_eq!(kept.len(), 2);
    assert!(Seen::of_kept(0, 70, &kept).is_some());
    assert_eq!(Seen::of_kept(0, 69, &kept), None);
    assert_eq!(Seen::of_kept(0, u64::MAX, &[kept[0]; 10]), None);
    for wrong in [([1, 2, 0, 0], [0.0; 2]), ([1, 0, 0, 1], [0.0; 2]), ([1, 0, 0, 0], [f64::NAN, 0.0])] {
        assert_eq!(Seen::of_kept(0, 70, &[(1, wrong, kept[0].2)]), None);
        assert_eq!(Seen::of_kept(0, 70, &[(1, kept[0].1, wrong)]), None);
    }
}
