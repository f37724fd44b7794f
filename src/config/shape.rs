//! Shapes: which keys stand where and what their values look like. One table is what the check walks, what
//! `turnpike schema` prints, and what a reader may rely on.

use super::{
    allowances, close,
    diagnostic::{Report, Span},
    tree::{Node, Value},
    units::{self, Unfit},
};

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

/// The amounts of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// `2.10 USD`, `8 CNY`.
    Money,
    /// `0.02 USD`.
    Usd,
    /// `500 USD`, `10M tokens`, `10k requests`; more than nothing, and below 2⁵³ of its smallest part.
    Quota,
    /// `400k/min`.
    Rate,
    /// `20 USD/day`.
    Spend,
    /// `header:NAME`, `body:NAME`.
    UserSource,
    /// `lease`, `closed`, `open(20 USD)`.
    StoreLoss,
    /// `p95`, `800ms`.
    Overdue,
    /// `30s`.
    Duration,
    /// `128k`.
    Tokens,
    /// A count from the first number to the second.
    Count(u64, u64),
    /// `32MiB`.
    Bytes,
    /// `95%`.
    Share,
    /// `+20%`.
    Excess,
    /// `2%`, `+2%`.
    ErrorBound,
    /// `70` or `70%`, as thousandths.
    Score,
    /// `0.5`.
    Number,
    /// `2`.
    Factor,
    /// `2`, as thousandths.
    Weight,
    /// An instant.
    Instant,
    /// A day.
    Day,
    /// `09:00-12:00`.
    Hours,
    /// `mon-fri`.
    Weekdays,
    /// `Europe/Berlin`.
    Zone,
    /// `127.0.0.1:8080`.
    Address,
}

impl Unit {
    /// What it is, for messages.
    fn wanted(self) -> &'static str {
        match self {
            Self::Money => "a price with its currency",
            Self::Usd => "an amount in USD",
            Self::Quota => "an amount of money, tokens or requests above zero",
            Self::Rate => "a rate such as `600/min`",
            Self::Spend => "an amount of money and a time",
            Self::UserSource => "a header or a field of the body",
            Self::Overdue => "`p95` or a length of time",
            Self::StoreLoss => "`lease`, `closed` or `open(AMOUNT)`",
            Self::Duration => "a length of time",
            Self::Tokens | Self::Count(..) => "a whole number",
            Self::Bytes => "a size with its unit",
            Self::Share => "a share in per cent",
            Self::Excess => "by how much more, in per cent",
            Self::ErrorBound => "a share, or how much beyond the control's",
            Self::Score | Self::Number => "a number",
            Self::Factor => "a factor above zero",
            Self::Weight => "a weight above zero",
            Self::Instant => "a date or an instant",
            Self::Day => "a day",
            Self::Hours => "two hours of the day",
            Self::Weekdays => "days of the week",
            Self::Zone => "a time zone",
            Self::Address => "an address with its port",
        }
    }

    /// A value that fits.
    pub fn example(self) -> &'static str {
        match self {
            Self::Money | Self::Usd | Self::Quota => "2.10 USD",
            Self::Rate => "400k/min",
            Self::Spend => "20 USD/day",
            Self::UserSource => "header:x-turnpike-user",
            Self::Overdue => "p95",
            Self::StoreLoss => "open(20 USD)",
            Self::Duration => "30s",
            Self::Tokens => "128k",
            Self::Count(..) => "20",
            Self::Bytes => "32MiB",
            Self::Share => "95%",
            Self::Excess => "+20%",
            Self::ErrorBound => "2%",
            Self::Score | Self::Number => "64.4",
            Self::Factor | Self::Weight => "0.5",
            Self::Instant => "2025-02-09T00:00+08:00",
            Self::Day => "2025-02-09",
            Self::Hours => "09:00-12:00",
            Self::Weekdays => "mon-fri",
            Self::Zone => "Europe/Berlin",
            Self::Address => "127.0.0.1:8080",
        }
    }

    /// Whether `text` is such an amount.
    pub fn check(self, text: &str) -> Result<(), Unfit> {
        match self {
            Self::Money => units::money(text).map(drop),
            Self::Usd => units::usd(text).map(drop),
            Self::Quota => allowances::quota(text).map(drop),
            Self::Rate => allowances::rate(text).map(drop),
            Self::Spend => allowances::spend(text).map(drop),
            Self::UserSource => allowances::user_source(text).map(drop),
            Self::Overdue => allowances::overdue(text).map(drop),
            Self::StoreLoss => allowances::store_loss(text).map(drop),
            Self::Duration => units::some_duration(text).map(drop),
            Self::Tokens => units::count_in(text, &(1..=1_000_000_000)).map(drop),
            Self::Count(least, most) => units::count_in(text, &(least..=most)).map(drop),
            Self::Bytes => units::bytes(text).map(drop),
            Self::Share => units::share(text).map(drop),
            Self::Excess => units::excess(text).map(drop),
            Self::ErrorBound => units::error_bound(text).map(drop),
            Self::Score => units::thousandths(text).map(drop),
            Self::Number => units::number(text).map(drop),
            Self::Factor => units::factor(text).map(drop),
            Self::Weight => units::weight(text).map(drop),
            Self::Instant => units::instant(text).map(drop),
            Self::Day => units::day(text).map(drop),
            Self::Hours => units::hours(text).map(drop),
            Self::Weekdays => units::weekdays(text).map(drop),
            Self::Zone => units::zone(text).map(drop),
            Self::Address => units::address(text).map(drop),
        }
    }
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
    Field { key, kind, needed: false, about }
}

/// A key that must be there.
pub const fn must(key: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { key, kind, needed: true, about }
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
                Some(field) if !matches!(value.value, Value::Null) => field.kind.check(report, value),
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
