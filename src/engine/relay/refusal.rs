//! Finds the message that a topic rejects permanently after it was decided, and replaces it by a dead letter
//! (docs/traps.md#a-broker-refuses-whole-batches).
//!
//! Sizes are checked before the database commits, so this happens only if a topic's settings have changed since. A
//! broker refuses whole batches, and names the culprit by chance only. So the limits are asked for anew, and messages
//! above them are the culprits; where there are none, the messages are sent once more in a transaction that is aborted,
//! some and then fewer at a time, until one alone is refused. The search never splits a transaction that must be
//! published as one.
//!
//! A step without rows holds its messages in memory alone: the dead letter takes the place of its message at once. The
//! dead letter of a step with rows goes into the outbox first, at the takeover: otherwise a successor would publish the
//! message itself, should it become acceptable again. Nothing can replace a changelog record; its partition halts.

use crate::engine::mailbox::{Left, ToExecutor};
use crate::engine::outbound::limits::Limits;
use crate::engine::outbound::publication::{Part, Publication};
use crate::engine::relay::Relay;
use crate::engine::relay::search::{FIRST_REFUSED_MAX, Found, Search};
use crate::ports::Fault;

impl Relay {
    /// Replaces the messages that made their topics refuse a transaction of one task, with `detail`, by dead letters. K
    /// says that the transaction is still to be published. The task halts where no message is to blame, or all are.
    pub(crate) fn replace_refused_messages(
        &mut self,
        publication: &mut Publication,
        detail: &str,
    ) -> Result<(), Fault> {
        self.drop_foreign(publication);
        let Some(task) = publication.parts.first().map(|part| part.task) else { return Ok(()) };
        let mut search = Search { producers: &mut self.producers, pipeline: &self.pipeline };
        let limits = search.limits_of(publication);
        let found = search.find(publication, &Limits::new(&self.clock, limits.clone()))?;
        self.send_to_executor(ToExecutor::Limits { known: limits, unknown: None });
        if self.searches.entry(task).or_default().note(&found) {
            self.searches.remove(&task);
            let detail = format!("{detail}; {}", given_up(&found));
            for part in publication.parts.clone() {
                self.refuse(publication, &part, Left::ForGood, detail.clone());
            }
            return Ok(());
        }
        let dead_letters = match found {
            Found::Interrupted(cause) => {
                self.put_off_failing(publication, &format!("{detail}; the search for the message to blame: {cause}"));
                return Ok(());
            }
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

/// Why no further message becomes a dead letter.
fn given_up(found: &Found) -> String {
    match found {
        Found::Refused { .. } => format!(
            "{FIRST_REFUSED_MAX} times in a row the topic refused the very first message that was left, and nothing was \
             published between: the topic is to blame, not single messages, and no more of them become dead letters"
        ),
        _ => "no single message is to blame: each was taken alone".into(),
    }
}
