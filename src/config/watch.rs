//! Watching: tells when the policies or a secret have changed.
//!
//! The folder is watched, not its files: editors and Kubernetes put a new file, or a new link, in the place of the old
//! one. Whatever the system tells is only a reason to look; what counts is whether the contents differ. Every half
//! minute they are looked at anyway, since network file systems tell nothing.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::{sync::mpsc, time};

use super::files;

/// How long the files must have been quiet: an editor writes in several steps.
const QUIET: Duration = Duration::from_millis(200);
/// The longest that a stream of writes may put a reload off.
const PATIENCE: u32 = 25;
/// How often the contents are looked at without any word from the system.
const POLL: Duration = Duration::from_secs(30);

/// A folder or file as it was at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    path: PathBuf,
    /// Differs when any name or content does.
    state: u64,
}

impl Seen {
    /// It as it is now. A load takes it before it reads, so that a change in between is told of.
    pub fn now(path: PathBuf) -> Self {
        let state = fingerprint(&path);
        Self { path, state }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Watches folders of policies and files of secrets.
pub struct Watcher {
    sources: Vec<Seen>,
    /// A hint that something happened; one that waits is as good as many.
    hints: mpsc::Receiver<()>,
    /// Ends the watching when it goes.
    system: RecommendedWatcher,
    /// Sources are new: they may have changed before the system was asked to watch them.
    unsure: bool,
}

impl Watcher {
    /// Watches `sources`, folders or files; what has changed since they were seen is told of too.
    ///
    /// # Errors
    /// Whatever the system says when it cannot watch at all.
    pub fn new(sources: Vec<Seen>) -> Result<Self, notify::Error> {
        let (tell, hints) = mpsc::channel(1);
        let system = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the files is an event too, and no reason to read them again.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                let _ = tell.try_send(());
            }
        })?;
        let mut watcher = Self { sources: Vec::new(), hints, system, unsure: true };
        watcher.follow(sources);
        Ok(watcher)
    }

    /// Watches other sources from now on: policies that were taken over may name other files of secrets.
    pub fn follow(&mut self, sources: Vec<Seen>) {
        for source in sources.iter().filter(|source| !self.sources.iter().any(|other| other.path == source.path)) {
            // What cannot be watched is polled.
            let _ = self.system.watch(folder_of(&source.path), RecursiveMode::NonRecursive);
        }
        self.sources = sources;
        self.unsure = true;
    }

    /// Watches more sources: those of policies at fault, which a secret that is written late may mend.
    pub fn follow_too(&mut self, more: Vec<Seen>) {
        let mut sources = self.sources.clone();
        sources.retain(|source| !more.iter().any(|other| other.path == source.path));
        sources.extend(more);
        self.follow(sources);
    }

    /// Waits for a change of contents; false when the watching has ended.
    pub async fn changed(&mut self) -> bool {
        loop {
            if !std::mem::take(&mut self.unsure) {
                match time::timeout(POLL, self.hints.recv()).await {
                    Ok(None) => return false,
                    Ok(Some(())) => self.settle().await,
                    Err(_) => {}
                }
            }
            let paths: Vec<PathBuf> = self.sources.iter().map(|source| source.path.clone()).collect();
            let look = move || paths.into_iter().map(Seen::now).collect::<Vec<_>>();
            let Ok(now) = tokio::task::spawn_blocking(look).await else { return false };
            if now != self.sources {
                self.sources = now;
                return true;
            }
        }
    }

    /// Waits until nothing has happened for a while.
    async fn settle(&mut self) {
        for _ in 0..PATIENCE {
            if !matches!(time::timeout(QUIET, self.hints.recv()).await, Ok(Some(()))) {
                return;
            }
        }
    }
}

/// The folder to watch for a source: itself, or the one that holds the file.
fn folder_of(source: &Path) -> &Path {
    let folder = if source.is_dir() { source } else { source.parent().unwrap_or(Path::new(".")) };
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// A number that differs when any name or content does.
fn fingerprint(source: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    let paths = if source.is_dir() { files::list(source).unwrap_or_default() } else { vec![source.to_owned()] };
    for path in paths {
        path.hash(&mut hasher);
        // A pipe would never end.
        path.is_file().then(|| std::fs::read(&path).ok()).flatten().hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change is told within this time, or the test hangs on; nothing is asserted of the time itself.
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_changed_file_is_told_of_and_an_equal_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        std::fs::write(&file, "a").unwrap();
        let mut watcher = Watcher::new(vec![Seen::now(folder.path().to_owned())]).unwrap();
        let first = watcher.sources.clone();
        std::fs::write(&file, "a").unwrap();
        assert_eq!(Seen::now(folder.path().to_owned()), first[0]);
        std::fs::write(&file, "b").unwrap();
        assert!(time::timeout(LONG, watcher.changed()).await.unwrap());
        assert_ne!(watcher.sources, first);
    }

    #[tokio::test]
    async fn what_changes_between_the_load_and_the_watching_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let (file, secret) = (folder.path().join("a.yaml"), folder.path().join("secret"));
        std::fs::write(&file, "teams: {}").unwrap();
        let load = || {
            let server = super::super::ServerConfig { policies: folder.path().to_owned(), ..Default::default() };
            super::super::load_policies(&server, &|_| None)
        };
        let loaded = load().unwrap();
        let text = format!("backends: {{o: {{provider: openai, api_key: \"${{file:{}}}\"}}}}", secret.display());
        std::fs::write(&file, text).unwrap();
        let mut watcher = Watcher::new(loaded.sources).unwrap();
        assert!(time::timeout(LONG, watcher.changed()).await.unwrap());
        // The file of the secret that policies at fault name is followed, whenever it comes.
        let Err(faults) = load() else { panic!("loaded without its secret") };
        std::fs::write(&secret, "sk-1").unwrap();
        watcher.follow_too(faults.sources);
        assert!(time::timeout(LONG, watcher.changed()).await.unwrap());
        let loaded = load().unwrap();
        std::fs::write(&secret, "sk-2").unwrap();
        watcher.follow(loaded.sources);
        assert!(time::timeout(LONG, watcher.changed()).await.unwrap());
    }

    #[tokio::test]
    async fn a_folder_behind_a_swapped_link_is_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("..1"), folder.path().join("..2"));
        for (version, text) in [(&old, "a"), (&new, "b")] {
            std::fs::create_dir(version).unwrap();
            std::fs::write(version.join("a.yaml"), text).unwrap();
        }
        let data = folder.path().join("..data");
        std::os::unix::fs::symlink(&old, &data).unwrap();
        std::os::unix::fs::symlink(data.join("a.yaml"), folder.path().join("a.yaml")).unwrap();
        let mut watcher = Watcher::new(vec![Seen::now(folder.path().to_owned())]).unwrap();
        let next = folder.path().join("..data_next");
        std::os::unix::fs::symlink(&new, &next).unwrap();
        std::fs::rename(&next, &data).unwrap();
        assert!(time::timeout(LONG, watcher.changed()).await.unwrap());
    }

    #[test]
    fn hidden_files_and_other_endings_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let empty = fingerprint(folder.path());
        for name in [".a.yaml", "a.yaml~", "notes.txt"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        assert_eq!(fingerprint(folder.path()), empty);
        std::fs::write(folder.path().join("a.yml"), "x").unwrap();
        assert_ne!(fingerprint(folder.path()), empty);
    }
}
