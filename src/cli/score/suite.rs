//! A benchmark suite: one JSON object a line, a question with the way its answer is judged.
//!
//! ```text
//! {"suite": "first-steps", "version": "1"}
//! {"id": "math-01", "category": "math", "prompt": "What is 6 × 7?", "check": {"number": "42"}}
//! ```

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, bail};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{super::flags, grade::Check, keys};
use crate::base::facts::Category;

/// The largest suite, in bytes.
const LONGEST: u64 = 64 << 20;
/// The most questions of a suite.
const MOST: usize = 100_000;
/// Fields of a suite's head; `about` is for who reads it.
const HEAD: [&str; 3] = ["suite", "version", "about"];
/// Fields of a question.
const FIELDS: [&str; 8] = ["id", "category", "prompt", "system", "messages", "params", "check", "about"];
/// Fields of a request that are the run's own.
const OURS: [&str; 5] = ["model", "messages", "stream", "n", "user"];

/// A suite.
#[derive(Debug)]
pub struct Suite {
    /// Its name with its version, as benchmarks are called: `first-steps-1`.
    pub name: String,
    /// Twelve hex digits of the SHA-256 of its text.
    pub digest: String,
    /// Its questions.
    pub questions: Vec<Question>,
}

/// One question.
#[derive(Debug)]
pub struct Question {
    /// Its name within the suite.
    pub id: String,
    /// Twelve hex digits of the SHA-256 of its line.
    pub digest: String,
    /// The kind of work.
    pub category: Category,
    /// The messages of the request.
    pub messages: Value,
    /// Further fields of the request, such as `temperature`.
    pub params: Map<String, Value>,
    /// How its answer is judged.
    pub check: Check,
}

impl Suite {
    /// Reads a suite.
    ///
    /// # Errors
    /// A file that cannot be read, and the first line that is no question, with its number.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let size = std::fs::metadata(path).with_context(|| format!("`{shown}` cannot be read"))?.len();
        if size > LONGEST {
            bail!("`{shown}` has {size} bytes; a suite has at most {LONGEST}");
        }
        let text = std::fs::read_to_string(path).with_context(|| format!("`{shown}` cannot be read"))?;
        let stem = path.file_stem().map_or_else(|| "suite".to_owned(), |stem| stem.to_string_lossy().into_owned());
        Self::parse(&text, &stem).map_err(|(line, error)| error.context(format!("{shown}:{line}")))
    }

    /// The same from its text; a fault comes with its line.
    fn parse(text: &str, stem: &str) -> Result<Self, (usize, anyhow::Error)> {
        // Some editors begin a file with a mark of its encoding.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut suite = Self { name: plain(stem), digest: digest(text), questions: Vec::new() };
        let (mut seen, mut headed) = (BTreeSet::new(), false);
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() {
                continue;
            }
            let fault = |error: anyhow::Error| (number, error);
            let row: Value = serde_json::from_str(line).map_err(|error| fault(anyhow::anyhow!("not JSON: {error}")))?;
            if row.get("suite").is_some() && suite.questions.is_empty() && !headed {
                suite.name = head(&row).map_err(fault)?;
                headed = true;
                continue;
            }
            let question = Question::read(&row, line).map_err(fault)?;
            if !seen.insert(question.id.clone()) {
                return Err(fault(anyhow::anyhow!("the id `{}` a second time", question.id)));
            }
            if suite.questions.len() >= MOST {
                return Err(fault(anyhow::anyhow!("more than {MOST} questions")));
            }
            suite.questions.push(question);
        }
        if suite.questions.is_empty() {
            return Err((1, anyhow::anyhow!("no question\nhint: {EXAMPLE}")));
        }
        Ok(suite)
    }

    /// What guessing reaches in a category, in per cent: the mean over its questions.
    pub fn floor(&self, category: Category) -> String {
        let chances: Vec<u32> = self.of(category).map(|question| question.check.guess_permille()).collect();
        let sum: u32 = chances.iter().sum();
        let count = u32::try_from(chances.len().max(1)).unwrap_or(u32::MAX);
        // In tenths of a per cent, rounded: no more is known of a guess.
        let tenths = sum.saturating_add(count / 2) / count;
        match tenths % 10 {
            0 => (tenths / 10).to_string(),
            tenth => format!("{}.{tenth}", tenths / 10),
        }
    }

    /// The questions of a category.
    pub fn of(&self, category: Category) -> impl Iterator<Item = &Question> {
        self.questions.iter().filter(move |question| question.category == category)
    }

    /// The benchmark that a category of it is.
    pub fn benchmark(&self, category: Category) -> String {
        format!("{}/{category}", self.name)
    }
}

