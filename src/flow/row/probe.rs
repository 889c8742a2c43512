//! Asks a struct for its columns: deserializes it from a source of samples, and notes each request.
//!
//! A field that asks for a string may be text, a UUID, an instant, a date or a decimal. Which of them it is shows in the samples
//! it refuses, so the probe runs again with the next sample until the struct accepts them all. The texts within a JSON column
//! are found out in the same way.

use super::{RowError, to_values};
use crate::flow::column::SAMPLES;
use crate::flow::table::{ColumnSpec, ColumnType};
use serde::Serialize;
use serde::de::{self, DeserializeOwned, Visitor};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The name by which a `serde_json::value::RawValue` asks for JSON text as it stands.
const RAW_JSON: &str = "$serde_json::private::RawValue";

/// The number of a field, behind those of the fields that it lies in.
type Path = Vec<usize>;

/// The number of the sample that each text gets; the first where none is noted.
type Samples = BTreeMap<Path, usize>;

/// The columns of a row struct, or of an `Option` of one, in field order.
///
/// # Errors
/// A sentence: the type is not a struct with named fields, a field accepts none of the samples, or the struct does not
/// write the columns that it reads.
pub fn columns_of<T: Serialize + DeserializeOwned>() -> Result<Vec<ColumnSpec>, String> {
    let name = std::any::type_name::<T>();
    let mut samples = Samples::new();
    loop {
        let mut probe = Probe::new(&samples, true);
        match T::deserialize(&mut probe) {
            Ok(_) if probe.columns.is_empty() => return Err(format!("row type {name}: needs named fields")),
            Ok(full) => {
                let columns = probe.columns;
                let mut probe = Probe::new(&samples, false);
                let written = catch_unwind(AssertUnwindSafe(|| {
                    let empty = T::deserialize(&mut probe).ok();
                    [Some(full), empty].into_iter().flatten().try_for_each(|row| writes(&row, &columns))
                }));
                // A panic over a sample says nothing of the rows to come.
                return written
                    .unwrap_or(Ok(()))
                    .map(|()| columns)
                    .map_err(|error| format!("row type {name}: {error}"));
            }
            Err(error) => {
                let (Some(field), refused) = (probe.columns.last().map(|column| column.name.clone()), probe.asked)
                else {
                    return Err(format!("row type {name}: {error}"));
                };
                match refused.map(|path| samples.entry(path).or_default()) {
                    Some(sample) if *sample < SAMPLES.len() => *sample += 1,
                    _ => return Err(format!("row type {name}, field {field}: no column type serves it ({error})")),
                }
            }
        }
    }
}

/// Whether a row may be `None`: its type is an `Option`.
pub(crate) fn may_be_none<T: DeserializeOwned>() -> bool {
    let mut is_option = false;
    drop(T::deserialize(AsksForOption(&mut is_option)));
    is_option
}

/// Notes whether a type asks for an option, and answers nothing.
struct AsksForOption<'a>(&'a mut bool);

impl<'de> de::Deserializer<'de> for AsksForOption<'_> {
    type Error = RowError;

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        *self.0 = true;
        visitor.visit_none()
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, RowError> {
        Err(RowError::Unfit("it is no option".into()))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// Whether a struct writes each column that it reads, as the same type: a serde attribute for one direction alone would
/// shift or lose columns.
fn writes<T: Serialize>(row: &T, columns: &[ColumnSpec]) -> Result<(), RowError> {
    let mut values = Vec::new();
    to_values(row, columns, &mut values)?;
    let misfit =
        columns.iter().zip(&values).find(|(column, value)| !column.accepts.iter().any(|kind| value.is_of(*kind)));
    misfit.map_or(Ok(()), |(ColumnSpec { name, accepts, .. }, value)| {
        let kind = accepts.first().map(ToString::to_string).unwrap_or_default();
        Err(RowError::Unfit(format!("field {name}: is read as {kind} and written as {value:?}; make both alike")))
    })
}

struct Probe<'a> {
    samples: &'a Samples,
    /// The fields that it lies in.
    path: Path,
    /// The text that was asked for last, by the field that is asked now.
    asked: Option<Path>,
    columns: Vec<ColumnSpec>,
    /// Whether an `Option` gets a sample; otherwise it is `None`.
    has_options: bool,
}

impl<'a> Probe<'a> {
    const fn new(samples: &'a Samples, has_options: bool) -> Self {
        Self { samples, path: Vec::new(), asked: None, columns: Vec::new(), has_options }
    }

    /// The field of a number, which is the last column.
    fn field(&mut self) -> Result<Field<'_>, RowError> {
        let number = self.columns.len();
        let Some(column) = self.columns.last_mut() else {
            return Err(RowError::Unfit("value before key".into()));
        };
        self.asked = None;
        let path = self.path.iter().copied().chain([number]).collect();
        let (samples, asked, has_options) = (self.samples, &mut self.asked, self.has_options);
        Ok(Field { column, samples, path, asked, has_options })
    }

    fn begin(&mut self, name: &str) {
        self.columns.push(ColumnSpec { name: name.into(), accepts: Vec::new(), is_nullable: false });
    }
}

