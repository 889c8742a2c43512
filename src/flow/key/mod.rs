//! The id a record is about, and the partitioner that every producer of a keyed topic must agree on.

mod compound;
mod hash;
mod hint;
mod json;
mod order;
mod spelling;

pub(crate) use compound::known;
pub use compound::{KeyField, Part, PartType};
pub use hash::{crc32_partition_for, murmur2, partition_for};
pub(crate) use order::Range;

use crate::flow::column::{ColumnType, Value};
use crate::flow::effect::Reject;
use crate::flow::key::spelling::{canonical_uuid, is_canonical_integer, is_canonical_uuid};
use std::borrow::Cow;
use std::fmt;
use uuid::Uuid;

/// The spelling of an id in a record's key bytes, and with it the type of the table's key column.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyType {
    /// Decimal digits as text, for instance `1042`; a `bigint`, `integer` or `smallint` column. The default. Other spellings of a number (`+7`, `007`)
    /// are dead letters.
    #[default]
    I64,
    /// Eight bytes, big-endian, as Java's `LongSerializer` writes them; a column as for [`KeyType::I64`].
    I64BigEndian,
    /// Text in lower case with hyphens, for instance `67e55044-10b1-426f-9247-bb680e5fe0c8`; a `uuid` column. Other spellings
    /// (in upper case, in braces, without hyphens, `urn:uuid:`) are dead letters.
    Uuid,
    /// UTF-8 text; a column of `text`, `varchar`, `char`, `citext` or an enum.
    Text,
    /// Four bytes, big-endian, as Java's `IntegerSerializer` writes them; a column as for [`KeyType::I64`].
    I32BigEndian,
    /// The sixteen bytes of a UUID; a `uuid` column. Java's `UUIDSerializer` writes text: [`KeyType::Uuid`].
    UuidBytes,
    /// Bytes of any kind; a `bytea` column.
    Bytes,
    /// A whole number in a field of a JSON object, as Debezium and Kafka Connect write keys: `{"id":1042}`, or that object as
    /// `payload` beside its `schema`; a column of whole numbers, as for [`KeyType::I64`]. Messages keep the key as it came; a store has the id as text.
    ///
    /// The whole text decides the partition, so all records of one id must be spelt alike. An `update` step, whose rows are
    /// locked, handles them rightly where they are not.
    Field(&'static str),
    /// Like [`KeyType::Field`], for a text; a `text` column.
    TextField(&'static str),
    /// Like [`KeyType::Field`], for a UUID in lower case with hyphens; a `uuid` column.
    UuidField(&'static str),
    /// Several fields of a JSON object, a column each: [`Table::compound_key`](crate::flow::Table::compound_key) and
    /// [`KeyType::fields_of`] make it of a struct.
    Fields(&'static [KeyField]),
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::I64 => f.write_str("decimal integers (KeyType::I64)"),
            Self::I64BigEndian => f.write_str("eight big-endian bytes (KeyType::I64BigEndian)"),
            Self::I32BigEndian => f.write_str("four big-endian bytes (KeyType::I32BigEndian)"),
            Self::Uuid => f.write_str("UUIDs with hyphens (KeyType::Uuid)"),
            Self::UuidBytes => f.write_str("UUIDs of sixteen bytes (KeyType::UuidBytes)"),
            Self::Text => f.write_str("text (KeyType::Text)"),
            Self::Bytes => f.write_str("bytes (KeyType::Bytes)"),
            Self::Field(name) => write!(f, "JSON objects with a number (KeyType::Field({name:?}))"),
            Self::TextField(name) => write!(f, "JSON objects with a text (KeyType::TextField({name:?}))"),
            Self::UuidField(name) => write!(f, "JSON objects with a UUID (KeyType::UuidField({name:?}))"),
            Self::Fields(fields) => {
                let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
                write!(f, "JSON objects with the fields {} (KeyType::fields_of)", names.join(", "))
            }
        }
    }
}

/// The id of one row. Ordered, so that all tasks lock rows in one order.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Key {
    /// A `bigint`.
    I64(i64),
    /// A `uuid`.
    Uuid(Uuid),
    /// A `text`.
    Text(Box<str>),
    /// A `bytea`.
    Bytes(Box<[u8]>),
    /// Several columns, in the order of the key's fields.
    Parts(Box<[Part]>),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::I64(id) => id.fmt(f),
            Self::Uuid(id) => id.hyphenated().fmt(f),
            Self::Text(id) => f.write_str(id),
            Self::Parts(parts) => compound::write(parts, f),
            Self::Bytes(id) => id.iter().try_fold(f.write_str("0x")?, |(), byte| write!(f, "{byte:02x}")),
        }
    }
}

