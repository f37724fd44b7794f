//! Files: which ones are read, and how large they may be.

use std::path::{Path, PathBuf};

use super::diagnostic::{Report, Span};

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 8 << 20;
/// The most files that a folder of policies may hold.
const MAX_FILES: usize = 1000;

/// The text of a file, or what is wrong with it.
pub fn read(path: &Path) -> Result<String, String> {
    let name = path.display();
    let meta = std::fs::metadata(path).map_err(|error| format!("cannot read `{name}`: {}", said(&error)))?;
    if !meta.is_file() {
        return Err(format!("`{name}` is no file"));
    }
    if meta.len() > MAX_FILE {
        return Err(format!("`{name}` has more than {} MiB", MAX_FILE >> 20));
    }
    let bytes = std::fs::read(path).map_err(|error| format!("cannot read `{name}`: {}", said(&error)))?;
    String::from_utf8(bytes).map_err(|_| format!("`{name}` is not UTF-8"))
}

/// All `*.yaml` and `*.yml` of the folder by name: no subfolders, and no names with a dot before them (Kubernetes
/// mounts a folder `..data` beside links into it).
pub fn policies(report: &mut Report, folder: &Path, place: Option<Span>) -> Vec<(PathBuf, String)> {
    let paths = match list(folder) {
        Ok(paths) => paths,
        Err(problem) => {
            let hint = "make the folder, or name another with `policies:` in turnpike.yaml";
            report.fault_at(place, problem).label("this folder").hint(hint);
            return Vec::new();
        }
    };
    let mut texts = Vec::new();
    for path in paths {
        match read(&path) {
            Ok(text) => texts.push((path, text)),
            Err(problem) => {
                report.fault_at(None, problem).hint("mend the file, or take it out of the folder");
            }
        }
    }
    texts
}

/// The policy files of a folder, sorted.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let name = folder.display();
    let entries = std::fs::read_dir(folder).map_err(|error| format!("cannot read `{name}`: {}", said(&error)))?;
    let mut paths: Vec<PathBuf> =
        entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| fits(path)).collect();
    paths.sort();
    if paths.len() > MAX_FILES {
        return Err(format!("more than {MAX_FILES} files in `{name}`"));
    }
    Ok(paths)
}

/// The first such file of each of its subfolders: nobody reads those. Sorted.
pub fn below(folder: &Path) -> Vec<PathBuf> {
    let hidden = |path: &Path| path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).take(MAX_FILES);
    let folders = entries.map(|entry| entry.path()).filter(|path| path.is_dir() && !hidden(path));
    let mut found: Vec<PathBuf> = folders.filter_map(|path| list(&path).ok()?.into_iter().next()).collect();
    found.sort();
    found
}

fn fits(path: &Path) -> bool {
    let hidden = path.file_name().and_then(|name| name.to_str()).is_none_or(|name| name.starts_with('.'));
    let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    yaml && !hidden && path.is_file()
}

/// The system's words in the style of the house, without its number.
fn said(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "it is not there".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied".into(),
        other => other.to_string(),
    }
}
