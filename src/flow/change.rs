//! Changes of another database's rows, as Debezium writes them.
//!
//! A record's value is an envelope with the row before and after, and the operation; where the converter adds schemas, it is the
//! `payload` beside its `schema`. Behind a delete Debezium writes a tombstone, for compaction:
//! [`Tombstones::Skip`](crate::flow::Tombstones::Skip). The key is JSON too: [`KeyType::Field`](crate::flow::KeyType::Field).

use serde::de::{DeserializeOwned, Error, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use std::fmt;
use std::marker::PhantomData;

/// Debezium's word for a column that `PostgreSQL` keeps apart (TOAST) and that did not change, as text and as bytes.
const NOT_SENT: [&str; 2] = [r#""__debezium_unavailable_value""#, r#""X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==""#];
/// Stands for such a column while the row is read: no text, number or list can be read from it.
const MARK: &str = r#"{"__debezium_unavailable_value":true}"#;

/// A change of a row of type `T`, in Debezium's envelope: JSON, with a schema beside it or without.
///
/// ```
/// use serde::Deserialize;
/// use tidegate::flow::{Change, Operation};
///
/// #[derive(Deserialize)]
/// struct Customer {
///     name: String,
/// }
///
/// let value = r#"{"before":null,"after":{"id":7,"name":"Ada"},"source":{"ts_ms":1767225600000},"op":"c","ts_ms":1767225600250}"#;
/// let change: Change<Customer> = serde_json::from_str(value).unwrap();
/// assert_eq!(change.operation, Operation::Create);
/// assert_eq!(change.after.unwrap().name, "Ada");
/// assert_eq!(change.source_ms, Some(1_767_225_600_000));
/// ```
///
/// `before` is there where the table sends it: in `PostgreSQL` after `ALTER TABLE … REPLICA IDENTITY FULL`. A change of the primary
/// key comes as a delete under the old key and a create under the new one. Numbers of the type `numeric` are base64 unless the
/// connector has `decimal.handling.mode=string`: a record with such a number for a field that is none makes an error that says so,
/// and a `String` takes it for the text.
///
/// It is written as it is read, as an envelope with these fields, so that a topic of changes may be a
/// [`TableTopic`](crate::flow::TableTopic) and its values lie in a store.
#[derive(Clone, PartialEq, Debug)]
pub struct Change<T> {
    /// What was done.
    pub operation: Operation,
    /// The row before; `None` where there was none, or where it was not sent.
    pub before: Option<T>,
    /// The row after; `None` where there is none.
    pub after: Option<T>,
    /// When the source database made the change, in milliseconds since 1970, where the envelope says so (`source.ts_ms`).
    pub source_ms: Option<i64>,
}

/// What was done to a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Operation {
    /// The row was there when the connector took its snapshot, possibly not for the first time: handle it like an update.
    #[serde(rename = "r")]
    Read,
    /// The row was inserted.
    #[serde(rename = "c")]
    Create,
    /// The row was changed.
    #[serde(rename = "u")]
    Update,
    /// The row was deleted.
    #[serde(rename = "d")]
    Delete,
    /// All rows of the table were deleted; there is no row, and no key.
    #[serde(rename = "t")]
    Truncate,
    /// A message of the source database's log that is about no row (`pg_logical_emit_message`): `before` and `after` are `None`, as
    /// of no row that is deleted. Debezium writes such messages under a key of their own, `{"prefix": ...}`, to a topic of their own,
    /// `<topic.prefix>.message`, so that no topic of a table has any; it is delivered, since who reads that topic wants them. Where a
    /// router brings them to a table's topic, each is the dead letter `bad-key` in front of a row, and elsewhere the algorithm
    /// skips it: `Reject::skip("message")`.
    #[serde(rename = "m")]
    Message,
}

/// A column that may be left out of a change: `PostgreSQL` does not send a large value that did not change, unless the table has
/// `REPLICA IDENTITY FULL`. A field of another type makes the record unreadable then, so that Debezium's placeholder is never
/// taken for the value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Column<T> {
    /// The value.
    Sent(T),
    /// The value is what it was before.
    Unchanged,
}

impl<T> Column<T> {
    /// The value, or the one that it was before.
    pub fn or(self, before: T) -> T {
        match self {
            Self::Sent(value) => value,
            Self::Unchanged => before,
        }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Column<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = <Box<RawValue>>::deserialize(deserializer)?;
        if value.get() == MARK {
            return Ok(Self::Unchanged);
        }
        serde_json::from_str(value.get()).map(Self::Sent).map_err(D::Error::custom)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Change<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Envelope { may_be_wrapped: true, row: PhantomData })
    }
}

impl<T: Serialize> Serialize for Change<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut envelope = serializer.serialize_struct("Change", 4)?;
        envelope.serialize_field("before", &self.before)?;
        envelope.serialize_field("after", &self.after)?;
        envelope.serialize_field("source", &self.source_ms.map(|ts_ms| Source { ts_ms: Some(ts_ms) }))?;
        envelope.serialize_field("op", &self.operation)?;
        envelope.end()
    }
}

