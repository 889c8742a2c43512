//! Takes one guard away, to see that a test notices. Never used outside tests of Tidegate itself.

use crate::adapters::memory::{MemoryDatabase, MemoryLog};
use crate::flow::key::Key;
use crate::flow::record::{NextOffset, TopicName, TopicPartition};
use crate::flow::table::TableSpec;
use crate::ports::Fault;
use crate::ports::rows::{
    Claim, Claimed, CommitAnswer, Move, OutboxRow, RowRead, RowWrite, Rows, VerdictRow, WriteFault,
};
use crate::ports::source::{Bounds, Committed, Group, Listener, LogIds, Source};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A guard of the protocol that can be taken away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Guard {
    /// The compare-and-set of the position: without it every move matches.
    CompareAndSet,
    /// The stable read of K: without it a pending transaction is not waited for.
    StableCommitted,
    /// The claim: without it no epoch is raised.
    Claim,
}

/// Rows without the compare-and-set, or without the claim.
pub(super) struct UnguardedRows {
    pub(super) inner: Box<dyn Rows>,
    pub(super) database: MemoryDatabase,
    pub(super) pipeline: String,
    pub(super) without: Guard,
    /// The positions within the open transaction.
    pub(super) moved: Vec<(TopicPartition, NextOffset)>,
}

impl Rows for UnguardedRows {
    fn claim(&mut self, claims: &[Claim]) -> Result<Vec<Claimed>, Fault> {
        if self.without != Guard::Claim {
            return self.inner.claim(claims);
        }
        let found = |claim: &Claim| self.database.position(&self.pipeline, &claim.source);
        Ok(claims.iter().map(|claim| found(claim).map_or(Claimed::Absent, Claimed::Owned)).collect())
    }

    fn advance(&mut self, moves: &[Move]) -> Result<Vec<bool>, Fault> {
        if self.without != Guard::CompareAndSet {
            return self.inner.advance(moves);
        }
        let mut forced = moves.to_vec();
        for forced in &mut forced {
            let moved = self.moved.iter().rev().find(|(source, _)| *source == forced.source).map(|(_, to)| *to);
            if let Some(position) = self.database.position(&self.pipeline, &forced.source) {
                forced.epoch = position.epoch;
                forced.from = moved.unwrap_or(position.next_offset);
            }
            self.moved.push((forced.source.clone(), forced.to));
        }
        self.inner.advance(&forced)
    }

    fn begin(&mut self) -> Result<(), Fault> {
        self.moved.clear();
        self.inner.begin()
    }

    fn bind(&mut self, tables: &[TableSpec]) -> Result<(), Fault> {
        self.inner.bind(tables)
    }

    fn create(&mut self, claim: &Claim, next_offset: NextOffset) -> Result<bool, Fault> {
        self.inner.create(claim, next_offset)
    }

    fn outbox(
        &mut self,
        source: &TopicPartition,
        from: NextOffset,
        to: NextOffset,
        rows_max: usize,
    ) -> Result<Vec<OutboxRow>, Fault> {
        self.inner.outbox(source, from, to, rows_max)
    }

    fn read(&mut self, table: usize, keys: &[Key]) -> Result<Vec<RowRead>, Fault> {
        self.inner.read(table, keys)
    }

    fn locked(&mut self, table: usize, keys: &[Key]) -> Result<Vec<Key>, Fault> {
        self.inner.locked(table, keys)
    }

    fn read_only(&self, table: usize) -> Vec<usize> {
        self.inner.read_only(table)
    }

    fn keeps(&self, table: usize) -> bool {
        self.inner.keeps(table)
    }

    fn idle_max(&self) -> Option<Duration> {
        self.inner.idle_max()
    }

    fn write(&mut self, table: usize, rows: &[RowWrite]) -> Result<(), WriteFault> {
        self.inner.write(table, rows)
    }

    fn append(&mut self, rows: &[OutboxRow]) -> Result<(), WriteFault> {
        self.inner.append(rows)
    }

    fn redirect(&mut self, rows: &[OutboxRow]) -> Result<usize, Fault> {
        self.inner.redirect(rows)
    }

    fn record(&mut self, verdicts: &[VerdictRow]) -> Result<(), WriteFault> {
        self.inner.record(verdicts)
    }

    fn savepoint(&mut self) -> Result<(), Fault> {
        self.inner.savepoint()
    }

    fn rollback_to_savepoint(&mut self) -> Result<(), Fault> {
        self.inner.rollback_to_savepoint()
    }

    fn commit(&mut self) -> Result<CommitAnswer, Fault> {
        self.inner.commit()
    }

    fn rollback(&mut self) {
        self.inner.rollback();
    }

    fn settle(&mut self, moved: &Move) -> Result<bool, Fault> {
        self.inner.settle(moved)
    }
}

/// A source whose group answers K without waiting for pending transactions.
pub(super) struct UnguardedSource {
    pub(super) inner: Box<dyn Source>,
    pub(super) log: MemoryLog,
    pub(super) group: String,
}

impl Source for UnguardedSource {
    fn poll(&mut self, wait: Duration, records_max: usize, listener: &mut dyn Listener) -> Result<usize, Fault> {
        self.inner.poll(wait, records_max, listener)
    }

    fn start(&mut self, positions: &[(TopicPartition, NextOffset)]) -> Result<(), Fault> {
        self.inner.start(positions)
    }

    fn hold(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        self.inner.hold(partitions)
    }

    fn release(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        self.inner.release(partitions)
    }

    fn group(&self) -> Arc<dyn Group> {
        Arc::new(UnguardedGroup { inner: self.inner.group(), log: self.log.clone(), group: self.group.clone() })
    }

    fn close(&mut self, listener: &mut dyn Listener) {
        self.inner.close(listener);
    }
}

struct UnguardedGroup {
    inner: Arc<dyn Group>,
    log: MemoryLog,
    group: String,
}

impl Group for UnguardedGroup {
    fn committed(&self, partitions: &[TopicPartition], _: Duration) -> Result<Vec<Option<Committed>>, Fault> {
        Ok(partitions.iter().map(|partition| self.log.committed(&self.group, partition)).collect())
    }

    fn bounds(&self, partition: &TopicPartition, wait: Duration) -> Result<Bounds, Fault> {
        self.inner.bounds(partition, wait)
    }

    fn log_ids(&self, topic: &TopicName, wait: Duration) -> Result<LogIds, Fault> {
        self.inner.log_ids(topic, wait)
    }

    fn partition_count(&self, topic: &TopicName, wait: Duration) -> Result<Option<i32>, Fault> {
        self.inner.partition_count(topic, wait)
    }

    fn commit(&self, offsets: &[(TopicPartition, Committed)], wait: Duration) -> Result<(), Fault> {
        self.inner.commit(offsets, wait)
    }

    fn addresses(&self, wait: Duration) -> Result<BTreeMap<TopicPartition, String>, Fault> {
        self.inner.addresses(wait)
    }
}
