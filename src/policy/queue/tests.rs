//! Queues as one gateway sees them, beside a server whose true waits are known.

use proptest::prelude::*;

use super::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A server that takes one request after the other, `service` each.
struct Server {
    queue: Queue,
    service: u64,
    free_at: u64,
    under_way: VecDeque<(u64, u64)>,
}

impl Server {
    fn new(service: u64) -> Self {
        Self { queue: Queue::default(), service, free_at: 0, under_way: VecDeque::new() }
    }

    /// What a request finds that comes at `now`, and how long it will really wait.
    fn ask(&mut self, now: u64) -> (Line, u64) {
        while let Some((number, done)) = self.under_way.front().copied().filter(|(_, done)| *done <= now) {
            self.queue.answered(number, ms(done));
            self.under_way.pop_front();
        }
        let line = self.queue.line(Company::alone(1), ms(now));
        let number = self.queue.sent(Company::alone(1), true, ms(now));
        let begins = self.free_at.max(now);
        self.free_at = begins + self.service;
        self.under_way.push_back((number, self.free_at));
        (line, begins - now)
    }
}

#[test]
fn an_idle_pool_makes_nobody_wait_and_costs_nobody_anything() {
    let mut server = Server::new(200);
    for n in 0..100 {
        let (line, _) = server.ask(n * 1_000);
        assert_eq!((line.wait, line.each, line.behind()), (ms(0), ms(0), ms(0)), "{n}");
    }
}

#[test]
fn a_growing_queue_is_foretold() {
    let mut server = Server::new(200);
    // Four requests a second unhindered, then ten a second where five can be served.
    for n in 0..40 {
        server.ask(n * 250);
    }
    for n in 0..300 {
        let (line, waited) = server.ask(10_000 + n * 100);
        let told = line.wait.as_millis() as u64;
        if n > 60 {
            assert!(told * 10 >= waited * 7 && told <= waited * 13 / 10 + 400, "{n}: told {told}, waited {waited}");
            assert!(line.load_ppm == 950_000 && line.behind() > line.wait * 18, "{line:?}");
        }
    }
}

#[test]
fn a_pool_that_stops_answering_is_seen_by_its_oldest_request() {
    let mut server = Server::new(100);
    for n in 0..20 {
        server.ask(n * 500);
    }
    let queue = &mut server.queue;
    server.under_way.drain(..).for_each(|(number, done)| queue.answered(number, ms(done)));
    for n in 0..5 {
        queue.sent(Company::alone(1), true, ms(20_000 + n));
    }
    let wait = queue.line(Company::alone(1), ms(23_000)).wait;
    assert!(wait >= ms(2_800) && wait <= ms(3_000), "{wait:?}");
    assert_eq!(queue.line(Company::alone(8), ms(23_000)).wait, ms(0), "five requests at eight servers wait for nobody");
}

#[test]
fn a_request_that_others_overtake_is_no_queue() {
    let mut queue = Queue::default();
    let stuck = queue.sent(Company::alone(2), true, ms(0));
    for n in 0..50 {
        let number = queue.sent(Company::alone(2), true, ms(n * 100));
        queue.answered(number, ms(n * 100 + 50));
    }
    let _ahead = queue.sent(Company::alone(2), true, ms(5_000));
    assert!(queue.line(Company::alone(2), ms(5_010)).wait < ms(20), "{:?}", queue.line(Company::alone(2), ms(5_010)));
    queue.left(stuck);
    queue.left(stuck);
    assert_eq!(queue.waiting(), 1);
}

#[test]
fn whole_answers_are_measured_against_their_own_and_never_head_the_line() {
    let mut queue = Queue::default();
    for n in 0..20 {
        let number = queue.sent(Company::alone(1), false, ms(n * 10_000));
        queue.answered(number, ms(n * 10_000 + 8_000));
    }
    for n in 0..3 {
        queue.sent(Company::alone(1), false, ms(200_000 + n));
    }
    assert_eq!(queue.line(Company::alone(1), ms(207_000)).wait, ms(0));
}

