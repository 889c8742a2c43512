//! A history of batches, and what a store holds after each of them.

use std::collections::BTreeMap;
use tidegate::flow::record::{NextOffset, Timestamp};
use tidegate::ports::Fault;
use tidegate::ports::source::LogIds;
use tidegate::ports::store::{Checkpoint, KeyedStore, Write};

/// Keys of the first batch, and how many more each batch may choose from: some are replaced and deleted, most are new.
const KEYS: i64 = 400;
const KEYS_MORE: i64 = 4;
/// Values of a batch and their length: 4 KiB a batch, so that 1,500 batches are some 6 MiB.
const VALUES: i64 = 4;
const VALUE_BYTES: usize = 1_000;

/// A number that looks random, for a number.
pub fn scramble(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Bytes that no compression makes shorter.
fn value(batch: i64, key: i64) -> Vec<u8> {
    let seed = batch.unsigned_abs() << 16 | key.unsigned_abs();
    (0..VALUE_BYTES as u64 / 8).flat_map(|word| scramble(seed << 8 | word).to_be_bytes()).collect()
}

/// The keys that batch `number` puts and the one that it deletes, in key order.
fn batch(number: i64) -> BTreeMap<i64, bool> {
    let among = (KEYS + KEYS_MORE * number).unsigned_abs();
    let key = |nth: i64| i64::try_from(scramble((number * 16 + nth).unsigned_abs()) % among).unwrap();
    let deleted = (key(VALUES), false);
    [deleted].into_iter().chain((0..VALUES).map(|nth| (key(nth), true))).collect()
}

pub fn checkpoint(number: i64) -> Checkpoint {
    let log_ids = LogIds { cluster_id: "cluster".into(), topic_id: "topic".into() };
    Checkpoint { next_offset: NextOffset(number), log_ids, at: Timestamp(number), inputs: Vec::new() }
}

/// Writes batch `number`.
pub fn write(store: &mut dyn KeyedStore, number: i64) -> Result<(), Fault> {
    let batch = batch(number).into_iter().map(|(key, is_put)| (key.to_be_bytes(), is_put.then(|| value(number, key))));
    let batch: Vec<_> = batch.collect();
    let writes: Vec<Write<'_>> = batch.iter().map(|(key, value)| (&key[..], value.as_deref())).collect();
    store.write(&writes, &checkpoint(number))
}

/// The number of the last batch in the store, 0 for none; panics when anything else is in it than that batch left.
pub fn last_whole(store: &dyn KeyedStore) -> Result<i64, Fault> {
    let checkpoint = store.checkpoint()?;
    let last = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.next_offset.0);
    assert_eq!(checkpoint, (last > 0).then(|| self::checkpoint(last)));
    let mut wanted = BTreeMap::new();
    for number in 1..=last {
        for (key, is_put) in batch(number) {
            if is_put {
                wanted.insert(key, number)
            } else {
                wanted.remove(&key)
            };
        }
    }
    let mut wanted = wanted.into_iter();
    store.scan(b"", None, &mut |key, found| {
        let (wanted_key, number) = wanted.next().unwrap_or_else(|| panic!("more than batch {last} left: {key:?}"));
        assert_eq!(key, wanted_key.to_be_bytes(), "after batch {last}");
        assert!(found == value(number, wanted_key), "key {wanted_key} is not as batch {number} left it");
        true
    })?;
    assert_eq!(wanted.next(), None, "a key is missing after batch {last}");
    Ok(last)
}
