//! Redis as the store: several gateways count against the same fences.
//!
//! A request takes its hold in one round trip, as one atomic script; its settlement goes to the journal first and
//! from there, off the request's path and in order, to the store.

pub mod connect;
pub mod protocol;
pub mod scripts;