impl Key {
    /// As a sentence has it: a text in quotes, so that blanks at its ends are seen.
    pub(crate) fn quoted(&self) -> String {
        if let Self::Text(id) = self { format!("{id:?}") } else { self.to_string() }
    }
}

impl From<i64> for Key {
    fn from(id: i64) -> Self {
        Self::I64(id)
    }
}

impl From<i32> for Key {
    fn from(id: i32) -> Self {
        Self::I64(id.into())
    }
}

impl From<Uuid> for Key {
    fn from(id: Uuid) -> Self {
        Self::Uuid(id)
    }
}

impl From<&str> for Key {
    fn from(id: &str) -> Self {
        Self::Text(id.into())
    }
}

impl From<&[u8]> for Key {
    fn from(id: &[u8]) -> Self {
        Self::Bytes(id.into())
    }
}

impl<const N: usize> From<[Part; N]> for Key {
    fn from(parts: [Part; N]) -> Self {
        Self::Parts(parts.into())
    }
}

impl From<Vec<u8>> for Key {
    fn from(id: Vec<u8>) -> Self {
        Self::Bytes(id.into())
    }
}

impl Key {
    /// It as its column holds it.
    pub(crate) fn as_value(&self) -> Value {
        match self {
            Self::I64(id) => Value::I64(*id),
            Self::Uuid(_) | Self::Text(_) => Value::Text(self.to_string()),
            Self::Bytes(id) => Value::Bytes(id.to_vec()),
            Self::Parts(_) => Value::Json(self.to_string()),
        }
    }

    /// The value of the column of a number, in the order of the key's columns; of a key of one column that of the column.
    /// Where the column's type is known, a number is of it, unless the column cannot hold it.
    pub(crate) fn column(&self, number: usize, kind: Option<ColumnType>) -> Value {
        let value = match self {
            Self::Parts(parts) => parts.get(number).map_or(Value::Null, Part::as_value),
            key => key.as_value(),
        };
        let Value::I64(id) = value else { return value };
        let narrowed = match kind {
            Some(ColumnType::I16) => i16::try_from(id).ok().map(Value::I16),
            Some(ColumnType::I32) => i32::try_from(id).ok().map(Value::I32),
            _ => None,
        };
        narrowed.unwrap_or(Value::I64(id))
    }

    /// The compound key that is written as this list; see its `Display`.
    pub(crate) fn of_list(list: &str) -> Option<Self> {
        compound::parts_of(list).map(Self::Parts)
    }
}

impl KeyType {
    /// The type of a table's key column that holds such ids; `jsonb` stands for several columns.
    #[must_use]
    pub const fn column_type(self) -> ColumnType {
        match self {
            Self::I64 | Self::I64BigEndian | Self::I32BigEndian | Self::Field(_) => ColumnType::I64,
            Self::Uuid | Self::UuidBytes | Self::UuidField(_) => ColumnType::Uuid,
            Self::Text | Self::TextField(_) => ColumnType::Text,
            Self::Bytes => ColumnType::Bytes,
            Self::Fields(_) => ColumnType::Json,
        }
    }

    /// Whether the id is a part of the key's bytes, which are not the one spelling of the id.
    #[must_use]
    pub const fn is_field(self) -> bool {
        matches!(self, Self::Field(_) | Self::TextField(_) | Self::UuidField(_) | Self::Fields(_))
    }

    /// Whether the keys are numbers or UUIDs as bytes, which no text is a part of.
    #[must_use]
    pub const fn is_binary(self) -> bool {
        matches!(self, Self::I64BigEndian | Self::I32BigEndian | Self::UuidBytes)
    }

