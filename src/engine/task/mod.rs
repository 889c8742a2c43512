//! One task: a partition number of one sub-topology, its inputs, and where it stands between assignment and work.
//!
//! ```text
//!            claimed                     table says go               K = D          stores whole
//!  Claiming ─────────→ ReadingCommitted ──────────────→ Publishing ───────→ Restoring ─────────→ CatchingUp
//!   ↑    └─ stale ─→ Stale       └─ table says halt ─→ Halted ←─ corrupt ────────┐                   │ table topics read
//!   └── membership proved ── Proving ←── Draining ←── compare-and-set ───────────┴──── Running ←─────┘
//!                                                                                         └─→ Leaving
//! ```
//! Only a step with rows claims, only one with stores restores, and only one with table topics catches up; the others pass
//! through at once. Whoever decides records (`CatchingUp`, `Running`) may halt, lose a compare-and-set or leave. `Leaving`
//! waits until what the task decided is published, so that its stores can be written as of then.
//! `Stale` waits for the revoke that must come, and asks now and then whether it is a member after all: one whose group began
//! to count its generations anew is, and claims over the one that was found. `Halted` waits for
//! a person. Both give the partition up only when the group takes it. What cannot be published yet waits as `PutOff` between
//! `Draining` and `Proving`.

pub(crate) mod in_hand;

use crate::engine::protocol::halt::Contradiction;
use crate::engine::protocol::ownership::AssignmentId;
use crate::engine::protocol::patience::Patience;
use crate::engine::state::stores::Keyed;
use crate::flow::effect::Reject;
use crate::flow::key::Key;
use crate::flow::record::{Chunk, NextOffset, Record, TopicName, TopicPartition};
use crate::flow::topology::{StepKind, SubTopology, TablePlace};
use crate::ports::rows::{OutboxRow, Position};
use crate::ports::source::TaskId;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

/// Where a task stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Raises the epochs of its positions.
    Claiming,
    /// A later generation holds a position: the revoke is on its way.
    Stale,
    /// Reads K, which may wait for a dead predecessor's transaction.
    ReadingCommitted,
    /// Waits until the relay has brought K to D.
    Publishing,
    /// Makes its stores whole from their changelogs.
    Restoring,
    /// Takes what its table topics held when it began, before the first record of its stream.
    CatchingUp,
    /// Takes records.
    Running,
    /// Is about to move: takes no more records.
    Leaving,
    /// Lost a compare-and-set: waits until the relay holds nothing of it any more.
    Draining,
    /// Cannot publish what it decides: waits before it is taken over anew.
    PutOff,
    /// Waits for the relay's proof that the group still counts us in, before it claims again.
    Proving,
    /// Stands still until a person has decided.
    Halted,
}

impl State {
    /// The state in words.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Claiming => "claiming",
            Self::Stale => "stale",
            Self::ReadingCommitted => "reading committed offset",
            Self::Publishing => "publishing",
            Self::Restoring => "restoring",
            Self::CatchingUp => "reading table topics",
            Self::Running => "running",
            Self::Leaving => "leaving",
            Self::Draining => "draining",
            Self::PutOff => "waiting to publish",
            Self::Proving => "proving membership",
            Self::Halted => "halted",
        }
    }

    /// Whether the next step is tried again when its time has come.
    pub(crate) const fn is_timed(self) -> bool {
        matches!(
            self,
            Self::Claiming | Self::Stale | Self::PutOff | Self::ReadingCommitted | Self::Restoring | Self::CatchingUp
        )
    }

    /// Whether a takeover may begin anew. One that is leaving is somebody else's soon, and nothing would take it from us
    /// again; one that stands still waits for a person; and one that drains is about to begin.
    pub(crate) const fn may_begin_anew(self) -> bool {
        !matches!(self, Self::Leaving | Self::Draining | Self::Halted)
    }

    /// Whether the records that a task holds are decided.
    pub(crate) const fn is_deciding(self) -> bool {
        matches!(self, Self::CatchingUp | Self::Running)
    }
}

