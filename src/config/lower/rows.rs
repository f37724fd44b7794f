//! Price rows, the operator's and the catalog's, and which of them holds where both do.

use std::sync::Arc;

use jiff::{Timestamp, civil, tz::TimeZone};

use super::super::{tree::Node, units};
use crate::base::{
    money::Currency,
    price::{PriceRow, Rate, When, Window},
    tier::Tier,
};

/// Finds holidays by name.
pub type Holidays<'a> = &'a dyn Fn(&str) -> Option<Arc<[civil::Date]>>;

/// The keys of a rate that are amounts of money.
pub const RATES: [&str; 7] =
    ["input", "cached_input", "cache_write", "output", "reasoning", "audio_input", "audio_output"];

/// The row that `node` holds; `None` where something does not fit.
pub fn row(node: &Node, holidays: Holidays<'_>) -> Option<PriceRow> {
    let rates: Vec<Rate> = match node.get("rates") {
        Some(tiers) => tiers.items().iter().map(rate).collect::<Option<_>>()?,
        None => vec![rate(node)?],
    };
    let windows = node.get("calendar").map(Node::items).unwrap_or_default();
    Some(PriceRow {
        currency: currencies(node).next()?.1,
        from: node.read("from", units::instant).unwrap_or(Timestamp::MIN),
        until: node.read("until", units::instant),
        rates,
        calendar: windows.iter().map(|node| window(node, holidays)).collect::<Option<_>>()?,
        source: Arc::from(node.word("source").unwrap_or_default()),
        own: false,
    })
}

/// The currencies of all amounts of a row, with the nodes that they stand in.
pub fn currencies(node: &Node) -> impl Iterator<Item = (&Node, Currency)> {
    let tiers = node.get("rates").map(Node::items).unwrap_or_default();
    let places = std::iter::once(node).chain(tiers);
    let amounts = places.flat_map(|place| RATES.iter().filter_map(|key| place.get(key)));
    amounts.filter_map(|amount| Some((amount, units::money(amount.text()?).ok()?.1)))
}

fn rate(node: &Node) -> Option<Rate> {
    let amount = |key: &str| node.read(key, units::money).map(|(nano, _)| nano);
    let (input, output) = (amount("input")?, amount("output")?);
    Some(Rate {
        when: node.get("when").map(when).unwrap_or_default(),
        input,
        cached_input: amount("cached_input").unwrap_or(input),
        cache_write: amount("cache_write").unwrap_or(input),
        output,
        reasoning: amount("reasoning").unwrap_or(output),
        audio_input: amount("audio_input").unwrap_or(input),
        audio_output: amount("audio_output").unwrap_or(output),
    })
}

fn when(node: &Node) -> When {
    When {
        tier: node.word("tier").map(Tier::parse).unwrap_or_default(),
        input_upto: node.read("input_upto", units::count),
        output_upto: node.read("output_upto", units::count),
        thinking: node.word("thinking").map(|word| word == "true"),
    }
}

fn window(node: &Node, holidays: Holidays<'_>) -> Option<Window> {
    let mut days = [node.get("days").is_none(); 7];
    for span in node.get("days").map(Node::items).unwrap_or_default() {
        for day in span.text().and_then(|text| units::weekdays(text).ok())? {
            days[day] = true;
        }
    }
    let midnight = civil::Time::midnight();
    let (opens, closes) = node.read("hours", units::hours).unwrap_or((midnight, midnight));
    Some(Window {
        zone: node.read("zone", units::zone).unwrap_or(TimeZone::UTC),
        days,
        not_on: node.word("not_on").and_then(holidays).unwrap_or_default(),
        opens,
        closes,
        factor_ppm: node.read("factor", units::factor)?,
    })
}

