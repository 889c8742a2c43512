//! The table that a step reads and writes, and the demands on its columns.

pub use crate::flow::column::ColumnType;

use crate::flow::column::FIELD_TYPES;
use crate::flow::key::KeyType;
use crate::flow::nearest::suggestion;

/// The table behind an `update` step.
///
/// ```
/// use tidegate::flow::{KeyType, Table};
/// let table = Table::new("accounts").key("account_id", KeyType::Uuid).version("revision");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    pub(crate) name: String,
    pub(crate) key_column: String,
    pub(crate) key_type: KeyType,
    pub(crate) version_column: Option<String>,
    /// What is wrong with it, to be told by `validate`.
    pub(crate) mistake: Option<String>,
}

impl Table {
    /// A table whose key is `id bigint` and whose version is `version bigint`. The name may carry a schema: `billing.accounts`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            key_column: "id".into(),
            key_type: KeyType::I64,
            version_column: Some("version".into()),
            mistake: None,
        }
    }

    /// Names the key column and its type.
    #[must_use]
    pub fn key(mut self, column: &str, key_type: KeyType) -> Self {
        column.clone_into(&mut self.key_column);
        self.key_type = key_type;
        self
    }

    /// Names the version column: a `bigint not null` which the engine raises by one for each record that changed the row.
    #[must_use]
    pub fn version(mut self, column: &str) -> Self {
        self.version_column = Some(column.into());
        self
    }

    /// The table has no version column: messages carry no row version, and the audit cannot count row changes.
    #[must_use]
    pub fn unversioned(mut self) -> Self {
        self.version_column = None;
        self
    }

    /// The same with a mistake, which `validate` tells.
    pub(crate) fn mistaken(mut self, mistake: String) -> Self {
        self.mistake = Some(mistake);
        self
    }

    /// The columns of the key with the types of their values, in the order of the key's parts.
    #[must_use]
    pub fn key_columns(&self) -> Vec<(&str, ColumnType)> {
        match self.key_type {
            KeyType::Fields(fields) => fields.iter().map(|field| (field.name, field.part.column_type())).collect(),
            other => vec![(self.key_column.as_str(), other.column_type())],
        }
    }

    /// The number of a column among those of the key.
    pub(crate) fn key_number(&self, column: &str) -> Option<usize> {
        match self.key_type {
            KeyType::Fields(fields) => fields.iter().position(|field| field.name == column),
            _ => (self.key_column == column).then_some(0),
        }
    }

    /// Whether a key is of several columns.
    pub(crate) const fn is_compound(&self) -> bool {
        matches!(self.key_type, KeyType::Fields(_))
    }

    /// The columns of the key with their types: `id bigint`.
    pub(crate) fn key_told(&self) -> String {
        let told: Vec<String> = self.key_columns().iter().map(|(name, kind)| format!("{name} {kind}")).collect();
        told.join(", ")
    }
}

impl From<&str> for Table {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

/// A column that a step's row struct asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ColumnSpec {
    /// The field's name, which is the column's.
    pub name: String,
    /// The column types that the field can hold, the likeliest first. Never empty.
    pub accepts: Vec<ColumnType>,
    /// Whether the field is an `Option`.
    pub is_nullable: bool,
}

/// A step's table with the columns of its row struct: the row port binds and compares it at start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableSpec {
    /// The table and its key and version columns.
    pub table: Table,
    /// The columns in the struct's field order; row values have the same order.
    pub columns: Vec<ColumnSpec>,
    /// Whether rows are inserted where they are missing.
    pub inserts: bool,
    /// Whether rows may be deleted.
    pub deletes: bool,
}

/// A column as the database describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundColumn {
    /// The column's name.
    pub name: String,
    /// Its type; `None` where Tidegate does not know the type.
    pub column_type: Option<ColumnType>,
    /// The database's own word for the type.
    pub type_name: String,
    /// Whether it may be null.
    pub is_nullable: bool,
    /// Whether the database has a value for it where a new row brings none.
    pub has_default: bool,
}

