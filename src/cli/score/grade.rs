//! Judging an answer: exact text, one of several choices, a number, a pattern, JSON, or another model's word.

use anyhow::{Context, bail};
use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::{
    keys,
    reading::{chosen, last_number},
    schema,
};
use crate::config;

/// How an answer is judged.
#[derive(Debug)]
pub enum Check {
    /// It is one of these texts, but for case, blanks and punctuation around it.
    Exact(Vec<String>),
    /// It names this choice, of so many (see `reading`).
    Choice(char, u32),
    /// Its last number is this one, within so much (both in 10⁻⁹).
    Number {
        /// The right number.
        value: i128,
        /// By how much it may differ.
        tolerance: i128,
    },
    /// It matches this pattern.
    Pattern(Regex),
    /// It is this JSON.
    Json(Value),
    /// It is JSON of this shape.
    Schema(Value),
    /// Another model says so, by this rubric.
    Judge(String),
}

/// A verdict on an answer.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// Right or wrong, and what was read from the answer.
    Read(bool, String),
    /// A judge is to be asked.
    Ask,
}

/// The ways to judge.
const KINDS: [&str; 7] = ["exact", "choice", "number", "regex", "json", "schema", "judge"];
/// The decimal places that numbers are compared to.
pub(super) const PLACES: usize = 9;
/// The longest pattern once it is compiled, in bytes.
const PATTERN: usize = 1 << 20;
/// How much of what was read is kept, in characters.
const KEPT: usize = 120;

impl Check {
    /// Reads `{"exact": "Paris"}` and its kin.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(node: &Value) -> anyhow::Result<Self> {
        let kind = kind(node)?;
        let value = &node[kind];
        Ok(match kind {
            "exact" => {
                let texts = match value {
                    Value::Array(texts) => texts.iter().map(|text| text.as_str().map(plain)).collect(),
                    text => text.as_str().map(|text| vec![plain(text)]),
                };
                let texts: Vec<String> = texts.context("`exact` is a text or a list of texts")?;
                if texts.iter().any(String::is_empty) || texts.is_empty() {
                    bail!("`exact` holds no text to compare with");
                }
                Self::Exact(texts)
            }
            "choice" => {
                let letter = value.as_str().and_then(|text| text.parse::<char>().ok());
                let letter =
                    letter.filter(char::is_ascii_uppercase).context("`choice` is one letter, as in `\"B\"`")?;
                let of = node["of"].as_u64().and_then(|of| u32::try_from(of).ok()).unwrap_or(4);
                if !(2..=26).contains(&of) || u32::from(letter) - u32::from('A') >= of {
                    bail!("`of` says how many choices there are, from 2 to 26, `{letter}` among them");
                }
                Self::Choice(letter, of)
            }
            "number" => number(value, &node["tolerance"])?,
            "regex" => {
                let text = value.as_str().context("`regex` is a pattern")?;
                let made = RegexBuilder::new(text).size_limit(PATTERN).build();
                Self::Pattern(made.map_err(|error| anyhow::anyhow!("`regex` cannot be read: {error}"))?)
            }
            "json" if value.is_object() || value.is_array() => Self::Json(value.clone()),
            "json" => bail!("`json` is an object or a list\nhint: a number is a `number`, a text is `exact`"),
            "schema" => {
                schema::check(value).context("`schema`")?;
                if matches!(value["type"].as_str(), Some("string" | "number" | "integer" | "boolean" | "null")) {
                    bail!("`schema` is of an object or a list\nhint: a number is a `number`, a text is `exact`");
                }
                Self::Schema(value.clone())
            }
            _ => Self::Judge(value.as_str().context("`judge` is a rubric")?.to_owned()),
        })
    }

    /// The chance that a guess is right, in thousandths.
    pub fn guess_permille(&self) -> u32 {
        match self {
            Self::Choice(_, of) => 1000 / of,
            Self::Exact(_)
            | Self::Number { .. }
            | Self::Pattern(_)
            | Self::Json(_)
            | Self::Schema(_)
            | Self::Judge(_) => 0,
        }
    }

    /// Judges an answer.
    pub fn grade(&self, answer: &str) -> Verdict {
        let (right, read) = match self {
            Self::Exact(texts) => {
                let said = [plain(answer), plain(last_word(answer))];
                (said.iter().any(|said| texts.contains(said)), said[1].clone())
            }
            Self::Choice(letter, of) => {
                let said = chosen(answer, *of);
                (said == Some(*letter), said.map(String::from).unwrap_or_default())
            }
            Self::Number { value, tolerance } => {
                let said = last_number(answer);
                let right = said.as_ref().is_some_and(|(said, _)| (said - value).abs() <= *tolerance);
                (right, said.map(|(_, text)| text).unwrap_or_default())
            }
            Self::Pattern(pattern) => {
                let found = pattern.find(answer);
                (found.is_some(), found.map_or("", |found| found.as_str()).to_owned())
            }
            Self::Json(value) => {
                let said = first_json(answer);
                (
                    said.as_ref().is_some_and(|said| schema::same(said, value)),
                    said.map(|said| said.to_string()).unwrap_or_default(),
                )
            }
            Self::Schema(shape) => {
                let said = first_json(answer);
                (
                    said.as_ref().is_some_and(|said| schema::fits(said, shape)),
                    said.map(|said| said.to_string()).unwrap_or_default(),
                )
            }
            Self::Judge(_) => return Verdict::Ask,
        };
        Verdict::Read(right, read.chars().take(KEPT).collect())
    }
}