const EXAMPLE: &str =
    r#"write one a line, as in `{"id": "m1", "category": "math", "prompt": "6 × 7?", "check": {"number": "42"}}`"#;

fn head(row: &Value) -> anyhow::Result<String> {
    row.as_object().map_or(Ok(()), |fields| keys::known(fields, &HEAD))?;
    let (name, version) = (row["suite"].as_str(), row["version"].as_str().unwrap_or_default());
    let name = name.filter(|name| !name.is_empty()).context("`suite` is the suite's name")?;
    Ok(plain(&if version.is_empty() { name.to_owned() } else { format!("{name}-{version}") }))
}

/// A name that may stand in a benchmark's.
fn plain(name: &str) -> String {
    name.chars().map(|letter| if letter.is_alphanumeric() || "-_.".contains(letter) { letter } else { '-' }).collect()
}

/// Twelve hex digits of the SHA-256 of a text.
fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

impl Question {
    fn read(row: &Value, line: &str) -> anyhow::Result<Self> {
        row.as_object().map_or(Ok(()), |fields| keys::known(fields, &FIELDS))?;
        let id = row["id"].as_str().filter(|id| !id.is_empty()).with_context(|| format!("no `id`\nhint: {EXAMPLE}"))?;
        let category = row["category"].as_str().with_context(|| {
            let known: Vec<&str> = Category::ALL.iter().map(|category| category.as_str()).collect();
            format!("no `category`\nhint: it is one of {}", known.join(", "))
        })?;
        let category = flags::category(category).map_err(anyhow::Error::msg)?;
        let messages = messages(row)?;
        let params = row.get("params").map_or_else(|| Some(Map::new()), |params| params.as_object().cloned());
        let params = params.context("`params` is a mapping of fields, as in `{\"temperature\": 0}`")?;
        if let Some(ours) = OURS.iter().find(|key| params.contains_key(**key)) {
            bail!("`params` may not hold `{ours}`");
        }
        let check = Check::read(&row["check"]).with_context(|| format!("`check` of `{id}`"))?;
        Ok(Self { id: id.to_owned(), digest: digest(line.trim()), category, messages, params, check })
    }
}

