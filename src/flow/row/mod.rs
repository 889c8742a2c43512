//! Rows as plain serde structs: one mapping between a struct's fields and column values, without a derive of our own.
//!
//! [`columns_of`] asks a struct for its columns by deserializing it from a probe; [`to_values`] and [`from_values`] carry
//! rows over. Strings serve `text`, `uuid`, `timestamptz` and `numeric` alike, because that is how their Rust types
//! serialize; sequences, maps and structs serve `jsonb`; `bytea` is `serde_bytes`' business.

mod probe;
mod read;
mod write;

pub use probe::columns_of;
pub use read::from_values;
pub use write::to_values;

use std::fmt;

/// One column of one row, as the row ports carry it.
#[derive(Clone, PartialEq, Debug)]
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
    /// `text`, `uuid` (hyphenated), `timestamptz` (RFC 3339), `numeric` (decimal)
    Text(String),
    /// `bytea`
    Bytes(Vec<u8>),
    /// `jsonb` as JSON text
    Json(String),
}

/// Why a struct and its column values do not fit each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RowError {
    /// A float is NaN or infinite; the field is named.
    NotFinite(String),
    /// Anything else, in one sentence.
    Unfit(String),
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFinite(field) => write!(f, "{field} is not a finite number"),
            Self::Unfit(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for RowError {}

impl serde::de::Error for RowError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Unfit(message.to_string())
    }
}

impl serde::ser::Error for RowError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Unfit(message.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::table::ColumnType;
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
    #[serde(rename_all = "lowercase")]
    enum Status {
        Active,
        Closed,
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
    struct Wide {
        ready: bool,
        small: i16,
        middle: i32,
        large: i64,
        half: f32,
        full: f64,
        name: String,
        id: uuid::Uuid,
        #[serde(with = "time::serde::rfc3339")]
        at: time::OffsetDateTime,
        tags: Vec<String>,
        extra: serde_json::Value,
        status: Status,
        maybe: Option<i64>,
        note: Option<String>,
        when: Option<uuid::Uuid>,
    }

    fn wide() -> Wide {
        Wide {
            ready: true,
            small: -3,
            middle: 70_000,
            large: i64::MIN,
            half: 0.5,
            full: 1e300,
            name: "späti".into(),
            id: uuid::Uuid::from_u128(7),
            at: time::OffsetDateTime::UNIX_EPOCH,
            tags: vec!["a".into(), "b".into()],
            extra: serde_json::json!({"x": [1, null]}),
            status: Status::Closed,
            maybe: None,
            note: Some("n".into()),
            when: None,
        }
    }

    #[test]
    fn a_struct_tells_its_columns_in_field_order_with_types_and_nullability() {
        let columns = columns_of::<Wide>().unwrap();
        let told: Vec<_> =
            columns.iter().map(|c| (c.name.as_str(), c.accepts.first().copied().unwrap(), c.is_nullable)).collect();
        assert_eq!(
            told,
            [
                ("ready", ColumnType::Bool, false),
                ("small", ColumnType::I16, false),
                ("middle", ColumnType::I32, false),
                ("large", ColumnType::I64, false),
                ("half", ColumnType::F32, false),
                ("full", ColumnType::F64, false),
                ("name", ColumnType::Text, false),
                ("id", ColumnType::Uuid, false),
                ("at", ColumnType::Timestamp, false),
                ("tags", ColumnType::Json, false),
                ("extra", ColumnType::Json, false),
                ("status", ColumnType::Text, false),
                ("maybe", ColumnType::I64, true),
                ("note", ColumnType::Text, true),
                ("when", ColumnType::Uuid, true),
            ]
        );
    }

    #[test]
    fn values_read_back_as_the_row_they_were_written_from() {
        let row = wide();
        let mut values = Vec::new();
        to_values(&row, &mut values).unwrap();
        assert_eq!(values.len(), 15);
        assert_eq!(values.get(7), Some(&Value::Text("00000000-0000-0000-0000-000000000007".into())));
        assert_eq!(values.get(12), Some(&Value::Null));
        assert_eq!(from_values::<Wide>(&values).unwrap(), row);
    }

    #[test]
    fn a_float_that_is_not_finite_is_refused_and_named() {
        let row = Wide { full: f64::NAN, ..wide() };
        assert_eq!(to_values(&row, &mut Vec::new()), Err(RowError::NotFinite("full".into())));
    }

    #[test]
    fn a_row_type_that_is_not_a_struct_is_refused() {
        assert!(columns_of::<Vec<i64>>().is_err());
        assert!(columns_of::<std::collections::BTreeMap<String, i64>>().is_err());
    }
}
