//! Repairs a halted partition: writes position and committed offset together, under the fence.
//!
//! [`Repair::carry_out`] carries out the result of [`plan()`]: the group must have no members; the position's epoch is
//! raised, so that a zombie's next batch is fenced; decided messages that are not published are published, since the
//! position will pass them; then both writes, in the plan's order. The plan says how a crash in between is mended. No
//! algorithm is ever run here.
//!
//! An instance that starts while the repair publishes would publish the same at its takeover, and the late copy of one
//! transaction's end could end the next one half-way (docs/protocol.md#the-late-request): so before each commit the
//! repair asks again whether it is alone, and a producer whose requests were repeated in silence is replaced.

pub mod plan;

use crate::engine::outbound::message::{bytes_of, inputs_of, send_row, sequence_of};
use crate::engine::outbound::outbox::{decided, unpublished};
use crate::engine::outbound::size::Size;
use crate::engine::protocol::metadata;
use crate::engine::repair::plan::{Action, Known, Plan, UNORDERED, plan};
use crate::flow::record::{NextOffset, Timestamp, TopicName, TopicPartition};
use crate::flow::topology::{CommitKind, SubTopology, Topology};
use crate::ports::Fault;
use crate::ports::changelog::ChangelogReader;
use crate::ports::history::TopicHistory;
use crate::ports::repair::{NotedRepair, Offsets, Positions};
use crate::ports::rows::{OutboxRow, Position, Rows};
use crate::ports::sink::Sink;
use crate::ports::source::{Committed, Group};
use crate::ports::store::{Checkpoint, StoreId, Stores};
use crate::ports::topics::no_topic;
use std::sync::Arc;
use std::time::Duration;

/// The bound on one question to the log: longer than a dead producer's transaction keeps K pending.
const WAIT: Duration = Duration::from_secs(30);
/// The bound on one transaction, as in the relay.
const TRANSACTION: Size = Size { messages: 10_000, bytes: 16 << 20 };

/// Opens a transactional producer, for messages that were not published.
pub type SinkFactory = Box<dyn Fn() -> Result<Box<dyn Sink>, Fault>>;

/// The adapters of a repair.
pub struct Tools {
    /// The positions; `None` for a pipeline without rows.
    pub positions: Option<Box<dyn Positions>>,
    /// The outbox, unbound; [`NoRows`](crate::ports::rows::NoRows) for a pipeline without rows.
    pub rows: Box<dyn Rows>,
    /// Questions about group and log.
    pub group: Arc<dyn Group>,
    /// The group's offsets.
    pub offsets: Box<dyn Offsets>,
    /// The topics, to look up published messages.
    pub history: Box<dyn TopicHistory>,
    /// A producer under an id of its own.
    pub sink: SinkFactory,
}

/// A step of [`Repair::carry_out`] that has just been done: a test stops there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The position's epoch was raised.
    Fence,
    /// Everything decided is published.
    Publish,
    /// The position was written and the repair noted.
    WritePosition,
    /// K was committed.
    CommitOffset,
}

/// A function called after each step.
pub type Observer<'a> = &'a mut dyn FnMut(Step) -> Result<(), Fault>;

/// Repairs source partitions of one pipeline.
pub struct Repair {
    topology: Topology,
    who: String,
    tools: Tools,
}

impl Repair {
    /// Repairs in the name of `who`.
    #[must_use]
    pub const fn new(topology: Topology, who: String, tools: Tools) -> Self {
        Self { topology, who, tools }
    }

    /// The present state of a source partition.
    ///
    /// # Errors
    /// `Retry` when a server did not answer; `Corrupt` when there is no such topic; `Fatal` when no step reads it.
    pub fn look(&mut self, source: &TopicPartition) -> Result<Known, Fault> {
        let sub = sub_topology(&self.topology, source)?;
        let (commit, is_stateful) = (sub.step.commit(), sub.is_stateful());
        let Tools { positions, group, .. } = &mut self.tools;
        let position = match (commit, positions) {
            (CommitKind::Rows, Some(positions)) => positions.read(source)?,
            (CommitKind::Rows, None) | (CommitKind::Log, _) => None,
        };
        let committed = group.committed(std::slice::from_ref(source), WAIT)?.into_iter().next().flatten();
        let committed = metadata::known(committed);
        let count = group.partition_count(&source.topic, WAIT)?;
        let partition_count = count.filter(|count| (0..*count).contains(&source.partition.0));
        let partition_count = partition_count.ok_or_else(|| Fault::fatal(no_partition(source, count)))?;
        let (bounds, log_ids) = (group.bounds(source, WAIT)?, group.log_ids(&source.topic, WAIT)?);
        let mut known = Known {
            commit,
            is_stateful,
            position,
            committed,
            bounds,
            log_ids,
            partition_count,
            unproved: None,
            has_changelog_rows: false,
        };
        self.look_at_changelog_rows(source, &mut known)?;
        Ok(known)
    }

