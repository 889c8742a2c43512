//! The models under the suites, and what only a model can be made to do.

use crate::log::LogBench;
use crate::member::Member;
use crate::rows::{Column, RowsBench};
use crate::store::StoreBench;
use crate::suite::{log_suite, rows_suite, store_suite};
use std::sync::Arc;
use std::time::Duration;
use tidegate::adapters::memory::{ManualClock, MemoryDatabase, MemoryLog, MemoryStores, SinkFault};
use tidegate::flow::Table;
use tidegate::flow::record::{NextOffset, Partition, Timestamp, TopicName, TopicPartition};
use tidegate::flow::row::Value;
use tidegate::ports::clock::SystemClock;
use tidegate::ports::history::{RowHistory, TopicHistory};
use tidegate::ports::rows::{RowRead, Rows};
use tidegate::ports::schema::Schema;
use tidegate::ports::sink::{Message, Sink};
use tidegate::ports::source::{Committed, CopartitionGroup, Source, Subscription};
use tidegate::ports::store::Stores;

log_suite!(memory_log, Some(super::memory_log_bench()));
rows_suite!(memory_rows, Some(super::memory_rows_bench()));
store_suite!(memory_stores, Some(super::MemoryStores::default()));

pub fn memory_log_bench() -> MemoryLog {
    MemoryLog::new(Arc::new(SystemClock::default()))
}

impl LogBench for MemoryLog {
    fn create_topic(&self, name: &str, partitions: i32) -> TopicName {
        self.create_topic(name, partitions).unwrap()
    }

    fn delete_topic(&self, topic: &TopicName) {
        assert!(self.delete_topic(topic));
    }

    fn truncate_before(&self, place: &TopicPartition, offset: i64) {
        self.truncate_before(place, NextOffset(offset));
    }

    fn produce(&self, place: &TopicPartition, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.produce_to(place, key, value, &[], Timestamp(1_767_225_600_000)).unwrap();
    }

    fn source(&self, subscription: &Subscription) -> Box<dyn Source> {
        Box::new(self.source(subscription.clone()))
    }

    fn sink(&self, transactional_id: &str) -> Box<dyn Sink> {
        Box::new(self.sink(transactional_id))
    }

    fn history(&self, group: &str) -> Box<dyn TopicHistory> {
        Box::new(self.history(group))
    }
}

impl StoreBench for MemoryStores {
    fn start(&self) -> Arc<dyn Stores> {
        Arc::new(self.clone())
    }
}

pub fn memory_rows_bench() -> MemoryDatabase {
    let database = MemoryDatabase::with_lock_wait(Duration::from_secs(5));
    RowsBench::schema(&database, "any", Duration::ZERO).migrate().unwrap();
    database
}

