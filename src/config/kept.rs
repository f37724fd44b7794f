//! The last good policies, kept in the journal's folder, so that a restart with a bad file still serves.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Environment, Faults, Loaded, Places, Secrets, diagnostic::Report, files, load, lower_texts, read_server};

/// The file's name in the journal's folder.
const FILE: &str = "policies.last-good.json";

/// Keeps the texts of policies that were taken over. The file is its owner's alone: texts may hold secrets.
///
/// # Errors
/// The system's error when the folder cannot be written; the file that was there stays whole.
pub fn keep(journal: &Path, texts: &[(PathBuf, String)]) -> io::Result<()> {
    fs::create_dir_all(journal)?;
    let texts: Map<String, Value> =
        texts.iter().map(|(path, text)| (path.display().to_string(), Value::from(text.as_str()))).collect();
    let next = journal.join(format!("{FILE}.next"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
    file.write_all(Value::from(texts).to_string().as_bytes())?;
    file.sync_all()?;
    fs::rename(next, journal.join(FILE))
}

/// [`load`], and where the policies are at fault, the last good ones with the faults of the new.
///
/// # Errors
/// All faults, when `turnpike.yaml` itself is at fault or nothing good was kept.
pub fn load_or_kept(path: &Path, env: Environment<'_>) -> Result<(Loaded, Option<Faults>), Faults> {
    match load(path, env) {
        Ok(loaded) => Ok((loaded, None)),
        Err(faults) => match kept(path, env) {
            Some(mut loaded) => {
                // What the new policies name may mend them; what the old ones name is in force.
                loaded.sources.retain(|seen| !faults.sources.iter().any(|other| other.path() == seen.path()));
                loaded.sources.splice(..0, faults.sources.iter().cloned());
                Ok((loaded, Some(faults)))
            }
            None => Err(faults),
        },
    }
}

fn kept(path: &Path, env: Environment<'_>) -> Option<Loaded> {
    let (mut report, mut secrets) = (Report::default(), Secrets::new(env));
    let text = files::read(path).ok()?;
    let (server, _) = read_server(&mut report, &mut secrets, path.to_owned(), text);
    report.finish().ok()?;
    let kept = fs::read(server.journal.join(FILE)).ok()?;
    let Value::Object(kept) = serde_json::from_slice(&kept).ok()? else { return None };
    let texts: Option<Vec<(PathBuf, String)>> =
        kept.into_iter().map(|(path, text)| Some((PathBuf::from(path), text.as_str()?.to_owned()))).collect();
    let mut loaded =
        lower_texts(Report::default(), &mut secrets, server, Places::default(), texts?, Timestamp::now()).ok()?;
    loaded.sources = secrets.files;
    Some(loaded)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "routes: {}\nteams: {search: {}}\n";

    fn none(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn a_restart_with_a_bad_file_serves_the_last_good_policies() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("turnpike.yaml");
        let policy = folder.path().join("policies/a.yaml");
        fs::create_dir(folder.path().join("policies")).unwrap();
        fs::write(&main, "").unwrap();
        fs::write(&policy, GOOD).unwrap();
        let (good, faults) = load_or_kept(&main, &none).unwrap();
        assert!(faults.is_none());
        keep(&good.server.journal, &good.texts).unwrap();
        let wanting = "backends: {o: {provider: openai, api_key: \"${file:/nowhere/key}\"}}";
        for (text, watched) in [("teams: [", vec![]), (wanting, vec![Path::new("/nowhere/key")])] {
            fs::write(&policy, text).unwrap();
            let (again, faults) = load_or_kept(&main, &none).unwrap();
            assert!(faults.is_some());
            assert_eq!(again.policies.hash, good.policies.hash);
            let paths: Vec<&Path> = again.sources.iter().map(|seen| seen.path()).collect();
            assert_eq!(paths[0], good.sources[0].path());
            assert_eq!(paths[1..], watched);
        }
    }

    #[test]
    fn without_anything_kept_or_with_a_bad_main_file_all_faults_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("turnpike.yaml");
        fs::create_dir(folder.path().join("policies")).unwrap();
        fs::write(folder.path().join("policies/a.yaml"), "teams: [").unwrap();
        fs::write(&main, "").unwrap();
        assert!(load_or_kept(&main, &none).is_err());
        keep(&folder.path().join("data"), &[(PathBuf::from("a.yaml"), GOOD.to_owned())]).unwrap();
        assert!(load_or_kept(&main, &none).is_ok());
        fs::write(&main, "listen: nowhere").unwrap();
        assert!(load_or_kept(&main, &none).is_err());
    }
}