    /// Plans by the present state.
    ///
    /// # Errors
    /// The errors of [`Repair::look`]; the inner error is a refusal, a sentence for the operator.
    pub fn plan(&mut self, source: &TopicPartition, action: Action) -> Result<Result<Plan, String>, Fault> {
        let known = self.look(source)?;
        Ok(plan(self.topology.name(), action, &known))
    }

    /// K of a partition, where it is one of this pipeline.
    fn own_k(&self, source: &TopicPartition) -> Result<Option<NextOffset>, Fault> {
        let committed = self.tools.group.committed(std::slice::from_ref(source), WAIT)?.into_iter().next().flatten();
        let committed = metadata::known(committed).filter(|k| metadata::is_ours(self.topology.name(), k));
        Ok(committed.map(|k| k.next_offset))
    }

    /// The other inputs of the task.
    fn companions(&self, source: &TopicPartition) -> Result<Vec<TopicPartition>, Fault> {
        let others = sub_topology(&self.topology, source)?.sources().filter(|topic| **topic != source.topic);
        Ok(others.map(|topic| TopicPartition::new(topic.clone(), source.partition)).collect())
    }

    /// Looks for changelog records of the task of which nothing proves yet that they are published.
    fn look_at_changelog_rows(&mut self, source: &TopicPartition, known: &mut Known) -> Result<(), Fault> {
        (known.unproved, known.has_changelog_rows) = (None, false);
        if !known.is_stateful || known.commit != CommitKind::Rows {
            return Ok(());
        }
        let p = known.position.as_ref().map_or(NextOffset(0), |position| position.published);
        let known_to = p.max(self.own_k(source)?.unwrap_or(NextOffset(0)));
        if let Some(position) = &known.position {
            let rows = decided(&mut *self.tools.rows, source, known_to, position.next_offset)?;
            known.has_changelog_rows = rows.iter().any(|row| sequence_of(row).is_some());
        }
        for other in self.companions(source)? {
            let read = self.tools.positions.as_mut().map_or(Ok(None), |positions| positions.read(&other));
            let Some(position) = read? else { continue };
            let from = position.published.max(self.own_k(&other)?.unwrap_or(NextOffset(0)));
            for row in decided(&mut *self.tools.rows, &other, from, position.next_offset)? {
                let own = inputs_of(&row).find(|(topic, _)| *topic == source.topic.as_str()).map(|(_, at)| at);
                known.unproved = own.filter(|at| *at >= known_to).into_iter().chain(known.unproved).min();
            }
        }
        Ok(())
    }

