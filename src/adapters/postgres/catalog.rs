//! User tables as the catalog describes them, compared with the structs that read them.

use super::connection::Server;
use super::elsewhere::{elsewhere, schemas_with};
use super::keys::KeyColumn;
use super::statements::{self, BoundColumn, TableStatements};
use super::unique::{Unique, key_fix};
use super::values;
use crate::flow::table::{ColumnType, FoundColumn, PART_TYPES, TableSpec};
use crate::ports::fault::Fault;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row};

/// A table that can be read and written.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a question of the catalog")]
pub(super) struct BoundTable {
    /// Its name in the topology.
    pub(super) name: String,
    pub(super) key: ColumnType,
    pub(super) is_versioned: bool,
    /// Whether rows are inserted, and deleted.
    pub(super) inserts: bool,
    pub(super) deletes: bool,
    /// The same as [`Rows::keeps`](crate::ports::rows::Rows::keeps).
    pub(super) keeps: bool,
    pub(super) columns: Vec<BoundColumn>,
    pub(super) statements: TableStatements,
}

/// The tables as the database has them.
#[derive(Default)]
pub(super) struct Look {
    bound: Vec<BoundTable>,
    /// A sentence for each difference between a table and its struct.
    pub(super) differences: Vec<String>,
    /// A sentence for each thing that our role may not do or see. Another role may.
    pub(super) lacks: Vec<String>,
}

/// Looks every table up, and either binds them all or reports all that is wrong at once.
pub(super) fn bind(server: &mut Server, specs: &[TableSpec]) -> Result<Vec<BoundTable>, Fault> {
    let Look { bound, differences, lacks } = look(server, specs)?;
    let wrong: Vec<String> = [("do not fit the structs", differences), ("are not all ours to read and write", lacks)]
        .into_iter()
        .filter(|(_, sentences)| !sentences.is_empty())
        .map(|(what, sentences)| format!("the tables {what}:\n  {}", sentences.join("\n  ")))
        .collect();
    if wrong.is_empty() { Ok(bound) } else { Err(Fault::fatal(wrong.join("\n"))) }
}

/// Looks every table up and compares it with its struct.
pub(super) fn look(server: &mut Server, specs: &[TableSpec]) -> Result<Look, Fault> {
    let mut out = Look::default();
    let mut relations: Vec<(String, String)> = Vec::new();
    for spec in specs {
        let name = &spec.table.name;
        let illegal = illegal_names(spec);
        if !illegal.is_empty() {
            out.differences.extend(illegal);
            continue;
        }
        let regclass = statements::regclass(name).map_err(Fault::fatal)?;
        let found = match server.transaction("read the catalog", async |c| Relation::find(c, &regclass).await) {
            Err(fault) if fault.to_string().contains("SQLSTATE 42501") => {
                out.lacks.push(format!("table {name}: GRANT USAGE ON its SCHEMA to the role of database.url; {fault}"));
                continue;
            }
            found => found?,
        };
        if found.is_none() {
            let schemas = server.transaction("read the catalog", async |c| schemas_with(c, name).await)?;
            if !schemas.is_empty() {
                out.differences.push(elsewhere(name, &schemas));
                continue;
            }
        }
        let columns: Option<Vec<_>> =
            found.as_ref().map(|relation| relation.columns.iter().map(Column::found).collect());
        let is_table = found.as_ref().is_none_or(Relation::is_table);
        let mut wrong = if is_table { spec.differences(columns.as_deref()) } else { Vec::new() };
        if let Some(relation) = &found {
            wrong.extend(relation.differences(spec));
            // Rows are locked and counted by the table's name.
            let place = (relation.schema.clone(), relation.name.clone());
            if relations.contains(&place) {
                let (schema, table) = &place;
                wrong.push(format!(
                    "table {name}: is {schema}.{table}, which another step calls otherwise; use one name"
                ));
            }
            relations.push(place);
            out.lacks.extend(relation.lacks(spec));
            if wrong.is_empty() {
                out.bound.push(relation.bind(spec));
            }
        }
        out.differences.append(&mut wrong);
    }
    Ok(out)
}

