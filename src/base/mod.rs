//! Layer 0: the nouns of the gateway, pure data with the arithmetic that belongs to it.

pub mod catalog;
pub mod facts;
pub mod failure;
pub mod fences;
pub mod hex;
pub mod json;
pub mod money;
pub mod names;
pub mod notices;
pub mod price;
pub mod priority;
pub mod records;
pub mod rent;
pub mod scores;
pub mod store;
pub mod tenants;
pub mod tier;
pub mod usage;