impl RowsBench for MemoryDatabase {
    fn create_table(&self, table: &Table, columns: &[Column<'_>], smallest: Option<&str>) {
        self.create_table(table, columns);
        if let Some(smallest) = smallest {
            let place = columns.iter().position(|(name, ..)| *name == smallest).unwrap();
            self.check(table, move |values| match values[place] {
                Value::F64(value) if value < 0.0 => Err("new row violates check constraint".into()),
                _ => Ok(()),
            });
        }
    }

    fn insert(&self, table: &Table, _: &[Column<'_>], row: &RowRead) {
        assert!(self.put(table, row.key.clone(), row.version, &row.values));
    }

    fn rows(&self, pipeline: &str) -> Box<dyn Rows> {
        Box::new(self.rows(pipeline))
    }

    fn schema(&self, pipeline: &str, retention: Duration) -> Box<dyn Schema> {
        Box::new(self.schema(pipeline, Arc::new(SystemClock::default()), retention))
    }

    fn history(&self, pipeline: &str) -> Box<dyn RowHistory> {
        Box::new(self.history(pipeline))
    }
}

// === what only a model can be made to do ===

struct Hand {
    clock: Arc<ManualClock>,
    log: MemoryLog,
    topic: TopicName,
}

impl Hand {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let log = MemoryLog::new(clock.clone());
        let topic = log.create_topic("topic", 4).unwrap();
        Self { clock, log, topic }
    }

    fn member(&self) -> Member {
        let groups = vec![CopartitionGroup { lead: self.topic.clone(), companions: Vec::new() }];
        Member::new(Box::new(self.log.source(Subscription { group: "group".into(), groups })))
    }

    fn place(&self, partition: i32) -> TopicPartition {
        TopicPartition::new(self.topic.clone(), Partition(partition))
    }

    fn open(&self, sink: &mut dyn Sink) {
        sink.begin().unwrap();
        let message = Message {
            destination: &self.topic,
            partition: None,
            key: Some(b"k"),
            value: Some(b"v"),
            headers: &[],
            timestamp: None,
            is_tracked: false,
        };
        sink.send(&message).unwrap();
        sink.flush().unwrap();
    }
}

fn k(offset: i64) -> Committed {
    Committed { next_offset: NextOffset(offset), metadata: String::new() }
}

/// Polls without waiting, so that the test does not depend on the machine's clock.
fn poll(member: &mut Member) {
    member.source.poll(Duration::ZERO, 100, &mut member.notes).unwrap();
}

#[test]
fn a_silent_member_loses_its_tasks_and_comes_back_as_another() {
    let hand = Hand::new();
    let (mut silent, mut other) = (hand.member(), hand.member());
    poll(&mut silent);
    let before = silent.membership();
    poll(&mut other);
    assert_eq!(other.notes.tasks.len(), 0);
    for _ in 0..2 {
        hand.clock.advance(Duration::from_secs(30));
        poll(&mut other);
    }
    assert_eq!((other.notes.tasks.len(), silent.notes.tasks.len()), (4, 4), "the silent one does not know yet");
    assert!(silent.source.group().commit(&[(hand.place(0), k(1))], Duration::ZERO).unwrap_err().is_fenced());
    poll(&mut silent);
    assert_eq!((silent.notes.lost.len(), silent.notes.revoked.len()), (4, 0));
    for _ in 0..2 {
        poll(&mut other);
        poll(&mut silent);
    }
    assert_eq!((silent.notes.tasks.len(), other.notes.tasks.len()), (2, 2));
    assert_ne!(silent.membership().member_id(), before.member_id());
}

#[test]
fn many_records_are_produced_all_or_none() {
    let hand = Hand::new();
    let nothing = TopicName::parse("nothing").unwrap();
    let good = Message {
        destination: &hand.topic,
        partition: None,
        key: Some(b"k"),
        value: Some(b"v"),
        headers: &[],
        timestamp: None,
        is_tracked: false,
    };
    let bad = Message { destination: &nothing, ..good };
    assert!(hand.log.produce_all(&[good, bad], Timestamp(1)).is_err());
    assert_eq!(hand.log.read(&hand.topic).len(), 0);
    hand.log.produce_all(&[good, good], Timestamp(1)).unwrap();
    let offsets: Vec<i64> = hand.log.read(&hand.topic).iter().map(|found| found.offset).collect();
    assert_eq!(offsets, [0, 1]);
}

#[test]
fn a_process_that_died_keeps_its_tasks_until_its_session_is_over() {
    let hand = Hand::new();
    let mut dead = hand.member();
    poll(&mut dead);
    drop(dead);
    let mut other = hand.member();
    poll(&mut other);
    assert_eq!(other.notes.tasks.len(), 0);
    let members = hand.log.members("group");
    hand.log.expire_member("group", &members[0]);
    poll(&mut other);
    assert_eq!(other.notes.tasks.len(), 4);
}

#[test]
fn a_transaction_left_open_ends_by_its_timeout_and_its_producer_is_fenced() {
    let hand = Hand::new();
    let mut member = hand.member();
    poll(&mut member);
    let mut sink = hand.log.sink("sink");
    hand.open(&mut sink);
    sink.send_offsets(&[(hand.place(0), k(1))], &member.membership()).unwrap();
    let group = hand.log.group("group");
    assert!(group.committed(&[hand.place(0)], Duration::ZERO).unwrap_err().is_retry(), "zero does not wait");
    hand.clock.advance(Duration::from_secs(16));
    assert_eq!(group.committed(&[hand.place(0)], Duration::ZERO).unwrap(), [None]);
    assert_eq!(hand.log.open_transactions(), 0);
    assert!(sink.commit().unwrap_err().is_retry());
    sink.renew().unwrap();
    hand.open(&mut sink);
    sink.commit().unwrap();
    assert_eq!(hand.log.read(&hand.topic).len(), 1);
}

#[test]
fn a_lost_answer_leaves_a_commit_open_until_it_is_asked_for() {
    let hand = Hand::new();
    let mut sink = hand.log.sink("sink");
    for (is_applied, visible) in [(true, 1), (false, 1)] {
        hand.log.fail_next(SinkFault::Commit { is_applied });
        hand.open(&mut sink);
        assert!(sink.commit().unwrap_err().is_retry());
        assert!(sink.begin().unwrap_err().is_retry(), "tainted");
        sink.renew().unwrap();
        assert_eq!(hand.log.read(&hand.topic).len(), visible);
    }
    hand.log.fail_next(SinkFault::Taint);
    hand.open(&mut sink);
    sink.commit().unwrap();
    assert!(sink.taint().is_some());
}

#[test]
fn an_unknown_commit_was_applied_or_not_and_settle_tells() {
    use tidegate::ports::rows::{Claim, CommitAnswer, Counts, Move};
    let database = MemoryDatabase::new();
    let mut rows = database.rows("pipeline");
    let source = Hand::new().place(0);
    let claim = Claim {
        source: source.clone(),
        adopts: None,
        generation: 1,
        owner: "test".into(),
        log_ids: Default::default(),
        partition_count: 1,
    };
    rows.create(&claim, NextOffset(0)).unwrap();
    let moved = |from: i64| Move {
        source: source.clone(),
        epoch: 1,
        from: NextOffset(from),
        to: NextOffset(from + 1),
        published: NextOffset(0),
        counts: Counts::default(),
    };
    for (is_applied, from) in [(true, 0), (false, 1)] {
        database.fail_next_commit_unknown(is_applied);
        rows.begin().unwrap();
        rows.advance(&[moved(from)]).unwrap();
        assert_eq!(rows.commit().unwrap(), CommitAnswer::Unknown);
        assert_eq!(rows.settle(&moved(from)).unwrap(), is_applied);
    }
    let snapshot = database.snapshot();
    rows.begin().unwrap();
    rows.advance(&[moved(1)]).unwrap();
    rows.commit().unwrap();
    assert_eq!(database.position("pipeline", &source).unwrap().next_offset, NextOffset(2));
    rows.begin().unwrap();
    database.restore(&snapshot);
    assert!(rows.advance(&[moved(1)]).unwrap_err().is_retry(), "an open transaction does not outlive the restore");
    rows.rollback();
    assert_eq!(database.position("pipeline", &source).unwrap().next_offset, NextOffset(1));
    assert_eq!(database.open_transactions(), 0);
}
