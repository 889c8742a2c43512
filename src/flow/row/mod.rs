//! Rows as plain serde structs: one mapping between a struct's fields and column values, without a derive of our own.
//!
//! [`columns_of`] asks a struct for its columns by deserializing it from a probe; [`to_values`] and [`from_values`] carry
//! rows over. Strings serve `text`, `uuid`, `timestamptz`, `date` and `numeric` alike, because that is how their Rust types
//! serialize, and any other type as the database spells it; sequences, maps and structs serve `jsonb`, sequences arrays as well;
//! `bytea` is `serde_bytes`' business.

mod none;
mod probe;
mod read;
mod spelling;
mod write;

pub use crate::flow::column::Value;
pub(crate) use none::is_none;
pub use probe::columns_of;
pub(crate) use probe::may_be_none;
pub use read::from_values;
pub use write::to_values;

use std::fmt;

/// Restores the values of a row that its algorithm did not change. `read` is the row as the database has it; `before` and
/// `after` are the values that its struct wrote before and after the change. A column that is as before keeps the database's
/// own spelling, and so does a number within a JSON column.
pub(crate) fn keep_unchanged(read: &[Value], before: &[Value], after: &mut [Value]) {
    for ((read, before), after) in read.iter().zip(before).zip(after) {
        if read == before {
            continue;
        }
        if after == before {
            read.clone_into(after);
        } else if let (Value::Json(read), Value::Json(before), Value::Json(text)) = (read, before, &mut *after)
            && let Some(kept) = spelling::keep(read, before, text)
        {
            *text = kept;
        }
    }
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
        to_values(&row, &columns_of::<Wide>().unwrap(), &mut values).unwrap();
        assert_eq!(values.len(), 15);
        assert_eq!(values.get(7), Some(&Value::Text("00000000-0000-0000-0000-000000000007".into())));
        assert_eq!(values.get(12), Some(&Value::Null));
        assert_eq!(from_values::<Wide>(&values).unwrap(), row);
    }

    #[test]
    fn a_float_that_is_not_finite_is_refused_and_named() {
        let row = Wide { full: f64::NAN, ..wide() };
        let columns = columns_of::<Wide>().unwrap();
        assert_eq!(to_values(&row, &columns, &mut Vec::new()), Err(RowError::NotFinite("full".into())));
    }

    /// The refusal of a row type.
    fn refused<T: Serialize + for<'de> Deserialize<'de>>() -> String {
        let error = columns_of::<T>().unwrap_err();
        error.split_once(": ").unwrap().1.to_owned()
    }

    #[test]
    fn a_field_that_is_left_out_where_it_is_absent_is_null_in_its_own_column() {
        #[derive(Serialize, Deserialize)]
        struct Row {
            #[serde(skip_serializing_if = "Option::is_none")]
            bonus: Option<i64>,
            balance: i64,
            #[serde(skip)]
            cache: i64,
            #[serde(skip_serializing_if = "Option::is_none")]
            note: Option<String>,
        }
        let columns = columns_of::<Row>().unwrap();
        assert_eq!(columns.iter().map(|column| &column.name).collect::<Vec<_>>(), ["bonus", "balance", "note"]);
        let mut values = Vec::new();
        to_values(&Row { bonus: None, balance: 101, cache: 5, note: None }, &columns, &mut values).unwrap();
        assert_eq!(values, [Value::Null, Value::I64(101), Value::Null]);
        assert_eq!(from_values::<Row>(&values).unwrap().cache, 0, "no column");
        to_values(&Row { bonus: Some(1), balance: 2, cache: 5, note: Some("n".into()) }, &columns, &mut values)
            .unwrap();
        assert_eq!(values, [Value::I64(1), Value::I64(2), Value::Text("n".into())]);
    }

    #[derive(Serialize, Deserialize)]
    struct Unread {
        #[serde(skip_deserializing)]
        cache: i64,
        balance: i64,
    }

    #[derive(Serialize, Deserialize)]
    struct Unwritten {
        balance: i64,
        #[serde(skip_serializing)]
        seen: i64,
    }

    #[derive(Serialize, Deserialize)]
    struct Renamed {
        #[serde(rename(serialize = "written", deserialize = "read"))]
        balance: i64,
    }

    #[derive(Serialize, Deserialize)]
    struct Shortened {
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tags: Vec<String>,
        balance: i64,
    }

    #[derive(Serialize, Deserialize)]
    struct Unlike {
        #[serde(serialize_with = "as_text")]
        balance: i64,
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    fn as_text<S: serde::Serializer>(balance: &i64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&balance.to_string())
    }

    #[test]
    fn a_struct_that_does_not_write_what_it_reads_is_refused_at_the_start() {
        assert!(refused::<Unread>().starts_with("field cache is written and not read (skip_deserializing"));
        let _ = |row: Unwritten| row.seen;
        assert!(refused::<Unwritten>().starts_with("a field is read and not written (skip_serializing"));
        assert!(refused::<Renamed>().starts_with("field written is written and not read"));
        assert!(refused::<Shortened>().starts_with("field tags: skip_serializing_if leaves it out"));
        assert!(refused::<Unlike>().starts_with("field balance: is read as bigint and written as Text"));
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Leg {
        from: uuid::Uuid,
        #[serde(with = "time::serde::rfc3339")]
        at: time::OffsetDateTime,
        note: Option<uuid::Uuid>,
        inner: Inner,
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Inner {
        name: String,
        id: uuid::Uuid,
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Trip {
        leg: Leg,
        point: [f64; 2],
        pair: (i64, uuid::Uuid),
        after: uuid::Uuid,
    }

    #[test]
    fn a_json_column_holds_structs_and_tuples_of_any_texts() {
        let columns = columns_of::<Trip>().unwrap();
        let kinds: Vec<ColumnType> = columns.iter().map(|column| column.accepts[0]).collect();
        assert_eq!(kinds, [ColumnType::Json, ColumnType::Json, ColumnType::Json, ColumnType::Uuid]);
        let (id, at) = (uuid::Uuid::from_u128(7), time::OffsetDateTime::UNIX_EPOCH);
        let inner = Inner { name: "n".into(), id };
        let row =
            Trip { leg: Leg { from: id, at, note: Some(id), inner }, point: [0.5, 1.0], pair: (3, id), after: id };
        let mut values = Vec::new();
        to_values(&row, &columns, &mut values).unwrap();
        assert_eq!(from_values::<Trip>(&values).unwrap(), row);
    }

    #[test]
    fn flattened_fields_are_refused_with_the_way_out() {
        #[derive(Serialize, Deserialize)]
        struct Flat {
            balance: i64,
            #[serde(flatten)]
            rest: Rest,
        }
        #[derive(Serialize, Deserialize)]
        struct Rest {
            note: Option<String>,
        }
        #[derive(Serialize, Deserialize)]
        struct Around {
            flat: Flat,
        }
        let told = columns_of::<Flat>().unwrap_err();
        assert!(told.contains("write them in the row's struct itself"), "{told}");
        let told = columns_of::<Around>().unwrap_err();
        assert!(told.contains("field flat") && told.contains("read it as a serde_json::Value"), "{told}");
    }

    #[test]
    fn a_json_column_holds_scalars_and_numbers_as_their_types_have_them() {
        #[derive(Serialize, Deserialize)]
        struct Row {
            any: serde_json::Value,
            maybe: Option<serde_json::Value>,
            raw: Box<serde_json::value::RawValue>,
            floats: Vec<f32>,
        }
        let columns = columns_of::<Row>().unwrap();
        assert!(columns.iter().all(|column| column.accepts[0] == ColumnType::Json));
        let json = |text: &str| Value::Json(text.into());
        for (any, maybe) in [("7", Value::Null), ("\"x\"", json("null")), ("true", json("[1]"))] {
            let read = [json(any), maybe, json("1.10"), json("[0.1,3.4028235e+38]")];
            let mut written = Vec::new();
            to_values(&from_values::<Row>(&read).unwrap(), &columns, &mut written).unwrap();
            assert_eq!(written, read);
        }
        let row = Row { any: serde_json::json!(1), maybe: None, raw: Box::default(), floats: vec![f32::NAN] };
        let refused = to_values(&row, &columns, &mut Vec::new());
        assert_eq!(refused, Err(RowError::NotFinite("floats".into())), "not null in silence");
    }

    #[test]
    fn the_largest_double_is_read_again_as_a_database_spells_it() {
        #[derive(Serialize, Deserialize, PartialEq, Debug)]
        struct Row {
            any: serde_json::Value,
            list: Vec<f64>,
        }
        let digits = format!("17976931348623157{}", "0".repeat(292));
        let read = [Value::Json(format!("{{\"p\": {digits}}}")), Value::Json(format!("[{digits}, 0.1]"))];
        let row: Row = from_values(&read).unwrap();
        assert_eq!(row, Row { any: serde_json::json!({"p": f64::MAX}), list: vec![f64::MAX, 0.1] });
    }

    #[test]
    fn a_number_beyond_every_double_is_told_with_the_type_that_keeps_it() {
        #[derive(Serialize, Deserialize, Debug)]
        struct Row {
            any: serde_json::Value,
        }
        #[derive(Serialize, Deserialize)]
        struct Kept {
            any: Box<serde_json::value::RawValue>,
        }
        let read = [Value::Json(format!("{{\"p\": 1{}}}", "0".repeat(400)))];
        let told = from_values::<Row>(&read).unwrap_err().to_string();
        assert!(told.contains("no double can hold") && told.contains("RawValue"), "{told}");
        let mut written = Vec::new();
        to_values(&from_values::<Kept>(&read).unwrap(), &columns_of::<Kept>().unwrap(), &mut written).unwrap();
        assert_eq!(written, read);
    }

    #[test]
    fn a_row_type_that_is_not_a_struct_is_refused() {
        assert!(columns_of::<Vec<i64>>().is_err());
        assert!(columns_of::<std::collections::BTreeMap<String, i64>>().is_err());
    }
}