/// Names that no statement may be built from.
fn illegal_names(spec: &TableSpec) -> Vec<String> {
    let table = &spec.table;
    let columns = spec.columns.iter().map(|column| &*column.name);
    let keys = table.key_columns().into_iter().map(|(name, _)| name);
    let columns = columns.chain(keys).chain(table.version_column.as_deref());
    let wrong = columns.filter_map(|name| statements::Name::parse(name).err());
    statements::regclass(&table.name)
        .err()
        .into_iter()
        .chain(wrong)
        .map(|why| format!("table {}: {why}", table.name))
        .collect()
}

/// A table, view or other object of the name.
struct Relation {
    schema: String,
    name: String,
    /// `pg_class.relkind`: `r` and `p` are tables.
    kind: String,
    /// `pg_class.relpersistence`: `p` survives a crash.
    persistence: String,
    /// Our role.
    role: String,
    /// The policies of the table, where row security may hide rows from our role.
    hidden_by: Option<String>,
    /// Whether an update of a row can run into nothing but its columns' types and indexes.
    is_free: bool,
    may_be_deleted: bool,
    columns: Vec<Column>,
    unique: Vec<Unique>,
}

/// Whether the relation `r` has no rule of its own about written values: no constraint but keys and NOT NULL (which the
/// struct's types keep), no trigger, rule, policy or generated column, no partition to fit into, no child that has more, no
/// index over an expression; and any text is one of its encoding.
const IS_FREE: &str = "r.relkind = 'r' AND NOT r.relispartition AND NOT r.relhassubclass AND NOT r.relhasrules \
     AND NOT row_security_active(r.oid) \
     AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conrelid = r.oid AND c.contype::text NOT IN ('p', 'u', 'n')) \
     AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = r.oid AND NOT t.tgisinternal) \
     AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = r.oid AND a.attgenerated <> '') \
     AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = r.oid AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)) \
     AND current_setting('server_encoding') = 'UTF8'";

/// Whether row security may hide rows of the relation `r` from us: it is in force, and for reading or for updating no policy
/// lets us see every row, or one that restricts takes some away again. A write that a policy's check refuses does not matter
/// here: the server reports it, and the record becomes a dead letter.
const HIDES_ROWS: &str = "row_security_active(r.oid) AND EXISTS (SELECT FROM (VALUES ('r'), ('w')) c (cmd) WHERE \
     EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = r.oid AND NOT p.polpermissive AND p.polcmd::text IN ('*', c.cmd) \
     AND pg_get_expr(p.polqual, p.polrelid) <> 'true') OR NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = r.oid \
     AND p.polpermissive AND p.polcmd::text IN ('*', c.cmd) AND pg_get_expr(p.polqual, p.polrelid) = 'true' AND EXISTS \
     (SELECT FROM unnest(p.polroles) role WHERE CASE WHEN role = 0 THEN true ELSE pg_has_role(role, 'USAGE') END)))";

#[expect(clippy::struct_excessive_bools, reason = "the catalog has that many yes-or-no questions")]
struct Column {
    name: String,
    /// The base type's name; a domain counts as its base type.
    base: String,
    /// The base type as a statement spells it.
    base_spelled: String,
    /// The type as a statement spells it, without length.
    spelled: String,
    is_enum: bool,
    is_array: bool,
    is_nullable: bool,
    is_generated: bool,
    is_unique: bool,
    /// Whether its type has a length, a precision or rules of its own.
    is_narrowed: bool,
    is_indexed: bool,
    may_be_read: bool,
    may_be_written: bool,
    may_be_inserted: bool,
    has_default: bool,
    /// Whether an insert can be held against its unique index at once.
    is_arbiter: bool,
}

