//! Bytes ↔ values, in the format that a source, a table topic or a step declares. Bytes or values that cannot be converted
//! become a reject, never a panic.
//!
//! The values of stores are JSON whatever the topics' formats are, since queries show them and upgrades read them.

pub mod json;
mod plain;

use crate::flow::effect::Reject;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The format of a topic's values: a value serde for all of the topic's records. JSON where nothing is said.
///
/// ```
/// use tidegate::flow::{Algorithm, Context, Format, Reject, Topology};
///
/// struct Shout;
///
/// impl Algorithm for Shout {
///     type Event = String;
///     type Row = ();
///     type Notices = Option<String>;
///
///     fn apply(&self, line: String, (): &mut (), _: &mut Context<'_>) -> Result<Option<String>, Reject> {
///         Ok(Some(line.to_uppercase()))
///     }
/// }
///
/// let mut topology = Topology::new("shouting");
/// topology.source("lines").format(Format::Text).process(Shout).format(Format::Text).to("loud-lines");
/// assert_eq!(topology.validate(), Ok(()));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Format {
    /// Any serde type, as JSON.
    #[default]
    Json,
    /// One text in UTF-8, as it stands: a `String`, or an enum of words.
    Text,
    /// The bytes as they stand: a `Vec<u8>`.
    Bytes,
}

impl Format {
    /// Its media type: the header `content-type` of a notice.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Text => "text/plain; charset=utf-8",
            Self::Bytes => "application/octet-stream",
        }
    }

    /// Decodes an event.
    ///
    /// # Errors
    /// [`Reject::Unreadable`]: `empty-value` for a missing value, in JSON for an empty one too; `bad-json`, `bad-text` or `bad-bytes`
    /// for one that does not fit, with the reason.
    pub fn decode<T: DeserializeOwned>(self, value: Option<&[u8]>) -> Result<T, Reject> {
        let missing = || Reject::unreadable("empty-value", "the record has no value (a tombstone)");
        let value = value.ok_or_else(missing)?;
        match self {
            Self::Json => json::decode(value),
            Self::Text => plain::decode_text(value).map_err(|error| Reject::unreadable("bad-text", error.to_string())),
            Self::Bytes => {
                plain::decode_bytes(value).map_err(|error| Reject::unreadable("bad-bytes", error.to_string()))
            }
        }
    }

    /// Encodes a notice.
    ///
    /// # Errors
    /// A dead letter: `not-finite` where the notice holds NaN or an infinity, which JSON would turn into `null` in silence;
    /// `bad-notice` where the format cannot write it.
    pub fn encode<T: Serialize>(self, notice: &T) -> Result<Vec<u8>, Reject> {
        let mut out = Vec::with_capacity(64);
        let plain = |error: plain::Unfit| Reject::dead_letter("bad-notice", error.to_string());
        match self {
            Self::Json => json::encode_into(notice, &mut out)?,
            Self::Text => plain::encode_text(notice, &mut out).map_err(plain)?,
            Self::Bytes => plain::encode_bytes(notice, &mut out).map_err(plain)?,
        }
        Ok(out)
    }

    /// Why no value of this format can be a `T`, found with a sample: `T` is of another shape.
    pub(crate) fn unfit<T: DeserializeOwned>(self) -> Option<String> {
        let sample = || match self {
            Self::Json => None,
            Self::Text => plain::decode_text::<T>(b"0").err(),
            Self::Bytes => plain::decode_bytes::<T>(b"0").err(),
        };
        // A panic is the user's own, and comes again with the first record.
        let found = catch_unwind(AssertUnwindSafe(sample)).ok()??;
        found.is_of_shape.then(|| found.to_string())
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "JSON",
            Self::Text => "text",
            Self::Bytes => "bytes",
        })
    }
}

/// The sentence for people where [`Format::unfit`] finds something, without the name of the topic.
pub(crate) fn why_unfit(format: Format, unfit: &str) -> String {
    format!(
        "its values are {format}, which its type cannot be read from ({unfit}); text is a String, bytes are a Vec<u8>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Named(String);

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    enum Switch {
        On,
        Off,
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Order {
        units: i64,
    }

    fn there_and_back<T: Serialize + DeserializeOwned + PartialEq + fmt::Debug>(
        format: Format,
        value: &T,
        bytes: &[u8],
    ) {
        assert_eq!(format.encode(value).unwrap(), bytes);
        assert_eq!(format.decode::<T>(Some(bytes)).unwrap(), *value);
        assert_eq!(format.unfit::<T>(), None);
    }

    #[test]
    fn text_and_bytes_stand_as_they_are() {
        there_and_back(Format::Json, &"an \"é\"".to_owned(), "\"an \\\"é\\\"\"".as_bytes());
        there_and_back(Format::Text, &"an \"é\"".to_owned(), "an \"é\"".as_bytes());
        there_and_back(Format::Text, &String::new(), b"");
        there_and_back(Format::Text, &Named("ada".into()), b"ada");
        there_and_back(Format::Text, &Some(Switch::On), b"On");
        there_and_back(Format::Bytes, &vec![0_u8, 0xff, b'"'], b"\0\xff\"");
        there_and_back(Format::Bytes, &Vec::<u8>::new(), b"");
        there_and_back(Format::Bytes, &"é".to_owned(), "é".as_bytes());
    }

    #[test]
    fn values_that_do_not_fit_are_dead_letters_with_a_code_of_their_format() {
        let code = |format: Format, value: Option<&[u8]>| format.decode::<String>(value).unwrap_err().code().to_owned();
        for format in [Format::Json, Format::Text, Format::Bytes] {
            assert_eq!(code(format, None), "empty-value");
        }
        assert_eq!(code(Format::Json, Some(b"")), "empty-value");
        assert_eq!(code(Format::Json, Some(b"\xff")), "bad-json");
        assert_eq!(code(Format::Text, Some(b"\xff")), "bad-text");
        assert_eq!(code(Format::Bytes, Some(b"\xff")), "bad-bytes");
        assert_eq!(Format::Text.decode::<Switch>(Some(b"Dim")).unwrap_err().code(), "bad-text");
        assert_eq!(Format::Bytes.decode::<[u8; 4]>(Some(b"12345")).unwrap_err().code(), "bad-bytes");
        for format in [Format::Text, Format::Bytes] {
            let refused = format.encode(&Order { units: 1 }).unwrap_err();
            assert_eq!((refused.code(), refused.message().contains("a struct")), ("bad-notice", true), "{refused:?}");
            assert_eq!(format.encode(&1.5).unwrap_err().code(), "bad-notice");
        }
        assert_eq!(Format::Text.encode(&vec![1_u8]).unwrap_err().code(), "bad-notice");
        assert_eq!(Format::Bytes.encode(&vec![vec![1_u8]]).unwrap_err().code(), "bad-notice");
    }

    #[test]
    fn a_type_of_another_shape_is_found_without_a_record() {
        assert_eq!(Format::Json.unfit::<Order>(), None);
        assert!(Format::Text.unfit::<Order>().unwrap().contains("expected struct Order"));
        assert!(Format::Text.unfit::<Vec<u8>>().is_some() && Format::Text.unfit::<i64>().is_some());
        assert!(Format::Bytes.unfit::<Order>().is_some() && Format::Bytes.unfit::<f64>().is_some());
        assert_eq!(Format::Text.unfit::<Switch>(), None, "a word of another value may fit");
        assert_eq!(Format::Bytes.unfit::<[u8; 4]>(), None, "bytes of another length may fit");
    }
}
