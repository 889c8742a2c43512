//! The end of a publication: published, or left to a takeover, and reported to the executor.

use crate::engine::mailbox::{Left, ToExecutor};
use crate::engine::outbound::message::cause_of;
use crate::engine::outbound::publication::{Outbound, Part, Publication};
use crate::engine::relay::Relay;
use crate::engine::status::Counter;
use crate::flow::record::{NextOffset, TopicPartition};
use std::time::Duration;

impl Relay {
    /// Removes partitions that this instance has lost, and everything queued after an unpublished message of the same
    /// partition: the next takeover publishes it.
    pub(super) fn drop_foreign(&mut self, publication: &mut Publication) {
        let detail = |part: &Part| {
            if self.assignments.membership(part.task, part.assignment).is_none() {
                return Some("the partition has moved");
            }
            self.is_refused(part).then_some("something before it was not published")
        };
        let gone = |part: &Part| detail(part).map(|detail| (part.clone(), detail));
        let gone: Vec<(Part, &str)> = publication.parts.iter().filter_map(gone).collect();
        for (part, detail) in gone {
            self.refuse(publication, &part, Left::ToTakeover, detail.into());
        }
    }

    /// Hands everything back to the executor, which proves that the tasks are ours and publishes the remainder at the
    /// takeover.
    pub(super) fn give_up(&mut self, publication: &mut Publication) {
        for part in publication.parts.clone() {
            self.refuse(publication, &part, Left::ToTakeover, "the group refuses this member".into());
        }
    }

    fn is_refused(&self, part: &Part) -> bool {
        self.refused.get(&part.task) == Some(&part.assignment)
    }

    /// Leaves `part` to a takeover, or for good, and with it everything that its assignment has handed over since.
    pub(super) fn refuse(&mut self, publication: &mut Publication, part: &Part, left: Left, detail: String) {
        let Part { task, assignment, source, from, to, .. } = part;
        // Dozens of publications may wait behind the first one.
        if self.is_refused(part) {
            tracing::debug!(partition = %source, from = from.0, to = to.0, detail, "left to the next takeover as well");
        } else {
            tracing::info!(partition = %source, from = from.0, detail, "left to the next takeover");
        }
        publication.remove(source);
        self.refused.entry(*task).and_modify(|last| *last = (*last).max(*assignment)).or_insert(*assignment);
        self.send_to_executor(ToExecutor::Unpublished { task: *task, assignment: *assignment, left, detail });
    }

    pub(super) fn confirm(&mut self, publication: &Publication) {
        self.status.add(Counter::KafkaCommits, 1);
        self.producers.show_quotas();
        self.status.count(publication.counts);
        let now = self.clock.now();
        for timestamp in publication.rows.iter().filter_map(|outbound| outbound.input_at) {
            let age = u64::try_from(now.0.saturating_sub(timestamp.0)).unwrap_or(0);
            self.status.age_at_publication.add(Duration::from_millis(age));
        }
        for Outbound { row, .. } in &publication.rows {
            if let Some((code, message)) = cause_of(row) {
                self.status.letters.published(&row.source, row.source_offset, &code, &message);
            }
        }
        for part in &publication.parts {
            self.report_published(publication, part, part.to);
        }
        // K as it was, written again by a takeover, tells nothing of what failed.
        if publication.len() > 0 || publication.parts.iter().any(|part| part.from != part.to) {
            self.searches.retain(|task, _| publication.parts.iter().all(|part| part.task != *task));
            self.troubles.end(publication);
        }
    }

    pub(super) fn report_published(&self, publication: &Publication, part: &Part, next_offset: NextOffset) {
        let Part { task, assignment, source, .. } = part.clone();
        if self.troubles.has(task) {
            self.status.publishing.forget(&source.to_string());
        }
        // It is one transaction: with any input of the task all of the task's batches in it are published.
        let batches = publication.parts.iter().filter(|part| part.task == task).map(|part| part.batch);
        let batch = batches.max().unwrap_or_default();
        let is_of_it = |(place, _): &&(TopicPartition, NextOffset)| place.partition == source.partition;
        let ends = publication.ends.iter().filter(is_of_it).cloned().collect();
        self.send_to_executor(ToExecutor::Published { task, assignment, source, next_offset, batch, ends });
    }
}
