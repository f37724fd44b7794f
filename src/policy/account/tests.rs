//! One account, limit by limit.

use proptest::prelude::*;

use super::*;

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn rate(amount: u64) -> Option<Rate> {
    Some(Rate { amount, per: Period::Minute })
}

struct Bench {
    account: Account,
    limits: Limits,
    model: Arc<str>,
    cap: Option<u32>,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        Self { account: Account::default(), limits, model: "m".into(), cap: None }
    }

    fn board(&mut self, tokens: u64, now: Duration) -> Result<Boarded, Busy> {
        let passage = Passage { model: &self.model, cap: self.cap, tokens };
        self.account.board(&self.limits, &passage, false, now)
    }

    fn end(&mut self, boarded: &Boarded, end: End, now: Duration) {
        self.account.ended(&self.limits, boarded, end, now);
        self.account.left(boarded);
    }
}

#[test]
fn no_more_are_under_way_than_were_agreed() {
    let mut bench = Bench::new(Limits { concurrent: Some(2), ..Limits::default() });
    let first = bench.board(0, at(0)).unwrap();
    let _second = bench.board(0, at(0)).unwrap();
    assert_eq!(bench.board(0, at(0)).unwrap_err(), Busy::Full);
    bench.end(&first, End::Other { tokens: 0 }, at(1));
    assert!(bench.board(0, at(1)).is_ok());
}

#[test]
fn a_vendors_cap_is_each_models_own() {
    let mut bench = Bench { cap: Some(1), ..Bench::new(Limits::default()) };
    let first = bench.board(0, at(0)).unwrap();
    assert_eq!(bench.board(0, at(0)).unwrap_err(), Busy::Full);
    bench.model = "other".into();
    let other = bench.board(0, at(0)).unwrap();
    bench.end(&first, End::Served { tokens: 1 }, at(1));
    bench.model = "m".into();
    assert!(bench.board(0, at(1)).is_ok());
    bench.end(&other, End::Served { tokens: 1 }, at(1));
    assert_eq!(bench.account.models.len(), 1);
}

#[test]
fn requests_and_tokens_of_a_minute_are_bounded_and_the_wait_is_known() {
    let mut bench = Bench::new(Limits { requests: rate(3), tokens: rate(1_000), ..Limits::default() });
    let first = bench.board(600, at(0)).unwrap();
    let Err(Busy::For(wait)) = bench.board(600, at(1)) else { panic!("1,200 of 1,000 tokens") };
    assert!(wait > at(59) && wait < at(120), "{wait:?}");
    // It needed less than was thought.
    bench.end(&first, End::Served { tokens: 100 }, at(2));
    let second = bench.board(600, at(2)).unwrap();
    bench.end(&second, End::Served { tokens: 700 }, at(3));
    assert!(bench.board(300, at(3)).is_err() && bench.board(200, at(3)).is_ok());
    assert!(matches!(bench.board(0, at(4)), Err(Busy::For(_))), "a fourth request");
    assert!(bench.board(200, at(120)).is_ok());
}

#[test]
fn a_request_larger_than_the_whole_limit_goes_when_nothing_else_was() {
    let mut bench = Bench::new(Limits { tokens: rate(1_000), ..Limits::default() });
    let huge = bench.board(5_000, at(0)).unwrap();
    assert!(bench.board(5_000, at(1)).is_err());
    bench.end(&huge, End::Refused, at(2));
    assert!(bench.board(5_000, at(3)).is_ok(), "what was refused used nothing");
}

#[test]
fn who_is_parked_takes_nothing_until_then() {
    let mut bench = Bench::new(Limits::default());
    bench.account.park(at(5), at(10));
    bench.account.park(at(1), at(10));
    bench.account.hint_parked(at(7), at(10));
    assert_eq!(bench.board(0, at(12)).unwrap_err(), Busy::For(at(5)));
    assert_eq!((bench.account.parked(at(16)), bench.account.told_here(at(12)).0), (Some(at(1)), at(3)));
    assert!(bench.board(0, at(17)).is_ok());
}

#[test]
fn a_refusal_lowers_what_is_taken_at_once() {
    let mut bench = Bench::new(Limits::default());
    let mut boarded: Vec<Boarded> = (0..10).map(|_| bench.board(0, at(1)).unwrap()).collect();
    let last = boarded.pop().unwrap();
    bench.end(&last, End::Refused, at(2));
    assert_eq!((bench.account.learned(at(2)), bench.account.told_here(at(2)).1), (Some(7), 1));
    assert_eq!(bench.board(0, at(2)).unwrap_err(), Busy::Crowded);
    let passage = Passage { model: &"m".into(), cap: None, tokens: 0 };
    let anyway = bench.account.board(&bench.limits, &passage, true, at(2)).unwrap();
    bench.end(&anyway, End::Other { tokens: 0 }, at(2));
    for served in boarded.drain(..3) {
        bench.end(&served, End::Served { tokens: 1 }, at(3));
    }
    assert!(bench.board(0, at(3)).is_ok());
    bench.account.hint_refused(at(4));
    assert_eq!((bench.account.learned(at(4)), bench.account.told_here(at(4)).1), (Some(4), 1));
}

proptest! {
    #[test]
    fn whatever_happens_no_limit_is_passed_and_nothing_stays_under_way(
        concurrent in prop::option::of(1_u64..8), cap in prop::option::of(1_u32..8), requests in prop::option::of(1_u64..20),
        steps in prop::collection::vec((0_u64..8, 0_u64..300, 0_usize..4, any::<prop::sample::Index>()), 1..120),
    ) {
        let limits = Limits { requests: requests.and_then(rate), tokens: rate(1_000), concurrent };
        let mut bench = Bench { cap, ..Bench::new(limits) };
        let (mut under_way, mut now, mut sent) = (Vec::new(), Duration::ZERO, Vec::new());
        for (gap, tokens, what, which) in steps {
            now += at(gap);
            if what > 1 || under_way.is_empty() {
                if let Ok(boarded) = bench.board(tokens, now) {
                    under_way.push(boarded);
                    sent.push(now);
                }
                let count = under_way.len() as u64;
                prop_assert!(concurrent.is_none_or(|most| count <= most));
                prop_assert!(cap.is_none_or(|most| count <= u64::from(most)));
                // Two windows side by side hold at most what two may; evenly spread it is one.
                let minute = sent.iter().filter(|sent| now.saturating_sub(**sent) < at(60)).count() as u64;
                prop_assert!(requests.is_none_or(|most| minute <= 2 * most));
            } else {
                let boarded = under_way.remove(which.index(under_way.len()));
                let end = if what == 0 { End::Served { tokens } } else { End::Refused };
                bench.end(&boarded, end, now);
            }
            prop_assert_eq!(bench.account.under_way() as usize, under_way.len());
        }
    }
}
