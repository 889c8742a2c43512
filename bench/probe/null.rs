//! One job: records in, the same bytes out under the key that lies in them, exactly once, as fast as it can be written by
//! hand. No state, no decoding, no engine: what one hop costs at least. With both hops the records are read again where
//! they arrive: what re-keying costs whoever does something with them.
//!
//! Per worker and hop one thread: poll, send, and a transaction with the offsets last as often as ours has one. No
//! rebalance, no error handling: whatever fails ends the process.

use crate::Outcome;
use crate::child::{Hops, KeyedRun, RollUpRun};
use crate::clients::{self, Transactions};
use crate::load::events::{KEEP_ALL, KEY, UNITS};
use crate::rig::topics::{BytesRecord, PARTITIONS, offer};
use crate::system::{Progress, say, worker};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::Producer;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate::settings::EngineSettings;

/// Longest time until an idle worker sees that it is to end.
const IDLE: Duration = Duration::from_millis(50);

pub fn run(run: &KeyedRun, hops: Hops) -> Outcome {
    let progress = Arc::new(Progress::default());
    let mut threads = Vec::new();
    let into = [(&run.input, Some(run.output.clone())), (&run.output, None)];
    let records_max = EngineSettings::default().log_messages;
    for (hop, (from, to)) in into.into_iter().enumerate().take(hops.count()) {
        for number in 0..run.workers {
            let partitions = clients::share(run.partitions, run.workers, number);
            let consumer = clients::consumer(&run.brokers, &run.group, from, partitions, false)?;
            let producer = clients::producer(&run.brokers, &format!("{}-{hop}-{number}", run.group))?;
            let hop = Hop { consumer, producer, from: from.clone(), to: to.clone(), kept: run.kept, records_max };
            let (age, counts) = (Duration::from_millis(run.commit_ms), Arc::clone(&progress));
            threads.push(worker("null", move || hop.run(age, &counts))?);
        }
    }
    say("ready");
    progress.tell(run.records, |_| Ok(()))?;
    for thread in threads {
        let _ = thread.join();
    }
    Ok(())
}

/// Records are read and committed, and nothing is made of them: the least that a roll-up must do.
pub fn read(run: &RollUpRun) -> Outcome {
    let progress = Arc::new(Progress::default());
    let mut threads = Vec::new();
    // A short input has several transactions too: the first one is where measuring begins.
    let records_max = EngineSettings::default().log_messages.min(usize::try_from(run.records / 10)?.max(1));
    for number in 0..run.workers {
        let partitions = clients::share(PARTITIONS, run.workers, number);
        let consumer = clients::consumer(&run.brokers, &run.group, &run.input, partitions, false)?;
        let producer = clients::producer(&run.brokers, &format!("{}-{number}", run.group))?;
        let hop = Hop { consumer, producer, from: run.input.clone(), to: None, kept: KEEP_ALL, records_max };
        let counts = Arc::clone(&progress);
        threads.push(worker("reading", move || hop.run(EngineSettings::default().log_age, &counts))?);
    }
    say("ready");
    progress.tell(run.records, |_| Ok(()))?;
    for thread in threads {
        let _ = thread.join();
    }
    Ok(())
}

/// The work of one thread.
struct Hop {
    consumer: BaseConsumer,
    producer: Transactions,
    from: String,
    /// `None`: records are only read.
    to: Option<String>,
    /// Events that used so much are dropped.
    kept: u64,
    /// Most records of a transaction.
    records_max: usize,
}

impl Hop {
    fn run(&self, age: Duration, progress: &Progress) -> Outcome {
        let Self { consumer, producer, from, .. } = self;
        let metadata = consumer.group_metadata().ok_or("no group metadata")?;
        let mut next_offsets = BTreeMap::new();
        while !progress.is_stopping() {
            let Some(mut message) = consumer.poll(IDLE) else { continue };
            let due = Instant::now() + age;
            producer.begin_transaction()?;
            let mut records = 0;
            loop {
                let record = message?;
                self.send_on(&record)?;
                next_offsets.insert(record.partition(), record.offset() + 1);
                records += 1;
                if records == self.records_max {
                    break;
                }
                let Some(next) = consumer.poll(due.saturating_duration_since(Instant::now())) else { break };
                message = next;
            }
            clients::commit(producer, &metadata, from, &next_offsets)?;
            progress.add(records as u64);
        }
        Ok(())
    }

    fn send_on(&self, record: &BorrowedMessage<'_>) -> Outcome {
        let Some(to) = &self.to else { return Ok(()) };
        let value = record.payload().ok_or("no value")?;
        let units = value.get(UNITS).ok_or("no units")? - b'0';
        if u64::from(units) >= self.kept {
            return Ok(());
        }
        let key = value.get(KEY).ok_or("no user")?;
        let at_ms = record.timestamp().to_millis().ok_or("no timestamp")?;
        offer(&self.producer, BytesRecord::to(to).key(key).payload(value).timestamp(at_ms))
    }
}
