//! The field of a JSON key that holds the id, as Debezium and Kafka Connect write keys.
//!
//! A key is an object such as `{"id":1042}`, or, where the converter adds schemas, the same object as `payload` beside its
//! `schema`.

use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The fields of an object, each as it is written.
type Fields<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// The fields of a key: those of its payload where it has a schema beside it. `None` where it is no object.
fn fields(bytes: &[u8]) -> Option<Fields<'_>> {
    let outer: Fields<'_> = serde_json::from_slice(bytes).ok()?;
    match (outer.get("schema"), outer.get("payload")) {
        (Some(_), Some(payload)) => serde_json::from_str(payload.get()).ok(),
        _ => Some(outer),
    }
}

/// The value of a field as it is written; otherwise what the key is not.
pub(super) fn field<'a>(bytes: &'a [u8], name: &str) -> Result<&'a str, String> {
    let fields = fields(bytes).ok_or_else(|| "a JSON object".to_owned())?;
    let found = fields.get(name).copied().map(RawValue::get);
    found.ok_or_else(|| {
        let known: Vec<&str> = fields.keys().map(AsRef::as_ref).collect();
        format!("a JSON object with the field {name:?} (it has {})", known.join(", "))
    })
}

/// The text that a value is, where it is one.
pub(super) fn text(value: &str) -> Option<String> {
    serde_json::from_str(value).ok()
}

/// The only field of a key, with its value as it is written.
pub(super) fn only_field(bytes: &[u8]) -> Option<(String, &str)> {
    let mut fields = fields(bytes)?.into_iter();
    let (name, value) = fields.next()?;
    fields.next().is_none().then(|| (name.into_owned(), value.get()))
}
