//! Records: what is written can be read back whatever happened to the file, every decision can be made again from it bit
//! for bit, and what a replay says equals an independent count.
//!
//! The traffic is that of the demo's own policies before simulated vendors with spells of failure, decided by the real
//! code on a virtual clock. `TURNPIKE_RECORDS=100000` sets how many requests a test takes (3,000 unless set).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::float_arithmetic,
    reason = "a test fails by panicking, and compares what is measured as floats"
)]

mod again;
mod count;
mod faults;
mod fences;
mod files;
mod page;
mod recount;
mod traffic;
