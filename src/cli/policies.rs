//! The policies, for commands that only read them: secrets that are not set here are no fault, nothing is asked of a
//! vendor.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::config::{self, Loaded};

/// Stands for a variable that is not set here: no register needs what it holds.
const UNSET: &str = "http://a-variable-that-is-not-set.invalid";

/// A variable of the environment, or something in its place.
pub(super) fn environment(name: &str) -> Option<String> {
    Some(std::env::var(name).unwrap_or_else(|_| UNSET.to_owned()))
}

/// The configuration that a command means: the file or folder named, else `turnpike.yaml`, else the folder `policies`.
pub(super) fn place(named: Option<&Path>) -> Option<PathBuf> {
    let (file, folder) = (Path::new("turnpike.yaml"), Path::new("policies"));
    let usual = || if file.exists() { Some(file) } else { folder.is_dir().then_some(folder) };
    named.or_else(usual).map(Path::to_owned)
}

/// The configuration as of `now`; `None` where none is named and none is here.
///
/// # Errors
/// The text of all faults.
pub(super) fn load(named: Option<&Path>, now: Timestamp) -> anyhow::Result<Option<Loaded>> {
    let Some(path) = place(named) else { return Ok(None) };
    match config::load_at(&path, &environment, now) {
        Ok(loaded) => Ok(Some(loaded)),
        Err(faults) => anyhow::bail!("the configuration is at fault\n{faults}"),
    }
}

/// The configuration that a command was given: where its usual file is not there and a folder `policies` is, that one.
pub(super) fn or_folder(named: &Path) -> PathBuf {
    let missing = named == Path::new("turnpike.yaml") && !named.exists();
    missing.then(|| place(None)).flatten().unwrap_or_else(|| named.to_owned())
}
