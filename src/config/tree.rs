//! YAML as a tree in which everything remembers where it stands.
//!
//! serde would stop at the first fault and turn `0.10` into a float; here scalars stay the text that was written, all
//! faults of a file are found in one run, and aliases are expanded under a limit.

use std::{borrow::Cow, collections::HashMap};

use sha2::{Digest, Sha256};

use granit_parser::{Event, Parser, ScalarStyle, Span as YamlSpan, StructureStyle, Tag};

use super::{
    diagnostic::{Report, Span},
    hidden,
};

/// Nodes that one file may hold after its aliases are expanded.
const MAX_NODES: usize = 200_000;
/// How deep nodes may nest; the sections of the contract need seven.
const MAX_DEPTH: usize = 32;

/// A value with its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// The scalar, the flow collection, or the first entry of a block collection.
    pub span: Span,
    /// What stands there.
    pub value: Value,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// A scalar as it was written, without quotes and escapes.
    Scalar(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the order of the file.
    Map(Vec<(Key, Node)>),
}

/// The key of a mapping's entry.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its text.
    pub text: String,
    /// Its place.
    pub span: Span,
}

impl Node {
    /// What an empty file holds.
    pub fn empty(file: u32) -> Self {
        Self { span: Span::new(file, 0..0), value: Value::Map(Vec::new()) }
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text) => Some(text),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The items of a sequence; none for anything else.
    pub fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            Value::Null | Value::Scalar(_) | Value::Map(_) => &[],
        }
    }

    /// The entries of a mapping; none for anything else.
    pub fn entries(&self) -> &[(Key, Self)] {
        match &self.value {
            Value::Map(entries) => entries,
            Value::Null | Value::Scalar(_) | Value::List(_) => &[],
        }
    }

    /// The value under `key`, unless it is null.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let (_, node) = self.entries().iter().find(|(name, _)| name.text == key)?;
        (!matches!(node.value, Value::Null)).then_some(node)
    }

    /// The text under `key`.
    pub fn word(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Self::text)
    }

    /// The value under `key` as `read` understands its text; a text that does not fit is `None`, since the shape's
    /// check has told of it already.
    pub fn read<T, E>(&self, key: &str, read: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        self.word(key).and_then(|text| read(text).ok())
    }

    /// Adds everything that it holds to a digest: two nodes are alike when they say the same, wherever they stand.
    pub fn digest(&self, into: &mut Sha256) {
        let mut text = |mark: u8, text: &str| {
            into.update([mark]);
            into.update(text.len().to_le_bytes());
            into.update(text);
        };
        match &self.value {
            Value::Null => text(b'0', ""),
            Value::Scalar(scalar) => text(b's', scalar),
            Value::List(items) => {
                text(b'l', &items.len().to_string());
                items.iter().for_each(|item| item.digest(into));
            }
            Value::Map(entries) => {
                text(b'm', &entries.len().to_string());
                for (key, node) in entries {
                    into.update(key.text.len().to_le_bytes());
                    into.update(&key.text);
                    node.digest(into);
                }
            }
        }
    }

    /// What it is, for messages.
    pub fn form(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Scalar(_) => "a plain value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// Parses one YAML document; `None` = an empty file. Hides the secrets in it.
///
/// # Errors
/// [`Unreadable`] when the file cannot be read further; a fault says why.
pub fn parse(report: &mut Report, file: u32, text: &str) -> Result<Option<Node>, Unreadable> {
    let read = build(report, file, text);
    if read.is_err() {
        hidden::in_text(text).into_iter().for_each(|range| report.hide(Span::new(file, range)));
    }
    read
}

fn build(report: &mut Report, file: u32, text: &str) -> Result<Option<Node>, Unreadable> {
    let mut builder = Builder { file, report, frames: Vec::new(), anchors: HashMap::new(), nodes: 0, root: None };
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => builder.take(event, span)?,
            Err(error) => {
                let at = error.marker().byte_offset().unwrap_or(text.len());
                let (info, span) = (error.info(), Span::new(file, at..at + 1));
                builder
                    .report
                    .fault(span, "not YAML")
                    .label(info)
                    .hint("look at this line and the one above: an indentation, a missing quote, a brace left open");
                return Err(Unreadable);
            }
        }
    }
    Ok(builder.root)
}

