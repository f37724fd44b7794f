//! Secrets: `${VAR}` and `${file:/path}` inside a text, `$${` for a plain `${`.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use super::watch::Seen;

/// Finds a variable of the environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Stands for a secret that nobody needs: it may be an address, too.
const STAND_IN: &str = "http://a-secret-that-is-not-asked-for.invalid";
/// The largest secret that a file may hold, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// Where secrets come from, and which files were read for them.
pub struct Secrets<'a> {
    /// `None` = nothing is asked for: something stands for every secret but those of `gone`.
    env: Option<Environment<'a>>,
    gone: Vec<String>,
    /// Variables and `file:` paths that were asked for and not there.
    pub missing: Vec<String>,
    /// Files that a text named, for the watcher.
    pub files: Vec<Seen>,
    /// A backend that may do without its secret stays on without it: what policy tests show must not depend on the
    /// machine that they run on.
    pub lenient: bool,
}

/// Why a text could not be filled in. No secret is in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Unfilled {
    /// Where in the text.
    pub range: Range<usize>,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub hint: String,
    /// It is written well, but the secret is not there.
    pub missing: bool,
}

impl<'a> Secrets<'a> {
    /// Secrets of this environment and of the file system.
    pub fn new(env: Environment<'a>) -> Self {
        Self { env: Some(env), gone: Vec::new(), missing: Vec::new(), files: Vec::new(), lenient: false }
    }

    /// No secrets: something stands for each, save for those of `gone`. For policies that only decide.
    pub fn standing_in(gone: Vec<String>) -> Self {
        Self { env: None, gone, missing: Vec::new(), files: Vec::new(), lenient: false }
    }

    /// The text with every `${…}` replaced.
    pub fn fill(&mut self, text: &str) -> Result<String, Unfilled> {
        let mut filled = String::with_capacity(text.len());
        let mut at = 0;
        while let Some(found) = text[at..].find("${") {
            let open = at + found;
            if text[..open].ends_with('$') {
                // `$${` is a plain `${`: the first dollar is already written.
                filled.push_str(&text[at..open - 1]);
                filled.push_str("${");
                at = open + 2;
                continue;
            }
            filled.push_str(&text[at..open]);
            let Some(length) = text[open..].find('}') else {
                let (problem, hint) = ("`${` without its `}`", "write `${VAR}`, or `$${` for a plain `${`");
                return Err(unfilled(open..text.len(), problem, hint, false));
            };
            let range = open..open + length + 1;
            filled.push_str(&self.value(&text[open + 2..range.end - 1], range.clone())?);
            at = range.end;
        }
        filled.push_str(&text[at..]);
        Ok(filled)
    }

    fn value(&mut self, name: &str, range: Range<usize>) -> Result<String, Unfilled> {
        let found = self.look_up(name, range);
        if found.as_ref().is_err_and(|unfilled| unfilled.missing) {
            self.missing.push(name.to_owned());
        }
        found
    }

    fn look_up(&mut self, name: &str, range: Range<usize>) -> Result<String, Unfilled> {
        if self.env.is_none() && !self.gone.iter().any(|gone| gone == name) {
            return Ok(STAND_IN.to_owned());
        }
        if let Some(path) = name.strip_prefix("file:") {
            return self.file(path, range);
        }
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if name.is_empty() || !plain {
            let hint = "write `${VAR}` with letters, digits and `_`, or `${file:/path}`";
            return Err(unfilled(range, format!("`{name}` is not a variable"), hint, false));
        }
        let value = self.env.and_then(|env| env(name)).filter(|value| !value.is_empty());
        value.ok_or_else(|| {
            let hint = format!("set `{name}`, or write `if_missing_secret: off` in its backend");
            unfilled(range, format!("the variable `{name}` is not set"), hint, true)
        })
    }

    fn file(&mut self, path: &str, range: Range<usize>) -> Result<String, Unfilled> {
        let hint = "write the secret into that file, or `if_missing_secret: off` in its backend";
        if !self.files.iter().any(|seen| seen.path() == Path::new(path)) {
            self.files.push(Seen::now(PathBuf::from(path)));
        }
        let readable =
            self.env.is_some() && std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_FILE);
        let text = readable.then(|| std::fs::read_to_string(path).ok()).flatten();
        let Some(text) = text else {
            return Err(unfilled(range, format!("the secret file `{path}` cannot be read"), hint, true));
        };
        let secret = text.trim_end_matches(['\r', '\n']);
        if secret.is_empty() {
            return Err(unfilled(range, format!("the secret file `{path}` is empty"), hint, true));
        }
        Ok(secret.to_owned())
    }
}

fn unfilled(range: Range<usize>, problem: impl Into<String>, hint: impl Into<String>, missing: bool) -> Unfilled {
    Unfilled { range, problem: problem.into(), hint: hint.into(), missing }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str) -> Result<String, String> {
        let env = |name: &str| (name == "KEY").then(|| "sk-1".to_owned());
        Secrets::new(&env).fill(text).map_err(|unfilled| unfilled.problem)
    }

    #[test]
    fn variables_are_filled_in_and_escapes_are_not() {
        assert_eq!(fill("a ${KEY} b ${KEY}").as_deref(), Ok("a sk-1 b sk-1"));
        assert_eq!(fill("$${KEY} ${KEY}").as_deref(), Ok("${KEY} sk-1"));
        assert_eq!(fill("no dollar").as_deref(), Ok("no dollar"));
    }

    #[test]
    fn what_is_missing_or_misspelt_is_said_without_any_value() {
        assert_eq!(fill("${NONE}"), Err("the variable `NONE` is not set".into()));
        assert_eq!(fill("${KEY"), Err("`${` without its `}`".into()));
        assert_eq!(fill("${a b}"), Err("`a b` is not a variable".into()));
        assert_eq!(fill("${file:/nowhere/x}"), Err("the secret file `/nowhere/x` cannot be read".into()));
    }

    #[test]
    fn a_file_loses_its_last_line_break() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "sk-2\r\n").unwrap();
        assert_eq!(fill(&format!("${{file:{}}}", path.display())).as_deref(), Ok("sk-2"));
    }
}
