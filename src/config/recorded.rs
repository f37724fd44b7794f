//! The policies that records were made under, kept beside them by hash, so that a decision can be made again.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use jiff::{Timestamp, civil};
use serde_json::{Map, Value, json};

use super::{Faults, Loaded, Places, catalog, diagnostic::Report, lower_texts, secrets::Secrets, server::ServerConfig};

/// The folder in that of the records.
const FOLDER: &str = "policies";
/// How many are kept; those that were in force the longest ago go first.
const KEPT: usize = 256;

/// Keeps the policies of `loaded` for records in `records`. They are their owner's alone: texts may hold secrets.
///
/// # Errors
/// The system's error when the folder cannot be written.
pub fn keep_recorded(records: &Path, loaded: &Loaded) -> io::Result<()> {
    let folder = records.join(FOLDER);
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let texts: Map<String, Value> =
        loaded.texts.iter().map(|(path, text)| (path.display().to_string(), Value::from(text.as_str()))).collect();
    let kept = json!({
        "hash": loaded.policies.hash.as_ref(),
        "catalog": loaded.server.catalog.map(|date| date.to_string()),
        "built_in": catalog::digest(),
        "missing": loaded.missing,
        "texts": texts,
    });
    let path = path(&folder, &loaded.policies.hash);
    let next = path.with_extension("next");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
    file.write_all(kept.to_string().as_bytes())?;
    fs::rename(next, path)?;
    prune(&folder)
}

fn path(folder: &Path, hash: &str) -> PathBuf {
    folder.join(format!("{hash}.json"))
}

/// A file that is written anew counts as new.
fn prune(folder: &Path) -> io::Result<()> {
    let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        files.push((entry.metadata()?.modified()?, entry.path()));
    }
    files.sort();
    let beyond = files.len().saturating_sub(KEPT);
    files.into_iter().take(beyond).try_for_each(|(_, path)| fs::remove_file(path))
}

/// Why recorded policies are not in force again.
#[derive(Debug, thiserror::Error)]
pub enum RecordedError {
    /// They are not there.
    #[error("the policies `{0}` are not kept beside the records")]
    Gone(String),
    /// They were read with another catalog than this binary's.
    #[error("the policies `{0}` were read with another built-in catalog\nhint: use the version that recorded them")]
    Catalog(String),
    /// They cannot be read.
    #[error("the policies `{0}` cannot be read: {1}")]
    Unreadable(String, String),
}

/// The policies of that hash that are kept beside the records in `records`. Secrets are not asked for: something stands
/// for each that was there.
///
/// # Errors
/// [`RecordedError`].
pub fn recorded(records: &Path, hash: &str) -> Result<Loaded, RecordedError> {
    let gone = || RecordedError::Gone(hash.to_owned());
    let unreadable = |why: &str| RecordedError::Unreadable(hash.to_owned(), why.to_owned());
    if hash.is_empty() || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(gone());
    }
    let kept = fs::read(path(&records.join(FOLDER), hash)).map_err(|_| gone())?;
    let kept: Value = serde_json::from_slice(&kept).map_err(|error| unreadable(&error.to_string()))?;
    let texts = kept["texts"].as_object().into_iter().flatten();
    let texts = texts.map(|(path, text)| (PathBuf::from(path), text.as_str().unwrap_or_default().to_owned()));
    let missing = kept["missing"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
    let pin = match kept["catalog"].as_str() {
        Some(date) => Some(date.parse::<civil::Date>().map_err(|error| unreadable(&error.to_string()))?),
        None => None,
    };
    if pin.is_none() && kept["built_in"].as_str() != Some(catalog::digest()) {
        return Err(RecordedError::Catalog(hash.to_owned()));
    }
    let server = ServerConfig { catalog: pin, ..ServerConfig::default() };
    let mut secrets = Secrets::standing_in(missing.collect());
    let loaded =
        lower_texts(Report::default(), &mut secrets, server, Places::default(), texts.collect(), Timestamp::now());
    let loaded = loaded.map_err(|faults| unreadable(&faults.to_string()))?;
    if loaded.policies.hash.as_ref() == hash { Ok(loaded) } else { Err(unreadable("they have another hash")) }
}

/// The policies at `path` (a `turnpike.yaml` or a folder of policies) to be tried out: no secret is asked for. Where the
/// path says nothing of it, catalog rows that begin after `catalog` are not used.
///
/// # Errors
/// All faults of all files.
pub fn load_to_try(path: &Path, catalog: Option<civil::Date>) -> Result<Loaded, Faults> {
    super::load_with(path, Secrets::standing_in(Vec::new()), Timestamp::now(), catalog)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "backends:\n  one: {provider: openai, api_key: \"${KEY}\"}\n  two: {provider: deepseek, api_key: \
                        \"${OTHER}\", if_missing_secret: off}\nmodels: {m: {backends: {one: a, two: b}}}\n";

    fn loaded() -> Loaded {
        let env = |name: &str| (name == "KEY").then(|| "sk-1".to_owned());
        super::super::from_texts(&[("a.yaml".into(), TEXT.to_owned())], &env, Timestamp::now()).unwrap()
    }

    #[test]
    fn policies_come_back_without_their_secrets_and_with_what_was_off() {
        let folder = tempfile::tempdir().unwrap();
        let before = loaded();
        assert_eq!(before.missing, ["OTHER"]);
        keep_recorded(folder.path(), &before).unwrap();
        let again = recorded(folder.path(), &before.policies.hash).unwrap();
        assert_eq!(again.policies.hash, before.policies.hash);
        let off = |loaded: &Loaded| loaded.policies.backends.values().map(|it| it.off.clone()).collect::<Vec<_>>();
        assert_eq!(off(&again), off(&before));
        assert!(off(&again)[1].is_some());
        for hash in ["", "../../etc", "0123456789ab"] {
            assert!(matches!(recorded(folder.path(), hash), Err(RecordedError::Gone(_))), "{hash}");
        }
    }

    #[test]
    fn the_oldest_go_when_too_many_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let policies = folder.path().join(FOLDER);
        fs::create_dir_all(&policies).unwrap();
        for number in 0..KEPT + 3 {
            fs::write(policies.join(format!("{number:012x}.json")), "{}").unwrap();
        }
        let before = loaded();
        keep_recorded(folder.path(), &before).unwrap();
        assert_eq!(fs::read_dir(&policies).unwrap().count(), KEPT);
        assert!(recorded(folder.path(), &before.policies.hash).is_ok());
    }
}
