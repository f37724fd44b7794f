//! Who is asked, by which algorithm, and who is left out.

use std::{sync::Arc, time::Duration};

use super::{Ask, Balancer, End, Load, NAMES, Pool, Ready, ReplicaId, State, TABLE, Ticket, by_name, mix};
use crate::policy::queue::Company;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// How often engines are asked.
const SECOND: Duration = ms(1_000);

struct Made {
    pool: Pool,
    members: Vec<ReplicaId>,
    balancer: &'static dyn Balancer,
}

impl Made {
    fn new(balancer: &str, replicas: usize) -> Self {
        let mut pool = Pool::new(1);
        let names: Vec<Arc<str>> = (0..replicas).map(|number| format!("http://{number}").into()).collect();
        let members = pool.set(&names, Duration::ZERO);
        Self { pool, members, balancer: by_name(balancer) }
    }

    fn ask(&mut self, ask: Ask<'_>, now: Duration) -> (usize, Ticket) {
        self.ask_but(ask, &[], now)
    }

    fn ask_but(&mut self, ask: Ask<'_>, tried: &[ReplicaId], now: Duration) -> (usize, Ticket) {
        let ticket = self.pool.pick(self.balancer, &self.members, tried, &ask, now).unwrap();
        (self.members.iter().position(|id| *id == ticket.replica).unwrap(), ticket)
    }

    /// Serves a request within 100 ms.
    fn serve(&mut self, ask: Ask<'_>, now: Duration) -> usize {
        let (place, ticket) = self.ask(ask, now);
        self.pool.first_token(&ticket, now + ms(100));
        self.pool.ended(&ticket, End::Served { cached: 0 }, now + ms(100));
        place
    }

    fn fail(&mut self, place: usize, now: Duration) {
        let others: Vec<ReplicaId> = self.members.iter().copied().filter(|id| *id != self.members[place]).collect();
        let (asked, ticket) = self.ask_but(seed(0), &others, now);
        assert_eq!(asked, place);
        self.pool.ended(&ticket, End::Failed { retry_after: None }, now);
    }

    /// How many of 200 requests, which all stay under way, go where.
    fn spread(&mut self, now: Duration) -> Vec<usize> {
        let mut spread = vec![0; self.members.len()];
        for number in 0..200 {
            spread[self.ask(seed(number), now).0] += 1;
        }
        spread
    }
}

fn seed(seed: u64) -> Ask<'static> {
    Ask { tokens: 100, streams: true, seed: mix(seed), affinity: mix(seed), ..Ask::default() }
}

fn prompt(number: u64, blocks: u64) -> Vec<u64> {
    (0..blocks).map(|block| mix(number << 20 | block)).collect()
}

#[test]
fn every_algorithm_has_its_name_and_spreads_a_burst() {
    assert_eq!(TABLE.iter().map(|balancer| balancer.name()).collect::<Vec<_>>(), NAMES);
    for name in NAMES {
        let spread = Made::new(name, 4).spread(ms(1));
        assert!(spread.iter().all(|count| (40..=60).contains(count)), "{name}: {spread:?}");
    }
}

#[test]
fn a_conversation_stays_where_its_prefix_is_until_that_replica_is_busy() {
    let mut made = Made::new("prefix", 4);
    let turn = prompt(1, 100);
    let ask = |blocks, number| Ask { blocks, tokens: 1_600, ..seed(number) };
    let first = made.serve(ask(&turn[..80], 0), ms(0));
    for number in 1..10 {
        assert_eq!(made.serve(ask(&turn[..80], number), ms(number * 1_000)), first);
    }
    let next = |number| [&turn[..80], &prompt(number + 2, 20)].concat();
    let mut place = |number| made.ask(Ask { blocks: &next(number), tokens: 1_600, ..seed(number) }, ms(20_000)).0;
    let elsewhere = (0..100).filter(|&number| place(number) != first).count();
    assert!((20..=85).contains(&elsewhere), "{elsewhere} of 100 at once went elsewhere");
}

#[test]
fn a_session_is_sticky_as_long_as_its_replica_is_not_overloaded() {
    let mut made = Made::new("sticky", 4);
    let ask = |number| Ask { affinity: 7, ..seed(number) };
    let first = made.serve(ask(0), ms(0));
    assert!((1..20).all(|number| made.serve(ask(number), ms(number)) == first));
    let taken: Vec<usize> = (0..40).map(|number| made.ask(ask(number), ms(50)).0).collect();
    let most = (0..4).map(|place| taken.iter().filter(|taken| **taken == place).count()).max().unwrap();
    assert!(most <= 13, "{taken:?}");
}

