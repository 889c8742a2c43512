//! One Kafka transaction: messages first, the offsets last.

use crate::engine::outbound::message::send_row;
use crate::engine::outbound::publication::{Outbound, Part, Publication};
use crate::engine::protocol::metadata;
use crate::engine::protocol::order::Step;
use crate::engine::relay::Relay;
use crate::flow::record::TopicPartition;
use crate::ports::Fault;
use crate::ports::failpoint::failpoint;
use crate::ports::source::{Committed, Membership};

impl Relay {
    /// One transaction, in the order of [`crate::engine::protocol::order`].
    pub(super) fn attempt(&mut self, publication: &mut Publication) -> Result<(), Fault> {
        self.producers.sink.begin()?;
        self.hook.after(Step::OpenKafka)?;
        for Outbound { row, .. } in &publication.rows {
            send_row(&mut *self.producers.sink, &self.pipeline, row)?;
            failpoint!(K7);
        }
        for message in publication.outgoing.messages() {
            self.producers.sink.send(&message)?;
            failpoint!(K7);
        }
        self.hook.after(Step::Produce)?;
        self.producers.sink.flush()?;
        publication.ends = self.producers.sink.ends();
        self.hook.after(Step::Flush)?;
        let membership = self.membership(&publication.parts)?;
        self.producers.sink.send_offsets(&self.offsets(&publication.parts), &membership)?;
        self.hook.after(Step::SendOffsets)?;
        self.producers.sink.commit()?;
        self.hook.after(Step::CommitKafka)
    }

    fn offsets(&self, parts: &[Part]) -> Vec<(TopicPartition, Committed)> {
        let metadata =
            |part: &Part| metadata::committed(&self.pipeline, part.through.epoch(), part.to, part.marks.as_deref());
        let offset = |part: &Part| (part.source.clone(), metadata(part));
        parts.iter().map(offset).collect()
    }

    /// The membership to commit with, immediately before it is used.
    fn membership(&self, parts: &[Part]) -> Result<Membership, Fault> {
        let mut found = None;
        for part in parts {
            found = self.assignments.membership(part.task, part.assignment);
            if found.is_none() {
                return Err(Fault::fenced(format!(
                    "{}: the partition moved before its offsets were sent",
                    part.source
                )));
            }
        }
        found.ok_or_else(|| Fault::retry("a transaction without offsets"))
    }
}
