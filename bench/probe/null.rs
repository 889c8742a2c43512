//! One job: records in, the same bytes out under the key that lies in them, exactly once, as fast as it can be written by
//! hand. No state, no decoding, no engine: what one hop costs at least.
//!
//! Per worker one thread: poll, send, and a transaction with the offsets last as often as ours has one. No rebalance, no
//! error handling: whatever fails ends the process.

use crate::clients::{self, Transactions};
use crate::Outcome;
use crate::child::KeyedRun;
use crate::load::events::KEY;
use crate::rig::topics::{BytesRecord, offer};
use crate::system::{Progress, say, worker};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate::engine::settings::EngineSettings;

/// How long an idle worker takes to see that it is to end.
const IDLE: Duration = Duration::from_millis(50);

pub fn run(run: &KeyedRun) -> Outcome {
    let progress = Arc::new(Progress::default());
    let mut threads = Vec::new();
    for number in 0..run.workers {
        let partitions = clients::share(run.partitions, run.workers, number);
        let consumer = clients::consumer(&run.brokers, &run.group, &run.input, partitions, false)?;
        let producer = clients::producer(&run.brokers, &format!("{}-{number}", run.group))?;
        let (run, counts) = (run.clone(), Arc::clone(&progress));
        threads.push(worker("null", move || copy(&run, &consumer, &producer, &counts))?);
    }
    say("ready");
    progress.tell(run.records, |_| Ok(()))?;
    for thread in threads {
        let _ = thread.join();
    }
    Ok(())
}

fn copy(run: &KeyedRun, consumer: &BaseConsumer, producer: &Transactions, progress: &Progress) -> Outcome {
    let metadata = consumer.group_metadata().ok_or("no group metadata")?;
    let (age, records_max) = (Duration::from_millis(run.commit_ms), EngineSettings::default().transaction_rows);
    let mut next_offsets = BTreeMap::new();
    while !progress.is_stopping() {
        let Some(mut message) = consumer.poll(IDLE) else { continue };
        let due = Instant::now() + age;
        producer.begin_transaction()?;
        let mut records = 0;
        loop {
            let record = message?;
            let value = record.payload().ok_or("no value")?;
            let key = value.get(KEY).ok_or("no user")?;
            let copied = BytesRecord::to(&run.output).key(key).payload(value);
            offer(producer, copied.timestamp(record.timestamp().to_millis().unwrap_or(0)))?;
            next_offsets.insert(record.partition(), record.offset() + 1);
            records += 1;
            if records == records_max {
                break;
            }
            let Some(next) = consumer.poll(due.saturating_duration_since(Instant::now())) else { break };
            message = next;
        }
        clients::commit(producer, &metadata, &run.input, &next_offsets)?;
        progress.add(records as u64);
    }
    Ok(())
}