#[test]
fn a_slow_replica_gets_less_and_what_it_owes_is_seen_before_it_answers() {
    let mut made = Made::new("round_robin", 2);
    for number in 0..20 {
        let now = ms(number * 1_000);
        let (place, ticket) = made.ask(seed(number), now);
        let took = if place == 0 { ms(600) } else { ms(100) };
        made.pool.first_token(&ticket, now + took);
        made.pool.ended(&ticket, End::Served { cached: 0 }, now + took);
    }
    let slowdown = |made: &Made, place: usize, now| made.pool.seen(made.members[place]).unwrap().slowdown_milli(now);
    made.balancer = by_name("prefix");
    let (slow, usual) = (slowdown(&made, 0, ms(20_000)), slowdown(&made, 1, ms(20_000)));
    assert!(slow > 3 * usual, "{slow} {usual}");
    let spread = made.spread(ms(20_000));
    assert!(spread[0] * 3 < spread[1] * 2, "{spread:?}");
    assert!(slowdown(&made, 1, ms(50_000)) > 10_000, "nothing came for half a minute");
}

#[test]
fn a_replica_that_fails_at_once_draws_nothing_for_five_seconds() {
    for name in NAMES {
        let mut made = Made::new(name, 4);
        made.fail(2, ms(0));
        assert_eq!(made.spread(ms(4_999))[2], 0, "{name}");
        assert!(made.spread(ms(5_000))[2] > 0, "{name}");
    }
}

#[test]
fn a_retry_goes_to_another_replica_while_there_is_one() {
    let mut made = Made::new("least_loaded", 2);
    let (first, _) = made.ask(seed(0), ms(0));
    let tried = [made.members[first]];
    let (second, _) = made.ask_but(seed(0), &tried, ms(0));
    assert_ne!(second, first);
    let both = made.members.clone();
    let (third, _) = made.ask_but(seed(0), &both, ms(0));
    assert!(third < 2, "somebody is asked all the same");
}

#[test]
fn an_ejected_replica_gets_one_probe_and_then_a_growing_share() {
    let mut made = Made::new("least_loaded", 4);
    (0..5).for_each(|number| made.fail(1, ms(number)));
    assert_eq!(made.spread(ms(7_000))[1], 0, "out beyond the five seconds");
    assert_eq!(made.spread(ms(11_000))[1], 1, "one probe");
    let mut made = Made::new("least_loaded", 4);
    (0..5).for_each(|number| made.fail(1, ms(number)));
    let (mut now, mut probed) = (ms(11_000), false);
    while !probed {
        probed = made.serve(seed(now.as_millis() as u64), now) == 1;
        now += ms(1);
    }
    now += ms(100);
    let at_once = made.spread(now)[1];
    assert!((1..15).contains(&at_once), "{at_once}");
    let share = |made: &Made, now| made.pool.seen(made.members[1]).unwrap().share_milli(now);
    assert!(share(&made, now) < 120 && share(&made, now + ms(15_000)) > 500);
    assert_eq!(share(&made, now + ms(30_000)), 1_000);
}

#[test]
fn no_more_than_half_of_a_pool_is_left_out() {
    let mut made = Made::new("round_robin", 4);
    for place in 0..2 {
        (0..5).for_each(|number| made.fail(place, ms(number)));
    }
    assert!(!made.pool.panics(&made.members, ms(6_000)));
    assert_eq!(made.spread(ms(6_000)), [0, 0, 100, 100]);
    (0..5).for_each(|number| made.fail(2, ms(number)));
    assert!(made.pool.panics(&made.members, ms(6_000)));
    assert_eq!(made.spread(ms(6_000)), [50, 50, 50, 50], "health is no longer looked at");
    made.fail(0, ms(6_000));
    assert_eq!(made.spread(ms(6_001))[0], 0, "a failure of this moment is");
}

#[test]
fn an_answer_begun_before_a_failure_does_not_excuse_it() {
    let mut made = Made::new("least_loaded", 2);
    let (place, long) = made.ask(seed(0), ms(0));
    made.fail(place, ms(100));
    made.pool.ended(&long, End::Served { cached: 0 }, ms(200));
    assert_eq!(made.spread(ms(300))[place], 0);
}

