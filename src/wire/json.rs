//! JSON by reference: where a value stands, how deep it nests, and what a string says, without building a tree.

use std::{borrow::Cow, fmt, marker::PhantomData};

use memchr::{memchr, memchr2};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, Visitor, value::MapAccessDeserializer};
use serde_json::value::RawValue;

/// A struct read from an object only. serde reads a derived struct from a list as well, by the order of its members.
pub(super) struct Object<T>(T);

impl<T> std::ops::Deref for Object<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members)).map(Object)
            }
        }

        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// A range of bytes of a body (at most 4 GiB long, which [`super::request::ChatRequest::parse`] checks).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    /// Where `part`, a slice of `whole`, stands in it.
    pub(super) fn of(whole: &str, part: &str) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        debug_assert!(start + part.len() <= whole.len(), "the part is no slice of the whole");
        Self { start: start as u32, end: (start + part.len()) as u32 }
    }

    /// The bytes that it covers.
    pub(super) fn cut(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// The text that it covers; empty where it splits a character, which spans of JSON values never do.
    pub(super) fn text(self, bytes: &[u8]) -> &str {
        std::str::from_utf8(self.cut(bytes)).unwrap_or_default()
    }
}

/// A member of an object: its key with the quotes, and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) key: Span,
    pub(super) value: Span,
}

impl Member {
    /// The range whose removal takes this member and one comma out of its object in the valid JSON `bytes`.
    pub(super) fn removal(self, bytes: &[u8]) -> Span {
        let after = skip_space(bytes, self.value.end);
        if bytes.get(after as usize) == Some(&b',') {
            return Span { start: self.key.start, end: skip_space(bytes, after + 1) };
        }
        Span { start: self.end_before(bytes), end: self.value.end }
    }

    /// Whether no member follows.
    pub(super) fn is_last(self, bytes: &[u8]) -> bool {
        bytes.get(skip_space(bytes, self.value.end) as usize) != Some(&b',')
    }

    /// Where the member before this one ends; where this one begins if it is the first.
    pub(super) fn end_before(self, bytes: &[u8]) -> u32 {
        let comma = skip_space_back(bytes, self.key.start);
        match comma.checked_sub(1).and_then(|at| bytes.get(at as usize)) {
            Some(b',') => skip_space_back(bytes, comma - 1),
            _ => self.key.start,
        }
    }
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// The first place at or after `at` that is no white space.
pub(super) fn skip_space(bytes: &[u8], at: u32) -> u32 {
    let spaces = bytes.get(at as usize..).unwrap_or_default().iter().take_while(|&&byte| is_space(byte)).count();
    at + spaces as u32
}

/// The end of what stands before `at`, white space left out.
pub(super) fn skip_space_back(bytes: &[u8], at: u32) -> u32 {
    let spaces = bytes.get(..at as usize).unwrap_or_default().iter().rev().take_while(|&&byte| is_space(byte)).count();
    at - spaces as u32
}

/// Whether `bytes` opens more than `limit` arrays and objects within each other. It only knows strings: the grammar is
/// the parser's concern, but skipped values have no recursion limit there.
pub(super) fn nests_deeper(bytes: &[u8], limit: u32) -> bool {
    let (mut depth, mut at) = (0_u32, 0);
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => at = string_end(bytes, at),
            b'{' | b'[' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// The place after the quote that closes a string whose text begins at `at`.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found;
        if bytes[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    bytes.len()
}

/// Whether a raw value is a string, an object, an array with something in it.
pub(super) fn says_something(raw: &RawValue) -> bool {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'"') => text.len() > 2,
        Some(b'[' | b'{') => text[1..text.len() - 1].bytes().any(|byte| !is_space(byte)),
        _ => false,
    }
}

/// The text between the quotes of a JSON string; `None` for any other value.
pub(super) fn inner(raw: &str) -> Option<&str> {
    raw.strip_prefix('"')?.strip_suffix('"')
}

