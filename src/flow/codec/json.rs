//! JSON.

use crate::flow::effect::Reject;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::Cell;
use std::io;

/// Decodes a value. `serde_json` refuses nesting beyond 128 levels.
///
/// # Errors
/// [`Reject::Unreadable`]: `empty-value` for an empty value, `bad-json` otherwise, with the parser's line and column, and with what
/// the value looks like; for what is no JSON at all with its first 32 bytes at most, in quotes.
pub fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, Reject> {
    if value.is_empty() {
        return Err(Reject::unreadable("empty-value", "the record's value is empty"));
    }
    serde_json::from_slice(value).map_err(|error| {
        // What does not fit a type is told by the parser with the part that it is about.
        let begin = || if error.is_data() { String::new() } else { format!("; the value begins {}", beginning(value)) };
        let looks = looks_like(value).map_or_else(begin, |looks| format!("; it begins with {looks}"));
        Reject::unreadable("bad-json", format!("{error}{looks}"))
    })
}

/// The likeliest writer of a value that is no JSON, where its first bytes tell.
fn looks_like(value: &[u8]) -> Option<String> {
    match value {
        [0, a, b, c, d, _, ..] => {
            let id = u32::from_be_bytes([*a, *b, *c, *d]);
            Some(format!("the five bytes of a schema registry, schema {id}: no plain JSON"))
        }
        [0xef, 0xbb, 0xbf, ..] => Some("a byte order mark (EF BB BF), which JSON does not have".into()),
        _ => None,
    }
}

/// The most bytes of a value that a message shows.
const SHOWN: usize = 32;

/// The first bytes in quotes, those that are no printable ASCII escaped.
fn beginning(value: &[u8]) -> String {
    let shown = value.get(..SHOWN).unwrap_or(value);
    let more = if shown.len() < value.len() { "…" } else { "" };
    format!("\"{}\"{more}", shown.escape_ascii())
}

/// Appends an encoded value to `out`.
///
/// # Errors
/// A dead letter: `not-finite` where the value holds NaN or an infinity, which JSON would turn into `null` in silence;
/// `bad-notice` where it cannot be serialized. `out` is then to be thrown away.
pub fn encode_into<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), Reject> {
    encode(value, out).map(drop)
}

/// Appends an encoded value that [`decode`] reads again.
///
/// # Errors
/// The same, and `too-deep` where it has more levels than are read.
pub fn encode_kept_into<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), Reject> {
    let levels = encode(value, out)?.deepest.get();
    if levels <= LEVELS {
        return Ok(());
    }
    let message =
        format!("it has {levels} levels of arrays and objects, and what has more than {LEVELS} cannot be read again");
    Err(Reject::dead_letter("too-deep", message))
}

/// Most levels of arrays and objects in a value that `serde_json` reads.
const LEVELS: usize = 127;

fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<Written, Reject> {
    let written = Written::default();
    let mut serializer = serde_json::Serializer::with_formatter(out, &written);
    value.serialize(&mut serializer).map_err(|error| Reject::dead_letter("bad-notice", error.to_string()))?;
    if has_non_finite(value, written.nulls.get())? {
        return Err(Reject::dead_letter("not-finite", "it holds a number that is NaN or infinite"));
    }
    Ok(written)
}

/// What was written: the nulls, since only a value with nulls can hide a float that is not finite, and the levels of arrays and
/// objects.
#[derive(Default)]
struct Written {
    nulls: Cell<usize>,
    level: Cell<usize>,
    deepest: Cell<usize>,
}

impl Written {
    fn begin<W: io::Write + ?Sized>(&self, writer: &mut W, bracket: u8) -> io::Result<()> {
        let level = self.level.get() + 1;
        self.level.set(level);
        self.deepest.set(self.deepest.get().max(level));
        writer.write_all(&[bracket])
    }

    fn end<W: io::Write + ?Sized>(&self, writer: &mut W, bracket: u8) -> io::Result<()> {
        self.level.set(self.level.get().saturating_sub(1));
        writer.write_all(&[bracket])
    }
}

impl serde_json::ser::Formatter for &Written {
    fn write_null<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.nulls.set(self.nulls.get() + 1);
        writer.write_all(b"null")
    }

    fn begin_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b'[')
    }

    fn end_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b']')
    }

    fn begin_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b'{')
    }

    fn end_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b'}')
    }
}

/// Whether one of `nulls` written nulls stands for a float that is not finite. Rare, so it may cost a second pass.
fn has_non_finite<T: Serialize + ?Sized>(notice: &T, nulls: usize) -> Result<bool, Reject> {
    if nulls == 0 {
        return Ok(false);
    }
    finite::check(notice).map(|()| false).or_else(|error| match error {
        finite::Found::NotFinite => Ok(true),
        finite::Found::Other(message) => Err(Reject::dead_letter("bad-notice", message)),
    })
}

