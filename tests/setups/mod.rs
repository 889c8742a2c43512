//! Wrong set-ups in a table: each runs the binary, and is compared with the exit code and every word that a person gets.
//!
//! The rows here need no server: `tests/it` runs them, and `tests/system` beside its rows that need some.

mod alone;
mod files;
mod properties;
pub mod row;
mod run;
mod topics;
mod values;

pub use alone::Alone;
pub use run::{Ground, failures};

use row::Row;

/// The rows that need no server.
pub fn without_servers() -> Vec<Row> {
    [values::ROWS, properties::ROWS, files::ROWS, topics::ROWS].concat()
}
