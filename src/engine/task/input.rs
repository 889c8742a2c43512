//! One source partition of a task: its progress, and the records that wait in front of it.

use crate::engine::outbound::publication::Through;
use crate::flow::effect::Reject;
use crate::flow::key::Key;
use crate::flow::record::{Chunk, NextOffset, Record, TopicPartition};
use crate::flow::timer::{TURN, Timer};
use crate::ports::rows::Position;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

/// The time after which a record that waits for a topic's limit is looked at again, whether or not an answer came.
const LIMIT_WAIT: Duration = Duration::from_secs(1);

/// One source partition of a task.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) source: TopicPartition,
    /// Whether the topic is kept as a table.
    pub(crate) is_table: bool,
    /// Whether the other streams wait for its next record while that is to be offered again later.
    pub(crate) holds_streams: bool,
    /// The position as claimed; the offsets below move on.
    pub(crate) position: Option<Position>,
    /// D.
    pub(crate) next_offset: NextOffset,
    /// K as last proved; `None` where a takeover found no committed offset, until the first one is committed.
    pub(crate) published: Option<NextOffset>,
    /// The time when K was last committed, on the monotonic clock.
    pub(crate) published_at: Duration,
    /// The end of an earlier owner's decided rows that were handed to the relay; `i64::MAX` where all of
    /// them were.
    pub(crate) offered: NextOffset,
    /// The number of times that the record at D was offered and not decided.
    pub(crate) attempts: u32,
    /// The time before which it is not offered.
    pub(crate) blocked_until: Duration,
    /// Whether it is blocked for a topic's limit, which is asked for.
    pub(crate) awaits_limit: bool,
    /// The state of its next record, which was offered alone and which the database did not take.
    pub(crate) set_aside: Option<SetAside>,
    /// A row that it waits for.
    pub(crate) held: Option<Held>,
    /// The worker's last committed batch that had a part of it.
    pub(crate) committed_in: u64,
    /// Everything before it was seen by a reader that passes over the ends of transactions.
    pub(crate) seen_to: NextOffset,
    /// What lies at the broker and is waited for, where the order of several inputs rests on it.
    pub(crate) backlog: Option<Backlog>,
    /// The number of records in front of the input, shared with the router, which holds back at a bound.
    pub(crate) in_front: Arc<AtomicUsize>,
    queue: VecDeque<Queued>,
    queued: usize,
}

/// The records of an input that lay at the broker when its end was last asked for. They are waited for, each for a bounded
/// time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backlog {
    /// The end of the log then.
    pub(crate) end: NextOffset,
    /// The number of times that the end was asked for.
    pub(crate) asked: u32,
    /// The time since when nothing is at hand.
    pub(crate) awaited_since: Option<Duration>,
}

/// The record of failures of a record that is offered alone.
#[derive(Clone, Debug)]
pub(crate) struct SetAside {
    /// The number of failures in a row.
    pub(crate) failures: u32,
    /// The number of times in a row that it was decided for longer than the database waits for the next statement.
    pub(crate) slow: u32,
    /// The number of batches that its worker had committed when this began.
    pub(crate) since: u64,
    /// Most timers that fire behind it: fewer and fewer, where one of them may be to blame.
    pub(crate) most_timers: usize,
    /// Timers behind it that are dead letters.
    pub(crate) over: Vec<Over>,
    /// The reject that makes it a dead letter, whatever its step decides.
    pub(crate) reject: Option<Reject>,
}

impl SetAside {
    /// That of a record which has not failed yet; its worker has committed so many batches.
    pub(crate) const fn new(since: u64) -> Self {
        Self { failures: 0, slow: 0, since, most_timers: TURN, over: Vec::new(), reject: None }
    }
}

/// A timer that is a dead letter, since the database commits nothing with what it leads to.
#[derive(Clone, Debug)]
pub(crate) struct Over {
    pub(crate) timer: Timer,
    pub(crate) reject: Reject,
    /// Whether its row is what the database cannot read.
    pub(crate) is_unread: bool,
}

/// A row that another program has locked.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) table: usize,
    pub(crate) key: Key,
    /// The number of times that it was found locked since.
    pub(crate) looks: u32,
}

#[derive(Debug)]
struct Queued {
    chunk: Chunk,
    taken: usize,
    arrived: Duration,
}

