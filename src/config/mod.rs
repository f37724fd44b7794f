//! Layer 3: the only reader of files: load, lower, diagnose, watch.
