//! Usage: what is counted in which group, and in which currency.

use jiff::{Timestamp, tz::TimeZone};

use super::{
    Dimension, Stretch,
    ask::Ask,
    sample::{NOON, charged, price, price_in_yuan, row, settled},
    usage::{Exchange, Query, Sums, Usage},
};
use crate::{
    base::money::{Currency, ExchangeRate},
    ledger::row::{Row, Tokens},
};

fn always() -> Stretch {
    Stretch { since: Timestamp::MIN, until: Timestamp::MAX }
}

fn query(by: &str) -> Query {
    let by = by.split(',').filter_map(Dimension::parse).collect();
    Query { stretch: always(), by, filter: super::Filter::default(), zone: TimeZone::UTC, currency: None }
}

fn usage(requests: &[Vec<Row>], query: &Query) -> Usage {
    let mut usage = Usage::default();
    requests.iter().for_each(|rows| usage.add(&settled(rows.clone()), query));
    usage
}

fn group<'u>(usage: &'u Usage, key: &[&str]) -> &'u Sums {
    let key: Vec<String> = key.iter().map(|&part| part.into()).collect();
    usage.groups.get(&key).unwrap_or_else(|| panic!("{key:?} is not among {:?}", usage.groups.keys()))
}

#[test]
fn a_request_counts_once_where_its_last_attempt_was_made() {
    let requests = [
        vec![row(1, 1, "a", 1000, 100, price()), row(1, 2, "b", 1000, 200, price())],
        vec![row(2, 1, "a", 1000, 100, price())],
    ];
    let usage = usage(&requests, &query("model"));
    assert_eq!((usage.total.requests, usage.total.attempts), (2, 3));
    assert_eq!((group(&usage, &["a"]).requests, group(&usage, &["a"]).attempts), (1, 2));
    assert_eq!((group(&usage, &["b"]).requests, group(&usage, &["b"]).attempts), (1, 1));
    assert_eq!(usage.total.charge, 3 * 2_500_000 + 1_000_000 + 2_000_000 + 1_000_000);
    assert_eq!(usage.groups.values().map(|sums| sums.charge).sum::<i128>(), usage.total.charge);
}

#[test]
fn days_are_told_in_the_zone_and_labels_by_their_name() {
    let mut late = row(1, 1, "a", 1, 1, price());
    late.at_ms = "2026-11-30T23:30:00Z".parse::<Timestamp>().unwrap().as_millisecond();
    let berlin =
        Query { zone: TimeZone::get("Europe/Berlin").unwrap(), ..query("month,week,day,hour,label:cost_center") };
    let usage = usage(&[vec![late]], &berlin);
    group(&usage, &["2026-12", "2026-W49", "2026-12-01", "2026-12-01T00:00+01:00", "4711"]);
}

#[test]
fn a_correction_changes_sums_and_counts_as_nothing() {
    let mut swept = row(1, 1, "a", 0, 0, price());
    (swept.swept, swept.charge_nanousd, swept.tokens) = (true, 5_000_000, Tokens::default());
    let mut correction = charged(row(1, 1, "a", 1000, 0, price()));
    (correction.revision, correction.charge_nanousd) = (1, 2_500_000 - 5_000_000);
    let usage = usage(&[vec![swept], vec![correction]], &query(""));
    assert_eq!((usage.total.requests, usage.total.attempts), (1, 1));
    assert_eq!((usage.total.charge, usage.total.swept, usage.total.tokens.input), (2_500_000, 5_000_000, 1000));
}

