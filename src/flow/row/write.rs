//! Struct → column values.

use super::{RowError, Value};
use serde::ser::{self, Impossible, Serialize};

/// Writes a row struct's values in field order into `out`, which is emptied first so that its memory is used again.
///
/// # Errors
/// [`RowError::NotFinite`] for a float that no comparison can order; [`RowError::Unfit`] for a type without a column type.
pub fn to_values<T: Serialize>(row: &T, out: &mut Vec<Value>) -> Result<(), RowError> {
    out.clear();
    row.serialize(Row { out })
}

struct Row<'a> {
    out: &'a mut Vec<Value>,
}

fn unfit<T>(what: &str) -> Result<T, RowError> {
    Err(RowError::Unfit(format!("{what} cannot be a column")))
}

macro_rules! refuse {
    ($what:literal: $($method:ident($($argument:ty),*) -> $result:ty;)*) => {$(
        fn $method(self, $(_: $argument),*) -> Result<$result, RowError> { unfit($what) }
    )*};
}

impl<'a> ser::Serializer for Row<'a> {
    type Ok = ();
    type Error = RowError;
    type SerializeSeq = Impossible<(), RowError>;
    type SerializeTuple = Impossible<(), RowError>;
    type SerializeTupleStruct = Impossible<(), RowError>;
    type SerializeTupleVariant = Impossible<(), RowError>;
    type SerializeMap = Impossible<(), RowError>;
    type SerializeStruct = Row<'a>;
    type SerializeStructVariant = Impossible<(), RowError>;

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Row<'a>, RowError> {
        Ok(self)
    }

    refuse! { "a row that is not a struct":
        serialize_bool(bool) -> (); serialize_i8(i8) -> (); serialize_i16(i16) -> (); serialize_i32(i32) -> ();
        serialize_i64(i64) -> (); serialize_u8(u8) -> (); serialize_u16(u16) -> (); serialize_u32(u32) -> ();
        serialize_u64(u64) -> (); serialize_f32(f32) -> (); serialize_f64(f64) -> (); serialize_char(char) -> ();
        serialize_str(&str) -> (); serialize_bytes(&[u8]) -> (); serialize_none() -> (); serialize_unit() -> ();
        serialize_unit_struct(&'static str) -> (); serialize_unit_variant(&'static str, u32, &'static str) -> ();
        serialize_seq(Option<usize>) -> Self::SerializeSeq; serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), RowError> {
        unfit("an optional row")
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), RowError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), RowError> {
        unfit("an enum as a row")
    }
}

impl ser::SerializeStruct for Row<'_> {
    type Ok = ();
    type Error = RowError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, field: &'static str, value: &T) -> Result<(), RowError> {
        let value = value.serialize(Cell { field })?;
        self.out.push(value);
        Ok(())
    }

    fn end(self) -> Result<(), RowError> {
        Ok(())
    }
}

/// Serializes one field.
struct Cell {
    field: &'static str,
}

impl Cell {
    fn finite<T>(&self, is_finite: bool, value: T) -> Result<T, RowError> {
        if is_finite { Ok(value) } else { Err(RowError::NotFinite(self.field.into())) }
    }
}

/// Collects a sequence, map or nested struct as JSON text.
struct Nested<S>(S);

type Json = serde_json::value::Serializer;

fn json<T>(value: Result<T, serde_json::Error>) -> Result<T, RowError> {
    value.map_err(|error| RowError::Unfit(error.to_string()))
}

fn text(value: &serde_json::Value) -> Value {
    Value::Json(value.to_string())
}

impl ser::Serializer for Cell {
    type Ok = Value;
    type Error = RowError;
    type SerializeSeq = Nested<<Json as ser::Serializer>::SerializeSeq>;
    type SerializeTuple = Nested<<Json as ser::Serializer>::SerializeTuple>;
    type SerializeTupleStruct = Nested<<Json as ser::Serializer>::SerializeTupleStruct>;
    type SerializeTupleVariant = Nested<<Json as ser::Serializer>::SerializeTupleVariant>;
    type SerializeMap = Nested<<Json as ser::Serializer>::SerializeMap>;
    type SerializeStruct = Nested<<Json as ser::Serializer>::SerializeStruct>;
    type SerializeStructVariant = Nested<<Json as ser::Serializer>::SerializeStructVariant>;

    fn serialize_bool(self, v: bool) -> Result<Value, RowError> {
        Ok(Value::Bool(v))
    }

