//! The keys of `scores`, `benchmarks` and `trust`.

use super::super::shape::{Field, Kind, Least, Shape, Unit, may, must};

use Kind::{Amount, List, Name, Text, Word};

const DURATION: Kind = Amount(Unit::Duration);

/// A row of scores.
pub const SCORE: Shape = Shape {
    name: "a score",
    fields: &[
        must("model", Name, "the model"),
        must("benchmark", Text, "the benchmark with its metric"),
        must("value", Amount(Unit::Number), "the value in the benchmark's unit"),
        must("date", Amount(Unit::Day), "when it was measured"),
        must("by", Word(&["vendor", "independent", "own"]), "who measured"),
        may("source", Text, "where it was read"),
        SAMPLE_SIZE,
        INTERVAL,
        EXPIRES,
    ],
    later: &[],
};

/// How many questions a score rests on.
pub const SAMPLE_SIZE: Field =
    may("sample_size", Amount(Unit::Count(1, 10_000_000)), "how many questions were asked; few weigh less");
/// How exact a score is.
pub const INTERVAL: Field =
    may("interval", List(&Amount(Unit::Number), Least::One), "the ends of its 95 % interval, as in `[60.1, 68.4]`");
/// When a score ends.
pub const EXPIRES: Field = may("expires", Amount(Unit::Day), "the first day on which it counts no more");

/// The names of categories.
pub const CATEGORIES: &[&str] =
    &["chat", "code", "math", "reasoning", "knowledge", "language", "instructions", "data", "tools"];

/// A benchmark.
pub const BENCHMARK: Shape = Shape {
    name: "a benchmark",
    fields: &[
        must("category", Word(CATEGORIES), "the kind of work"),
        must("unit", Word(&["percent", "elo"]), "what its values are"),
        may("floor", Amount(Unit::Number), "the value of guessing"),
        may("ceiling", Amount(Unit::Number), "the best value there is"),
    ],
    later: &[],
};

/// `trust`.
pub const TRUST: Shape = Shape {
    name: "`trust`",
    fields: &[
        may("vendor", Amount(Unit::Number), "the weight of a vendor's own number"),
        may("independent", Amount(Unit::Number), "the weight of somebody else's"),
        may("own", Amount(Unit::Number), "the weight of your own"),
        may("half_life", DURATION, "after how long a score counts half"),
    ],
    later: &[],
};