/// An envelope, or the object that has one as its payload.
struct Envelope<T> {
    may_be_wrapped: bool,
    row: PhantomData<T>,
}

/// The fields of both.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Field {
    Payload,
    Before,
    After,
    Source,
    Op,
    #[serde(other)]
    Other,
}

#[derive(Serialize, Deserialize)]
struct Source {
    ts_ms: Option<i64>,
}

/// The payload of an object with a schema.
struct Payload<T>(Change<T>);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Payload<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Envelope { may_be_wrapped: false, row: PhantomData }).map(Self)
    }
}

impl<'de, T: DeserializeOwned> Visitor<'de> for Envelope<T> {
    type Value = Change<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an envelope of Debezium")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Change<T>, A::Error> {
        let (mut before, mut after, mut source_ms, mut operation, mut payload) = (None, None, None, None, None);
        while let Some(field) = map.next_key()? {
            match field {
                Field::Payload if self.may_be_wrapped => payload = map.next_value::<Option<Payload<T>>>()?,
                Field::Before => before = map.next_value::<Option<Box<RawValue>>>()?,
                Field::After => after = map.next_value::<Option<Box<RawValue>>>()?,
                Field::Source => source_ms = map.next_value::<Option<Source>>()?.and_then(|source| source.ts_ms),
                Field::Op => operation = Some(map.next_value()?),
                Field::Payload | Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if let Some(Payload(change)) = payload {
            return Ok(change);
        }
        let unwrapped = "no envelope of Debezium: it has no field op; a row alone, as ExtractNewRecordState leaves it, is read as the row's type";
        let operation = operation.ok_or_else(|| A::Error::custom(unwrapped))?;
        let row = |row: Option<Box<RawValue>>| row.map(|row| row_of(row.get())).transpose().map_err(A::Error::custom);
        Ok(Change { operation, before: row(before)?, after: row(after)?, source_ms })
    }
}

/// A row as its type reads it; columns that were not sent are marked first.
fn row_of<T: DeserializeOwned>(row: &str) -> Result<T, String> {
    if !NOT_SENT.iter().any(|word| row.contains(word)) {
        return serde_json::from_str(row).map_err(|error| told_of_decimals(&error.to_string(), row));
    }
    let marked = NOT_SENT.iter().fold(row.to_owned(), |row, word| row.replace(word, MARK));
    serde_json::from_str(&marked).map_err(|error| {
        format!(
            "a large column that did not change was not sent: make its field a Column, or give the table REPLICA IDENTITY FULL ({error})"
        )
    })
}

/// The error, and the connector's setting where it is about a number that Debezium has written as bytes: in base64, or beside its
/// scale where the column has none.
fn told_of_decimals(error: &str, row: &str) -> String {
    let base64 = error.split_once("string \"").and_then(|(_, rest)| rest.split_once("\", expected "));
    let pair = error.split_once("invalid type: map, expected ").filter(|_| row.contains(r#""scale":"#));
    let is_decimal = base64.is_some_and(|(text, expected)| is_base64(text) && is_number(expected))
        || pair.is_some_and(|(_, expected)| is_number(expected));
    if !is_decimal {
        return error.to_owned();
    }
    format!(
        "a numeric column came as bytes: give the connector decimal.handling.mode=string and read the field as a decimal type or a String ({error})"
    )
}

/// Whether a text may be bytes in base64, and is no number by itself.
fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    let is_digit = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
    !digits.is_empty() && text.len().is_multiple_of(4) && digits.chars().all(is_digit) && text.parse::<f64>().is_err()
}

/// Whether what a type expects, in serde's words or its own, is a number.
fn is_number(expected: &str) -> bool {
    let word = expected.split(' ').next().unwrap_or_default();
    let is_of_rust = word.strip_prefix(['i', 'u', 'f']).is_some_and(|bits| bits.parse::<u8>().is_ok());
    is_of_rust || ["number", "decimal"].iter().any(|word| expected.to_lowercase().contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table's values are read back from its store.
    #[test]
    fn a_change_is_written_as_it_is_read() {
        let value = r#"{"before":null,"after":7,"source":{"ts_ms":5},"op":"u"}"#;
        let change: Change<i64> = serde_json::from_str(value).unwrap();
        assert_eq!(serde_json::to_string(&change).unwrap(), value);
        let bare: Change<i64> = serde_json::from_str(r#"{"op":"d","before":7}"#).unwrap();
        assert_eq!(serde_json::from_str::<Change<i64>>(&serde_json::to_string(&bare).unwrap()).unwrap(), bare);
    }

    #[derive(Deserialize, PartialEq, Debug)]
    struct Customer {
        id: i64,
        name: String,
    }

    #[derive(Deserialize, PartialEq, Debug)]
    struct Article {
        id: i64,
        text: Column<String>,
        tags: Column<Option<Vec<String>>>,
    }

    fn read<T: DeserializeOwned>(value: &str) -> Result<Change<T>, String> {
        serde_json::from_str(value).map_err(|error| error.to_string())
    }

    fn ada() -> Customer {
        Customer { id: 7, name: "Ada".into() }
    }

    /// As Debezium's connector for PostgreSQL writes them, with `schemas.enable=false`.
    #[test]
    fn each_operation_is_read() {
        let source = r#""source":{"version":"3.0","connector":"postgresql","ts_ms":1767225600000,"snapshot":"false","table":"customers"},"ts_ms":1767225600250,"transaction":null"#;
        let row = r#"{"id":7,"name":"Ada"}"#;
        let cases = [
            ("r", "null", row, Operation::Read, None, Some(ada())),
            ("c", "null", row, Operation::Create, None, Some(ada())),
            ("u", row, row, Operation::Update, Some(ada()), Some(ada())),
            ("u", "null", row, Operation::Update, None, Some(ada())),
            ("d", row, "null", Operation::Delete, Some(ada()), None),
            ("t", "null", "null", Operation::Truncate, None, None),
        ];
        for (op, before, after, operation, expected_before, expected_after) in cases {
            let value = format!(r#"{{"before":{before},"after":{after},{source},"op":"{op}"}}"#);
            let wrapped =
                format!(r#"{{"schema":{{"type":"struct","fields":[{{"field":"after"}}]}},"payload":{value}}}"#);
            let change = read::<Customer>(&value).unwrap();
            assert_eq!(read::<Customer>(&wrapped).unwrap(), change, "{op}");
            assert_eq!((change.operation, change.source_ms), (operation, Some(1_767_225_600_000)));
            assert_eq!((change.before, change.after), (expected_before, expected_after), "{op}");
        }
        let message = r#"{"op":"m","ts_ms":1,"source":{},"message":{"prefix":"p","content":"eA=="}}"#;
        assert_eq!(read::<Customer>(message).unwrap().operation, Operation::Message);
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        for value in ["7", "null", "{}", r#"{"op":"x"}"#, r#"{"id":7,"name":"Ada"}"#, r#"{"schema":{},"payload":null}"#]
        {
            assert!(read::<Customer>(value).is_err(), "{value}");
        }
        let value = r#"{"op":"c","before":null,"after":{"id":7}}"#;
        assert!(read::<Customer>(value).unwrap_err().contains("missing field `name`"));
        let whole = r#"{"schema":{"x":1},"payload":{"op":"c","before":null,"after":{"id":7,"name":"Ada"}}}"#;
        assert!((0..whole.len()).all(|end| read::<Customer>(&whole[..end]).is_err()), "every part of it");
    }

    #[derive(Deserialize, PartialEq, Debug)]
    struct Price {
        cents: Option<i64>,
        rate: Option<f64>,
        is_net: Option<bool>,
    }

    /// With `decimal.handling.mode=precise`, Debezium's default: 500 as bytes, with and without a scale of its own.
    #[test]
    fn a_number_in_base64_is_named_with_the_setting_of_the_connector() {
        let said = |column: &str| read::<Price>(&format!(r#"{{"op":"c","before":null,"after":{{{column}}}}}"#));
        let named =
            [r#""cents":"AfQ=""#, r#""rate":"AfQ=""#, r#""cents":"AYaf""#, r#""cents":{"scale":2,"value":"AfQ="}"#];
        for column in named {
            let refused = said(column).unwrap_err();
            assert!(refused.contains("decimal.handling.mode=string") && refused.contains("expected"), "{refused}");
        }
        for column in [r#""cents":"5.00""#, r#""cents":"no number""#, r#""is_net":"AfQ=""#, r#""cents":{"value":1}"#] {
            let refused = said(column).unwrap_err();
            assert!(!refused.contains("decimal.handling.mode"), "{column}: {refused}");
        }
    }

    #[test]
    fn a_column_that_was_not_sent_is_never_taken_for_its_value() {
        let value = |name: &str| format!(r#"{{"op":"u","before":null,"after":{{"id":7,"name":{name},"bio":{name}}}}}"#);
        for word in NOT_SENT {
            let refused = read::<Customer>(&value(word)).unwrap_err();
            assert!(refused.contains("REPLICA IDENTITY FULL"), "{refused}");
        }
        let other = value(r#""__debezium_unavailable_value of mine""#);
        assert!(read::<Customer>(&other).is_ok());
        let unread = format!(r#"{{"op":"u","before":null,"after":{{"id":7,"name":"Ada","bio":{}}}}}"#, NOT_SENT[0]);
        assert_eq!(read::<Customer>(&unread).unwrap().after, Some(ada()), "a column that the type does not have");

        let article = format!(r#"{{"op":"u","after":{{"id":7,"text":{},"tags":["a"]}}}}"#, NOT_SENT[0]);
        let article = read::<Article>(&article).unwrap().after.unwrap();
        let expected = Article { id: 7, text: Column::Unchanged, tags: Column::Sent(Some(vec!["a".into()])) };
        assert_eq!(article, expected);
        assert_eq!(article.text.or("as before".into()), "as before");
        let article = r#"{"op":"u","after":{"id":7,"text":"x","tags":null}}"#;
        let article = read::<Article>(article).unwrap().after.unwrap();
        assert_eq!((article.text, article.tags), (Column::Sent("x".into()), Column::Sent(None)));
    }
}