/// A list of days, sorted.
pub fn days(node: &Node) -> Arc<[civil::Date]> {
    let dates = node.items().iter().filter_map(Node::text);
    let mut dates: Vec<civil::Date> = dates.filter_map(|text| units::day(text).ok()).collect();
    dates.sort_unstable();
    dates.dedup();
    dates.into()
}

/// The operator's rows with the catalog's around them: where both hold, only the operator's is left. Both come
/// sorted by `from`, and so does the result.
pub fn merge(own: &[Arc<PriceRow>], catalog: &[Arc<PriceRow>]) -> Vec<Arc<PriceRow>> {
    let mut merged: Vec<Arc<PriceRow>> = own.to_vec();
    for row in catalog {
        let ends = end_of(row, catalog);
        let mut begins = row.from;
        for taken in own.iter().filter(|taken| taken.from < ends) {
            if begins < taken.from {
                merged.push(cut(row, begins, taken.from));
            }
            begins = begins.max(end_of(taken, own));
        }
        if begins < ends {
            merged.push(cut(row, begins, ends));
        }
    }
    merged.sort_by_key(|row| row.from);
    merged
}

/// Where a row of a sorted list ends: at its `until`, or where the next begins.
pub fn end_of(row: &PriceRow, rows: &[Arc<PriceRow>]) -> Timestamp {
    let next = rows.iter().map(|other| other.from).find(|from| *from > row.from);
    row.until.unwrap_or(Timestamp::MAX).min(next.unwrap_or(Timestamp::MAX))
}

fn cut(row: &Arc<PriceRow>, from: Timestamp, until: Timestamp) -> Arc<PriceRow> {
    let until = (until != Timestamp::MAX).then_some(until);
    if from == row.from && until == row.until {
        return Arc::clone(row);
    }
    Arc::new(PriceRow { from, until, ..row.as_ref().clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dated(from: &str, until: Option<&str>, price: i64) -> Arc<PriceRow> {
        let instant = |text: &str| units::instant(text).unwrap();
        let rate = Rate {
            when: When::default(),
            input: price,
            cached_input: price,
            cache_write: price,
            output: price,
            reasoning: price,
            audio_input: price,
            audio_output: price,
        };
        Arc::new(PriceRow {
            currency: Currency::USD,
            from: instant(from),
            until: until.map(instant),
            rates: vec![rate],
            calendar: Vec::new(),
            source: Arc::from(""),
            own: false,
        })
    }

    /// The price of each month of 2025, 0 where none holds.
    fn months(rows: &[Arc<PriceRow>]) -> Vec<i64> {
        let at = |month: i8| civil::date(2025, month, 15).to_zoned(TimeZone::UTC).unwrap().timestamp();
        (1..=12)
            .map(|month| crate::base::price::in_force(rows, at(month)).map_or(0, |row| row.rates[0].input))
            .collect()
    }

    #[test]
    fn where_both_hold_only_the_operators_row_is_left() {
        let catalog =
            [dated("2025-01-01", Some("2025-03-01"), 1), dated("2025-03-01", None, 2), dated("2025-10-01", None, 3)];
        let own = [dated("2025-02-01", Some("2025-05-01"), 7), dated("2025-09-01", None, 8)];
        assert_eq!(months(&merge(&own, &catalog)), [1, 7, 7, 7, 2, 2, 2, 2, 8, 8, 8, 8]);
        assert_eq!(months(&merge(&[], &catalog)), [1, 1, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3]);
        assert_eq!(months(&merge(&own, &[])), [0, 7, 7, 7, 0, 0, 0, 0, 8, 8, 8, 8]);
    }

    #[test]
    fn an_open_row_of_the_operator_ends_where_the_next_begins() {
        let own = [dated("2025-02-01", None, 7), dated("2025-04-01", Some("2025-06-01"), 8)];
        let catalog = [dated("2025-01-01", None, 1)];
        assert_eq!(months(&merge(&own, &catalog)), [1, 7, 7, 8, 8, 1, 1, 1, 1, 1, 1, 1]);
    }
}