/// What a JSON string (with its quotes) says; other values as they stand.
pub(super) fn text(raw: &str) -> Cow<'_, str> {
    unescape(inner(raw).unwrap_or(raw))
}

/// The text of a JSON string without its quotes. Total: a lone surrogate, which JavaScript clients do send, becomes
/// U+FFFD, and an escape cut off by a cap on the length stays as it is.
pub(super) fn unescape(inner: &str) -> Cow<'_, str> {
    let Some(first) = memchr(b'\\', inner.as_bytes()) else { return Cow::Borrowed(inner) };
    let mut out = String::with_capacity(inner.len());
    out.push_str(&inner[..first]);
    let mut rest = &inner[first..];
    while !rest.is_empty() {
        let (said, used) = escape(rest);
        out.push(said);
        rest = &rest[used..];
        let plain = memchr(b'\\', rest.as_bytes()).unwrap_or(rest.len());
        out.push_str(&rest[..plain]);
        rest = &rest[plain..];
    }
    Cow::Owned(out)
}

/// The character that the escape at the start of `rest` stands for, and its length in bytes.
fn escape(rest: &str) -> (char, usize) {
    let said = match rest.as_bytes().get(1) {
        Some(b'n') => '\n',
        Some(b't') => '\t',
        Some(b'r') => '\r',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'u') => return unicode_escape(rest),
        Some(&byte) if byte.is_ascii() => char::from(byte),
        _ => return ('\\', 1),
    };
    (said, 2)
}

fn unicode_escape(rest: &str) -> (char, usize) {
    let unit = |at: usize| {
        let digits = rest.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let Some(first) = unit(0) else { return ('\\', 1) };
    let pair = unit(6).map(|second| char::decode_utf16([first, second]).next());
    match (char::decode_utf16([first]).next(), pair) {
        (Some(Ok(said)), _) => (said, 6),
        (_, Some(Some(Ok(said)))) => (said, 12),
        _ => (char::REPLACEMENT_CHARACTER, 6),
    }
}

/// Bytes of UTF-8 that a raw JSON string stands for; the bytes of any other value. A surrogate pair counts as six.
pub(super) fn said_bytes(raw: &str) -> u64 {
    let Some(inner) = inner(raw) else { return raw.len() as u64 };
    let (mut bytes, mut rest) = (inner.len(), inner.as_bytes());
    while let Some(at) = memchr(b'\\', rest) {
        let (escape, said) = match rest.get(at + 1) {
            Some(b'u') => match rest.get(at + 2..at + 5) {
                Some([b'0', b'0', b'0'..=b'7']) => (6, 1),
                Some([b'0', b'0'..=b'7', _]) => (6, 2),
                _ => (6, 3),
            },
            _ => (2, 1),
        };
        bytes -= escape - said;
        rest = rest.get(at + escape..).unwrap_or_default();
    }
    bytes as u64
}

/// `text` as a JSON string with its quotes.
pub(super) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Visits the members of an object with their keys and values as they stand; every other value is an error.
pub(super) struct Members<'a, F> {
    each: F,
    life: PhantomData<&'a str>,
}

impl<'a, F: FnMut(&'a RawValue, &'a RawValue)> Members<'a, F> {
    pub(super) fn new(each: F) -> Self {
        Self { each, life: PhantomData }
    }

    /// Visits the members of the object that `raw` is; false if it is none.
    pub(super) fn visit(self, raw: &'a str) -> bool {
        self.deserialize(&mut serde_json::Deserializer::from_str(raw)).is_ok()
    }
}

impl<'a, F: FnMut(&'a RawValue, &'a RawValue)> DeserializeSeed<'a> for Members<'a, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a, F: FnMut(&'a RawValue, &'a RawValue)> Visitor<'a> for Members<'a, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((key, value)) = map.next_entry::<&'a RawValue, &'a RawValue>()? {
            if !key.get().starts_with('"') {
                return Err(A::Error::custom("a key is no string"));
            }
            (self.each)(key, value);
        }
        Ok(())
    }
}
