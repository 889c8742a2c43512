//! One column of an answer.

use sqlx::Row;
use sqlx::postgres::PgRow;

/// The raw bytes of one column; `None` for null. Without sqlx's type check, since the statement names the types.
pub(in crate::adapters::postgres) fn raw(row: &PgRow, index: usize) -> Result<Option<&[u8]>, sqlx::Error> {
    use sqlx::ValueRef;
    let value = row.try_get_raw(index)?;
    if value.is_null() { Ok(None) } else { value.as_bytes().map(Some).map_err(sqlx::Error::Decode) }
}

/// An error of our own about the bytes that came back.
pub(in crate::adapters::postgres) fn unreadable(why: impl Into<String>) -> sqlx::Error {
    sqlx::Error::Decode(why.into().into())
}