#[test]
fn a_pool_that_changes_keeps_what_it_knows_and_newcomers_start_slowly() {
    let mut made = Made::new("least_loaded", 2);
    let (_, running) = made.ask(seed(0), ms(0));
    let names: Vec<Arc<str>> = ["http://0", "http://2"].map(Arc::from).to_vec();
    let members = made.pool.set(&names, ms(1_000));
    assert_eq!((members[0], made.members.contains(&members[1])), (made.members[0], false));
    assert_eq!(made.pool.seen(members[0]).unwrap().share_milli(ms(1_000)), 1_000);
    assert_eq!(made.pool.seen(members[1]).unwrap().share_milli(ms(1_000)), 100);
    made.pool.ended(&running, End::Served { cached: 0 }, ms(1_100));
    made.members = members;
    let spread = made.spread(ms(1_100));
    assert!(spread[1] * 5 < spread[0], "{spread:?}");
}

#[test]
fn what_an_engine_tells_of_its_load_counts_with_what_changed_since() {
    let mut made = Made::new("least_loaded", 2);
    made.pool.told(made.members[0], Load { requests: 10, ..Load::default() }, SECOND, ms(0));
    let in_flight = |made: &Made, now| made.pool.seen(made.members[0]).unwrap().in_flight(now);
    assert_eq!(in_flight(&made, ms(50)), 2, "one of four: whoever reads the same fills the same gap");
    let spread = made.spread(ms(100));
    assert_eq!(spread, [99, 101]);
    made.pool.told(made.members[0], Load { requests: 10 + 99, ..Load::default() }, SECOND, ms(1_000));
    assert_eq!(in_flight(&made, ms(1_000)), 99 + 2, "our own are not the others'");
    assert_eq!(in_flight(&made, ms(3_500)), 99, "old news");
}

#[test]
fn what_others_have_waiting_is_known_while_it_is_fresh() {
    let mut made = Made::new("least_loaded", 2);
    let load = |queue, cache_used_ppm| Load { requests: 40, waiting: queue, queue, cache_used_ppm };
    let unanswered = |made: &Made, now| made.pool.company(&made.members, now).unanswered;
    assert_eq!(made.pool.company(&made.members, ms(0)), Company { servers: 2, unanswered: 0, times_milli: 1_000 });
    made.pool.told(made.members[0], load(9, None), SECOND, ms(0));
    made.pool.told(made.members[1], load(0, Some(960_000)), SECOND, ms(0));
    assert_eq!(unanswered(&made, ms(1_000)), 9 + 1 + 1, "one more is at hand, and one where the memory is full");
    assert_eq!(made.pool.company(&made.members, ms(0)).times_milli, 1_000 + 80_000);
    assert_eq!((unanswered(&made, ms(1_750)), unanswered(&made, ms(2_500))), (5, 0), "old news count less, then not");
    let (place, _ours) = made.ask(seed(0), ms(3_000));
    for place in [place, 1 - place] {
        made.pool.told(made.members[place], load(4, None), SECOND * 10, ms(3_000));
    }
    assert_eq!(
        unanswered(&made, ms(13_000)),
        2 * 5 - 1,
        "our own is not the others'; who is asked seldom is fresh for longer"
    );
    assert_eq!(made.pool.company(&made.members[1..], ms(13_000)).servers, 1);
}

#[test]
fn a_replica_of_half_the_weight_gets_half_as_much() {
    let mut made = Made::new("least_loaded", 2);
    made.pool.weigh(made.members[0], 500, 0);
    let spread = made.spread(ms(0));
    assert!((60..=72).contains(&spread[0]), "{spread:?}");
}

