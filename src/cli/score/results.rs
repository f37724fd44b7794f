//! The results file: one line an answer, written as it comes, so that a run that was killed goes on where it was.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
};

use anyhow::Context;
use serde_json::{Value, json};

use super::{ask::Spent, suite::Suite};
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

/// The file, and what stands in it.
#[derive(Debug)]
pub struct Results {
    file: File,
    /// Verdicts by (model, question's id), of the questions as they are.
    known: BTreeMap<(String, String), (bool, Spent)>,
    /// All that the file says was spent, unanswered questions included, in nano-USD.
    pub spent_nanousd: i128,
}

impl Results {
    /// Opens the file, and reads what it says of this suite's questions. A line that was cut off by a kill is taken out.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn open(path: &Path, suite: &Suite) -> anyhow::Result<Self> {
        let shown = path.display();
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = file.with_context(|| format!("`{shown}` cannot be written"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).with_context(|| format!("`{shown}` cannot be read"))?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        file.set_len(whole as u64)?;
        file.seek(SeekFrom::End(0))?;
        let mut results = Self { file, known: BTreeMap::new(), spent_nanousd: 0 };
        for line in String::from_utf8_lossy(&bytes[..whole]).lines() {
            results.take(&serde_json::from_str(line).unwrap_or_default(), suite);
        }
        Ok(results)
    }

    fn take(&mut self, row: &Value, suite: &Suite) {
        if row["v"] != 1 {
            return;
        }
        let spent = Spent {
            nanousd: row["cost_usd"].as_str().and_then(|text| config::decimal(text, 9).ok()).unwrap_or(0),
            input: row["input_tokens"].as_u64().unwrap_or(0),
            output: row["output_tokens"].as_u64().unwrap_or(0),
            ms: row["ms"].as_u64().unwrap_or(0),
        };
        self.spent_nanousd = self.spent_nanousd.saturating_add(spent.nanousd);
        let (model, id) = (row["model"].as_str().unwrap_or_default(), row["id"].as_str().unwrap_or_default());
        if let Some(right) = row["right"].as_bool() {
            // A question that was edited since is another one.
            let same =
                suite.questions.iter().any(|question| question.id == id && row["question"] == question.digest.as_str());
            if same {
                self.known.insert((model.to_owned(), id.to_owned()), (right, spent));
            }
        }
    }

    /// Writes one line; it is in the system's hands when this returns, so it survives the end of the process.
    ///
    /// # Errors
    /// The system's error.
    pub fn append(&mut self, suite: &Suite, done: &Done) -> anyhow::Result<()> {
        let question = &suite.questions[done.question];
        let row = json!({
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
        self.file.write_all((row.to_string() + "\n").as_bytes()).context("the results cannot be written")?;
        self.take(&row, suite);
        Ok(())
    }

    /// The verdict on a question, with what it took.
    pub fn verdict(&self, model: &str, id: &str) -> Option<(bool, Spent)> {
        self.known.get(&(model.to_owned(), id.to_owned())).copied()
    }
}
