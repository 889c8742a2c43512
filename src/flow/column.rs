//! Column types, and the values of columns: what a new column type has to say here is said in one file.

use std::fmt;

/// The type of a database column, as far as Tidegate distinguishes types.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ColumnType {
    /// `boolean`
    Bool,
    /// `smallint`
    I16,
    /// `integer`
    I32,
    /// `bigint`
    I64,
    /// `real`
    F32,
    /// `double precision`
    F64,
    /// `text`, `varchar`, `char`
    Text,
    /// `bytea`
    Bytes,
    /// `uuid`, carried as hyphenated text
    Uuid,
    /// `timestamptz`, carried as RFC 3339 text in UTC with microseconds
    Timestamp,
    /// `timestamp`, carried as ISO 8601 text without an offset: `2026-01-31T12:00:00.25`
    LocalTimestamp,
    /// `date`, carried as `2026-01-31`
    Date,
    /// `time`, carried as `12:00:00.25`
    Time,
    /// `jsonb`, `json`, carried as JSON text
    Json,
    /// `numeric`, carried as decimal text
    Numeric,
    /// An array of one dimension, carried as a JSON list
    Array,
    /// Any other type (`interval`, `inet`, ranges, arrays in a field of text), carried as the text in which the database spells
    /// its values
    Spelled,
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "boolean",
            Self::I16 => "smallint",
            Self::I32 => "integer",
            Self::I64 => "bigint",
            Self::F32 => "real",
            Self::F64 => "double precision",
            Self::Text => "text",
            Self::Bytes => "bytea",
            Self::Uuid => "uuid",
            Self::Timestamp => "timestamptz",
            Self::LocalTimestamp => "timestamp",
            Self::Date => "date",
            Self::Time => "time",
            Self::Json => "jsonb",
            Self::Numeric => "numeric",
            Self::Array => "an array",
            Self::Spelled => "a type carried as text",
        })
    }
}

/// String samples in the order tried, with the column types that a field may have which accepts this sample first.
pub(crate) const SAMPLES: [(&str, &[ColumnType]); 9] = [
    ("", &TEXTS),
    ("00000000-0000-0000-0000-000000000000", &[ColumnType::Uuid, ColumnType::Text]),
    ("1970-01-01T00:00:00Z", &[ColumnType::Timestamp, ColumnType::Text]),
    ("1970-01-01T00:00:00", &[ColumnType::LocalTimestamp, ColumnType::Text]),
    ("1970-01-01", &[ColumnType::Date, ColumnType::Text]),
    ("00:00:00", &[ColumnType::Time, ColumnType::Text]),
    ("0", &[ColumnType::Numeric, ColumnType::Text]),
    ("127.0.0.1", &[ColumnType::Spelled, ColumnType::Text]),
    ("PT0S", &[ColumnType::Spelled, ColumnType::Text]),
];

/// The types whose values a field of text holds.
const TEXTS: [ColumnType; 9] = [
    ColumnType::Text,
    ColumnType::Uuid,
    ColumnType::Timestamp,
    ColumnType::Numeric,
    ColumnType::LocalTimestamp,
    ColumnType::Date,
    ColumnType::Time,
    ColumnType::Array,
    ColumnType::Spelled,
];

/// The types that a field can hold.
pub(crate) const FIELD_TYPES: &str = "a field holds boolean, smallint, integer, bigint, real, double precision, numeric, text, varchar, \
                           char, an enum, bytea, uuid, date, time, timestamp, timestamptz, json or jsonb, and a String any \
                           type; leave the column out of the struct, or change its type";

/// One column of one row, as the row ports carry it. Two are equal where every bit is: `-0.0` is not `0.0`.
#[derive(Clone, Debug)]
pub enum Value {
    /// SQL null.
    Null,
    /// `boolean`
    Bool(bool),
    /// `smallint`
    I16(i16),
    /// `integer`
    I32(i32),
    /// `bigint`
    I64(i64),
    /// `real`
    F32(f32),
    /// `double precision`
    F64(f64),
    /// `text`, `uuid` (hyphenated), `timestamptz` (RFC 3339), `timestamp`, `date` and `time` (ISO 8601), `numeric` (decimal), and
    /// every other type as the database spells it
    Text(String),
    /// `bytea`
    Bytes(Vec<u8>),
    /// `jsonb`, and arrays, as JSON text
    Json(String),
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(one), Self::Bool(other)) => one == other,
            (Self::I16(one), Self::I16(other)) => one == other,
            (Self::I32(one), Self::I32(other)) => one == other,
            (Self::I64(one), Self::I64(other)) => one == other,
            (Self::F32(one), Self::F32(other)) => one.to_bits() == other.to_bits(),
            (Self::F64(one), Self::F64(other)) => one.to_bits() == other.to_bits(),
            (Self::Text(one), Self::Text(other)) | (Self::Json(one), Self::Json(other)) => one == other,
            (Self::Bytes(one), Self::Bytes(other)) => one == other,
            _ => false,
        }
    }
}

impl Value {
    /// The type of a number.
    pub(crate) const fn kind(&self) -> Option<ColumnType> {
        match self {
            Self::I16(_) => Some(ColumnType::I16),
            Self::I32(_) => Some(ColumnType::I32),
            Self::I64(_) => Some(ColumnType::I64),
            _ => None,
        }
    }

    /// Whether a column of the type can hold it.
    pub(crate) fn is_of(&self, kind: ColumnType) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(_) => kind == ColumnType::Bool,
            Self::I16(_) => kind == ColumnType::I16,
            Self::I32(_) => kind == ColumnType::I32,
            Self::I64(_) => kind == ColumnType::I64,
            Self::F32(_) => kind == ColumnType::F32,
            Self::F64(_) => kind == ColumnType::F64,
            Self::Text(_) => TEXTS.contains(&kind),
            Self::Bytes(_) => kind == ColumnType::Bytes,
            Self::Json(_) => matches!(kind, ColumnType::Json | ColumnType::Array),
        }
    }

    /// A JSON value as a column of the type holds it, for a test's row.
    pub(crate) fn of_json(kind: ColumnType, value: &serde_json::Value) -> Option<Self> {
        if value.is_null() {
            return Some(Self::Null);
        }
        #[expect(clippy::cast_possible_truncation, reason = "a test's own number")]
        Some(match kind {
            ColumnType::Bool => Self::Bool(value.as_bool()?),
            ColumnType::I16 => Self::I16(value.as_i64()?.try_into().ok()?),
            ColumnType::I32 => Self::I32(value.as_i64()?.try_into().ok()?),
            ColumnType::I64 => Self::I64(value.as_i64()?),
            ColumnType::F32 => Self::F32(value.as_f64()? as f32),
            ColumnType::F64 => Self::F64(value.as_f64()?),
            ColumnType::Bytes => Self::Bytes(value.as_str()?.into()),
            ColumnType::Json => Self::Json(value.to_string()),
            ColumnType::Array if !value.is_string() => Self::Json(value.to_string()),
            _ => Self::Text(value.as_str()?.into()),
        })
    }
}
