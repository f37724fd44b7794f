//! Layer 3: logs, metrics, and the record of a request.

pub mod log;
pub mod metrics;
pub mod record;