impl Relation {
    async fn find(c: &mut PgConnection, regclass: &str) -> Result<Option<Self>, sqlx::Error> {
        let row = sqlx::query(AssertSqlSafe(format!(
            "SELECT n.nspname::text, r.relname::text, r.relkind::text, r.relpersistence::text, r.oid::bigint, \
             CASE WHEN {HIDES_ROWS} THEN coalesce((SELECT string_agg(format('%s using (%s)', polname, \
             coalesce(pg_get_expr(polqual, polrelid), 'true')), ', ' ORDER BY polname) FROM pg_policy \
             WHERE polrelid = r.oid), 'none lets it see any') END, {IS_FREE}, current_user::text, \
             has_table_privilege(r.oid, 'DELETE') FROM pg_class r \
             JOIN pg_namespace n ON n.oid = r.relnamespace WHERE r.oid = to_regclass($1)"
        )))
        .bind(regclass)
        .persistent(false)
        .fetch_optional(&mut *c)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let columns = sqlx::query(
            "SELECT a.attname::text, b.typname::text, format_type(a.atttypid, NULL), b.typtype = 'e', NOT a.attnotnull, \
             a.attgenerated <> '' OR a.attidentity = 'a', EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid \
             AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum), \
             a.atttypmod <> -1 OR t.typtype <> 'b', \
             EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND a.attnum = ANY (i.indkey)), \
             format_type(b.oid, NULL), has_column_privilege(a.attrelid, a.attnum, 'SELECT'), \
             has_column_privilege(a.attrelid, a.attnum, 'UPDATE'), has_column_privilege(a.attrelid, a.attnum, 'INSERT'), \
             a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL, EXISTS (SELECT FROM pg_index i \
             WHERE i.indrelid = a.attrelid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL \
             AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum), b.typcategory = 'A' \
             FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
             JOIN pg_type b ON b.oid = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END \
             WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
        )
        .bind(row.try_get::<i64, _>(4)?)
        .persistent(false)
        .fetch_all(&mut *c)
        .await?;
        let unique = Unique::find(c, row.try_get(4)?).await?;
        Ok(Some(Self {
            schema: row.try_get(0)?,
            name: row.try_get(1)?,
            kind: row.try_get(2)?,
            persistence: row.try_get(3)?,
            role: row.try_get(7)?,
            hidden_by: row.try_get(5)?,
            is_free: row.try_get(6)?,
            may_be_deleted: row.try_get(8)?,
            columns: columns.iter().map(Column::read).collect::<Result<_, _>>()?,
            unique,
        }))
    }

    fn is_table(&self) -> bool {
        matches!(self.kind.as_str(), "r" | "p")
    }

    /// The differences that the struct's own comparison cannot know.
    fn differences(&self, spec: &TableSpec) -> Vec<String> {
        let (table, mut out) = (&spec.table.name, Vec::new());
        if !self.is_table() {
            return vec![format!(
                "table {table}: is no table; rows of a view or foreign table cannot be locked and written: name the table \
                 that has them"
            )];
        }
        if self.persistence != "p" {
            out.push(format!(
                "table {table}: is unlogged or temporary, so a crash empties it; ALTER TABLE {table} SET LOGGED"
            ));
        }
        for column in &self.columns {
            let name = &column.name;
            let is_key = spec.table.key_number(name).is_some();
            let is_alone = is_key && !spec.table.is_compound();
            if is_alone && !column.is_unique {
                let fix = key_fix(&self.unique, table, name, "column in Table::key");
                out.push(format!("table {table}, column {name}: is the key, and has neither a primary key nor a unique index of its own; {fix}"));
            }
            if is_key && spec.inserts && column.is_generated {
                out.push(format!("table {table}, column {name}: is the key, and the database alone makes it, so no row can be inserted under a record's key; ALTER TABLE {table} ALTER {name} SET GENERATED BY DEFAULT, or leave insert_missing out"));
            }
            if is_alone && spec.inserts && column.is_unique && !column.is_arbiter {
                out.push(format!("table {table}, column {name}: is the key, and its constraint is DEFERRABLE, which finds out too late that a row is there already; make one that is not, or leave insert_missing out"));
            }
            if column.is_generated && spec.table.version_column.as_ref() == Some(name) {
                out.push(format!("table {table}, column {name}: is generated by the database, and the engine must write it; name another version column in Table::version, or none by unversioned()"));
            }
        }
        if spec.table.is_compound() {
            out.extend(self.compound_differences(spec));
        }
        out
    }

