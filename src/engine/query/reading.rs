//! The question about a store, and its answer.

use crate::engine::state::question::{Standing, Unready};
use crate::flow::window::windows_within;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fmt;

/// The part of a store that is asked for. A key is spelt for people: a number for keys of four or eight bytes, a UUID for keys
/// of sixteen, `0x` and hexadecimal digits for bytes that are no text, text for all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The value of one key.
    Key {
        /// The key.
        key: String,
        /// The windows of its value.
        span: Span,
    },
    /// The values of many keys, ascending by the keys' bytes over all partitions.
    Many {
        /// The keys.
        keys: Keys,
        /// The windows of their values. A key without any of them is left out.
        span: Span,
        /// The key to go on from: the `next` of the answer before. `None` for the first page.
        from: Option<Vec<u8>>,
        /// The bound on the answer, which may be shorter although there are more keys.
        count_max: usize,
    },
    /// The size alone, without a value.
    Size,
}

/// Some of a store's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Those that begin with this text; all of them where it is empty.
    Prefix(String),
    /// Those from `first` to `last`, both included: numbers by their value, all others by their bytes.
    Range {
        /// `None`: from the store's first key on.
        first: Option<String>,
        /// `None`: up to the store's last key.
        last: Option<String>,
    },
}

/// A span of event time: windows that have a millisecond of it are told, of stores that keep windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Its first millisecond since 1970, UTC; `None`: since ever.
    pub since_ms: Option<i64>,
    /// The millisecond behind its last one; `None`: for ever.
    pub until_ms: Option<i64>,
}

impl Span {
    /// Whether nothing is left out.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.since_ms.is_none() && self.until_ms.is_none()
    }
}

/// The answer of this process about a store.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// The pipeline that the store belongs to.
    pub pipeline: String,
    /// The cluster that the pipeline runs on; empty where the log has no id.
    pub cluster_id: String,
    /// Keys and values, ascending by the keys' bytes, then by partition.
    pub entries: Vec<Entry>,
    /// The key to go on from: all entries below this key have been given. `None` at the end.
    pub next: Option<Vec<u8>>,
    /// The partitions that answered.
    pub partitions: Vec<Standing>,
    /// The partitions that are not ours; see [`Queries::owners`](super::Queries::owners).
    pub elsewhere: Vec<i32>,
    /// The partitions that are ours and cannot be read now.
    pub unready: Vec<Unready>,
}

/// A key with its proved value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The key as text; `0x` and hexadecimal digits where it is none.
    pub key: String,
    /// The key's bytes in hexadecimal digits, where `key` is not those bytes as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_bytes: Option<String>,
    /// The version that the value was written in.
    pub version: u8,
    /// The value, as it was written.
    pub value: Box<RawValue>,
    /// Its partition.
    pub partition: i32,
}

impl Entry {
    /// The key's bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let spelt = self.key_bytes.as_deref().and_then(from_hex);
        spelt.unwrap_or_else(|| self.key.clone().into_bytes())
    }
}

/// An entry with its windows of a span, where those are asked for; `None` where there are none, unless its key is named. For an
/// answer of another instance, whose release may not know spans.
#[must_use]
pub fn within(mut entry: Entry, span: Span, is_named: bool) -> Option<Entry> {
    if span.is_all() {
        return Some(entry);
    }
    // What cannot be read is told by whoever reads the value.
    let Ok((json, count)) = windows_within(entry.value.get().as_bytes(), span.since_ms, span.until_ms) else {
        return Some(entry);
    };
    entry.value = String::from_utf8(json).ok().and_then(|json| RawValue::from_string(json).ok())?;
    (count > 0 || is_named).then_some(entry)
}

