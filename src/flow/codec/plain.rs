//! Text and bytes as they stand, to and from any serde type of that shape.

use serde::de::value::SeqDeserializer;
use serde::de::{self, DeserializeOwned, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::ser::{self, Impossible, Serialize, SerializeSeq, SerializeTuple, Serializer};
use std::fmt;

/// Reads a text.
pub(super) fn decode_text<T: DeserializeOwned>(value: &[u8]) -> Result<T, Unfit> {
    let text = std::str::from_utf8(value).map_err(|error| Unfit::new(format!("it is not UTF-8: {error}")))?;
    T::deserialize(Text(text))
}

/// Reads bytes.
pub(super) fn decode_bytes<T: DeserializeOwned>(value: &[u8]) -> Result<T, Unfit> {
    T::deserialize(Bytes(value))
}

/// Appends a text to `out`.
pub(super) fn encode_text<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), Unfit> {
    value.serialize(Plain { out, takes: Takes::Text })
}

/// Appends bytes to `out`.
pub(super) fn encode_bytes<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), Unfit> {
    value.serialize(Plain { out, takes: Takes::Bytes })
}

/// Why a value and a type do not fit.
#[derive(Debug)]
pub(super) struct Unfit {
    message: String,
    /// No other value would fit either: the type is of another shape.
    pub(super) is_of_shape: bool,
}

impl Unfit {
    const fn new(message: String) -> Self {
        Self { message, is_of_shape: false }
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Unfit {}

impl de::Error for Unfit {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self { message: format!("invalid type: {found}, expected {expected}"), is_of_shape: true }
    }
}

impl ser::Error for Unfit {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }
}

// === Reading ===

#[derive(Clone, Copy)]
struct Text<'de>(&'de str);

#[derive(Clone, Copy)]
struct Bytes<'de>(&'de [u8]);

macro_rules! wrappers {
    () => {
        fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
            visitor.visit_some(self)
        }

        fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Unfit> {
            visitor.visit_newtype_struct(self)
        }
    };
}

impl<'de> Deserializer<'de> for Text<'de> {
    type Error = Unfit;

    wrappers!();

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unfit> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

macro_rules! as_bytes {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
            visitor.visit_borrowed_bytes(self.0)
        }
    )*};
}

impl<'de> Deserializer<'de> for Bytes<'de> {
    type Error = Unfit;

    wrappers!();

    as_bytes! { deserialize_bytes deserialize_byte_buf deserialize_str deserialize_string }

    /// Byte after byte: a `Vec<u8>` asks for a list.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        let mut bytes = SeqDeserializer::new(self.0.iter().copied());
        let value = visitor.visit_seq(&mut bytes)?;
        bytes.end()?;
        Ok(value)
    }

    /// No list: serde takes the fields of a struct from one.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unfit> {
        visitor.visit_borrowed_bytes(self.0)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char unit unit_struct seq tuple tuple_struct map enum
        identifier ignored_any
    }
}

// === Writing ===

/// The shape that is written.
#[derive(Clone, Copy)]
enum Takes {
    Text,
    Bytes,
    /// One of a list's elements.
    Byte,
}

struct Plain<'a> {
    out: &'a mut Vec<u8>,
    takes: Takes,
}

impl Plain<'_> {
    fn refused<T>(&self, kind: &str) -> Result<T, Unfit> {
        let takes = match self.takes {
            Takes::Text => "text is written from a string, not from",
            Takes::Bytes => "bytes are written from bytes, a list of bytes or a string, not from",
            Takes::Byte => "bytes are written from a list of bytes, not of",
        };
        Err(Unfit::new(format!("{takes} {kind}")))
    }

    fn add(self, bytes: &[u8], kind: &str) -> Result<(), Unfit> {
        if matches!(self.takes, Takes::Byte) {
            return self.refused(kind);
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// A list of bytes begins.
    fn list(self, kind: &str) -> Result<Self, Unfit> {
        match self.takes {
            Takes::Bytes => Ok(Self { takes: Takes::Byte, ..self }),
            Takes::Text | Takes::Byte => self.refused(kind),
        }
    }
}

macro_rules! refuse {
    ($($method:ident($($argument:ty),*) -> $ok:ty: $kind:literal;)*) => {$(
        fn $method(self, $(_: $argument),*) -> Result<$ok, Unfit> { self.refused($kind) }
    )*};
}

impl Serializer for Plain<'_> {
    type Ok = ();
    type Error = Unfit;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Impossible<(), Unfit>;
    type SerializeTupleVariant = Impossible<(), Unfit>;
    type SerializeMap = Impossible<(), Unfit>;
    type SerializeStruct = Impossible<(), Unfit>;
    type SerializeStructVariant = Impossible<(), Unfit>;

    refuse! {
        serialize_bool(bool) -> (): "a bool"; serialize_i8(i8) -> (): "a number"; serialize_i16(i16) -> (): "a number";
        serialize_i32(i32) -> (): "a number"; serialize_i64(i64) -> (): "a number"; serialize_u16(u16) -> (): "a number";
        serialize_u32(u32) -> (): "a number"; serialize_u64(u64) -> (): "a number"; serialize_f32(f32) -> (): "a number";
        serialize_f64(f64) -> (): "a number"; serialize_none() -> (): "nothing"; serialize_unit() -> (): "nothing";
        serialize_unit_struct(&'static str) -> (): "nothing";
        serialize_tuple_struct(&'static str, usize) -> Impossible<(), Unfit>: "a struct";
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Impossible<(), Unfit>: "an enum with content";
        serialize_map(Option<usize>) -> Impossible<(), Unfit>: "a map";
        serialize_struct(&'static str, usize) -> Impossible<(), Unfit>: "a struct";
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Impossible<(), Unfit>: "an enum with content";
    }

    fn serialize_u8(self, byte: u8) -> Result<(), Unfit> {
        if !matches!(self.takes, Takes::Byte) {
            return self.refused("a number");
        }
        self.out.push(byte);
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), Unfit> {
        self.add(value.encode_utf8(&mut [0; 4]).as_bytes(), "characters")
    }

    fn serialize_str(self, value: &str) -> Result<(), Unfit> {
        self.add(value.as_bytes(), "strings")
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Unfit> {
        match self.takes {
            Takes::Bytes => self.add(value, "bytes"),
            Takes::Text | Takes::Byte => self.refused("bytes"),
        }
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, name: &'static str) -> Result<(), Unfit> {
        self.add(name.as_bytes(), "words")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unfit> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Unfit> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Unfit> {
        self.refused("an enum with content")
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Unfit> {
        self.list("a list")
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Unfit> {
        self.list("a tuple")
    }
}

impl SerializeSeq for Plain<'_> {
    type Ok = ();
    type Error = Unfit;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unfit> {
        value.serialize(Plain { out: self.out, takes: self.takes })
    }

    fn end(self) -> Result<(), Unfit> {
        Ok(())
    }
}

impl SerializeTuple for Plain<'_> {
    type Ok = ();
    type Error = Unfit;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unfit> {
        SerializeSeq::serialize_element(self, value)
    }

    fn end(self) -> Result<(), Unfit> {
        Ok(())
    }
}
