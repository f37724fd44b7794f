//! Layer 3: logs, metrics, and the record of a request.
