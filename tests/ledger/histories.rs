//! Random histories of holds, top-ups, settlements and sweeps, with duplicates and late ones, against a model.
//!
//! `TURNPIKE_HISTORIES` says how many (300 unless stated).

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use proptest::{prelude::*, test_runner::TestRunner};
use turnpike::{
    base::fences::{Fence, Unit},
    ledger::{
        balances::Place,
        redis::protocol::{self, How, Taken},
        row::PlaceRow,
        window::Window,
    },
};

use crate::{
    protocol::{Gateway, TTL, fence, place, stands, window},
    server::Server,
};

/// Fences of the histories, each with a small cap, so that much is refused.
pub fn fences() -> Vec<Arc<Fence>> {
    vec![
        fence("product", Unit::Money, 60),
        fence("search", Unit::Money, 40),
        fence("search", Unit::Tokens, 50),
        fence("search", Unit::Requests, 6),
        fence("search", Unit::Concurrent, 3),
    ]
}

/// One step. Requests are few, so that most steps meet a request that something has happened to before.
#[derive(Clone, Debug)]
pub enum Step {
    Hold {
        id: u128,
        dies: bool,
        amounts: Vec<(usize, i64)>,
    },
    TopUp {
        id: u128,
        amounts: Vec<(usize, i64)>,
    },
    Settle {
        id: u128,
        charged: i64,
    },
    Renew {
        id: u128,
    },
    Sweep,
    /// The fence's next window begins, with so much in it.
    Roll {
        fence: usize,
        settled: i64,
    },
}

fn amounts() -> impl Strategy<Value = Vec<(usize, i64)>> {
    proptest::collection::btree_map(0_usize..5, 0_i64..25, 1..5)
        .prop_map(|map| map.into_iter().map(|(fence, amount)| (fence, if fence >= 3 { 1 } else { amount })).collect())
}

pub fn step() -> impl Strategy<Value = Step> {
    let id = 1_u128..8;
    prop_oneof![
        6 => (id.clone(), any::<bool>(), amounts()).prop_map(|(id, dies, amounts)| Step::Hold { id, dies, amounts }),
        3 => (id.clone(), amounts()).prop_map(|(id, amounts)| Step::TopUp { id, amounts }),
        5 => (id.clone(), 0_i64..30).prop_map(|(id, charged)| Step::Settle { id, charged }),
        1 => id.prop_map(|id| Step::Renew { id }),
        2 => Just(Step::Sweep),
        1 => (0_usize..4, 0_i64..10).prop_map(|(fence, settled)| Step::Roll { fence, settled }),
    ]
}

/// A fence's number and the number of its window.
pub type Spot = (usize, i64);

#[derive(Clone, Debug)]
pub enum Request {
    Open { dies: bool, places: BTreeMap<Spot, i64> },
    Swept(BTreeMap<Spot, i64>),
    Settled,
}

/// What a store should do, written as plainly as can be.
#[derive(Default)]
pub struct Model {
    pub settled: BTreeMap<Spot, i64>,
    pub requests: BTreeMap<u128, Request>,
    pub windows: BTreeMap<usize, i64>,
}

/// What a step is answered with.
#[derive(Debug, PartialEq)]
pub enum Answer {
    Held,
    Short(usize),
    Ended,
}

impl Model {
    pub fn spot(&self, fence: usize) -> Spot {
        (fence, self.windows.get(&fence).copied().unwrap_or(0))
    }

    pub fn held(&self, spot: Spot) -> i64 {
        let places = self.requests.values().filter_map(|request| match request {
            Request::Open { places, .. } => places.get(&spot),
            _ => None,
        });
        places.sum()
    }

    pub fn settled(&self, spot: Spot) -> i64 {
        self.settled.get(&spot).copied().unwrap_or(0)
    }

    fn book(&mut self, places: &BTreeMap<Spot, i64>, sign: i64) {
        for (spot, amount) in places.iter().filter(|((fence, _), _)| *fence != 4) {
            *self.settled.entry(*spot).or_default() += sign * amount;
        }
    }

    /// A hold, or one that is raised where `more`; `binds` says which fences a raised one is refused by.
    pub fn take(
        &mut self,
        fences: &[Arc<Fence>],
        (id, dies): (u128, bool),
        amounts: &[(usize, i64)],
        more: bool,
        binds: impl Fn(usize) -> bool,
    ) -> Answer {
        let mine = match self.requests.get(&id) {
            Some(Request::Open { .. }) if !more => return Answer::Held,
            Some(Request::Open { places, .. }) => places.clone(),
            Some(_) => return Answer::Ended,
            None => BTreeMap::new(),
        };
        for (index, (fence, amount)) in amounts.iter().enumerate() {
            let spot = self.spot(*fence);
            let used = self.settled(spot) + self.held(spot) - mine.get(&spot).copied().unwrap_or(0);
            if (!more || binds(*fence)) && used + amount > fences[*fence].cap {
                return Answer::Short(index);
            }
        }
        let places = amounts.iter().map(|(fence, amount)| (self.spot(*fence), *amount)).collect();
        self.requests.insert(id, Request::Open { dies, places });
        Answer::Held
    }

    pub fn settle(&mut self, id: u128, charged: &BTreeMap<Spot, i64>) {
        match self.requests.insert(id, Request::Settled) {
            Some(Request::Settled) => return,
            Some(Request::Swept(before)) => self.book(&before, -1),
            Some(Request::Open { .. }) | None => {}
        }
        self.book(charged, 1);
    }

