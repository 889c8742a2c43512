//! Declared column types, and values on their way in and out.
//!
//! SQLite types values, not columns; the type that a column *declares* decides here, by its first word, so that one DDL
//! serves both databases. A declared type also gives the column an affinity, and numeric affinity rounds long decimals:
//! `NUMERIC` and `DECIMAL` are therefore refused unless they are declared as `NUMERIC TEXT`, which keeps the digits.

use super::connection::{Connection, Query, Trouble};
use super::statements::split;
use crate::flow::key::{Key, Part};
use crate::flow::row::Value;
use crate::flow::table::{ColumnType, FoundColumn};
use crate::ports::Fault;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, TypeInfo, ValueRef};

/// The columns of a table as SQLite describes them; `None` when there is no such table.
pub(super) fn describe(connection: &mut Connection, table: &str) -> Result<Option<Vec<FoundColumn>>, Trouble> {
    let (schema, name) = split(table);
    let query =
        sqlx::query("SELECT name, type, \"notnull\", pk, dflt_value IS NOT NULL FROM pragma_table_info(?1, ?2)");
    let rows = connection.fetch(query.bind(name.to_owned()).bind(schema.unwrap_or("main").to_owned()))?;
    let mut columns = Vec::new();
    for row in &rows {
        let declared: String = row.try_get(1)?;
        let (is_not_null, is_key): (bool, bool) = (row.try_get::<i64, _>(2)? != 0, row.try_get::<i64, _>(3)? != 0);
        let column_type = column_type(&declared, is_key);
        let type_name = match column_type {
            Ok(kind) => kind.map_or_else(|| declared.clone(), |kind| kind.to_string()),
            Err(why) => format!("{declared} ({why})"),
        };
        columns.push(FoundColumn {
            name: row.try_get(0)?,
            column_type: column_type.unwrap_or_default(),
            type_name,
            is_nullable: !is_not_null && !is_key,
            has_default: row.try_get::<i64, _>(4)? != 0,
        });
    }
    Ok((!columns.is_empty()).then_some(columns))
}

/// The type that a declaration stands for; `Ok(None)` where it stands for none that we know.
fn column_type(declared: &str, is_key: bool) -> Result<Option<ColumnType>, &'static str> {
    let upper = declared.to_ascii_uppercase();
    let first = upper.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    Ok(Some(match first {
        "BOOLEAN" | "BOOL" => ColumnType::Bool,
        "SMALLINT" | "INT2" => ColumnType::I16,
        // An INTEGER PRIMARY KEY is the row id, which has 64 bits.
        "INTEGER" if is_key => ColumnType::I64,
        "INTEGER" | "INT" | "INT4" => ColumnType::I32,
        "BIGINT" | "INT8" => ColumnType::I64,
        "REAL" | "FLOAT4" => ColumnType::F32,
        "DOUBLE" | "FLOAT8" | "FLOAT" => ColumnType::F64,
        "TEXT" | "VARCHAR" | "CHAR" | "CHARACTER" | "CITEXT" => ColumnType::Text,
        "BLOB" | "BYTEA" => ColumnType::Bytes,
        "UUID" => ColumnType::Uuid,
        "TIMESTAMPTZ" | "TIMESTAMP" => ColumnType::Timestamp,
        "DATETIME" => ColumnType::LocalTimestamp,
        "DATE" => ColumnType::Date,
        "TIME" => ColumnType::Time,
        "JSON" | "JSONB" => ColumnType::Json,
        "NUMERIC" | "DECIMAL" if upper.contains("TEXT") => ColumnType::Numeric,
        "NUMERIC" | "DECIMAL" => return Err("SQLite would round it; declare it NUMERIC TEXT"),
        _ => return Ok(None),
    }))
}

/// Whether a column's numeric affinity, which `JSONB` has, would make another number of this JSON text: any bare number but
/// an integer of 64 bits. Stored as bytes the text is unchanged.
fn would_be_rounded(json: &str) -> bool {
    let is_number = json.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    is_number && !json.parse::<i64>().is_ok_and(|number| number.to_string() == json)
}

