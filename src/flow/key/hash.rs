//! The hashes by which producers choose a partition for a key.

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
}