    /// The same for a key of several columns.
    fn compound_differences(&self, spec: &TableSpec) -> Vec<String> {
        let (table, keys) = (&spec.table.name, spec.table.key_columns());
        let is_text = |name: &str| keys.iter().any(|(own, kind)| *own == name && *kind == ColumnType::Text);
        let is_loose = |column: &&Column| {
            column.kind() == ColumnType::Text && is_text(&column.name) && !["text", "varchar"].contains(&&*column.base)
        };
        let told =
            |column: &Column| format!("table {table}, column {}: is {}; {PART_TYPES}", column.name, column.spelled);
        let mut out: Vec<String> = self.columns.iter().filter(is_loose).map(told).collect();
        let is_of_key = |unique: &&Unique| {
            unique.columns.len() == keys.len()
                && keys.iter().all(|(name, _)| unique.columns.iter().any(|own| own == name))
        };
        let unique: Vec<&Unique> = self.unique.iter().filter(is_of_key).collect();
        let names = keys.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        if unique.is_empty() {
            let fix = key_fix(&self.unique, table, &names, "columns in the struct of Table::compound_key");
            out.push(format!("table {table}: has neither a primary key nor a unique index over just {names}, which are the key; {fix}"));
        } else if spec.inserts && unique.iter().all(|unique| !unique.is_arbiter) {
            out.push(format!("table {table}: the constraint of its key, {names}, is DEFERRABLE, which finds out too late that a row is there already; make one that is not, or leave insert_missing out"));
        }
        out
    }