#[test]
fn what_others_have_waiting_makes_a_wait_for_a_gateway_that_sends_little() {
    let mut queue = Queue::default();
    let busy = Company { servers: 4, unanswered: 44, times_milli: 1_000 };
    // Each of 41 ahead takes 200 ms of four servers.
    for n in 0..20 {
        let number = queue.sent(busy, true, ms(n * 3_000));
        queue.answered(number, ms(n * 3_000 + 2_250));
    }
    let at = ms(60_000);
    assert_eq!(queue.line(Company::alone(4), at).wait, ms(0), "by its own requests the pool is idle");
    let wait = queue.line(busy, at).wait;
    assert!(wait > ms(1_700) && wait < ms(2_250), "{wait:?}");
    let half = queue.line(Company { unanswered: 22, ..busy }, at).wait;
    assert!(half > wait * 4 / 10 && half < wait * 6 / 10, "{half:?} of {wait:?}");
}

#[test]
fn the_first_answer_of_a_busy_pool_is_no_usual_one() {
    let mut queue = Queue::default();
    let busy = Company { servers: 1, unanswered: 10, times_milli: 1_000 };
    let number = queue.sent(busy, true, ms(0));
    queue.answered(number, ms(2_200));
    let line = queue.line(busy, ms(2_200));
    assert!(line.each > ms(90) && line.wait > ms(900), "{line:?}");
}

#[test]
fn arrivals_of_others_count_in_the_load() {
    let mut queue = Queue::default();
    for n in 0..100 {
        let company = Company { servers: 1, unanswered: 4, times_milli: 1_000 };
        let number = queue.sent(company, true, ms(n * 1_000));
        queue.answered(number, ms(n * 1_000 + 600));
    }
    let load = |times_milli| queue.line(Company { servers: 1, unanswered: 4, times_milli }, ms(100_000)).load_ppm;
    assert!(load(1_000) > 80_000 && load(1_000) < 120_000, "{}", load(1_000));
    assert_eq!(load(4_000), 4 * load(1_000));
    assert_eq!((load(0), load(1_000_000)), (load(1_000), MOST_LOAD));
}

#[test]
fn the_cost_to_those_behind_grows_with_load_and_wait() {
    let line = |wait, each, load_ppm| Line { wait: ms(wait), each: ms(each), load_ppm, servers: 1 };
    assert_eq!(line(0, 100, 0).behind(), ms(0));
    assert_eq!(line(1_000, 200, 500_000).behind(), ms(1_100));
    assert_eq!(line(1_000, 200, 900_000).behind(), ms(9_900));
    assert_eq!(line(1_000, 200, 2_000_000).behind(), line(1_000, 200, MOST_LOAD).behind());
}

proptest! {
    #[test]
    fn a_shorter_queue_never_makes_a_longer_wait(
        gaps in prop::collection::vec(1_u64..400, 10..80), service in 50_u64..500, servers in 1_u32..5,
    ) {
        let (mut server, mut now) = (Server::new(service), 0);
        for gap in gaps {
            now += gap;
            server.ask(now);
        }
        let line = server.queue.line(Company::alone(servers), ms(now));
        let more = server.queue.line(Company::alone(servers + 1), ms(now));
        prop_assert!(more.wait <= line.wait && more.behind() <= line.behind());
        let crowded = server.queue.line(Company { servers, unanswered: 3, times_milli: 2_000 }, ms(now));
        prop_assert!(crowded.wait >= line.wait && crowded.behind() >= line.behind());
        let first = server.under_way.front().unwrap().0;
        server.queue.left(first);
        let fewer = server.queue.line(Company::alone(servers), ms(now));
        prop_assert!(fewer.wait <= line.wait && fewer.each == line.each);
    }
}