    /// Reads the id from a record's key.
    ///
    /// # Errors
    /// [`Reject::Unreadable`] with the code `null-key` or `bad-key`.
    pub fn parse(self, bytes: Option<&[u8]>) -> Result<Key, Reject> {
        let bytes = bytes.ok_or_else(|| Reject::unreadable("null-key", "the record has no key"))?;
        // One id, one spelling: the partition is that of the bytes, so two spellings would be handled side by side.
        let otherwise =
            |id: &Key| Reject::unreadable("bad-key", format!("the key spells an id otherwise: write it as {id}"));
        let checked = |id: Key, is_canonical: bool| if is_canonical { Ok(id) } else { Err(otherwise(&id)) };
        let number = |text: &str| Some((Key::I64(text.parse().ok()?), is_canonical_integer(text)));
        let uuid = |text: &str| Uuid::try_parse(text).ok().map(|id| (Key::Uuid(id), is_canonical_uuid(text, id)));
        match self {
            Self::I64 => {
                let found = text(bytes).and_then(number);
                found.map_or_else(|| Err(bad(bytes, "a decimal 64-bit integer")), |(id, is_ours)| checked(id, is_ours))
            }
            Self::Uuid => {
                let found = text(bytes).and_then(uuid);
                found.map_or_else(|| Err(bad(bytes, "a UUID with hyphens")), |(id, is_ours)| checked(id, is_ours))
            }
            Self::I64BigEndian => {
                let id = bytes.try_into().map(i64::from_be_bytes);
                id.map(Key::I64).map_err(|_| bad(bytes, "eight big-endian bytes"))
            }
            Self::I32BigEndian => {
                let id = bytes.try_into().map(i32::from_be_bytes);
                id.map(Key::from).map_err(|_| bad(bytes, "four big-endian bytes"))
            }
            Self::UuidBytes => {
                let id = bytes.try_into().map(Uuid::from_bytes);
                id.map(Key::Uuid).map_err(|_| bad(bytes, "the sixteen bytes of a UUID"))
            }
            // Postgres text holds no NUL.
            Self::Text => {
                let id = text(bytes).filter(|text| !text.contains('\0'));
                id.map(Key::from).ok_or_else(|| bad(bytes, "UTF-8 text without NUL"))
            }
            Self::Bytes => Ok(Key::from(bytes)),
            Self::Field(name) => {
                let value = json::field(bytes, name).map_err(|why| bad(bytes, &why))?;
                let id = number(value).map(|(id, _)| id);
                id.ok_or_else(|| bad(bytes, &format!("a JSON object with a 64-bit integer in {name:?}")))
            }
            Self::TextField(name) => {
                let value = json::field(bytes, name).map_err(|why| bad(bytes, &why))?;
                let id = json::text(value).filter(|text| !text.contains('\0'));
                let wanted = || bad(bytes, &format!("a JSON object with a text without NUL in {name:?}"));
                id.map(|id| Key::from(id.as_str())).ok_or_else(wanted)
            }
            Self::UuidField(name) => {
                let value = json::field(bytes, name).map_err(|why| bad(bytes, &why))?;
                let id = json::text(value).and_then(|text| canonical_uuid(&text));
                id.map(Key::Uuid).ok_or_else(|| bad(bytes, &format!("a JSON object with a UUID in {name:?}")))
            }
            Self::Fields(fields) => compound::parse(fields, bytes).map(Key::Parts).map_err(|why| bad(bytes, &why)),
        }
    }

    /// Spells an id as the key bytes of a record; the inverse of [`KeyType::parse`]. An id that the type does not have is spelt
    /// as it stands, which [`KeyType::parse`] refuses.
    #[must_use]
    pub fn spell(self, key: &Key) -> Vec<u8> {
        match (self, key) {
            (Self::I64BigEndian, Key::I64(id)) => id.to_be_bytes().to_vec(),
            (Self::I32BigEndian, Key::I64(id)) => {
                i32::try_from(*id).map_or_else(|_| id.to_be_bytes().to_vec(), |id| id.to_be_bytes().to_vec())
            }
            (Self::UuidBytes, Key::Uuid(id)) => id.as_bytes().to_vec(),
            (Self::Field(name), Key::I64(id)) => object(name, (*id).into()),
            (Self::TextField(name), Key::Text(id)) => object(name, (&**id).into()),
            (Self::UuidField(name), Key::Uuid(id)) => object(name, id.to_string().into()),
            (Self::Fields(fields), Key::Parts(parts)) => compound::spell(fields, parts),
            (_, Key::Bytes(id)) => id.to_vec(),
            _ => key.to_string().into_bytes(),
        }
    }

