//! Statements over the user's tables, and the quotes without which no name comes into SQL.

use crate::flow::table::{ColumnType, TableSpec};
use crate::ports::rows::WriteKind;
use sqlx::AssertSqlSafe;

/// The statements of one table.
#[derive(Debug)]
pub(super) struct Statements {
    read: String,
    write: String,
    insert: String,
    delete: String,
}

/// `billing.accounts` as its schema, where it names one, and its name.
pub(super) fn split(name: &str) -> (Option<&str>, &str) {
    name.split_once('.').map_or((None, name), |(schema, table)| (Some(schema), table))
}

/// A name as it stands in SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn qualified(name: &str) -> String {
    match split(name) {
        (Some(schema), table) => format!("{}.{}", quoted(schema), quoted(table)),
        (None, table) => quoted(table),
    }
}

/// The columns of the key.
fn keys_of(spec: &TableSpec) -> Vec<String> {
    spec.table.key_columns().into_iter().map(|(name, _)| quoted(name)).collect()
}

impl Statements {
    /// Reads: version, columns, by key. Writes: columns but for key and version, new version, key, old version, in this order of
    /// arguments. Inserts: the same without the old version. Deletes: key, old version.
    pub(super) fn of(spec: &TableSpec) -> Self {
        let table = qualified(&spec.table.name);
        let keys = keys_of(spec);
        let version = spec.table.version_column.as_deref().map(quoted);
        let columns: Vec<String> = spec.columns.iter().map(|column| quoted(&column.name)).collect();
        let selected: Vec<&str> =
            std::iter::once(version.as_deref().unwrap_or("0")).chain(columns.iter().map(String::as_str)).collect();
        let written = spec.columns.iter().map(|column| &column.name).filter(|name| spec.is_written(name));
        let written: Vec<String> = written.map(|name| quoted(name)).chain(version.clone()).collect();
        let assigned: Vec<String> =
            written.iter().enumerate().map(|(index, name)| format!("{name} = ?{}", index + 1)).collect();
        let next = assigned.len() + 1;
        let inserted: Vec<&str> = written.iter().chain(&keys).map(String::as_str).collect();
        let places: Vec<String> = (1..=inserted.len()).map(|number| format!("?{number}")).collect();
        // The key from an argument on, and the version behind it.
        let is_key = |first: usize| {
            let equal = keys.iter().zip(first..).map(|(key, number)| format!("{key} = ?{number}"));
            equal.collect::<Vec<_>>().join(" AND ")
        };
        let is_version = |first: usize| {
            let at = first + keys.len();
            version.as_ref().map(|version| format!(" AND {version} = ?{at}")).unwrap_or_default()
        };
        Self {
            read: format!("SELECT {} FROM {table} WHERE {}", selected.join(", "), is_key(1)),
            write: format!("UPDATE {table} SET {} WHERE {}{}", assigned.join(", "), is_key(next), is_version(next)),
            insert: format!(
                "INSERT INTO {table} ({}) VALUES ({}) ON CONFLICT ({}) DO NOTHING",
                inserted.join(", "),
                places.join(", "),
                keys.join(", ")
            ),
            delete: format!("DELETE FROM {table} WHERE {}{}", is_key(1), is_version(1)),
        }
    }

    pub(super) fn read(&self) -> AssertSqlSafe<String> {
        AssertSqlSafe(self.read.clone())
    }

    pub(super) fn write(&self, kind: WriteKind) -> AssertSqlSafe<String> {
        AssertSqlSafe(match kind {
            WriteKind::Update => self.write.clone(),
            WriteKind::Insert => self.insert.clone(),
            WriteKind::Delete => self.delete.clone(),
        })
    }
}

/// Creates the table that `spec` asks for.
pub(super) fn create_table(spec: &TableSpec) -> AssertSqlSafe<String> {
    let keys = spec.table.key_columns();
    let is_alone = if keys.len() == 1 { " PRIMARY KEY" } else { "" };
    let mut columns: Vec<String> =
        keys.iter().map(|(name, kind)| format!("{} {kind} NOT NULL{is_alone}", quoted(name))).collect();
    for column in spec.columns.iter().filter(|column| spec.is_written(&column.name)) {
        let kind = match column.accepts.first() {
            Some(ColumnType::Numeric) => "numeric text".into(), // a bare NUMERIC would round
            Some(ColumnType::LocalTimestamp) => "datetime".into(),
            Some(ColumnType::Spelled) | None => "text".into(),
            Some(kind) => kind.to_string(),
        };
        let null = if column.is_nullable { "" } else { " NOT NULL" };
        columns.push(format!("{} {kind}{null}", quoted(&column.name)));
    }
    if let Some(version) = &spec.table.version_column {
        columns.push(format!("{} bigint NOT NULL DEFAULT 0", quoted(version)));
    }
    if keys.len() > 1 {
        columns.push(format!("PRIMARY KEY ({})", keys_of(spec).join(", ")));
    }
    AssertSqlSafe(format!("CREATE TABLE {} ({})", qualified(&spec.table.name), columns.join(", ")))
}

/// Inserts a row: key, then the other columns in the order of `spec`, in this order of arguments.
pub(super) fn insert_row(spec: &TableSpec) -> AssertSqlSafe<String> {
    let mut columns = keys_of(spec);
    let others = spec.columns.iter().filter(|column| spec.table.key_number(&column.name).is_none());
    columns.extend(others.map(|column| quoted(&column.name)));
    let places: Vec<String> = (1..=columns.len()).map(|number| format!("?{number}")).collect();
    let table = qualified(&spec.table.name);
    AssertSqlSafe(format!("INSERT INTO {table} ({}) VALUES ({})", columns.join(", "), places.join(", ")))
}

/// The sum of a table's row versions.
pub(super) fn version_sum(table: &str, version_column: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!("SELECT COALESCE(SUM({}), 0) FROM {}", quoted(version_column), qualified(table)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Table;
    use crate::flow::table::{ColumnSpec, ColumnType};

    #[test]
    fn names_are_quoted_whatever_they_hold() {
        let column = |name: &str| ColumnSpec { name: name.into(), accepts: vec![ColumnType::I64], is_nullable: false };
        let spec = TableSpec::new(Table::new("billing.odd\"name"), vec![column("score"), column("x\"; DROP TABLE y")]);
        let statements = Statements::of(&spec);
        let table = "\"billing\".\"odd\"\"name\"";
        assert_eq!(
            statements.read,
            format!("SELECT \"version\", \"score\", \"x\"\"; DROP TABLE y\" FROM {table} WHERE \"id\" = ?1")
        );
        assert_eq!(
            statements.write,
            format!(
                "UPDATE {table} SET \"score\" = ?1, \"x\"\"; DROP TABLE y\" = ?2, \"version\" = ?3 WHERE \"id\" = ?4 AND \"version\" = ?5"
            )
        );
        let spec = TableSpec::new(Table::new("plain").unversioned(), vec![column("score")]);
        assert_eq!(Statements::of(&spec).write, "UPDATE \"plain\" SET \"score\" = ?1 WHERE \"id\" = ?2");
    }
}
