//! Layer 3: holds, settlement and the store of client keys.