impl<'de> de::Deserializer<'de> for &mut Probe<'_> {
    type Error = RowError;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, RowError> {
        visitor.visit_map(Fields { probe: self, left: fields.iter() })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        visitor.visit_some(self)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, RowError> {
        Err(RowError::Unfit("a row must be a struct with named fields; of #[serde(flatten)] nobody learns the fields: write them in the row's struct itself".into()))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct Fields<'a, 'b> {
    probe: &'a mut Probe<'b>,
    left: std::slice::Iter<'static, &'static str>,
}

impl<'de> de::MapAccess<'de> for Fields<'_, '_> {
    type Error = RowError;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, RowError> {
        let Some(name) = self.left.next() else { return Ok(None) };
        self.probe.begin(name);
        seed.deserialize(de::value::StrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, RowError> {
        seed.deserialize(self.probe.field()?)
    }
}

/// The elements of an array or a tuple.
struct Elements<'a, 'b> {
    probe: &'a mut Probe<'b>,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for Elements<'_, '_> {
    type Error = RowError;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, RowError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        self.probe.begin("");
        seed.deserialize(self.probe.field()?).map(Some)
    }
}

struct Field<'a> {
    column: &'a mut ColumnSpec,
    samples: &'a Samples,
    path: Path,
    asked: &'a mut Option<Path>,
    has_options: bool,
}

impl Field<'_> {
    fn note(&mut self, accepts: &[ColumnType]) {
        self.column.accepts = accepts.to_vec();
    }

    /// The number of the sample that it gets, now that it asks.
    fn sample(&mut self) -> usize {
        *self.asked = Some(self.path.clone());
        self.samples.get(&self.path).copied().unwrap_or(0)
    }

    fn note_text(&mut self, sample: usize) -> Result<&'static str, RowError> {
        let (text, accepts) = SAMPLES.get(sample).ok_or_else(|| RowError::Unfit("no sample left".into()))?;
        self.note(accepts);
        Ok(text)
    }

    /// One JSON column, with what is in it: its own fields are answered by a probe whose findings are dropped.
    fn nested<T>(self, visit: impl FnOnce(&mut Probe<'_>) -> Result<T, RowError>) -> Result<T, RowError> {
        let mut inner = Probe { path: self.path, ..Probe::new(self.samples, self.has_options) };
        let visited = visit(&mut inner);
        *self.asked = inner.asked;
        visited
    }
}

macro_rules! answer {
    ($($method:ident => $types:expr, $visit:ident($($sample:expr)?);)*) => {$(
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, RowError> {
            self.note(&$types);
            visitor.$visit($($sample)?)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Field<'_> {
    type Error = RowError;

    answer! {
        deserialize_bool => [ColumnType::Bool], visit_bool(false);
        deserialize_i8 => [ColumnType::I16], visit_i8(0);
        deserialize_i16 => [ColumnType::I16], visit_i16(0);
        deserialize_i32 => [ColumnType::I32], visit_i32(0);
        deserialize_i64 => [ColumnType::I64], visit_i64(0);
        deserialize_u8 => [ColumnType::I16], visit_u8(0);
        deserialize_u16 => [ColumnType::I32], visit_u16(0);
        deserialize_u32 => [ColumnType::I64], visit_u32(0);
        deserialize_f32 => [ColumnType::F32], visit_f32(0.0);
        deserialize_f64 => [ColumnType::F64], visit_f64(0.0);
        deserialize_bytes => [ColumnType::Bytes], visit_bytes(&[]);
        deserialize_byte_buf => [ColumnType::Bytes], visit_bytes(&[]);
        deserialize_ignored_any => [ColumnType::Json], visit_unit();
    }

    fn deserialize_str<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, RowError> {
        let sample = self.sample();
        visitor.visit_str(self.note_text(sample)?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        self.deserialize_str(visitor)
    }

    /// Anything: JSON, or a type that takes a text where it finds one, as decimals do.
    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, RowError> {
        let Some(sample) = self.sample().checked_sub(1) else {
            self.note(&[ColumnType::Json]);
            return visitor.visit_unit();
        };
        visitor.visit_str(self.note_text(sample)?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        self.column.is_nullable = true;
        if self.has_options { visitor.visit_some(self) } else { visitor.visit_none() }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, RowError> {
        if name != RAW_JSON {
            return visitor.visit_newtype_struct(self);
        }
        self.note(&[ColumnType::Json]);
        let mut json = serde_json::Deserializer::from_str("null");
        json.deserialize_newtype_struct(name, visitor).map_err(|error| RowError::Unfit(error.to_string()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, RowError> {
        self.note(&[ColumnType::Text]);
        let first = variants.first().ok_or_else(|| RowError::Unfit("an enum without variants".into()))?;
        visitor.visit_enum(de::value::StrDeserializer::new(first))
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, RowError> {
        self.note(&[ColumnType::Json, ColumnType::Array]);
        visitor.visit_seq(de::value::SeqDeserializer::new(std::iter::empty::<u8>()))
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, RowError> {
        self.note(&[ColumnType::Json]);
        let empty = de::value::MapDeserializer::new(std::iter::empty::<(u8, u8)>());
        visitor.visit_map(empty).map_err(|error: RowError| {
            RowError::Unfit(format!(
                "{error}; a struct with #[serde(flatten)] cannot be looked into: write its fields out, or read it as a serde_json::Value"
            ))
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, RowError> {
        self.note(&[ColumnType::Json]);
        self.nested(|probe| visitor.visit_map(Fields { probe, left: fields.iter() }))
    }

    fn deserialize_tuple<V: Visitor<'de>>(mut self, length: usize, visitor: V) -> Result<V::Value, RowError> {
        self.note(&[ColumnType::Json, ColumnType::Array]);
        self.nested(|probe| visitor.visit_seq(Elements { probe, left: length }))
    }

    fn deserialize_i128<V: Visitor<'de>>(self, _: V) -> Result<V::Value, RowError> {
        Err(RowError::Unfit("128-bit integers have no column type; use a decimal type".into()))
    }

    fn deserialize_u64<V: Visitor<'de>>(self, _: V) -> Result<V::Value, RowError> {
        Err(RowError::Unfit("u64 has no column type; use i64".into()))
    }

    serde::forward_to_deserialize_any! { u128 char unit unit_struct tuple_struct identifier }
}
