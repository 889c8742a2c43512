//! Column types of Postgres, and row values ↔ their binary form: all that a new column type has to say here.
//!
//! `uuid` and `timestamptz` travel in binary and become their canonical text here: the server's `to_char` costs more than
//! a microsecond a value, this some 50 ns. `numeric`, JSON, enums, dates and every type that is not known here are cast from and
//! to text by the server, arrays from and to JSON.

use super::arrays::{self, Array, Element};
use crate::flow::effect::Reject;
use crate::flow::key::Key;
use crate::flow::row::Value;
use crate::flow::table::ColumnType;
use std::fmt::Write;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

/// Most bytes of one array: a message to the server holds 1 GiB, and a batch has several arrays
/// (docs/traps.md#limits-of-one-statement).
const ARRAY_BYTES_MAX: usize = 128 << 20;

const NANOS_TO_2000: i128 = 946_684_800_000_000_000;

const BOOL: Element = Element { oid: 16, array_oid: 1000 };
const INT2: Element = Element { oid: 21, array_oid: 1005 };
const FLOAT4: Element = Element { oid: 700, array_oid: 1021 };
const UUID: Element = Element { oid: 2950, array_oid: 2951 };

/// The column type of a base type, by its name in the catalog.
pub(super) fn kind(base: &str, is_enum: bool, is_array: bool) -> ColumnType {
    match base {
        "bool" => ColumnType::Bool,
        "int2" => ColumnType::I16,
        "int4" => ColumnType::I32,
        "int8" => ColumnType::I64,
        "float4" => ColumnType::F32,
        "float8" => ColumnType::F64,
        "text" | "varchar" | "bpchar" | "citext" => ColumnType::Text,
        "bytea" => ColumnType::Bytes,
        "uuid" => ColumnType::Uuid,
        "timestamptz" => ColumnType::Timestamp,
        "timestamp" => ColumnType::LocalTimestamp,
        "date" => ColumnType::Date,
        "time" => ColumnType::Time,
        "json" | "jsonb" => ColumnType::Json,
        "numeric" => ColumnType::Numeric,
        _ if is_enum => ColumnType::Text,
        _ if is_array => ColumnType::Array,
        _ => ColumnType::Spelled,
    }
}

/// The type that text is cast to where it stands for a column, `spelled` as the catalog has it; `None` where the value travels
/// as what it is.
pub(super) fn cast(kind: ColumnType, base: &str, spelled: &str, is_enum: bool) -> Option<String> {
    match kind {
        ColumnType::Numeric => Some("numeric".into()),
        ColumnType::Text => (is_enum || base == "citext").then(|| spelled.into()),
        ColumnType::Json | ColumnType::LocalTimestamp | ColumnType::Date | ColumnType::Time => Some(base.into()),
        ColumnType::Array | ColumnType::Spelled => Some(spelled.into()),
        _ => None,
    }
}

/// Whether a column of the type keeps every value as it is. Text of some types has spellings that the database does not keep,
/// or that are none of their values.
pub(super) fn is_exact(kind: ColumnType, base: &str) -> bool {
    match kind {
        ColumnType::Text => base != "bpchar",
        ColumnType::Numeric
        | ColumnType::Json
        | ColumnType::Uuid
        | ColumnType::Timestamp
        | ColumnType::LocalTimestamp
        | ColumnType::Date
        | ColumnType::Time
        | ColumnType::Array
        | ColumnType::Spelled => false,
        _ => true,
    }
}