    /// The bytes under which a store keeps the value of a record's key: the record's own, or the id where that is a field of
    /// them.
    pub(crate) fn kept_under<'a>(self, bytes: &'a [u8], id: &Key) -> Cow<'a, [u8]> {
        if self.is_field() { Cow::Owned(id.to_string().into_bytes()) } else { Cow::Borrowed(bytes) }
    }

    /// The bytes of a store's key for which a text stands; `None` where it stands for none.
    pub(crate) fn key_of_text(self, text: &str) -> Option<Vec<u8>> {
        let key = match self {
            Self::I64BigEndian | Self::I32BigEndian => Key::I64(text.parse().ok()?),
            Self::UuidBytes => Key::Uuid(Uuid::try_parse(text).ok()?),
            _ => return Some(text.to_owned().into_bytes()),
        };
        let spelt = self.spell(&key);
        self.parse(Some(&spelt)).ok().map(|_| spelt)
    }
}

/// The rejection of a key that its type does not read, with the type that it looks like.
fn bad(bytes: &[u8], wanted: &str) -> Reject {
    let length = bytes.len();
    let hint = hint::looks_like(bytes).map(|looks| format!("; it looks like {looks}")).unwrap_or_default();
    Reject::unreadable("bad-key", format!("the key of {length} bytes is not {wanted}{hint}"))
}

