//! Whether JSON can spell the map keys of a type: found at the start, by deserializing the type from a source of samples.
//! The source notes the kind of each key asked for. Without it each value would be refused when it is written, one record
//! after the other.

use serde::de::{self, DeserializeOwned, Visitor, value};
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The depth to which optional values and collections are looked into: types may contain themselves.
const DEPTH_MAX: usize = 8;
/// The depth at which the search gives up. Beyond [`DEPTH_MAX`] all that can be absent or empty is taken as such.
const DEPTH_END: usize = 24;

/// The kind of map keys within `T` that JSON cannot spell; `None` where none was found. Only the first variant of an enum is
/// looked into.
pub(crate) fn unspellable_keys<T: DeserializeOwned>() -> Option<&'static str> {
    let found = Cell::new(None);
    // The result is ignored, a panic included: only the kinds of keys that `T` asked for count.
    let _ = catch_unwind(AssertUnwindSafe(|| T::deserialize(Probe { found: &found, depth: 0 }).is_ok()));
    found.get()
}

/// The sentence for people.
pub(crate) fn refusal(what: &str, kind: &str) -> String {
    format!(
        "{what}: has a map whose keys are {kind}, which JSON cannot spell: each value would be refused; use text, numbers or enums as keys, or a list of pairs"
    )
}

#[derive(Clone, Copy)]
struct Probe<'a> {
    found: &'a Cell<Option<&'static str>>,
    depth: usize,
}

/// A key of a map.
#[derive(Clone, Copy)]
struct KeyProbe<'a>(Probe<'a>);

/// A sample does not suit.
#[derive(Debug)]
struct Unsuited;

impl fmt::Display for Unsuited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sample does not suit")
    }
}

impl std::error::Error for Unsuited {}

impl de::Error for Unsuited {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl Probe<'_> {
    fn deeper(self) -> Result<Self, Unsuited> {
        if self.depth < DEPTH_END { Ok(Self { depth: self.depth + 1, ..self }) } else { Err(Unsuited) }
    }

    /// The same as [`Probe::deeper`], for a value that may be absent or empty.
    fn inside(self) -> Option<Self> {
        self.deeper().ok().filter(|inner| inner.depth <= DEPTH_MAX)
    }
}

macro_rules! samples {
    ($($method:ident => $visit:ident($($sample:expr)?);)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unsuited> { visitor.$visit($($sample)?) }
    )*};
}

macro_rules! scalars {
    () => {
        samples! {
            deserialize_bool => visit_bool(false);
            deserialize_i8 => visit_i8(0); deserialize_i16 => visit_i16(0); deserialize_i32 => visit_i32(0);
            deserialize_i64 => visit_i64(0); deserialize_i128 => visit_i128(0);
            deserialize_u8 => visit_u8(0); deserialize_u16 => visit_u16(0); deserialize_u32 => visit_u32(0);
            deserialize_u64 => visit_u64(0); deserialize_u128 => visit_u128(0);
            deserialize_f32 => visit_f32(0.0); deserialize_f64 => visit_f64(0.0);
            deserialize_char => visit_char('0');
            deserialize_str => visit_str("0"); deserialize_string => visit_str("0");
            deserialize_identifier => visit_str("0");
        }
    };
}

