//! Tables of the database model: columns as the database describes them, rows by id.

use crate::flow::key::Key;
use crate::flow::row::Value;
use crate::flow::table::{ColumnType, FoundColumn, Table, TableSpec};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A constraint: gets the row's values in the table's column order and answers a sentence if it refuses them.
pub(super) type Check = Arc<dyn Fn(&[Value]) -> Result<(), String> + Send + Sync>;

/// Where a column of a spec lies.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// The column of a number among those of the key.
    Key(usize),
    Version,
    /// Among the table's value columns.
    Value(usize),
}

/// The change that the table makes to the values of a written row, as a trigger or a narrower type would.
pub(super) type Rounding = Arc<dyn Fn(&mut [Value]) + Send + Sync>;

/// The value that the table makes of the others of a row.
pub(super) type Make = Arc<dyn Fn(&[Value]) -> Value + Send + Sync>;

/// One row.
#[derive(Clone, Debug)]
pub(super) struct StoredRow {
    pub(super) version: i64,
    /// In the order of the table's value columns.
    pub(super) values: Vec<Value>,
}

/// One table: its key and version columns lie apart from its value columns.
#[derive(Clone)]
pub(super) struct StoredTable {
    pub(super) has_version: bool,
    special: Vec<FoundColumn>,
    columns: Vec<FoundColumn>,
    pub(super) rows: BTreeMap<Key, StoredRow>,
    pub(super) check: Option<Check>,
    /// The value columns, by place, in which no two rows may have one value.
    pub(super) unique: BTreeSet<usize>,
    pub(super) rounding: Option<Rounding>,
    /// The value columns that the table makes itself, by place, and how.
    pub(super) made: BTreeMap<usize, Make>,
    /// Most rows of one statement; a larger one is cancelled.
    pub(super) statement_rows: Option<usize>,
    /// Rows that cannot be read, as on a damaged page.
    pub(super) damaged: BTreeSet<Key>,
    /// Keys that the database cannot hold.
    pub(super) impossible: BTreeSet<Key>,
}

impl StoredTable {
    /// A table as `table` wants it, with these value columns: name, type, whether it may be null. The key column may be among
    /// them, where it is a narrower number than a key.
    pub(super) fn new(table: &Table, columns: &[(&str, ColumnType, bool)]) -> Self {
        let found = |name: &str, kind: ColumnType, is_nullable: bool| FoundColumn {
            name: name.into(),
            column_type: Some(kind),
            type_name: kind.to_string(),
            is_nullable,
            has_default: false,
        };
        let is_number = |kind: &ColumnType| matches!(kind, ColumnType::I16 | ColumnType::I32 | ColumnType::I64);
        let keys = table.key_columns();
        let of_key = |(name, kind): &(&str, ColumnType)| {
            let own = columns.iter().find(|(column, ..)| column == name).map(|(_, kind, _)| *kind).filter(is_number);
            found(name, own.unwrap_or(*kind), false)
        };
        let columns = columns.iter().filter(|(name, ..)| table.key_number(name).is_none());
        let mut special: Vec<FoundColumn> = keys.iter().map(of_key).collect();
        special.extend(table.version_column.iter().map(|name| found(name, ColumnType::I64, false)));
        Self {
            has_version: table.version_column.is_some(),
            special,
            columns: columns.map(|(name, kind, is_nullable)| found(name, *kind, *is_nullable)).collect(),
            rows: BTreeMap::new(),
            check: None,
            unique: BTreeSet::new(),
            rounding: None,
            made: BTreeMap::new(),
            statement_rows: None,
            damaged: BTreeSet::new(),
            impossible: BTreeSet::new(),
        }
    }

    /// All columns, as a catalogue lists them.
    pub(super) fn found_columns(&self) -> Vec<FoundColumn> {
        self.special.iter().chain(&self.columns).cloned().collect()
    }

    /// One column of the key as it holds it.
    pub(super) fn key_value(&self, key: &Key, number: usize) -> Value {
        key.column(number, self.special.get(number).and_then(|column| column.column_type))
    }

    /// Where the columns of `spec` lie; only for a table without differences.
    pub(super) fn places(&self, spec: &TableSpec) -> Option<Vec<Place>> {
        let place = |name: &str| match self.special.iter().position(|column| column.name == name) {
            Some(number) if number + usize::from(self.has_version) < self.special.len() => Some(Place::Key(number)),
            Some(_) => Some(Place::Version),
            None => self.columns.iter().position(|column| column.name == name).map(Place::Value),
        };
        spec.columns.iter().map(|column| place(&column.name)).collect()
    }

    /// The place of a value column.
    pub(super) fn place_of(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|found| found.name == column)
    }

    /// Whether it has no rule of its own about written values, but for their types.
    pub(super) fn is_free(&self) -> bool {
        self.check.is_none() && self.rounding.is_none() && self.made.is_empty() && self.unique.is_empty()
    }

    /// The reason for which the database would refuse `values` beside those of other rows, in one sentence.
    pub(super) fn clash<'a>(&self, values: &[Value], others: impl Iterator<Item = &'a StoredRow>) -> Option<String> {
        let is_taken = |place: &&usize, other: &StoredRow| {
            let own = values.get(**place).filter(|own| !matches!(own, Value::Null));
            own.is_some() && own == other.values.get(**place)
        };
        let mut taken = others.filter_map(|other| self.unique.iter().find(|place| is_taken(place, other)));
        let name = &self.columns.get(*taken.next()?)?.name;
        Some(format!("duplicate key value violates unique constraint on column \"{name}\""))
    }

    /// The names of the columns that the table makes itself.
    pub(super) fn made_names(&self) -> impl Iterator<Item = String> {
        self.made.keys().filter_map(|place| Some(self.columns.get(*place)?.name.clone()))
    }

    /// Sets the columns that the table makes itself.
    pub(super) fn make(&self, values: &mut [Value]) {
        for (place, make) in &self.made {
            let made = make(values);
            if let Some(value) = values.get_mut(*place) {
                *value = made;
            }
        }
    }

    pub(super) fn value_count(&self) -> usize {
        self.columns.len()
    }

    /// The reason for which the database would refuse these values, in one sentence.
    pub(super) fn refusal(&self, values: &[Value]) -> Option<String> {
        for (column, value) in self.columns.iter().zip(values) {
            let name = &column.name;
            if matches!(value, Value::Null) && !column.is_nullable {
                return Some(format!("null value in column \"{name}\" violates not-null constraint"));
            }
            if !column.column_type.is_none_or(|kind| value.is_of(kind)) {
                return Some(format!("column \"{name}\" is of type {}, found {value:?}", column.type_name));
            }
        }
        self.check.as_ref().and_then(|check| check(values).err())
    }
}