impl Input {
    pub(super) fn new(source: TopicPartition, is_table: bool, in_front: Arc<AtomicUsize>) -> Self {
        Self {
            source,
            is_table,
            holds_streams: false,
            position: None,
            next_offset: NextOffset(0),
            published: Some(NextOffset(0)),
            published_at: Duration::ZERO,
            offered: NextOffset(i64::MAX),
            attempts: 0,
            blocked_until: Duration::ZERO,
            awaits_limit: false,
            set_aside: None,
            held: None,
            committed_in: 0,
            seen_to: NextOffset(0),
            backlog: None,
            in_front,
            queue: VecDeque::new(),
            queued: 0,
        }
    }

    /// Goes on at `next` after a takeover. The failures of the record at D do not count for another one.
    pub(crate) fn go_on_at(&mut self, next: NextOffset) {
        if self.next_offset != next {
            self.next_offset = next;
            (self.attempts, self.blocked_until, self.set_aside, self.held) = (0, Duration::ZERO, None, None);
        }
    }

    /// Waits for a topic's limit, which is asked for, before the record at D is offered again.
    pub(crate) fn await_limit(&mut self, now: Duration) {
        (self.awaits_limit, self.blocked_until) = (true, now + LIMIT_WAIT);
    }

    /// Goes on with the limit that was asked for, where it waits for one.
    pub(crate) fn go_on_with_limit(&mut self) {
        if std::mem::take(&mut self.awaits_limit) {
            self.blocked_until = Duration::ZERO;
        }
    }

    /// K; 0 until the first one is committed.
    pub(crate) fn known(&self) -> NextOffset {
        self.published.unwrap_or(NextOffset(0))
    }

    /// The way in which its records are decided.
    pub(crate) fn through(&self) -> Through {
        self.position.as_ref().map_or(Through::Log, |position| Through::Database { epoch: position.epoch })
    }

    pub(crate) fn epoch(&self) -> i64 {
        self.position.as_ref().map_or(0, |position| position.epoch)
    }

    pub(crate) fn incarnation(&self) -> i32 {
        self.position.as_ref().map_or(0, |position| position.incarnation)
    }

    /// Appends records that follow D; earlier ones were handled already (docs/traps.md#records-from-before) and
    /// are passed over.
    pub(crate) fn push(&mut self, chunk: Chunk, arrived: Duration) {
        let mut taken = 0;
        if self.queued == 0 {
            while chunk.record(taken).is_some_and(|record| !self.next_offset.is_before(record.offset)) {
                taken += 1;
            }
        }
        self.queued += chunk.len() - taken;
        if taken < chunk.len() {
            self.queue.push_back(Queued { chunk, taken, arrived });
        }
    }

