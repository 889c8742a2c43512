//! A table that is not found by its name, and is in a schema that the name does not lead to.

use sqlx::postgres::PgConnection;
use sqlx::{Error, Row};

/// The schemas that have a table of this name, five at most.
pub(super) async fn schemas_with(c: &mut PgConnection, table: &str) -> Result<Vec<String>, Error> {
    let rows = sqlx::query(
        "SELECT n.nspname::text FROM pg_class r JOIN pg_namespace n ON n.oid = r.relnamespace \
         WHERE r.relname = $1 AND r.relkind IN ('r', 'p') AND n.nspname <> 'information_schema' \
         AND n.nspname NOT LIKE 'pg\\_%' ORDER BY 1 LIMIT 5",
    )
    .bind(bare(table))
    .persistent(false)
    .fetch_all(c)
    .await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// The sentence about a table that these schemas have.
pub(super) fn elsewhere(table: &str, schemas: &[String]) -> String {
    let places: Vec<String> = schemas.iter().map(|schema| format!("\"{schema}.{}\"", bare(table))).collect();
    format!(
        "table {table}: does not exist under this name; name it with its schema in the pipeline, as {}",
        places.join(" or ")
    )
}

/// The name without a schema.
fn bare(table: &str) -> &str {
    table.rsplit('.').next().unwrap_or_default()
}
