//! The scores file: a policy file of `benchmarks:` and `scores:` that runs append to.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use jiff::{Timestamp, civil, tz::TimeZone};
use serde_json::Value;

use super::suite::Suite;
use crate::{
    base::{facts::Category, scores::wilson},
    config,
};

/// One score: a model's share of right answers in a category of a suite.
#[derive(Clone, Debug)]
pub struct Row {
    /// The model, as the policies call it.
    pub model: String,
    /// The category.
    pub category: Category,
    /// Right answers.
    pub right: u32,
    /// Questions asked, all answered.
    pub asked: u32,
}

const HEAD: &str = "# Written by `turnpike score`. Runs append to it; rows may be taken out by hand.\n";

impl Row {
    /// The share with Wilson's 95 % interval, in per cent with two decimals.
    pub fn share(&self) -> (String, String, String) {
        let (share, low, high) = wilson(self.right, self.asked).unwrap_or_default();
        // The ends are rounded outwards, so that the value is never beside them.
        (format!("{share:.2}"), format!("{:.2}", low.min(share)), format!("{:.2}", high.max(share)))
    }

    fn line(&self, suite: &Suite, day: civil::Date) -> String {
        let (share, low, high) = self.share();
        let quoted = |text: &str| Value::from(text).to_string();
        format!(
            "  - {{model: {}, benchmark: {}, value: {share}, date: {day}, by: own, sample_size: {}, interval: [{low}, {high}], source: {}}}",
            quoted(&self.model),
            quoted(&suite.benchmark(self.category)),
            self.asked,
            quoted(&format!("turnpike score, suite {} ({})", suite.name, suite.digest)),
        )
    }
}

/// What the file is to hold after a run: what stands there, the suite's benchmarks, and a line for each row. A row of
/// the same model, benchmark and day takes the place of the one before.
///
/// # Errors
/// A text whose sections stand otherwise than a run writes them.
pub fn merged(before: &str, suite: &Suite, rows: &[Row], at: Timestamp) -> anyhow::Result<String> {
    let day = at.to_zoned(TimeZone::UTC).date();
    let text = if before.trim().is_empty() { format!("{HEAD}benchmarks:\nscores:\n") } else { before.to_owned() };
    let (benchmarks, _) = sections(&text)?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for row in rows {
        let line = row.line(suite, day);
        let begins = line.split("value:").next().unwrap_or_default().to_owned();
        let dated = format!("date: {day}, by: own");
        match lines.iter().position(|known| known.starts_with(&begins) && known.contains(&dated)) {
            Some(known) => lines[known] = line,
            None => lines.push(line),
        }
    }
    let mut seen: Vec<Category> = Vec::new();
    for category in rows.iter().map(|row| row.category) {
        let key = format!("  {}:", Value::from(suite.benchmark(category)));
        if !seen.contains(&category) && !lines.iter().any(|line| line.starts_with(&key)) {
            let floor = suite.floor(category);
            lines.insert(
                benchmarks + 1,
                format!("{key} {{category: {category}, unit: percent, floor: {floor}, ceiling: 100}}"),
            );
        }
        seen.push(category);
    }
    Ok(lines.join("\n") + "\n")
}

/// Whether a run's rows can be appended to the file: known before anything is asked.
///
/// # Errors
/// A file that is another's, or cannot be read or written, or that would not load.
pub fn fits(path: &Path, suite: &Suite, models: &[String]) -> anyhow::Result<()> {
    let shown = path.display();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        bail!("`{shown}` cannot be written: there is no folder `{}`\nhint: make it first", folder.display());
    }
    let before = read(path)?;
    let covered = |category: &Category| suite.of(*category).next().is_some();
    let row = |model: &String, category| Row { model: bare(model).to_owned(), category, right: 0, asked: 1 };
    let rows = models.iter().flat_map(|model| {
        Category::ALL.into_iter().filter(covered).map(move |category| row(model, category)).collect::<Vec<_>>()
    });
    let text = merged(&before, suite, &rows.collect::<Vec<_>>(), Timestamp::now());
    text.and_then(|text| well_formed(&text)).with_context(|| format!("`{shown}`"))?;
    let next = next(path);
    let there = next.exists();
    let tried = fs::OpenOptions::new().append(true).create(true).open(&next);
    tried
        .and_then(|_| if there { Ok(()) } else { fs::remove_file(&next) })
        .with_context(|| format!("`{shown}` cannot be written"))
}

/// A model without the backend that it may be named with: a score belongs to the model, whoever served it.
pub fn bare(model: &str) -> &str {
    model.split('@').next().unwrap_or(model)
}

/// Where the file's next version is written.
fn next(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.next", path.display()))
}

fn read(path: &Path) -> anyhow::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => Ok(text),
        Ok(_) => Ok(format!("{HEAD}benchmarks:\nscores:\n")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(format!("{HEAD}benchmarks:\nscores:\n")),
        Err(error) => Err(error).with_context(|| format!("`{}` cannot be read", path.display())),
    }
}

/// Where the sections begin, as lines.
fn sections(text: &str) -> anyhow::Result<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let place = |key: &str| lines.iter().position(|line| line.trim_end() == key);
    let (Some(benchmarks), Some(scores)) = (place("benchmarks:"), place("scores:")) else {
        bail!("the file does not look like one of `turnpike score`: it has no lines `benchmarks:` and `scores:`");
    };
    if scores < benchmarks
        || lines[scores + 1..].iter().any(|line| !line.is_empty() && !line.starts_with([' ', '#', '-']))
    {
        bail!("`scores:` is not the last section of the file");
    }
    Ok((benchmarks, scores))
}

/// Appends rows to the file, whole or not at all.
///
/// # Errors
/// A file that is another's, that would not load, or that cannot be written.
pub fn append(path: &Path, suite: &Suite, rows: &[Row], at: Timestamp) -> anyhow::Result<()> {
    let shown = path.display();
    let before = read(path)?;
    let text = merged(&before, suite, rows, at).with_context(|| format!("`{shown}` was left as it is"))?;
    well_formed(&text).with_context(|| format!("`{shown}` was left as it is"))?;
    let next = next(path);
    let mut file = fs::File::create(&next).with_context(|| format!("`{shown}` cannot be written"))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&next, path).with_context(|| format!("`{shown}` cannot be written"))
}

/// Whether a text is what a policy file may hold; that its models are not here is no fault.
fn well_formed(text: &str) -> anyhow::Result<()> {
    let files = [(PathBuf::from("scores.yaml"), text.to_owned())];
    let Err(faults) = config::from_texts(&files, &|_| None, Timestamp::now()) else { return Ok(()) };
    let unknown = |title: &str| title.starts_with("no model ");
    match faults.list.iter().find(|fault| !unknown(&fault.title)) {
        Some(fault) => bail!("it would be at fault: {}", fault.summary()),
        None => Ok(()),
    }
}