    fn serialize_i8(self, v: i8) -> Result<Value, RowError> {
        Ok(Value::I16(v.into()))
    }

    fn serialize_i16(self, v: i16) -> Result<Value, RowError> {
        Ok(Value::I16(v))
    }

    fn serialize_i32(self, v: i32) -> Result<Value, RowError> {
        Ok(Value::I32(v))
    }

    fn serialize_i64(self, v: i64) -> Result<Value, RowError> {
        Ok(Value::I64(v))
    }

    fn serialize_u8(self, v: u8) -> Result<Value, RowError> {
        Ok(Value::I16(v.into()))
    }

    fn serialize_u16(self, v: u16) -> Result<Value, RowError> {
        Ok(Value::I32(v.into()))
    }

    fn serialize_u32(self, v: u32) -> Result<Value, RowError> {
        Ok(Value::I64(v.into()))
    }

    fn serialize_u64(self, _: u64) -> Result<Value, RowError> {
        unfit("a u64")
    }

    fn serialize_f32(self, v: f32) -> Result<Value, RowError> {
        self.finite(v.is_finite(), Value::F32(v))
    }

    fn serialize_f64(self, v: f64) -> Result<Value, RowError> {
        self.finite(v.is_finite(), Value::F64(v))
    }

    fn serialize_char(self, v: char) -> Result<Value, RowError> {
        Ok(Value::Text(v.into()))
    }

    fn serialize_str(self, v: &str) -> Result<Value, RowError> {
        Ok(Value::Text(v.into()))
    }

    fn serialize_bytes(self, v: &[u8]) -> Result<Value, RowError> {
        Ok(Value::Bytes(v.into()))
    }

    fn serialize_none(self) -> Result<Value, RowError> {
        Ok(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, RowError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Value, RowError> {
        Ok(Value::Json("null".into()))
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Value, RowError> {
        unfit("a unit struct")
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Value, RowError> {
        Ok(Value::Text(variant.into()))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<Value, RowError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value, RowError> {
        json(ser::Serializer::serialize_newtype_variant(Json {}, name, index, variant, value)).map(|v| text(&v))
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Self::SerializeSeq, RowError> {
        json(Json {}.serialize_seq(length)).map(Nested)
    }

    fn serialize_tuple(self, length: usize) -> Result<Self::SerializeTuple, RowError> {
        json(Json {}.serialize_tuple(length)).map(Nested)
    }

    fn serialize_tuple_struct(self, name: &'static str, length: usize) -> Result<Self::SerializeTupleStruct, RowError> {
        json(Json {}.serialize_tuple_struct(name, length)).map(Nested)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleVariant, RowError> {
        json(Json {}.serialize_tuple_variant(name, index, variant, length)).map(Nested)
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Self::SerializeMap, RowError> {
        json(Json {}.serialize_map(length)).map(Nested)
    }

    fn serialize_struct(self, name: &'static str, length: usize) -> Result<Self::SerializeStruct, RowError> {
        json(Json {}.serialize_struct(name, length)).map(Nested)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStructVariant, RowError> {
        json(Json {}.serialize_struct_variant(name, index, variant, length)).map(Nested)
    }
}

macro_rules! nest {
    ($($trait:ident: $method:ident $(($extra:ty))?;)*) => {$(
        impl<S: ser::$trait<Ok = serde_json::Value, Error = serde_json::Error>> ser::$trait for Nested<S> {
            type Ok = Value;
            type Error = RowError;

            fn $method<T: Serialize + ?Sized>(&mut self, $(field: $extra,)? value: &T) -> Result<(), RowError> {
                json(self.0.$method($({ let field: $extra = field; field },)? value))
            }

            fn end(self) -> Result<Value, RowError> {
                json(self.0.end()).map(|v| text(&v))
            }
        }
    )*};
}

nest! {
    SerializeSeq: serialize_element;
    SerializeTuple: serialize_element;
    SerializeTupleStruct: serialize_field;
    SerializeTupleVariant: serialize_field;
    SerializeStruct: serialize_field(&'static str);
    SerializeStructVariant: serialize_field(&'static str);
}

impl<S: ser::SerializeMap<Ok = serde_json::Value, Error = serde_json::Error>> ser::SerializeMap for Nested<S> {
    type Ok = Value;
    type Error = RowError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), RowError> {
        json(self.0.serialize_key(key))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RowError> {
        json(self.0.serialize_value(value))
    }

    fn end(self) -> Result<Value, RowError> {
        json(self.0.end()).map(|v| text(&v))
    }
}
