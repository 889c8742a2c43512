//! Progress of each partition, and halts.

use crate::engine::protocol::decision::HaltReason;
use crate::flow::record::{NextOffset, Partition, TopicPartition};
use crate::flow::store::StoreSpec;
use crate::flow::topology::{SubTopology, Topology};
use crate::testing::interpreter::Interpreter;
use crate::testing::judge::finding::{Findings, Wrong};
use crate::testing::observed::{Event, Message, Observed, Progress, Standstill};
use std::cell::LazyCell;

impl Observed {
    /// Every record is decided, and committed as far as it is decided.
    pub(super) fn judge_progress(&self, topology: &Topology, findings: &mut Findings) {
        let subs = topology.sub_topologies().iter().enumerate();
        for (_, sub) in subs.filter(|(number, _)| !self.struck.contains(number)) {
            for (topic, partition) in sub.sources().flat_map(|topic| (0..self.partitions).map(move |n| (topic, n))) {
                let place = TopicPartition::new(topic.clone(), Partition(partition));
                let Progress { decided, committed, published, end } =
                    self.progress.get(&place).copied().unwrap_or_default();
                let next = self.log.get(&place).and_then(|messages| messages.last()).map(|last| last.offset);
                let is_read = next.is_none_or(|last| decided.is_some_and(|at| !at.is_before(last)));
                if (!is_read || committed != decided) && !self.is_halted(sub, partition) {
                    let detail = format!("{place}: D is {decided:?}, K {committed:?}, and the last record {next:?}");
                    findings.add(Wrong::Progress, detail);
                }
                if end.is_some_and(|end| decided.is_some_and(|at| at > end)) || published > committed {
                    let detail =
                        format!("{place}: D is {decided:?}, P {published:?}, K {committed:?}, and the end {end:?}");
                    findings.add(Wrong::Progress, detail);
                }
            }
        }
    }

    /// A halt that has passed is judged by its step alone, since its changelog was written in the meantime.
    fn looks_added(&self, topology: &Topology, halt: &Standstill, has_passed: bool) -> bool {
        let subs = self.forgotten.iter().filter_map(|number| topology.sub_topologies().get(*number));
        let is_empty = |store: &StoreSpec| {
            let place = |topic| TopicPartition::new(topic, halt.source.partition);
            let changelog = topology.changelog_topic(store).map(place);
            changelog.and_then(|place| self.log.get(&place)).is_none_or(Vec::is_empty)
        };
        let is_due = |sub: &SubTopology| {
            sub.sources().any(|topic| *topic == halt.source.topic) && (has_passed || sub.stores.iter().any(is_empty))
        };
        halt.reason == HaltReason::StoreAdded.label() && subs.into_iter().any(is_due)
    }

    /// The interpreter with the rows that are no more: a record halted its partition while its row was there, and somebody
    /// deleted the row afterwards.
    fn with_rows_that_went<'a>(&self, interpreter: &Interpreter<'a>) -> Interpreter<'a> {
        let mut before = interpreter.clone();
        for (place, row) in &self.first_rows {
            before.rows.entry(place.clone()).or_insert_with(|| row.clone());
        }
        for event in &self.events {
            if let Event::Placed { table, key, row: Some(row) } = event {
                before.rows.entry((table.clone(), key.clone())).or_insert_with(|| row.clone());
            }
        }
        before
    }

    /// Only acts of the schedule may halt a partition: here, records in the wrong partition and such as cannot be read.
    pub(super) fn judge_halts(&self, interpreter: &Interpreter<'_>, findings: &mut Findings) {
        let before = LazyCell::new(|| self.with_rows_that_went(interpreter));
        let seen = self.inside.iter().flat_map(|inside| &inside.seen).filter(|halt| !self.halts.contains(halt));
        let standing = self.halts.iter().map(|halt| (halt, false));
        for (halt, has_passed) in standing.chain(seen.map(|halt| (halt, true))) {
            let is_due = self.is_struck(interpreter.topology, &halt.source.topic)
                || self.looks_added(interpreter.topology, halt, has_passed)
                || [HaltReason::WronglyKeyed, HaltReason::Unreadable].iter().any(|due| halt.reason == due.label())
                    && self.log.get(&halt.source).is_some_and(|inputs| {
                        let decided = self.progress.get(&halt.source).and_then(|progress| progress.decided);
                        let at = decided.unwrap_or(NextOffset(0));
                        // Its record may be decided by now where the halt has passed: a group that begins again takes decisions
                        // back, and a record is no longer read once its row went.
                        let left = inputs.iter().filter(|input| has_passed || at.is_before(input.offset));
                        let next = left.take(if has_passed { usize::MAX } else { 1 });
                        let must_halt = |input: &Message, at: &Interpreter<'_>| at.halts_at(&halt.source, input);
                        next.into_iter().any(|input| must_halt(input, interpreter) || must_halt(input, &before))
                    });
            if !is_due {
                findings.add(Wrong::Halt, format!("{}: {} ({})", halt.source, halt.reason, halt.detail));
            }
        }
        for (number, partition) in &self.must_halt {
            let sub = interpreter.topology.sub_topologies().get(*number);
            if let Some(sub) = sub.filter(|sub| !self.is_halted(sub, *partition)) {
                let detail = format!("partition {partition} of {} goes on as if nothing was lost", sub.lead);
                findings.add(Wrong::MustStand, detail);
            }
        }
        for ended in self.inside.iter().flat_map(|inside| &inside.ended) {
            findings.add(Wrong::Ended, ended);
        }
    }
}