/// The messages of a question: its own, or its prompt.
fn messages(row: &Value) -> anyhow::Result<Value> {
    let message = |role: &str, content: &str| serde_json::json!({"role": role, "content": content});
    match (&row["messages"], &row["prompt"], &row["system"]) {
        (Value::Array(messages), Value::Null, Value::Null) if !messages.is_empty() => {
            Ok(Value::Array(messages.clone()))
        }
        (Value::Null, Value::String(prompt), Value::Null) => Ok(Value::Array(vec![message("user", prompt)])),
        (Value::Null, Value::String(prompt), Value::String(system)) => {
            Ok(Value::Array(vec![message("system", system), message("user", prompt)]))
        }
        (Value::Null, Value::String(_), _) => bail!("`system` is a text"),
        (Value::Array(_), Value::Null, system) if !system.is_null() => {
            bail!("`system` beside `messages`\nhint: make it the first of the messages")
        }
        _ => bail!("neither `prompt` nor `messages`, or both\nhint: {EXAMPLE}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_says_what_guessing_reaches_and_is_called_after_its_head() {
        let text = r#"{"suite": "mine", "version": "2"}
{"id": "a", "category": "code", "prompt": "?", "check": {"choice": "B", "of": 4}}
{"id": "b", "category": "code", "prompt": "?", "check": {"exact": "x"}}

{"id": "c", "category": "math", "prompt": "?", "check": {"number": "1"}}"#;
        let suite = Suite::parse(text, "file").unwrap();
        let marked = Suite::parse(&format!("\u{feff}{text}"), "file").unwrap();
        assert_eq!((&marked.name, marked.questions.len()), (&suite.name, 3), "a mark of the encoding is no JSON");
        assert_eq!(suite.benchmark(Category::Code), "mine-2/code");
        assert_eq!((suite.floor(Category::Code), suite.floor(Category::Math)), ("12.5".into(), "0".into()));
        assert_eq!(suite.questions.len(), 3);
    }

    #[test]
    fn the_suite_that_ships_is_read_and_covers_the_kinds_of_work() {
        let suite =
            Suite::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/policies/suites/first-steps.jsonl"))).unwrap();
        assert!(suite.questions.len() >= 40, "{}", suite.questions.len());
        let covered = Category::ALL.into_iter().filter(|category| suite.of(*category).count() >= 6).count();
        assert!(covered >= 7, "{covered} categories have six questions");
        assert!(
            suite.questions.iter().all(|question| !matches!(question.check, Check::Judge(_))),
            "no judge is needed"
        );
    }

    #[test]
    fn a_line_that_is_no_question_is_told_of_with_its_number() {
        let good = r#"{"id": "a", "category": "code", "prompt": "?", "check": {"exact": "x"}}"#;
        for (line, told) in [
            ("{", "not JSON"),
            ("{}", "no `id`"),
            (r#"{"id": "a", "category": "cooking", "prompt": "?"}"#, "there is no category `cooking`"),
            (r#"{"id": "a", "category": "maths", "prompt": "?"}"#, "did you mean `math`?"),
            (
                r#"{"id": "a", "categroy": "math", "prompt": "?"}"#,
                "unknown field `categroy`\nhint: did you mean `category`?",
            ),
            (r#"{"id": "b", "category": "math", "prompt": "?", "parms": {}}"#, "did you mean `params`?"),
            (r#"{"id": "b", "category": "math", "messages": [1], "system": "?"}"#, "`system` beside `messages`"),
            (r#"{"id": "b", "category": "math", "prompt": "?", "check": {"nubmer": 1}}"#, "did you mean `number`?"),
            (
                r#"{"id": "b", "category": "math", "prompt": "?", "check": {"number": 1, "tolerence": 1}}"#,
                "`check` of `b`: unknown field `tolerence`\nhint: did you mean `tolerance`?",
            ),
            (
                r#"{"id": "b", "category": "math", "prompt": "?", "check": {"number": 1, "exact": "1"}}"#,
                "both `exact` and `number`",
            ),
            (r#"{"suite": "again"}"#, "unknown field `suite`"),
            (r#"{"id": "b", "category": "code", "check": {"exact": "x"}}"#, "neither `prompt`"),
            (r#"{"id": "b", "category": "code", "prompt": "?", "check": {"guess": 1}}"#, "`check` of `b`"),
            (
                r#"{"id": "b", "category": "code", "prompt": "?", "params": {"model": "x"}, "check": {"exact": "x"}}"#,
                "`model`",
            ),
            (good, "a second time"),
        ] {
            let (number, error) = Suite::parse(&format!("{good}\n{line}"), "x").unwrap_err();
            assert!(number == 2 && format!("{error:#}").contains(told), "{line}: {error:#}");
        }
        assert!(Suite::parse("", "x").is_err());
        let (_, error) = Suite::parse("{\"suite\": \"x\", \"vresion\": \"1\"}", "x").unwrap_err();
        assert!(error.to_string().contains("did you mean `version`?"), "{error}");
    }
}
