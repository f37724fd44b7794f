//! Layer 4: the second listener: health, metrics, API.
