//! Struct → column values.

use super::{RowError, Value, none};
use crate::flow::codec::json;
use crate::flow::table::{ColumnSpec, ColumnType};
use serde::ser::{self, Impossible, Serialize};

/// Writes a row struct's values into `out`, each in the place of the column that has its field's name; `out` is emptied
/// first so that its memory is used again. A field left out by `skip_serializing_if` is null. An `Option` of a struct is
/// written where it is `Some`.
///
/// # Errors
/// [`RowError::NotFinite`] for a float that no comparison can order; [`RowError::Unfit`] for a type without a column type,
/// a field that is no column, and a column that is no field.
pub fn to_values<T: Serialize>(row: &T, columns: &[ColumnSpec], out: &mut Vec<Value>) -> Result<(), RowError> {
    out.clear();
    row.serialize(Row { columns, out, next: 0, written: 0 })
}

struct Row<'a> {
    columns: &'a [ColumnSpec],
    out: &'a mut Vec<Value>,
    /// The column expected next: fields mostly come in the order of the columns.
    next: usize,
    written: usize,
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

    fn serialize_none(self) -> Result<(), RowError> {
        unfit("a row that is None")
    }

    refuse! { "a row that is not a struct":
        serialize_bool(bool) -> (); serialize_i8(i8) -> (); serialize_i16(i16) -> (); serialize_i32(i32) -> ();
        serialize_i64(i64) -> (); serialize_u8(u8) -> (); serialize_u16(u16) -> (); serialize_u32(u32) -> ();
        serialize_u64(u64) -> (); serialize_f32(f32) -> (); serialize_f64(f64) -> (); serialize_char(char) -> ();
        serialize_str(&str) -> (); serialize_bytes(&[u8]) -> (); serialize_unit() -> ();
        serialize_unit_struct(&'static str) -> (); serialize_unit_variant(&'static str, u32, &'static str) -> ();
        serialize_seq(Option<usize>) -> Self::SerializeSeq; serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), RowError> {
        value.serialize(self)
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

impl<'a> Row<'a> {
    /// The column that is named like `field`, and its place.
    fn column(&self, field: &str) -> Result<(usize, &'a ColumnSpec), RowError> {
        if let Some(column) = self.columns.get(self.next).filter(|column| column.name == field) {
            return Ok((self.next, column));
        }
        let found = self.columns.iter().enumerate().find(|(_, column)| column.name == field);
        found.ok_or_else(|| {
            RowError::Unfit(format!(
                "field {field} is written and not read (skip_deserializing, or a rename for one direction): \
                 use #[serde(skip)] for what is no column"
            ))
        })
    }

    #[inline]
    fn put(&mut self, place: usize, value: Value) {
        self.next = place + 1;
        self.written += 1;
        if place == self.out.len() {
            self.out.push(value);
        } else if place > self.out.len() {
            self.out.resize(place, Value::Null);
            self.out.push(value);
        } else if let Some(there) = self.out.get_mut(place) {
            *there = value;
        }
    }
}

impl ser::SerializeStruct for Row<'_> {
    type Ok = ();
    type Error = RowError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, field: &'static str, value: &T) -> Result<(), RowError> {
        let (place, column) = self.column(field)?;
        let value = match column.accepts.first() {
            Some(ColumnType::Json) => json(field, value)?,
            _ => value.serialize(Cell { field })?,
        };
        self.put(place, value);
        Ok(())
    }

    fn skip_field(&mut self, field: &'static str) -> Result<(), RowError> {
        let (place, column) = self.column(field)?;
        if !column.is_nullable {
            return Err(RowError::Unfit(format!(
                "field {field}: skip_serializing_if leaves it out, and its column is not null: remove skip_serializing_if"
            )));
        }
        self.put(place, Value::Null);
        Ok(())
    }

    fn end(self) -> Result<(), RowError> {
        if self.written == self.columns.len() {
            return Ok(());
        }
        Err(RowError::Unfit(
            "a field is read and not written (skip_serializing, or a rename for one direction): a column is both, or \
             #[serde(skip)] and none"
                .into(),
        ))
    }
}

/// A sequence, a map, a nested struct or anything else in a column of JSON text. Written at once, without a tree in
/// between, so that numbers come out as their type has them.
fn json<T: Serialize + ?Sized>(field: &'static str, value: &T) -> Result<Value, RowError> {
    if none::is_none(value) {
        return Ok(Value::Null);
    }
    let mut text = Vec::new();
    json::encode_kept_into(value, &mut text).map_err(|reject| match reject.code() {
        "not-finite" => RowError::NotFinite(field.into()),
        _ => RowError::Unfit(format!("field {field}: {}", reject.message())),
    })?;
    String::from_utf8(text).map(Value::Json).map_err(|error| RowError::Unfit(format!("field {field}: {error}")))
}

/// Serializes one field of any other column.
struct Cell {
    field: &'static str,
}

impl Cell {
    fn finite<T>(&self, is_finite: bool, value: T) -> Result<T, RowError> {
        if is_finite { Ok(value) } else { Err(RowError::NotFinite(self.field.into())) }
    }
}

impl ser::Serializer for Cell {
    type Ok = Value;
    type Error = RowError;
    type SerializeSeq = Impossible<Value, RowError>;
    type SerializeTuple = Impossible<Value, RowError>;
    type SerializeTupleStruct = Impossible<Value, RowError>;
    type SerializeTupleVariant = Impossible<Value, RowError>;
    type SerializeMap = Impossible<Value, RowError>;
    type SerializeStruct = Impossible<Value, RowError>;
    type SerializeStructVariant = Impossible<Value, RowError>;

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

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Value, RowError> {
        Ok(Value::Text(variant.into()))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<Value, RowError> {
        value.serialize(self)
    }

    refuse! { "a u64": serialize_u64(u64) -> Value; }
    refuse! { "a unit": serialize_unit() -> Value; serialize_unit_struct(&'static str) -> Value; }
    refuse! { "an enum whose variants hold something":
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }
    refuse! { "what is read as a plain value and written as a list or a struct":
        serialize_seq(Option<usize>) -> Self::SerializeSeq; serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct(&'static str, usize) -> Self::SerializeStruct;
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Value, RowError> {
        unfit("an enum whose variants hold something")
    }
}
