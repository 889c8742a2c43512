//! One transactional producer of the in-process log.

use super::faults::SinkFault;
use super::log::MemoryLog;
use super::topics::{Content, no_such_topic};
use crate::flow::record::{NextOffset, TopicName, TopicPartition};
use crate::ports::Fault;
use crate::ports::sink::{Message, Sink, SizeLimit};
use crate::ports::source::{Committed, Membership};
use std::collections::BTreeMap;
use std::mem::discriminant;

/// One transactional producer. Dropped without [`Sink::close`] it is a process that died: its transaction stays open until
/// a successor starts or its timeout is over.
#[derive(Debug)]
pub struct MemorySink {
    log: MemoryLog,
    transactional_id: String,
    epoch: u32,
    is_open: bool,
    taint: Option<String>,
    /// One past the last tracked message of the transaction, by partition.
    ends: BTreeMap<TopicPartition, NextOffset>,
}

impl MemorySink {
    pub(super) fn new(log: MemoryLog, transactional_id: &str) -> Self {
        let transactional_id = transactional_id.into();
        let mut sink = Self { log, transactional_id, epoch: 0, is_open: false, taint: None, ends: BTreeMap::new() };
        sink.init();
        sink
    }

    fn init(&mut self) {
        let mut state = self.log.lock();
        let timeout = state.settings.transaction_timeout;
        self.epoch = state.init_producer(&self.transactional_id, timeout);
        drop(state);
        self.is_open = false;
        self.taint = None;
    }

    /// Takes the next fault if it is of this kind.
    fn fault(&self, kind: SinkFault) -> Option<SinkFault> {
        let mut state = self.log.lock();
        let is_next = state.faults.front().is_some_and(|next| discriminant(next) == discriminant(&kind));
        if is_next { state.faults.pop_front() } else { None }
    }

    fn fail(&self, kind: SinkFault) -> Result<(), Fault> {
        self.fault(kind).map_or(Ok(()), |kind| Err(self.retry(&format!("{kind:?} failed as the test wished"))))
    }

    fn retry(&self, why: &str) -> Fault {
        Fault::retry(format!("producer {}: {why}", self.transactional_id))
    }

    /// Runs one step of a transaction: not on a tainted producer, not out of order, and an error taints.
    fn step(&mut self, needs_open: bool, act: impl FnOnce(&mut Self) -> Result<(), Fault>) -> Result<(), Fault> {
        if let Some(taint) = &self.taint {
            return Err(self.retry(&format!("tainted and not renewed ({taint})")));
        }
        if needs_open != self.is_open {
            let found = if self.is_open { "a transaction is open" } else { "no transaction is open" };
            return Err(Fault::fatal(format!("producer {}: call out of order, {found}", self.transactional_id)));
        }
        act(self).inspect_err(|fault| self.taint = Some(fault.to_string()))
    }
}

impl MemoryLog {
    /// A new transactional producer: ends the transaction of its predecessor with this id, and fences it.
    #[must_use]
    pub fn sink(&self, transactional_id: &str) -> MemorySink {
        MemorySink::new(self.clone(), transactional_id)
    }
}

impl Sink for MemorySink {
    fn begin(&mut self) -> Result<(), Fault> {
        self.step(false, |sink| {
            sink.fail(SinkFault::Begin)?;
            sink.is_open = true;
            sink.ends.clear();
            Ok(())
        })
    }

    fn send(&mut self, message: &Message<'_>) -> Result<(), Fault> {
        self.step(true, |sink| {
            sink.fail(SinkFault::Send)?;
            let Message { destination, partition, key, value, headers, is_tracked, .. } = *message;
            let timestamp = message.kept_timestamp().unwrap_or_else(|| sink.log.now());
            let content = Content { key, value, headers, timestamp };
            let (bytes, now) = (content.bytes(), sink.log.elapsed());
            let mut state = sink.log.lock();
            let bytes_max = state.message_bytes_max(destination).unwrap_or(usize::MAX); // without a topic it fails below
            if bytes > bytes_max {
                let sizes = format!("{bytes} bytes, and {destination} accepts {bytes_max}");
                return Err(Fault::corrupt(format!("producer {}: a message of {sizes}", sink.transactional_id)));
            }
            let producer = (sink.transactional_id.as_str(), sink.epoch);
            let offset = state.append_in(producer, (destination, partition), &content, now)?;
            if let (true, Some(partition)) = (is_tracked, partition) {
                sink.ends.insert(TopicPartition::new(destination.clone(), partition), offset.next());
            }
            Ok(())
        })
    }

    fn ends(&self) -> Vec<(TopicPartition, NextOffset)> {
        self.ends.iter().map(|(place, end)| (place.clone(), *end)).collect()
    }

    fn flush(&mut self) -> Result<(), Fault> {
        self.step(true, |sink| {
            sink.fail(SinkFault::Flush)?;
            sink.log.lock().check_producer(&sink.transactional_id, sink.epoch)
        })
    }

    fn send_offsets(&mut self, offsets: &[(TopicPartition, Committed)], membership: &Membership) -> Result<(), Fault> {
        self.step(true, |sink| {
            sink.fail(SinkFault::Offsets)?;
            let now = sink.log.elapsed();
            sink.log.lock().offsets_in((&sink.transactional_id, sink.epoch), offsets, membership, now)
        })
    }

    fn commit(&mut self) -> Result<(), Fault> {
        self.step(true, |sink| {
            // Only the kind of a fault counts when it is looked for.
            let lost = sink.fault(SinkFault::Commit { is_applied: true });
            if lost != Some(SinkFault::Commit { is_applied: false }) {
                sink.log.lock().commit_transaction(&sink.transactional_id, sink.epoch)?;
                sink.is_open = false;
            }
            lost.map_or(Ok(()), |_| Err(sink.retry("no answer to the commit, as the test wished")))
        })?;
        if self.fault(SinkFault::Taint).is_some() {
            self.taint = Some("as the test wished".into());
        }
        Ok(())
    }

    fn taint(&self) -> Option<String> {
        self.taint.clone()
    }

    fn is_fenced(&self) -> bool {
        self.log.lock().check_producer(&self.transactional_id, self.epoch).is_err()
    }

    fn renew(&mut self) -> Result<(), Fault> {
        self.fail(SinkFault::Renew)?;
        self.init();
        Ok(())
    }

    fn close(&mut self) {
        self.log.lock().abort_transaction(&self.transactional_id, self.epoch);
        self.is_open = false;
        self.taint = Some("closed".into());
    }

    fn transactional_id(&self) -> &str {
        &self.transactional_id
    }

    fn partition_count(&mut self, destination: &TopicName) -> Result<i32, Fault> {
        self.log.partition_count(destination).ok_or_else(|| no_such_topic(destination))
    }

    fn message_bytes_max(&mut self, destination: &TopicName) -> Result<SizeLimit, Fault> {
        let value = self.log.lock().message_bytes_max(destination).ok_or_else(|| no_such_topic(destination))?;
        Ok(SizeLimit { value, framing: 0, is_own: false })
    }
}
