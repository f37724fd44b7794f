//! One run: events on a virtual clock.

use std::{cmp::Reverse, collections::BinaryHeap, rc::Rc, sync::Arc, time::Duration};

use turnpike::{
    base::failure::Fault,
    policy::{
        Policies,
        balance::{Ask, Load, mix},
    },
};

use crate::{
    dice::Dice,
    engine::Engine,
    gateway::{Course, Failure, Flight, Gateway, Then, policies},
    load::{Prompt, Talk},
    pickers::Picker,
    scenario::{Mode, SECOND, Scenario},
};

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Times to the first token as clients saw them, in microseconds.
    pub first_tokens: Vec<u64>,
    pub requests: u64,
    /// Requests without an answer.
    pub errors: u64,
    /// Streams that were cut after their first token, with their server: nobody could have saved them.
    pub cut: u64,
    /// Requests that came to a server.
    pub calls: u64,
    /// Of those, turned away with a 429.
    pub refused: u64,
    pub prompt_tokens: u64,
    pub cached_tokens: u64,
    /// Attempts at each server.
    pub by_server: Vec<u64>,
}

impl Outcome {
    /// Adds another run.
    pub fn add(&mut self, other: Self) {
        self.first_tokens.extend(other.first_tokens);
        self.requests += other.requests;
        self.errors += other.errors;
        self.cut += other.cut;
        self.calls += other.calls;
        self.refused += other.refused;
        self.prompt_tokens += other.prompt_tokens;
        self.cached_tokens += other.cached_tokens;
        self.by_server.resize(other.by_server.len(), 0);
        self.by_server.iter_mut().zip(other.by_server).for_each(|(sum, one)| *sum += one);
    }
}

/// What happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Change(usize),
    Scrape,
    Arrival,
    /// An attempt's request reaches its server.
    Reaches(usize),
    Step(usize, u64),
    /// A vendor's first token, and the end of its answer.
    First(usize),
    Done(usize),
    Fails(usize, Refusal),
    Again(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Refusal {
    Error,
    Quota,
}

struct Request {
    prompt: Rc<Prompt>,
    arrived: u64,
    gateway: usize,
    course: Course,
    flight: Option<Flight>,
    over: bool,
    answering: bool,
}

struct World<'a> {
    scenario: &'a Scenario,
    /// One a gateway.
    pickers: Vec<Picker>,
    sites: Vec<usize>,
    gateways: Vec<Gateway>,
    engines: Vec<Engine>,
    modes: Vec<Mode>,
    /// Per server: the second, and the requests in it.
    quota: Vec<(u64, u64)>,
    requests: Vec<Request>,
    talk: Talk,
    dice: Dice,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    number: u64,
    outcome: Outcome,
}

/// From the gateway to a server.
const WAY: u64 = 500;

/// Runs a scenario once; the same seed gives the same outcome.
pub fn run(scenario: &Scenario, picker: &'static str, seed: u64) -> Outcome {
    let mut sites = if scenario.servers.is_empty() { Vec::new() } else { vec![scenario.servers.len()] };
    sites.extend(vec![1; scenario.vendors]);
    let servers: usize = sites.iter().sum();
    let policies: Arc<Policies> = policies(&sites, scenario.spill);
    let gateways =
        (0..scenario.gateways).map(|number| Gateway::new(&policies, scenario, &sites, mix(seed ^ number as u64)));
    let engine = |slow: &u64| Engine::new(*slow);
    let mut world = World {
        scenario,
        pickers: (0..scenario.gateways).map(|_| Picker::named(picker)).collect(),
        gateways: gateways.collect(),
        engines: scenario.servers.iter().map(engine).collect(),
        modes: vec![Mode::Sound; servers],
        quota: vec![(0, 0); servers],
        sites,
        requests: Vec::new(),
        talk: Talk::new(scenario.mix),
        dice: Dice::new(seed),
        events: BinaryHeap::new(),
        number: 0,
        outcome: Outcome { by_server: vec![0; servers], ..Outcome::default() },
    };
    world.begin();
    world.outcome
}

