//! The conversation: roles, texts, images, audio, and where the reasoning of earlier turns stands.

use std::{fmt, ops::Range};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    BadRequest,
    fields::string,
    parse::{Place, Reader},
};
use crate::wire::json::{self, Member, Members, Span};

/// The most messages; what Turnpike keeps for each is a few bytes.
const MAX_MESSAGES: usize = 65_536;

/// What is kept of the conversation.
#[derive(Clone, Debug, Default)]
pub(super) struct Talk {
    pub(super) messages: u64,
    pub(super) images: u64,
    pub(super) audio: u64,
    /// Bytes of base64 in audio parts.
    pub(super) audio_bytes: u64,
    /// Bytes of parts of kinds not known here (files, videos).
    pub(super) other_bytes: u64,
    /// Messages with a `name`.
    pub(super) names: u64,
    /// All that a model reads as text: JSON strings, and tool calls as they stand.
    pub(super) texts: Vec<Span>,
    /// Assistant messages that the reasoning history may touch.
    pub(super) turns: Vec<Turn>,
    /// The texts of the last user message.
    user_texts: Range<usize>,
    /// Where the first message's first key stands.
    pub(super) start: u32,
    /// Where the last value that was read ends.
    pub(super) end: u32,
    /// What that was when the last assistant message began.
    pub(super) before_answer: Option<u32>,
    /// What that was when the first one began.
    pub(super) before_answers: Option<u32>,
}

/// An assistant message with reasoning or with tool calls.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    pub(super) reasoning: Option<Member>,
    pub(super) calls_tools: bool,
    /// Where its first key stands.
    pub(super) start: u32,
}

impl Talk {
    /// The texts of the last user message, as JSON strings.
    pub(super) fn last_user<'b>(&self, body: &'b str) -> impl Iterator<Item = &'b str> {
        let texts = self.texts.get(self.user_texts.clone()).unwrap_or_default();
        texts.iter().map(|span| span.text(body.as_bytes()))
    }

    /// Takes in a member of a message that is no array of parts.
    fn text(&mut self, name: &str, value: &RawValue, span: Span) {
        match name {
            "content" | "reasoning_content" | "reasoning" | "refusal" if value.get().starts_with('"') => {}
            "tool_calls" | "function_call" if json::says_something(value) => {}
            "name" if value.get().starts_with('"') => self.names += 1,
            _ => return,
        }
        self.texts.push(span);
    }

    /// Ends a message whose texts begin at `first_text`.
    fn close(&mut self, role: &str, first_text: usize, turn: Turn) {
        match role {
            "user" => self.user_texts = first_text..self.texts.len(),
            "assistant" if turn.calls_tools || turn.reasoning.is_some() => self.turns.push(turn),
            _ => {}
        }
    }

    /// Takes in a part of a message's content; `Err` says what is wrong with it.
    fn part(&mut self, part: &Part<'_>, base: &str) -> Result<(), &'static str> {
        let Some(kind) = part.kind else { return Err("has no `type`; hint: such as `text`") };
        if json::inner(kind.get()).is_none() {
            return Err("has a `type` that is no string");
        }
        // A server reads the string, not its escapes.
        let kind = json::text(kind.get());
        match &*kind {
            "image_url" | "input_image" | "image" => self.images += 1,
            "input_audio" => {
                self.audio += 1;
                self.audio_bytes += part.bytes;
            }
            _ => match part.text {
                Some(text) if text.get().starts_with('"') => self.texts.push(Span::of(base, text.get())),
                Some(_) => return Err("has a `text` that is no string"),
                None if kind == "text" => return Err("has no `text`"),
                None => self.other_bytes += part.bytes,
            },
        }
        Ok(())
    }
}

/// Reads the value of `messages`.
pub(super) struct Messages<'r, 'a>(pub(super) &'r mut Reader<'a>);

impl<'a> DeserializeSeed<'a> for Messages<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'a> Visitor<'a> for Messages<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<(), A::Error> {
        let reader = self.0;
        reader.draft.talk = Some(Talk::default());
        let mut index = 0;
        loop {
            reader.place = Place::Message(index);
            if seq.next_element_seed(Message { reader, index })?.is_none() {
                break;
            }
            index += 1;
            if index > MAX_MESSAGES {
                let message = format!("`messages` has more than {MAX_MESSAGES} entries");
                return Err(reader.stop(BadRequest::new("messages", message)));
            }
        }
        if index == 0 {
            let message = "`messages` is empty; hint: send at least one message";
            return Err(reader.stop(BadRequest::new("messages", message)));
        }
        reader.talk().messages = index as u64;
        Ok(())
    }
}

