//! Names the key type that a key looks like, for a record whose declared one does not fit.

use crate::flow::key::json::{only_field, text};
use crate::flow::key::spelling::{canonical_uuid, is_canonical_integer};
use uuid::Uuid;

/// The likeliest writer of a key, what it says, and the key type that reads it: `Java's LongSerializer, 1042: declare
/// KeyType::I64BigEndian`. `None` where nothing is likely.
pub(super) fn looks_like(bytes: &[u8]) -> Option<String> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && !text.contains(|c: char| c.is_control()) => of_text(text),
        _ => of_bytes(bytes),
    }
}

fn of_text(text: &str) -> Option<String> {
    let declare = |what: &str, id: &str, kind: &str| Some(format!("{what}, {id}: declare KeyType::{kind}"));
    if is_canonical_integer(text) && text.parse::<i64>().is_ok() {
        return declare("a decimal number", text, "I64");
    }
    if canonical_uuid(text).is_some() {
        return declare("a UUID as text", text, "Uuid");
    }
    if text.starts_with('{') && serde_json::from_str::<serde_json::Value>(text).is_ok() {
        return of_json(text.as_bytes());
    }
    Some("text: declare KeyType::Text".into())
}

fn of_json(bytes: &[u8]) -> Option<String> {
    let Some((name, value)) = only_field(bytes) else {
        return Some("a JSON key of several fields: declare KeyType::Field with the one that is the id, or Table::compound_key where several are".into());
    };
    let kind = match text(value) {
        Some(id) if canonical_uuid(&id).is_some() => "UuidField",
        Some(_) => "TextField",
        None if value.parse::<i64>().is_ok() => "Field",
        None => return None,
    };
    Some(format!("a JSON key as Debezium writes it, {name} = {value}: declare KeyType::{kind}({name:?})"))
}

fn of_bytes(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        let id = i32::from_be_bytes(four);
        return Some(format!("Java's IntegerSerializer, {id}: declare KeyType::I32BigEndian"));
    }
    if let Ok(eight) = <[u8; 8]>::try_from(bytes) {
        let id = i64::from_be_bytes(eight);
        return Some(format!("Java's LongSerializer, {id}: declare KeyType::I64BigEndian"));
    }
    if let Ok(sixteen) = <[u8; 16]>::try_from(bytes) {
        let id = Uuid::from_bytes(sixteen);
        return Some(format!("a UUID of sixteen bytes, {id}: declare KeyType::UuidBytes"));
    }
    match bytes {
        [] => None,
        [0, a, b, c, d, _, ..] => {
            let id = u32::from_be_bytes([*a, *b, *c, *d]);
            Some(format!(
                "a key of a schema registry, schema {id}, which no key type reads: let the producer write the id alone, or declare KeyType::Bytes"
            ))
        }
        _ => Some("raw bytes: declare KeyType::Bytes".into()),
    }
}
