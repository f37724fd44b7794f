//! The results file: one line an answer, written as it comes, so that a run that was killed goes on where it was.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Write},
    path::Path,
};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::{
    ask::Spent,
    suite::{Question, Suite},
};
use crate::config;

/// What became of one question.
#[derive(Clone, Debug)]
pub struct Done {
    /// Which question, by its place in the suite.
    pub question: usize,
    /// Which model, as named on the command line.
    pub model: String,
    /// The verdict; `None` = it was not answered.
    pub right: Option<bool>,
    /// What was read from the answer, or why there is none.
    pub note: String,
    /// What it took, the judge's part included.
    pub spent: Spent,
}

/// The file, and what stands in it. It is locked while this lives: two runs would pass each other's budget.
#[derive(Debug)]
pub struct Results {
    file: File,
    /// Verdicts by (model, question's id), of the questions as they are.
    known: BTreeMap<(String, String), (bool, Spent)>,
    /// All that the file says was spent, unanswered questions included, in nano-USD.
    pub spent_nanousd: i128,
    /// Lines between others that are no results.
    pub unread: u64,
}

/// One line.
struct Row {
    model: String,
    id: String,
    /// The question's digest.
    question: String,
    right: Option<bool>,
    spent: Spent,
}

impl Row {
    /// A line as [`Results::append`] writes it; nothing else is one.
    fn read(line: &[u8]) -> Option<Self> {
        let row: Value = serde_json::from_slice(line).ok()?;
        let text = |key: &str| row[key].as_str().map(str::to_owned);
        let known = row["v"] == 1 && row["suite"].is_string() && row.get("right").is_some();
        let cost = config::decimal(row["cost_usd"].as_str()?, 9).ok().filter(|cost| known && *cost >= 0)?;
        Some(Self {
            model: text("model")?,
            id: text("id")?,
            question: text("question")?,
            right: row["right"].as_bool(),
            spent: Spent {
                nanousd: cost,
                input: row["input_tokens"].as_u64().unwrap_or(0),
                output: row["output_tokens"].as_u64().unwrap_or(0),
                ms: row["ms"].as_u64().unwrap_or(0),
            },
        })
    }
}

impl Results {
    /// Opens the file, and reads what it says of this suite's questions. A last line that was cut off is taken out, if
    /// those before it are a run's.
    ///
    /// # Errors
    /// A file that cannot be read or written, that another run writes, or that is not a run's.
    pub fn open(path: &Path, suite: &Suite) -> anyhow::Result<Self> {
        let shown = path.display();
        let file = OpenOptions::new().read(true).append(true).create(true).open(path);
        let mut file = file.with_context(|| format!("`{shown}` cannot be written"))?;
        if !file.metadata()?.is_file() {
            bail!("`{shown}` is not a plain file\nhint: name one with `--results`");
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another run writes `{shown}`\nhint: wait for its end, or name another file with `--results`")
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("`{shown}` cannot be locked"));
            }
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).with_context(|| format!("`{shown}` cannot be read"))?;
        let mut results = Self { file, known: BTreeMap::new(), spent_nanousd: 0, unread: 0 };
        results.read(&bytes, suite).with_context(|| format!("`{shown}` was left as it is"))?;
        Ok(results)
    }

    fn read(&mut self, bytes: &[u8], suite: &Suite) -> anyhow::Result<()> {
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let (lines, tail) = bytes.split_at(whole);
        let foreign = "it is not a results file of `turnpike score`\nhint: name another with `--results`";
        let mut own = false;
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
            match Row::read(line) {
                Some(row) => self.take(row, suite),
                None if !own => bail!(foreign),
                None => self.unread += 1,
            }
            own = true;
        }
        match Row::read(tail) {
            _ if tail.is_empty() => {}
            // Only the end of its line is missing.
            Some(row) => {
                self.file.write_all(b"\n")?;
                self.take(row, suite);
            }
            None if !own => bail!(foreign),
            None => self.file.set_len(whole as u64)?,
        }
        Ok(())
    }

    fn take(&mut self, row: Row, suite: &Suite) {
        self.spent_nanousd = self.spent_nanousd.saturating_add(row.spent.nanousd);
        // A question that was edited since is another one.
        let same = |question: &Question| question.id == row.id && question.digest == row.question;
        if let Some(right) = row.right
            && suite.questions.iter().any(same)
        {
            self.known.insert((row.model, row.id), (right, row.spent));
        }
    }

    /// Writes one line; it is in the system's hands when this returns, so it survives the end of the process.
    ///
    /// # Errors
    /// The system's error.
    pub fn append(&mut self, suite: &Suite, done: &Done) -> anyhow::Result<()> {
        let question = &suite.questions[done.question];
        let line = json!({
            "v": 1,
            "suite": suite.digest,
            "benchmark": suite.benchmark(question.category),
            "model": done.model,
            "id": question.id,
            "question": question.digest,
            "right": done.right,
            "note": done.note,
            "cost_usd": super::nano(done.spent.nanousd),
            "input_tokens": done.spent.input,
            "output_tokens": done.spent.output,
            "ms": done.spent.ms,
            "at": jiff::Timestamp::now().to_string(),
        });
        self.file.write_all((line.to_string() + "\n").as_bytes()).context("the results cannot be written")?;
        let (model, id, digest) = (done.model.clone(), question.id.clone(), question.digest.clone());
        self.take(Row { model, id, question: digest, right: done.right, spent: done.spent }, suite);
        Ok(())
    }

    /// The verdict on a question, with what it took.
    pub fn verdict(&self, model: &str, id: &str) -> Option<(bool, Spent)> {
        self.known.get(&(model.to_owned(), id.to_owned())).copied()
    }
}
