//! The handling of a task that fails alone: it must not hold up the others of its worker, nor be offered unchanged for
//! ever.
//!
//! A publication that fails though the log answers is made smaller first, since a transaction that does not fit into
//! its timeout never will: it is cut in halves, down to one input; one that cannot be cut is decided again in smaller
//! batches. A publication that fails at its smallest, was decided again too often, or is bound for a topic that is gone,
//! is put off: its task is taken over anew after a pause, so that the relay holds nothing of it meanwhile. At last the
//! task halts, while the others go on.

use crate::engine::mailbox::Left;
use crate::engine::outbound::publication::{Part, Publication};
use crate::engine::relay::troubles::PutOff;
use crate::engine::relay::{Relay, Settled};
use crate::flow::record::TopicName;
use std::collections::BTreeSet;
use std::time::Duration;

/// The number of tries of the smallest transaction before its task is put off.
const TRIES: u32 = 4;
/// The same number for a task that was put off before.
const TRIES_AGAIN: u32 = 2;
/// The time that a topic may be gone before the tasks that write it halt: somebody may be about to make it anew.
const GONE_MAX: Duration = Duration::from_mins(2);
/// The time that any other failure may last from which the others do not suffer: a broker may be restored meanwhile.
const FAILING_MAX: Duration = Duration::from_mins(30);

impl Relay {
    /// A topic of the publication that does not exist; `None` also where nobody answers.
    pub(crate) fn missing_topic(&self, publication: &Publication) -> Option<TopicName> {
        let rows = publication.rows.iter().map(|outbound| &outbound.row.destination);
        let topics: BTreeSet<&TopicName> =
            rows.chain(publication.outgoing.messages().map(|message| message.destination)).collect();
        let is_gone =
            |topic: &&&TopicName| matches!(self.group.partition_count(topic, self.settings.ask_wait), Ok(None));
        topics.iter().find(is_gone).map(|topic| (*topic).clone())
    }

    /// Handles the failure of one task's publication although the log answers. `None`: it is to be offered once more as
    /// it is.
    pub(crate) fn reduce(&mut self, publication: &mut Publication, failures: u32, cause: &str) -> Option<Settled> {
        let size = publication.size(&self.pipeline);
        if publication.is_divisible(&self.pipeline) {
            self.outstanding.shrink(size);
            return Some(Settled::Smaller);
        }
        let inputs: i64 = publication.parts.iter().map(|part| part.to.0 - part.from.0).sum();
        let now = self.clock.elapsed();
        let task = publication.parts.first().map(|part| (part.task, part.assignment));
        if publication.is_atomic()
            && inputs > 1
            && self.outstanding.room(size).messages > 1
            && task.is_some_and(|task| self.troubles.reduce(task, now, &self.assignments))
        {
            self.outstanding.shrink(size);
            let until = now;
            for part in publication.parts.clone() {
                self.refuse(
                    publication,
                    &part,
                    Left::Later { until },
                    format!("to be decided in smaller batches: {cause}"),
                );
            }
            return Some(Settled::Done);
        }
        // A task that was put off before has had its tries: the others of the worker wait meanwhile.
        let tries = if self.troubles.is_of(publication) { TRIES_AGAIN } else { TRIES };
        (failures >= tries).then(|| {
            self.put_off_failing(publication, cause);
            Settled::Done
        })
    }

    /// Puts off a task whose publication fails for a reason that may pass.
    pub(crate) fn put_off_failing(&mut self, publication: &mut Publication, cause: &str) {
        self.put_off(publication, cause, FAILING_MAX);
    }

    /// Puts off a task one of whose topics is gone.
    pub(crate) fn await_topic(&mut self, publication: &mut Publication, topic: &TopicName) {
        self.put_off(publication, &format!("topic {topic} is gone: make it anew (`topics apply`)"), GONE_MAX);
    }

    /// Puts off the task of a part with messages that no offset stands for.
    pub(crate) fn put_off_turn(&mut self, publication: &mut Publication, part: &Part) {
        let (others, own) =
            std::mem::take(&mut publication.parts).into_iter().partition(|other| other.task != part.task);
        publication.parts = own;
        let others: Vec<Part> = others;
        self.put_off(
            publication,
            "whether timers that had fired are published can be seen in their changelog alone",
            FAILING_MAX,
        );
        publication.parts = others;
    }

    fn put_off(&mut self, publication: &mut Publication, cause: &str, bound: Duration) {
        let Some((task, assignment)) = publication.parts.first().map(|part| (part.task, part.assignment)) else {
            return;
        };
        let now = self.clock.elapsed();
        let PutOff { waited, until } = self.troubles.put_off((task, assignment), now, bound, &self.assignments);
        tracing::warn!(
            ?task,
            cause,
            waited_s = waited.as_secs(),
            "a task cannot publish; it is tried again by itself, and the others of its worker go on"
        );
        for part in publication.parts.clone() {
            let left = until.map_or(Left::ForGood, |until| Left::Later { until });
            self.refuse(publication, &part, left, cause.into());
        }
    }
}
