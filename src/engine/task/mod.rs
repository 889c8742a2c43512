//! One task: a partition number of one sub-topology, its inputs, and its phase between assignment and work.

mod attention;
pub(crate) mod in_hand;
mod input;
pub(crate) mod order;
mod phase;

pub(crate) use crate::engine::status::State;
pub(crate) use attention::Attention;
pub(crate) use input::{Backlog, Held, Input, Over, SetAside};
pub(crate) use phase::Phase;

use crate::engine::protocol::halt::{Contradiction, Halt};
use crate::engine::protocol::ownership::AssignmentId;
use crate::engine::protocol::patience::Patience;
use crate::engine::state::stores::Keyed;
use crate::flow::record::{NextOffset, TopicName, TopicPartition};
use crate::flow::topology::{CommitKind, Gathers, SubTopology, TablePlace};
use crate::ports::rows::OutboxRow;
use crate::ports::source::TaskId;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A task of this worker.
pub(crate) struct Task {
    pub(crate) id: TaskId,
    pub(crate) assignment: AssignmentId,
    pub(crate) phase: Phase,
    pub(crate) sub_topology: SubTopology,
    /// The table of its rows, if it has any.
    pub(crate) place: TablePlace,
    /// Lead topic first, then the companions.
    pub(crate) inputs: Vec<Input>,
    /// The time before which the next takeover does not begin: its messages cannot be published yet.
    pub(crate) put_off_until: Duration,
    /// The time when the takeover began.
    pub(crate) assigned_at: Duration,
    /// The number of the start of delivery to which its records must belong. A task that is taken over again without
    /// having moved is still being delivered to, from behind the records that it dropped: taken for the next ones, they
    /// would hide those.
    pub(crate) delivery: u64,
    /// Patience with the reading of K.
    pub(crate) patience: Patience,
    /// Patience with everything else that a takeover, or a read of a store, tries again.
    pub(crate) waiting: Patience,
    /// The group has just confirmed that the task is ours.
    pub(crate) is_proved: bool,
    /// The contradiction that halts it if it is seen twice: a process that was stopped between its claim and the
    /// reading of K compares an earlier D with a later K.
    pub(crate) suspected: Option<Contradiction>,
    /// Partition counts of the inputs' topics, as of the takeover.
    pub(crate) counts: Vec<i32>,
    /// The marks that K of each input carries beside D, as of the takeover.
    pub(crate) marks: Vec<Arc<str>>,
    /// The stores, where the step has some, from the takeover on.
    pub(crate) keyed: Option<Keyed>,
    /// Whether it keeps up with its inputs, where keys may be idle.
    pub(crate) attention: Attention,
    /// Dead letters for messages that their topics refused: the next takeover puts them in the outbox in their places.
    pub(crate) dead_letters: Vec<OutboxRow>,
}

impl Task {
    pub(crate) fn new(
        id: TaskId,
        assignment: AssignmentId,
        sub_topology: &SubTopology,
        place: TablePlace,
        in_front: Vec<Arc<AtomicUsize>>,
        now: Duration,
    ) -> Self {
        let input = |(topic, in_front): (&TopicName, Arc<AtomicUsize>)| {
            let is_table = sub_topology.is_table(topic);
            let mut input = Input::new(TopicPartition::new(topic.clone(), id.partition), is_table, in_front);
            input.holds_streams = !is_table && sub_topology.gathers.is_some_and(Gathers::go_by_task);
            input
        };
        let in_front = in_front.into_iter().chain(std::iter::repeat_with(Arc::default));
        let inputs = sub_topology.sources().zip(in_front).map(input);
        Self {
            id,
            assignment,
            phase: Phase::first(now),
            inputs: inputs.collect(),
            sub_topology: sub_topology.clone(),
            place,
            put_off_until: Duration::ZERO,
            assigned_at: now,
            delivery: 0,
            patience: Patience::default(),
            waiting: Patience::default(),
            is_proved: false,
            suspected: None,
            counts: Vec::new(),
            marks: Vec::new(),
            keyed: None,
            attention: Attention::default(),
            dead_letters: Vec::new(),
        }
    }

    pub(crate) const fn state(&self) -> State {
        self.phase.state()
    }

    /// Lets a takeover begin anew, once the relay holds nothing of the task any more. False where it may not.
    pub(crate) fn drain(&mut self, now: Duration) -> bool {
        let has_passed = self.phase.become_draining(now);
        self.drop_records_if(has_passed)
    }

    /// Takes no more records: the task moves. False where it is leaving already.
    pub(crate) fn leave(&mut self, now: Duration) -> bool {
        let has_passed = self.phase.become_leaving(now);
        self.drop_records_if(has_passed)
    }

    /// Halts until a person has decided. False where it is halted or leaving: the first reason counts, and the next
    /// owner of a leaving task will find the same.
    pub(crate) fn halt(&mut self, halt: Halt, now: Duration) -> bool {
        let has_passed = self.phase.become_halted(halt, now);
        self.drop_records_if(has_passed)
    }

    /// Drops the waiting records, which will be delivered again from D.
    fn drop_records_if(&mut self, has_passed: bool) -> bool {
        if has_passed {
            for input in &mut self.inputs {
                input.in_front.fetch_sub(input.queued(), Ordering::AcqRel);
                input.clear();
                input.offered = NextOffset(i64::MAX);
            }
        }
        has_passed
    }

    /// The commit of its step.
    pub(crate) const fn commit(&self) -> CommitKind {
        self.sub_topology.step.commit()
    }

    /// Notes that K of one input is committed at `next_offset`; with it the stores' `batch` is proved, whose changelogs
    /// end at `ends`.
    pub(crate) fn published(
        &mut self,
        source: &TopicPartition,
        next_offset: NextOffset,
        now: Duration,
        batch: u64,
        ends: &[(TopicPartition, NextOffset)],
    ) {
        let Some(input) = self.inputs.iter_mut().find(|input| input.source == *source) else { return };
        input.published = input.published.max(Some(next_offset));
        input.published_at = now;
        if let Some(keyed) = &mut self.keyed {
            keyed.prove(batch, ends);
        }
    }

    /// Whether everything decided is published; a K beyond D means that the rows are to catch up.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.inputs.iter().all(|input| input.published >= Some(input.next_offset))
    }
}
