//! The register of scores as JSON.

use jiff::civil;
use serde_json::{Value, json};

use super::{Known, by, half_day};
use crate::base::{
    facts::Category,
    scores::{
        Right, Scores, Unit,
        account::{Account, Carried, Out, Sides},
    },
};

/// The register on a day.
pub struct View<'a> {
    /// The day whose knowledge it is.
    pub day: civil::Date,
    /// Only this category.
    pub category: Option<Category>,
    /// The register.
    pub scores: &'a Scores,
    /// What is shown.
    pub known: &'a [Known<'a>],
}

impl View<'_> {
    /// Whether a category is shown.
    pub fn shows(&self, category: Category) -> bool {
        self.category.is_none_or(|wanted| wanted == category)
    }

    /// All of it.
    pub fn json(&self) -> Value {
        let trust = self.scores.trust();
        json!({
            "day": self.day.to_string(),
            "fit": self.scores.fit(self.day).label().as_ref(),
            "trust": {
                "vendor": trust.vendor,
                "independent": trust.independent,
                "own": trust.own,
                "half_life_days": trust.half_life_days,
            },
            "models": self.known.iter().map(|known| self.model(known)).collect::<Vec<_>>(),
        })
    }

    fn model(&self, known: &Known<'_>) -> Value {
        let Some(account) = known.account else {
            return json!({"model": known.name, "overall": null, "categories": {}, "rows": []});
        };
        let categories = account.categories.iter().filter(|(category, ..)| self.shows(*category));
        let categories: serde_json::Map<String, Value> =
            categories.map(|(category, chance, sides)| (category.to_string(), fitted(*chance, *sides))).collect();
        let rows = rows(self, account).map(|carried| self.row(carried));
        json!({
            "model": known.name,
            "register_name": account.model.as_str(),
            "overall": account.overall.map(right),
            "categories": categories,
            "rows": rows.collect::<Vec<_>>(),
        })
    }

    fn row(&self, carried: &Carried<'_>) -> Value {
        let row = carried.row;
        let unit = carried.benchmark.map(|benchmark| match benchmark.unit {
            Unit::Elo => json!({"name": "elo"}),
            Unit::Percent { floor, ceiling } => json!({"name": "percent", "floor": floor, "ceiling": ceiling}),
        });
        json!({
            "benchmark": row.benchmark.as_str(),
            "category": carried.benchmark.map(|benchmark| benchmark.category.as_str()),
            "unit": unit,
            "value": row.value,
            "fit_expects": carried.expected,
            "date": row.date.to_string(),
            "by": by(row.by),
            "sample_size": row.sample,
            "interval": row.interval.map(|(low, high)| [low, high]),
            "trust": carried.reading.map(|reading| reading.trust),
            "freshness": carried.reading.map(|reading| reading.freshness),
            "precision": carried.reading.map(|reading| reading.precision),
            "weight": carried.reading.map(|reading| reading.weight()),
            "counts": carried.out.is_none(),
            "out": carried.out.map(why),
            "counts_half_on": half_day(self.scores, row.date).map(|day| day.to_string()),
            "expires": row.expires.map(|day| day.to_string()),
            "source": row.source.as_ref(),
        })
    }
}

/// The rows of an account that the view shows.
pub fn rows<'a>(view: &View<'_>, account: &'a Account<'a>) -> impl Iterator<Item = &'a Carried<'a>> {
    let category = view.category;
    account.rows.iter().filter(move |carried| {
        category.is_none_or(|wanted| carried.benchmark.is_some_and(|benchmark| benchmark.category == wanted))
    })
}

/// Why a row does not count.
pub const fn why(out: Out) -> &'static str {
    match out {
        Out::NotDescribed => "its benchmark is not described",
        Out::Expired => "expired",
        Out::Superseded => "its measurer has a newer one",
        Out::Weightless => "weighs nothing",
    }
}

fn right(right: Right) -> Value {
    json!({"right_ppm": right.ppm, "low_ppm": right.low_ppm, "high_ppm": right.high_ppm, "rows": right.rows})
}

fn fitted(chance: Option<Right>, sides: Option<Sides>) -> Value {
    let sides = sides
        .map(|sides| json!({"vendor_ppm": sides.vendor_ppm, "others_ppm": sides.others_ppm, "disagree": sides.parted}));
    json!({"fitted": chance.map(right), "vendor_and_others": sides})
}
