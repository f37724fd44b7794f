//! Words and small values that several sections share, read from checked nodes.

use std::sync::Arc;

use super::super::{tree::Node, units};
use crate::base::{
    catalog::Thinking,
    facts::{Abilities, Ability, Category},
    names::{BenchmarkName, ModelName},
    scores::{Benchmark, By, ScoreRow, Unit},
};

/// A list of abilities.
pub fn abilities(node: &Node) -> Abilities {
    node.items().iter().filter_map(Node::text).filter_map(Ability::parse).collect()
}

/// How a model reasons.
pub fn thinking(word: &str) -> Option<Thinking> {
    match word {
        "never" => Some(Thinking::Never),
        "on_request" => Some(Thinking::OnRequest),
        "by_default" => Some(Thinking::ByDefault),
        "always" => Some(Thinking::Always),
        _ => None,
    }
}

/// A row of `scores:`.
pub fn score(node: &Node) -> Option<ScoreRow> {
    Some(ScoreRow {
        model: ModelName::from(node.word("model")?),
        benchmark: BenchmarkName::from(node.word("benchmark")?),
        value: node.read("value", units::number)?,
        date: node.read("date", units::day)?,
        by: match node.word("by")? {
            "vendor" => By::Vendor,
            "independent" => By::Independent,
            "own" => By::Own,
            _ => return None,
        },
        source: Arc::from(node.word("source").unwrap_or_default()),
        sample: node.read("sample_size", units::count).and_then(|count| u32::try_from(count).ok()),
        interval: node.get("interval").and_then(interval),
        expires: node.read("expires", units::day),
    })
}

/// The two ends of an interval, in their order.
pub fn interval(node: &Node) -> Option<(f64, f64)> {
    let ends = node.items().iter().map(|end| units::number(end.text()?).ok()).collect::<Option<Vec<f64>>>()?;
    let [low, high] = ends.as_slice() else { return None };
    (low <= high).then_some((*low, *high))
}

/// What a benchmark measures.
pub fn benchmark(node: &Node) -> Option<Benchmark> {
    let unit = match node.word("unit")? {
        "elo" => Unit::Elo,
        _ => Unit::Percent {
            floor: node.read("floor", units::number).unwrap_or(0.0),
            ceiling: node.read("ceiling", units::number).unwrap_or(100.0),
        },
    };
    Some(Benchmark { category: Category::parse(node.word("category")?)?, unit })
}