/// An array of the column's values: its element, the bytes that one takes, roughly, and the element's name in a statement.
const fn wire(kind: ColumnType) -> (Element, usize, &'static str) {
    match kind {
        ColumnType::Bool => (BOOL, 1, "boolean"),
        ColumnType::I16 => (INT2, 2, "smallint"),
        ColumnType::I32 => (arrays::INT4, 4, "integer"),
        ColumnType::I64 => (arrays::INT8, 8, "bigint"),
        ColumnType::F32 => (FLOAT4, 4, "real"),
        ColumnType::F64 => (arrays::FLOAT8, 8, "double precision"),
        ColumnType::Text
        | ColumnType::Numeric
        | ColumnType::Json
        | ColumnType::LocalTimestamp
        | ColumnType::Date
        | ColumnType::Time
        | ColumnType::Array
        | ColumnType::Spelled => (arrays::TEXT, 32, "text"),
        ColumnType::Bytes => (arrays::BYTEA, 32, "bytea"),
        ColumnType::Uuid => (UUID, 16, "uuid"),
        ColumnType::Timestamp => (arrays::TIMESTAMPTZ, 8, "timestamptz"),
    }
}

/// The element type of a column's array, as a statement spells it.
pub(super) const fn array_type(kind: ColumnType) -> &'static str {
    wire(kind).2
}

/// The bytes of one column from the wire → its value.
///
/// # Errors
/// A sentence: the bytes do not fit the column's type.
pub(super) fn decode(kind: ColumnType, raw: Option<&[u8]>) -> Result<Value, String> {
    let Some(bytes) = raw else { return Ok(Value::Null) };
    Ok(match kind {
        ColumnType::Bool => Value::Bool(fixed::<1>(bytes)? != [0]),
        ColumnType::I16 => Value::I16(i16::from_be_bytes(fixed(bytes)?)),
        ColumnType::I32 => Value::I32(i32::from_be_bytes(fixed(bytes)?)),
        ColumnType::I64 => Value::I64(i64::from_be_bytes(fixed(bytes)?)),
        ColumnType::F32 => Value::F32(f32::from_be_bytes(fixed(bytes)?)),
        ColumnType::F64 => Value::F64(f64::from_be_bytes(fixed(bytes)?)),
        ColumnType::Text | ColumnType::Numeric | ColumnType::Date | ColumnType::Time | ColumnType::Spelled => {
            Value::Text(text(bytes)?.into())
        }
        ColumnType::LocalTimestamp => Value::Text(text(bytes)?.replacen(' ', "T", 1)),
        ColumnType::Json | ColumnType::Array => Value::Json(text(bytes)?.into()),
        ColumnType::Bytes => Value::Bytes(bytes.into()),
        ColumnType::Uuid => Value::Text(Uuid::from_bytes(fixed(bytes)?).hyphenated().to_string()),
        ColumnType::Timestamp => Value::Text(instant_text(i64::from_be_bytes(fixed(bytes)?))),
    })
}

/// The bytes of the key column from the wire → the key.
///
/// # Errors
/// The same as [`decode`].
pub(super) fn decode_key(kind: ColumnType, bytes: &[u8]) -> Result<Key, String> {
    Ok(match kind {
        ColumnType::Uuid => Key::Uuid(Uuid::from_bytes(fixed(bytes)?)),
        ColumnType::Text => Key::Text(text(bytes)?.into()),
        ColumnType::Bytes => Key::from(bytes),
        ColumnType::Json => {
            Key::of_list(text(bytes)?).ok_or("a key of several columns of which one is null or no part of it")?
        }
        _ => Key::I64(i64::from_be_bytes(fixed(bytes)?)),
    })
}

/// One column of a batch as an array.
///
/// # Errors
/// A dead letter: a value that Postgres cannot hold. It names the column and never the value.
pub(super) fn column<'a>(
    kind: ColumnType,
    name: &str,
    length: usize,
    values: impl Iterator<Item = Option<&'a Value>>,
) -> Result<Array, Reject> {
    let (element, bytes, _) = wire(kind);
    let mut array = Array::new(element, length, bytes);
    for value in values {
        push(&mut array, kind, value).map_err(|why| bad_value(name, why))?;
        if array.bytes() > ARRAY_BYTES_MAX {
            return Err(Reject::dead_letter("too-large", format!("column {name}: more than {ARRAY_BYTES_MAX} bytes")));
        }
    }
    Ok(array)
}

