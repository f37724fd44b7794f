//! A hold: what one request has set aside, its attempts as they are charged, and the one settlement that ends it.

use std::{future::Future, pin::Pin, sync::Arc};

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Ledger,
    balances::Place,
    row::{About, HoldRow, Row, Served, SettleRow, TopUpRow},
    window::Window,
};
use crate::base::{
    fences::{Fence, Purpose, Unit},
    money::Money,
    tenants::OnStoreLoss,
};

/// What a hold is asked for.
#[derive(Clone, Debug)]
pub struct Order {
    /// The request.
    pub request: Uuid,
    /// Who asks for what.
    pub about: Arc<About>,
    /// The candidate that is tried first.
    pub first: Served,
    /// Everything that surrounds the request and its first attempt.
    pub fences: Vec<Arc<Fence>>,
    /// An upper bound on what is used until the next top-up.
    pub demand: Demand,
    /// What happens while the store is away.
    pub on_store_loss: OnStoreLoss,
    /// The revision of the policies that the fences come from, above 0: of two caps of one fence the one of the higher
    /// revision counts. Revisions of several gateways are compared, so they are instants, in milliseconds since 1970.
    pub revision: u64,
}

/// What a request may use, or has used: the request itself and its place among those under way go without saying.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Money.
    pub money: Money,
    /// Prompt and completion tokens.
    pub tokens: u64,
}

impl Demand {
    /// The amount in a fence's unit.
    pub fn amount(self, unit: Unit) -> i64 {
        match unit {
            Unit::Money => self.money.nanousd(),
            Unit::Tokens => i64::try_from(self.tokens).unwrap_or(i64::MAX),
            Unit::Requests | Unit::Concurrent => 1,
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { money: self.money + other.money, tokens: self.tokens.saturating_add(other.tokens) }
    }

    /// What one attempt used.
    pub fn of(row: &Row) -> Self {
        Self { money: row.charge(), tokens: row.tokens.input.saturating_add(row.tokens.output) }
    }
}

/// Why there is no hold.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HoldError {
    /// A fence has too little left.
    #[error("{}", .0.fence.label())]
    Refused(Box<Refused>),
    /// The store cannot be asked, and the team does not spend without it.
    #[error("the budget store is away")]
    Away,
    /// The journal cannot be written: what is not booked is not spent.
    #[error("the journal cannot be written: {0}")]
    Journal(Arc<std::io::Error>),
}

/// A fence that has too little left for a hold.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Which.
    pub fence: Arc<Fence>,
    /// Settled, and held by others, in its unit.
    pub used: i64,
    /// What would have been held.
    pub wanted: i64,
    /// When the next window begins; `None` for what is counted while it is under way.
    pub renews_at: Option<Timestamp>,
}

impl Refused {
    /// What is left of the fence.
    pub fn left(&self) -> i64 {
        self.fence.cap.saturating_sub(self.used).max(0)
    }
}

/// What a top-up has set aside.
#[derive(Debug)]
pub struct Raised {
    places: Vec<Place>,
    held: Demand,
}

/// A top-up on its way to the store and back.
pub type TopUp = Pin<Box<dyn Future<Output = Result<Raised, HoldError>> + Send>>;

/// The end of a hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// What was charged.
    pub charged: Money,
    /// Of this, beyond the hold: booked in full all the same.
    pub beyond: Money,
    /// What the tightest budget of money has left; `None` without one.
    pub left: Option<Money>,
}

/// An amount set aside in every fence around a request. It ends in one settlement: by [`Hold::settle`], or by being
/// dropped, which settles what had been charged.
#[derive(Debug)]
#[must_use = "a hold that is dropped is settled at once"]
pub struct Hold {
    ledger: Arc<Ledger>,
    request: Uuid,
    at: Timestamp,
    places: Vec<Place>,
    held: Demand,
    rows: Vec<Row>,
    charged: Demand,
    open: bool,
}

impl Hold {
    pub(super) fn new(ledger: Arc<Ledger>, order: &Order, places: Vec<Place>, at: Timestamp) -> Self {
        Self {
            ledger,
            request: order.request,
            at,
            places,
            held: order.demand,
            rows: Vec::new(),
            charged: Demand::default(),
            open: true,
        }
    }

    /// What has been charged so far.
    pub fn charged(&self) -> Money {
        self.charged.money
    }

    /// What is set aside.
    pub fn held(&self) -> Demand {
        self.held
    }

    /// The places of the hold: where what stands.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Books one attempt.
    pub fn charge(&mut self, row: Row) {
        self.charged = self.charged.plus(Demand::of(&row));
        self.rows.push(row);
    }

    /// Makes sure that `demand` beyond what is charged already is set aside, in the hold's fences and in `more`: the
    /// ones around the attempt that is to come.
    ///
    /// # Errors
    /// [`HoldError`]; the hold stays as it was.
    pub async fn cover(&mut self, demand: Demand, more: &[Arc<Fence>], now: Timestamp) -> Result<(), HoldError> {
        if let Some(top_up) = self.top_up(demand, more, now) {
            let raised = top_up.await?;
            self.raise(raised);
        }
        Ok(())
    }

