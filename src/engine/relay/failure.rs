//! The failure of a transaction: it is sorted, fencings are counted, and K decides which messages remain to be sent.

use crate::engine::mailbox::Left;
use crate::engine::outbound::publication::{Part, Publication};
use crate::engine::protocol::consequence::{self, Consequence, Moment};
use crate::engine::protocol::metadata;
use crate::engine::relay::Relay;
use crate::engine::status::Counter;
use crate::flow::record::{NextOffset, TopicPartition};
use crate::ports::Fault;
use crate::ports::source::TaskId;
use std::collections::BTreeSet;
use std::time::Duration;

/// The bound on a stable read of K that waits for a pending transaction, as a multiple of one question to the log,
/// before it is tried again.
const COMMITTED_WAITS: u32 = 8;
const MINUTE: Duration = Duration::from_mins(1);

impl Relay {
    /// Sorts a failure: ends the worker, or lets the publication be offered again.
    pub(super) fn note_failure(&mut self, fault: Fault, may_be_late: bool) -> Result<(), Fault> {
        if consequence::of(&fault, Moment::Publish) == Consequence::End {
            return Err(fault);
        }
        if fault.is_fenced() {
            // The group's generation is over: ordinary in every rebalance, and distinct from a fenced producer.
            self.status.add(Counter::Fencings, 1);
        } else if fault.is_retry() && self.producers.sink.is_fenced() && !may_be_late {
            self.note_fencing()?;
        }
        self.producers.note_failure(&fault, false);
        self.producers.show_quotas(); // of the producer that is about to be replaced
        tracing::info!(error = %fault, "a Kafka transaction failed; the producer is replaced and K decides");
        Ok(())
    }

    /// Counts fencings of the producer: one with every rebalance is ordinary, many without any are two deployments with
    /// one id.
    pub(super) fn note_fencing(&mut self) -> Result<(), Fault> {
        self.status.add(Counter::Fencings, 1);
        let (now, rebalances) = (self.clock.elapsed(), self.assignments.rebalances());
        self.fencings.push_back((now, rebalances));
        self.fencings.retain(|(at, seen)| now.saturating_sub(*at) < MINUTE && *seen == rebalances);
        if self.fencings.len() >= self.settings.fencings_max {
            let id = self.producers.sink.transactional_id();
            return Err(Fault::fatal(format!(
                "another instance uses transactional.id {id}: it was fenced {} times within a minute and without a rebalance; \
                 give each deployment its own pipeline name, and each instance its own instance.slot",
                self.fencings.len()
            )));
        }
        Ok(())
    }

    /// Reads K and keeps the messages beyond it. `is_refused`: the brokers did not take its messages, so that nothing of it was
    /// committed.
    pub(super) fn keep_unpublished(&mut self, publication: &mut Publication, is_refused: bool) -> Result<(), Fault> {
        let sources: Vec<TopicPartition> = publication.parts.iter().map(|part| part.source.clone()).collect();
        let mut tries = 0;
        let found = loop {
            match self.group.committed(&sources, COMMITTED_WAITS * self.settings.ask_wait) {
                Ok(found) => break found,
                Err(fault) if consequence::of(&fault, Moment::Publish) == Consequence::End => return Err(fault),
                Err(fault) => {
                    tracing::debug!(error = %fault, "the committed offsets could not be read yet");
                    self.producers.note_failure(&fault, true);
                    for source in &sources {
                        self.status.waits.unread(source, &fault);
                    }
                    tries += 1;
                    self.producers.pause(tries)?;
                }
            }
        };
        for source in &sources {
            self.status.waits.forget(&source.to_string());
        }
        // K says that the decided messages are published, not by whom: a successor may have done it, and where its
        // changelog records lie among ours nobody knows. The next transaction reads where the changelogs end.
        publication.ends.clear();
        let found = found.into_iter().map(|found| metadata::known(found).map(|committed| committed.next_offset));
        let found: Vec<(Part, Option<NextOffset>)> = publication.parts.clone().into_iter().zip(found).collect();
        // Timers have fired by the wall clock, which moves no offset: K does not tell whether that was committed. The changelog
        // does, once the stores are opened anew.
        let is_still = |(part, k): &&(Part, Option<NextOffset>)| {
            !is_refused && part.is_through_log() && part.from == part.to && *k == Some(part.to)
        };
        for (part, _) in found.iter().filter(is_still) {
            if publication.rows.iter().any(|outbound| outbound.row.source == part.source) {
                self.put_off_turn(publication, part);
            }
        }
        // It was one transaction: where an offset has moved, what moved none beside it was committed with it. Sent once more, a
        // tombstone of an idle partition would lie behind a value that the moved one has set since.
        let has_moved = |(part, k): &&(Part, Option<NextOffset>)| {
            !part.is_through_log() && part.from != part.to && *k == Some(part.to)
        };
        let committed_tasks: BTreeSet<TaskId> = found.iter().filter(has_moved).map(|(part, _)| part.task).collect();
        for (part, committed) in found {
            if publication.parts.iter().all(|left| left.source != part.source) {
                continue;
            }
            if committed == Some(part.to) && part.from != part.to {
                self.status.count(std::mem::take(&mut publication.counts)); // one transaction: all of it is committed
            }
            match committed {
                // Tombstones of an idle partition move no offset, and the offset of one that is only written again, perhaps with new
                // marks, moves none. Sent twice with nothing in between they do no harm.
                Some(k) if k == part.to && k == part.from && !committed_tasks.contains(&part.task) => {}
                // A step without rows has no position that would prove whose commit that was: ours, or a successor's
                // that came as far with the same records. Its stores are opened anew and read on to the committed end.
                Some(k) if k == part.to && !part.is_through_log() => {
                    self.report_published(publication, &part, k);
                    publication.remove(&part.source);
                }
                Some(k) if k < part.from || k >= part.to => {
                    let detail = format!("expected the committed offset in [{}, {}], found {k}", part.from, part.to);
                    self.refuse(publication, &part, Left::ToTakeover, detail);
                }
                Some(k) => publication.cut(&part.source, k),
                None => {}
            }
        }
        Ok(())
    }
}
