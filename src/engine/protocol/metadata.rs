//! The metadata string of every committed offset, by which foreign commits are recognised: `v1 <pipeline> <epoch> <D>`,
//! followed by the marks that K alone remembers: `<topic id> n=<partitions> i=<inputs> c=<stores>`.
//!
//! The topic's id is given for a step without rows, whose topic no database remembers; otherwise the word is `-`. `n`
//! is the topic's partition count when K began here. For a step with stores, `i` lists the task's inputs, where there
//! are several, and `c` its stores, each as the hash of its name and its topic's or changelog's id: if one of them lost
//! its offset or its changelog, or is new, the others prove it. `c=*` is an operator's word that the stores are
//! accepted as they are. `u` is the furthest offset that an input had reached when an operator set it back, or `*`
//! where nobody knows it: until K has passed it again, a disk may remember more than K. Without this mark such a disk
//! proves that K went back.
//!
//! `v1 <pipeline> <epoch> <K> replay` is an operator's leave to let the rows catch up with K and publish nothing
//! meanwhile: the one case in which K may lie beyond D. The next K that a relay commits lacks the word, so the leave
//! ends by itself. `v1 <pipeline> 0 0 none` proves a membership where there is no K, and means none.

use crate::flow::key::murmur2;
use crate::flow::record::NextOffset;
use crate::ports::guard::{self, Guard};
use crate::ports::source::Committed;

/// The fifth word of an operator's leave; no topic's id is spelt so.
const REPLAY: &str = "replay";
/// The fifth word of an offset that stands for none.
const NONE: &str = "none";

/// The word in place of the id of a topic that a database remembers.
const ELSEWHERE: &str = "-";
/// The word in place of stores: any stores are accepted.
const ANY: &str = "*";

/// The committed offset that Tidegate writes: `next_offset` with its metadata, which ends with `marks`.
#[must_use]
pub fn committed(pipeline: &str, epoch: i64, next_offset: NextOffset, marks: Option<&str>) -> Committed {
    let mut metadata = format!("v1 {pipeline} {epoch} {next_offset}");
    if let Some(marks) = marks.filter(|marks| !marks.is_empty()) {
        metadata.push(' ');
        metadata.push_str(marks);
    }
    Committed { next_offset, metadata }
}

/// The marks that K remembers beside D.
#[derive(Clone, Copy, Debug, Default)]
pub struct Marks<'a> {
    /// The topic's id, where no database remembers it.
    pub topic_id: Option<&'a str>,
    /// The topic's partition count when K began here.
    pub partition_count: i32,
    /// The inputs of the task, each with its topic's id; empty where there are no stores.
    pub inputs: &'a [(String, String)],
    /// The stores, each with its changelog's id.
    pub stores: &'a [(String, String)],
    /// The furthest offset of the input when an operator set it back.
    pub set_back: Option<SetBack>,
}

/// The furthest offset that an input had reached when an operator set it back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SetBack {
    /// At most this offset.
    From(NextOffset),
    /// Nobody knows.
    FromAnywhere,
}

impl SetBack {
    /// Whether the mark still matters once K is `at`.
    fn is_beyond(self, at: NextOffset) -> bool {
        self > Self::From(at)
    }

    fn spell(self) -> String {
        match self {
            Self::From(at) => format!(" u={at}"),
            Self::FromAnywhere => format!(" u={ANY}"),
        }
    }
}

impl Marks<'_> {
    /// The marks in the form that [`committed`] takes.
    #[must_use]
    pub fn spell(&self) -> String {
        let mut text = begin(self.topic_id, self.partition_count);
        let several = self.inputs.get(1..).is_some_and(|more| !more.is_empty());
        for (word, list) in [("i", if several { self.inputs } else { &[] }), ("c", self.stores)] {
            if !list.is_empty() {
                let entries: Vec<String> = list.iter().map(|(name, id)| format!("{}:{id}", hash(name))).collect();
                text = format!("{text} {word}={}", entries.join(","));
            }
        }
        text + &self.set_back.map_or_else(String::new, SetBack::spell)
    }
}

fn begin(topic_id: Option<&str>, partition_count: i32) -> String {
    let topic_id = topic_id.filter(|id| !id.is_empty()).unwrap_or(ELSEWHERE);
    format!("{topic_id} n={partition_count}")
}

fn hash(name: &str) -> String {
    format!("{:08x}", murmur2(name.as_bytes()))
}

/// The marks of an operator who has decided the offset: the stores, if any, are accepted as they are.
#[must_use]
pub fn accepted(topic_id: Option<&str>, partition_count: i32, set_back: Option<SetBack>) -> String {
    format!("{} c={ANY}{}", begin(topic_id, partition_count), set_back.map_or_else(String::new, SetBack::spell))
}

/// Whether an operator has accepted the stores as they are.
#[must_use]
pub fn accepts_stores(committed: &Committed) -> bool {
    mark(committed, "c=") == Some(ANY)
}

/// The furthest offset that the input had reached when an operator set it back; `None` where K has passed it since.
#[must_use]
pub fn set_back(committed: &Committed) -> Option<SetBack> {
    let from = match mark(committed, "u=")? {
        ANY => SetBack::FromAnywhere,
        from => SetBack::From(NextOffset(from.parse().ok()?)),
    };
    from.is_beyond(committed.next_offset).then_some(from)
}

/// Whether K may lie before `seen`, an offset that is known to have been committed: an operator set the input back.
#[must_use]
pub fn may_lie_before(committed: &Committed, seen: NextOffset) -> bool {
    accepts_stores(committed) || set_back(committed) >= Some(SetBack::From(seen))
}