    /// Carries out the plan that was `shown` to the operator. May be repeated after any failure, and changes nothing
    /// where all is done.
    ///
    /// # Errors
    /// `Fenced` when the group has members or something moved since it was shown: nothing was written, or the same
    /// command finishes the work that was begun. `Retry` when a server did not answer.
    pub fn carry_out(
        &mut self,
        source: &TopicPartition,
        action: Action,
        shown: &Plan,
        observe: Observer<'_>,
    ) -> Result<(), Fault> {
        if shown.is_done {
            return Ok(());
        }
        self.require_no_members(source)?;
        let mut known = self.look(source)?;
        let planned = plan(self.topology.name(), action, &known).map_err(Fault::fenced)?;
        if !planned.does_as(shown) {
            return Err(Fault::fenced(format!("{source}: it moved since it was shown; look again")));
        }
        let before = (known.position.as_ref().map(|position| position.next_offset), known.committed.clone());
        let is_new = known.position.is_none();
        let mut incarnation = 0;
        if let (Some(positions), false) = (&mut self.tools.positions, is_new || known.commit != CommitKind::Rows) {
            let fenced = positions.fence(source, &self.who)?;
            let moved = fenced.as_ref().zip(known.position.as_ref()).is_none_or(|(now, then)| {
                let as_then = Position { epoch: then.epoch, ..now.clone() };
                as_then != *then
            });
            if moved {
                return Err(Fault::fenced(format!("{source}: it moved since it was shown; look again")));
            }
            known.position = fenced;
            incarnation = known.position.as_ref().map_or(0, |position| position.incarnation);
            // An instance that goes on after a long sleep might decide another input of the task: its changelog records are looked
            // for once it cannot any more.
            if known.is_stateful {
                for other in self.companions(source)? {
                    self.tools.positions.as_mut().map_or(Ok(None), |positions| positions.fence(&other, &self.who))?;
                }
                self.look_at_changelog_rows(source, &mut known)?;
            }
            observe(Step::Fence)?;
        }
        // The same plan under the epoch of the fence.
        let Plan { position, committed, unpublished: range, excused, is_group_first, .. } =
            plan(self.topology.name(), action, &known).map_err(Fault::fenced)?;
        if range.0 < range.1 {
            let epoch = known.position.as_ref().map(|position| position.epoch);
            self.publish(source, range, epoch)?;
            observe(Step::Publish)?;
        }
        let after = position.as_ref().map_or(committed.next_offset, |position| position.next_offset);
        let repair = NotedRepair {
            source: source.clone(),
            command: action.to_string(),
            who: self.who.clone(),
            incarnation,
            next_offset: (before.0, after),
            committed: (before.1.map(|k| k.next_offset), committed.next_offset),
            excused,
        };
        if is_group_first {
            self.commit(source, &committed, observe)?;
            self.write(position.as_ref(), is_new, &repair, observe)
        } else {
            self.write(position.as_ref(), is_new, &repair, observe)?;
            self.commit(source, &committed, observe)
        }
    }

    fn write(
        &mut self,
        position: Option<&Position>,
        is_new: bool,
        repair: &NotedRepair,
        observe: Observer<'_>,
    ) -> Result<(), Fault> {
        let (Some(position), Some(positions)) = (position, &mut self.tools.positions) else { return Ok(()) };
        if !positions.write(position, is_new, repair)? {
            return Err(Fault::fenced(format!(
                "{}: an instance has claimed it meanwhile; stop all, then again",
                repair.source
            )));
        }
        observe(Step::WritePosition)
    }

    fn commit(&self, source: &TopicPartition, committed: &Committed, observe: Observer<'_>) -> Result<(), Fault> {
        let offset = (source.clone(), committed.clone());
        self.tools.offsets.commit(&[offset], WAIT).map_err(|fault| self.has_members(fault))?;
        observe(Step::CommitOffset)
    }

    /// The group itself is asked, by writing K as it is: the members of a group of the newer protocol are not listed.
    fn require_no_members(&self, source: &TopicPartition) -> Result<(), Fault> {
        let members = self.tools.offsets.members(WAIT)?;
        if members > 0 {
            return Err(self.has_members(Fault::fenced(format!("{members} members"))));
        }
        let committed = self.tools.group.committed(std::slice::from_ref(source), WAIT)?.into_iter().next().flatten();
        match committed {
            Some(k) => self.tools.offsets.commit(&[(source.clone(), k)], WAIT).map_err(|fault| self.has_members(fault)),
            None => Ok(()),
        }
    }

    fn has_members(&self, fault: Fault) -> Fault {
        if !fault.is_fenced() {
            return fault;
        }
        let name = self.topology.name();
        Fault::fenced(format!(
            "group {name} has members, which may commit offsets at any time: stop all instances of {name} and wait until \
             their sessions have ended, then run this again"
        ))
        .because(fault)
    }

    /// Publishes messages that were decided and not published; the position is about to pass them.
    fn publish(
        &mut self,
        source: &TopicPartition,
        (from, to): (NextOffset, NextOffset),
        epoch: Option<i64>,
    ) -> Result<(), Fault> {
        let rows = decided(&mut *self.tools.rows, source, from, to)?;
        if rows.is_empty() {
            return Ok(());
        }
        if rows.iter().any(|row| sequence_of(row).is_some()) {
            return Err(Fault::fatal(format!("{source}: {UNORDERED}")));
        }
        let rows = unpublished(self.topology.name(), rows, &mut *self.tools.history)?;
        if rows.is_empty() {
            return Ok(());
        }
        let mut sink = (self.tools.sink)()?;
        let sent = self.send(&mut *sink, source, epoch, &rows);
        sink.close();
        tracing::info!(partition = %source, rows = rows.len(), "published the messages decided before the repair");
        sent
    }

