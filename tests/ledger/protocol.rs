//! The scripts one by one.

use std::{collections::HashMap, sync::Arc};

use jiff::{Timestamp, ToSpan, tz::TimeZone};
use redis::{AsyncCommands, aio::MultiplexedConnection};
use turnpike::{
    base::{
        fences::{Fence, Owner, Purpose, Unit},
        tenants::Period,
    },
    ledger::{
        balances::Place,
        redis::{
            protocol::{self, Before, Ended, How, Settlement, Swept, Taken, Taking},
            scripts::Wire,
        },
        row::PlaceRow,
        window::Window,
    },
};
use uuid::Uuid;

use crate::server::Server;

pub const TTL: u64 = 60_000;

/// A fence of a team, with a window of a day around now.
pub fn fence(name: &str, unit: Unit, cap: i64) -> Arc<Fence> {
    let owner = Owner::Team(name.into());
    Arc::new(Fence {
        id: Fence::id_of(&owner, unit.as_str()),
        owner,
        name: unit.as_str().into(),
        unit,
        purpose: if unit == Unit::Money { Purpose::Budget } else { Purpose::Limit },
        cap,
        raised: 0,
        per: (unit != Unit::Concurrent).then_some(Period::Day),
        zone: TimeZone::UTC,
        warn_ppm: Arc::default(),
    })
}

/// The window number `index` of a fence: all contain now, and each begins later.
pub fn window(fence: &Fence, now: Timestamp, index: i64) -> Window {
    if fence.unit == Unit::Concurrent {
        return Window::ALWAYS;
    }
    let start = Timestamp::from_second(now.as_second()).unwrap() - (1000 - index).seconds();
    Window { start, end: start + 5000.seconds() }
}

pub fn place(fence: &Arc<Fence>, window: Window, amount: i64) -> Place {
    Place { fence: Arc::clone(fence), window, amount }
}

/// One gateway, seen from the store.
pub struct Gateway {
    pub wire: Wire,
    pub epoch: String,
    pub node: &'static str,
}

impl Gateway {
    pub async fn new(server: &Server, node: &'static str) -> Self {
        server.tell("SET {tp:turnpike}:e e1").await;
        Self { wire: server.wire().await, epoch: "e1".to_owned(), node }
    }

    pub async fn take(&self, how: How, id: u128, ttl_ms: u64, places: &[Place]) -> Taken {
        let binds = |fence: &Fence| how == How::Hold || fence.purpose == Purpose::Budget;
        let id = Uuid::from_u128(id);
        let taking = Taking { how, id, ttl_ms, node: self.node, about: "about", revision: 1 };
        let cmd = protocol::take(&self.wire, &self.epoch, &taking, places, binds);
        protocol::taken(self.wire.send(&cmd).await.unwrap()).unwrap()
    }

    pub async fn hold(&self, id: u128, places: &[Place]) -> Taken {
        self.take(How::Hold, id, TTL, places).await
    }

    pub async fn settle(&self, id: u128, places: &[PlaceRow]) -> Before {
        match self.ship(None, &[(0, id, places)]).await {
            Ended::Done(states) => states[0],
            other => panic!("{other:?}"),
        }
    }

    /// Settles a batch that follows a position of the journal.
    pub async fn ship(&self, after: Option<u64>, batch: &[(u64, u128, &[PlaceRow])]) -> Ended {
        let settlements = batch.iter().map(|(position, id, places)| Settlement {
            position: *position,
            id: Uuid::from_u128(*id),
            row: "row".to_owned(),
            places,
            moved: Vec::new(),
        });
        let batch: Vec<Settlement<'_>> = settlements.collect();
        let cmd = protocol::settle(&self.wire, &self.epoch, self.node, after, &batch);
        protocol::ended(self.wire.send(&cmd).await.unwrap()).unwrap()
    }