    pub fn sweep(&mut self) -> usize {
        let dead = |request: &&mut Request| matches!(request, Request::Open { dies: true, .. });
        let mut charged = Vec::new();
        for request in self.requests.values_mut().filter(dead) {
            if let Request::Open { places, .. } = request {
                charged.push(places.clone());
                *request = Request::Swept(places.clone());
            }
        }
        for places in &charged {
            self.book(places, 1);
        }
        charged.len()
    }
}

/// What the gateway remembers of its requests: where they hold.
type Memory = BTreeMap<u128, BTreeMap<Spot, i64>>;

struct World<'a> {
    model: Model,
    gateway: &'a Gateway,
    fences: Vec<Arc<Fence>>,
    now: Timestamp,
    memory: Memory,
}

impl World<'_> {
    fn window(&self, spot: Spot) -> Window {
        window(&self.fences[spot.0], self.now, spot.1)
    }

    fn places(&self, amounts: &[(usize, i64)]) -> Vec<Place> {
        let place =
            |(fence, amount): &(usize, i64)| place(&self.fences[*fence], self.window(self.model.spot(*fence)), *amount);
        amounts.iter().map(place).collect()
    }

    async fn take(&mut self, how: How, id: u128, dies: bool, amounts: &[(usize, i64)]) {
        let places = self.places(amounts);
        let answer = match self.gateway.take(how, id, if dies { 0 } else { TTL }, &places).await {
            Taken::Held(_) => Answer::Held,
            Taken::Short { index, .. } => Answer::Short(index),
            Taken::Ended => Answer::Ended,
            other => panic!("{other:?}"),
        };
        let replay = how == How::Hold && self.memory.contains_key(&id);
        if answer == Answer::Held && !replay {
            let spots = amounts.iter().map(|(fence, amount)| (self.model.spot(*fence), *amount)).collect();
            self.memory.insert(id, spots);
        }
        // Under way already, only budgets bind.
        let expected = self.model.take(&self.fences, (id, dies), amounts, how == How::More, |fence| fence < 2);
        // A replayed hold takes the deadline that came last.
        if let Some(Request::Open { dies: before, .. }) = self.model.requests.get_mut(&id)
            && expected == Answer::Held
        {
            *before = dies;
        }
        assert_eq!(answer, expected);
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Hold { id, dies, amounts } => self.take(How::Hold, *id, *dies, amounts).await,
            Step::TopUp { id, amounts } => self.take(How::More, *id, false, amounts).await,
            Step::Settle { id, charged } => {
                let spots = self.memory.get(id).cloned().unwrap_or_else(|| BTreeMap::from([((0, 0), 0)]));
                // Models and backends are charged what they served: here, every second place half.
                let charged: BTreeMap<Spot, i64> =
                    spots.keys().enumerate().map(|(n, spot)| (*spot, charged / (1 + n as i64 % 2))).collect();
                let rows: Vec<PlaceRow> = charged
                    .iter()
                    .map(|(spot, amount)| place(&self.fences[spot.0], self.window(*spot), 0).row(*amount))
                    .collect();
                self.gateway.settle(*id, &rows).await;
                self.model.settle(*id, &charged);
            }
            Step::Renew { id } => {
                self.gateway.renew(&[*id]).await;
                if let Some(Request::Open { dies, .. }) = self.model.requests.get_mut(id) {
                    *dies = false;
                }
            }
            Step::Sweep => assert_eq!(self.gateway.sweep().await.len(), self.model.sweep()),
            Step::Roll { fence, settled } => {
                let next = self.model.spot(*fence).1 + 1;
                let (wire, epoch) = (&self.gateway.wire, &self.gateway.epoch);
                let adopt = protocol::adopt(wire, epoch, &self.fences[*fence], &self.window((*fence, next)), *settled);
                wire.send(&adopt).await.unwrap();
                self.model.windows.insert(*fence, next);
                *self.model.settled.entry((*fence, next)).or_default() += settled;
            }
        }
    }
}

async fn play(server: &Server, gateway: &Gateway, number: u32, steps: &[Step]) {
    // A new epoch is an empty store.
    let gateway = &Gateway { wire: gateway.wire.clone(), epoch: format!("h{number}"), node: gateway.node };
    server.tell(&format!("SET {{tp:turnpike}}:e h{number}")).await;
    let mut world =
        World { model: Model::default(), gateway, fences: fences(), now: Timestamp::now(), memory: Memory::new() };
    for step in steps {
        world.step(step).await;
    }
    let mut look = server.look().await;
    for fence in 0..world.fences.len() {
        for index in 0..=world.model.spot(fence).1 {
            let spot = (fence, index);
            let there = stands(&mut look, &world.gateway.epoch, &world.fences[fence], &world.window(spot)).await;
            assert_eq!(there, (world.model.settled(spot), world.model.held(spot)), "fence {fence}, window {index}");
        }
    }
}

/// Plays random histories with `play`, as many as the environment says.
pub fn play_histories(mut play: impl FnMut(&[Step])) {
    let cases = std::env::var("TURNPIKE_HISTORIES").map_or(300, |text| text.parse().unwrap());
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let histories = proptest::collection::vec(step(), 1..40);
    let play = std::cell::RefCell::new(&mut play);
    let played = TestRunner::new(config).run(&histories, |steps| {
        (play.borrow_mut())(&steps);
        Ok(())
    });
    if let Err(error) = played {
        panic!("{error}");
    }
}

#[test]
fn random_histories_leave_redis_equal_to_the_model() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(Server::start(&[]));
    let gateway = runtime.block_on(Gateway::new(&server, "a"));
    let mut number = 0_u32;
    play_histories(|steps| {
        number += 1;
        runtime.block_on(async {
            if number.is_multiple_of(500) {
                server.tell("FLUSHALL").await;
            }
            play(&server, &gateway, number, steps).await;
        });
    });
}
