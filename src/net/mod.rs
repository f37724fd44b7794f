//! Layer 3: listener, TLS, upstream pools.
//!
//! Everything that touches a socket on the request's path, and nothing that knows what a model is. [`pool`] carries
//! requests to upstreams, [`dns`] finds them, [`listener`] takes them from clients, [`tls`] is the trust of both, [`body`] what crosses
//! the border to `proxy`. Tasks are spawned in two places: one per connection of the pool, one per connection of the
//! listener (HTTP/2 in hyper adds its own, one per stream).

pub mod body;
mod dial;
pub mod dns;
pub mod listener;
pub mod pool;
pub mod postgres;
pub mod tls;
mod wire;
