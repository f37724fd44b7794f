//! The table: medians over the rounds, and Turnpike's ratios to nginx and the floor within each round.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, TableComponent, presets};

/// What is measured, in the order of the table.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Key {
    RequestCpu,
    RequestRate,
    RequestBusy,
    Waited,
    LatencyMiddle,
    LatencyTail,
    PacedCpu,
    BurstCpu,
    BurstRate,
    FirstMiddle,
    FirstTail,
    CrowdMiddle,
    CrowdTail,
    CrowdCpu,
    MemoryRest,
    MemoryUsed,
    MemoryStream,
    Start,
}

/// How a figure is compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Compare {
    /// As it is.
    Plain,
    /// What the proxy adds to the same round's `direct`.
    Added,
}

/// What the measure is held to; `None` where it is only told.
#[derive(Clone, Copy, Debug)]
enum Goal {
    /// At most so many times the floor.
    OfFloor(f64),
    /// At least so many times nginx.
    OfNginx(f64),
    /// At most this figure.
    AtMost(f64),
    /// At most this figure, or so many times the floor.
    AtMostOr(f64, f64),
    None,
}

struct Row {
    key: Key,
    title: &'static str,
    decimals: usize,
    compare: Compare,
    goal: Goal,
}

const fn row(key: Key, title: &'static str, decimals: usize, compare: Compare, goal: Goal) -> Row {
    Row { key, title, decimals, compare, goal }
}

/// The goals are those of the project's speed budget for one core, keep-alive, no TLS.
const ROWS: [Row; 18] = [
    row(Key::RequestCpu, "CPU per request, 64 connections (µs)", 1, Compare::Plain, Goal::OfFloor(1.5)),
    row(Key::RequestRate, "requests/s on one core", 0, Compare::Plain, Goal::OfNginx(0.5)),
    row(Key::RequestBusy, "  proxy's core busy (%)", 0, Compare::Plain, Goal::None),
    row(Key::Waited, "  proxy ready, core taken (%): noise", 0, Compare::Plain, Goal::None),
    row(Key::LatencyMiddle, "added latency, 1 connection, p50 (µs)", 0, Compare::Added, Goal::AtMost(65.0)),
    row(Key::LatencyTail, "added latency, 1 connection, p99 (µs)", 0, Compare::Added, Goal::AtMost(170.0)),
    row(Key::PacedCpu, "CPU per event, paced 20 ms (µs)", 1, Compare::Plain, Goal::OfFloor(1.15)),
    row(Key::BurstCpu, "CPU per event, burst (µs)", 2, Compare::Plain, Goal::AtMostOr(12.0, 0.95)),
    row(Key::BurstRate, "  events/s, burst (thousands)", 0, Compare::Plain, Goal::None),
    row(Key::FirstMiddle, "added to first byte of stream, p50 (ms)", 2, Compare::Added, Goal::AtMost(0.5)),
    row(Key::FirstTail, "added to first byte of stream, p99 (ms)", 2, Compare::Added, Goal::AtMost(3.0)),
    row(Key::CrowdMiddle, "1000 streams × 50/s, p50 (of ideal time)", 3, Compare::Plain, Goal::AtMost(1.05)),
    row(Key::CrowdTail, "1000 streams × 50/s, p99 (of ideal time)", 3, Compare::Plain, Goal::AtMost(1.075)),
    row(Key::CrowdCpu, "  CPU per event among them (µs)", 1, Compare::Plain, Goal::None),
    row(Key::MemoryRest, "memory at rest (MB)", 1, Compare::Plain, Goal::AtMost(20.0)),
    row(Key::MemoryUsed, "  after the first request (MB)", 1, Compare::Plain, Goal::None),
    row(Key::MemoryStream, "memory per open stream (kB)", 1, Compare::Plain, Goal::AtMost(32.0)),
    row(Key::Start, "start until it listens (ms)", 0, Compare::Plain, Goal::AtMost(100.0)),
];

