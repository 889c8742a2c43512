//! SQL text: the one module that makes statements from names, and the only one that may call them safe
//! (docs/traps.md#names-in-sql).
//!
//! Names come from settings, from the topology and from the database's catalog. Each is checked against [`Name`]'s
//! alphabet *and* quoted; values are bound, never written into the text.

use super::keys::{KeyColumn, KeyText};
use super::values;
use crate::flow::table::{ColumnType, TableSpec};
use crate::ports::guard::{self, Guard};
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};
use std::fmt;
use std::sync::Arc;

/// An SQL identifier: `[A-Za-z_][A-Za-z0-9_$]{0,62}`. Displays quoted, so upper and lower case count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Name(String);

impl Name {
    /// Parses a name.
    ///
    /// # Errors
    /// A sentence that quotes the name.
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        let mut characters = name.chars();
        let starts = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        if !starts || name.len() > 63 || !characters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '$')) {
            return Err(format!(
                "name {name:?}: use 1 to 63 characters of a-z, A-Z, 0-9, '_' and '$', the first neither digit nor '$'"
            ));
        }
        Ok(Self(name.into()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quote(&self.0))
    }
}

/// Quotes an identifier of any spelling, such as the catalog's.
fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('\0', "").replace('"', "\"\""))
}

/// A statement whose text was made once.
#[derive(Clone, Debug)]
pub(super) struct Statement(Arc<str>);

impl Statement {
    /// The text, for sqlx.
    pub(super) fn sql(&self) -> SqlStr {
        AssertSqlSafe(Arc::clone(&self.0)).into_sql_str()
    }
}

/// Puts the quoted schema into a text of ours, in place of `{schema}`.
pub(super) fn in_schema(schema: &Name, text: &str) -> Statement {
    Statement(text.replace("{schema}", &schema.to_string()).into())
}

/// The same as [`in_schema`], with the name of one table (a partition of ours) in place of `{table}`.
pub(super) fn on_table(schema: &Name, table: &Name, text: &str) -> Statement {
    Statement(text.replace("{schema}", &schema.to_string()).replace("{table}", &table.to_string()).into())
}

/// Opens a transaction and sets its limits in one round trip; the server's own defaults are "for ever"
/// (docs/traps.md#no-time-limits-by-default).
///
/// Deferred constraints are checked at once: the error then meets the row that caused it, behind its savepoint, and COMMIT
/// has nothing left to refuse.
///
/// The last statement answers in which process of the server the transaction is: another one than the connection's own is a
/// pooler's doing.
///
/// A server that waits for its standbys to apply a commit (`remote_apply`) goes on doing so; every weaker level is raised.
pub(super) fn begin(limits: Limits, synchronous_commit: &str) -> Statement {
    let Limits { statement, lock, idle } = limits;
    let raise = if synchronous_commit == "remote_apply" { "" } else { "SET LOCAL synchronous_commit = on; " };
    Statement(
        format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = {statement}; \
             SET LOCAL lock_timeout = {lock}; SET LOCAL idle_in_transaction_session_timeout = {idle}; {raise}\
             SET CONSTRAINTS ALL IMMEDIATE; SELECT pg_backend_pid()"
        )
        .into(),
    )
}

/// Time limits of one transaction, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Longest statement.
    pub(super) statement: u32,
    /// Longest wait for one lock.
    pub(super) lock: u32,
    /// Longest pause between two statements.
    pub(super) idle: u32,
}

/// Commits. The SELECT fails in a failed transaction, of which a bare COMMIT makes a silent ROLLBACK
/// (docs/traps.md#a-commit-that-rolls-back).
pub(super) const COMMIT: &str = "SELECT 1; COMMIT";

// === user tables ===

/// A column as bound: where it stands and how it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BoundColumn {
    pub(super) name: String,
    pub(super) kind: ColumnType,
    /// The type that text is cast to on the server, for those types that travel as text.
    pub(super) cast: Option<String>,
    /// The key and the version are read like others where the struct has them, and written by the engine alone.
    pub(super) is_written: bool,
    /// Its value is the database's own.
    pub(super) is_read_only: bool,
}

