//! Distinguishes an absent value from a present one of any type: in a column of JSON text only an absent one is SQL's null.

use serde::ser::{self, Impossible, Serialize};
use std::fmt;

pub(crate) fn is_none<T: Serialize + ?Sized>(value: &T) -> bool {
    value.serialize(IsNone).unwrap_or(false)
}

struct IsNone;

/// It is something that has parts, and so it is there.
#[derive(Debug)]
struct HasParts;

impl fmt::Display for HasParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it has parts")
    }
}

impl std::error::Error for HasParts {}

impl ser::Error for HasParts {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

macro_rules! present {
    ($($method:ident($($argument:ty),*);)*) => {$(
        fn $method(self, $(_: $argument),*) -> Result<bool, HasParts> { Ok(false) }
    )*};
}

macro_rules! parts {
    ($($method:ident($($argument:ty),*) -> $result:ty;)*) => {$(
        fn $method(self, $(_: $argument),*) -> Result<$result, HasParts> { Err(HasParts) }
    )*};
}

impl ser::Serializer for IsNone {
    type Ok = bool;
    type Error = HasParts;
    type SerializeSeq = Impossible<bool, HasParts>;
    type SerializeTuple = Impossible<bool, HasParts>;
    type SerializeTupleStruct = Impossible<bool, HasParts>;
    type SerializeTupleVariant = Impossible<bool, HasParts>;
    type SerializeMap = Impossible<bool, HasParts>;
    type SerializeStruct = Impossible<bool, HasParts>;
    type SerializeStructVariant = Impossible<bool, HasParts>;

    fn serialize_none(self) -> Result<bool, HasParts> {
        Ok(true)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<bool, HasParts> {
        Ok(false)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<bool, HasParts> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<bool, HasParts> {
        Ok(false)
    }

    present! {
        serialize_bool(bool); serialize_i8(i8); serialize_i16(i16); serialize_i32(i32); serialize_i64(i64);
        serialize_u8(u8); serialize_u16(u16); serialize_u32(u32); serialize_u64(u64); serialize_f32(f32);
        serialize_f64(f64); serialize_char(char); serialize_str(&str); serialize_bytes(&[u8]); serialize_unit();
        serialize_unit_struct(&'static str); serialize_unit_variant(&'static str, u32, &'static str);
    }

    parts! {
        serialize_seq(Option<usize>) -> Self::SerializeSeq; serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct(&'static str, usize) -> Self::SerializeStruct;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }
}