/// The answer of a committed offset about a store or an input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listed {
    /// It is the same.
    Same,
    /// Another one had that name.
    Other,
    /// It was not there.
    Not,
}

fn listed(committed: &Committed, word: &str, name: &str, id: &str) -> Listed {
    let Some(list) = mark(committed, word) else { return Listed::Not };
    let found = list.split(',').find_map(|entry| entry.strip_prefix(&hash(name))?.strip_prefix(':'));
    match found {
        _ if list == ANY => Listed::Same,
        // An id that was never known matches any.
        Some(found) if found == id || found.is_empty() || id.is_empty() => Listed::Same,
        Some(_) => Listed::Other,
        None => Listed::Not,
    }
}

/// Whether K was made with the store `name`, kept in the changelog with the id `id`.
#[must_use]
pub fn lists_store(committed: &Committed, name: &str, id: &str) -> Listed {
    listed(committed, "c=", name, id)
}

/// Whether the task of K had the topic `name` with the id `id` for an input.
#[must_use]
pub fn lists_input(committed: &Committed, name: &str, id: &str) -> Listed {
    listed(committed, "i=", name, id)
}

/// The topic's partition count when K began here.
#[must_use]
pub fn partition_count(committed: &Committed) -> Option<i32> {
    mark(committed, "n=")?.parse().ok()
}

fn mark<'a>(committed: &'a Committed, word: &str) -> Option<&'a str> {
    committed.metadata.split(' ').skip(5).find_map(|mark| mark.strip_prefix(word))
}

/// The marks behind D.
#[must_use]
pub fn marks(committed: &Committed) -> &str {
    committed.metadata.splitn(5, ' ').nth(4).unwrap_or_default()
}

/// The committed offset that lets the rows catch up with it, and says that everything below it was published.
#[must_use]
pub fn replayed(pipeline: &str, epoch: i64, next_offset: NextOffset) -> Committed {
    committed(pipeline, epoch, next_offset, Some(REPLAY))
}

/// Whether a committed offset may lie beyond the position.
#[must_use]
pub fn is_replay(committed: &Committed) -> bool {
    topic_id(committed) == Some(REPLAY)
}

/// The offset that is committed where there is no K and a transaction must prove a membership: it means that there is
/// none.
#[must_use]
pub fn standing_for_none(pipeline: &str) -> Committed {
    committed(pipeline, 0, NextOffset(0), Some(NONE))
}

/// K, unless it only stands for none.
#[must_use]
pub fn known(committed: Option<Committed>) -> Option<Committed> {
    committed.filter(|committed| topic_id(committed) != Some(NONE))
}

/// The topic's id in a committed offset of Tidegate's, where it carries one.
#[must_use]
pub fn topic_id(committed: &Committed) -> Option<&str> {
    committed.metadata.split(' ').nth(4).filter(|id| *id != ELSEWHERE)
}

/// Whether this pipeline wrote a committed offset: its metadata names the pipeline and repeats the offset.
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
        && words.skip(1).all(|mark| mark.contains('=')) // a topic's id may follow, and marks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_committed_offset_says_what_it_was_made_with() {
        let list = |names: &[(&str, &str)]| -> Vec<(String, String)> {
            names.iter().map(|(name, id)| ((*name).to_owned(), (*id).to_owned())).collect()
        };
        let (inputs, stores) = (list(&[("clicks", "a"), ("views", "b")]), list(&[("seen", "x"), ("sums", "y")]));
        let set_back_from = Some(SetBack::From(NextOffset(9)));
        let marks_of = Marks {
            topic_id: Some("a"),
            partition_count: 12,
            inputs: &inputs,
            stores: &stores,
            set_back: set_back_from,
        };
        let k = committed("p", 0, NextOffset(7), Some(&marks_of.spell()));
        assert!(is_ours("p", &k), "{}", k.metadata);
        assert_eq!((topic_id(&k), partition_count(&k), marks(&k)), (Some("a"), Some(12), marks_of.spell().as_str()));
        assert_eq!(["x", "z"].map(|id| lists_store(&k, "seen", id)), [Listed::Same, Listed::Other]);
        assert_eq!(lists_store(&k, "kept", "x"), Listed::Not);
        assert_eq!((lists_input(&k, "views", "b"), lists_input(&k, "more", "b")), (Listed::Same, Listed::Not));
        assert_eq!(set_back(&k), set_back_from);
        assert_eq!([9, 10].map(|seen| may_lie_before(&k, NextOffset(seen))), [true, false]);
        let k = committed("p", 0, NextOffset(9), Some(&marks_of.spell()));
        assert_eq!((set_back(&k), may_lie_before(&k, NextOffset(10))), (None, false), "it has passed that");
        let anywhere = Some(SetBack::FromAnywhere);
        let k = committed("p", 0, NextOffset(7), Some(&Marks { set_back: anywhere, ..marks_of }.spell()));
        assert!(is_ours("p", &k) && set_back(&k) == anywhere && may_lie_before(&k, NextOffset(99)), "{}", k.metadata);
        let k = committed("p", 3, NextOffset(7), Some(&accepted(None, 4, None)));
        assert!(accepts_stores(&k) && may_lie_before(&k, NextOffset(99)));
        assert!(is_ours("p", &k), "{}", k.metadata);
        assert_eq!((topic_id(&k), partition_count(&k), lists_store(&k, "any", "id")), (None, Some(4), Listed::Same));
        let k = committed("p", 3, NextOffset(7), None);
        assert_eq!((partition_count(&k), lists_store(&k, "any", "id"), marks(&k)), (None, Listed::Not, ""));
    }

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
