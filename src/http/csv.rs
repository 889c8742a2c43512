//! A graph as CSV: a line for each column that has something, times as numbers and as people read them.

use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use std::fmt::Write as _;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The numbers of a column, by their names in JSON.
const NUMBERS: [&str; 16] = [
    "n",
    "devices",
    "total",
    "average",
    "sum",
    "min",
    "max",
    "mean",
    "covered_ms",
    "increase",
    "resets",
    "glitches",
    "changes",
    "p50",
    "p90",
    "p99",
];

pub(super) fn as_csv(answer: &Value) -> Response {
    let headers =
        [(CONTENT_TYPE, "text/csv; charset=utf-8"), (CONTENT_DISPOSITION, "attachment; filename=\"series.csv\"")];
    (headers, text(answer)).into_response()
}

/// Numbers that no column of the graph has are left out.
fn text(answer: &Value) -> String {
    let columns = answer.get("columns").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let told: Vec<&str> =
        NUMBERS.into_iter().filter(|name| columns.iter().any(|column| column.get(name).is_some())).collect();
    let mut text = String::from("start,start_ms,end_ms");
    for name in &told {
        let _ = write!(text, ",{name}"); // a string takes everything
    }
    text.push_str("\r\n");
    for column in columns {
        let number = |name: &str| column.get(name).filter(|value| value.is_number()).map(Value::to_string);
        let cells: Vec<String> = told.iter().map(|name| number(name).unwrap_or_default()).collect();
        if cells.iter().all(String::is_empty) {
            continue;
        }
        let start = column.get("start_ms").and_then(Value::as_i64).unwrap_or_default();
        let end = number("end_ms").unwrap_or_default();
        let _ = write!(text, "{},{start},{end}", date(start));
        for cell in cells {
            let _ = write!(text, ",{cell}");
        }
        text.push_str("\r\n");
    }
    text
}

fn date(at_ms: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000).ok();
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_for_each_column_that_has_something_with_the_numbers_that_one_of_them_has() {
        let columns = json!([
            {"start_ms": 0, "end_ms": 900_000},
            {"start_ms": 900_000, "end_ms": 1_800_000, "n": 2, "mean": 0.5, "first": [1, 2.0]},
            {"start_ms": 1_800_000, "end_ms": 2_700_000, "mean": 1.25},
        ]);
        assert_eq!(
            text(&json!({ "columns": columns })),
            "start,start_ms,end_ms,n,mean\r\n\
             1970-01-01T00:15:00Z,900000,1800000,2,0.5\r\n\
             1970-01-01T00:30:00Z,1800000,2700000,,1.25\r\n"
        );
    }
}
