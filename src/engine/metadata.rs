//! The metadata string that goes with every committed offset, so that foreign commits are recognised: `v1 <pipeline>
//! <epoch> <D>`, and of a step without rows, whose topic's id no database remembers, `v1 <pipeline> 0 <D> <topic id>`.
//! `v1 <pipeline> <epoch> <K> replay` is an operator's leave to let the rows catch up with K and announce nothing meanwhile:
//! the one case in which K may lie beyond D. The next K that a relay commits lacks the word, so the leave ends by itself.
//! `v1 <pipeline> 0 0 none` proves a membership where there is no K, and means none.

use crate::flow::record::NextOffset;
use crate::ports::guard::{self, Guard};
use crate::ports::source::Committed;

/// The fifth word of an operator's leave; no topic's id is spelt so.
const REPLAY: &str = "replay";
/// That of an offset that stands for none.
const NONE: &str = "none";

/// The committed offset of our own making: `next_offset` with its metadata.
#[must_use]
pub fn committed(pipeline: &str, epoch: i64, next_offset: NextOffset, topic_id: Option<&str>) -> Committed {
    let mut metadata = format!("v1 {pipeline} {epoch} {next_offset}");
    if let Some(topic_id) = topic_id.filter(|id| !id.is_empty()) {
        metadata.push(' ');
        metadata.push_str(topic_id);
    }
    Committed { next_offset, metadata }
}

/// The committed offset that lets the rows catch up with it, and says that everything below it was announced.
#[must_use]
pub fn replayed(pipeline: &str, epoch: i64, next_offset: NextOffset) -> Committed {
    committed(pipeline, epoch, next_offset, Some(REPLAY))
}

/// Whether a committed offset may lie beyond the position.
#[must_use]
pub fn is_replay(committed: &Committed) -> bool {
    topic_id(committed) == Some(REPLAY)
}

/// What is committed where there is no K and a transaction has to prove a membership: it means that there is none.
#[must_use]
pub fn standing_for_none(pipeline: &str) -> Committed {
    committed(pipeline, 0, NextOffset(0), Some(NONE))
}

/// K, unless it only stands for none.
#[must_use]
pub fn known(committed: Option<Committed>) -> Option<Committed> {
    committed.filter(|committed| topic_id(committed) != Some(NONE))
}

/// The topic's id in a committed offset of our own making, where it carries one.
#[must_use]
pub fn topic_id(committed: &Committed) -> Option<&str> {
    committed.metadata.split(' ').nth(4)
}

/// Whether a committed offset was left by this pipeline: its metadata names the pipeline and repeats the offset.
#[must_use]
pub fn is_ours(pipeline: &str, committed: &Committed) -> bool {
    if guard::is_off(Guard::MetadataTag) {
        return true;
    }
    let mut words = committed.metadata.split(' ');
    words.next() == Some("v1")
        && words.next() == Some(pipeline)
        && words.next().is_some_and(|epoch| epoch.parse::<i64>().is_ok())
        && words.next().and_then(|d| d.parse().ok()) == Some(committed.next_offset.0)
        && (words.next().is_none() || words.next().is_none()) // a topic's id may follow, and nothing else
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_commits_are_ours() {
        let ours = committed("scoring", 3, NextOffset(42), None);
        assert_eq!(ours.metadata, "v1 scoring 3 42");
        assert!(is_ours("scoring", &ours));
        assert!(!is_ours("other", &ours));
        let with_id = committed("scoring", 0, NextOffset(42), Some("topic-id"));
        assert!(is_ours("scoring", &with_id));
        assert_eq!((topic_id(&with_id), topic_id(&ours)), (Some("topic-id"), None));
        let leave = replayed("scoring", 3, NextOffset(42));
        assert_eq!(known(Some(leave.clone())), Some(leave.clone()));
        assert_eq!(known(Some(standing_for_none("scoring"))), None);
        assert!(is_ours("scoring", &leave) && is_replay(&leave) && !is_replay(&ours) && !is_replay(&with_id));
        for metadata in ["", "v1 scoring 3 41", "v2 scoring 3 42", "v1 scoring x 42", "v1 scoring 3 42 id more"] {
            assert!(
                !is_ours("scoring", &Committed { next_offset: NextOffset(42), metadata: metadata.into() }),
                "{metadata}"
            );
        }
    }
}