/// The one way to judge that a check names, with nothing beside it that does not belong to it.
fn kind(node: &Value) -> anyhow::Result<&'static str> {
    let named: Vec<&str> = KINDS.into_iter().filter(|kind| node.get(kind).is_some()).collect();
    let fields = node.as_object();
    let kind = match named[..] {
        [kind] => kind,
        [] => {
            let word = fields.and_then(|fields| fields.keys().next()).map_or("", String::as_str);
            bail!("no known way to judge\nhint: {}", config::close_names(word, KINDS, ""));
        }
        [first, second, ..] => bail!("both `{first}` and `{second}`\nhint: an answer is judged in one way"),
    };
    let fits: &[&str] = match kind {
        "choice" => &["choice", "of"],
        "number" => &["number", "tolerance"],
        _ => &[kind],
    };
    fields.map_or(Ok(()), |fields| keys::known(fields, fits))?;
    Ok(kind)
}

/// `{"number": "3.14", "tolerance": "0.01"}`, or a tolerance in per cent of the number.
fn number(value: &Value, tolerance: &Value) -> anyhow::Result<Check> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let read = |text: &str| {
        config::decimal(text, PLACES).map_err(|error| anyhow::anyhow!("{}\nhint: {}", error.problem, error.hint))
    };
    let value = read(&text(value).context("`number` is a number, best as a text: `\"0.1\"`")?)?;
    let tolerance = match tolerance {
        Value::Null => 0,
        stated => {
            let text = text(stated).context("`tolerance` is a number or a share, as in `\"1%\"`")?;
            match text.strip_suffix('%') {
                Some(share) => read(share.trim())?.saturating_mul(value.abs()) / 100 / 10_i128.pow(9),
                None => read(&text)?,
            }
        }
    };
    if tolerance < 0 {
        bail!("a `tolerance` below zero");
    }
    Ok(Check::Number { value, tolerance })
}

/// Lower case, single blanks, without punctuation and marks around it.
fn plain(text: &str) -> String {
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    let around = |letter: char| {
        letter.is_ascii_punctuation() && !matches!(letter, '-' | '+' | '%' | '#') || "“”„‘’«»。".contains(letter)
    };
    words.join(" ").trim_matches(around).to_owned()
}

/// What stands behind the last `answer:`, else the last line.
fn last_word(answer: &str) -> &str {
    let lower = answer.to_ascii_lowercase();
    let behind = lower.rfind("answer:").and_then(|at| answer.get(at + "answer:".len()..));
    let behind = behind.and_then(|rest| rest.trim().lines().next());
    behind.or_else(|| answer.trim().lines().next_back()).unwrap_or_default()
}

