//! The unique indexes of a user's table, and what makes a key of columns that have none.

use sqlx::postgres::PgConnection;
use sqlx::{Error, Row};

/// A unique index over whole columns and all rows.
pub(super) struct Unique {
    /// In the index's order.
    pub(super) columns: Vec<String>,
    /// Whether an insert can be held against it at once.
    pub(super) is_arbiter: bool,
    is_primary: bool,
}

impl Unique {
    /// Those of the relation with this `pg_class.oid`.
    pub(super) async fn find(c: &mut PgConnection, relation: i64) -> Result<Vec<Self>, Error> {
        let rows = sqlx::query(
            "SELECT array_agg(a.attname::text ORDER BY array_position(i.indkey::int2[], a.attnum)), i.indimmediate, \
             i.indisprimary FROM pg_index i JOIN pg_attribute a \
             ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]) \
             WHERE i.indrelid = $1::oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL \
             GROUP BY i.indexrelid, i.indimmediate, i.indisprimary",
        )
        .bind(relation)
        .persistent(false)
        .fetch_all(c)
        .await?;
        let read = |row| {
            let row: &sqlx::postgres::PgRow = row;
            Ok(Self { columns: row.try_get(0)?, is_arbiter: row.try_get(1)?, is_primary: row.try_get(2)? })
        };
        rows.iter().map(read).collect()
    }
}

/// The end of a sentence about a key whose columns have no unique index: a table has one primary key at most.
///
/// `named` says where the pipeline names the key's columns.
pub(super) fn key_fix(indexes: &[Unique], table: &str, columns: &str, named: &str) -> String {
    match indexes.iter().find(|index| index.is_primary) {
        None => format!("ALTER TABLE {table} ADD PRIMARY KEY ({columns})"),
        Some(primary) => format!(
            "ALTER TABLE {table} ADD UNIQUE ({columns}), or name the right {named}: the table's primary key is ({})",
            primary.columns.join(", ")
        ),
    }
}
