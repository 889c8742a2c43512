//! The metadata string that goes with every committed offset, so that foreign commits are recognised: `v1 <pipeline>
//! <epoch> <D>`.

use crate::flow::record::NextOffset;
use crate::ports::source::Committed;

/// The committed offset of our own making: `next_offset` with its metadata.
#[must_use]
pub fn committed(pipeline: &str, epoch: i64, next_offset: NextOffset) -> Committed {
    Committed { next_offset, metadata: format!("v1 {pipeline} {epoch} {next_offset}") }
}

/// Whether a committed offset was left by this pipeline: its metadata names the pipeline and repeats the offset.
#[must_use]
pub fn is_ours(pipeline: &str, committed: &Committed) -> bool {
    let mut words = committed.metadata.split(' ');
    words.next() == Some("v1")
        && words.next() == Some(pipeline)
        && words.next().is_some_and(|epoch| epoch.parse::<i64>().is_ok())
        && words.next().and_then(|d| d.parse().ok()) == Some(committed.next_offset.0)
        && words.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_commits_are_ours() {
        let ours = committed("scoring", 3, NextOffset(42));
        assert_eq!(ours.metadata, "v1 scoring 3 42");
        assert!(is_ours("scoring", &ours));
        assert!(!is_ours("other", &ours));
        for metadata in ["", "v1 scoring 3 41", "v2 scoring 3 42", "v1 scoring x 42", "v1 scoring 3 42 more"] {
            assert!(
                !is_ours("scoring", &Committed { next_offset: NextOffset(42), metadata: metadata.into() }),
                "{metadata}"
            );
        }
    }
}