impl TableSpec {
    /// The columns of a table whose rows are read and updated.
    #[must_use]
    pub const fn new(table: Table, columns: Vec<ColumnSpec>) -> Self {
        Self { table, columns, inserts: false, deletes: false }
    }

    /// Whether rows are written with this column: the key stays, and the version is the engine's alone.
    pub(crate) fn is_written(&self, column: &str) -> bool {
        self.table.key_number(column).is_none() && self.table.version_column.as_deref() != Some(column)
    }

    /// Takes in the columns that another step's struct asks of the same table. A column of both stands once.
    ///
    /// Returns one sentence for each thing that the two do not agree about; empty when one row can serve both.
    pub(crate) fn merge(&mut self, other: &Self) -> Vec<String> {
        let name = &self.table.name;
        let mut out = Vec::new();
        let (own, others) = (&self.table, &other.table);
        if own.key_columns() != others.key_columns() {
            let (own, others) = (own.key_told(), others.key_told());
            out.push(format!("table {name}: one step has the key {own}, another {others}; give both the same Table"));
        }
        if own.version_column != others.version_column {
            let told = |table: &Table| table.version_column.clone().unwrap_or_else(|| "none".into());
            let (own, others) = (told(own), told(others));
            out.push(format!(
                "table {name}: one step has the version column {own}, another {others}; give both the same Table"
            ));
        }
        self.inserts |= other.inserts;
        self.deletes |= other.deletes;
        for column in &other.columns {
            match self.columns.iter_mut().find(|known| known.name == column.name) {
                Some(known) => out.extend(known.merge(name, column)),
                None => self.columns.push(column.clone()),
            }
        }
        out
    }

    /// Compares the struct with the table. `found` is `None` when there is no such table.
    ///
    /// Returns one sentence a difference, each naming table and column; empty when they agree.
    #[must_use]
    pub fn differences(&self, found: Option<&[FoundColumn]>) -> Vec<String> {
        let name = &self.table.name;
        let Some(found) = found else {
            return vec![format!(
                "table {name}: does not exist; create it, or name its schema as in \"schema.{name}\""
            )];
        };
        let purpose = if self.table.is_compound() { Purpose::PartOfKey } else { Purpose::Key };
        let of_key = self.table.key_columns().into_iter().flat_map(|(column, kind)| {
            let smaller: &[ColumnType] =
                if kind == ColumnType::I64 { &[ColumnType::I32, ColumnType::I16] } else { &[] };
            let accepts = std::iter::once(&kind).chain(smaller).copied().collect();
            ColumnSpec { name: column.into(), accepts, is_nullable: false }.differences(name, found, purpose)
        });
        let of_version = self.table.version_column.iter().flat_map(|column| {
            ColumnSpec { name: column.clone(), accepts: vec![ColumnType::I64], is_nullable: false }.differences(
                name,
                found,
                Purpose::Version,
            )
        });
        let of_fields = self.columns.iter().flat_map(|column| column.differences(name, found, Purpose::Field));
        of_key.chain(of_version).chain(of_fields).chain(self.columns_without_a_value(found)).collect()
    }

    /// A sentence for each column for which a new row would have no value.
    fn columns_without_a_value(&self, found: &[FoundColumn]) -> Vec<String> {
        let table = &self.table.name;
        let is_known = |name: &String| {
            self.table.key_number(name).is_some()
                || self.table.version_column.as_ref() == Some(name)
                || self.columns.iter().any(|column| column.name == *name)
        };
        let lacks = |column: &&FoundColumn| !column.is_nullable && !column.has_default && !is_known(&column.name);
        let told = |column: &FoundColumn| {
            let name = &column.name;
            format!(
                "table {table}, column {name}: is not null and has no default, and insert_missing makes rows without it; \
                 give the struct a field {name}, or the column a default"
            )
        };
        found.iter().filter(|_| self.inserts).filter(lacks).map(told).collect()
    }
}

