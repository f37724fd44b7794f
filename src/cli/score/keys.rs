//! The fields that a suite may have: a slip of the pen is told of, with what may have been meant, and never passed over.

use anyhow::bail;
use serde_json::{Map, Value};

use crate::config;

/// Whether all fields are among the known ones.
///
/// # Errors
/// The first that is not, with close names.
pub fn known(fields: &Map<String, Value>, known: &[&str]) -> anyhow::Result<()> {
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => bail!("unknown field `{key}`\nhint: {}", config::close_names(key, known.iter().copied(), "")),
        None => Ok(()),
    }
}