    /// The rows that row security may hide from our role, and the columns that it may not read or write.
    fn lacks(&self, spec: &TableSpec) -> Vec<String> {
        let (table, role, mut out) = (&spec.table.name, &self.role, Vec::new());
        if let Some(policies) = &self.hidden_by {
            out.push(format!(
                "table {table}: row security is in force for role {role}; rows it hides would count as missing: grant BYPASSRLS, or a policy of its own: CREATE POLICY {role} ON {table} TO {role} USING (true); policies now: {policies}"
            ));
        }
        let lacking = |right: &str, is_lacking: &dyn Fn(&Column) -> bool| {
            let names: Vec<&str> =
                self.columns.iter().filter(|column| is_lacking(column)).map(|column| &*column.name).collect();
            (!names.is_empty()).then(|| format!("{right} on {}", names.join(", ")))
        };
        let is_used = |column: &Column| !spec.is_written(&column.name) || is_wanted(spec, &column.name);
        let needs = [("SELECT, UPDATE", true), (", INSERT", spec.inserts), (", DELETE", spec.deletes)];
        let needs: String = needs.into_iter().filter_map(|(right, is_needed)| is_needed.then_some(right)).collect();
        let lacks: Vec<String> = [
            lacking("SELECT", &|column| is_used(column) && !column.may_be_read),
            lacking("UPDATE", &|column| {
                let is_written = is_used(column) && is_changed(spec, &column.name) && !column.is_generated;
                is_written && !column.may_be_written
            }),
            lacking("INSERT", &|column| {
                spec.inserts && is_used(column) && !column.is_generated && !column.may_be_inserted
            }),
            (spec.deletes && !self.may_be_deleted).then(|| "DELETE".to_owned()),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !lacks.is_empty() {
            out.push(format!(
                "table {table}: role {role} lacks {}: GRANT {needs} ON {table} TO \"{role}\"",
                lacks.join(" and ")
            ));
        }
        out
    }

    /// Only after there were no differences.
    fn bind(&self, spec: &TableSpec) -> BoundTable {
        let table = &spec.table;
        let written = spec.columns.iter().map(|column| &*column.name).filter(|name| spec.is_written(name));
        let names: Vec<&str> = written.collect();
        let columns: Vec<_> = spec
            .columns
            .iter()
            .filter_map(|wanted| Some((wanted, self.columns.iter().find(|column| column.name == wanted.name)?)))
            .map(|(wanted, column)| {
                // A field of text has an array as the database spells it.
                let is_text = column.kind() == ColumnType::Array && !wanted.accepts.contains(&ColumnType::Json);
                let kind = if is_text { ColumnType::Spelled } else { column.kind() };
                let is_written = spec.is_written(&column.name) && !column.is_generated;
                let cast = values::cast(kind, &column.base, &column.spelled, column.is_enum);
                let is_read_only = column.is_generated && spec.is_written(&column.name);
                BoundColumn { name: column.name.clone(), kind, cast, is_written, is_read_only }
            })
            .collect();
        let parts = table.key_columns();
        let key = match parts.as_slice() {
            [(name, _)] => self.columns.iter().find(|column| column.name == *name).map(Column::as_key),
            _ => Some(KeyColumn::Parts(parts.iter().map(|(_, kind)| *kind).collect())),
        };
        let key = key.unwrap_or(KeyColumn::Plain);
        BoundTable {
            name: table.name.clone(),
            key: table.key_type.column_type(),
            is_versioned: table.version_column.is_some(),
            inserts: spec.inserts,
            deletes: spec.deletes,
            keeps: self.is_free && self.columns.iter().all(|column| !names.contains(&&*column.name) || column.keeps()),
            statements: statements::table((&self.schema, &self.name), spec, &key, &columns),
            columns,
        }
    }
}

/// Whether the struct asks for the column.
fn is_wanted(spec: &TableSpec, column: &str) -> bool {
    spec.columns.iter().any(|wanted| wanted.name == column)
}

/// Whether a write names the column. Of a table of a key alone it names the key.
fn is_changed(spec: &TableSpec, column: &str) -> bool {
    let version = spec.table.version_column.as_deref();
    let is_key_alone = version.is_none() && !spec.columns.iter().any(|wanted| spec.is_written(&wanted.name));
    version == Some(column) || spec.is_written(column) || is_key_alone
}

impl Column {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            name: row.try_get(0)?,
            base: row.try_get(1)?,
            spelled: row.try_get(2)?,
            is_enum: row.try_get(3)?,
            is_nullable: row.try_get(4)?,
            is_generated: row.try_get(5)?,
            is_unique: row.try_get(6)?,
            is_narrowed: row.try_get(7)?,
            is_indexed: row.try_get(8)?,
            base_spelled: row.try_get(9)?,
            may_be_read: row.try_get(10)?,
            may_be_written: row.try_get(11)?,
            may_be_inserted: row.try_get(12)?,
            has_default: row.try_get(13)?,
            is_arbiter: row.try_get(14)?,
            is_array: row.try_get(15)?,
        })
    }

    fn kind(&self) -> ColumnType {
        values::kind(&self.base, self.is_enum, self.is_array)
    }

    fn as_key(&self) -> KeyColumn {
        match self.base.as_str() {
            "bpchar" => KeyColumn::Loose("pg_catalog.bpchar".into()),
            "citext" => KeyColumn::Loose(self.base_spelled.clone()),
            _ if self.is_enum => KeyColumn::Enum(self.base_spelled.clone()),
            _ => KeyColumn::Plain,
        }
    }

    /// Whether it holds every value of its field's type as it is: its type does, and no index may refuse a value that is
    /// there already, or too long.
    fn keeps(&self) -> bool {
        values::is_exact(self.kind(), &self.base) && !self.is_narrowed && !self.is_indexed
    }

    fn found(&self) -> FoundColumn {
        FoundColumn {
            name: self.name.clone(),
            column_type: Some(self.kind()),
            type_name: self.spelled.clone(),
            is_nullable: self.is_nullable,
            has_default: self.has_default,
        }
    }
}
