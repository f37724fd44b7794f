//! JSON as it is written for every request: entries of the journal and records.
//!
//! The bytes are those of `serde_json`, which writes each quote, name and colon by a call of its own and looks at every
//! byte of every name; half of what a request cost was that. Here a member's name is written with its marks at once, and a
//! text is looked at eight bytes at a time. What is rare (floats, texts with escapes) is left to `serde_json`.

mod parts;

use std::fmt::{Display, Write};

use serde::{Serialize, Serializer, ser::Error as _};
use serde_json::Error;

use parts::{List, Members, Wrapped};

/// Appends `value` as compact JSON. After an error what was appended is no whole value.
///
/// # Errors
/// What `serde_json` refuses: a key of a map that is no text (it takes numbers, too), a type's own refusal.
pub fn append<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), Error> {
    value.serialize(Json(out))
}

/// Where a value is to be appended.
struct Json<'a>(&'a mut Vec<u8>);

/// Appends a name that a derived type gives, which never needs an escape, with its marks.
#[inline(always)]
fn name(out: &mut Vec<u8>, name: &str) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Appends a string.
fn text(out: &mut Vec<u8>, text: &str) -> Result<(), Error> {
    if is_plain(text.as_bytes()) {
        out.reserve(text.len() + 2);
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return Ok(());
    }
    serde_json::to_writer(out, text)
}

const ONES: u64 = u64::MAX / 255;
const HIGHS: u64 = ONES << 7;

/// The high bits of the bytes of `word` that are below `bound` (128 at most), and perhaps of bytes above such a one.
const fn below(word: u64, bound: u64) -> u64 {
    word.wrapping_sub(ONES * bound) & !word & HIGHS
}

/// Whether a string stands in JSON as it is: without quotes, backslashes and control characters.
fn is_plain(text: &[u8]) -> bool {
    let special = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        below(word, 0x20) | below(word ^ (ONES * 0x22), 1) | below(word ^ (ONES * 0x5c), 1)
    };
    // The last eight bytes are looked at once more, so that none is looked at alone.
    let Some(last) = text.last_chunk::<8>() else {
        return text.iter().all(|byte| !matches!(byte, ..0x20 | b'"' | b'\\'));
    };
    text.as_chunks::<8>().0.iter().fold(special(last), |found, word| found | special(word)) == 0
}

macro_rules! integers {
    ($($write:ident: $integer:ty),*) => {$(
        #[inline]
        fn $write(self, value: $integer) -> Result<(), Error> {
            self.0.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
            Ok(())
        }
    )*};
}

impl<'a> Serializer for Json<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = List<'a>;
    type SerializeTuple = List<'a>;
    type SerializeTupleStruct = List<'a>;
    type SerializeTupleVariant = Wrapped<List<'a>>;
    type SerializeMap = Members<'a>;
    type SerializeStruct = Members<'a>;
    type SerializeStructVariant = Wrapped<Members<'a>>;

    integers! {
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128
    }

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.0.extend_from_slice(if value { b"true" } else { b"false" });
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        serde_json::to_writer(self.0, &value)
    }

    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        serde_json::to_writer(self.0, &value)
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        text(self.0, value.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), Error> {
        text(self.0, value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        value.serialize(self)
    }

    /// What is formatted is a number or an instant more often than not: it is written in place, and taken back if it
    /// turns out to need an escape.
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), Error> {
        let begun = self.0.len();
        self.0.push(b'"');
        write!(Letters(self.0), "{value}").map_err(Error::custom)?;
        if is_plain(&self.0[begun + 1..]) {
            self.0.push(b'"');
            return Ok(());
        }
        self.0.truncate(begun);
        text(self.0, &value.to_string())
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.0.extend_from_slice(b"null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Error> {
        text(self.0, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.0.push(b'{');
        name(self.0, variant);
        value.serialize(Json(self.0))?;
        self.0.push(b'}');
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<List<'a>, Error> {
        Ok(List::open(self.0))
    }

    fn serialize_tuple(self, _: usize) -> Result<List<'a>, Error> {
        Ok(List::open(self.0))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<List<'a>, Error> {
        Ok(List::open(self.0))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Wrapped<List<'a>>, Error> {
        self.0.push(b'{');
        name(self.0, variant);
        Ok(Wrapped(List::open(self.0)))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Members<'a>, Error> {
        Ok(Members::open(self.0))
    }

    #[inline]
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Members<'a>, Error> {
        Ok(Members::open(self.0))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Wrapped<Members<'a>>, Error> {
        self.0.push(b'{');
        name(self.0, variant);
        Ok(Wrapped(Members::open(self.0)))
    }
}

/// Formatted text, as its bytes.
struct Letters<'a>(&'a mut Vec<u8>);

impl Write for Letters<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
