//! The test tables as SQL that SQLite and Postgres both understand.

use crate::rows::Column;
use crate::rows::values::{literal, quoted};
use tidegate::flow::key::Part;
use tidegate::flow::row::Value;
use tidegate::flow::table::TableSpec;
use tidegate::flow::{Key, Table};
use tidegate::ports::rows::RowRead;

/// Key and version columns of a table, as its differences from an empty one spell them: name and type.
fn special(table: &Table) -> Vec<(String, String)> {
    let spec = TableSpec::new(table.clone(), Vec::new());
    let sentence = |text: String| {
        let (_, rest) = text.split_once(", column ").unwrap();
        let (name, wanted) = rest.split_once(": missing; expected ").unwrap();
        let (kind, _role) = wanted.split_once(';').unwrap();
        (name.to_owned(), kind.to_owned())
    };
    spec.differences(Some(&[])).into_iter().map(sentence).collect()
}

/// The name of a table, taken from its difference from nothing.
fn name(table: &Table) -> String {
    let spec = TableSpec::new(table.clone(), Vec::new());
    let told = spec.differences(None).remove(0);
    told.split_once("table ").unwrap().1.split_once(':').unwrap().0.to_owned()
}

pub fn create_table(table: &Table, columns: &[Column<'_>], smallest: Option<&str>) -> String {
    let mut lines: Vec<String> = special(table).iter().map(|(name, kind)| format!("\"{name}\" {kind}")).collect();
    let keys: Vec<String> = table.key_columns().iter().map(|(name, _)| format!("\"{name}\"")).collect();
    lines.extend(columns.iter().map(|(name, kind, is_nullable)| {
        let null = if *is_nullable { "" } else { " not null" };
        let check = if smallest == Some(*name) { format!(" CHECK (\"{name}\" >= 0)") } else { String::new() };
        format!("\"{name}\" {kind}{null}{check}")
    }));
    lines.push(format!("PRIMARY KEY ({})", keys.join(", ")));
    format!("CREATE TABLE {} ({})", name(table), lines.join(", "))
}

/// `hex`: as for [`literal`].
pub fn insert(table: &Table, columns: &[Column<'_>], row: &RowRead, hex: &str) -> String {
    let special = special(table);
    let names = special.iter().map(|(name, _)| name.as_str()).chain(columns.iter().map(|(name, ..)| *name));
    let names: Vec<String> = names.map(|name| format!("\"{name}\"")).collect();
    let mut values = match &row.key {
        Key::Bytes(id) => vec![literal(&Value::Bytes(id.to_vec()), hex)],
        Key::Parts(parts) => parts.iter().map(part).collect(),
        id => vec![quoted(&id.to_string())],
    };
    if special.len() > values.len() {
        values.push(row.version.to_string());
    }
    values.extend(row.values.iter().map(|value| literal(value, hex)));
    format!("INSERT INTO {} ({}) VALUES ({})", name(table), names.join(", "), values.join(", "))
}

fn part(part: &Part) -> String {
    match part {
        Part::I64(id) => quoted(&id.to_string()),
        Part::Text(id) => quoted(id),
    }
}