/// One source partition of a task.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) source: TopicPartition,
    /// Whether the topic is kept as a table.
    pub(crate) is_table: bool,
    /// As claimed; its numbers below move on.
    pub(crate) position: Option<Position>,
    /// D.
    pub(crate) next_offset: NextOffset,
    /// K as last proved.
    pub(crate) published: NextOffset,
    /// When K was last committed, on the monotonic clock.
    pub(crate) published_at: Duration,
    /// How far what an earlier owner decided was handed to the relay; the end of time where all of it was.
    pub(crate) offered: NextOffset,
    /// How often the record at D was offered in vain.
    pub(crate) attempts: u32,
    /// Not to be offered before.
    pub(crate) blocked_until: Duration,
    /// The database did not take its next record, which was offered alone.
    pub(crate) apart: Option<Apart>,
    /// A row that it waits for.
    pub(crate) held: Option<Held>,
    /// The worker's last committed batch that had a part of it.
    pub(crate) committed_in: u64,
    queue: VecDeque<Queued>,
    queued: usize,
}

/// How a record that is offered alone fares.
#[derive(Clone, Debug)]
pub(crate) struct Apart {
    /// In a row.
    pub(crate) failures: u32,
    /// How often in a row it was decided for longer than the database waits for the next statement.
    pub(crate) slow: u32,
    /// How many batches its worker had committed when it began.
    pub(crate) since: u64,
    /// Why it is a dead letter, whatever its step makes of it.
    pub(crate) reject: Option<Reject>,
}

/// A row that somebody else has locked.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) table: usize,
    pub(crate) key: Key,
    /// How often it was found locked since.
    pub(crate) looks: u32,
}

#[derive(Debug)]
struct Queued {
    chunk: Chunk,
    taken: usize,
    arrived: Duration,
}

impl Input {
    fn new(source: TopicPartition, is_table: bool) -> Self {
        Self {
            source,
            is_table,
            position: None,
            next_offset: NextOffset(0),
            published: NextOffset(0),
            published_at: Duration::ZERO,
            offered: NextOffset(i64::MAX),
            attempts: 0,
            blocked_until: Duration::ZERO,
            apart: None,
            held: None,
            committed_in: 0,
            queue: VecDeque::new(),
            queued: 0,
        }
    }

    pub(crate) fn epoch(&self) -> i64 {
        self.position.as_ref().map_or(0, |position| position.epoch)
    }

    pub(crate) fn incarnation(&self) -> i32 {
        self.position.as_ref().map_or(0, |position| position.incarnation)
    }

    /// Appends records that follow D; earlier ones were handled already (hazard H8) and are passed over.
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

