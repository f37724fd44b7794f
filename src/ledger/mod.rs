//! Layer 3: holds, settlement and the store of client keys.
//!
//! A request takes one [`Hold`] before it is dispatched and ends it in exactly one settlement, whatever happens: a
//! hold that is dropped settles what had been charged to it. Budgets live in memory in this version; a restart
//! begins every window anew, and `ARCHITECTURE.md` says so.

pub mod keys;
mod memory;
pub mod row;
mod window;

pub use memory::{BudgetState, Hold, Ledger, Refused, Settled};