/// The first JSON object or list of an answer, within a fence or not.
pub fn first_json(answer: &str) -> Option<Value> {
    let starts = answer.char_indices().filter(|(_, letter)| matches!(letter, '{' | '['));
    // A text of brackets without end is not worth more tries.
    starts.take(64).find_map(|(at, _)| {
        let mut values = serde_json::Deserializer::from_str(&answer[at..]).into_iter::<Value>();
        values.next()?.ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(check: &str, answer: &str) -> bool {
        let check = Check::read(&serde_json::from_str(check).unwrap()).unwrap();
        matches!(check.grade(answer), Verdict::Read(true, _))
    }

    #[test]
    fn a_text_counts_whatever_stands_around_it_and_no_other_does() {
        let check = r#"{"exact": ["Paris", "the city of Paris"]}"#;
        for answer in ["Paris", " paris. ", "**Paris**", "It lies on the Seine.\nAnswer: Paris", "So it is:\n\"Paris\""]
        {
            assert!(right(check, answer), "{answer}");
        }
        for answer in ["", "Not Paris but Lyon", "Paris, Texas"] {
            assert!(!right(check, answer), "{answer}");
        }
    }

    #[test]
    fn a_choice_is_read_behind_the_word_answer_at_the_beginning_or_alone() {
        let check = r#"{"choice": "B", "of": 4}"#;
        for answer in [
            "B",
            "(B)",
            "B) because A is wrong",
            "The answer is B.",
            "A is tempting, but the answer is **B**",
            "I think it is B",
            "b",
            "b.",
            "(b)",
            "b) because a) is wrong",
            "The answer is (b).",
            "The answer is b.",
            "**b**",
            "The answer is 'B'.",
            "It's 'b'",
            "Option B is right. A and C are wrong.",
            "(B) is the correct one, C is close.",
            "The correct option is B. C is wrong.",
            "A is correct? No: B is correct.",
        ] {
            assert!(right(check, answer), "{answer}");
        }
        for answer in [
            "",
            "C",
            "The answer is A, not B",
            "Because",
            "X",
            "A good question",
            "A is right. B and C are wrong.",
            "c)",
            "to be or not to b-",
            "The answer is c, as b is not.",
        ] {
            assert!(!right(check, answer), "{answer}");
        }
    }

    #[test]
    fn a_number_is_the_last_one_and_within_its_tolerance() {
        for (check, answer, expected) in [
            (r#"{"number": "42"}"#, "6 × 7 = 42", true),
            (r#"{"number": "42"}"#, "42.0", true),
            (r#"{"number": "42"}"#, "42.5", false),
            (r#"{"number": "1234.5"}"#, "It costs $1,234.50.", true),
            (r#"{"number": "-3"}"#, "x = -3", true),
            (r#"{"number": "-3"}"#, "x = 3", false),
            (r#"{"number": "3"}"#, "from 5-3", true),
            (r#"{"number": "3.14159", "tolerance": "0.002"}"#, "about 3.14", true),
            (r#"{"number": "100", "tolerance": "1%"}"#, "99", true),
            (r#"{"number": "100", "tolerance": "1%"}"#, "98.9", false),
            (r#"{"number": "7"}"#, "Answer: 7 (since 2 + 5 = 7, not 8)", false),
            (r#"{"number": "7"}"#, "none", false),
            (r#"{"number": "0.1"}"#, "The answer is .1", true),
            (r#"{"number": "-0.5"}"#, "x = -.5.", true),
            (r#"{"number": "1"}"#, "It is in v.1", true),
            (r#"{"number": "1500"}"#, "about 1.5e3", true),
            (r#"{"number": "1500000"}"#, "1.5E+6 m", true),
            (r#"{"number": "0.00015"}"#, "1.5e-4", true),
            (r#"{"number": "3"}"#, "3em", true),
            (r#"{"number": "7"}"#, "The answer is 42 (that is 6 times 7).", true),
        ] {
            assert_eq!(right(check, answer), expected, "{check} {answer}");
        }
    }

    #[test]
    fn patterns_and_json_are_found_in_what_is_written_around_them() {
        assert!(right(r#"{"regex": "(?i)^def \\w+\\("}"#, "def add(a, b): return a + b"));
        assert!(!right(r#"{"regex": "^$"}"#, "x"));
        let json = r#"{"json": {"a": 1, "b": [true, null]}}"#;
        assert!(right(json, "Here it is:\n```json\n{\"b\": [true, null], \"a\": 1.0}\n```"));
        assert!(!right(json, "{\"a\": 1}") && !right(json, "no"));
        let schema =
            r#"{"schema": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}}"#;
        assert!(right(schema, "{\"name\": \"x\"}") && !right(schema, "{\"name\": 1}"));
    }

    #[test]
    fn a_check_that_is_none_is_told_of() {
        for check in [
            "{}",
            r#"{"exact": ""}"#,
            r#"{"choice": "F", "of": 4}"#,
            r#"{"choice": "b"}"#,
            r#"{"number": "x"}"#,
            r#"{"number": "1", "tolerance": "-1"}"#,
            r#"{"regex": "("}"#,
            r#"{"schema": {"tpye": "x"}}"#,
            r#"{"judge": 1}"#,
            r#"{"json": 42}"#,
            r#"{"json": null}"#,
            r#"{"json": "a"}"#,
            r#"{"schema": {"type": "number"}}"#,
            r#"{"exact": "a", "of": 4}"#,
            r#"{"number": "1", "exact": "1"}"#,
        ] {
            assert!(Check::read(&serde_json::from_str(check).unwrap()).is_err(), "{check}");
        }
    }
}
