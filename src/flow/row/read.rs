//! Column values → struct.

use super::{RowError, Value};
use serde::de::{self, DeserializeOwned, Visitor};
use serde::forward_to_deserialize_any;

/// Builds a row struct from its values, which stand in the struct's field order. An `Option` of a struct is `Some`.
///
/// # Errors
/// [`RowError::Unfit`] when a value does not fit its field, which a table compared at start rules out except for text
/// that the field's type cannot parse.
pub fn from_values<T: DeserializeOwned>(values: &[Value]) -> Result<T, RowError> {
    T::deserialize(Values(values))
}

struct Values<'a>(&'a [Value]);

impl<'de> de::Deserializer<'de> for Values<'de> {
    type Error = RowError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        // A derived struct reads its fields from a sequence in their order: cheaper than matching names per row.
        visitor.visit_seq(Sequence(self.0.iter()))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        visitor.visit_some(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Sequence<'a>(std::slice::Iter<'a, Value>);

impl<'de> de::SeqAccess<'de> for Sequence<'de> {
    type Error = RowError;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, RowError> {
        self.0.next().map(|value| seed.deserialize(Cell(value))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Cell<'a>(&'a Value);

type Json<'de> = serde_json::Deserializer<serde_json::de::StrRead<'de>>;

/// Reads JSON text directly, without a tree in between: a tree would round numbers that a field can keep.
fn from_json<'a, T>(
    text: &'a str,
    read: impl FnOnce(&mut Json<'a>) -> Result<T, serde_json::Error>,
) -> Result<T, RowError> {
    let mut json = serde_json::Deserializer::from_str(text);
    let value = read(&mut json).and_then(|value| json.end().map(|()| value));
    value.map_err(|error| {
        let way_out = if error.to_string().starts_with(OUT_OF_RANGE) {
            ": a number in a JSON column that no double can hold; a field of the type Box<serde_json::value::RawValue> keeps it"
        } else {
            ""
        };
        RowError::Unfit(format!("{error}{way_out}"))
    })
}

/// The beginning of `serde_json`'s sentence about a number beyond every double.
const OUT_OF_RANGE: &str = "number out of range";

impl<'de> de::Deserializer<'de> for Cell<'de> {
    type Error = RowError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(v) => visitor.visit_bool(*v),
            Value::I16(v) => visitor.visit_i16(*v),
            Value::I32(v) => visitor.visit_i32(*v),
            Value::I64(v) => visitor.visit_i64(*v),
            Value::F32(v) => visitor.visit_f32(*v),
            Value::F64(v) => visitor.visit_f64(*v),
            Value::Text(v) => visitor.visit_str(v),
            Value::Bytes(v) => visitor.visit_bytes(v),
            Value::Json(text) => from_json(text, |json| json.deserialize_any(visitor)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, RowError> {
        match self.0 {
            Value::Json(text) => from_json(text, |json| json.deserialize_newtype_struct(name, visitor)),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, RowError> {
        match self.0 {
            Value::Text(text) => visitor.visit_enum(de::value::StrDeserializer::new(text)),
            other => Err(RowError::Unfit(format!("expected the name of a variant, found {other:?}"))),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}
