//! The charts of a report, as SVG. Each is drawn twice, for wide and for narrow windows, so that letters have the size of
//! letters on both; the page shows the one that fits.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};

use super::{escape, minute};
use crate::{
    admin::api::{ReplayAnswer, SideLine},
    cli::replay::table::usd,
    telemetry::record::line::Label,
};

/// The two sizes of a chart, in pixels of the window that it is for.
const SIZES: [Size; 2] = [
    Size { class: "wide", width: 860, beside: true, ticks: 3 },
    Size { class: "narrow", width: 360, beside: false, ticks: 2 },
];
/// What a letter of a label takes at most, and what a line of them does.
const LETTER: i64 = 8;
const LINE: i64 = 16;
/// What a sum of the answer is of.
const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// The most points of a line.
const POINTS: usize = 400;

struct Size {
    class: &'static str,
    width: i64,
    /// Names stand beside their bars rather than above.
    beside: bool,
    /// How many instants the axis of time names.
    ticks: usize,
}

/// Both costs as they add up over time, from nothing at the first hour's beginning.
pub(super) fn costs(page: &mut String, answer: &ReplayAnswer) {
    let Some((first, _)) = answer.hours.first_key_value() else { return };
    let mut sums = [0_i128; 2];
    let mut points: Vec<(Timestamp, [i128; 2])> = Vec::with_capacity(answer.hours.len() + 1);
    points.push((*first, sums));
    for (at, costs) in &answer.hours {
        (0..2).for_each(|side| sums[side] += i128::from(costs[side]));
        points.push((at.checked_add(HOUR).unwrap_or(*at), sums));
    }
    let (every, last) = (points.len().div_ceil(POINTS), points.len() - 1);
    let kept = points.into_iter().enumerate().filter(|(at, _)| at % every == 0 || *at == last);
    let points: Vec<_> = kept.map(|(_, point)| point).collect();
    page.push_str("<section><h2>Cost in USD, added up</h2>\n");
    key(page, ["━ before", "┅ after"]);
    let told = format!("Cost added up over time: {} USD before, {} USD after", nano(sums[0]), nano(sums[1]));
    for size in &SIZES {
        lines(page, size, &points, &told);
    }
    page.push_str("</section>\n");
}

fn lines(page: &mut String, size: &Size, points: &[(Timestamp, [i128; 2])], told: &str) {
    let (Some((first, _)), Some((end, sums))) = (points.first(), points.last()) else { return };
    let most = sums[0].max(sums[1]).max(1);
    let step = step(most);
    let levels: Vec<i128> = (0..=(most + step - 1) / step).map(|times| times * step).collect();
    let (top, height) = (levels.last().copied().unwrap_or(most), 260);
    let letters = levels.iter().map(|level| nano(*level).len()).max().unwrap_or(0);
    let left = LETTER * i64::try_from(letters).unwrap_or(0) + 12;
    let span = i128::from(end.as_second() - first.as_second()).max(1);
    let x = |at: Timestamp| {
        i128::from(left) + i128::from(at.as_second() - first.as_second()) * i128::from(size.width - left - 10) / span
    };
    let y = |sum: i128| i128::from(height - 28) - sum * i128::from(height - 28 - 10) / top;
    begin(page, size, height, told);
    for level in &levels {
        let _ = writeln!(
            page,
            "<line class=\"grid\" x1=\"{left}\" x2=\"{}\" y1=\"{1}\" y2=\"{1}\"/><text x=\"{2}\" y=\"{3}\" \
             text-anchor=\"end\">{4}</text>",
            size.width,
            y(*level),
            left - 8,
            y(*level) + 4,
            nano(*level)
        );
    }
    let ticks = size.ticks.min(points.len());
    for tick in 0..ticks {
        let share = points.len().saturating_sub(1) * tick / (ticks - 1).max(1);
        let at = points.get(share).map_or(*first, |point| point.0);
        let anchor = if tick == 0 {
            "start"
        } else if tick + 1 == ticks {
            "end"
        } else {
            "middle"
        };
        let _ =
            writeln!(page, "<text x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>", x(at), height - 6, minute(at));
    }
    for (side, class) in [(0, "old"), (1, "new")] {
        let path: Vec<String> = points.iter().map(|(at, sums)| format!("{},{}", x(*at), y(sums[side]))).collect();
        let _ = writeln!(page, "<polyline class=\"{class}\" points=\"{}\"/>", path.join(" "));
    }
    page.push_str("</svg>\n");
}

