//! One job: write events and changelogs into their topics.

use crate::Outcome;
use crate::clients;
use crate::load::events::{Events, KEY, key};
use crate::load::kept;
use crate::rig::topics::{BytesRecord, PARTITIONS, offer, producer};
use rdkafka::producer::{DefaultProducerContext, Producer, ThreadedProducer};
use std::time::Duration;
use tidegate::flow::key::partition_for;

const WAIT: Duration = Duration::from_secs(60);
/// Changelog records of one transaction.
const TRANSACTION: u64 = 10_000;
/// Spreads consecutive numbers over all keys: a prime above the number of keys, so that each key comes once.
const STRIDE: u64 = 15_485_863;

/// Sends one event.
pub fn send(
    producer: &ThreadedProducer<DefaultProducerContext>,
    events: &Events,
    number: u64,
    scratch: &mut Vec<u8>,
) -> Outcome {
    events.value(number, scratch);
    let record = BytesRecord::to(&events.topic).partition(events.partition(number)).payload(scratch);
    let record = record.timestamp(Events::at_ms(number));
    let key = scratch.get(KEY).filter(|_| events.is_keyed);
    offer(producer, BytesRecord { key, ..record })
}

/// Fills a topic with all its events.
pub fn events(brokers: &str, events: &Events) -> Outcome {
    let producer = producer(brokers, "20")?;
    let mut scratch = Vec::new();
    for number in 0..events.records {
        send(&producer, events, number, &mut scratch)?;
    }
    Ok(producer.flush(WAIT)?)
}

/// Fills a changelog with one record a key, in no order, by transactions.
pub fn changelog(brokers: &str, topic: &str, seed: u64, keys: u64) -> Outcome {
    let producer = clients::producer(brokers, topic)?;
    for first in (0..keys).step_by(usize::try_from(TRANSACTION)?) {
        producer.begin_transaction()?;
        for number in first..keys.min(first + TRANSACTION) {
            let user = number * STRIDE % keys;
            let (key, (_, value)) = (key(user), kept::before_restore(seed, user));
            let partition = partition_for(key.as_bytes(), PARTITIONS);
            offer(&producer, BytesRecord::to(topic).partition(partition).key(key.as_bytes()).payload(&value))?;
        }
        clients::flush(&producer)?;
        producer.commit_transaction(WAIT)?;
    }
    Ok(())
}
