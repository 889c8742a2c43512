//! One job: read a changelog and load it into stores in key order, by hand: what a restore costs at least.
//!
//! Per worker one thread and one consumer of all its partitions. A partition is loaded when its end is reached; what
//! follows a changelog's end is nobody's business here.

use crate::Outcome;
use crate::child::KeyedRun;
use crate::clients;
use crate::ours::keyed::{Internal, STORE};
use crate::system::{say, worker};
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tidegate::flow::record::{NextOffset, Partition, Timestamp};
use tidegate::ports::source::LogIds;
use tidegate::ports::store::{Checkpoint, StoreId, Stores, Write};

const WAIT: Duration = Duration::from_secs(30);

/// Key and value in the order of the log.
type Gathered = Vec<(Vec<u8>, Option<Vec<u8>>)>;

pub fn run(run: &KeyedRun) -> Outcome {
    let stores = run.store.open(&run.folder)?;
    let changelog = Internal::of(run)?.changelog;
    let records = Arc::new(AtomicU64::new(0));
    let consumer = |number| {
        let partitions = clients::share(run.partitions, run.workers, number);
        clients::consumer(&run.brokers, &run.group, &changelog, partitions, true)
    };
    say("assigned");
    let mut threads = Vec::new();
    for number in 0..run.workers {
        let (consumer, count) = (consumer(number)?, clients::share(run.partitions, run.workers, number).count());
        let (stores, records) = (Arc::clone(&stores), Arc::clone(&records));
        threads.push(worker("probe", move || restore(&consumer, count, &*stores, &records))?);
    }
    for thread in threads {
        let _ = thread.join();
    }
    say(&format!("ready {}", records.load(Ordering::Acquire)));
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn restore(consumer: &BaseConsumer, partitions: usize, stores: &dyn Stores, records: &AtomicU64) -> Outcome {
    let mut unread: BTreeMap<i32, Gathered> = BTreeMap::new();
    let mut loaded = 0;
    while loaded < partitions {
        match consumer.poll(WAIT).ok_or("the changelog cannot be read")? {
            Err(KafkaError::PartitionEOF(partition)) => {
                let gathered = unread.remove(&partition).unwrap_or_default();
                records.fetch_add(gathered.len() as u64, Ordering::AcqRel);
                load(gathered, partition, stores)?;
                loaded += 1;
            }
            record => {
                let record = record?;
                let key = record.key().ok_or("no key")?.to_vec();
                unread.entry(record.partition()).or_default().push((key, record.payload().map(<[u8]>::to_vec)));
            }
        }
    }
    Ok(())
}

/// Writes the last value of each key, in key order.
fn load(mut gathered: Gathered, partition: i32, stores: &dyn Stores) -> Outcome {
    gathered.reverse();
    gathered.sort_by(|(one, _), (other, _)| one.cmp(other)); // stable: the last of a key comes first
    gathered.dedup_by(|(later, _), (kept, _)| later == kept);
    let writes: Vec<Write<'_>> = gathered.iter().map(|(key, value)| (&key[..], value.as_deref())).collect();
    let mut store = stores.open(&StoreId { name: STORE.into(), partition: Partition(partition) })?;
    let (next_offset, log_ids) = (NextOffset(0), LogIds::default());
    Ok(store.write(&writes, &Checkpoint { next_offset, log_ids, at: Timestamp(0), inputs: Vec::new() })?)
}
