//! The id a record is about, and the partitioner that every producer of a keyed topic must agree on.

use crate::flow::column::{ColumnType, Value};
use crate::flow::effect::Reject;
use std::fmt;
use uuid::Uuid;

/// The spelling of an id in a record's key bytes, and with it the type of the table's key column.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyType {
    /// Decimal digits as text, for instance `1042`; a `bigint` column. The default. Other spellings of a number (`+7`, `007`)
    /// are dead letters.
    #[default]
    I64,
    /// Eight bytes, big-endian, as Java's `LongSerializer` writes them; a `bigint` column.
    I64BigEndian,
    /// Text in lower case with hyphens, for instance `67e55044-10b1-426f-9247-bb680e5fe0c8`; a `uuid` column. Other spellings
    /// (in upper case, in braces, without hyphens, `urn:uuid:`) are dead letters.
    Uuid,
    /// UTF-8 text; a `text` column.
    Text,
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::I64 => "decimal integers (KeyType::I64)",
            Self::I64BigEndian => "eight big-endian bytes (KeyType::I64BigEndian)",
            Self::Uuid => "UUIDs with hyphens (KeyType::Uuid)",
            Self::Text => "text (KeyType::Text)",
        })
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
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::I64(id) => id.fmt(f),
            Self::Uuid(id) => id.hyphenated().fmt(f),
            Self::Text(id) => f.write_str(id),
        }
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

impl KeyType {
    /// Reads the id from a record's key.
    ///
    /// # Errors
    /// A dead letter with the code `null-key` or `bad-key`.
    pub fn parse(self, bytes: Option<&[u8]>) -> Result<Key, Reject> {
        let bytes = bytes.ok_or_else(|| Reject::dead_letter("null-key", "the record has no key"))?;
        let bad =
            |wanted: &str| Reject::dead_letter("bad-key", format!("the key of {} bytes is not {wanted}", bytes.len()));
        // One id, one spelling: the partition is that of the bytes, so two spellings would be handled side by side.
        let otherwise =
            |id: &Key| Reject::dead_letter("bad-key", format!("the key spells an id otherwise: write it as {id}"));
        match self {
            Self::I64 => {
                let text = text(bytes).ok_or_else(|| bad("a decimal 64-bit integer"))?;
                let id = Key::I64(text.parse().map_err(|_| bad("a decimal 64-bit integer"))?);
                if is_canonical_integer(text) { Ok(id) } else { Err(otherwise(&id)) }
            }
            Self::I64BigEndian => bytes
                .try_into()
                .ok()
                .map(|b| Key::I64(i64::from_be_bytes(b)))
                .ok_or_else(|| bad("eight big-endian bytes")),
            Self::Uuid => {
                let text = text(bytes).ok_or_else(|| bad("a UUID with hyphens"))?;
                let id = Uuid::try_parse(text).map_err(|_| bad("a UUID with hyphens"))?;
                let is_canonical = *id.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == *text;
                if is_canonical { Ok(Key::Uuid(id)) } else { Err(otherwise(&Key::Uuid(id))) }
            }
            // Postgres text holds no NUL.
            Self::Text => {
                text(bytes).filter(|t| !t.contains('\0')).map(Key::from).ok_or_else(|| bad("UTF-8 text without NUL"))
            }
        }
    }

    /// Spells an id as the key bytes of a record; the inverse of [`KeyType::parse`].
    #[must_use]
    pub fn spell(self, key: &Key) -> Vec<u8> {
        match (self, key) {
            (Self::I64BigEndian, Key::I64(id)) => id.to_be_bytes().to_vec(),
            _ => key.to_string().into_bytes(),
        }
    }
}

impl Key {
    /// It as its column holds it.
    pub(crate) fn as_value(&self) -> Value {
        match self {
            Self::I64(id) => Value::I64(*id),
            Self::Uuid(_) | Self::Text(_) => Value::Text(self.to_string()),
        }
    }

    /// The same where the column's type is known. A number that the column cannot hold stays what it is.
    pub(crate) fn as_value_of(&self, kind: Option<ColumnType>) -> Value {
        let Self::I64(id) = self else { return self.as_value() };
        let narrowed = match kind {
            Some(ColumnType::I16) => i16::try_from(*id).ok().map(Value::I16),
            Some(ColumnType::I32) => i32::try_from(*id).ok().map(Value::I32),
            _ => None,
        };
        narrowed.unwrap_or(Value::I64(*id))
    }
}