/// The keys of a batch as an array.
///
/// # Errors
/// A sentence: a key is not of the table's key type.
pub(super) fn keys<'a>(kind: ColumnType, keys: impl ExactSizeIterator<Item = &'a Key>) -> Result<Array, String> {
    let element = match kind {
        ColumnType::Uuid => UUID,
        ColumnType::Text | ColumnType::Json => arrays::TEXT,
        ColumnType::Bytes => arrays::BYTEA,
        _ => arrays::INT8,
    };
    let mut array = Array::new(element, keys.len(), 16);
    for key in keys {
        match (kind, key) {
            (ColumnType::I64, Key::I64(id)) => array.push(Some(&id.to_be_bytes())),
            (ColumnType::Uuid, Key::Uuid(id)) => array.push(Some(id.as_bytes())),
            (ColumnType::Bytes, Key::Bytes(id)) => array.push(Some(id)),
            (ColumnType::Json, Key::Parts(_)) => array.push(Some(key.to_string().as_bytes())),
            (ColumnType::Text, Key::Text(id)) if !has_nul(id) => array.push(Some(id.as_bytes())),
            _ => return Err(format!("a key is not a {kind} that Postgres can hold")),
        }
    }
    Ok(array)
}

/// A dead letter that names a column.
fn bad_value(column: &str, why: &str) -> Reject {
    Reject::dead_letter("bad-value", format!("column {column}: {why}"))
}

/// Whether Postgres `text` cannot hold it.
pub(super) fn has_nul(text: &str) -> bool {
    text.as_bytes().contains(&0)
}

#[inline]
fn push(array: &mut Array, kind: ColumnType, value: Option<&Value>) -> Result<(), &'static str> {
    match (kind, value) {
        (_, Some(Value::Null)) => array.push(None),
        (ColumnType::Bool, Some(Value::Bool(v))) => array.push(Some(&[u8::from(*v)])),
        (ColumnType::I16, Some(Value::I16(v))) => array.push(Some(&v.to_be_bytes())),
        (ColumnType::I32, Some(Value::I32(v))) => array.push(Some(&v.to_be_bytes())),
        (ColumnType::I64, Some(Value::I64(v))) => array.push(Some(&v.to_be_bytes())),
        (ColumnType::F32, Some(Value::F32(v))) => array.push(Some(&v.to_be_bytes())),
        (ColumnType::F64, Some(Value::F64(v))) => array.push(Some(&v.to_be_bytes())),
        (ColumnType::Bytes, Some(Value::Bytes(v))) => array.push(Some(v)),
        (ColumnType::LocalTimestamp, Some(Value::Text(v))) if !has_nul(v) => {
            array.push(Some(v.replacen('T', " ", 1).as_bytes()));
        }
        (
            ColumnType::Text
            | ColumnType::Numeric
            | ColumnType::Date
            | ColumnType::Time
            | ColumnType::Spelled
            | ColumnType::LocalTimestamp,
            Some(Value::Text(v)),
        ) => {
            if has_nul(v) {
                return Err("text with a NUL character");
            }
            array.push(Some(v.as_bytes()));
        }
        (ColumnType::Json | ColumnType::Array, Some(Value::Json(v))) => {
            if has_nul(v) || escapes_nul(v) {
                return Err("JSON with a NUL character");
            }
            array.push(Some(v.as_bytes()));
        }
        (ColumnType::Uuid, Some(Value::Text(v))) => {
            array.push(Some(Uuid::try_parse(v).map_err(|_| "not a UUID")?.as_bytes()));
        }
        (ColumnType::Timestamp, Some(Value::Text(v))) => {
            array.push(Some(&instant(v).ok_or("not an RFC 3339 instant")?.to_be_bytes()));
        }
        _ => return Err("the value's type is not the column's"),
    }
    Ok(())
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], String> {
    bytes.try_into().map_err(|_| format!("expected {N} bytes, found {}", bytes.len()))
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|error| error.to_string())
}