    /// How many of the next `count` records have at most `bytes` of keys and values together: one at least.
    pub(crate) fn fitting(&self, count: usize, bytes: usize) -> usize {
        let mut chunks = self.queue.iter();
        let (mut records, mut whole) = (0, 0);
        while records < count {
            let Some(queued) = chunks.next() else { break };
            records += queued.chunk.len() - queued.taken;
            whole += queued.chunk.bytes();
        }
        if whole <= bytes {
            return count; // mostly so: no record is looked at
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

    /// Records waiting.
    pub(crate) const fn queued(&self) -> usize {
        self.queued
    }

    /// When the oldest waiting record arrived.
    pub(crate) fn oldest_arrival(&self) -> Option<Duration> {
        self.queue.front().map(|queued| queued.arrived)
    }

    pub(crate) fn clear(&mut self) {
        (self.held, self.apart) = (None, None);
        self.queue.clear();
        self.queued = 0;
    }
}

/// A task of this worker.
pub(crate) struct Task {
    pub(crate) id: TaskId,
    pub(crate) assignment: AssignmentId,
    pub(crate) state: State,
    pub(crate) sub_topology: SubTopology,
    /// Where its rows lie, if it has any.
    pub(crate) place: TablePlace,
    /// Lead topic first, then the companions.
    pub(crate) inputs: Vec<Input>,
    /// While it stands still: whether an undecided record is to blame, or a row or store that it met. A takeover meets that
    /// again, behind what it publishes first.
    pub(crate) stands_before_a_record: bool,
    /// The next takeover step is not tried before.
    pub(crate) not_before: Duration,
    /// The next takeover is not begun before: what it would publish cannot be published yet.
    pub(crate) put_off_until: Duration,
    /// When the takeover began.
    pub(crate) assigned_at: Duration,
    /// Which start of the delivery the records must be of. A task that is taken over again without having moved is still
    /// being delivered to, from behind the records that it dropped: taken for the next ones, they would hide those.
    pub(crate) delivery: u64,
    /// Records waiting in front of the task, shared with the router, which holds back at a bound.
    pub(crate) queued: Arc<AtomicUsize>,
    /// With the reading of K.
    pub(crate) patience: Patience,
    /// With everything else that a takeover, or a read of a store, tries again.
    pub(crate) waiting: Patience,
    /// The group has just confirmed that the task is ours.
    pub(crate) is_proved: bool,
    /// What would have halted it, had it been seen twice: a process that was stopped between its claim and the reading of K
    /// compares a D of before with a K of after.
    pub(crate) suspected: Option<Contradiction>,
    /// Partition counts of the inputs' topics, as of the takeover.
    pub(crate) counts: Vec<i32>,
    /// What K of each input remembers beside D, as of the takeover.
    pub(crate) marks: Vec<Arc<str>>,
    /// The stores, where the step has some, from the takeover on.
    pub(crate) keyed: Option<Keyed>,
    /// Dead letters for messages that their topics refused: the next takeover puts them in the outbox in their places.
    pub(crate) letters: Vec<OutboxRow>,
}

impl Task {
    pub(crate) fn new(
        id: TaskId,
        assignment: AssignmentId,
        sub_topology: &SubTopology,
        place: TablePlace,
        queued: Arc<AtomicUsize>,
        now: Duration,
    ) -> Self {
        let input = |topic: &TopicName| {
            Input::new(TopicPartition::new(topic.clone(), id.partition), sub_topology.is_table(topic))
        };
        let inputs = sub_topology.sources().map(input);
        Self {
            id,
            assignment,
            state: State::Claiming,
            inputs: inputs.collect(),
            sub_topology: sub_topology.clone(),
            place,
            stands_before_a_record: false,
            not_before: now,
            put_off_until: Duration::ZERO,
            assigned_at: now,
            delivery: 0,
            queued,
            patience: Patience::default(),
            waiting: Patience::default(),
            is_proved: false,
            suspected: None,
            counts: Vec::new(),
            marks: Vec::new(),
            keyed: None,
            letters: Vec::new(),
        }
    }

    /// Sends the task back to `state`, without the records it holds: they will be delivered again from D.
    pub(crate) fn restart(&mut self, state: State, not_before: Duration) {
        self.state = state;
        self.not_before = not_before;
        for input in &mut self.inputs {
            input.clear();
            input.offered = NextOffset(i64::MAX);
        }
    }

    /// As [`State::may_begin_anew`]. What a task decided before the record that halted it is published all the same.
    pub(crate) const fn may_begin_anew(&self) -> bool {
        self.state.may_begin_anew() || (matches!(self.state, State::Halted) && self.stands_before_a_record)
    }

    /// Whether the step reads and writes rows.
    pub(crate) const fn has_rows(&self) -> bool {
        matches!(self.sub_topology.step, StepKind::Rows(_))
    }

    /// Whether everything decided is published; with more than that, the rows are to catch up.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.inputs.iter().all(|input| input.published >= input.next_offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::{Offset, Partition, Timestamp};

    #[test]
    fn an_input_gives_no_more_than_fits_and_one_record_at_least() {
        let mut input = Input::new(TopicPartition::new(TopicName::parse("t").unwrap(), Partition(0)), false);
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
    fn an_input_hands_out_each_record_once_from_its_position_on() {
        let mut input = Input::new(TopicPartition::new(TopicName::parse("t").unwrap(), Partition(0)), false);
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