impl World<'_> {
    fn begin(&mut self) {
        for (number, change) in self.scenario.changes.iter().enumerate() {
            self.at(change.at, Event::Change(number));
        }
        if let Some(every) = self.scenario.scrape {
            self.at(every, Event::Scrape);
        }
        self.at(0, Event::Arrival);
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            self.happens(event, now);
        }
        assert!(self.requests.iter().all(|request| request.over), "a request came to no end");
    }

    fn at(&mut self, time: u64, event: Event) {
        self.number += 1;
        self.events.push(Reverse((time, self.number, event)));
    }

    fn happens(&mut self, event: Event, now: u64) {
        match event {
            Event::Change(number) => self.change(number, now),
            Event::Scrape => self.scrape(now),
            Event::Arrival => self.arrival(now),
            Event::Reaches(request) => self.reaches(request, now),
            Event::Step(server, generation) => self.step(server, generation, now),
            Event::First(request) => self.first(request, now),
            Event::Done(request) => self.done(request, 0, now),
            Event::Fails(request, refusal) => self.fails(request, refusal, now),
            Event::Again(request) => self.send(request, now),
        }
    }

    fn change(&mut self, number: usize, now: u64) {
        let change = self.scenario.changes[number];
        self.modes[change.server] = change.mode;
        if change.mode == Mode::Refuses {
            for request in self.engines[change.server].crash() {
                self.at(now, Event::Fails(request, Refusal::Error));
            }
        }
    }

    fn scrape(&mut self, now: u64) {
        for gateway in &mut self.gateways {
            let site = &mut gateway.sites[0];
            for (engine, id) in self.engines.iter().zip(site.members.clone()) {
                let (requests, waiting) = (engine.load(), engine.unread());
                let load = Load { requests, waiting, queue: waiting, cache_used_ppm: None };
                site.pool.told(id, load, time(self.scenario.scrape.unwrap()), time(now));
            }
        }
        if now < self.scenario.seconds * SECOND {
            self.at(now + self.scenario.scrape.unwrap(), Event::Scrape);
        }
    }

    fn arrival(&mut self, now: u64) {
        let burst = self.scenario.burst.filter(|(from, until, _)| (*from..*until).contains(&now));
        let rate = self.scenario.rate * burst.map_or(1.0, |(_, _, times)| times);
        let next = now + (self.dice.exponential(1.0 / rate) * SECOND as f64) as u64;
        if next < self.scenario.seconds * SECOND {
            self.at(next, Event::Arrival);
        }
        let prompt = self.talk.ask(&mut self.dice);
        let gateway = self.dice.below(self.gateways.len() as u64) as usize;
        let mut course = Course::new(self.dice.next());
        self.gateways[gateway].begin(&mut course, time(now));
        let request = Request { prompt, arrived: now, gateway, course, flight: None, over: false, answering: false };
        self.requests.push(request);
        self.outcome.requests += 1;
        self.send(self.requests.len() - 1, now);
    }

    fn send(&mut self, number: usize, now: u64) {
        let request = &mut self.requests[number];
        let prompt = Rc::clone(&request.prompt);
        let seed = mix(request.course.seed ^ request.course.seen.len() as u64);
        let affinity = mix(prompt.conversation);
        let (blocks, opening) = (&prompt.blocks, affinity);
        let (tokens, settled) = (prompt.tokens, prompt.settled);
        let ask = Ask { blocks, tokens, settled, affinity, opening, streams: true, seed };
        let gateway = &mut self.gateways[request.gateway];
        request.flight = gateway.board(&mut request.course, &self.pickers[request.gateway], ask, time(now));
        match request.flight {
            Some(_) => self.at(now + WAY, Event::Reaches(number)),
            None => self.error(number),
        }
    }

    fn error(&mut self, number: usize) {
        self.requests[number].over = true;
        self.outcome.errors += 1;
    }

    fn server(&self, number: usize) -> usize {
        let flight = self.requests[number].flight.as_ref().unwrap();
        self.sites[..flight.site].iter().sum::<usize>() + flight.server
    }

    fn reaches(&mut self, number: usize, now: u64) {
        let server = self.server(number);
        self.outcome.calls += 1;
        self.outcome.by_server[server] += 1;
        match self.modes[server] {
            Mode::Refuses => return self.at(now + WAY, Event::Fails(number, Refusal::Error)),
            Mode::FailsFast => return self.at(now + 2_000, Event::Fails(number, Refusal::Error)),
            Mode::Quota(most) => {
                let second = now / SECOND;
                let counted = if self.quota[server].0 == second { self.quota[server].1 } else { 0 };
                self.quota[server] = (second, counted + 1);
                if counted >= most {
                    self.outcome.refused += 1;
                    return self.at(now + 2_000, Event::Fails(number, Refusal::Quota));
                }
            }
            Mode::Sound => {}
        }
        let prompt = Rc::clone(&self.requests[number].prompt);
        if let Some(engine) = self.engines.get_mut(server) {
            if let Some(when) = engine.take(number, prompt, now) {
                let generation = engine.generation;
                self.at(when, Event::Step(server, generation));
            }
            return;
        }
        let wait = self.dice.lognormal(400_000.0, 0.4) as u64;
        self.at(now + wait, Event::First(number));
        self.at(now + wait + prompt.output * 15_000, Event::Done(number));
    }

    fn step(&mut self, server: usize, generation: u64, now: u64) {
        if self.engines[server].generation != generation {
            return;
        }
        let (stepped, next) = self.engines[server].step(now);
        if let Some(when) = next {
            let generation = self.engines[server].generation;
            self.at(when, Event::Step(server, generation));
        }
        stepped.first.into_iter().for_each(|request| self.first(request, now));
        stepped.done.into_iter().for_each(|(request, cached)| self.done(request, cached, now));
    }

    fn first(&mut self, number: usize, now: u64) {
        let request = &mut self.requests[number];
        request.answering = true;
        let flight = request.flight.as_ref().unwrap();
        self.outcome.first_tokens.push(now - request.arrived);
        let took = time(now).saturating_sub(flight.ticket.sent());
        self.pickers[request.gateway].observed(flight.ticket.replica, took, time(now));
        self.gateways[request.gateway].sites[flight.site].first_token(flight, time(now));
    }

    fn done(&mut self, number: usize, cached: u64, now: u64) {
        let request = &mut self.requests[number];
        request.over = true;
        let flight = request.flight.take().unwrap();
        self.gateways[request.gateway].served(&flight, cached, time(now));
        self.outcome.prompt_tokens += request.prompt.tokens;
        self.outcome.cached_tokens += cached;
        let prompt = Rc::clone(&request.prompt);
        self.talk.answered(prompt, &mut self.dice);
    }

    fn fails(&mut self, number: usize, refusal: Refusal, now: u64) {
        let request = &mut self.requests[number];
        let Some(flight) = request.flight.take() else { return };
        let failure = match refusal {
            Refusal::Error => Failure { fault: Fault::Backend, retry_after: None },
            Refusal::Quota => Failure { fault: Fault::Quota, retry_after: Some(Duration::from_secs(2)) },
        };
        let then = self.gateways[request.gateway].failed(&mut request.course, &flight, failure, time(now));
        match then {
            // What was begun cannot be begun again: the stream ends with an error event.
            _ if request.answering => {
                request.over = true;
                self.outcome.cut += 1;
            }
            Then::Again(delay) => self.at(now + delay.as_micros() as u64, Event::Again(number)),
            Then::Stop => self.error(number),
        }
    }
}

fn time(micros: u64) -> Duration {
    Duration::from_micros(micros)
}
