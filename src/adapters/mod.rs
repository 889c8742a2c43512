//! The ports on real servers and in memory. An adapter imports `ports` and `flow`, never the engine, never another adapter.

#[cfg(feature = "kafka")]
pub mod kafka;
pub mod memory;
#[cfg(feature = "kafka")]
pub mod note;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "rocksdb")]
pub mod rocksdb;
#[cfg(feature = "sqlite")]
pub mod sqlite;

/// Reads the tables of `docs/errors.md` for the tests that compare them with the classifiers.
#[cfg(any(feature = "kafka", feature = "postgres"))]
#[cfg(test)]
mod documented {
    use std::collections::HashMap;

    /// The rows of the table below `## heading` by their first cell, which none shares with another.
    pub(super) fn rows(heading: &str) -> HashMap<String, Vec<String>> {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md")).unwrap();
        let section = text.split("\n## ").find_map(|section| section.strip_prefix(heading)).expect(heading);
        let lines = section.lines().filter_map(|line| line.strip_prefix("| ")).skip(1); // the head
        let mut rows = HashMap::new();
        for line in lines {
            let cells: Vec<String> = line.trim_end_matches('|').split(" | ").map(|cell| cell.trim().into()).collect();
            let double = rows.insert(cells[0].clone(), cells);
            assert!(double.is_none(), "two rows: {double:?}");
        }
        rows
    }
}