    /// An error leaves the messages in doubt; the next run looks them up by id.
    fn send(
        &mut self,
        sink: &mut dyn Sink,
        source: &TopicPartition,
        epoch: Option<i64>,
        rows: &[OutboxRow],
    ) -> Result<(), Fault> {
        let mut rest = rows;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(fitting(self.topology.name(), rest));
            sink.begin()?;
            now.iter().try_for_each(|row| send_row(sink, self.topology.name(), row))?;
            sink.flush()?;
            self.require_alone(source, epoch)?;
            sink.commit()?;
            if let Some(reason) = sink.taint() {
                tracing::info!(reason, "producer replaced: a request was repeated in silence");
                sink.renew()?;
            }
            rest = later;
        }
        Ok(())
    }

    /// Checks that no member of the group has come since the position was fenced.
    fn require_alone(&mut self, source: &TopicPartition, epoch: Option<i64>) -> Result<(), Fault> {
        self.require_no_members(source)?;
        let Some(positions) = &mut self.tools.positions else { return Ok(()) };
        if positions.read(source)?.map(|position| position.epoch) == epoch {
            return Ok(());
        }
        Err(Fault::fenced(format!("{source}: an instance has claimed it meanwhile; stop all, then again")))
    }
}

/// The number of rows, from the first on, that fit into one transaction; at least one.
fn fitting(pipeline: &str, rows: &[OutboxRow]) -> usize {
    let mut bytes = 0;
    let is_beyond = |row: &OutboxRow| {
        bytes += bytes_of(pipeline, row);
        bytes > TRANSACTION.bytes
    };
    rows.iter().take(TRANSACTION.messages).position(is_beyond).unwrap_or(rows.len().min(TRANSACTION.messages)).max(1)
}

/// The sub-topology that reads a source partition.
///
/// # Errors
/// `Fatal`: none does.
pub fn sub_topology<'t>(topology: &'t Topology, source: &TopicPartition) -> Result<&'t SubTopology, Fault> {
    let found = topology.sub_topologies().iter().find(|sub| sub.sources().any(|topic| *topic == source.topic));
    found.ok_or_else(|| {
        let subs = topology.sub_topologies().iter();
        let sources: Vec<&str> = subs.flat_map(SubTopology::sources).map(TopicName::as_str).collect();
        let (name, sources) = (topology.name(), sources.join(", "));
        Fault::fatal(format!("pipeline {name} does not read {}; it reads {sources}", source.topic))
    })
}

/// Empties the stores of the task that reads `source`, and lets them begin at their changelogs' starts, wherever those
/// are: the next start rebuilds them from the records that the changelogs still hold. Answers each store with the
/// offset that it begins at.
///
/// # Errors
/// `Fatal` when the task keeps no state, or when the stores are open elsewhere; otherwise the fault of a server or a
/// disk.
pub fn rebuild(
    topology: &Topology,
    source: &TopicPartition,
    stores: &dyn Stores,
    group: &dyn Group,
    changelogs: &mut dyn ChangelogReader,
    at: Timestamp,
) -> Result<Vec<(StoreId, NextOffset)>, Fault> {
    let sub = sub_topology(topology, source)?;
    let mut out = Vec::with_capacity(sub.stores.len());
    for spec in &sub.stores {
        let Some(topic) = topology.changelog_topic(spec) else { continue };
        let id = StoreId { name: spec.name.clone(), partition: source.partition };
        let log_ids = group.log_ids(&topic, WAIT)?;
        let next_offset = changelogs.bounds(&TopicPartition::new(topic, source.partition))?.start;
        let mut store = stores.open(&id)?;
        store.clear()?;
        store.write(&[], &Checkpoint::begun_anew(source.clone(), next_offset, log_ids, at))?;
        out.push((id, next_offset));
    }
    if out.is_empty() {
        return Err(Fault::fatal(format!("the step that reads {} keeps no state", source.topic)));
    }
    Ok(out)
}

/// The sentence about a partition beyond the `count` of its topic.
fn no_partition(source: &TopicPartition, count: Option<i32>) -> String {
    let topic = &source.topic;
    match count {
        Some(count) => format!("there is no partition {source}: {topic} has {count}, from 0 on"),
        None => no_topic(topic),
    }
}
