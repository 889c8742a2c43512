//! Keys of several columns: each is a field of the record's JSON key.

use crate::flow::column::{ColumnType, Value};
use crate::flow::key::json;
use crate::flow::key::spelling::canonical_uuid;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;

/// The type of one field of a compound key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartType {
    /// A whole number; a `bigint`, `integer` or `smallint` column.
    I64,
    /// A text; a `text` or `varchar` column.
    Text,
    /// A UUID with hyphens; a `uuid` column.
    Uuid,
}

impl PartType {
    /// The type of the column that holds such values.
    #[must_use]
    pub const fn column_type(self) -> ColumnType {
        match self {
            Self::I64 => ColumnType::I64,
            Self::Text => ColumnType::Text,
            Self::Uuid => ColumnType::Uuid,
        }
    }
}

/// One field of a compound key: its name, which is the column's, and its type.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
pub struct KeyField {
    /// The name of the field and of the column.
    pub name: &'static str,
    /// The type of its values.
    pub part: PartType,
}

/// The value of one field of a compound key. A UUID is a text in lower case with hyphens.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
pub enum Part {
    /// A whole number.
    I64(i64),
    /// A text or a UUID.
    Text(Box<str>),
}

impl Part {
    /// It as its column holds it.
    pub(crate) fn as_value(&self) -> Value {
        match self {
            Self::I64(id) => Value::I64(*id),
            Self::Text(id) => Value::Text(id.to_string()),
        }
    }
}

impl From<i64> for Part {
    fn from(id: i64) -> Self {
        Self::I64(id)
    }
}

impl From<&str> for Part {
    fn from(id: &str) -> Self {
        Self::Text(id.into())
    }
}

impl From<Uuid> for Part {
    fn from(id: Uuid) -> Self {
        Self::Text(id.hyphenated().to_string().into())
    }
}

/// Writes the parts as a JSON list without spaces: no two compound keys are written alike.
pub(super) fn write(parts: &[Part], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(&serde_json::to_string(parts).map_err(|_| fmt::Error)?)
}

/// The parts that a JSON list holds.
pub(super) fn parts_of(list: &str) -> Option<Box<[Part]>> {
    serde_json::from_str(list).ok()
}

/// Reads the fields of a record's key; otherwise what the key is not.
pub(super) fn parse(fields: &[KeyField], bytes: &[u8]) -> Result<Box<[Part]>, String> {
    let part = |field: &KeyField| {
        let value = json::field(bytes, field.name)?;
        let text = || json::text(value).filter(|text| !text.contains('\0'));
        let (found, what) = match field.part {
            PartType::I64 => (value.parse().ok().map(Part::I64), "a 64-bit integer"),
            PartType::Text => (text().map(|text| Part::from(text.as_str())), "a text without NUL"),
            PartType::Uuid => (text().and_then(|text| canonical_uuid(&text)).map(Part::from), "a UUID"),
        };
        found.ok_or_else(|| format!("a JSON object with {what} in {:?}", field.name))
    };
    fields.iter().map(part).collect()
}

/// Spells the parts as an object, in the order of the fields.
pub(super) fn spell(fields: &[KeyField], parts: &[Part]) -> Vec<u8> {
    let text = |value: &str| serde_json::Value::from(value).to_string();
    let spelt = |(field, part): (&KeyField, &Part)| match part {
        Part::I64(id) => format!("{}:{id}", text(field.name)),
        Part::Text(id) => format!("{}:{}", text(field.name), text(id)),
    };
    let all: Vec<String> = fields.iter().zip(parts).map(spelt).collect();
    format!("{{{}}}", all.join(",")).into_bytes()
}

/// The one list of these fields that lives as long as the process: a key type is as small as a number.
pub(crate) fn known(fields: &[(String, PartType)]) -> &'static [KeyField] {
    static KNOWN: Mutex<Vec<&'static [KeyField]>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let is_same = |own: &KeyField, (name, part): &(String, PartType)| own.name == name && own.part == *part;
    let is_known = |own: &&&'static [KeyField]| {
        own.len() == fields.len() && own.iter().zip(fields).all(|(own, field)| is_same(own, field))
    };
    if let Some(own) = known.iter().find(is_known) {
        return own;
    }
    let field = |(name, part): &(String, PartType)| KeyField { name: String::leak(name.clone()), part: *part };
    let made: &'static [KeyField] = Vec::leak(fields.iter().map(field).collect());
    known.push(made);
    made
}
