//! The answer of a script, word by word.

use ::redis::Value;

use super::protocol::Unknown;

/// The words of an answer.
pub struct Words(std::vec::IntoIter<Value>);

impl Words {
    /// The answer of a script.
    pub fn of(value: Value) -> Result<Self, Unknown> {
        match value {
            Value::Array(values) => Ok(Self(values.into_iter())),
            _ => Err(Unknown),
        }
    }

    /// The next word as text.
    pub fn text(&mut self) -> Result<String, Unknown> {
        match self.0.next() {
            Some(Value::BulkString(bytes)) => String::from_utf8(bytes).map_err(|_| Unknown),
            Some(Value::SimpleString(text)) => Ok(text),
            Some(Value::Int(number)) => Ok(number.to_string()),
            _ => Err(Unknown),
        }
    }

    /// The next word as a number.
    pub fn number(&mut self) -> Result<i64, Unknown> {
        match self.0.next() {
            Some(Value::Int(number)) => Ok(number),
            Some(Value::BulkString(bytes)) => {
                std::str::from_utf8(&bytes).ok().and_then(|t| t.parse().ok()).ok_or(Unknown)
            }
            _ => Err(Unknown),
        }
    }

    /// How many words are left.
    pub fn left(&self) -> usize {
        self.0.len()
    }

    /// The next word, which holds words itself.
    pub fn words(&mut self) -> Result<Self, Unknown> {
        self.0.next().ok_or(Unknown).and_then(Self::of)
    }
}
