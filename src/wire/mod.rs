//! Layer 1, pure: chat requests and answers as bytes.
//!
//! A body is read once, by reference, for its facts; what changes on the way is spliced between slices of the
//! original, so that everything else reaches the upstream byte for byte.

pub mod answer;
pub mod category;
mod json;
pub mod request;
pub mod sse;
pub mod tokens;