#[test]
fn who_is_not_ready_gets_nothing_and_comes_back_slowly_with_an_empty_cache() {
    for name in NAMES {
        let mut made = Made::new(name, 4);
        made.pool.asked(made.members[1], Ready::No, ms(0));
        assert_eq!(made.spread(ms(1))[1], 0, "{name}");
        let all = made.members.clone();
        all.iter().for_each(|id| made.pool.asked(*id, Ready::Silent, ms(2)));
        assert!(made.spread(ms(3))[1] > 0, "{name}: somebody is asked all the same");
    }
    let mut made = Made::new("prefix", 2);
    let turn = prompt(1, 100);
    let first = made.serve(Ask { blocks: &turn, tokens: 1_600, ..seed(1) }, ms(0));
    let warm = |made: &Made| made.pool.seen(made.members[first]).unwrap().warm_blocks(&turn);
    made.pool.asked(made.members[first], Ready::Silent, ms(1_000));
    made.pool.asked(made.members[first], Ready::Yes, ms(2_000));
    assert_eq!(warm(&made), 100, "it was only silent");
    assert_eq!(made.pool.seen(made.members[first]).unwrap().share_milli(ms(2_000)), 100);
    made.pool.asked(made.members[first], Ready::No, ms(3_000));
    made.pool.asked(made.members[first], Ready::Yes, ms(4_000));
    assert_eq!(warm(&made), 0, "it was started anew");
}

#[test]
fn a_higher_priority_number_serves_only_where_no_lower_one_is_sound() {
    let mut made = Made::new("least_loaded", 3);
    made.pool.weigh(made.members[2], 1_000, 10);
    assert_eq!(made.spread(ms(0)), [100, 100, 0]);
    made.fail(0, ms(1));
    assert_eq!(made.spread(ms(2)), [0, 200, 0]);
    made.pool.asked(made.members[1], Ready::No, ms(3));
    made.fail(0, ms(4));
    assert_eq!(made.spread(ms(5)), [0, 0, 200]);
}

#[test]
fn each_replica_is_in_one_state() {
    let mut made = Made::new("least_loaded", 4);
    let tried = made.members[1..].to_vec();
    let (_, _running) = made.ask_but(seed(0), &tried, ms(0));
    (0..5).for_each(|number| made.fail(1, ms(number)));
    made.fail(2, ms(10));
    made.pool.asked(made.members[3], Ready::No, ms(10));
    let states = |made: &Made, members: &[ReplicaId], now| {
        made.pool.states(members, now).map(|(_, state)| state).collect::<Vec<_>>()
    };
    let all = made.members.clone();
    assert_eq!(states(&made, &all, ms(20)), [State::Ready, State::Ejected, State::Shunned, State::NotReady]);
    made.pool.asked(made.members[3], Ready::Yes, ms(30));
    assert_eq!(states(&made, &all[1..], ms(6_000)), [State::Draining, State::Ejected, State::Ready, State::Warming]);
    assert_eq!(State::ALL.map(State::as_str).len(), 6);
}

/// Turns of conversations that go to either of two gateways by turns; how many went where the one before had gone.
fn followed(gateways: &mut [Made]) -> usize {
    let mut followed = 0;
    for conversation in 0..150 {
        let (all, mut last) = (prompt(1_000 + conversation, 120), None);
        for turn in 1..=4_u64 {
            let now = ms((conversation * 4 + turn) * 500);
            let made = &mut gateways[(conversation + turn) as usize % gateways.len()];
            let blocks = &all[..(turn * 30) as usize];
            let (tokens, settled) = (blocks.len() as u64 * 16, (turn - 1) * 30 * 16);
            let opening = mix(conversation);
            let ask = Ask { blocks, tokens, settled, opening, ..seed(conversation * 10 + turn) };
            let place = made.serve(ask, now);
            followed += usize::from(turn > 1 && last == Some(place));
            last = Some(place);
        }
    }
    followed
}

#[test]
fn gateways_that_share_a_pool_agree_where_a_conversation_is() {
    let one = followed(&mut [Made::new("prefix", 8)]);
    assert_eq!(one, 450, "one gateway knows it itself");
    let two = followed(&mut [Made::new("prefix", 8), Made::new("prefix", 8)]);
    assert!(two > 380, "{two} of 450");
}

#[test]
fn of_many_replicas_the_warmest_is_found() {
    let mut made = Made::new("prefix", 40);
    let turn = prompt(3, 200);
    let first = made.serve(Ask { blocks: &turn, tokens: 3_200, ..seed(1) }, ms(0));
    assert!((2..30).all(|number| made.serve(Ask { blocks: &turn, tokens: 3_200, ..seed(number) }, ms(0)) == first));
}

#[test]
fn the_same_arguments_give_the_same_choice() {
    let asked = |name| {
        let mut made = Made::new(name, 8);
        (0..300).map(|number| made.ask(seed(number % 50), ms(number)).0).collect::<Vec<_>>()
    };
    assert!(NAMES.iter().all(|name| asked(name) == asked(name)));
}
