//! From text to a condition: parse it, and resolve every name.

use cel::{
    ParseErrors,
    common::{
        ast::{CallExpr, EntryExpr, Expr, LiteralValue, operators},
        types::CelBool,
    },
    parser::{Expression, PrattParser},
};
use jiff::tz::TimeZone;

use super::{Call, Condition, ModelArgument, prove::prove};

/// The longest condition, in bytes.
const MAX_LENGTH: usize = 2_000;
/// The most nodes that a parsed condition may have.
const MAX_NODES: usize = 512;
/// How deep its parentheses and operators may nest.
const MAX_DEPTH: u16 = 48;

/// The first letter of identifiers that stand for calls; no identifier of CEL has it.
pub(super) const CALL: &str = "#";

const REQUEST: [&str; 11] = [
    "model",
    "stream",
    "input_tokens",
    "max_output",
    "messages",
    "images",
    "audio",
    "tools",
    "json",
    "reasoning",
    "category",
];
const CALLER: [&str; 4] = ["team", "key", "user", "labels"];
const BUDGET: [&str; 3] = ["used", "left_usd", "pace"];
const FUNCTIONS: [&str; 5] = ["hour", "minute", "weekday", "off_peak", "available"];
/// What of CEL's own library a condition may call; operators begin with a sign.
const LIBRARY_FUNCTIONS: [&str; 10] =
    ["size", "contains", "startsWith", "endsWith", "int", "uint", "double", "string", "bool", "type"];

/// Why a condition is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RuleError {
    /// What is wrong, with a hint where one helps.
    pub message: String,
    /// Where, in bytes from the beginning of the condition.
    pub offset: Option<usize>,
}

pub(super) fn compile(text: &str) -> Result<Condition, RuleError> {
    if text.len() > MAX_LENGTH {
        let message = format!("the condition has {} bytes, at most {MAX_LENGTH} are read", text.len());
        return Err(RuleError { message, offset: None });
    }
    let parser = PrattParser::new().max_recursion_depth(MAX_DEPTH).max_expression_node_count(MAX_NODES);
    let mut expression = parser.parse(text).map_err(|errors| parse_error(text, &errors))?;
    let mut names = Names { text, calls: Vec::new(), local: Vec::new(), nodes: 0 };
    names.resolve(&mut expression)?;
    let condition = Condition { expression, calls: names.calls };
    prove(text, &condition)?;
    Ok(condition)
}

fn parse_error(text: &str, errors: &ParseErrors) -> RuleError {
    let Some(first) = errors.errors.first() else {
        return RuleError { message: "the condition cannot be read".into(), offset: None };
    };
    let message = first.msg.strip_prefix("Syntax error: ").unwrap_or(&first.msg);
    RuleError { message: format!("syntax error: {message}"), offset: offset(text, first.pos) }
}

/// The byte of a line and column, both counted from 1.
fn offset(text: &str, (line, column): (isize, isize)) -> Option<usize> {
    let (line, column) = (usize::try_from(line).ok()?.checked_sub(1)?, usize::try_from(column).ok()?.checked_sub(1)?);
    let before: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    (before <= text.len()).then(|| (before + column).min(text.len()))
}

/// The walk that turns names into identifiers that the resolver knows.
struct Names<'a> {
    text: &'a str,
    calls: Vec<Call>,
    /// Variables of the comprehension around.
    local: Vec<String>,
    /// Nodes walked so far: the parser's own count leaves some out.
    nodes: usize,
}