    pub async fn sweep(&self) -> Vec<Swept> {
        let cmd = protocol::sweep(&self.wire, &self.epoch, 100);
        protocol::swept(self.wire.send(&cmd).await.unwrap()).unwrap().unwrap()
    }

    pub async fn renew(&self, ids: &[u128]) {
        let ids: Vec<Uuid> = ids.iter().map(|id| Uuid::from_u128(*id)).collect();
        self.wire.send(&protocol::renew(&self.wire, &self.epoch, TTL, &ids)).await.unwrap();
    }
}

/// Settled and held in a place, as the store has it.
pub async fn stands(look: &mut MultiplexedConnection, epoch: &str, fence: &Fence, window: &Window) -> (i64, i64) {
    let key = format!("{{tp:turnpike}}:{epoch}:b:{}:{}", fence.id, window.start.as_second());
    let fields: HashMap<String, String> = look.hgetall(key).await.unwrap();
    let number = |name: &str| fields.get(name).map_or(0, |text| text.parse().unwrap());
    (number("s"), number("r"))
}

#[tokio::test]
async fn a_hold_takes_all_its_places_or_none_and_a_replay_changes_nothing() {
    let server = Server::start(&[]).await;
    let (gateway, mut look) = (Gateway::new(&server, "a").await, server.look().await);
    let now = Timestamp::now();
    let (day, parent) = (fence("search", Unit::Money, 10), fence("product", Unit::Money, 7));
    let at_once = fence("search", Unit::Concurrent, 2);
    let places = |amount: i64| {
        [
            place(&day, window(&day, now, 0), amount),
            place(&parent, window(&parent, now, 0), amount),
            place(&at_once, Window::ALWAYS, 1),
        ]
    };
    assert!(matches!(gateway.hold(1, &places(4)).await, Taken::Held(stands) if stands[0].held == 4));
    assert!(matches!(gateway.hold(1, &places(4)).await, Taken::Held(stands) if stands[1].held == 4));
    assert_eq!(gateway.hold(2, &places(4)).await, Taken::Short { index: 1, used: 4, cap: 7 });
    assert_eq!(stands(&mut look, "e1", &day, &window(&day, now, 0)).await, (0, 4));
    assert!(matches!(gateway.hold(3, &places(3)).await, Taken::Held(_)));
    let charged: Vec<PlaceRow> = places(4).iter().map(|place| place.row(2)).collect();
    assert_eq!(gateway.settle(1, &charged).await, Before::Open);
    assert_eq!(gateway.settle(1, &charged).await, Before::Settled);
    assert_eq!(gateway.hold(1, &places(4)).await, Taken::Ended);
    assert_eq!(stands(&mut look, "e1", &day, &window(&day, now, 0)).await, (2, 3));
    assert_eq!(stands(&mut look, "e1", &at_once, &Window::ALWAYS).await, (0, 1));
    let charged: Vec<PlaceRow> = places(3).iter().map(|place| place.row(3)).collect();
    gateway.settle(3, &charged).await;
    let gauge: bool = look.exists("{tp:turnpike}:e1:b:team/search/concurrent:0").await.unwrap();
    assert!(!gauge, "a gauge that nobody holds leaves nothing behind");
    let ttl: i64 = look.ttl(format!("{{tp:turnpike}}:e1:b:{}:{}", day.id, charged[0].from)).await.unwrap();
    assert!((4000 + 170_000..4000 + 180_000).contains(&ttl), "35 lengths of the window after its end: {ttl}");
}