impl Reader<'_> {
    fn talk(&mut self) -> &mut Talk {
        self.draft.talk.get_or_insert_default()
    }
}

/// One message being read.
struct Message<'r, 'a> {
    reader: &'r mut Reader<'a>,
    index: usize,
}

impl<'a> DeserializeSeed<'a> for Message<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

/// The members of a message of which a second one would be read differently by different servers.
const ONCE: [&str; 4] = ["role", "content", "tool_calls", "reasoning_content"];

impl<'a> Visitor<'a> for Message<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { reader, index } = self;
        let (first_text, before) = (reader.talk().texts.len(), reader.talk().end);
        let mut seen = [false; ONCE.len()];
        let mut role = None;
        let mut turn = Turn { reasoning: None, calls_tools: false, start: u32::MAX };
        while let Some(key) = map.next_key::<&'a RawValue>()? {
            let name = json::text(key.get());
            turn.start = turn.start.min(reader.span(key).start);
            if let Some(at) = ONCE.iter().position(|once| *once == name)
                && std::mem::replace(&mut seen[at], true)
            {
                return Err(reader.stop(fault(index, &name, "stands twice; hint: send each field once")));
            }
            if name == "content" && reader.peek(key) == Some(b'[') {
                map.next_value_seed(Parts { reader, index })?;
                continue;
            }
            let value = map.next_value::<&'a RawValue>()?;
            let member = reader.member(key, value);
            match &*name {
                "role" => {
                    let said = string("role", value.get()).map_err(|_| fault(index, "role", "must be a string"));
                    role = said.map_err(|fault| reader.stop::<A::Error>(fault))?;
                }
                "content" if !is_string_or_null(value) => {
                    let must = "must be a string, an array of parts, or null";
                    return Err(reader.stop(fault(index, "content", must)));
                }
                "tool_calls" => turn.calls_tools = json::says_something(value),
                "reasoning_content" => turn.reasoning = Some(member),
                _ => {}
            }
            reader.talk().text(&name, value, member.value);
            reader.talk().end = member.value.end;
        }
        if index == 0 {
            reader.talk().start = turn.start;
        }
        let Some(role) = role else {
            let must = "is missing; hint: give each message a role, such as `user`";
            return Err(reader.stop(fault(index, "role", must)));
        };
        if role == "assistant" && index > 0 {
            reader.talk().before_answer = Some(before);
            reader.talk().before_answers.get_or_insert(before);
        }
        reader.talk().close(&role, first_text, turn);
        Ok(())
    }
}

fn is_string_or_null(value: &RawValue) -> bool {
    value.get().starts_with('"') || value.get() == "null"
}

fn fault(index: usize, field: &str, what: &str) -> BadRequest {
    let param = format!("messages[{index}].{field}");
    let message = format!("`{param}` {what}");
    BadRequest::new(param, message)
}

/// The parts of a message's content.
struct Parts<'r, 'a> {
    reader: &'r mut Reader<'a>,
    index: usize,
}

/// What matters of a part.
#[derive(Default)]
struct Part<'a> {
    kind: Option<&'a RawValue>,
    text: Option<&'a RawValue>,
    /// Bytes of all its values.
    bytes: u64,
    /// Its last value.
    end: Option<&'a RawValue>,
}

impl<'a> DeserializeSeed<'a> for Parts<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'a> Visitor<'a> for Parts<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { reader, index } = self;
        for at in 0_usize.. {
            reader.place = Place::Part(index, at);
            let mut part = Part::default();
            let each = Members::new(|key: &'a RawValue, value: &'a RawValue| {
                match &*json::text(key.get()) {
                    "type" => part.kind = Some(value),
                    "text" | "refusal" => part.text = Some(value),
                    _ => {}
                }
                part.bytes += value.get().len() as u64;
                part.end = Some(value);
            });
            if seq.next_element_seed(each)?.is_none() {
                break;
            }
            let text = reader.text;
            reader.talk().end = part.end.map_or(reader.talk().end, |value| Span::of(text, value.get()).end);
            if let Err(what) = reader.talk().part(&part, text) {
                return Err(reader.stop(fault(index, &format!("content[{at}]"), what)));
            }
        }
        reader.place = Place::Message(index);
        Ok(())
    }
}
