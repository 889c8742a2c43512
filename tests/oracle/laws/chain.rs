//! The numbers that the load's algorithm makes of a random one: the next link of a row's chain, and the change's
//! magnitude. The pipeline and the oracle both use it; nothing else of the one is known to the other.

/// The chain value behind `before` once the record at `offset` of `topic`-`partition` has changed row `id` with `nonce`.
/// Any difference in what went before, or in any argument, gives another value (64 bits: by chance once in 2^64).
pub fn chained(before: i64, id: i64, (topic, partition, offset): (&str, i32, i64), nonce: i64) -> i64 {
    let start = topic.bytes().fold(before.cast_unsigned(), |hash, byte| mix(hash ^ u64::from(byte)));
    let numbers = [id, i64::from(partition), offset, nonce];
    numbers.iter().fold(start, |hash, number| mix(hash ^ number.cast_unsigned())).cast_signed()
}

/// In `[0, 1)`, evenly spread where the nonce is: a filter at 0.7 passes 30 %.
pub fn magnitude_of(nonce: i64) -> f64 {
    (nonce.cast_unsigned() >> 11) as f64 / (1_u64 << 53) as f64
}

/// The finish of splitmix64.
const fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
