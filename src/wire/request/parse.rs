//! One pass over a body, by reference: skipped values are not built, strings not unescaped.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::{Deserializer, error::Category, value::RawValue};

use super::{
    BadRequest, ChatRequest,
    fields::{Draft, shown},
    messages::Messages,
};
use crate::wire::json::{self, Member, Span};

/// The deepest nesting that is accepted. JSON schemas in tools rarely pass 20.
const MAX_DEPTH: u32 = 64;
/// The most top-level fields; OpenAI documents about 40.
const MAX_FIELDS: usize = 256;

impl ChatRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// [`BadRequest`] when it is not a JSON object, `model` or `messages` is missing or of the wrong type, a field
    /// stands twice, a number is out of range, or it nests deeper than 64 levels.
    pub fn parse(body: Bytes) -> Result<Self, BadRequest> {
        if u32::try_from(body.len()).is_err() {
            return Err(BadRequest::body("the body is longer than 4 GiB"));
        }
        let text = std::str::from_utf8(&body).map_err(|error| not_utf8(&body, error.valid_up_to()))?;
        let mut reader = Reader { text, draft: Draft::default(), place: Place::Body, fault: None };
        reader.read()?;
        reader.draft.finish(&body, text)
    }
}

fn not_utf8(body: &[u8], at: usize) -> BadRequest {
    if body.starts_with(&[0xff, 0xfe]) || body.starts_with(&[0xfe, 0xff]) {
        return BadRequest::body("the body is UTF-16; hint: send JSON as UTF-8");
    }
    BadRequest::body(format!("the body is not valid UTF-8 at byte {at}; hint: send JSON as UTF-8"))
}

fn not_an_object(param: String) -> BadRequest {
    let message = format!("`{param}` must be an object");
    BadRequest::new(param, message)
}

/// What is being read, to name it in an error.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Body,
    Messages,
    Message(usize),
    Part(usize, usize),
}

/// The state of one reading.
pub(super) struct Reader<'a> {
    pub(super) text: &'a str,
    pub(super) draft: Draft<'a>,
    pub(super) place: Place,
    /// Why the reading stopped, where the reason is ours: serde's own would quote the value.
    pub(super) fault: Option<BadRequest>,
}

impl<'a> Reader<'a> {
    fn read(&mut self) -> Result<(), BadRequest> {
        if self.text.starts_with('\u{feff}') {
            return Err(BadRequest::body("the body begins with a byte order mark; hint: send it without"));
        }
        let start = json::skip_space(self.text.as_bytes(), 0) as usize;
        match self.text.as_bytes().get(start) {
            Some(b'{') => {}
            None => return Err(BadRequest::body("the body is empty; hint: send a JSON object")),
            Some(_) => return Err(BadRequest::body("the body must be a JSON object")),
        }
        if json::nests_deeper(self.text.as_bytes(), MAX_DEPTH) {
            return Err(BadRequest::body(format!("the body nests deeper than {MAX_DEPTH} levels")));
        }
        let mut deserializer = Deserializer::from_str(self.text);
        let read = deserializer.deserialize_map(Body(self)).and_then(|()| deserializer.end());
        read.map_err(|error| self.fault.take().unwrap_or_else(|| self.bad_json(&error)))
    }

    fn bad_json(&self, error: &serde_json::Error) -> BadRequest {
        match (error.classify(), self.place) {
            (Category::Data, Place::Messages) => BadRequest::new("messages", "`messages` must be an array of objects"),
            (Category::Data, Place::Message(index)) => not_an_object(format!("messages[{index}]")),
            (Category::Data, Place::Part(index, at)) => not_an_object(format!("messages[{index}].content[{at}]")),
            (Category::Data | Category::Io, _) => BadRequest::body("the body could not be read"),
            // Texts of these two classes are fixed phrases with a position; they quote nothing of the body.
            (Category::Syntax | Category::Eof, _) => BadRequest::body(format!("the body is not valid JSON: {error}")),
        }
    }

    /// Stops the reading for a reason of our own.
    pub(super) fn stop<E: serde::de::Error>(&mut self, fault: BadRequest) -> E {
        self.fault = Some(fault);
        E::custom("refused")
    }

    pub(super) fn span(&self, raw: &RawValue) -> Span {
        Span::of(self.text, raw.get())
    }

    pub(super) fn member(&self, key: &RawValue, value: &RawValue) -> Member {
        Member { key: self.span(key), value: self.span(value) }
    }

    /// The first byte of the value that follows `key`.
    pub(super) fn peek(&self, key: &RawValue) -> Option<u8> {
        let bytes = self.text.as_bytes();
        let colon = json::skip_space(bytes, self.span(key).end);
        bytes.get(json::skip_space(bytes, colon + 1) as usize).copied()
    }
}

struct Body<'r, 'a>(&'r mut Reader<'a>);

impl<'a> Visitor<'a> for Body<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen: Vec<Cow<'a, str>> = Vec::with_capacity(16);
        while let Some(key) = map.next_key::<&'a RawValue>()? {
            let name = json::text(key.get());
            if seen.contains(&name) {
                let name = shown(&name);
                let fault = BadRequest::new(name, format!("`{name}` stands twice; hint: send each field once"));
                return Err(self.0.stop(fault));
            }
            if seen.len() == MAX_FIELDS {
                let fault = BadRequest::body(format!("the body has more than {MAX_FIELDS} top-level fields"));
                return Err(self.0.stop(fault));
            }
            if name == "messages" {
                self.0.place = Place::Messages;
                map.next_value_seed(Messages(self.0))?;
                self.0.place = Place::Body;
            } else {
                let value = map.next_value::<&'a RawValue>()?;
                let member = self.0.member(key, value);
                self.0.draft.field(&name, member, value.get()).map_err(|fault| self.0.stop::<A::Error>(fault))?;
            }
            seen.push(name);
        }
        Ok(())
    }
}
