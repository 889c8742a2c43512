//! Rows of tables, held against the interpreter's.

use crate::flow::key::Key;
use crate::flow::row::Value;
use crate::flow::topology::Topology;
use crate::testing::judge::finding::{Findings, Wrong};
use crate::testing::observed::{Observed, Row};
use std::collections::{BTreeMap, BTreeSet};

impl Observed {
    pub(super) fn judge_rows(
        &self,
        topology: &Topology,
        expected: &BTreeMap<(String, Key), Row>,
        findings: &mut Findings,
    ) {
        let struck = self.struck_tables(topology);
        for (place, row) in expected.iter().filter(|((table, _), _)| !struck.contains(&**table)) {
            let (table, key) = place;
            match self.rows.get(place) {
                None => findings.add(Wrong::Row, format!("{table} {key}: is gone")),
                Some(found) => {
                    let version = found.version;
                    if version != row.version {
                        let detail = format!("{table} {key}: has version {version}, and {} changes", row.version);
                        findings.add(Wrong::RowVersion, detail);
                    }
                    let first = self.first_rows.get(place);
                    for name in row.values.keys().filter(|name| !found.values.contains_key(*name)) {
                        findings.add(Wrong::Row, format!("{table} {key}: has no {name}"));
                    }
                    for (name, value) in &found.values {
                        if first.and_then(|first| first.values.get(name)).is_some_and(|first| !is_like(first, value)) {
                            findings.add(Wrong::RowType, format!("{table} {key}: {name} is {value:?}"));
                        }
                        let expected = row.values.get(name);
                        if !expected.is_some_and(|expected| is_equal(expected, value)) {
                            findings.add(Wrong::Row, format!("{table} {key}: {name} is {value:?}, not {expected:?}"));
                        }
                    }
                }
            }
        }
    }

    /// The tables of the sub-topologies that a disaster struck.
    fn struck_tables<'a>(&'a self, topology: &'a Topology) -> BTreeSet<&'a str> {
        self.struck_of(topology).filter_map(|sub| Some(&*sub.table()?.table.name)).collect()
    }

    pub(super) fn judge_more_rows(
        &self,
        topology: &Topology,
        expected: &BTreeMap<(String, Key), Row>,
        findings: &mut Findings,
    ) {
        let struck = self.struck_tables(topology);
        let more = self.rows.keys().filter(|place| !expected.contains_key(*place));
        for (table, key) in more.filter(|(table, _)| !struck.contains(&**table)) {
            findings.add(Wrong::Row, format!("{table} {key}: is there, and nobody put it there"));
        }
    }
}

/// Whether a column can hold both.
fn is_like(one: &Value, other: &Value) -> bool {
    let is_null = |value: &Value| *value == Value::Null;
    is_null(one) || is_null(other) || std::mem::discriminant(one) == std::mem::discriminant(other)
}

fn is_equal(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::F64(expected), Value::F64(found)) => expected.to_bits() == found.to_bits(),
        _ => expected == found,
    }
}