/// What a table has a column for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Key,
    PartOfKey,
    Version,
    Field,
}

impl Purpose {
    /// What is said of a column that is missing.
    const fn told(self) -> &'static str {
        match self {
            Self::Key => "; it is the key column, as Table::key names it",
            Self::PartOfKey => "; it is a key column, as the struct of Table::compound_key names it",
            Self::Version => "; it is the version column, as Table::version names it",
            Self::Field => "",
        }
    }

    /// What is said of a type that a column cannot have, whatever the struct.
    const fn types(self) -> &'static str {
        match self {
            Self::Key => KEY_TYPES,
            Self::PartOfKey => PART_TYPES,
            Self::Version | Self::Field => FIELD_TYPES,
        }
    }
}

/// The types that a key column can have.
const KEY_TYPES: &str = "a key column is bigint, integer or smallint (KeyType::I64), uuid (KeyType::Uuid), text, varchar, char, citext or an enum \
     (KeyType::Text), or bytea (KeyType::Bytes)";

/// The types that a column of a compound key can have.
pub(crate) const PART_TYPES: &str =
    "a column of a compound key is bigint, integer or smallint, uuid, or text or varchar";

impl ColumnSpec {
    /// Narrows the column to the types that another step's struct can hold too; a sentence where none is left.
    fn merge(&mut self, table: &str, other: &Self) -> Option<String> {
        let column = &self.name;
        if self.is_nullable != other.is_nullable {
            return Some(format!(
                "table {table}, column {column}: is an Option in one step's struct and a plain type in another's; make both alike"
            ));
        }
        let likeliest = |spec: &Self| spec.accepts.first().map(ToString::to_string).unwrap_or_default();
        let mut both: Vec<ColumnType> =
            self.accepts.iter().filter(|kind| other.accepts.contains(kind)).copied().collect();
        if self.accepts.contains(&ColumnType::Json) != other.accepts.contains(&ColumnType::Json) {
            both.retain(|kind| *kind != ColumnType::Array); // as a list in one, as a text in the other
        }
        if both.is_empty() {
            return Some(format!(
                "table {table}, column {column}: is {} in one step's struct and {} in another's; give both fields one type",
                likeliest(self),
                likeliest(other)
            ));
        }
        self.accepts = both;
        None
    }

