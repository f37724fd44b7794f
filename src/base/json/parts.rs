//! Lists and objects. A comma follows each part; the last one gives way to the bracket that closes.

use serde::{
    Serialize,
    ser::{
        Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};
use serde_json::Error;

use super::{Json, name};

/// Puts `bracket` in the place of the last comma, or behind what has no parts.
#[inline]
fn close(out: &mut Vec<u8>, bracket: u8) {
    match out.last_mut() {
        Some(last) if *last == b',' => *last = bracket,
        _ => out.push(bracket),
    }
}

/// A list under way.
pub(super) struct List<'a>(&'a mut Vec<u8>);

impl<'a> List<'a> {
    pub(super) fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'[');
        Self(out)
    }

    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(Json(self.0))?;
        self.0.push(b',');
        Ok(())
    }

    fn shut(self) -> Result<(), Error> {
        close(self.0, b']');
        Ok(())
    }
}

/// An object under way.
pub(super) struct Members<'a>(&'a mut Vec<u8>);

impl<'a> Members<'a> {
    pub(super) fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self(out)
    }

    #[inline(always)]
    fn member<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        name(self.0, key);
        value.serialize(Json(self.0))?;
        self.0.push(b',');
        Ok(())
    }

    fn shut(self) -> Result<(), Error> {
        close(self.0, b'}');
        Ok(())
    }
}

/// A variant with fields: an object whose one member is what the fields make.
pub(super) struct Wrapped<P>(pub(super) P);

impl SerializeSeq for List<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.item(value)
    }

    fn end(self) -> Result<(), Error> {
        self.shut()
    }
}

impl SerializeTuple for List<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.item(value)
    }

    fn end(self) -> Result<(), Error> {
        self.shut()
    }
}

impl SerializeTupleStruct for List<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.item(value)
    }

    fn end(self) -> Result<(), Error> {
        self.shut()
    }
}

impl SerializeTupleVariant for Wrapped<List<'_>> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.0.item(value)
    }

    fn end(self) -> Result<(), Error> {
        close(self.0.0, b']');
        self.0.0.push(b'}');
        Ok(())
    }
}

impl SerializeMap for Members<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        let begun = self.0.len();
        key.serialize(Json(self.0))?;
        if self.0.get(begun) != Some(&b'"') {
            return Err(Error::custom("a key that is no text"));
        }
        self.0.push(b':');
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(Json(self.0))?;
        self.0.push(b',');
        Ok(())
    }

    fn end(self) -> Result<(), Error> {
        self.shut()
    }
}

impl SerializeStruct for Members<'_> {
    type Ok = ();
    type Error = Error;

    #[inline(always)]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        self.member(key, value)
    }

    fn end(self) -> Result<(), Error> {
        self.shut()
    }
}

impl SerializeStructVariant for Wrapped<Members<'_>> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        self.0.member(key, value)
    }

    fn end(self) -> Result<(), Error> {
        close(self.0.0, b'}');
        self.0.0.push(b'}');
        Ok(())
    }
}
