//! The proof of a condition at load: every part of it is evaluated on two typed samples.

use std::{collections::BTreeMap, sync::Arc};

use cel::{
    Context, ExecutionError, Value,
    common::ast::{Expr, operators},
    parser::Expression,
};
use jiff::Timestamp;

use super::{Bound, Condition, LIBRARY, RuleError, Scope};
use crate::{
    base::{facts::Facts, money::Money, tenants::Team},
    policy::{BudgetSeen, Caller},
};

/// Evaluates the condition and each of its parts on a request with nothing and on one with everything: a part that
/// `&&` or `?:` would skip at first is proven too.
pub(super) fn prove(text: &str, condition: &Condition) -> Result<(), RuleError> {
    let team = |labels: BTreeMap<String, String>| Team { labels: Arc::new(labels), ..Team::named("sample") };
    let full = Facts {
        model: "sample".into(),
        stream: true,
        input_tokens: 1000,
        input_bound: 1100,
        body_bytes: 4000,
        max_output: Some(500),
        answers: 1,
        messages: 3,
        images: 1,
        audio: 1,
        tools: 2,
        json: true,
        reasoning: Some(true),
        ..Facts::default()
    };
    let budget = BudgetSeen { used_ppm: 500_000, left: Some(Money::from_nanousd(1)), pace_ppm: 1_000_000 };
    let samples = [
        (Facts::default(), BudgetSeen::default(), team(BTreeMap::new())),
        (full, budget, team(BTreeMap::from([("sample".into(), "sample".into())]))),
    ];
    for (facts, budget, team) in &samples {
        let caller = Caller { team, key: "sample", user: "", session: "" };
        let scope = Scope { facts, caller, budget: *budget, now: Timestamp::UNIX_EPOCH, live: None };
        let bound = Bound { scope: &scope, calls: &condition.calls };
        let mut context = Context::with_env(LIBRARY.clone());
        context.set_variable_resolver(&bound);
        let found = kind(&condition.expression, &context)?;
        if found.as_deref().is_some_and(|found| found != "bool") {
            let message = format!("the condition is {}, not true or false", found.unwrap_or_default());
            return Err(RuleError { message, offset: (!text.is_empty()).then_some(0) });
        }
    }
    Ok(())
}

/// The type of a part, after its own parts; `None` where the sample alone made it fail (a division by zero).
fn kind(expression: &Expression, context: &Context<'_, '_>) -> Result<Option<String>, RuleError> {
    match &expression.expr {
        Expr::Call(call) => {
            let parts = call.target.iter().map(AsRef::as_ref).chain(&call.args);
            let kinds = parts.map(|part| kind(part, context)).collect::<Result<Vec<_>, _>>()?;
            operands(&call.func_name, &kinds)?;
        }
        Expr::List(list) => list.elements.iter().try_for_each(|element| kind(element, context).map(drop))?,
        Expr::Select(select) => drop(kind(&select.operand, context)?),
        // What is inside a loop is meaningless without its variables: the loop as a whole is run below.
        Expr::Comprehension(_)
        | Expr::Map(_)
        | Expr::Struct(_)
        | Expr::Ident(_)
        | Expr::Literal(_)
        | Expr::Unspecified => {}
    }
    match Value::resolve_val(expression, context) {
        Ok(value) => Ok(Some(value.get_type().name().to_owned())),
        Err(
            ExecutionError::DivisionByZero(_)
            | ExecutionError::RemainderByZero(_)
            | ExecutionError::Overflow(..)
            | ExecutionError::IndexOutOfBounds(_)
            | ExecutionError::NoSuchKey(_)
            | ExecutionError::FunctionError { .. },
        ) => Ok(None),
        Err(error) => Err(RuleError { message: described(&error, expression), offset: None }),
    }
}

/// What CEL itself would let pass in silence: `&&` with a part that is no truth value, `==` between two types, which
/// is false for ever.
fn operands(function: &str, kinds: &[Option<String>]) -> Result<(), RuleError> {
    let known: Vec<&str> = kinds.iter().flatten().map(String::as_str).collect();
    let logical = [operators::LOGICAL_AND, operators::LOGICAL_OR, operators::LOGICAL_NOT].contains(&function);
    let odd = match known.as_slice() {
        parts if logical => parts.iter().find(|part| **part != "bool"),
        [test, ..] if function == operators::CONDITIONAL && *test != "bool" => Some(test),
        _ => None,
    };
    let sign = sign_of(function);
    if let Some(odd) = odd {
        let message = format!("`{sign}` joins true and false, not {odd}");
        return Err(RuleError { message, offset: None });
    }
    let number = |kind: &str| ["int", "uint", "double"].contains(&kind);
    if [operators::EQUALS, operators::NOT_EQUALS].contains(&function)
        && let [left, right] = known.as_slice()
        && left != right
        && !(number(left) && number(right))
    {
        let message = format!("`{sign}` compares {left} with {right}, which are never equal");
        return Err(RuleError { message, offset: None });
    }
    Ok(())
}

/// `_&&_` is written `&&`.
fn sign_of(function: &str) -> &str {
    function.trim_matches(|c| c == '_' || c == '@')
}

fn described(error: &ExecutionError, expression: &Expression) -> String {
    let sign = match &expression.expr {
        Expr::Call(call) => sign_of(&call.func_name),
        _ => "",
    };
    match error {
        ExecutionError::NoSuchOverload(overload) => {
            format!("`{}` does not take `{}`", sign_of(overload.function()), overload.argument_types().join("` and `"))
        }
        ExecutionError::UnsupportedBinaryOperator(_, left, right) => format!(
            "`{sign}` does not take `{}` and `{}`; hint: `double(x)` turns a whole number into one with a point",
            left.type_of(),
            right.type_of()
        ),
        other => {
            let text = other.to_string();
            let mut letters = text.chars();
            letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
        }
    }
}