#[tokio::test]
async fn the_highest_revision_of_a_cap_binds_everybody() {
    let server = Server::start(&[]).await;
    let gateway = Gateway::new(&server, "a").await;
    let now = Timestamp::now();
    let (wide, tight) = (fence("search", Unit::Money, 100), fence("search", Unit::Money, 5));
    let window = window(&wide, now, 0);
    let take = async |fence: &Arc<Fence>, id: u128, revision: u64| {
        let id = Uuid::from_u128(id);
        let taking = Taking { how: How::Hold, id, ttl_ms: TTL, node: "a", about: "", revision };
        let cmd = protocol::take(&gateway.wire, "e1", &taking, &[place(fence, window, 4)], |_| true);
        protocol::taken(gateway.wire.send(&cmd).await.unwrap()).unwrap()
    };
    assert!(matches!(take(&wide, 1, 7).await, Taken::Held(_)));
    assert!(matches!(take(&tight, 2, 6).await, Taken::Held(stands) if stands[0].cap == 100));
    assert_eq!(take(&tight, 3, 8).await, Taken::Short { index: 0, used: 8, cap: 5 });
    assert_eq!(take(&wide, 4, 7).await, Taken::Short { index: 0, used: 8, cap: 5 });
}

#[tokio::test]
async fn a_window_that_is_not_the_running_one_is_answered_with_the_servers_clock() {
    let server = Server::start(&[]).await;
    let gateway = Gateway::new(&server, "a").await;
    let now = Timestamp::now();
    let day = fence("search", Unit::Money, 100);
    let past = Window { start: now - 20.seconds(), end: now - 10.seconds() };
    let answer = gateway.hold(1, &[place(&day, past, 1)]).await;
    assert!(matches!(answer, Taken::Window { index: 0, running: None, now_ms } if now_ms >= now.as_millisecond()));
    let first = window(&day, now, 0);
    assert!(matches!(gateway.hold(1, &[place(&day, first, 1)]).await, Taken::Held(_)));
    // An edited period takes effect when the running window ends, or when the books' sum is brought.
    let edited = window(&day, now, 5);
    let answer = gateway.hold(2, &[place(&day, edited, 1)]).await;
    assert!(matches!(answer, Taken::Window { running: Some(running), .. } if running == first));
    gateway.wire.send(&protocol::adopt(&gateway.wire, "e1", &day, &edited, 42)).await.unwrap();
    let answer = gateway.hold(2, &[place(&day, edited, 1)]).await;
    assert!(matches!(answer, Taken::Held(stands) if (stands[0].settled, stands[0].held) == (42, 1)));
}

#[tokio::test]
async fn a_swept_hold_is_charged_and_a_late_settlement_corrects_it() {
    let server = Server::start(&[]).await;
    let (gateway, mut look) = (Gateway::new(&server, "a").await, server.look().await);
    let now = Timestamp::now();
    let (day, at_once) = (fence("search", Unit::Money, 100), fence("search", Unit::Concurrent, 9));
    let window = window(&day, now, 0);
    let places = [place(&day, window, 50), place(&at_once, Window::ALWAYS, 1)];
    gateway.take(How::Hold, 1, 0, &places).await;
    gateway.take(How::Hold, 2, 0, &places[1..]).await;
    gateway.renew(&[2]).await;
    let swept = gateway.sweep().await;
    assert_eq!((swept.len(), &*swept[0].node, &*swept[0].about), (1, "a", "about"));
    assert!(swept[0].places.contains(&places[0].row(50)) && swept[0].places.contains(&places[1].row(0)));
    assert_eq!(stands(&mut look, "e1", &day, &window).await, (50, 0));
    assert_eq!(stands(&mut look, "e1", &at_once, &Window::ALWAYS).await, (0, 1));
    assert!(gateway.sweep().await.is_empty());
    assert_eq!(gateway.take(How::More, 1, TTL, &places).await, Taken::Ended);
    assert_eq!(gateway.settle(1, &[places[0].row(20), places[1].row(0)]).await, Before::Swept);
    assert_eq!(stands(&mut look, "e1", &day, &window).await, (20, 0));
    // An id that the store has never heard of is charged, and remembered.
    assert_eq!(gateway.settle(9, &[places[0].row(5)]).await, Before::Unknown);
    assert_eq!(gateway.settle(9, &[places[0].row(5)]).await, Before::Settled);
    assert_eq!(gateway.hold(9, &places[..1]).await, Taken::Ended);
    assert_eq!(stands(&mut look, "e1", &day, &window).await, (25, 0));
    let rows: i64 = look.xlen_rows().await;
    assert_eq!(rows, 3, "one entry for the sweep, one for each settlement");
}