    /// The same in two steps, for whoever has other things to do meanwhile: what has to be asked of the store, to be
    /// handed to [`Hold::raise`] when it has come; `None` when all of it is set aside already. One that is dropped under
    /// way has either taken nothing, or is known to the store under the request and ends with its settlement.
    pub fn top_up(&self, demand: Demand, more: &[Arc<Fence>], now: Timestamp) -> Option<TopUp> {
        let whole = self.charged.plus(demand);
        let inside = |fence: &Arc<Fence>| self.places.iter().any(|place| place.fence.id == fence.id);
        let new: Vec<Arc<Fence>> = more.iter().filter(|fence| !inside(fence)).cloned().collect();
        let grows = whole.money > self.held.money || whole.tokens > self.held.tokens;
        if !grows && new.is_empty() {
            return None;
        }
        let held = Demand { money: whole.money.max(self.held.money), tokens: whole.tokens.max(self.held.tokens) };
        let fences: Vec<Arc<Fence>> = self.places.iter().map(|place| Arc::clone(&place.fence)).chain(new).collect();
        let (ledger, request, mine) = (Arc::clone(&self.ledger), self.request, self.places.clone());
        Some(Box::pin(async move {
            let places = ledger.top_up(request, &mine, fences, held, now).await?;
            Ok(Raised { places, held })
        }))
    }

    /// Takes over what a top-up has set aside.
    pub fn raise(&mut self, raised: Raised) {
        self.places = raised.places;
        self.held = raised.held;
    }

    /// Whether a budget of money or tokens binds it.
    pub fn is_budgeted(&self) -> bool {
        let amount = |unit| matches!(unit, Unit::Money | Unit::Tokens);
        self.places.iter().any(|place| place.fence.purpose == Purpose::Budget && amount(place.fence.unit))
    }

    /// Ends the hold: what was charged is booked, the rest is free again.
    pub fn settle(mut self) -> Settled {
        self.close()
    }

    fn close(&mut self) -> Settled {
        self.open = false;
        let charged = self.charged.money;
        let beyond = if self.places.iter().any(|place| place.fence.unit == Unit::Money) {
            (charged - self.held.money).max(Money::ZERO)
        } else {
            Money::ZERO
        };
        let rows = std::mem::take(&mut self.rows);
        let left = self.ledger.settle(self.request, self.at, &self.places, rows);
        Settled { charged, beyond, left }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.open {
            self.close();
        }
    }
}

/// The places that `demand` takes in `fences`, each in its window.
pub(super) fn places(fences: Vec<Arc<Fence>>, demand: Demand, windows: Vec<Window>) -> Vec<Place> {
    let place = |(fence, window): (Arc<Fence>, Window)| Place { window, amount: demand.amount(fence.unit), fence };
    fences.into_iter().zip(windows).map(place).collect()
}

/// What `rows` charge in one place: what was served inside its fence.
pub(super) fn charged_at(fence: &Fence, rows: &[Row]) -> i64 {
    let mut served = rows.iter().filter(|row| {
        let Served { model, backend, provider, .. } = &row.served;
        fence.owner.surrounds(model, backend, provider)
    });
    match fence.unit {
        // A request that came to nothing was made all the same.
        Unit::Requests if !fence.owner.of_attempts() => 1,
        Unit::Requests => i64::from(served.next().is_some()),
        Unit::Concurrent => 0,
        unit @ (Unit::Money | Unit::Tokens) => {
            served.fold(0, |sum: i64, row| sum.saturating_add(Demand::of(row).amount(unit)))
        }
    }
}

/// The entry of the journal that begins a hold.
pub(super) fn hold_row(order: &Order, places: &[Place], at: Timestamp, until: Timestamp) -> HoldRow {
    HoldRow {
        id: order.request,
        at_ms: at.as_millisecond(),
        until_ms: until.as_millisecond(),
        about: Arc::clone(&order.about),
        first: order.first.clone(),
        held_nanousd: order.demand.money.nanousd(),
        places: places.iter().map(|place| place.row(place.amount)).collect(),
    }
}

/// The entry of the journal that tops a hold up.
pub(super) fn top_up_row(id: Uuid, held: Demand, places: &[Place]) -> TopUpRow {
    let places = places.iter().map(|place| place.row(place.amount)).collect();
    TopUpRow { id, held_nanousd: held.money.nanousd(), places }
}

/// The entry of the journal that ends a hold.
pub(super) fn settle_row(id: Uuid, held_at: Timestamp, at: Timestamp, places: &[Place], rows: Vec<Row>) -> SettleRow {
    let places = places.iter().map(|place| place.row(charged_at(&place.fence, &rows))).collect();
    SettleRow { id, held_at_ms: held_at.as_millisecond(), at_ms: at.as_millisecond(), places, rows, swept: false }
}

/// Which fences bind a request that is under way already: its pace was checked when it began.
pub(super) fn binds_midway(fence: &Fence, mine: &[Place]) -> bool {
    // What the request has not been inside yet binds it as it would one that begins.
    fence.purpose == Purpose::Budget || !mine.iter().any(|place| place.fence.id == fence.id)
}
