//! The network layer against real sockets: the upstream pool, the listener, and TLS between them.
//!
//! Nothing here sleeps: a test waits for what the other side sees (a byte, the end of a stream, a body that is
//! dropped), and the short time limits in some are the thing under test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod listener;
mod pool;
mod pool_h2;
mod support;