trait Rows {
    async fn xlen_rows(&mut self) -> i64;
}

impl Rows for MultiplexedConnection {
    async fn xlen_rows(&mut self) -> i64 {
        redis::cmd("XLEN").arg("{tp:turnpike}:rows").query_async(self).await.unwrap()
    }
}

#[tokio::test]
async fn the_position_in_a_journal_keeps_a_settlement_from_being_charged_twice_however_late() {
    let server = Server::start(&[]).await;
    let (gateway, mut look) = (Gateway::new(&server, "a").await, server.look().await);
    let day = fence("search", Unit::Money, 100);
    let window = window(&day, Timestamp::now(), 0);
    let row = |amount: i64| [place(&day, window, 0).row(amount)];
    let both: [(u64, u128, &[PlaceRow]); 2] = [(10, 1, &row(5)), (20, 2, &row(6))];
    assert_eq!(gateway.ship(Some(0), &both).await, Ended::Done(vec![Before::Unknown; 2]));
    // The ids are forgotten, as after a quarter of an hour.
    let forgotten: i64 = look.del("{tp:turnpike}:e1:r:00000000-0000-0000-0000-000000000001").await.unwrap();
    assert_eq!(forgotten, 1);
    assert_eq!(gateway.ship(Some(0), &both).await, Ended::Done(vec![Before::Settled; 2]));
    assert_eq!(stands(&mut look, "e1", &day, &window).await, (11, 0));
    // A store that went back in time takes nothing that would leave a gap.
    let next: [(u64, u128, &[PlaceRow]); 1] = [(40, 4, &row(1))];
    assert_eq!(gateway.ship(Some(30), &next).await, Ended::Behind(20));
    assert_eq!(gateway.ship(Some(20), &next).await, Ended::Done(vec![Before::Unknown]));
    assert_eq!(stands(&mut look, "e1", &day, &window).await, (12, 0));
}

#[tokio::test]
async fn a_script_that_the_server_forgot_is_loaded_again_and_another_epoch_takes_nothing() {
    let server = Server::start(&[]).await;
    let gateway = Gateway::new(&server, "a").await;
    let day = fence("search", Unit::Money, 100);
    let places = [place(&day, window(&day, Timestamp::now(), 0), 1)];
    server.tell("SCRIPT FLUSH").await;
    assert!(matches!(gateway.hold(1, &places).await, Taken::Held(_)));
    server.tell("FLUSHALL").await;
    assert_eq!(gateway.hold(2, &places).await, Taken::Epoch(String::new()));
    assert_eq!(gateway.ship(None, &[(0, 1, &[places[0].row(1)])]).await, Ended::Epoch(String::new()));
    server.tell("SET {tp:turnpike}:e e2").await;
    assert_eq!(gateway.hold(2, &places).await, Taken::Epoch("e2".to_owned()));
}

#[tokio::test]
async fn amounts_near_the_largest_budget_stay_exact() {
    let server = Server::start(&[]).await;
    let (gateway, mut look) = (Gateway::new(&server, "a").await, server.look().await);
    let day = fence("search", Unit::Money, (1 << 53) - 1);
    let window = window(&day, Timestamp::now(), 0);
    let most = (1 << 53) - 2;
    assert!(matches!(gateway.hold(1, &[place(&day, window, most)]).await, Taken::Held(s) if s[0].held == most));
    assert!(matches!(gateway.hold(2, &[place(&day, window, 2)]).await, Taken::Short { used, .. } if used == most));
    assert!(matches!(gateway.hold(2, &[place(&day, window, 1)]).await, Taken::Held(_)));
    gateway.settle(1, &[place(&day, window, 0).row(most)]).await;
    assert_eq!(stands(&mut look, "e1", &day, &window).await, (most, 1));
}