impl BoundColumn {
    /// The column of `t` as it travels.
    fn read(&self) -> String {
        let name = quote(&self.name);
        match self.kind {
            ColumnType::Text
            | ColumnType::Numeric
            | ColumnType::Json
            | ColumnType::LocalTimestamp
            | ColumnType::Date
            | ColumnType::Time => format!("t.{name}::text"),
            ColumnType::Array => format!("array_to_json(t.{name})::text"),
            // As the type itself spells it: a cast of `inet` adds the length of its mask.
            ColumnType::Spelled => format!("CASE WHEN t.{name} IS NULL THEN NULL ELSE format('%s', t.{name}) END"),
            _ => format!("t.{name}"),
        }
    }

    /// The value number `number` of a write as the column holds it.
    fn given(&self, number: usize) -> String {
        let cast = self.cast.as_ref().map(|cast| format!("::{cast}")).unwrap_or_default();
        if self.kind == ColumnType::Array {
            return format!(
                "CASE WHEN u.c{number} IS NULL THEN NULL ELSE ARRAY(SELECT e FROM jsonb_array_elements_text(u.c{number}::jsonb) \
                 WITH ORDINALITY AS a(e, n) ORDER BY n)::text[]{cast} END"
            );
        }
        format!("u.c{number}{cast}")
    }

    /// The same for a row that is there. An array that is the same as a list stays as it is, with the numbers that its elements
    /// begin with, and whatever a list cannot say.
    fn kept(&self, given: &str, number: usize) -> String {
        if self.kind != ColumnType::Array {
            return given.to_owned();
        }
        let name = quote(&self.name);
        format!("CASE WHEN array_to_json(t.{name})::jsonb = u.c{number}::jsonb THEN t.{name} ELSE {given} END")
    }
}

/// The statements of one bound table.
#[derive(Debug)]
pub(super) struct TableStatements {
    pub(super) read: Statement,
    pub(super) write: Statement,
    /// Inserts rows but for those whose key is there.
    pub(super) insert: Statement,
    pub(super) delete: Statement,
    /// The keys of rows that others have locked.
    pub(super) locked: Statement,
}

