//! What is made of given answers on given instants.

use super::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn nothing_seen_leaves_everything_to_the_priors() {
    assert_eq!(Meter::default().seen(ms(5), None), Seen { warm_ppm: 1_000_000, ..Seen::default() });
}

#[test]
fn a_vendor_that_keeps_nothing_is_soon_counted_on_for_nothing() {
    let mut meter = Meter::default();
    let warm = |meter: &Meter| meter.seen(ms(5), None).warm_ppm;
    meter.warm_turn(1_920, 1_920);
    assert_eq!(warm(&meter), 1_000_000);
    (0..4).for_each(|_| meter.warm_turn(1_920, 0));
    assert!((500_000..600_000).contains(&warm(&meter)), "{}", warm(&meter));
    (0..100).for_each(|_| meter.warm_turn(1_920, 0));
    assert!(warm(&meter) < 50_000, "{}", warm(&meter));
    (0..100).for_each(|_| meter.warm_turn(1_920, 2_000));
    assert!(warm(&meter) > 950_000, "{}", warm(&meter));
}

#[test]
fn means_follow_what_is_measured() {
    let mut meter = Meter::default();
    for n in 0..100 {
        meter.first_token(ms(400), ms(n * 100));
        meter.answer(101, ms(2_000), 1_000, 250, ms(n * 100));
    }
    let seen = meter.seen(ms(10_000), None);
    assert_eq!(seen.first_token, Some(ms(400)));
    assert_eq!(seen.per_token, Some(ms(20)));
    assert_eq!(seen.output_tokens, Some(101));
    assert_eq!(seen.cached_ppm, 250_000);
    for n in 0..100 {
        meter.first_token(ms(1_200), ms(10_000 + n * 100));
    }
    let seen = meter.seen(ms(20_000), None).first_token.unwrap();
    assert!(seen > ms(1_150) && seen <= ms(1_200), "{seen:?}");
}

#[test]
fn the_percentile_is_at_most_a_bucket_off() {
    let mut meter = Meter::default();
    for n in 1..=1000 {
        meter.first_token(ms(n), ms(n));
    }
    let p95 = meter.seen(ms(1_001), None).first_token_p95.unwrap();
    assert!(p95 >= ms(950) && p95 <= ms(950 * 5 / 4), "{p95:?}");
}

#[test]
fn every_time_lies_below_the_end_of_its_bucket() {
    for ms_ in 1..60_000 {
        let time = ms(ms_);
        let place = bucket(time);
        assert!(upper_end(place) > time || place == BUCKETS - 1, "{ms_}");
        assert!(place == 0 || upper_end(place - 1) <= time, "{ms_}");
    }
}

#[test]
fn a_fast_failure_looks_slow() {
    let mut meter = Meter::default();
    meter.first_token(ms(200), ms(0));
    meter.failure(None, ms(10));
    assert!(meter.seen(ms(20), None).first_token.unwrap() > ms(2_000));
}

#[test]
fn what_is_older_than_a_quarter_of_an_hour_is_forgotten() {
    let mut meter = Meter::default();
    (0..50).for_each(|n| meter.first_token(ms(9_000), ms(n)));
    assert!(meter.seen(ms(899_000), None).first_token_p95.is_some());
    let late = meter.seen(ms(901_000), None);
    assert_eq!((late.first_token, late.first_token_p95), (None, None));
    meter.first_token(ms(100), ms(902_000));
    assert_eq!(meter.seen(ms(902_001), None).first_token, Some(ms(100)));
}

const PRIOR: SpeedPrior = SpeedPrior { first_token: ms(1_000), per_token: ms(20) };

#[test]
fn plain_answers_alone_are_measured_however_long_the_gateway_is_up() {
    let mut meter = Meter::default();
    for n in 0..100 {
        // As the prior, but twice as fast.
        meter.whole_answer(ms(500 + 100 * 10), 101, 1_000, 250, PRIOR, ms(1_000_000 + n * 100));
    }
    let seen = meter.seen(ms(1_010_000), None);
    assert_eq!((seen.first_token, seen.per_token), (Some(ms(500)), Some(ms(10))));
    assert_eq!((seen.output_tokens, seen.cached_ppm), (Some(101), 250_000));
    assert!(seen.first_token_p95.is_some());
}

#[test]
fn the_end_of_a_long_stream_keeps_its_times_fresh() {
    let mut meter = Meter::default();
    meter.first_token(ms(400), ms(0));
    meter.answer(101, ms(2_000), 1_000, 0, ms(800_000));
    assert_eq!(meter.seen(ms(1_000_000), None).per_token, Some(ms(20)));
}

#[test]
fn plain_answers_outgrow_a_failure_before_them() {
    let mut meter = Meter::default();
    meter.failure(None, ms(0));
    let first = |meter: &Meter| meter.seen(ms(50_000), None).first_token.unwrap();
    assert_eq!(first(&meter), PENALTY);
    (1..40).for_each(|n| meter.whole_answer(ms(1_500), 101, 1_000, 0, PRIOR, ms(n * 1_000)));
    assert!(first(&meter) < ms(550), "{:?}", first(&meter));
    assert_eq!(meter.seen(ms(50_000), None).per_token, Some(ms(10)), "the penalty is no writing");
}

#[test]
fn a_whole_answer_is_divided_as_streams_were() {
    let mut meter = Meter::default();
    for n in 0..20 {
        meter.first_token(ms(100), ms(n * 2_000));
        meter.answer(101, ms(4_000), 1_000, 0, ms(n * 2_000 + 1_000));
    }
    meter.whole_answer(ms(8_200), 101, 1_000, 0, PRIOR, ms(40_000));
    let seen = meter.seen(ms(40_000), None);
    let (first, per_token) = (seen.first_token.unwrap(), seen.per_token.unwrap());
    assert!(first > ms(100) && first < ms(200), "{first:?}");
    assert!(per_token > ms(40) && per_token < ms(80), "{per_token:?}");
}

#[test]
fn a_whole_answer_without_tokens_or_expectations_is_all_wait() {
    let mut meter = Meter::default();
    let nothing = SpeedPrior { first_token: ms(0), per_token: ms(0) };
    meter.whole_answer(ms(300), 0, 0, 0, nothing, ms(0));
    meter.whole_answer(ms(300), 1, 10, 0, PRIOR, ms(10));
    assert_eq!(meter.seen(ms(10), None).first_token, Some(ms(300)));
    assert_eq!(meter.seen(ms(10), None).per_token, None);
}
