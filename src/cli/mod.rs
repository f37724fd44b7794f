//! Layer 4: one file a command.