impl<'de> de::Deserializer<'de> for Probe<'_> {
    type Error = Unsuited;

    scalars!();

    samples! {
        deserialize_any => visit_unit(); deserialize_ignored_any => visit_unit();
        deserialize_bytes => visit_bytes(&[]); deserialize_byte_buf => visit_bytes(&[]);
        deserialize_unit => visit_unit();
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unsuited> {
        match self.inside() {
            Some(inner) => visitor.visit_some(inner),
            None => visitor.visit_none(),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Unsuited> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Unsuited> {
        visitor.visit_newtype_struct(self.deeper()?)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unsuited> {
        visitor.visit_seq(Several { probe: self.inside(), left: 1 })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Unsuited> {
        visitor.visit_seq(Several { probe: self.deeper().ok(), left: length })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Unsuited> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unsuited> {
        visitor.visit_map(Several { probe: self.inside(), left: 1 })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unsuited> {
        visitor.visit_map(Fields { probe: self.deeper()?, left: fields.iter() })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unsuited> {
        visitor.visit_enum(Variant { probe: self.deeper()?, name: variants.first().ok_or(Unsuited)? })
    }
}

impl KeyProbe<'_> {
    fn note<T>(self, kind: &'static str) -> Result<T, Unsuited> {
        self.0.found.set(Some(kind));
        Err(Unsuited)
    }
}

macro_rules! unspoken {
    ($($method:ident($($argument:ty),*) => $kind:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, $(_: $argument,)* _: V) -> Result<V::Value, Unsuited> { self.note($kind) }
    )*};
}

impl<'de> de::Deserializer<'de> for KeyProbe<'_> {
    type Error = Unsuited;

    scalars!();

    samples! { deserialize_any => visit_str("0"); deserialize_ignored_any => visit_str("0"); }

    unspoken! {
        deserialize_bytes() => "bytes"; deserialize_byte_buf() => "bytes"; deserialize_unit() => "units";
        deserialize_unit_struct(&'static str) => "units"; deserialize_seq() => "lists";
        deserialize_tuple(usize) => "tuples"; deserialize_tuple_struct(&'static str, usize) => "tuples";
        deserialize_map() => "maps"; deserialize_struct(&'static str, &'static [&'static str]) => "structs";
    }

    /// JSON spells those that are there.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unsuited> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Unsuited> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unsuited> {
        visitor.visit_enum(value::StrDeserializer::new(variants.first().ok_or(Unsuited)?))
    }
}

/// The elements of a list or the entries of a map; none where the probe is deep enough.
struct Several<'a> {
    probe: Option<Probe<'a>>,
    left: usize,
}

impl<'a> Several<'a> {
    fn next(&mut self) -> Option<Probe<'a>> {
        self.left = self.left.checked_sub(1)?;
        self.probe
    }
}

impl<'de> de::SeqAccess<'de> for Several<'_> {
    type Error = Unsuited;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Unsuited> {
        self.next().map(|probe| seed.deserialize(probe)).transpose()
    }
}

impl<'de> de::MapAccess<'de> for Several<'_> {
    type Error = Unsuited;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Unsuited> {
        self.next().map(|probe| seed.deserialize(KeyProbe(probe))).transpose()
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Unsuited> {
        seed.deserialize(self.probe.ok_or(Unsuited)?)
    }
}

/// The fields of a struct.
struct Fields<'a> {
    probe: Probe<'a>,
    left: std::slice::Iter<'static, &'static str>,
}

impl<'de> de::MapAccess<'de> for Fields<'_> {
    type Error = Unsuited;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Unsuited> {
        self.left.next().map(|name| seed.deserialize(value::StrDeserializer::new(name))).transpose()
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Unsuited> {
        seed.deserialize(self.probe)
    }
}

/// The first variant of an enum, with its content.
struct Variant<'a> {
    probe: Probe<'a>,
    name: &'static str,
}

impl<'de, 'a> de::EnumAccess<'de> for Variant<'a> {
    type Error = Unsuited;
    type Variant = Probe<'a>;

    fn variant_seed<V: de::DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Probe<'a>), Unsuited> {
        Ok((seed.deserialize(value::StrDeserializer::<Unsuited>::new(self.name))?, self.probe))
    }
}

impl<'de> de::VariantAccess<'de> for Probe<'_> {
    type Error = Unsuited;

    fn unit_variant(self) -> Result<(), Unsuited> {
        Ok(())
    }

    fn newtype_variant_seed<T: de::DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Unsuited> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Unsuited> {
        de::Deserializer::deserialize_tuple(self, length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unsuited> {
        de::Deserializer::deserialize_struct(self, "", fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::{BTreeMap, HashMap};

    #[derive(Deserialize, PartialEq, Eq, Hash, PartialOrd, Ord)]
    enum Side {
        Left,
        Right,
    }

    #[derive(Deserialize, PartialEq, Eq, Hash)]
    struct Place {
        x: i64,
        y: i64,
    }

    type Grid = HashMap<String, HashMap<(i64, i64), f64>>;

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape counts")]
    struct Deep {
        name: String,
        rest: Option<Vec<(u8, Box<Self>)>>,
        inner: Option<Grid>,
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape counts")]
    enum Held {
        One { at: BTreeMap<Option<()>, u8> },
        Other,
    }

    #[test]
    fn keys_that_json_cannot_spell_are_found_wherever_they_are() {
        assert_eq!(unspellable_keys::<HashMap<(i64, i64), f64>>(), Some("tuples"));
        assert_eq!(unspellable_keys::<HashMap<Place, f64>>(), Some("structs"));
        assert_eq!(unspellable_keys::<BTreeMap<Vec<u8>, f64>>(), Some("lists"));
        assert_eq!(unspellable_keys::<Deep>(), Some("tuples"));
        assert_eq!(unspellable_keys::<Held>(), Some("units"));
        assert_eq!(unspellable_keys::<(u8, Option<Vec<HashMap<[u8; 4], u8>>>)>(), Some("tuples"));
    }

    #[test]
    fn keys_that_it_can_spell_are_left_alone() {
        assert_eq!(unspellable_keys::<BTreeMap<Side, HashMap<i64, BTreeMap<bool, HashMap<char, u128>>>>>(), None);
        assert_eq!(unspellable_keys::<BTreeMap<String, serde_json::Value>>(), None);
        assert_eq!(unspellable_keys::<HashMap<uuid::Uuid, time::OffsetDateTime>>(), None);
        assert_eq!(unspellable_keys::<Vec<(Vec<u8>, Place)>>(), None);
        assert_eq!(unspellable_keys::<BTreeMap<Option<u8>, u8>>(), None);
    }
}
