//! The catalog's files are compiled in, so what a load would tell of them is proved here.

use super::{
    super::{
        sections::{ABILITIES, BENCHMARK, RATE, SCORE, SPEED, THINKING, TOKENIZERS, WINDOW},
        shape::{Kind, Least, Shape, Unit, may, must},
    },
    *,
};
use Kind::{Amount, Entries, List, Name, Table, Text, Word};

const INSTANT: Kind = Amount(Unit::Instant);
const MONEY: Kind = Amount(Unit::Money);

const FILE: Shape = Shape {
    name: "a catalog file",
    fields: &[
        may("date", Amount(Unit::Day), ""),
        may("models", Table(&Kind::Shape(&MODEL)), ""),
        may("prices", List(&Kind::Shape(&PRICE), Least::One), ""),
        may("benchmarks", Entries(&Kind::Shape(&BENCHMARK)), ""),
        may("scores", List(&Kind::Shape(&SCORE), Least::One), ""),
        may("holidays", Table(&Kind::Shape(&HOLIDAYS)), ""),
    ],
    later: &[],
};

const MODEL: Shape = Shape {
    name: "a model",
    fields: &[
        must("tokenizer", Word(TOKENIZERS), ""),
        may("context", Amount(Unit::Tokens), ""),
        may("max_output", Amount(Unit::Tokens), ""),
        may("abilities", ABILITIES, ""),
        must("thinking", Word(THINKING), ""),
        must("expected_output", Amount(Unit::Tokens), ""),
        must("speed", Kind::Shape(&SPEED), ""),
        may("offers", List(&Kind::Shape(&OFFER), Least::None), ""),
    ],
    later: &[],
};

const OFFER: Shape = Shape {
    name: "an offer",
    fields: &[
        must("provider", Name, ""),
        must("upstream", Text, ""),
        may("from", INSTANT, ""),
        may("until", INSTANT, ""),
        must("source", Text, ""),
    ],
    later: &[],
};

const PRICE: Shape = Shape {
    name: "a price",
    fields: &[
        must("provider", Name, ""),
        may("region", Name, ""),
        must("upstream", Text, ""),
        must("from", INSTANT, ""),
        may("until", INSTANT, ""),
        may("input", MONEY, ""),
        may("cached_input", MONEY, ""),
        may("cache_write", MONEY, ""),
        may("output", MONEY, ""),
        may("reasoning", MONEY, ""),
        may("audio_input", MONEY, ""),
        may("audio_output", MONEY, ""),
        may("rates", List(&Kind::Shape(&RATE), Least::One), ""),
        may("calendar", List(&Kind::Shape(&WINDOW), Least::One), ""),
        must("source", Text, ""),
    ],
    later: &[],
};

const HOLIDAYS: Shape = Shape {
    name: "holidays",
    fields: &[must("source", Text, ""), must("dates", List(&Amount(Unit::Day), Least::One), "")],
    later: &[],
};

/// All files, checked as a load would.
fn roots() -> Vec<Node> {
    let mut report = Report::default();
    let mut roots = Vec::new();
    for (name, text) in FILES {
        let (file, source) = report.add(PathBuf::from(name), (*text).to_owned());
        let root = tree::parse(&mut report, file, &source.text).ok().flatten().unwrap();
        FILE.check(&mut report, &root);
        roots.push(root);
    }
    if let Err(faults) = report.finish() {
        panic!("{faults}");
    }
    roots
}

#[test]
fn every_file_of_the_folder_is_compiled_in() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/policies/catalog");
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".yaml"));
    names.sort();
    assert_eq!(names, FILES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
}

#[test]
fn every_row_of_the_files_is_taken() {
    let roots = roots();
    let count = |section: &str| -> usize {
        roots.iter().filter_map(|root| root.get(section)).map(|node| node.items().len() + node.entries().len()).sum()
    };
    let known = built_in();
    assert_eq!(known.models.len(), count("models"));
    assert_eq!(known.prices.values().map(Vec::len).sum::<usize>(), count("prices"));
    assert_eq!(known.benchmarks.len(), count("benchmarks"));
    assert_eq!(known.scores.len(), count("scores"));
    assert_eq!(known.holidays.len(), count("holidays"));
    assert_ne!(known.date, civil::Date::default());
}

#[test]
fn scores_name_models_and_benchmarks_that_are_there() {
    let known = built_in();
    for row in &known.scores {
        assert!(known.models.contains_key(&row.model), "{}", row.model);
        assert!(known.benchmarks.contains_key(&row.benchmark), "{}", row.benchmark);
    }
}

#[test]
fn no_two_prices_of_a_name_hold_from_the_same_instant() {
    for ((provider, upstream), prices) in &built_in().prices {
        let mut from: Vec<_> = prices.iter().map(|price| (&price.region, price.row.from)).collect();
        from.sort();
        let count = from.len();
        from.dedup();
        assert_eq!(from.len(), count, "{provider} {upstream}");
        assert!(prices.iter().all(|price| price.row.until.is_none_or(|until| price.row.from < until)), "{upstream}");
    }
}

#[test]
fn a_name_that_served_several_models_is_the_one_named_or_else_the_last() {
    let known = built_in();
    let name = |own| known.recognise("deepseek", "deepseek-chat", own).map(ModelName::as_str);
    assert_eq!(name("deepseek-v3"), Some("deepseek-v3"));
    assert_ne!(name("anything"), Some("deepseek-v3"));
    assert!(name("anything").is_some());
    assert_eq!(known.recognise("deepseek", "no-such-model", "x"), None);
}