/// A serializer that writes nothing and fails at the first float that is not finite.
mod finite {
    use serde::ser::{self, Serialize};
    use std::fmt;

    #[derive(Debug)]
    pub(super) enum Found {
        NotFinite,
        Other(String),
    }

    impl fmt::Display for Found {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::NotFinite => f.write_str("not finite"),
                Self::Other(message) => f.write_str(message),
            }
        }
    }

    impl std::error::Error for Found {}

    impl ser::Error for Found {
        fn custom<T: fmt::Display>(message: T) -> Self {
            Self::Other(message.to_string())
        }
    }

    pub(super) fn check<T: Serialize + ?Sized>(value: &T) -> Result<(), Found> {
        value.serialize(Check)
    }

    struct Check;

    fn finite(is_finite: bool) -> Result<(), Found> {
        if is_finite { Ok(()) } else { Err(Found::NotFinite) }
    }

    macro_rules! accept {
        ($($method:ident($($argument:ty),*);)*) => {$(
            fn $method(self, $(_: $argument),*) -> Result<(), Found> { Ok(()) }
        )*};
    }

    macro_rules! open {
        ($($method:ident($($argument:ty),*);)*) => {$(
            fn $method(self, $(_: $argument),*) -> Result<Self, Found> { Ok(self) }
        )*};
    }

    impl ser::Serializer for Check {
        type Ok = ();
        type Error = Found;
        type SerializeSeq = Self;
        type SerializeTuple = Self;
        type SerializeTupleStruct = Self;
        type SerializeTupleVariant = Self;
        type SerializeMap = Self;
        type SerializeStruct = Self;
        type SerializeStructVariant = Self;

        accept! {
            serialize_bool(bool); serialize_i8(i8); serialize_i16(i16); serialize_i32(i32); serialize_i64(i64);
            serialize_u8(u8); serialize_u16(u16); serialize_u32(u32); serialize_u64(u64); serialize_char(char);
            serialize_str(&str); serialize_bytes(&[u8]); serialize_none(); serialize_unit();
            serialize_unit_struct(&'static str); serialize_unit_variant(&'static str, u32, &'static str);
        }

        open! {
            serialize_seq(Option<usize>); serialize_tuple(usize); serialize_tuple_struct(&'static str, usize);
            serialize_tuple_variant(&'static str, u32, &'static str, usize); serialize_map(Option<usize>);
            serialize_struct(&'static str, usize);
            serialize_struct_variant(&'static str, u32, &'static str, usize);
        }

        fn serialize_f32(self, v: f32) -> Result<(), Found> {
            finite(v.is_finite())
        }

        fn serialize_f64(self, v: f64) -> Result<(), Found> {
            finite(v.is_finite())
        }

        fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Found> {
            check(value)
        }

        fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Found> {
            check(value)
        }

        fn serialize_newtype_variant<T: Serialize + ?Sized>(
            self,
            _: &'static str,
            _: u32,
            _: &'static str,
            value: &T,
        ) -> Result<(), Found> {
            check(value)
        }
    }

    macro_rules! nest {
        ($($trait:ident: $method:ident($($extra:ty)?);)*) => {$(
            impl ser::$trait for Check {
                type Ok = ();
                type Error = Found;

                fn $method<T: Serialize + ?Sized>(&mut self, $(_: $extra,)? value: &T) -> Result<(), Found> {
                    check(value)
                }

                fn end(self) -> Result<(), Found> {
                    Ok(())
                }
            }
        )*};
    }

    nest! {
        SerializeSeq: serialize_element();
        SerializeTuple: serialize_element();
        SerializeTupleStruct: serialize_field();
        SerializeTupleVariant: serialize_field();
        SerializeStruct: serialize_field(&'static str);
        SerializeStructVariant: serialize_field(&'static str);
    }

    impl ser::SerializeMap for Check {
        type Ok = ();
        type Error = Found;

        fn serialize_key<T: Serialize + ?Sized>(&mut self, _: &T) -> Result<(), Found> {
            Ok(())
        }

        fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Found> {
            check(value)
        }

        fn end(self) -> Result<(), Found> {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Format;
    use serde_json::json;

    fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Reject> {
        Format::Json.encode(value)
    }

    fn decode<T: DeserializeOwned>(value: Option<&[u8]>) -> Result<T, Reject> {
        Format::Json.decode(value)
    }

    #[derive(Serialize)]
    struct Notice {
        note: Option<i32>,
        values: Vec<f64>,
    }

    #[test]
    fn what_json_cannot_say_is_refused_and_an_absent_field_is_not() {
        assert_eq!(encode(&Notice { note: None, values: vec![1.5] }).unwrap(), br#"{"note":null,"values":[1.5]}"#);
        for bad in [f64::NAN, f64::INFINITY] {
            assert_eq!(encode(&Notice { note: Some(1), values: vec![1.0, bad] }).unwrap_err().code(), "not-finite");
        }
    }

    #[test]
    fn a_value_that_cannot_be_read_is_a_dead_letter_with_its_place() {
        assert_eq!(decode::<serde_json::Value>(None).unwrap_err().code(), "empty-value");
        assert_eq!(decode::<serde_json::Value>(Some(b"")).unwrap_err().code(), "empty-value");
        let reject = decode::<serde_json::Value>(Some(b"{\"a\": }")).unwrap_err();
        assert_eq!(reject.code(), "bad-json");
        assert!(reject.message().contains("line 1 column 7"), "{}", reject.message());
        let nonsense = decode::<serde_json::Value>(Some(b"nonsense")).unwrap_err();
        assert_eq!(nonsense.message(), "expected ident at line 1 column 2; the value begins \"nonsense\"");
        let long = decode::<serde_json::Value>(Some(format!("\u{1}{}", "x".repeat(99)).as_bytes())).unwrap_err();
        assert!(long.message().ends_with(&format!("begins \"\\x01{}\"…", "x".repeat(31))), "{}", long.message());
        let unfit = decode::<u32>(Some(b"\"secret\"")).unwrap_err();
        assert!(!unfit.message().contains("begins"), "{}", unfit.message());
        let deep = "[".repeat(10_000);
        assert_eq!(decode::<serde_json::Value>(Some(deep.as_bytes())).unwrap_err().code(), "bad-json");
        assert_eq!(decode::<serde_json::Value>(Some(b"{\"a\": 1}")).unwrap(), json!({"a": 1}));
    }

    #[test]
    fn what_is_kept_has_no_more_levels_than_are_read_again() {
        let mut value = json!(1);
        for levels in 1..130 {
            value = if levels % 2 == 0 { json!([value, []]) } else { json!({"a": [], "b": value}) };
            let mut text = Vec::new();
            let kept = encode_kept_into(&value, &mut text);
            let is_read = decode::<serde_json::Value>(Some(&text)).is_ok();
            assert_eq!(
                (kept.is_ok(), kept.err().is_none_or(|reject| reject.code() == "too-deep")),
                (is_read, true),
                "{levels}"
            );
        }
        assert!(encode(&value).is_ok(), "a notice is its reader's");
    }

    #[test]
    fn a_value_that_is_no_plain_json_is_told_what_it_looks_like() {
        let said = |value: &[u8]| decode::<serde_json::Value>(Some(value)).unwrap_err().message().to_owned();
        for rest in [&br#"{"value": 1.0}"#[..], &[2, 0x0e, b'a']] {
            let told = said(&[&[0, 0, 0, 0, 42][..], rest].concat());
            assert!(told.contains("five bytes of a schema registry, schema 42: no plain JSON"), "{told}");
        }
        let told = said(b"\xef\xbb\xbf{\"value\": 1.0}");
        assert!(told.contains("byte order mark (EF BB BF)"), "{told}");
        assert!(!said(b"{\"value\": ").contains("begins with"), "a value that ends too early is nothing else");
        assert!(!said(&[0, 0, 0]).contains("schema"), "too short for one");
    }

    proptest::proptest! {
        #[test]
        fn a_float_reads_back_to_the_last_bit(double in proptest::num::f64::ANY, single in proptest::num::f32::ANY) {
            proptest::prop_assume!(double.is_finite() && single.is_finite());
            let (read, other): (f64, f32) = decode(Some(&encode(&(double, single)).unwrap())).unwrap();
            proptest::prop_assert_eq!((read.to_bits(), other.to_bits()), (double.to_bits(), single.to_bits()));
            let tree: serde_json::Value = decode(Some(&encode(&double).unwrap())).unwrap();
            proptest::prop_assert_eq!(tree.as_f64().unwrap().to_bits(), double.to_bits());
        }
    }

    #[test]
    fn a_number_is_read_as_the_nearest_double() {
        for (text, bits) in [
            ("130.65331632653061", 130.653_316_326_530_61_f64),
            ("-8.990567403888024e-203", -8.990_567_403_888_024e-203),
            ("9007199254740991.0", 9_007_199_254_740_991.0),
        ] {
            assert_eq!(decode::<f64>(Some(text.as_bytes())).unwrap().to_bits(), bits.to_bits(), "{text}");
        }
    }
}