/// A file cannot be read further; a fault says why.
pub struct Unreadable;

struct Builder<'r> {
    file: u32,
    report: &'r mut Report,
    frames: Vec<Frame>,
    anchors: HashMap<usize, (Node, usize, usize)>,
    nodes: usize,
    root: Option<Node>,
}

/// A collection whose end has not come yet.
struct Frame {
    span: Span,
    flow: bool,
    anchor: usize,
    /// Nodes and levels below, for the limits on aliases.
    nodes: usize,
    height: usize,
    filling: Filling,
}

enum Filling {
    List(Vec<Node>),
    Map { entries: Vec<(Key, Node)>, key: Option<Key> },
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, at: YamlSpan) -> Result<(), Unreadable> {
        let span = Span::new(self.file, at.byte_range().unwrap_or_default());
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.check_tag(tag.as_deref(), span);
                self.add(scalar(text, style, span), anchor, 1, 0)
            }
            Event::SequenceStart(style, anchor, tag) => {
                self.check_tag(tag.as_deref(), span);
                self.open(span, style, anchor, Filling::List(Vec::new()))
            }
            Event::MappingStart(style, anchor, tag) => {
                self.check_tag(tag.as_deref(), span);
                self.open(span, style, anchor, Filling::Map { entries: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some((_, nodes, _)) if self.nodes + nodes > MAX_NODES => self.too_large(span),
                Some((node, nodes, height)) => {
                    let (node, nodes, height) = (node.clone(), *nodes, *height);
                    self.add(node, 0, nodes, height)
                }
                None => {
                    self.report
                        .fault(span, "an alias inside its own anchor")
                        .label("holds itself")
                        .hint("write it out");
                    Err(Unreadable)
                }
            },
            Event::DocumentStart(..) if self.root.is_some() => {
                let fault = self.report.fault(span, "more than one YAML document in a file");
                fault.label("a second one begins").hint("remove the `---`, or make two files of it");
                Err(Unreadable)
            }
            // Comments and anchors' names are not asked for; the rest are the borders of the stream.
            _ => Ok(()),
        }
    }

    fn open(&mut self, span: Span, style: StructureStyle, anchor: usize, filling: Filling) -> Result<(), Unreadable> {
        if self.frames.len() >= MAX_DEPTH {
            return self.too_deep(span);
        }
        let flow = matches!(style, StructureStyle::Flow);
        self.frames.push(Frame { span, flow, anchor, nodes: 1, height: 0, filling });
        Ok(())
    }

    fn close(&mut self, end: Span) -> Result<(), Unreadable> {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        let Frame { span, flow, anchor, nodes, height, filling } = frame;
        let node = match filling {
            Filling::List(items) => {
                let first = items.first().map_or(span, |item| item.span);
                Node { span: if flow { span.to(end) } else { first }, value: Value::List(items) }
            }
            Filling::Map { entries, .. } => {
                let first = entries.first().map_or(span, |(key, _)| key.span);
                let entries = self.settle(entries);
                Node { span: if flow { span.to(end) } else { first }, value: Value::Map(entries) }
            }
        };
        self.add(node, anchor, nodes, height)
    }

    /// Puts a whole node where it belongs: `nodes` in it, `height` levels below it.
    fn add(&mut self, node: Node, anchor: usize, nodes: usize, height: usize) -> Result<(), Unreadable> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return self.too_large(node.span);
        }
        if self.frames.len() + height > MAX_DEPTH {
            return self.too_deep(node.span);
        }
        if anchor != 0 {
            self.nodes += nodes;
            self.anchors.insert(anchor, (node.clone(), nodes, height));
        }
        let Some(frame) = self.frames.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        if let Value::Scalar(text) = &node.value
            && hidden::has_credentials(text)
        {
            self.report.hide(node.span);
        }
        frame.nodes += nodes;
        frame.height = frame.height.max(height + 1);
        match &mut frame.filling {
            Filling::List(items) => items.push(node),
            Filling::Map { entries, key } => match (key.take(), node.value) {
                (Some(key), value) => {
                    let node = Node { span: node.span, value };
                    if hidden::is_secret(&key.text) {
                        hide(self.report, &node);
                    }
                    entries.push((key, node));
                }
                (None, Value::Scalar(text)) => *key = Some(Key { text, span: node.span }),
                (None, Value::Null) => *key = Some(Key { text: String::new(), span: node.span }),
                (None, Value::List(_) | Value::Map(_)) => {
                    let fault = self.report.fault(node.span, "a key must be a plain value");
                    fault.label("not a name").hint("quote it, if braces or brackets belong to the name");
                    return Err(Unreadable);
                }
            },
        }
        Ok(())
    }

    /// Merges `<<` and tells of keys that stand twice.
    fn settle(&mut self, entries: Vec<(Key, Node)>) -> Vec<(Key, Node)> {
        let (merged, mut entries): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(key, _)| key.text == "<<");
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.sort_by(|&a, &b| entries[a].0.text.cmp(&entries[b].0.text).then(a.cmp(&b)));
        for pair in order.windows(2) {
            let (first, second) = (&entries[pair[0]].0, &entries[pair[1]].0);
            if first.text == second.text {
                let fault = self.report.fault(second.span, format!("`{}` stands twice", second.text));
                fault.label("here again").also(first.span, "first here").hint("keep one of them");
            }
        }
        for (key, node) in merged {
            let maps = if matches!(node.value, Value::Map(_)) { std::slice::from_ref(&node) } else { node.items() };
            if maps.is_empty() {
                self.report
                    .fault(key.span, "`<<` merges mappings")
                    .label("no mapping behind it")
                    .hint("write `<<: *anchor`");
            }
            for (key, value) in maps.iter().flat_map(Node::entries) {
                if !entries.iter().any(|(own, _)| own.text == key.text) {
                    entries.push((key.clone(), value.clone()));
                }
            }
        }
        entries
    }

    /// Tags would change a value's meaning behind the reader's back.
    fn check_tag(&mut self, tag: Option<&Tag>, span: Span) {
        if tag.is_some_and(|tag| !tag.is_yaml_core_schema()) {
            self.report.fault(span, "YAML tags are not read").label("has a tag").hint("write the value without `!`");
        }
    }

    fn too_large(&mut self, span: Span) -> Result<(), Unreadable> {
        let fault = self.report.fault(span, format!("more than {MAX_NODES} values in one file"));
        fault.label("too many from here on, aliases counted").hint("make several files of it");
        Err(Unreadable)
    }

    fn too_deep(&mut self, span: Span) -> Result<(), Unreadable> {
        let fault = self.report.fault(span, format!("nested more than {MAX_DEPTH} levels deep"));
        fault.label("too deep").hint("no section needs more than seven levels");
        Err(Unreadable)
    }
}

/// Hides all texts below a name of a secret, whatever their form; `${…}` is none.
fn hide(report: &mut Report, node: &Node) {
    match &node.value {
        Value::Scalar(text) if text.contains("${") => {}
        Value::Null => {}
        Value::Scalar(_) => report.hide(node.span),
        Value::List(items) => items.iter().for_each(|item| hide(report, item)),
        Value::Map(entries) => entries.iter().for_each(|(_, value)| hide(report, value)),
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle, span: Span) -> Node {
    let null = matches!(style, ScalarStyle::Plain) && matches!(text.as_ref(), "" | "~" | "null" | "Null" | "NULL");
    Node { span, value: if null { Value::Null } else { Value::Scalar(text.into_owned()) } }
}
