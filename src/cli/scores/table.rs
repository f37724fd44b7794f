//! The register of scores as tables: one line a model, or every row of one.

use comfy_table::{CellAlignment, Table, presets};

use super::{
    Known, by, half_day, percent,
    view::{View, rows, why},
};
use crate::base::{
    facts::Category,
    scores::{
        Right, Unit,
        account::{Account, Carried, Sides},
    },
};

fn plain(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(head);
    table
}

/// One line a model: the fitted chance of each category with its low end.
pub fn overview(view: &View<'_>) -> String {
    let categories: Vec<Category> = Category::ALL.into_iter().filter(|category| view.shows(*category)).collect();
    let mut head = vec!["model", "rows", "overall"];
    head.extend(categories.iter().map(|category| category.as_str()));
    let mut table = plain(&head);
    let mut known: Vec<&Known<'_>> = view.known.iter().collect();
    let ability = |known: &Known<'_>| known.account.and_then(|account| account.overall).map_or(0, |right| right.ppm);
    known.sort_by(|a, b| ability(b).cmp(&ability(a)).then_with(|| a.name.cmp(&b.name)));
    let mut parted = false;
    for known in known {
        let mut cells = vec![known.name.clone()];
        let Some(account) = known.account else {
            cells.extend(["0".to_owned(), "no score".to_owned()]);
            table.add_row(cells);
            continue;
        };
        let counted = account.rows.iter().filter(|carried| carried.out.is_none()).count();
        cells.extend([counted.to_string(), account.overall.map_or_else(|| "–".to_owned(), short)]);
        for (category, right, sides) in &account.categories {
            let differ = sides.is_some_and(|sides| sides.parted);
            parted |= differ && view.shows(*category);
            let mark = if differ { " !" } else { "" };
            let rows = rows_of(account, *category);
            // Without a row of its own a category only repeats the overall ability.
            let cell = right.filter(|_| rows > 0).map_or_else(|| "–".to_owned(), |right| short(right) + mark);
            cells.extend(view.shows(*category).then_some(cell));
        }
        table.add_row(cells);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let fit = view.scores.fit(view.day).label();
    let legend =
        if parted { "\n! vendor and others disagree by more than chance: `turnpike scores MODEL`" } else { "" };
    format!("right answers in per cent (the low end of the interval in brackets), fit {fit}\n{table}{legend}")
}

fn rows_of(account: &Account<'_>, category: Category) -> usize {
    let of_category = |carried: &&Carried<'_>| {
        carried.out.is_none() && carried.benchmark.is_some_and(|benchmark| benchmark.category == category)
    };
    account.rows.iter().filter(of_category).count()
}

fn short(right: Right) -> String {
    format!("{} ({})", percent(right.ppm), percent(right.low_ppm))
}

fn long(right: Right) -> String {
    let (ppm, low, high) = (percent(right.ppm), percent(right.low_ppm), percent(right.high_ppm));
    format!("{ppm} % (80 % interval {low}–{high} %, {} rows)", right.rows)
}

/// Every row of one model.
pub fn detailed(view: &View<'_>) -> String {
    let mut parts: Vec<String> = Vec::new();
    for known in view.known {
        let Some(account) = known.account else {
            parts.push(format!("{}: no row names it; it counts as one of the weakest tenth", known.name));
            continue;
        };
        parts.push(head(view, known, account));
        for (category, right, sides) in &account.categories {
            let of_category =
                |carried: &&Carried<'_>| carried.benchmark.is_some_and(|benchmark| benchmark.category == *category);
            let rows: Vec<&Carried<'_>> = rows(view, account).filter(of_category).collect();
            if view.shows(*category) && !rows.is_empty() {
                parts.push(section(view, *category, *right, *sides, &rows));
            }
        }
        let loose: Vec<&Carried<'_>> = rows(view, account).filter(|carried| carried.benchmark.is_none()).collect();
        if !loose.is_empty() {
            parts.push(format!("benchmarks that are not described\n{}", lines(view, &loose)));
        }
    }
    parts.join("\n\n")
}

fn head(view: &View<'_>, known: &Known<'_>, account: &Account<'_>) -> String {
    let register = if known.name == account.model.as_str() {
        String::new()
    } else {
        format!(" (`{}` of the register)", account.model)
    };
    let overall = account.overall.map_or_else(|| "no row tells anything".to_owned(), long);
    let trust = view.scores.trust();
    format!(
        "{}{register} on {}: overall {overall}\ntrust: vendor {}, independent {}, own {}; half-life {} days",
        known.name, view.day, trust.vendor, trust.independent, trust.own, trust.half_life_days
    )
}

fn section(
    view: &View<'_>,
    category: Category,
    right: Option<Right>,
    sides: Option<Sides>,
    rows: &[&Carried<'_>],
) -> String {
    let right = right.map_or_else(|| "nothing to compare with".to_owned(), long);
    let sides = sides.map(|sides| {
        let (vendor, others) = (percent(sides.vendor_ppm), percent(sides.others_ppm));
        let verdict = if sides.parted { "they disagree by more than chance" } else { "within chance" };
        format!("; the vendor's rows alone say {vendor} %, the others' {others} %: {verdict}")
    });
    format!("{category}: {right}{}\n{}", sides.unwrap_or_default(), lines(view, rows))
}

fn lines(view: &View<'_>, rows: &[&Carried<'_>]) -> String {
    let head = ["benchmark", "value", "fit", "sample", "date", "by", "fresh", "exact", "weight", "half on", "source"];
    let mut table = plain(&head);
    for carried in rows {
        let row = carried.row;
        let unit = match carried.benchmark.map(|benchmark| benchmark.unit) {
            Some(Unit::Elo) => " elo",
            Some(Unit::Percent { .. }) => " %",
            None => "",
        };
        let part = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"));
        let sample =
            [row.sample.map(|sample| sample.to_string()), row.interval.map(|(low, high)| format!("[{low}, {high}]"))];
        let source = match carried.out {
            Some(out) => format!("does not count, {}; {}", why(out), row.source),
            None => row.source.to_string(),
        };
        let half = half_day(view.scores, row.date).map_or_else(|| "never".to_owned(), |day| day.to_string());
        table.add_row([
            row.benchmark.to_string(),
            format!("{}{unit}", row.value),
            carried.expected.map_or_else(|| "–".to_owned(), |expected| format!("{expected:.1}")),
            sample.into_iter().flatten().collect::<Vec<_>>().join(" "),
            row.date.to_string(),
            by(row.by).to_owned(),
            part(carried.reading.map(|reading| reading.freshness)),
            part(carried.reading.map(|reading| reading.precision)),
            part(carried.reading.map(|reading| reading.weight())),
            row.expires.map_or(half, |day| format!("ends {day}")),
            source,
        ]);
    }
    for column in [1, 2, 6, 7, 8] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}
