//! What a topic refuses for good although it was decided: the message is found and becomes a dead letter
//! (docs/traps.md#a-broker-refuses-whole-batches).
//!
//! Sizes are checked before the database commits, so it takes a topic whose settings changed since. A broker refuses whole
//! batches, and names the culprit by chance only. So the limits are asked for anew, and what is above them is the culprit;
//! where nothing is, the messages are sent once more in a transaction that is aborted, some and then fewer at a time, until
//! one alone is refused. Nothing is torn apart for it: what was to be one transaction still is.
//!
//! A step without rows holds its messages in memory alone: the dead letter takes the place of its message at once. That of
//! a step with rows goes into the outbox first, which the takeover does: else a successor would publish the message itself,
//! should it become acceptable again. A changelog record has nothing that could stand for it; its partition halts.

use crate::engine::mailbox::{Left, ToExecutor};
use crate::engine::outbound::publication::{Part, Publication};
use crate::engine::relay::Relay;
use crate::engine::relay::search::{Found, Search};
use crate::ports::Fault;

impl Relay {
    /// A transaction of one task was refused with `detail`, and K says that it is still to be published. Puts dead letters
    /// in the places of the messages that are to blame. The task halts where none is, or all are.
    pub(crate) fn replace_refused_messages(
        &mut self,
        publication: &mut Publication,
        detail: &str,
    ) -> Result<(), Fault> {
        self.drop_foreign(publication);
        let Some(task) = publication.parts.first().map(|part| part.task) else { return Ok(()) };
        let mut search = Search { producers: &mut self.producers, pipeline: &self.pipeline };
        let limits = search.limits_of(publication);
        let found = search.find(publication, &limits)?;
        self.send_to_executor(ToExecutor::Limits(limits));
        if self.searches.entry(task).or_default().note(&found) {
            self.searches.remove(&task);
            for part in publication.parts.clone() {
                self.refuse(publication, &part, Left::ForGood, detail.into());
            }
            return Ok(());
        }
        let dead_letters = match found {
            Found::Nothing => return Ok(()), // once more: with the limits that are known now, batches may be smaller
            Found::Large(dead_letters) => dead_letters,
            Found::Refused { dead_letter, .. } => vec![dead_letter],
        };
        for (_, dead_letter) in &dead_letters {
            let (partition, offset) = (&dead_letter.source, dead_letter.source_offset.0);
            tracing::warn!(%partition, offset, detail, "refused for good by its topic: it becomes a dead letter");
        }
        if publication.parts.iter().all(Part::is_through_log) {
            publication.replace(dead_letters);
            return Ok(());
        }
        for part in publication.parts.clone() {
            let own = dead_letters
                .iter()
                .map(|(_, dead_letter)| dead_letter)
                .filter(|dead_letter| dead_letter.source == part.source);
            self.refuse(publication, &part, Left::Replaced(own.cloned().collect()), detail.into());
        }
        Ok(())
    }
}
