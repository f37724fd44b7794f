//! Diagnostics: what is wrong, where it stands, and what to write instead; and the report that gathers them all.

use std::{fmt, ops::Range, path::PathBuf, sync::Arc};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::watch::Seen;

/// A text that was read, with the path that it is shown under.
#[derive(Debug)]
pub struct Source {
    /// The path as the operator knows it.
    pub path: PathBuf,
    /// The whole text.
    pub text: String,
}

/// A stretch of bytes in one of a report's sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    file: u32,
    start: u32,
    end: u32,
}

impl Span {
    /// Bytes `range` of source number `file`; a source is far smaller than 4 GiB.
    pub fn new(file: u32, range: Range<usize>) -> Self {
        let narrow = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Self { file, start: narrow(range.start), end: narrow(range.end) }
    }

    /// The stretch `range` within this one, for a fault inside a scalar. Ends at this stretch's end.
    #[must_use]
    pub fn within(self, range: Range<usize>) -> Self {
        let at = |offset: usize| self.start.saturating_add(u32::try_from(offset).unwrap_or(u32::MAX)).min(self.end);
        Self { file: self.file, start: at(range.start), end: at(range.end) }
    }

    /// Whether both stand in the same source.
    pub fn same_file(self, other: Self) -> bool {
        self.file == other.file
    }

    /// The number of its source, and the byte at which it begins.
    pub fn begins(self) -> (usize, usize) {
        (self.file as usize, self.start as usize)
    }

    /// How many bytes it covers.
    pub fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// Whether it covers nothing.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// From this one's start to the other's end, within one source.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self { end: other.end.max(self.start), ..self }
    }
}

/// Whether a diagnostic stops the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It does.
    Fault,
    /// It is only shown.
    Warning,
}

/// One thing that is wrong or doubtful.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// Whether it stops the load.
    pub severity: Severity,
    /// One line: what is wrong.
    pub title: String,
    /// What to write instead.
    pub hint: Option<String>,
    /// What was found, where a line does not do: a table of candidates.
    pub note: Option<String>,
    /// Where; the first mark is the place itself. Empty for what stands in no file.
    marks: Vec<Mark>,
}

#[derive(Clone, Debug)]
struct Mark {
    source: Arc<Source>,
    range: Range<usize>,
    label: String,
}

impl Mark {
    /// Line and column in characters, both from 1.
    fn position(&self) -> (usize, usize) {
        let before = self.source.text.get(..self.range.start).unwrap_or(&self.source.text);
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        (line, column)
    }
}

impl Diagnostic {
    /// A diagnostic about no place in a file.
    pub fn nowhere(severity: Severity, title: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { severity, title: title.into(), hint: Some(hint.into()), note: None, marks: Vec::new() }
    }

    /// Path, line and column (in characters, from 1) of the place, if it is about one.
    pub fn place(&self) -> Option<(&std::path::Path, usize, usize)> {
        let mark = self.marks.first()?;
        let (line, column) = mark.position();
        Some((&mark.source.path, line, column))
    }

    /// One line for a log: place and title.
    pub fn summary(&self) -> String {
        match self.place() {
            Some((path, line, column)) => format!("{}:{line}:{column}: {}", path.display(), self.title),
            None => self.title.clone(),
        }
    }

    /// The whole text: title, place, source lines, labels, hint.
    pub fn render(&self, colour: bool) -> String {
        let level = match self.severity {
            Severity::Fault => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(self.title.as_str()));
        let paths: Vec<String> = self.marks.iter().map(|mark| mark.source.path.display().to_string()).collect();
        let mut shown = vec![false; self.marks.len()];
        for first in 0..self.marks.len() {
            if shown[first] {
                continue;
            }
            let source = &self.marks[first].source;
            let mut snippet = Snippet::source(source.text.as_str()).path(paths[first].as_str());
            for (index, mark) in self.marks.iter().enumerate().skip(first) {
                if Arc::ptr_eq(&mark.source, source) {
                    shown[index] = true;
                    let kind = if index == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
                    let annotation = kind.span(mark.range.clone());
                    let label = (!mark.label.is_empty()).then_some(mark.label.as_str());
                    snippet = snippet.annotation(annotation.label(label));
                }
            }
            group = group.element(snippet);
        }
        if let Some(note) = &self.note {
            group = group.element(Level::NOTE.message(note.as_str()));
        }
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.with_name("hint").message(hint.as_str()));
        }
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group]).to_string()
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// More faults than this are counted, not shown: nobody reads them, and a log has to take them.
const MOST_SHOWN: usize = 100;

/// Everything that is wrong.
#[derive(Debug, Default)]
pub struct Faults {
    /// In the order of files and lines. Never empty.
    pub list: Vec<Diagnostic>,
    /// What to watch for a mending: the policies' folder and the files of secrets that were named.
    pub sources: Vec<Seen>,
}