#[test]
fn what_another_node_swept_counts_no_more_once_its_owner_is_back_in_whichever_groups() {
    let swept = |request| {
        let mut row = row(request, 0, "a", 0, 0, price());
        (row.swept, row.charge_nanousd, row.tokens, row.outcome) = (true, 5, Tokens::default(), "swept".into());
        row
    };
    let corrected =
        |request| Row { revision: 1, swept: false, charge_nanousd: -5, outcome: "corrected".into(), ..swept(request) };
    let own = |request| vec![row(request, 1, "a", 1, 1, price()), row(request, 2, "a", 1, 1, price())];
    let requests =
        [vec![swept(1)], vec![swept(2)], vec![corrected(1)], own(1), vec![swept(3)], vec![corrected(2)], own(2)];
    for by in ["outcome", "model", "outcome,model", ""] {
        let usage = usage(&requests, &query(by));
        assert_eq!((usage.total.requests, usage.total.attempts), (3, 5), "{by}");
        let sums = |of: fn(&Sums) -> u64| usage.groups.values().map(of).sum::<u64>();
        assert_eq!((sums(|sums| sums.requests), sums(|sums| sums.attempts)), (3, 5), "{by}");
    }
    let usage = usage(&requests, &query("outcome"));
    assert_eq!((group(&usage, &["swept"]).requests, group(&usage, &["corrected"]).attempts), (1, 0));
}

#[test]
fn what_a_vendor_bills_in_the_currency_is_taken_as_it_is_and_the_rest_exchanged() {
    let yuan = Currency::parse("CNY").unwrap();
    let rates = vec![ExchangeRate { nanousd: 125_000_000, from: Timestamp::MIN }];
    let query = Query { currency: Some(Exchange { currency: yuan, rates }), ..query("model") };
    let requests =
        [vec![row(1, 1, "ds", 1_000_000, 0, price_in_yuan())], vec![row(2, 1, "gpt", 1_000_000, 0, price())]];
    let usage = usage(&requests, &query);
    // 2 CNY as billed, although a yuan was booked at 0.1389 USD; 2.50 USD at 0.125 USD are 20 CNY.
    assert_eq!(group(&usage, &["ds"]).in_currency(yuan), Some(2_000_000_000));
    assert_eq!(group(&usage, &["gpt"]).in_currency(yuan), Some(20_000_000_000));
    assert_eq!(usage.total.in_currency(yuan), Some(22_000_000_000));
    assert_eq!(usage.total.in_currency(Currency::USD), Some(277_800_000 + 2_500_000_000));
    let without = Query { currency: Some(Exchange { currency: yuan, rates: Vec::new() }), ..query };
    assert_eq!(super::tests::usage(&requests, &without).total.in_currency(yuan), None);
}

#[test]
fn questions_are_read_and_what_is_wrong_is_told() {
    let now = Timestamp::from_millisecond(NOON).unwrap();
    let read = |pairs: &[(&str, &str)]| {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Ask::read(&pairs, now)
    };
    let ask =
        read(&[("by", "team,model"), ("month", "2026-11"), ("zone", "Europe/Berlin"), ("team", "search")]).unwrap();
    assert_eq!(ask.by, [Dimension::Team, Dimension::Model]);
    assert_eq!(ask.stretch.since.to_string(), "2026-10-31T23:00:00Z");
    assert_eq!(ask.stretch.until.to_string(), "2026-11-30T23:00:00Z");
    assert_eq!(ask.filter.0, [(Dimension::Team, vec!["search".to_owned()])]);
    assert_eq!(read(&[]).unwrap().stretch.until, now);
    assert_eq!(read(&[]).unwrap().stretch.since.to_string(), "2026-11-01T00:00:00Z");
    let against = read(&[("against", "2026-10-01..2026-10-08")]).unwrap().against.unwrap();
    assert_eq!(against.until.to_string(), "2026-10-08T00:00:00Z");
    for (wrong, problem) in [
        (&[("by", "colour")][..], "rows have no `colour`"),
        (&[("month", "2026-13")], "`2026-13` is not a month"),
        (&[("month", "2026-11"), ("since", "2026-11-01")], "both `month`"),
        (&[("since", "2026-11-02"), ("until", "2026-11-01")], "ends before it begins"),
        (&[("since", "yesterday")], "`yesterday` is not a time"),
        (&[("zone", "Mars/Olympus")], "no zone `Mars/Olympus`"),
        (&[("currency", "yuan")], "`yuan` is not a currency"),
        (&[("label", "4711")], "`4711` is not a label"),
    ] {
        let told = read(wrong).unwrap_err().to_string();
        assert!(told.contains(problem) && told.contains("hint: "), "{told}");
    }
}
