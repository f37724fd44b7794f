//! The catalog's files are compiled in, so what a load would tell of them is proved here.

use super::{
    super::{
        sections::{ABILITIES, BENCHMARK, EXPIRES, INTERVAL, RATE, SAMPLE_SIZE, SPEED, THINKING, TOKENIZERS, WINDOW},
        shape::{Field, Kind, Least, Shape, Unit, may, must},
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
        may("revised", List(&Kind::Shape(&REVISION), Least::One), ""),
        ADDED,
        DROPPED,
    ],
    later: &[],
};

/// With which set a row came.
const ADDED: Field = may("added", Amount(Unit::Day), "");
/// With which set it was taken back.
const DROPPED: Field = may("dropped", Amount(Unit::Day), "");

/// What a later set says differently of a model.
const REVISION: Shape = Shape {
    name: "a revision",
    fields: &[
        must("added", Amount(Unit::Day), ""),
        DROPPED,
        may("tokenizer", Word(TOKENIZERS), ""),
        may("context", Amount(Unit::Tokens), ""),
        may("max_output", Amount(Unit::Tokens), ""),
        may("abilities", ABILITIES, ""),
        may("thinking", Word(THINKING), ""),
        may("expected_output", Amount(Unit::Tokens), ""),
        may("speed", Kind::Shape(&SPEED), ""),
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
        ADDED,
        DROPPED,
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
        ADDED,
        DROPPED,
    ],
    later: &[],
};

const SCORE: Shape = Shape {
    name: "a score",
    fields: &[
        must("model", Name, ""),
        must("benchmark", Text, ""),
        must("value", Amount(Unit::Number), ""),
        must("date", Amount(Unit::Day), ""),
        must("by", Word(&["vendor", "independent"]), ""),
        must("source", Text, ""),
        SAMPLE_SIZE,
        INTERVAL,
        EXPIRES,
        ADDED,
        DROPPED,
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
fn every_row_of_the_files_is_taken_that_was_not_dropped() {
    let roots = roots();
    let count = |section: &str| -> usize {
        let sections = roots.iter().filter_map(|root| root.get(section));
        let kept = |node: &&Node| node.get("dropped").is_none();
        let items = |node: &Node| node.items().iter().filter(kept).count();
        sections.map(|node| items(node) + node.entries().iter().filter(|(_, node)| kept(&node)).count()).sum()
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

/// A small catalog over two sets, the second of 2026-12-01.
const TWO_SETS: &str = "
date: 2026-12-01
models:
  a:
    tokenizer: other
    context: 1000
    max_output: 100
    thinking: never
    expected_output: 100
    speed: {first_token: 1s, per_token: 1ms}
    offers:
      - {provider: openai, upstream: a, source: x}
      - {provider: azure, upstream: a, added: 2026-12-01, source: x}
    revised: [{added: 2026-12-01, context: 2000}]
  b: {tokenizer: other, thinking: never, expected_output: 1, added: 2026-12-01, speed: {first_token: 1s, per_token: 1ms}}
prices:
  - {provider: openai, upstream: a, from: 2026-01-01, until: 2026-11-25, input: 4 USD, output: 4 USD, source: x}
  - {provider: openai, upstream: a, from: 2026-11-25, input: 3 USD, output: 3 USD, source: x}
  - {provider: azure, upstream: a, from: 2026-01-01, input: 9 USD, output: 9 USD, dropped: 2026-12-01, source: wrong}
  - {provider: azure, upstream: a, from: 2026-01-01, input: 5 USD, output: 5 USD, added: 2026-12-01, source: x}
benchmarks: {exam: {category: code, unit: percent}}
scores:
  - {model: a, benchmark: exam, value: 50, date: 2026-10-01, by: vendor, source: x}
  - {model: a, benchmark: exam, value: 60, date: 2026-10-02, by: independent, added: 2026-12-01, source: x}
";

#[test]
fn a_set_holds_what_had_come_by_its_date_and_nothing_that_came_later() {
    let files = [("a.yaml", TWO_SETS)];
    let read = |pin| Catalog::read(&files, pin);
    let (old, new) = (read(Some(civil::date(2026, 11, 23))), read(None));
    let models = |set: &Catalog| set.models.keys().map(|name| name.to_string()).collect::<Vec<_>>();
    assert_eq!((models(&old), models(&new)), (vec!["a".to_owned()], vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!((old.models["a"].context, new.models["a"].context), (1000, 2000));
    assert_eq!((old.models["a"].max_output, new.models["a"].max_output), (100, 100));
    assert_eq!((old.models["a"].offers.len(), new.models["a"].offers.len()), (1, 2));
    assert_eq!((old.scores.len(), new.scores.len()), (1, 2));
    let price = |set: &Catalog, provider, at: &str| {
        let rows = set.prices_of(provider, None, "a");
        crate::base::price::in_force(&rows, at.parse().unwrap()).map(|row| row.rates[0].input / 1_000_000_000)
    };
    for (at, of_old, of_new) in [("2026-11-01T00:00Z", 4, 4), ("2026-12-24T00:00Z", 4, 3)] {
        assert_eq!(price(&old, "openai", at), Some(of_old), "{at}: the pinned price goes on");
        assert_eq!(price(&new, "openai", at), Some(of_new), "{at}");
    }
    assert_eq!(
        (price(&old, "azure", "2026-12-24T00:00Z"), price(&new, "azure", "2026-12-24T00:00Z")),
        (Some(9), Some(5))
    );
}

/// Eight hex digits of everything that the set of `pin` holds besides holidays.
fn digest(pin: civil::Date) -> String {
    use sha2::{Digest, Sha256};
    let set = Catalog::read(FILES, Some(pin));
    let mut prices: Vec<_> = set.prices.iter().collect();
    prices.sort_by_key(|(pair, _)| *pair);
    let mut sha = Sha256::new();
    for (pair, rows) in prices {
        for VendorPrice { region, row } in rows {
            sha.update(format!("{pair:?} {region:?} {:?} {:?} {:?}", row.from, row.until, row.rates));
            let windows = row.calendar.iter();
            windows
                .for_each(|window| sha.update(format!("{:?} {:?} {}", window.opens, window.days, window.factor_ppm)));
        }
    }
    for (name, entry) in &set.models {
        sha.update(format!("{name} {entry:?}"));
    }
    for row in &set.scores {
        sha.update(format!("{} {} {} {} {:?}", row.model, row.benchmark, row.value, row.date, row.by));
    }
    sha.update(format!("{:?}", set.benchmarks));
    sha.finalize()[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Who pins a date is moved by no new binary: what a set that was shipped holds stays as it is. A change comes as a row
/// with `added:` (and `dropped:` on the one before), never as an edit.
#[test]
fn a_set_that_was_shipped_never_changes() {
    assert_eq!(digest(civil::date(2026, 11, 23)), "15e0f291");
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