    fn differences(&self, table: &str, columns: &[FoundColumn], purpose: Purpose) -> Vec<String> {
        let types = purpose.types();
        let column = &self.name;
        let likeliest = self.accepts.first().map(ToString::to_string).unwrap_or_default();
        let null = if self.is_nullable { "" } else { " not null" };
        let Some(found) = columns.iter().find(|found| found.name == *column) else {
            let near = suggestion(column, columns.iter().map(|found| &*found.name));
            let told = purpose.told();
            return vec![format!("table {table}, column {column}: missing; expected {likeliest}{null}{near}{told}")];
        };
        let mut out = Vec::new();
        if !found.column_type.is_some_and(|kind| self.accepts.contains(&kind)) {
            // A field of text holds any type that has a spelling: naming them all helps nobody.
            let named = if types == FIELD_TYPES { 4 } else { 1 };
            let wanted = self.accepts.iter().take(named).map(ToString::to_string).collect::<Vec<_>>().join(" or ");
            let is_usable = found.column_type.is_some() && types == FIELD_TYPES;
            let types = if is_usable { String::new() } else { format!("; {types}") };
            let is_narrower = matches!(found.column_type, Some(ColumnType::I16 | ColumnType::I32));
            let fix = if is_narrower && self.accepts == [ColumnType::I64] {
                format!("; ALTER TABLE {table} ALTER {column} TYPE bigint")
            } else if is_usable {
                "; change one of the two".into()
            } else {
                String::new()
            };
            out.push(format!(
                "table {table}, column {column}: is {}, the struct needs {wanted}{types}{fix}",
                found.type_name
            ));
        }
        match (self.is_nullable, found.is_nullable) {
            (false, true) if purpose != Purpose::Field => out.push(format!(
                "table {table}, column {column}: may be null, which a key or version may not; ALTER TABLE {table} ALTER {column} SET \
                 NOT NULL"
            )),
            (false, true) => out.push(format!(
                "table {table}, column {column}: may be null, the struct's field is not an Option; make it one, or the column not null"
            )),
            (true, false) => out.push(format!(
                "table {table}, column {column}: is not null, the struct's field is an Option; use the plain type, or drop the constraint"
            )),
            _ => {}
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_that_may_be_null_and_a_field_that_may_not_are_told_both_ways() {
        let told = |is_option, is_nullable| {
            let spec = ColumnSpec { name: "c".into(), accepts: vec![ColumnType::I64], is_nullable: is_option };
            let found = FoundColumn {
                name: "c".into(),
                column_type: Some(ColumnType::I64),
                type_name: "bigint".into(),
                is_nullable,
                has_default: false,
            };
            spec.differences("t", &[found], Purpose::Field).concat()
        };
        assert!(told(false, true).contains("may be null"));
        assert!(told(true, false).contains("is not null"));
        assert_eq!((told(true, true), told(false, false)), (String::new(), String::new()));
    }

    #[test]
    fn a_key_is_told_as_the_key_and_a_name_that_is_near_is_offered() {
        let found = |name: &str, is_nullable| FoundColumn {
            name: name.into(),
            column_type: Some(ColumnType::I64),
            type_name: "bigint".into(),
            is_nullable,
            has_default: false,
        };
        let column = ColumnSpec { name: "wanted".into(), accepts: vec![ColumnType::I64], is_nullable: false };
        let spec = TableSpec::new(Table::new("t"), vec![column]);
        assert_eq!(
            spec.differences(Some(&[found("want", false), found("versoin", false), found("stock", false)])),
            [
                "table t, column id: missing; expected bigint not null; it is the key column, as Table::key names it",
                "table t, column version: missing; expected bigint not null; did you mean versoin?; it is the version column, as Table::version names it",
                "table t, column wanted: missing; expected bigint not null; did you mean want?",
            ]
        );
        let told = spec.differences(Some(&[found("id", true), found("version", true), found("wanted", false)]));
        assert_eq!(told.len(), 2);
        assert!(
            told[0].ends_with("ALTER TABLE t ALTER id SET NOT NULL") && !told.concat().contains("Option"),
            "{told:?}"
        );
    }

    #[test]
    fn a_type_that_cannot_be_used_is_told_with_those_that_can() {
        let found = |name: &str, column_type, type_name: &str| FoundColumn {
            name: name.into(),
            column_type,
            type_name: type_name.into(),
            is_nullable: false,
            has_default: false,
        };
        let columns = ["id", "spans", "n"].map(|name| ColumnSpec {
            name: name.into(),
            accepts: vec![if name == "spans" { ColumnType::Text } else { ColumnType::I64 }],
            is_nullable: false,
        });
        let spec = TableSpec::new(Table::new("t").unversioned(), columns[1..].to_vec());
        let told = spec.differences(Some(&[
            found("id", Some(ColumnType::F64), "double precision"),
            found("spans", None, "tstzrange"),
            found("n", Some(ColumnType::I32), "integer"),
        ]));
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].starts_with(
            "table t, column id: is double precision, the struct needs bigint; a key column is bigint, integer"
        ));
        assert!(
            told[1].starts_with("table t, column spans: is tstzrange, the struct needs text; a field holds boolean")
        );
        assert_eq!(
            told[2],
            "table t, column n: is integer, the struct needs bigint; ALTER TABLE t ALTER n TYPE bigint"
        );
    }
}
