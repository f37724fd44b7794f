//! Hard weather: the real binary among upstreams, clients and networks that fail in every way known to us.
//!
//! Each row of the fault table in ARCHITECTURE.md is a test here or in `tests/gateway`. After each, the books are what
//! the upstreams tallied. Loads are bounded and chosen by printed seeds; no test asserts a time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::float_arithmetic,
    reason = "a test fails by panicking, and compares what is measured as floats"
)]

mod attempts;
mod bombs;
mod everything;
mod gone;
#[path = "../gateway/harness/mod.rs"]
mod harness;
mod hedges;
mod http2;
mod network;
mod oddities;
mod raw;
mod restart;
mod rolling;
mod sky;
mod slow;
mod smuggling;
mod storms;
mod stumbles;
#[path = "../upstream/mod.rs"]
mod upstream;
