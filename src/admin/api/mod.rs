//! Bodies of the admin API.

mod keys;

pub use keys::{CreateKey, KeyActLine, KeyDetail, KeyLine, KeyList, NewSecret, RevokeKey, RotateKey};
