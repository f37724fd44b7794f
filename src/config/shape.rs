//! Shapes: which keys stand where and what their values look like. One table is what the check walks, what
//! `turnpike schema` prints, and what a reader may rely on.

use super::{
    close,
    diagnostic::{Report, Span},
    tree::{Node, Value},
};

mod unit;

pub use unit::Unit;

/// What a value looks like.
pub enum Kind {
    /// Any plain value.
    Text,
    /// The name of something: no blanks, no control characters, no `@`, at most 128 bytes.
    Name,
    /// A text that may hold `${VAR}` and `${file:…}`; it is never shown.
    Secret,
    /// A text that may hold `${VAR}` and `${file:…}` and is no secret itself.
    Filled,
    /// One of these words.
    Word(&'static [&'static str]),
    /// `true` or `false`.
    Flag,
    /// An amount with its unit.
    Amount(Unit),
    /// A sequence of such values; at least one, if so stated.
    List(&'static Kind, Least),
    /// A mapping from names to such values.
    Table(&'static Kind),
    /// A mapping from any texts to such values.
    Entries(&'static Kind),
    /// A mapping with these keys.
    Shape(&'static Shape),
    /// The first of these whose form fits.
    Either(&'static [Kind]),
}

/// How many items a list must have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Least {
    /// It may be empty.
    None,
    /// At least one.
    One,
}

/// One key of a shape.
pub struct Field {
    /// The key.
    pub key: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// Whether it must be there.
    pub needed: bool,
    /// What it is for.
    pub about: &'static str,
    /// Whether it says something with nothing in it.
    pub bare: bool,
}

/// A mapping with a fixed set of keys.
pub struct Shape {
    /// What it describes, with its article: `a backend`.
    pub name: &'static str,
    /// Its keys.
    pub fields: &'static [Field],
    /// Keys of the contract that a later version reads.
    pub later: &'static [&'static str],
}

/// A key that may be left out.
pub const fn may(key: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { key, kind, needed: false, about, bare: false }
}

/// A key that may be left out, and that says something also with nothing in it: `hedge: {}`.
pub const fn even_empty(key: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { key, kind, needed: false, about, bare: true }
}

/// A key that must be there.
pub const fn must(key: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { key, kind, needed: true, about, bare: false }
}

impl Kind {
    /// The words for a message: `expected …`.
    fn wanted(&self) -> String {
        match self {
            Self::Text | Self::Secret | Self::Filled => "a text".into(),
            Self::Name => "a name".into(),
            Self::Word(words) => close::list(words, "or"),
            Self::Flag => "`true` or `false`".into(),
            Self::Amount(unit) => unit.wanted().into(),
            Self::List(..) => "a list".into(),
            Self::Table(_) | Self::Entries(_) => "a mapping from names".into(),
            Self::Shape(shape) => format!("{} with its keys", shape.name),
            Self::Either(kinds) => kinds.iter().map(Self::wanted).collect::<Vec<_>>().join(", or "),
        }
    }

    /// What such a value looks like, for hints.
    fn sample(&self) -> String {
        match self {
            Self::Text | Self::Secret | Self::Filled | Self::Name => "a plain text".into(),
            Self::Word(_) | Self::Flag => self.wanted(),
            Self::Amount(unit) => format!("it as `{}`", unit.example()),
            Self::List(item, _) => match item {
                Self::Shape(_) => "`- {…}`, one line for each".into(),
                _ => "`[…, …]`".into(),
            },
            Self::Table(_) | Self::Entries(_) => "`name: …`, one line for each".into(),
            Self::Shape(shape) => {
                let keys: Vec<&str> = shape.fields.iter().take(3).map(|field| field.key).collect();
                format!("its keys in braces or below it, such as {}", close::list(&keys, "and"))
            }
            Self::Either(kinds) => kinds.iter().map(Self::sample).collect::<Vec<_>>().join(", or "),
        }
    }

    /// Whether a value of this form is looked at by this kind.
    fn fits(&self, value: &Value) -> bool {
        match self {
            Self::Either(kinds) => kinds.iter().any(|kind| kind.fits(value)),
            Self::List(..) => matches!(value, Value::List(_)),
            Self::Table(_) | Self::Entries(_) | Self::Shape(_) => matches!(value, Value::Map(_)),
            Self::Text | Self::Name | Self::Secret | Self::Filled | Self::Word(_) | Self::Flag | Self::Amount(_) => {
                matches!(value, Value::Scalar(_))
            }
        }
    }

    /// Notes everything in `node` that this kind does not allow.
    pub fn check(&self, report: &mut Report, node: &Node) {
        match (self, &node.value) {
            (Self::Either(kinds), value) if self.fits(value) => {
                if let Some(kind) = kinds.iter().find(|kind| kind.fits(value)) {
                    kind.check(report, node);
                }
            }
            (Self::Filled, Value::Scalar(text)) => {
                // An address with credentials is refused later, and the ones in it are not repeated.
                if text.contains('@') {
                    report.hide(node.span);
                }
            }
            (Self::Text, Value::Scalar(text)) => check_unfilled(report, node.span, text),
            (Self::Secret, Value::Scalar(text)) => {
                if !text.contains("${") {
                    report.hide(node.span);
                }
            }
            (Self::Name, Value::Scalar(text)) if text.contains("${") => check_unfilled(report, node.span, text),
            (Self::Name, Value::Scalar(text)) => check_name(report, node.span, text),
            (Self::Word(words), Value::Scalar(text)) if !words.contains(&text.as_str()) => {
                let fault = report.fault(node.span, format!("`{text}` is not a word for this place"));
                fault.label(format!("expected {}", self.wanted())).hint(close::hint(text, words.iter().copied(), ""));
            }
            (Self::Word(_), Value::Scalar(_)) => {}
            (Self::Flag, Value::Scalar(text)) if text == "true" || text == "false" => {}
            (Self::Amount(unit), Value::Scalar(text)) => {
                if let Err(unfit) = unit.check(text) {
                    let label = format!("expected {}", unit.wanted());
                    report.fault(node.span, unfit.problem).label(label).hint(unfit.hint);
                }
            }
            (Self::List(kind, least), Value::List(items)) => {
                if items.is_empty() && *least == Least::One {
                    let fault = report.fault(node.span, "an empty list");
                    fault.label("expected at least one item").hint("add one, or leave the key out");
                }
                items.iter().for_each(|item| kind.check(report, item));
            }
            (Self::Table(kind), Value::Map(entries)) => {
                for (key, value) in entries {
                    check_name(report, key.span, &key.text);
                    kind.check(report, value);
                }
            }
            (Self::Entries(kind), Value::Map(entries)) => {
                entries.iter().for_each(|(_, value)| kind.check(report, value));
            }
            (Self::Shape(shape), Value::Map(_)) => shape.check(report, node),
            _ => {
                let fault = report.fault(node.span, format!("expected {}, found {}", self.wanted(), node.form()));
                fault.label(format!("{} here", node.form())).hint(format!("write {}", self.sample()));
            }
        }
    }
}

impl Field {
    /// Keys in braces of which none is there: `limits: {}` reads as if there were none.
    fn check_empty(&self, report: &mut Report, node: &Node) {
        let Kind::Shape(shape) = &self.kind else { return };
        let needs = shape.fields.iter().any(|field| field.needed);
        if matches!(&node.value, Value::Map(entries) if entries.is_empty()) && !needs && !self.bare {
            let keys: Vec<&str> = shape.fields.iter().take(3).map(|field| field.key).collect();
            let warning = report.warning(node.span, format!("`{}` with nothing in it", self.key));
            warning.label("does nothing").hint(format!("write {}, or leave it out", close::list(&keys, "or")));
        }
    }
}

impl Shape {
    /// Notes unknown keys, missing keys, and what is wrong below the known ones.
    pub fn check(&self, report: &mut Report, node: &Node) {
        for (key, value) in node.entries() {
            let field = self.fields.iter().find(|field| field.key == key.text);
            match field {
                Some(field) if matches!(value.value, Value::Null) && field.needed => {
                    let fault = report.fault(key.span, format!("`{}` has no value", key.text));
                    fault.label("nothing behind it").hint(format!("`{}`: {}", key.text, field.about));
                }
                Some(field) if !matches!(value.value, Value::Null) => {
                    field.kind.check(report, value);
                    field.check_empty(report, value);
                }
                Some(_) => {}
                None => self.unknown(report, key.span, &key.text),
            }
        }
        for field in self.fields.iter().filter(|field| field.needed) {
            if !node.entries().iter().any(|(key, _)| key.text == field.key) {
                let fault = report.fault(node.span, format!("{} needs `{}`", self.name, field.key));
                fault.label("missing here").hint(format!("`{}`: {}", field.key, field.about));
            }
        }
    }

    fn unknown(&self, report: &mut Report, span: Span, key: &str) {
        if self.later.contains(&key) {
            let fault = report.fault(span, format!("`{key}` comes with a later version"));
            fault.label("not read by this version").hint("take it out; a key that does nothing would promise too much");
        } else {
            let fault = report.fault(span, format!("unknown key `{key}`"));
            let keys = self.fields.iter().map(|field| field.key);
            fault.label(format!("not a key of {}", self.name)).hint(close::hint(key, keys, ""));
        }
    }
}

/// `${…}` where nothing would fill it in would be taken as it stands.
fn check_unfilled(report: &mut Report, span: Span, text: &str) {
    if text.contains("${") {
        let fault = report.fault(span, "nothing is filled in here");
        fault.label("taken as it stands").hint("`${…}` is read in `api_key`, `token` and `endpoints` only");
    }
}

/// Names stand in headers, labels and `model@backend`.
fn check_name(report: &mut Report, span: Span, name: &str) {
    let fault = if name.is_empty() {
        "an empty name"
    } else if name.len() > 128 {
        "a name of more than 128 bytes"
    } else if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        "a name with blanks or characters beyond ASCII"
    } else if name.contains('@') {
        "a name with `@`"
    } else {
        return;
    };
    report
        .fault(span, fault)
        .label("not a name")
        .hint("names stand in headers and in `model@backend`: use letters, digits, `-`, `.`, `/`");
}