/// Whether JSON text holds the escape `\u0000`, which `jsonb` refuses. An escaped backslash before `u0000` is no escape.
fn escapes_nul(json: &str) -> bool {
    let bytes = json.as_bytes();
    json.match_indices("\\u0000").any(|(at, _)| {
        let before = bytes.iter().take(at).rev().take_while(|byte| **byte == b'\\').count();
        before % 2 == 0
    })
}

/// Microseconds since 2000 → `2026-01-31T12:00:00.250000Z`. An instant that RFC 3339 cannot express (`infinity`, years
/// outside 0 to 9999) becomes a word that no parser of instants accepts: such a row is refused instead of changed.
fn instant_text(micros: i64) -> String {
    let nanos = i128::from(micros) * 1000 + NANOS_TO_2000;
    let at = match (micros, OffsetDateTime::from_unix_timestamp_nanos(nanos)) {
        (i64::MAX, _) => return "infinity".into(),
        (i64::MIN, _) => return "-infinity".into(),
        (_, Ok(at)) if at.year() >= 0 => at,
        _ => return "outside years 0 to 9999".into(),
    };
    let mut out = String::with_capacity(27);
    let _ = write!(
        out,
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.microsecond()
    );
    out
}

/// The inverse of [`instant_text`]; nanoseconds are rounded to the nearest microsecond, halves up.
fn instant(text: &str) -> Option<i64> {
    match text {
        "infinity" => Some(i64::MAX),
        "-infinity" => Some(i64::MIN),
        _ => {
            let nanos = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos() - NANOS_TO_2000;
            i64::try_from((nanos + 500).div_euclid(1000)).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(kind: ColumnType, value: &Value) -> Result<Array, Reject> {
        column(kind, "c", 1, std::iter::once(Some(value)))
    }

    #[test]
    fn a_value_that_postgres_cannot_hold_is_a_dead_letter_that_names_only_the_column() {
        for (kind, value) in [
            (ColumnType::Text, Value::Text("sec\0ret".into())),
            (ColumnType::Json, Value::Json(r#""sec\u0000ret""#.into())),
            (ColumnType::Uuid, Value::Text("secret".into())),
            (ColumnType::Timestamp, Value::Text("secret".into())),
            (ColumnType::I64, Value::Text("secret".into())),
        ] {
            let reject = one(kind, &value).unwrap_err();
            assert_eq!(reject.code(), "bad-value");
            assert!(reject.message().starts_with("column c: ") && !reject.message().contains("secret"));
        }
        assert!(column(ColumnType::I64, "c", 1, std::iter::once(None)).is_err(), "a missing value is not null");
    }

    #[test]
    fn an_escaped_backslash_before_u0000_is_no_nul() {
        assert!(escapes_nul(r#""\u0000""#) && escapes_nul(r#""\\\u0000""#));
        assert!(
            !escapes_nul(r#""\\u0000""#)
                && !escapes_nul(r#""\u00001"#.trim_start_matches('"').trim_start_matches('\\'))
        );
    }

    #[test]
    fn instants_have_one_spelling() {
        assert_eq!(instant_text(0), "2000-01-01T00:00:00.000000Z");
        assert_eq!(instant("2000-01-01T01:00:00.0000015+01:00"), Some(2));
        assert_eq!(instant("yesterday"), None);
        assert_eq!(instant_text(i64::MAX), "infinity");
        assert_eq!(instant(&instant_text(i64::MIN)), Some(i64::MIN));
        assert_eq!(instant(&instant_text(-100_000_000_000_000_000)), None, "before year 0");
    }

    proptest! {
        #[test]
        fn an_instant_reads_back(micros in -63_000_000_000_000_000_i64..252_000_000_000_000_000) {
            prop_assert_eq!(instant(&instant_text(micros)), Some(micros));
        }
    }
}