/// An object of one field as Debezium writes it, without spaces.
fn object(name: &str, value: serde_json::Value) -> Vec<u8> {
    serde_json::Value::Object([(name.to_owned(), value)].into_iter().collect()).to_string().into_bytes()
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stands_in_quotes_within_a_sentence() {
        assert_eq!(Key::from(" pear").quoted(), "\" pear\"");
        assert_eq!(Key::I64(7).quoted(), "7");
    }

    #[test]
    fn every_key_type_reads_back_what_it_spells() {
        let id = Uuid::from_u128(0x67e5_5044_10b1_426f_9247_bb68_0e5f_e0c8);
        for (kind, key) in [
            (KeyType::I64, Key::I64(-42)),
            (KeyType::I64BigEndian, Key::I64(i64::MIN)),
            (KeyType::Uuid, Key::Uuid(id)),
            (KeyType::Text, Key::from("späti")),
            (KeyType::I32BigEndian, Key::I64(i32::MIN.into())),
            (KeyType::UuidBytes, Key::Uuid(id)),
            (KeyType::Bytes, Key::from(&b"\0\xff"[..])),
            (KeyType::Field("id"), Key::I64(-42)),
            (KeyType::TextField("code"), Key::from("a \"b\"")),
            (KeyType::UuidField("id"), Key::Uuid(id)),
        ] {
            assert_eq!(kind.parse(Some(&kind.spell(&key))).unwrap(), key);
        }
    }

    /// The bytes that Java's serialisers and Kafka Connect's `JsonConverter` write.
    #[test]
    fn keys_of_java_and_of_debezium_are_read() {
        let parse = |kind: KeyType, bytes: &[u8]| kind.parse(Some(bytes)).unwrap();
        assert_eq!(parse(KeyType::I32BigEndian, &[0, 0, 4, 0x12]), Key::I64(1042));
        assert_eq!(parse(KeyType::I32BigEndian, &[0xff; 4]), Key::I64(-1));
        assert_eq!(parse(KeyType::I64BigEndian, &[0, 0, 0, 0, 0, 0, 4, 0x12]), Key::I64(1042));
        let schema = r#"{"type":"struct","fields":[{"type":"int64","optional":false,"field":"id"}],"optional":false,"name":"server.public.accounts.Key"}"#;
        let wrapped = format!(r#"{{"schema":{schema},"payload":{{"id":1042}}}}"#);
        for key in [r#"{"id":1042}"#, r#"{ "id": 1042, "tenant": "a" }"#, &wrapped] {
            assert_eq!(parse(KeyType::Field("id"), key.as_bytes()), Key::I64(1042), "{key}");
        }
        assert_eq!(parse(KeyType::Field("payload"), br#"{"payload":7}"#), Key::I64(7), "a column of that name");
        assert_eq!(parse(KeyType::TextField("code"), br#"{"code":"\u00e4"}"#), Key::from("ä"));
        assert_eq!(KeyType::I32BigEndian.spell(&Key::I64(1 << 40)).len(), 8, "no other number");
    }

    #[test]
    fn a_wrong_choice_is_named_with_the_one_that_fits() {
        let said = |kind: KeyType, bytes: &[u8]| kind.parse(Some(bytes)).unwrap_err().message().to_owned();
        let id = Uuid::from_u128(0x67e5_5044_10b1_426f_9247_bb68_0e5f_e0c8);
        let (long, spelt) = (1042_i64.to_be_bytes(), id.to_string());
        let found = said(KeyType::I64, &long);
        let expected = "the key of 8 bytes is not a decimal 64-bit integer; it looks like Java's LongSerializer, 1042: declare KeyType::I64BigEndian";
        assert_eq!(found, expected);
        let cases: [(KeyType, &[u8], &str); 13] = [
            (KeyType::Text, &long, "Java's LongSerializer, 1042: declare KeyType::I64BigEndian"),
            (KeyType::I32BigEndian, &long, "Java's LongSerializer, 1042: declare KeyType::I64BigEndian"),
            (KeyType::I64BigEndian, &[0, 0, 4, 0x12], "Java's IntegerSerializer, 1042: declare KeyType::I32BigEndian"),
            (KeyType::Uuid, id.as_bytes(), "67e55044-10b1-426f-9247-bb680e5fe0c8: declare KeyType::UuidBytes"),
            (KeyType::UuidBytes, spelt.as_bytes(), "a UUID as text, 67e55044-10b1-426f-9247-bb680e5fe0c8"),
            (KeyType::I64BigEndian, b"1042", "a decimal number, 1042: declare KeyType::I64"),
            (KeyType::I64, br#"{"id":1042}"#, r#"id = 1042: declare KeyType::Field("id")"#),
            (KeyType::Field("id"), br#"{"id":"a"}"#, r#"id = "a": declare KeyType::TextField("id")"#),
            (KeyType::I64, br#"{"a":1,"b":2}"#, "a JSON key of several fields"),
            (KeyType::Field("id"), br#"{"a":1,"b":2}"#, "the field \"id\" (it has a, b)"),
            (KeyType::I64, b"ada", "text: declare KeyType::Text"),
            (KeyType::I64, &[0, 0, 0, 0, 9, 2, 2], "a key of a schema registry, schema 9"),
            (KeyType::Text, &[0xff, 0xfe], "raw bytes: declare KeyType::Bytes"),
        ];
        for (kind, bytes, expected) in cases {
            let found = said(kind, bytes);
            assert!(found.contains(expected), "{kind}: {found}");
        }
    }

    #[test]
    fn of_the_spellings_of_one_id_only_ours_is_taken_and_it_is_named() {
        for (text, id) in [("0", 0), ("-7", -7), ("1042", 1042), ("-9223372036854775808", i64::MIN)] {
            assert_eq!(KeyType::I64.parse(Some(text.as_bytes())).unwrap(), Key::I64(id));
        }
        for (text, id) in [("007", "7"), ("+7", "7"), ("-0", "0"), ("00", "0"), ("-07", "-7")] {
            let reject = KeyType::I64.parse(Some(text.as_bytes())).unwrap_err();
            assert_eq!((reject.code(), reject.message().ends_with(&format!("write it as {id}"))), ("bad-key", true));
        }
        let id = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        assert!(KeyType::Uuid.parse(Some(id.as_bytes())).is_ok());
        let others = [
            id.to_uppercase(),
            id.replace('-', ""),
            format!("{{{id}}}"),
            format!("urn:uuid:{id}"),
            id.replace('e', "E"),
        ];
        for other in others {
            let reject = KeyType::Uuid.parse(Some(other.as_bytes())).unwrap_err();
            assert_eq!((reject.code(), reject.message().ends_with(&format!("write it as {id}"))), ("bad-key", true));
        }
    }

    #[test]
    fn a_missing_or_malformed_key_is_a_dead_letter_with_its_reason() {
        assert_eq!(KeyType::I64.parse(None).unwrap_err().code(), "null-key");
        for (kind, bytes) in [
            (KeyType::I64, &b"7a"[..]),
            (KeyType::I64, b""),
            (KeyType::I64BigEndian, b"123"),
            (KeyType::Text, b"a\0"),
            (KeyType::Uuid, b"x"),
            (KeyType::I32BigEndian, b""),
            (KeyType::UuidBytes, b"0123"),
            (KeyType::Field("id"), b"1042"),
            (KeyType::Field("id"), br#"{"id":1.0}"#),
            (KeyType::Field("id"), br#"{"id":null}"#),
            (KeyType::Field("id"), br#"{"schema":{},"payload":null}"#),
            (KeyType::TextField("id"), br#"{"id":"\u0000"}"#),
            (KeyType::UuidField("id"), br#"{"id":"7"}"#),
            (KeyType::UuidField("id"), br#"{"id":"67E55044-10B1-426F-9247-BB680E5FE0C8"}"#),
        ] {
            assert_eq!(kind.parse(Some(bytes)).unwrap_err().code(), "bad-key");
        }
    }
}