impl Names<'_> {
    fn resolve(&mut self, expression: &mut Expression) -> Result<(), RuleError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let message = format!("the condition has more than {MAX_NODES} parts");
            return Err(RuleError { message, offset: None });
        }
        if let Some(path) = self.path(expression)? {
            expression.expr = path;
            return Ok(());
        }
        match &mut expression.expr {
            Expr::Ident(name) => self.identifier(name),
            Expr::Call(call) => match self.call(call)? {
                Some(call) => {
                    expression.expr = Expr::Ident(format!("{CALL}{}", self.calls.len()));
                    self.calls.push(call);
                    Ok(())
                }
                None => {
                    let mut parts = call.target.iter_mut().map(AsMut::as_mut).chain(&mut call.args);
                    parts.try_for_each(|part| self.resolve(part))
                }
            },
            Expr::Select(select) => self.resolve(&mut select.operand),
            Expr::List(list) => list.elements.iter_mut().try_for_each(|element| self.resolve(element)),
            Expr::Map(map) => map.entries.iter_mut().try_for_each(|entry| match &mut entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.resolve(&mut entry.key)?;
                    self.resolve(&mut entry.value)
                }
                EntryExpr::StructField(_) => Err(self.fault("a condition builds no objects".into(), "{")),
            }),
            Expr::Comprehension(_) => self.comprehension(expression),
            Expr::Struct(made) => Err(self.fault("a condition builds no objects".into(), &made.type_name)),
            Expr::Literal(_) | Expr::Unspecified => Ok(()),
        }
    }

    /// `request.model`, `caller.labels.x`, `caller.labels["x"]` as one identifier; `has(request.model)` as `true`.
    fn path(&self, expression: &Expression) -> Result<Option<Expr>, RuleError> {
        if let Expr::Call(CallExpr { func_name, args, target: None }) = &expression.expr
            && func_name == operators::INDEX
            && let [map, key] = args.as_slice()
            && let Expr::Literal(LiteralValue::String(key)) = &key.expr
            && self.root_path(map)?.as_deref() == Some("caller.labels")
        {
            return Ok(Some(Expr::Ident(format!("caller.labels.{}", key.inner()))));
        }
        let Expr::Select(select) = &expression.expr else { return Ok(None) };
        if !select.test && self.root_path(&select.operand)?.as_deref() == Some("caller.labels") {
            return Ok(Some(Expr::Ident(format!("caller.labels.{}", select.field))));
        }
        let always = |path: String| if select.test { truth() } else { Expr::Ident(path) };
        Ok(self.field(&select.operand, &select.field)?.map(always))
    }

    /// `root.field` where the expression is that and nothing else.
    fn root_path(&self, expression: &Expression) -> Result<Option<String>, RuleError> {
        match &expression.expr {
            Expr::Select(select) if !select.test => self.field(&select.operand, &select.field),
            _ => Ok(None),
        }
    }

    fn field(&self, root: &Expression, field: &str) -> Result<Option<String>, RuleError> {
        let Expr::Ident(root) = &root.expr else { return Ok(None) };
        if self.local.contains(root) {
            return Ok(None);
        }
        let Some(fields) = fields_of(root) else { return Ok(None) };
        if !fields.contains(&field) {
            let message = format!("unknown variable `{root}.{field}`; hint: `{root}` has {}", listed(fields));
            return Err(self.fault(message, field));
        }
        Ok(Some(format!("{root}.{field}")))
    }

    fn identifier(&self, name: &str) -> Result<(), RuleError> {
        let known = self.local.iter().any(|local| local == name) || name.starts_with('@');
        let is_type = ["bool", "int", "uint", "double", "string", "list", "map"].contains(&name);
        if known || is_type {
            return Ok(());
        }
        let message = match fields_of(name) {
            Some(fields) => format!("`{name}` is no value; hint: name one of its fields: {}", listed(fields)),
            None => format!(
                "unknown variable `{name}`; hint: there are `request`, `caller` and `budget` with their fields, and \
                 text stands in quotes"
            ),
        };
        Err(self.fault(message, name))
    }

    /// A call of ours; `None` for one of CEL's own.
    fn call(&self, call: &CallExpr) -> Result<Option<Call>, RuleError> {
        let name = call.func_name.as_str();
        if !FUNCTIONS.contains(&name) || call.target.is_some() {
            let operator = !name.starts_with(|c: char| c.is_ascii_alphabetic());
            if operator || LIBRARY_FUNCTIONS.contains(&name) {
                return Ok(None);
            }
            let message = format!("unknown function `{name}`; hint: there are {}", listed(&FUNCTIONS));
            return Err(self.fault(message, name));
        }
        let argument = match call.args.as_slice() {
            [Expression { expr: Expr::Literal(LiteralValue::String(text)), .. }] => Some(text.inner()),
            [only] if self.root_path(only)?.as_deref() == Some("request.model") => None,
            _ => return Err(self.fault(format!("`{name}` takes one text in quotes"), name)),
        };
        let model = || argument.map_or(ModelArgument::Requested, |name| ModelArgument::Named(name.into()));
        Ok(Some(match name {
            "off_peak" => Call::OffPeak(model()),
            "available" => Call::Available(model()),
            "hour" => Call::Hour(self.zone(name, argument)?),
            "minute" => Call::Minute(self.zone(name, argument)?),
            _ => Call::Weekday(self.zone(name, argument)?),
        }))
    }

    fn zone(&self, function: &str, argument: Option<&str>) -> Result<TimeZone, RuleError> {
        let Some(name) = argument else {
            return Err(self.fault(format!("`{function}` takes the name of a time zone in quotes"), function));
        };
        TimeZone::get(name).map_err(|_| {
            self.fault(format!("unknown time zone `{name}`; hint: use a name such as `Europe/Berlin`"), name)
        })
    }

    fn comprehension(&mut self, expression: &mut Expression) -> Result<(), RuleError> {
        let Expr::Comprehension(comprehension) = &mut expression.expr else { return Ok(()) };
        if !self.local.is_empty() {
            let name = comprehension.iter_var.clone();
            return Err(self.fault("a loop inside of a loop is not read".into(), &name));
        }
        self.resolve(&mut comprehension.iter_range)?;
        self.local.push(comprehension.iter_var.clone());
        self.local.extend(comprehension.iter_var2.clone());
        self.local.push(comprehension.accu_var.clone());
        let shadowed = self.local.iter().find(|name| fields_of(name).is_some()).cloned();
        if let Some(name) = shadowed {
            return Err(self.fault(format!("`{name}` cannot name a loop's variable"), &name));
        }
        for part in [
            &mut comprehension.accu_init,
            &mut comprehension.loop_cond,
            &mut comprehension.loop_step,
            &mut comprehension.result,
        ] {
            self.resolve(part)?;
        }
        self.local.clear();
        Ok(())
    }

    fn fault(&self, message: String, near: &str) -> RuleError {
        RuleError { message, offset: word(self.text, near) }
    }
}

fn truth() -> Expr {
    Expr::Literal(LiteralValue::Boolean(CelBool::from(true)))
}

fn fields_of(root: &str) -> Option<&'static [&'static str]> {
    match root {
        "request" => Some(&REQUEST),
        "caller" => Some(&CALLER),
        "budget" => Some(&BUDGET),
        _ => None,
    }
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Where a word first stands on its own; the parser keeps no positions of what it accepts.
fn word(text: &str, word: &str) -> Option<usize> {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    text.match_indices(word)
        .map(|(at, _)| at)
        .find(|&at| !part(text[..at].chars().next_back()) && !part(text[at + word.len()..].chars().next()))
}
