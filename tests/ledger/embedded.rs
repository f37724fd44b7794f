//! The same random histories against the stores of one machine: the ledger in memory, and the one with its journal,
//! whose process is killed and started again in between.
//!
//! What a shared store must bear and this one cannot meet is passed over: a hold is a value here, so it cannot come
//! twice or end twice, and nothing is left of an id whose hold has ended. A sweep is the next start after a `kill -9`.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use jiff::{Timestamp, ToSpan};
use tempfile::TempDir;
use turnpike::{
    base::{fences::Fence, money::Money, tenants::OnStoreLoss},
    ledger::{
        Demand, Hold, HoldError, Ledger, Order,
        journal::{Position, Reader, Reading},
        row::{About, Entry, Row, Served, Tokens},
    },
};
use uuid::Uuid;

use crate::{
    histories::{Answer, Model, Request, Spot, Step, fences, play_histories},
    node::row,
};

/// The first day of the histories.
const NOON: &str = "2026-11-23T12:00:00Z";

/// A ledger under test, with its folder if it has one.
struct Kept {
    ledger: Arc<Ledger>,
    folder: Option<TempDir>,
}

/// A folder in memory where there is one: it is the files that outlive a kill, not the disk, and syncs take time.
fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

struct World {
    model: Model,
    kept: Kept,
    fences: Vec<Arc<Fence>>,
    /// Days since the first.
    day: i64,
    holds: BTreeMap<u128, Hold>,
}

/// What a hold of these amounts can ask for: one amount of money and one of tokens, in each fence of its unit.
fn demand(amounts: &[(usize, i64)]) -> Demand {
    let amount = |of: &[usize]| amounts.iter().find(|(fence, _)| of.contains(fence)).map_or(0, |(_, amount)| *amount);
    Demand { money: Money::from_nanousd(amount(&[0, 1])), tokens: amount(&[2]).cast_unsigned() }
}

impl World {
    fn new(kept: Kept) -> Self {
        Self { model: Model::default(), kept, fences: fences(), day: 0, holds: BTreeMap::new() }
    }

    fn now(&self) -> Timestamp {
        let first: Timestamp = NOON.parse().unwrap();
        first + (24 * self.day).hours()
    }

    fn amounts(&self, chosen: impl Iterator<Item = usize>, demand: Demand) -> Vec<(usize, i64)> {
        chosen.map(|fence| (fence, demand.amount(self.fences[fence].unit))).collect()
    }

    fn chosen(&self, amounts: &[(usize, i64)]) -> Vec<Arc<Fence>> {
        amounts.iter().map(|(fence, _)| Arc::clone(&self.fences[*fence])).collect()
    }

    fn number(&self, fence: &Fence) -> usize {
        self.fences.iter().position(|other| other.id == fence.id).unwrap()
    }

    /// What the ledger answered, with the place of a refusing fence among `amounts`.
    fn answer(&self, answer: Result<(), HoldError>, amounts: &[(usize, i64)]) -> Answer {
        match answer {
            Ok(()) => Answer::Held,
            Err(HoldError::Refused(refused)) => {
                let fence = self.number(&refused.fence);
                let index = amounts.iter().position(|(other, _)| *other == fence).unwrap();
                let spot = self.model.spot(fence);
                assert!(refused.used <= self.model.settled(spot) + self.model.held(spot), "{refused:?}");
                Answer::Short(index)
            }
            Err(other) => panic!("{other}"),
        }
    }

    async fn hold(&mut self, id: u128, amounts: &[(usize, i64)]) {
        if self.holds.contains_key(&id) {
            return;
        }
        // Another request: of the last one with this number nothing is left.
        self.model.requests.remove(&id);
        let demand = demand(amounts);
        let amounts = self.amounts(amounts.iter().map(|(fence, _)| *fence), demand);
        let order = Order {
            request: Uuid::from_u128(rand::random()),
            about: Arc::new(About { team: "search".into(), ..About::default() }),
            first: Served { model: "m".into(), ..Served::default() },
            fences: self.chosen(&amounts),
            demand,
            on_store_loss: OnStoreLoss::Lease,
            revision: 1,
        };
        let held = self.kept.ledger.hold(order, self.now()).await;
        let held = held.map(|hold| drop(self.holds.insert(id, hold)));
        let answer = self.answer(held, &amounts);
        assert_eq!(answer, self.model.take(&self.fences, (id, true), &amounts, false, |_| true));
    }

