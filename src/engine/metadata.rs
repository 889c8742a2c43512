//! The metadata string that goes with every committed offset, so that foreign commits are recognised: `v1 <pipeline>
//! <epoch> <D>`, and of a step without rows, whose topic's id no database remembers, `v1 <pipeline> 0 <D> <topic id>`.

use crate::flow::record::NextOffset;
use crate::ports::source::Committed;

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

/// The topic's id in a committed offset of our own making, where it carries one.
#[must_use]
pub fn topic_id(committed: &Committed) -> Option<&str> {
    committed.metadata.split(' ').nth(4)
}

/// Whether a committed offset was left by this pipeline: its metadata names the pipeline and repeats the offset.
#[must_use]
pub fn is_ours(pipeline: &str, committed: &Committed) -> bool {
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
        for metadata in ["", "v1 scoring 3 41", "v2 scoring 3 42", "v1 scoring x 42", "v1 scoring 3 42 id more"] {
            assert!(
                !is_ours("scoring", &Committed { next_offset: NextOffset(42), metadata: metadata.into() }),
                "{metadata}"
            );
        }
    }
}
