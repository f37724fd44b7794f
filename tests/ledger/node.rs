//! A gateway's ledger on a shared store, and what it says of itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tempfile::TempDir;
use turnpike::{
    base::{
        fences::{Fence, Unit},
        money::Money,
        store::RedisConfig,
        tenants::OnStoreLoss,
    },
    ledger::{
        BooksError, Demand, Hold, HoldError, Ledger, Order,
        journal::{Position, Reader, Reading},
        row::{About, Entry, Row, Served, Tokens},
        window::Window,
    },
};
use uuid::Uuid;

use crate::server::Server;

/// A ledger with its folder.
pub struct Node {
    pub ledger: Arc<Ledger>,
    pub folder: TempDir,
    /// Of the policies that its requests are admitted under.
    pub revision: AtomicU64,
}

impl Node {
    pub async fn start(config: RedisConfig) -> Self {
        Self::over(tempfile::tempdir().unwrap(), config).await
    }

    /// A node over a folder that another has used.
    pub async fn over(folder: TempDir, config: RedisConfig) -> Self {
        for _ in 0..500 {
            match Ledger::redis(folder.path(), config.clone(), Timestamp::now()) {
                Ok((ledger, _)) => return Self { ledger: Arc::new(ledger), folder, revision: AtomicU64::new(1) },
                // The task of the last owner ends with the next turn of the runtime.
                Err(BooksError::InUse(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(error) => panic!("{error}"),
            }
        }
        panic!("the folder stays in use");
    }

    /// A node that is connected.
    pub async fn up(config: RedisConfig) -> Self {
        let node = Self::start(config).await;
        node.wait_up().await;
        node
    }

    /// Starts it again over the same folder, after an orderly end. Nobody may hold anything.
    pub async fn again(self, config: RedisConfig) -> Self {
        let Self { ledger: before, folder, .. } = self;
        before.store().unwrap().close(Duration::from_secs(20)).await;
        drop(before);
        Self::over(folder, config).await
    }

    pub async fn wait_up(&self) {
        let what = "the store does not come up";
        until(what, || self.ledger.store().unwrap().is_up()).await;
    }

    pub async fn wait_down(&self) {
        until("the store does not go down", || !self.ledger.store().unwrap().is_up()).await;
    }

    /// Waits until all that was settled is in the store.
    pub async fn caught_up(&self) {
        until("settlements do not get into the store", || {
            let store = self.ledger.store().unwrap();
            store.is_up() && store.is_caught_up()
        })
        .await;
    }

    pub async fn hold(&self, fences: &[&Arc<Fence>], amount: i64) -> Result<Hold, HoldError> {
        self.hold_as(fences, amount, OnStoreLoss::Lease).await
    }

    pub async fn hold_as(&self, fences: &[&Arc<Fence>], amount: i64, loss: OnStoreLoss) -> Result<Hold, HoldError> {
        let order = Order {
            request: Uuid::from_u128(rand::random()),
            about: Arc::new(About { team: "search".into(), ..About::default() }),
            first: Served { model: "m".into(), ..Served::default() },
            fences: fences.iter().map(|fence| Arc::clone(fence)).collect(),
            demand: Demand { money: Money::from_nanousd(amount), tokens: 10 },
            on_store_loss: loss,
            revision: self.revision.load(Ordering::Relaxed),
        };
        self.ledger.hold(order, Timestamp::now()).await
    }

    /// Holds `amount` and spends `charged` of it, if it may.
    pub async fn spend(&self, fences: &[&Arc<Fence>], amount: i64, charged: i64) -> Result<(), HoldError> {
        self.hold(fences, amount).await.map(|hold| settle(hold, charged))
    }

    /// What the journal says was charged against `fence`.
    pub fn booked(&self, fence: &Fence) -> i64 {
        let window = Window::of(fence, Timestamp::now());
        let mut sum = 0;
        for reading in Reader::open(self.folder.path(), Position::default()).unwrap() {
            if let Reading::Entry(entry, _) = reading.unwrap()
                && let Entry::Settle(row) = *entry
            {
                let here = row.places.iter().filter(|place| place.fence == fence.id && place.window() == window);
                sum += here.map(|place| place.amount).sum::<i64>();
            }
        }
        sum
    }
}

/// Ends `hold` with one attempt that costs `charged`.
pub fn settle(mut hold: Hold, charged: i64) {
    hold.charge(row(charged));
    hold.settle();
}

pub fn row(charged: i64) -> Row {
    Row {
        request: Uuid::nil(),
        attempt: 1,
        revision: 0,
        hedge: false,
        at_ms: 0,
        about: Arc::default(),
        served: Served::default(),
        outcome: "ok".into(),
        tokens: Tokens { input: 3, output: 2, ..Tokens::default() },
        price: None,
        native_nano: 0,
        charge_nanousd: charged,
        held_nanousd: 0,
        estimated: false,
        swept: false,
    }
}

/// Waits for something that happens by itself.
pub async fn until(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}");
}

/// Settled, held and leased against `fence` in its window, as the store has it.
pub async fn there(server: &Server, fence: &Fence) -> (i64, i64, i64) {
    let mut look = server.look().await;
    let epoch: Option<String> = redis::cmd("GET").arg("{tp:turnpike}:e").query_async(&mut look).await.unwrap();
    let window = if fence.unit == Unit::Concurrent { Window::ALWAYS } else { Window::of(fence, Timestamp::now()) };
    let key = format!("{{tp:turnpike}}:{}:b:{}:{}", epoch.unwrap(), fence.id, window.start.as_second());
    let mut get = redis::cmd("HMGET");
    let fields: Vec<Option<i64>> = get.arg(key).arg("s").arg("r").arg("l").query_async(&mut look).await.unwrap();
    (fields[0].unwrap_or(0), fields[1].unwrap_or(0), fields[2].unwrap_or(0))
}

/// The sums are equal: what the nodes have booked is what the store has, and nothing is held any more.
pub async fn balanced(server: &Server, fence: &Fence, nodes: &[&Node]) -> i64 {
    for node in nodes {
        node.caught_up().await;
    }
    let booked: i64 = nodes.iter().map(|node| node.booked(fence)).sum();
    let (settled, held, _) = there(server, fence).await;
    assert_eq!((settled, held), (booked, 0), "store and books");
    booked
}
