//! The behaviour of every place for keyed state, as sentences.

mod checkpoints;
mod lifetime;
mod values;

pub use checkpoints::*;
pub use lifetime::*;
pub use values::*;

use std::sync::Arc;
use tidegate::flow::record::{NextOffset, Partition, Timestamp, TopicName, TopicPartition};
use tidegate::ports::source::LogIds;
use tidegate::ports::store::{Checkpoint, KeyedStore, StoreId, Stores, Write};

/// A place for state that outlives a process.
pub trait StoreBench: Sync {
    /// The stores of a process that starts now. The stores of the one before are gone.
    fn start(&self) -> Arc<dyn Stores>;
}

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// Names and partitions that a careless key layout would mix up.
const NAMES: [&str; 4] = ["a", "ab", "b", "a-b"];
const PARTITIONS: [i32; 6] = [0, 1, 0x61, 0xff, 0x100, i32::MAX];

fn id(name: &str, partition: i32) -> StoreId {
    StoreId { name: name.into(), partition: Partition(partition) }
}

fn every_id() -> Vec<StoreId> {
    NAMES.iter().flat_map(|name| PARTITIONS.map(|partition| id(name, partition))).collect()
}

fn checkpoint(next_offset: i64) -> Checkpoint {
    let input = |topic: &str| TopicPartition::new(TopicName::parse(topic).unwrap(), Partition(3));
    Checkpoint {
        next_offset: NextOffset(next_offset),
        log_ids: LogIds { cluster_id: "cluster".into(), topic_id: "topic".into() },
        at: Timestamp(1_767_225_600_000 + next_offset),
        inputs: vec![(input("lead"), Some(NextOffset(next_offset * 2))), (input("companion"), None)],
    }
}

/// Writes `writes`, given in any order, and a checkpoint at `next_offset`.
fn write(store: &mut dyn KeyedStore, writes: &[Write<'_>], next_offset: i64) {
    let mut writes = writes.to_vec();
    writes.sort_unstable();
    store.write(&writes, &checkpoint(next_offset)).unwrap();
}

fn get(store: &dyn KeyedStore, key: &[u8]) -> Option<Vec<u8>> {
    let (mut found, mut calls) = (None, 0);
    store
        .get(key, &mut |value| {
            calls += 1;
            found = value.map(<[u8]>::to_vec);
        })
        .unwrap();
    assert_eq!(calls, 1, "the answer is shown once");
    found
}

fn scan(store: &dyn KeyedStore, from: &[u8], to: Option<&[u8]>) -> Entries {
    let mut found = Vec::new();
    store
        .scan(from, to, &mut |key, value| {
            found.push((key.to_vec(), value.to_vec()));
            true
        })
        .unwrap();
    found
}

fn contents(store: &dyn KeyedStore) -> Entries {
    scan(store, b"", None)
}

fn next_offset(store: &dyn KeyedStore) -> Option<i64> {
    store.checkpoint().unwrap().map(|checkpoint| checkpoint.next_offset.0)
}