    async fn top_up(&mut self, id: u128, amounts: &[(usize, i64)]) {
        let Some(mut hold) = self.holds.remove(&id) else { return };
        let before = hold.held();
        let wish = demand(amounts);
        let mine: Vec<usize> = hold.places().iter().map(|place| self.number(&place.fence)).collect();
        let new: Vec<usize> = amounts.iter().map(|(fence, _)| *fence).filter(|fence| !mine.contains(fence)).collect();
        let whole = Demand { money: wish.money.max(before.money), tokens: wish.tokens.max(before.tokens) };
        let wanted = self.amounts(mine.iter().chain(&new).copied(), whole);
        let covered = hold.cover(wish, &self.chosen(amounts), self.now()).await;
        let answer = self.answer(covered, &wanted);
        let expected = if whole == before && new.is_empty() {
            // Nothing is asked for.
            Answer::Held
        } else {
            self.model.take(&self.fences, (id, true), &wanted, true, |fence| fence < 2 || !mine.contains(&fence))
        };
        assert_eq!(answer, expected);
        self.holds.insert(id, hold);
    }

    fn settle(&mut self, id: u128, charged: i64) {
        let Some(mut hold) = self.holds.remove(&id) else { return };
        let Some(Request::Open { places, .. }) = self.model.requests.get(&id) else { panic!("{id} is not open") };
        let tokens = charged / 2;
        let amount = |fence: usize| [charged, charged, tokens, 1, 0][fence];
        let rows: BTreeMap<Spot, i64> = places.keys().map(|spot| (*spot, amount(spot.0))).collect();
        if charged == 0 {
            // A client that hangs up.
            drop(hold);
        } else {
            let input = tokens.cast_unsigned();
            hold.charge(Row { tokens: Tokens { input, ..Tokens::default() }, ..row(charged) });
            hold.settle();
        }
        self.model.settle(id, &rows);
    }

    /// `kill -9` and the next start: what was settled is there, what was under way is charged as it was held.
    fn kill(&mut self) {
        let Some(before) = &self.kept.folder else { return };
        // The files as they are; whatever the old process does after this moment is lost with it.
        let copy = folder();
        for file in std::fs::read_dir(before.path()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
        self.holds.clear();
        let (ledger, recovery) = Ledger::embedded(copy.path(), self.now()).unwrap();
        self.kept = Kept { ledger: Arc::new(ledger), folder: Some(copy) };
        assert_eq!(recovery.swept, self.model.sweep());
        assert_eq!((recovery.torn, recovery.damaged.len()), (0, 0));
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Hold { id, amounts, .. } => self.hold(*id, amounts).await,
            Step::TopUp { id, amounts } => self.top_up(*id, amounts).await,
            Step::Settle { id, charged } => self.settle(*id, *charged),
            Step::Sweep => self.kill(),
            // The calendar rolls all windows at once, and each begins empty.
            Step::Roll { .. } => {
                self.day += 1;
                for fence in 0..4 {
                    self.model.windows.insert(fence, self.day);
                }
            }
            // Nobody renews what ends with its process.
            Step::Renew { .. } => {}
        }
        self.compare();
    }

    /// What stands in the running windows.
    fn compare(&self) {
        for (number, fence) in self.fences.iter().enumerate() {
            let (spot, level) = (self.model.spot(number), self.kept.ledger.level(fence, self.now()));
            assert_eq!(
                (level.settled, level.held),
                (self.model.settled(spot), self.model.held(spot)),
                "fence {number}, day {}",
                self.day
            );
        }
    }

    /// What the journal says of every window that there was.
    fn booked(&self, folder: &Path) -> BTreeMap<Spot, i64> {
        let first: Timestamp = NOON.parse().unwrap();
        let first = first.as_second().div_euclid(86_400);
        let mut booked = BTreeMap::new();
        for reading in Reader::open(folder, Position::default()).unwrap() {
            let Reading::Entry(entry, _) = reading.unwrap() else { panic!("the journal is damaged") };
            let Entry::Settle(settled) = *entry else { continue };
            for place in settled.places.iter().filter(|place| place.amount != 0) {
                let fence = self.fences.iter().position(|fence| fence.id == place.fence).unwrap();
                *booked.entry((fence, place.from / 86_400 - first)).or_default() += place.amount;
            }
        }
        booked
    }
}

async fn play(kept: Kept, steps: &[Step]) {
    let mut world = World::new(kept);
    for step in steps {
        world.step(step).await;
    }
    world.kill();
    world.compare();
    if let Some(folder) = &world.kept.folder {
        world.model.settled.retain(|_, amount| *amount != 0);
        assert_eq!(world.booked(folder.path()), world.model.settled);
    }
}

fn play_all(kept: impl Fn() -> Kept) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    play_histories(|steps| runtime.block_on(play(kept(), steps)));
}

#[test]
fn random_histories_leave_the_ledger_in_memory_equal_to_the_model() {
    play_all(|| Kept { ledger: Arc::default(), folder: None });
}

#[test]
fn random_histories_with_kills_leave_the_embedded_ledger_equal_to_the_model() {
    play_all(|| {
        let folder = folder();
        let (ledger, _) = Ledger::embedded(folder.path(), NOON.parse().unwrap()).unwrap();
        Kept { ledger: Arc::new(ledger), folder: Some(folder) }
    });
}
