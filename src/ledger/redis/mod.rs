//! Redis as the store: several gateways count against the same fences.
//!
//! A request takes its hold in one round trip, as one atomic script, or in none from a slice that its node leased. Its
//! settlement goes to the journal first and from there, off the request's path and in order, to the store. `store` is
//! what requests call, `link` the breaker between them and the connection, `keeper` the one task that connects, ships
//! and looks after everything, `rebuild` what it does when the store has no data. `board` carries what operators do from
//! one gateway to the others, `hints` what gateways have learned of upstreams and
//! seen of arms.

mod arrive;
mod audit;
pub mod board;
pub mod connect;
mod desk;
mod edits;
mod exchange;
mod hints;
mod keeper;
pub mod lease;
mod levels;
pub mod link;
pub(in crate::ledger) mod mirror;
mod outgoing;
mod presence;
pub mod protocol;
mod rebuild;
mod rents;
pub mod scripts;
pub mod source;
mod store;
mod upkeep;
mod watch;
mod words;

pub use audit::{Count, Release, SILENT, Silent};
pub use board::{Item, Keeping, Unkept};
pub use desk::Terms;
pub use hints::{Hinting, Texts, Topic};
pub use source::{Source, Sums};
pub use store::Store;
pub use upkeep::Peer;
