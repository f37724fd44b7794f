//! What another gateway's configuration is in Turnpike's words: texts of policy files, and a note on everything that
//! was not carried over.
//!
//! A secret that stands in the clear is not copied: the policies name a variable of the environment in its place.

mod backends;
mod budgets;
mod cost;
mod deployments;
mod litellm;
mod people;
pub mod prices;
mod settings;
mod unread;
mod write;

use std::path::PathBuf;

use super::{
    Diagnostic, Faults,
    diagnostic::{Report, Span},
    tree::{self, Node},
};

pub use litellm::litellm;
use unread::Unread;

/// A text that was read, with the path that it is shown under.
pub type Text = (PathBuf, String);

/// What an import gives.
#[derive(Debug)]
pub struct Imported {
    /// The policies, as one file.
    pub policies: String,
    /// What was not carried over, or not quite, by file and line.
    pub notes: Vec<Diagnostic>,
    /// How many backends, models, routes, prices, teams and keys there are.
    pub counts: [(&'static str, usize); 6],
}

/// What an importer works with.
struct Work {
    report: Report,
    /// The texts in the order of their numbers, for lines.
    texts: Vec<Text>,
    /// Keys that are of no account.
    unread: Unread,
}

impl Work {
    fn new() -> Self {
        Self { report: Report::default(), texts: Vec::new(), unread: Unread::default() }
    }

    /// Reads one file as YAML, of which JSON is a part.
    fn read(&mut self, text: Text) -> Option<Node> {
        let (file, source) = self.report.add(text.0.clone(), text.1.clone());
        self.texts.push(text);
        tree::parse(&mut self.report, file, &source.text).ok().flatten()
    }

    /// `config.yaml:12`, for comments.
    fn place(&self, span: Span) -> String {
        let (file, start) = span.begins();
        let Some((path, text)) = self.texts.get(file) else { return String::new() };
        let line = 1 + text.get(..start).unwrap_or(text).matches('\n').count();
        let name =
            path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
        format!("{name}:{line}")
    }

    /// Notes that something was not carried over.
    fn lost(&mut self, span: Span, title: impl Into<String>, hint: impl Into<String>) {
        self.report.warning(span, title).label("not carried over").hint(hint);
    }

    /// Notes that something is not quite what it was.
    fn changed(&mut self, span: Span, title: impl Into<String>, label: &str, hint: impl Into<String>) {
        self.report.warning(span, title).label(label).hint(hint);
    }

    /// The notes, or all faults.
    fn finish(mut self) -> Result<Vec<Diagnostic>, Faults> {
        for (span, keys) in std::mem::take(&mut self.unread).finish() {
            let title = format!("passed over: {keys}");
            self.changed(span, title, "of no account here", "they are of LiteLLM's own process, or off, or empty");
        }
        self.report.finish()
    }
}

/// A name as Turnpike takes it: no blanks, no control characters, no `@`, at most 128 bytes.
fn name(text: &str) -> String {
    let plain =
        |letter: char| if letter.is_whitespace() || letter.is_control() || letter == '@' { '-' } else { letter };
    let mut name = String::new();
    for letter in text.trim().chars().map(plain) {
        if name.len() + letter.len_utf8() > 128 {
            break;
        }
        name.push(letter);
    }
    let name = name.trim_start_matches('.').to_owned();
    if name.is_empty() { "unnamed".to_owned() } else { name }
}

/// `name`, or with a number behind it where `taken` says so.
fn unique(name: &str, taken: impl Fn(&str) -> bool) -> String {
    if !taken(name) {
        return name.to_owned();
    }
    let numbered = (2_u32..).map(|number| format!("{name}-{number}"));
    numbered.into_iter().find(|candidate| !taken(candidate)).unwrap_or_else(|| name.to_owned())
}