/// Builds the statements. `relation` is the table's name as the catalog spells it: schema, then table.
pub(super) fn table(
    relation: (&str, &str),
    spec: &TableSpec,
    key_column: &KeyColumn,
    columns: &[BoundColumn],
) -> TableStatements {
    let table = format!("{}.{}", quote(relation.0), quote(relation.1));
    let names: Vec<String> = spec.table.key_columns().iter().map(|(name, _)| quote(name)).collect();
    let key = KeyText { names: &names, kind: spec.table.key_type.column_type(), column: key_column };
    let (key_array, key_out, compared) = (key.array(), key.read(), key.compared());
    let (is_among, is_given) = (key.is_among(), key.is_given());
    let version = spec.table.version_column.as_deref().map(quote);

    let read_columns: Vec<String> = columns.iter().map(BoundColumn::read).collect();
    let read_columns: String = read_columns.iter().flat_map(|column| [", ", column]).collect();
    let version_out = version.as_ref().map_or_else(|| "0::bigint".into(), |version| format!("t.{version}"));
    // Sorted before it is locked (docs/traps.md#sorted-arrays-do-not-sort-locks): the row locks are taken above
    // the sort, in its order. One answer row of arrays:
    // the client takes a thousand rows apart some ten times faster that way.
    let listed = |before: &str, after: &str| -> Vec<String> {
        (0..columns.len()).map(|number| format!(", {before}c{number}{after}")).collect()
    };
    let (aliases, arrays) = (listed("", "").concat(), listed("array_agg(", ")").concat());
    let order = if guard::is_off(Guard::SortedLocks) { "random()".into() } else { key.order() };
    let read = format!(
        "SELECT array_agg(k), array_agg(v){arrays} FROM (SELECT {key_out}, {version_out}{read_columns} FROM {table} AS t \
         WHERE {is_among} ORDER BY {order} FOR NO KEY UPDATE) AS r(k, v{aliases})"
    );
    let read = guard::guarded(read, Guard::RowLock, " FOR NO KEY UPDATE");

    let (mut set, mut arrays, mut given_names) = (Vec::new(), vec![format!("$1::{key_array}")], vec!["k".to_owned()]);
    // The rows are locked since they were read, so their version is unchanged; if not, a caller kept a stale row.
    let same_version = version.as_ref().map(|version| format!(" AND t.{version} = u.v0")).unwrap_or_default();
    if let Some(version) = &version {
        arrays.extend(["$2::bigint[]".into(), "$3::bigint[]".into()]);
        given_names.extend(["v0".into(), "v1".into()]);
        set.push(format!("{version} = u.v1"));
    }
    for column in columns.iter().filter(|column| column.is_written) {
        let number = arrays.len() + 1;
        arrays.push(format!("${number}::{}[]", values::array_type(column.kind)));
        given_names.push(format!("c{number}"));
        set.push(format!("{} = {}", quote(&column.name), column.kept(&column.given(number), number)));
    }
    if set.is_empty() {
        set.extend(names.iter().map(|name| format!("{name} = t.{name}")).take(1)); // a table of a key alone: nothing to change, the row count still counts
    }
    let write = format!(
        "UPDATE {table} AS t SET {} FROM unnest({}) AS u({}) WHERE {is_given}{same_version}",
        set.join(", "),
        arrays.join(", "),
        given_names.join(", ")
    );
    let (mut into, mut given, mut arrays, mut given_names) =
        (names.clone(), key.given(), vec![format!("$1::{key_array}")], vec!["k".to_owned()]);
    if let Some(version) = &version {
        into.push(version.clone());
        given.push("u.v1".into());
        arrays.push("$2::bigint[]".into());
        given_names.push("v1".into());
    }
    for column in columns.iter().filter(|column| column.is_written) {
        let number = arrays.len() + 1;
        arrays.push(format!("${number}::{}[]", values::array_type(column.kind)));
        given_names.push(format!("c{number}"));
        into.push(quote(&column.name));
        given.push(column.given(number));
    }
    let insert = format!(
        "INSERT INTO {table} ({}) SELECT {} FROM unnest({}) AS u({}) ON CONFLICT ({}) DO NOTHING",
        into.join(", "),
        given.join(", "),
        arrays.join(", "),
        given_names.join(", "),
        key.columns()
    );
    let versions = if version.is_some() { (", $2::bigint[]", ", v0") } else { ("", "") };
    let delete = format!(
        "DELETE FROM {table} AS t USING unnest($1::{key_array}{}) AS u(k{}) WHERE {is_given}{same_version}",
        versions.0, versions.1
    );
    let among = format!("FROM {table} AS t WHERE {is_among}");
    let locked = format!(
        "WITH free AS (SELECT {compared} AS k {among} FOR NO KEY UPDATE SKIP LOCKED) \
         SELECT {key_out} {among} AND NOT EXISTS (SELECT FROM free WHERE free.k = {compared})"
    );
    TableStatements {
        read: Statement(Arc::from(&*read)),
        write: Statement(write.into()),
        insert: Statement(insert.into()),
        delete: Statement(delete.into()),
        locked: Statement(locked.into()),
    }
}

/// Splits `schema.table` or `table` into a quoted name for `to_regclass`, which follows the search path.
///
/// # Errors
/// A sentence: a part is no legal name.
pub(super) fn regclass(table: &str) -> Result<String, String> {
    match table.split_once('.') {
        Some((schema, table)) => Ok(format!("{}.{}", Name::parse(schema)?, Name::parse(table)?)),
        None => Name::parse(table).map(|table| table.to_string()),
    }
}

/// The sum of a table's versions.
///
/// # Errors
/// A sentence: a name is illegal.
pub(super) fn version_sum(table: &str, version: &str) -> Result<Statement, String> {
    let text = format!("SELECT coalesce(sum({}), 0)::bigint FROM {}", Name::parse(version)?, regclass(table)?);
    Ok(Statement(text.into()))
}

