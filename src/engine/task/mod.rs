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
mod input;

pub(crate) use input::{Apart, Held, Input};

use crate::engine::protocol::halt::Contradiction;
use crate::engine::protocol::ownership::AssignmentId;
use crate::engine::protocol::patience::Patience;
use crate::engine::state::stores::Keyed;
use crate::flow::record::{NextOffset, TopicName, TopicPartition};
use crate::flow::topology::{StepKind, SubTopology, TablePlace};
use crate::ports::rows::OutboxRow;
use crate::ports::source::TaskId;
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
        self.inputs.iter().all(|input| input.published >= Some(input.next_offset))
    }
}