/// Binds a value. Floats of 32 bits lie as 64 bits, which holds them exactly; truth as 0 and 1.
pub(super) fn bind<'q>(query: Query<'q>, value: &Value) -> Query<'q> {
    match value {
        Value::Null => query.bind(None::<i64>),
        Value::Bool(v) => query.bind(i64::from(*v)),
        Value::I16(v) => query.bind(i64::from(*v)),
        Value::I32(v) => query.bind(i64::from(*v)),
        Value::I64(v) => query.bind(*v),
        Value::F32(v) => query.bind(f64::from(*v)),
        Value::F64(v) => query.bind(*v),
        Value::Json(v) if would_be_rounded(v) => query.bind(v.clone().into_bytes()),
        Value::Text(v) | Value::Json(v) => query.bind(v.clone()),
        Value::Bytes(v) => query.bind(v.clone()),
    }
}

pub(super) fn bind_key<'q>(query: Query<'q>, key: &Key) -> Query<'q> {
    match key {
        Key::I64(id) => query.bind(*id),
        Key::Uuid(_) | Key::Text(_) => query.bind(key.to_string()),
        Key::Bytes(id) => query.bind(id.to_vec()),
        Key::Parts(parts) => parts.iter().fold(query, |query, part| match part {
            Part::I64(id) => query.bind(*id),
            Part::Text(id) => query.bind(id.to_string()),
        }),
    }
}

/// Reads a column's value as its type wants it.
pub(super) fn value(row: &SqliteRow, index: usize, kind: ColumnType) -> Result<Value, Trouble> {
    if row.try_get_raw(index)?.is_null() {
        return Ok(Value::Null);
    }
    let number = || row.try_get_unchecked::<i64, _>(index);
    let out_of_range = |number: i64| Fault::corrupt(format!("SQLite holds {number} in a column of type {kind}"));
    Ok(match kind {
        ColumnType::Bool => Value::Bool(number()? != 0),
        ColumnType::I16 => number().map(|n| i16::try_from(n).map(Value::I16).map_err(|_| out_of_range(n)))??,
        ColumnType::I32 => number().map(|n| i32::try_from(n).map(Value::I32).map_err(|_| out_of_range(n)))??,
        ColumnType::I64 => Value::I64(number()?),
        #[expect(clippy::cast_possible_truncation, reason = "it was written from 32 bits")]
        ColumnType::F32 => Value::F32(row.try_get_unchecked::<f64, _>(index)? as f32),
        ColumnType::F64 => Value::F64(row.try_get_unchecked(index)?),
        ColumnType::Bytes => Value::Bytes(row.try_get_unchecked(index)?),
        ColumnType::Json | ColumnType::Array => Value::Json(text(row, index)?),
        _ => Value::Text(text(row, index)?),
    })
}

/// Text, also where numeric affinity has made a number of a bare JSON number.
fn text(row: &SqliteRow, index: usize) -> Result<String, Trouble> {
    let raw = row.try_get_raw(index)?;
    let kind = raw.type_info().name().to_owned();
    Ok(match kind.as_str() {
        "INTEGER" => row.try_get_unchecked::<i64, _>(index)?.to_string(),
        "REAL" => row.try_get_unchecked::<f64, _>(index)?.to_string(),
        _ => row.try_get_unchecked::<String, _>(index)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_of_a_declaration_decides() {
        for (declared, kind) in [
            ("double precision", ColumnType::F64),
            ("VARCHAR(20)", ColumnType::Text),
            ("timestamp with time zone", ColumnType::Timestamp),
            ("NUMERIC TEXT", ColumnType::Numeric),
            ("integer", ColumnType::I32),
        ] {
            assert_eq!(column_type(declared, false), Ok(Some(kind)), "{declared}");
        }
        assert_eq!(column_type("INTEGER", true), Ok(Some(ColumnType::I64)));
        assert!(column_type("NUMERIC(10, 2)", false).unwrap_err().contains("NUMERIC TEXT"));
        assert_eq!(column_type("GEOMETRY", false), Ok(None));
        assert_eq!(column_type("", false), Ok(None));
    }
}
