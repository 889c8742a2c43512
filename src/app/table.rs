//! Columns for people and JSON for programs.

use crate::app::failure::Failure;
use serde::Serialize;
use std::io::Write;

/// Writes rows in columns as wide as their widest cell, two spaces apart; the first row is the heading.
pub(crate) fn write<const N: usize>(rows: &[[String; N]], out: &mut dyn Write) -> Result<(), Failure> {
    let mut widths = [0; N];
    for (width, column) in widths.iter_mut().zip(0..) {
        *width =
            rows.iter().filter_map(|row| row.get::<usize>(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    }
    for row in rows {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// Writes a value as indented JSON.
pub(crate) fn json(value: &impl Serialize, out: &mut dyn Write) -> Result<(), Failure> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["A", "B"], ["long", "x"], ["s", ""]].map(|row| row.map(ToString::to_string));
        let mut out = Vec::new();
        super::write(&rows, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "A     B\nlong  x\ns\n");
    }
}