/// Keeps the first `count_max` of entries that ascend, and answers the first key that was left out. Entries of one key,
/// which may lie in several partitions, are kept or left out together, and the first key is always kept.
pub fn cut(entries: &mut Vec<Entry>, count_max: usize) -> Option<Vec<u8>> {
    let first_over = entries.get(count_max)?.bytes();
    let at = entries.partition_point(|entry| entry.bytes() < first_over);
    let at = if at > 0 { at } else { entries.partition_point(|entry| entry.bytes() <= first_over) };
    let next = entries.get(at)?.bytes();
    entries.truncate(at);
    Some(next)
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        text.extend([byte >> 4, byte & 0xf].map(|digit| char::from_digit(digit.into(), 16).unwrap_or('0')));
        text
    })
}

/// Undoes [`to_hex`]; `None` for anything but pairs of hexadecimal digits.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|digit| u8::try_from(digit.to_digit(16)?).ok()).collect();
    let digits = digits?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// The reason why a store cannot be read at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such store.
    UnknownStore {
        /// The stores that exist.
        known: Vec<String>,
    },
    /// The key cannot be one of this store.
    BadKey(String),
    /// The log or a worker did not answer, or the stored bytes cannot be read.
    Unanswered(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownStore { known } if known.is_empty() => f.write_str("this pipeline keeps no store"),
            Self::UnknownStore { known } => write!(f, "no such store; there are {}", known.join(", ")),
            Self::BadKey(message) | Self::Unanswered(message) => f.write_str(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_one_key_are_cut_off_together() {
        let entry = |key: &str, partition| {
            let value = RawValue::from_string("1".into()).unwrap();
            Entry { key: key.into(), key_bytes: None, version: 1, value, partition }
        };
        let left = |count_max| {
            let mut entries = vec![entry("a", 0), entry("a", 1), entry("b", 0), entry("c", 0), entry("c", 1)];
            let next = cut(&mut entries, count_max).map(|next| String::from_utf8(next).unwrap());
            (entries.len(), next)
        };
        assert_eq!(left(1), (2, Some("b".into())), "one key is always told");
        assert_eq!(left(2), (2, Some("b".into())));
        assert_eq!(left(3), (3, Some("c".into())));
        assert_eq!(left(4), (3, Some("c".into())));
        assert_eq!(left(5), (5, None));
    }

    /// What an instance tells that knows no spans.
    #[test]
    fn windows_outside_of_a_span_are_taken_out_once_more() {
        let value = r#"{"kind":"k","clock_ms":25,"windows":[{"start_ms":0,"end_ms":10,"value":1},{"start_ms":20,"end_ms":30,"value":{"n":2.50}}]}"#;
        let entry = |value: &str| {
            let value = RawValue::from_string(value.into()).unwrap();
            Entry { key: "a".into(), key_bytes: None, version: 1, value, partition: 0 }
        };
        let told = |since_ms, is_named| {
            let span = Span { since_ms, until_ms: None };
            within(entry(value), span, is_named).map(|entry| entry.value.get().to_owned())
        };
        assert_eq!(told(None, false).as_deref(), Some(value));
        let later = r#"{"kind":"k","clock_ms":25,"windows":[{"start_ms":20,"end_ms":30,"value":{"n":2.50}}]}"#;
        assert_eq!(told(Some(15), false).as_deref(), Some(later), "values stay as they were written");
        let none = r#"{"kind":"k","clock_ms":25,"windows":[]}"#;
        assert_eq!((told(Some(30), false), told(Some(30), true).as_deref()), (None, Some(none)));
        let other = within(entry("7"), Span { since_ms: Some(1), until_ms: None }, false);
        assert_eq!(other.unwrap().value.get(), "7", "what is no windows is told as it is");
    }

    #[test]
    fn hexadecimal_digits_come_in_pairs() {
        assert_eq!(to_hex(&[0, 0x7f, 0xff]), "007fff");
        assert_eq!(from_hex("007fFF"), Some(vec![0, 0x7f, 0xff]));
        assert_eq!(from_hex(""), Some(Vec::new()));
        assert_eq!((from_hex("7"), from_hex("0x"), from_hex("ü0")), (None, None, None));
    }
}