/// Whether the decimal text of a number is the one that we would write: without a plus, without zeros in front.
fn is_canonical_integer(text: &str) -> bool {
    match text.strip_prefix('-').unwrap_or(text).as_bytes() {
        [b'0'] => text == "0",
        [b'1'..=b'9', ..] => true,
        _ => false,
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// The 32-bit murmur2 hash of Kafka's Java client (`org.apache.kafka.common.utils.Utils.murmur2`, seed `0x9747b28c`).
#[must_use]
pub fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    let mix = |k: u32| {
        let k = k.wrapping_mul(M);
        (k ^ (k >> R)).wrapping_mul(M)
    };
    // The Java client takes the length as a 32-bit int; a key is never that long.
    #[expect(clippy::cast_possible_truncation, reason = "as the Java client does")]
    let mut h = SEED ^ (bytes.len() as u32);
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        h = h.wrapping_mul(M) ^ mix(u32::from_le_bytes(*word));
    }
    if !tail.is_empty() {
        for (shift, byte) in tail.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * shift);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

/// The partition that a Java producer, and librdkafka with `murmur2_random`, chooses for `key` among `count` partitions.
///
/// `count` must be positive; with 0 or less the answer is partition 0.
#[must_use]
pub fn partition_for(key: &[u8], count: i32) -> i32 {
    let positive = murmur2(key) & 0x7fff_ffff;
    u32::try_from(count).ok().filter(|n| *n > 0).map_or(0, |n| i32::try_from(positive % n).unwrap_or(0))
}

/// The partition that librdkafka's default partitioner (`consistent_random`) chooses for a key that is not empty: CRC-32
/// (the zlib polynomial) modulo the count. Source: `rd_kafka_msg_partitioner_consistent` of librdkafka 2.12.1.
///
/// `count` must be positive; with 0 or less the answer is partition 0.
#[must_use]
pub fn crc32_partition_for(key: &[u8], count: i32) -> i32 {
    let hash = crc32(key);
    u32::try_from(count).ok().filter(|n| *n > 0).map_or(0, |n| i32::try_from(hash % n).unwrap_or(0))
}

/// CRC-32 with the reflected polynomial `0xedb88320`, as zlib computes it.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        CRC_OF_BYTE.get(((crc ^ u32::from(*byte)) & 0xff) as usize).map_or(0, |of| of ^ (crc >> 8))
    };
    !bytes.iter().fold(u32::MAX, step)
}

/// The remainder that eight steps of the division leave of each byte.
#[expect(clippy::indexing_slicing, reason = "the compiler does it, and sees the bounds")]
static CRC_OF_BYTE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte: u32 = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// From `UtilsTest.testMurmur2` of Apache Kafka.
    #[test]
    fn murmur2_agrees_with_the_java_client() {
        let vectors: [(&[u8], i32); 7] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
            (b"", 275_646_681),
        ];
        for (bytes, hash) in vectors {
            assert_eq!(murmur2(bytes).cast_signed(), hash, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn crc32_agrees_with_zlib() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
        assert_eq!(crc32_partition_for(b"123456789", 12), (0xcbf4_3926_u32 % 12).cast_signed());
        assert_eq!(crc32_partition_for(b"x", 0), 0);
    }

    #[test]
    fn every_key_type_reads_back_what_it_spells() {
        let id = Uuid::from_u128(0x67e5_5044_10b1_426f_9247_bb68_0e5f_e0c8);
        for (kind, key) in [
            (KeyType::I64, Key::I64(-42)),
            (KeyType::I64BigEndian, Key::I64(i64::MIN)),
            (KeyType::Uuid, Key::Uuid(id)),
            (KeyType::Text, Key::from("späti")),
        ] {
            assert_eq!(kind.parse(Some(&kind.spell(&key))).unwrap(), key);
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
        ] {
            assert_eq!(kind.parse(Some(bytes)).unwrap_err().code(), "bad-key");
        }
    }
}