    /// The next `count` records, oldest first.
    pub(crate) fn records(&self, count: usize) -> impl Iterator<Item = Record<'_>> {
        self.queue
            .iter()
            .flat_map(|queued| (queued.taken..queued.chunk.len()).filter_map(|index| queued.chunk.record(index)))
            .take(count)
    }

    /// The next record.
    pub(crate) fn first(&self) -> Option<Record<'_>> {
        self.queue.front().and_then(|queued| queued.chunk.record(queued.taken))
    }

    /// The number of records among the next `count` with at most `bytes` of keys and values together: at least one.
    pub(crate) fn fitting(&self, count: usize, bytes: usize) -> usize {
        let mut chunks = self.queue.iter();
        let (mut records, mut whole) = (0, 0);
        while records < count {
            let Some(queued) = chunks.next() else { break };
            records += queued.chunk.len() - queued.taken;
            whole += queued.chunk.bytes();
        }
        if whole <= bytes {
            return count; // the usual case: no record is looked at
        }
        let mut left = bytes;
        let fits = |record: &Record<'_>| {
            let bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
            let fits = bytes <= left;
            left = left.saturating_sub(bytes);
            fits
        };
        self.records(count).take_while(fits).count().max(count.min(1))
    }

    /// Drops the next `count` records: they have been handled.
    pub(crate) fn consume(&mut self, mut count: usize) {
        self.queued = self.queued.saturating_sub(count);
        while count > 0 {
            let Some(front) = self.queue.front_mut() else { return };
            let step = count.min(front.chunk.len() - front.taken);
            front.taken += step;
            count -= step;
            if front.taken == front.chunk.len() {
                self.queue.pop_front();
            }
        }
    }

    /// Whether its next record may be decided at `now` with those of others.
    pub(crate) fn is_free(&self, now: Duration) -> bool {
        self.blocked_until <= now && self.set_aside.is_none()
    }

    /// The offset behind the records at hand.
    pub(crate) fn fetched(&self) -> NextOffset {
        let last = |queued: &Queued| Some(queued.chunk.record(queued.chunk.len().checked_sub(1)?)?.offset.next());
        self.queue.back().and_then(last).unwrap_or(self.next_offset).max(self.seen_to)
    }

    /// Whether more lies at the broker behind the records at hand, and is waited for.
    pub(crate) fn lies_further(&self) -> bool {
        self.backlog.is_some_and(|backlog| self.fetched() < backlog.end)
    }

    /// Whether nothing is at hand, and something is waited for.
    pub(crate) fn is_awaited(&self) -> bool {
        self.queued == 0 && self.lies_further()
    }

    /// The number of waiting records.
    pub(crate) const fn queued(&self) -> usize {
        self.queued
    }

    /// The time when the oldest waiting record arrived.
    pub(crate) fn oldest_arrival(&self) -> Option<Duration> {
        self.queue.front().map(|queued| queued.arrived)
    }

    pub(crate) fn clear(&mut self) {
        (self.held, self.set_aside, self.backlog, self.seen_to) = (None, None, None, NextOffset(0));
        self.queue.clear();
        self.queued = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::{Offset, Partition, Timestamp, TopicName};

    fn input() -> Input {
        Input::new(TopicPartition::new(TopicName::parse("t").unwrap(), Partition(0)), false, Arc::default())
    }

    #[test]
    fn an_input_gives_no_more_than_fits_and_one_record_at_least() {
        let mut input = input();
        let mut chunk = Chunk::default();
        let value = vec![b'x'; 100];
        for offset in 0..10 {
            let (offset, timestamp) = (Offset(offset), Timestamp(0));
            chunk.push(&Record { offset, timestamp, key: Some(b"1"), value: Some(&value), headers: &[] });
        }
        input.push(chunk, Duration::ZERO);
        let fitting = |bytes| input.fitting(8, bytes);
        assert_eq!([fitting(2_000), fitting(1_009), fitting(404), fitting(403), fitting(7)], [8, 8, 4, 3, 1]);
        assert_eq!(input.fitting(0, 0), 0);
    }

    fn chunk(offsets: std::ops::Range<i64>) -> Chunk {
        let mut chunk = Chunk::default();
        for offset in offsets {
            chunk.push(&Record {
                offset: Offset(offset),
                timestamp: Timestamp(0),
                key: None,
                value: None,
                headers: &[],
            });
        }
        chunk
    }

    #[test]
    fn how_one_record_fared_is_forgotten_where_another_one_is_next() {
        let mut input = input();
        input.go_on_at(NextOffset(3));
        let fares = |input: &mut Input| {
            input.attempts = 2;
            input.blocked_until = Duration::from_secs(1);
            input.set_aside = Some(SetAside { failures: 1, reject: Some(Reject::skip("told")), ..SetAside::new(0) });
        };
        fares(&mut input);
        input.go_on_at(NextOffset(3));
        assert_eq!((input.attempts, input.set_aside.is_some()), (2, true), "the same record is next");
        for next in [2, 4] {
            fares(&mut input);
            input.go_on_at(NextOffset(next));
            assert_eq!((input.attempts, input.blocked_until, input.set_aside.is_some()), (0, Duration::ZERO, false));
        }
    }

    #[test]
    fn an_input_hands_out_each_record_once_from_its_position_on() {
        let mut input = input();
        input.next_offset = NextOffset(3);
        input.push(chunk(0..3), Duration::from_secs(1));
        assert_eq!((input.queued(), input.oldest_arrival()), (0, None), "all of it was handled before");
        input.push(chunk(1..6), Duration::from_secs(2));
        input.push(chunk(6..9), Duration::from_secs(3));
        assert_eq!(input.queued(), 6);
        assert_eq!(input.records(4).map(|r| r.offset.0).collect::<Vec<_>>(), [3, 4, 5, 6]);
        input.consume(4);
        assert_eq!(input.records(10).map(|r| r.offset.0).collect::<Vec<_>>(), [7, 8]);
        assert_eq!(input.oldest_arrival(), Some(Duration::from_secs(3)));
        input.consume(2);
        assert_eq!(input.queued(), 0);
    }
}