/// All readings: one per round for each measure of each subject.
#[derive(Default)]
pub struct Report {
    readings: BTreeMap<(Key, &'static str), Vec<f64>>,
}

impl Report {
    /// Adds one round's reading.
    pub fn add(&mut self, subject: &'static str, key: Key, value: f64) {
        self.readings.entry((key, subject)).or_default().push(value);
    }

    /// The figures of `subject` by round, compared as the row wants it; `direct` is never subtracted from itself.
    fn figures(&self, row: &Row, subject: &'static str) -> Vec<f64> {
        let own = self.readings.get(&(row.key, subject)).cloned().unwrap_or_default();
        let direct = self.readings.get(&(row.key, "direct"));
        match (row.compare, direct) {
            (Compare::Added, Some(direct)) if subject != "direct" => {
                own.iter().zip(direct).map(|(own, direct)| own - direct).collect()
            }
            _ => own,
        }
    }

    /// The table, with a column for each of `subjects`.
    pub fn table(&self, subjects: &[&'static str]) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_style(TableComponent::HeaderLines, '─');
        table.set_style(TableComponent::MiddleHeaderIntersections, '─');
        let mut header = vec!["one core, median of rounds"];
        header.extend(subjects);
        header.extend(["÷ nginx", "÷ floor", "goal", ""]);
        table.set_header(header);
        for row in &ROWS {
            if !self.readings.keys().any(|(key, _)| *key == row.key) {
                continue;
            }
            let mut cells = vec![row.title.to_owned()];
            for subject in subjects {
                let figures = self.figures(row, subject);
                cells.push(median(figures).map_or("–".into(), |figure| format!("{figure:.*}", row.decimals)));
            }
            let (of_nginx, of_floor) = (self.ratios(row, "nginx"), self.ratios(row, "floor"));
            cells.extend([spread(&of_nginx), spread(&of_floor), row.goal.text()]);
            cells.push(self.verdict(row, of_nginx, of_floor));
            table.add_row(cells);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    fn ratios(&self, row: &Row, other: &'static str) -> Vec<f64> {
        let own = self.figures(row, "turnpike");
        own.iter().zip(self.figures(row, other)).map(|(own, other)| own / other).collect()
    }

    fn verdict(&self, row: &Row, of_nginx: Vec<f64>, of_floor: Vec<f64>) -> String {
        let figure = median(self.figures(row, "turnpike"));
        let met = match row.goal {
            Goal::OfFloor(most) => median(of_floor).map(|ratio| ratio <= most),
            Goal::OfNginx(least) => median(of_nginx).map(|ratio| ratio >= least),
            Goal::AtMost(most) => figure.map(|figure| figure <= most),
            Goal::AtMostOr(most, of) => {
                figure.map(|figure| figure <= most || median(of_floor).is_some_and(|ratio| ratio <= of))
            }
            Goal::None => None,
        };
        met.map_or("", |met| if met { "met" } else { "MISSED" }).to_owned()
    }
}

impl Goal {
    fn text(self) -> String {
        match self {
            Self::OfFloor(most) => format!("≤ {most} × floor"),
            Self::OfNginx(least) => format!("≥ {least} × nginx"),
            Self::AtMost(most) => format!("≤ {most}"),
            Self::AtMostOr(most, of) => format!("≤ {most} or {of} × floor"),
            Self::None => String::new(),
        }
    }
}

/// The median and, where rounds differ, the least and the greatest.
fn spread(ratios: &[f64]) -> String {
    let Some(middle) = median(ratios.to_vec()) else { return "–".into() };
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if ratios.len() == 1 { format!("{middle:.2}") } else { format!("{middle:.2} ({least:.2}–{most:.2})") }
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_unstable_by(f64::total_cmp);
    match figures.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(figures[odd / 2]),
        even => Some((figures[even / 2 - 1] + figures[even / 2]) / 2.0),
    }
}