/// Two bars for each of `labels`: `value` of it on each side, and how that is written.
pub(super) fn bars(
    page: &mut String,
    answer: &ReplayAnswer,
    labels: &[&Label],
    told: &str,
    value: impl Fn(&SideLine, &Label) -> (i64, String),
) {
    let sides = [("old", &answer.old), ("new", &answer.new)];
    let values = labels.iter().flat_map(|label| sides.map(|(_, side)| value(side, label)));
    let (mut most, mut letters) = (1, 0);
    for (amount, text) in values {
        (most, letters) = (amount.max(most), text.len().max(letters));
    }
    key(page, ["■ before", "■ after"]);
    for size in &SIZES {
        let names = labels.iter().map(|label| label.to_string().chars().count()).max().unwrap_or(0);
        let left = if size.beside { LETTER * i64::try_from(names.min(40)).unwrap_or(0) + 8 } else { 0 };
        let above = if size.beside { 0 } else { LINE };
        let room = size.width - left - LETTER * i64::try_from(letters).unwrap_or(0) - 12;
        let row = above + 2 * 18 + 10;
        begin(page, size, row * i64::try_from(labels.len()).unwrap_or(0) + 4, told);
        for (at, label) in labels.iter().enumerate() {
            let top = row * i64::try_from(at).unwrap_or(0) + 4;
            let (x, y, anchor) = if size.beside { (left - 8, top + 22, "end") } else { (0, top + 10, "start") };
            let name = escape(&short(label));
            let _ = writeln!(page, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{name}</text>");
            for (offset, (class, side)) in [0, 18].into_iter().zip(sides) {
                let ((amount, text), top) = (value(side, label), top + above + offset);
                let width = i128::from(amount.max(0)) * i128::from(room.max(1)) / i128::from(most);
                let _ = writeln!(
                    page,
                    "<rect class=\"{class}\" x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"16\" rx=\"2\"/><text \
                     x=\"{}\" y=\"{}\">{text}</text>",
                    i128::from(left) + width + 6,
                    top + 13
                );
            }
        }
        page.push_str("</svg>\n");
    }
}

/// A name that is longer than a chart has room for, cut in the middle.
fn short(label: &Label) -> String {
    let letters: Vec<char> = label.to_string().chars().collect();
    if letters.len() <= 40 {
        return letters.into_iter().collect();
    }
    letters[..20].iter().chain(['…'].iter()).chain(&letters[letters.len() - 19..]).collect()
}

fn begin(page: &mut String, size: &Size, height: i64, told: &str) {
    let _ = writeln!(
        page,
        "<svg class=\"{}\" viewBox=\"0 0 {} {height}\" role=\"img\" aria-label=\"{}\">",
        size.class,
        size.width,
        escape(told)
    );
}

fn key(page: &mut String, [old, new]: [&str; 2]) {
    let _ = writeln!(page, "<p class=\"key\"><span class=\"old\">{old}</span> <span class=\"new\">{new}</span></p>");
}

/// A round number of which four or five reach `most`: 1, 2 or 5 times a power of ten.
fn step(most: i128) -> i128 {
    let rough = ((most + 3) / 4).max(1);
    let mut unit = 1;
    while unit * 10 <= rough {
        unit *= 10;
    }
    [1, 2, 5, 10].map(|times| times * unit).into_iter().find(|step| *step >= rough).unwrap_or(rough)
}

fn nano(amount: i128) -> String {
    usd(i64::try_from(amount).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_three_to_five_round_numbers_above_nothing() {
        for most in (1..5_000).chain([16_370_352_446, 1 << 40, i128::from(i64::MAX)]) {
            let step = step(most);
            let many = (most + step - 1) / step;
            assert!((1..=4).contains(&many) && (most < 4 || many >= 2), "{most}: {many} of {step}");
            let digits = step.to_string();
            assert!(digits.trim_end_matches('0').len() == 1, "{most}: {step}");
        }
    }
}