impl Faults {
    /// The text of the first hundred, an empty line behind each, and how many there are in all.
    pub fn render(&self, colour: bool) -> String {
        let shown = self.list.iter().take(MOST_SHOWN);
        let mut text: String = shown.map(|fault| fault.render(colour) + "\n\n").collect();
        text.push_str(&match self.list.len() {
            1 => "1 fault\n".to_owned(),
            several if several <= MOST_SHOWN => format!("{several} faults\n"),
            several => format!("{several} faults, of which the first {MOST_SHOWN} are shown\n"),
        });
        text
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Faults {}

/// Gathers sources and what is wrong with them, so that one run tells all.
#[derive(Debug, Default)]
pub struct Report {
    sources: Vec<Arc<Source>>,
    diagnostics: Vec<Diagnostic>,
    hidden: Vec<Span>,
}

impl Report {
    /// Adds a text; spans name it by the returned number.
    pub fn add(&mut self, path: PathBuf, text: String) -> (u32, Arc<Source>) {
        let number = u32::try_from(self.sources.len()).unwrap_or(u32::MAX);
        let source = Arc::new(Source { path, text });
        self.sources.push(Arc::clone(&source));
        (number, source)
    }

    /// Notes a fault at `span`.
    pub fn fault(&mut self, span: Span, title: impl Into<String>) -> Writing<'_> {
        self.note(Severity::Fault, Some(span), title.into())
    }

    /// Notes a fault at a place that is known only where a file states it.
    pub fn fault_at(&mut self, span: Option<Span>, title: impl Into<String>) -> Writing<'_> {
        self.note(Severity::Fault, span, title.into())
    }

    /// Notes a warning at a place that is known only where a file states it.
    pub fn warning_at(&mut self, span: Option<Span>, title: impl Into<String>) -> Writing<'_> {
        self.note(Severity::Warning, span, title.into())
    }

    /// Notes a warning at `span`.
    pub fn warning(&mut self, span: Span, title: impl Into<String>) -> Writing<'_> {
        self.note(Severity::Warning, Some(span), title.into())
    }

    /// Shows asterisks for what stands there: a secret belongs in no log.
    pub fn hide(&mut self, span: Span) {
        self.hidden.push(span);
    }

    /// Whether anything is at fault.
    pub fn has_faults(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Fault)
    }

    /// The faults, where the load has to end with what was found so far.
    pub fn into_faults(self) -> Faults {
        self.finish().err().unwrap_or_default()
    }

    /// Puts texts with asterisks in the place of those that hold a secret.
    fn mask(&mut self) {
        for (number, source) in self.sources.iter().enumerate() {
            let mut shown = source.text.clone().into_bytes();
            let here = self.hidden.iter().filter(|span| span.file as usize == number);
            for span in here {
                let range = on_characters(&source.text, span.start as usize..span.end as usize);
                shown[range].iter_mut().filter(|byte| !byte.is_ascii_whitespace()).for_each(|byte| *byte = b'*');
            }
            if shown == source.text.as_bytes() {
                continue;
            }
            let text = String::from_utf8_lossy(&shown).into_owned();
            let masked = Arc::new(Source { path: source.path.clone(), text });
            for mark in self.diagnostics.iter_mut().flat_map(|diagnostic| &mut diagnostic.marks) {
                if Arc::ptr_eq(&mark.source, source) {
                    mark.source = Arc::clone(&masked);
                }
            }
        }
    }

    fn note(&mut self, severity: Severity, span: Option<Span>, title: String) -> Writing<'_> {
        let marks = span.and_then(|span| self.mark(span, String::new())).into_iter().collect();
        self.diagnostics.push(Diagnostic { severity, title, hint: None, note: None, marks });
        Writing { report: self }
    }

    fn mark(&self, span: Span, label: String) -> Option<Mark> {
        let source = Arc::clone(self.sources.get(span.file as usize)?);
        let range = on_characters(&source.text, span.start as usize..span.end as usize);
        Some(Mark { source, range, label })
    }

    /// The faults, or else the warnings; both by file and line, warnings of a faulty load left out.
    pub fn finish(mut self) -> Result<Vec<Diagnostic>, Faults> {
        self.mask();
        // What stands nowhere often follows from what stands somewhere.
        let order = |diagnostic: &Diagnostic| {
            let first = diagnostic.marks.first();
            let place = first.map(|mark| (mark.source.path.clone(), mark.range.start, mark.range.end));
            (place.is_none(), place)
        };
        self.diagnostics.sort_by_cached_key(order);
        let (faults, warnings): (Vec<_>, Vec<_>) =
            self.diagnostics.into_iter().partition(|diagnostic| diagnostic.severity == Severity::Fault);
        if faults.is_empty() { Ok(warnings) } else { Err(Faults { list: faults, sources: Vec::new() }) }
    }
}

/// The diagnostic that was noted last, for the rest of its words.
pub struct Writing<'a> {
    report: &'a mut Report,
}

impl Writing<'_> {
    /// The words beside the place.
    pub fn label(self, label: impl Into<String>) -> Self {
        if let Some(mark) = self.report.diagnostics.last_mut().and_then(|diagnostic| diagnostic.marks.first_mut()) {
            mark.label = label.into();
        }
        self
    }

    /// What to write instead.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        if let Some(diagnostic) = self.report.diagnostics.last_mut() {
            diagnostic.hint = Some(hint.into());
        }
        self
    }

    /// What was found, in several lines.
    pub fn note(self, note: impl Into<String>) -> Self {
        if let Some(diagnostic) = self.report.diagnostics.last_mut() {
            diagnostic.note = Some(note.into());
        }
        self
    }

    /// A second place that belongs to it.
    pub fn also(self, span: Span, label: impl Into<String>) -> Self {
        let mark = self.report.mark(span, label.into());
        if let Some(diagnostic) = self.report.diagnostics.last_mut() {
            diagnostic.marks.extend(mark);
        }
        self
    }
}

/// `range` widened to whole characters and cut to the text, for a span that a parser put in the middle of one.
fn on_characters(text: &str, range: Range<usize>) -> Range<usize> {
    let mut start = range.start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let mut end = range.end.clamp(start, text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    start..end
}
