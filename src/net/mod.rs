//! Layer 3: listener, TLS, upstream pools.