/// Notes base lines: `$1` is the pipeline, `$2` the names of the tables `missing`, `$3` those of the tables `noted`; each comes
/// with its version column. One statement sees one moment: what the pipeline has added by then and no noted table has is the
/// first one's, and where others are noted no more than the positions of the sources `$4` have made: a change that is lost in an
/// older table is no change of a new one.
///
/// # Errors
/// A sentence: a name is illegal.
pub(super) fn baselines(schema: &Name, missing: &[(&str, &str)], noted: &[(&str, &str)]) -> Result<Statement, String> {
    let sums = |tables: &[(&str, &str)]| -> Result<Vec<String>, String> {
        tables.iter().map(|(table, version)| Ok(format!("({})", version_sum(table, version)?.0))).collect()
    };
    let (missing, noted) = (sums(missing)?, sums(noted)?);
    let known = if noted.is_empty() { "0".into() } else { noted.join(" + ") };
    // Of a first table every change is, whatever steps there were.
    let own = if noted.is_empty() { "true" } else { "topic = ANY($4)" };
    let text = format!(
        "INSERT INTO {{schema}}.baseline (pipeline, table_name, version_sum) \
         SELECT $1, m.name, m.total - CASE WHEN m.place = 1 THEN least(\
         (SELECT coalesce(sum(row_changes) FILTER (WHERE {own}), 0)::bigint FROM {{schema}}.position WHERE pipeline = $1), \
         (SELECT coalesce(sum(row_changes), 0)::bigint FROM {{schema}}.position WHERE pipeline = $1) - ({known}) \
         + (SELECT coalesce(sum(version_sum), 0)::bigint FROM {{schema}}.baseline WHERE pipeline = $1 AND table_name = ANY($3))) \
         ELSE 0 END FROM unnest($2::text[], ARRAY[{}]::bigint[]) WITH ORDINALITY AS m(name, total, place) \
         ON CONFLICT DO NOTHING",
        missing.join(", ")
    );
    Ok(in_schema(schema, &text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::key::KeyType;
    use crate::flow::table::Table;

    #[test]
    fn hostile_names_are_refused_and_quoted_all_the_same() {
        let hostile = [
            "",
            " ",
            "a b",
            "a;b",
            "a\"b",
            "\"",
            "a'b",
            "a--b",
            "a/*b",
            "1a",
            "$a",
            "a\0b",
            "a\nb",
            "a.b",
            "ä",
            "a\\b",
            "(a)",
            "a)",
            "drop table x",
            "\";DROP TABLE x;--",
            "pg_catalog.now()",
            "a\u{202e}b",
            "a,b",
            "a=b",
            "*",
            "?",
            "$1",
            "a$$b\"",
        ];
        for name in hostile {
            if name != "a$$b\"" {
                assert!(Name::parse(name).is_err(), "{name:?}");
            }
            let quoted = quote(name);
            let inner = &quoted[1..quoted.len() - 1];
            assert!(!inner.replace("\"\"", "").contains('"') && !inner.contains('\0'), "{quoted}");
        }
        assert!(Name::parse(&"a".repeat(64)).is_err());
        for name in ["a", "_", "Tide", "a$1", &"a".repeat(63)] {
            assert_eq!(Name::parse(name).unwrap().to_string(), format!("\"{name}\""));
        }
        assert_eq!(regclass("billing.accounts").unwrap(), "\"billing\".\"accounts\"");
        assert!(regclass("a.b.c").is_err() && regclass("a.").is_err() && regclass(".b").is_err());
    }

    fn bound(name: &str, kind: ColumnType, cast: Option<&str>, is_written: bool) -> BoundColumn {
        BoundColumn { name: name.into(), kind, cast: cast.map(Into::into), is_written, is_read_only: false }
    }

    #[test]
    fn a_table_is_read_in_key_order_and_written_by_arrays() {
        let spec = TableSpec::new(Table::new("accounts"), Vec::new());
        let columns = [
            bound("score", ColumnType::F64, None, true),
            bound("id", ColumnType::I64, None, false),
            bound("extra", ColumnType::Json, Some("jsonb"), true),
        ];
        let made = table(("public", "accounts"), &spec, &KeyColumn::Plain, &columns);
        assert_eq!(
            &*made.read.0,
            "SELECT array_agg(k), array_agg(v), array_agg(c0), array_agg(c1), array_agg(c2) FROM (SELECT t.\"id\"::bigint, \
             t.\"version\", t.\"score\", t.\"id\", t.\"extra\"::text FROM \"public\".\"accounts\" AS t \
             WHERE t.\"id\" = ANY($1::bigint[]) ORDER BY t.\"id\" FOR NO KEY UPDATE) AS r(k, v, c0, c1, c2)"
        );
        assert_eq!(
            &*made.write.0,
            "UPDATE \"public\".\"accounts\" AS t SET \"version\" = u.v1, \"score\" = u.c4, \"extra\" = u.c5::jsonb \
             FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::double precision[], $5::text[]) \
             AS u(k, v0, v1, c4, c5) WHERE t.\"id\" = u.k AND t.\"version\" = u.v0"
        );
        assert_eq!(
            &*made.insert.0,
            "INSERT INTO \"public\".\"accounts\" (\"id\", \"version\", \"score\", \"extra\") SELECT u.k, u.v1, u.c3, \
             u.c4::jsonb FROM unnest($1::bigint[], $2::bigint[], $3::double precision[], $4::text[]) AS u(k, v1, c3, c4) \
             ON CONFLICT (\"id\") DO NOTHING"
        );
        assert_eq!(
            &*made.delete.0,
            "DELETE FROM \"public\".\"accounts\" AS t USING unnest($1::bigint[], $2::bigint[]) AS u(k, v0) \
             WHERE t.\"id\" = u.k AND t.\"version\" = u.v0"
        );
    }

    #[test]
    fn an_unversioned_table_has_no_version_in_its_statements() {
        let spec = TableSpec::new(Table::new("t").key("name", KeyType::Text).unversioned(), Vec::new());
        let made = table(("s", "t"), &spec, &KeyColumn::Plain, &[bound("n", ColumnType::I32, None, true)]);
        assert!(made.read.0.contains("t.\"name\"::text, 0::bigint, t.\"n\""));
        assert!(made.write.0.ends_with("FROM unnest($1::text[], $2::integer[]) AS u(k, c2) WHERE t.\"name\" = u.k"));
        assert!(made.insert.0.contains("(\"name\", \"n\") SELECT u.k, u.c2 FROM unnest($1::text[], $2::integer[])"));
        assert!(made.delete.0.ends_with("USING unnest($1::text[]) AS u(k) WHERE t.\"name\" = u.k"));
    }

    #[test]
    fn a_key_is_compared_in_its_columns_own_type() {
        let spec = TableSpec::new(Table::new("t").key("name", KeyType::Text).unversioned(), Vec::new());
        let columns = [bound("n", ColumnType::I32, None, true)];
        let made = |key: &KeyColumn| table(("s", "t"), &spec, key, &columns);
        let padded = made(&KeyColumn::Loose("pg_catalog.bpchar".into()));
        let among = "WHERE t.\"name\" = ANY($1::text[]::pg_catalog.bpchar[]) AND t.\"name\"::text = ANY($1::text[])";
        assert!(padded.read.0.contains(among) && padded.locked.0.contains(among), "{padded:?}");
        assert!(padded.write.0.ends_with("WHERE t.\"name\" = u.k::pg_catalog.bpchar"), "{padded:?}");
        let tier = made(&KeyColumn::Enum("s.tier".into()));
        assert!(
            tier.read.0.contains("unnest(enum_range(NULL::s.tier)) AS e WHERE e::text = ANY($1::text[])"),
            "{tier:?}"
        );
        assert!(tier.write.0.ends_with("WHERE t.\"name\"::s.tier = u.k::s.tier"), "{tier:?}");
    }
    #[derive(serde::Serialize, serde::Deserialize)]
    struct OrderKey {
        tenant: i64,
        code: String,
    }

    #[test]
    fn a_key_of_several_columns_travels_as_a_list_and_is_compared_column_by_column() {
        let spec = TableSpec::new(Table::new("orders").compound_key::<OrderKey>(), Vec::new());
        let parts = KeyColumn::Parts(vec![ColumnType::I64, ColumnType::Text]);
        let made = table(("s", "orders"), &spec, &parts, &[bound("n", ColumnType::I32, None, true)]);
        let among = "WHERE (t.\"tenant\", t.\"code\") IN (SELECT (w.k::jsonb->>0)::bigint, (w.k::jsonb->>1)::text \
                     FROM unnest($1::text[]) AS w(k)) ORDER BY t.\"tenant\", t.\"code\" FOR NO KEY UPDATE";
        assert!(made.read.0.contains(among), "{made:?}");
        assert!(
            made.read.0.contains("SELECT jsonb_build_array(t.\"tenant\", t.\"code\")::text, t.\"version\""),
            "{made:?}"
        );
        let same = "WHERE t.\"tenant\" = (u.k::jsonb->>0)::bigint AND t.\"code\" = (u.k::jsonb->>1)::text AND t.\"version\" = u.v0";
        assert!(made.write.0.ends_with(same) && made.delete.0.ends_with(same), "{made:?}");
        assert!(
            made.insert.0.contains("(\"tenant\", \"code\", \"version\", \"n\") SELECT (u.k::jsonb->>0)::bigint")
                && made.insert.0.ends_with("ON CONFLICT (\"tenant\", \"code\") DO NOTHING"),
            "{made:?}"
        );
    }
}
