//! Turnpike: one endpoint for every language model.
//!
//! A request's life: the listener hands it to `proxy`, which checks the key, reads the facts, asks `policy::decide`,
//! takes a hold from `ledger`, tries candidates through `net`, relays the answer, and settles what it cost.
//! `ARCHITECTURE.md` has the map and the rules that `tests/tidy.rs` holds.

pub mod admin;
pub mod base;
pub mod cli;
pub mod config;
pub mod ledger;
pub mod net;
pub mod policy;
pub mod provider;
pub mod proxy;
pub mod telemetry;
pub mod wire;
