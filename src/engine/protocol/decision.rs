//! The decision of a takeover: a total function of D, K, P, L, H, metadata and ids (docs/protocol.md#decision-table).
//! Every combination that is not listed halts.

use crate::engine::protocol::metadata::{is_ours, is_replay, may_lie_before, topic_id};
use crate::flow::record::NextOffset;
use crate::ports::rows::Position;
use crate::ports::source::{Bounds, Committed, LogIds};
pub use crate::settings::engine::{DataLossPolicy, StartPolicy};
use std::fmt;

/// The facts of a decision about a step with rows.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The pipeline's name, which is also the group's.
    pub pipeline: &'a str,
    /// The position as claimed: D, P and the ids noted when it was created. `None`: there is none.
    pub position: Option<&'a Position>,
    /// K, read stable and after the claim.
    pub committed: Option<&'a Committed>,
    /// L and H of the source partition.
    pub bounds: Bounds,
    /// The ids that the log reports now.
    pub log_ids: &'a LogIds,
    /// Whether the outbox holds a row from P on. Only asked for where K is missing.
    pub has_outbox_from_published: bool,
    /// The input up to which the stores of this process were made, where they remember one.
    pub remembered: Option<NextOffset>,
    /// Whether an input without an offset was read before all the same: its outputs, or the K of another input, say so.
    pub was_read: bool,
    /// The start of a partition without a past.
    pub start: StartPolicy,
    /// The policy for inputs that were deleted before they were read.
    pub on_data_loss: DataLossPolicy,
}

/// The action for the partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// No past: create the position at `at` and commit K = `at` before the first batch.
    FirstStart {
        /// D and P of the new position.
        at: NextOffset,
    },
    /// K = D: go on.
    Go,
    /// A step without rows: go on at K.
    Resume {
        /// K.
        at: NextOffset,
    },
    /// A step without rows and without a past: commit K = `at` before the first batch.
    Begin {
        /// The first D.
        at: NextOffset,
    },
    /// Died between the two commits: publish the outbox rows of `[from, to)`, ending with K = `to`; then go on.
    Publish {
        /// K.
        from: NextOffset,
        /// D.
        to: NextOffset,
    },
    /// An operator lets the rows catch up with K: go on at D, and publish nothing below `to`.
    Replay {
        /// K.
        to: NextOffset,
    },
    /// Died before the first Kafka commit: commit K = D, then go on.
    CommitPosition,
    /// The offsets expired: look up the rows of `[from, to)` in their topics by id, publish the missing ones, commit K
    /// = D.
    LookUp {
        /// P.
        from: NextOffset,
        /// D.
        to: NextOffset,
    },
    /// Inputs are gone and the policy is to skip: publish everything that was decided and is not published, move D to
    /// the log's start, commit K there.
    SkipGap {
        /// K; `None` where the offsets expired, so that the published messages must be looked up.
        from: Option<NextOffset>,
        /// L.
        to: NextOffset,
    },
    /// A person must decide.
    Halt(HaltReason),
}

/// The reason why a partition halts. The name is the metric's label and the first words of the log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum HaltReason {
    /// The position is missing although the group has a past.
    DatabaseLost,
    /// K > D.
    DatabaseWentBack,
    /// K < P.
    GroupWentBack,
    /// Another program wrote K.
    GroupReset,
    /// The position belongs to another group.
    GroupRenamed,
    /// The topic was deleted and created again.
    TopicRecreated,
    /// This is another cluster.
    ClusterChanged,
    /// D < L: retention or deletion passed unread inputs.
    InputsDeleted,
    /// D > H: the log is shorter than the part of it that was read.
    InputsTruncated,
    /// The database refuses a statement that it accepted at start, or returned a value that cannot be true.
    SchemaChanged,
    /// A decided message can never be published.
    Unpublishable,
    /// The stores, or a topic of re-keyed records, have a past, and the group's offset is gone.
    OffsetsLost,
    /// A source's partition count differs from the one that state or a declaration rests on.
    PartitionCountChanged,
    /// A record lies in another partition than the source's declaration says.
    WronglyKeyed,
    /// A record cannot be read, and its source says that such a record halts its partition.
    Unreadable,
    /// Changelog records that the store needs are gone.
    ChangelogTruncated,
    /// The store was made from another changelog.
    ChangelogRecreated,
    /// A store is empty because it did not exist when inputs were read.
    StoreAdded,
    /// A store holds a value that cannot be true.
    StoreUnreadable,
    /// A store cannot be written.
    StoreUnwritable,
    /// The algorithm asks for a store that its step was not given.
    UnknownStore,
}

impl HaltReason {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::DatabaseLost,
        Self::DatabaseWentBack,
        Self::GroupWentBack,
        Self::GroupReset,
        Self::GroupRenamed,
        Self::TopicRecreated,
        Self::ClusterChanged,
        Self::InputsDeleted,
        Self::InputsTruncated,
        Self::SchemaChanged,
        Self::Unpublishable,
        Self::OffsetsLost,
        Self::PartitionCountChanged,
        Self::WronglyKeyed,
        Self::Unreadable,
        Self::ChangelogTruncated,
        Self::ChangelogRecreated,
        Self::StoreAdded,
        Self::StoreUnreadable,
        Self::StoreUnwritable,
        Self::UnknownStore,
    ];

    /// The stable word for metrics and JSON.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::DatabaseLost => "database-lost",
            Self::DatabaseWentBack => "database-went-back",
            Self::GroupWentBack => "group-went-back",
            Self::GroupReset => "group-reset",
            Self::GroupRenamed => "group-renamed",
            Self::TopicRecreated => "topic-recreated",
            Self::ClusterChanged => "cluster-changed",
            Self::InputsDeleted => "inputs-deleted",
            Self::InputsTruncated => "inputs-truncated",
            Self::SchemaChanged => "schema-changed",
            Self::Unpublishable => "unpublishable",
            Self::OffsetsLost => "offsets-lost",
            Self::PartitionCountChanged => "partition-count-changed",
            Self::WronglyKeyed => "wrongly-keyed",
            Self::Unreadable => "unreadable",
            Self::ChangelogTruncated => "changelog-truncated",
            Self::ChangelogRecreated => "changelog-recreated",
            Self::StoreAdded => "store-added",
            Self::StoreUnreadable => "store-unreadable",
            Self::StoreUnwritable => "store-unwritable",
            Self::UnknownStore => "unknown-store",
        }
    }

    /// The most likely cause.
    #[must_use]
    pub const fn cause(self) -> &'static str {
        match self {
            Self::DatabaseLost => "the database is new or was emptied, while the group has a past",
            Self::DatabaseWentBack => "the database was restored, or failed over to a replica that lagged",
            Self::GroupWentBack => "the cluster or its offsets topic was restored to an older state",
            Self::GroupReset => {
                "somebody reset the consumer group by hand, or another program commits under its group id, which `halted` names \
                 while it is a member"
            }
            Self::GroupRenamed => "the position was written under another group id, by hand or by another release",
            Self::TopicRecreated => "the topic was deleted and created again: its offsets mean other records now",
            Self::ClusterChanged => "the settings name another cluster: its offsets mean other records",
            Self::InputsDeleted => "retention or a deletion passed records that were not read yet",
            Self::InputsTruncated => "the log was cut, for instance by an unclean leader election",
            Self::SchemaChanged => "a table was altered while running",
            Self::Unpublishable => {
                "a topic's settings refuse what was decided: they changed since, or they refuse times or sizes"
            }
            Self::OffsetsLost => {
                "the group's offsets expired or were deleted, while the state made from the inputs is still there"
            }
            Self::PartitionCountChanged => "partitions were added: records of a key now go elsewhere than its state",
            Self::WronglyKeyed => "a producer uses another partitioner or another key than the source declares",
            Self::Unreadable => "a producer writes keys or values of another type than the pipeline reads",
            Self::ChangelogTruncated => "records were deleted from the changelog, or its cleanup.policy is not compact",
            Self::ChangelogRecreated => "the changelog was deleted and created again",
            Self::StoreAdded => "a store was added to, or renamed in, a pipeline with a past",
            Self::StoreUnreadable => "the value was written by a later release, or the disk is damaged",
            Self::StoreUnwritable => "the disk is full or fails",
            Self::UnknownStore => "the topology was changed without the algorithm, or the other way round",
        }
    }
}

impl fmt::Display for HaltReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DatabaseLost => "the database has no position",
            Self::DatabaseWentBack => "database went back",
            Self::GroupWentBack => "committed offset went back",
            Self::GroupReset => "the group was reset",
            Self::GroupRenamed => "the position belongs to another group",
            Self::TopicRecreated => "the topic was re-created",
            Self::ClusterChanged => "another cluster",
            Self::InputsDeleted => "unread inputs were deleted",
            Self::InputsTruncated => "the log is shorter than the position",
            Self::SchemaChanged => "the database refuses a statement",
            Self::Unpublishable => "a decided message cannot be published",
            Self::OffsetsLost => "the committed offset is gone, the state made from the inputs is not",
            Self::PartitionCountChanged => "the partition count changed",
            Self::WronglyKeyed => "a record lies in the wrong partition",
            Self::Unreadable => "a record cannot be read",
            Self::ChangelogTruncated => "changelog records are gone",
            Self::ChangelogRecreated => "the changelog was re-created",
            Self::StoreAdded => "a store lacks the inputs that were read before it existed",
            Self::StoreUnreadable => "a store holds what cannot be true",
            Self::StoreUnwritable => "a store cannot be written",
            Self::UnknownStore => "the algorithm asks for a store that its step was not given",
        })
    }
}

/// The facts of a decision about a step without rows: K is the truth; its stores, if any, remember the input up to
/// which they were made.
#[derive(Clone, Debug)]
pub struct LogFacts<'a> {
    /// The pipeline's name, which is also the group's.
    pub pipeline: &'a str,
    /// K, read stable.
    pub committed: Option<&'a Committed>,
    /// L and H.
    pub bounds: Bounds,
    /// The id that the topic has now.
    pub topic_id: &'a str,
    /// The input up to which the stores of this process were made, where they remember one, or up to which this process
    /// has published.
    pub remembered: Option<NextOffset>,
    /// Whether an input without an offset was read before all the same: its outputs, or the K of another input, say so.
    pub was_read: bool,
    /// Whether there are stores.
    pub is_stateful: bool,
    /// The start of a partition without a past.
    pub start: StartPolicy,
    /// The policy for inputs that were deleted before they were read.
    pub on_data_loss: DataLossPolicy,
}

/// Decides for a step without rows. Pure and total.
#[must_use]
pub fn decide_log(facts: &LogFacts<'_>) -> Decision {
    let Bounds { start, end } = facts.bounds;
    let Some(committed) = facts.committed else {
        if facts.was_read || facts.remembered.is_some_and(|at| at > start) {
            return Decision::Halt(HaltReason::OffsetsLost);
        }
        return Decision::Begin { at: if facts.start == StartPolicy::Latest { end } else { start } };
    };
    let at = committed.next_offset;
    if topic_id(committed).is_some_and(|id| !facts.topic_id.is_empty() && id != facts.topic_id) {
        return Decision::Halt(HaltReason::TopicRecreated);
    }
    // Without state a reset is harmless: the reset tool exists for it. With state it would count records twice or
    // never.
    if facts.is_stateful && !is_ours(facts.pipeline, committed) && facts.remembered != Some(at) {
        return Decision::Halt(HaltReason::GroupReset);
    }
    if at > end {
        return Decision::Halt(HaltReason::InputsTruncated);
    }
    // An offset that a store remembers was committed once.
    let went_back = |seen: NextOffset| seen > at && !may_lie_before(committed, seen);
    if is_ours(facts.pipeline, committed) && facts.remembered.is_some_and(went_back) {
        return Decision::Halt(HaltReason::GroupWentBack);
    }
    match (at < start, facts.on_data_loss) {
        (false, _) => Decision::Resume { at },
        (true, DataLossPolicy::Skip) => Decision::SkipGap { from: Some(at), to: start },
        (true, DataLossPolicy::Halt) => Decision::Halt(HaltReason::InputsDeleted),
    }
}

/// Decides. Pure and total.
#[must_use]
pub fn decide(facts: &Facts<'_>) -> Decision {
    let Bounds { start, end } = facts.bounds;
    let Some(position) = facts.position else {
        return match (facts.committed, facts.start) {
            (Some(_), _) => Decision::Halt(HaltReason::DatabaseLost),
            (None, _) if facts.was_read || facts.remembered.is_some_and(|at| at > start) => {
                Decision::Halt(HaltReason::DatabaseLost)
            }
            (None, StartPolicy::Earliest) => Decision::FirstStart { at: start },
            (None, StartPolicy::Latest) => Decision::FirstStart { at: end },
        };
    };
    let (d, p) = (position.next_offset, position.published);
    // Ids first: if they differ, no number can be compared with another.
    if differs(&position.log_ids.cluster_id, &facts.log_ids.cluster_id) {
        return Decision::Halt(HaltReason::ClusterChanged);
    }
    if differs(&position.log_ids.topic_id, &facts.log_ids.topic_id) {
        return Decision::Halt(HaltReason::TopicRecreated);
    }
    if position.group != facts.pipeline {
        return Decision::Halt(HaltReason::GroupRenamed);
    }
    if d > end {
        return Decision::Halt(HaltReason::InputsTruncated);
    }
    let skips = facts.on_data_loss == DataLossPolicy::Skip;
    match facts.committed {
        // Also where K = D: a foreign commit at D may have jumped over rows of [old K, D) that were never published.
        Some(k) if !is_ours(facts.pipeline, k) => Decision::Halt(HaltReason::GroupReset),
        Some(k) if k.next_offset > d && !is_replay(k) => Decision::Halt(HaltReason::DatabaseWentBack),
        // Stores hold proved values only: they cannot be ahead of D unless D went back. Their state cannot follow it.
        _ if facts.remembered.is_some_and(|at| at > d) => Decision::Halt(HaltReason::DatabaseWentBack),
        Some(k) if k.next_offset > end => Decision::Halt(HaltReason::InputsTruncated),
        Some(k) if k.next_offset < p => Decision::Halt(HaltReason::GroupWentBack),
        Some(k) if k.next_offset <= d && d < start && skips => {
            Decision::SkipGap { from: Some(k.next_offset), to: start }
        }
        None if p <= d && d < start && skips => Decision::SkipGap { from: None, to: start },
        _ if d < start => Decision::Halt(HaltReason::InputsDeleted),
        Some(k) if k.next_offset == d => Decision::Go,
        Some(k) if k.next_offset > d => Decision::Replay { to: k.next_offset },
        Some(k) => Decision::Publish { from: k.next_offset, to: d },
        // A replay was under way, and its mark was lost with K: K = D would publish [D, P) again.
        None if p > d => Decision::Halt(HaltReason::DatabaseWentBack),
        None if facts.has_outbox_from_published => Decision::LookUp { from: p, to: d },
        None => Decision::CommitPosition,
    }
}

/// An id that was never known (an adapter without ids) matches anything.
fn differs(noted: &str, found: &str) -> bool {
    !noted.is_empty() && !found.is_empty() && noted != found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::protocol::metadata::{committed, replayed};
    use proptest::prelude::*;

    fn position(d: i64, p: i64) -> Position {
        Position {
            epoch: 1,
            next_offset: NextOffset(d),
            published: NextOffset(p),
            incarnation: 0,
            group: "g".into(),
            log_ids: LogIds { cluster_id: "c".into(), topic_id: "t".into() },
            partition_count: 8,
        }
    }

    #[expect(clippy::struct_excessive_bools, reason = "one line of the table")]
    struct Case {
        position: Option<Position>,
        committed: Option<Committed>,
        bounds: (i64, i64),
        ids: (&'static str, &'static str),
        outbox: bool,
        remembered: Option<i64>,
        was_read: bool,
        skip: bool,
        latest: bool,
    }

    fn run(case: &Case) -> Decision {
        decide(&Facts {
            pipeline: "g",
            position: case.position.as_ref(),
            committed: case.committed.as_ref(),
            bounds: Bounds { start: NextOffset(case.bounds.0), end: NextOffset(case.bounds.1) },
            log_ids: &LogIds { cluster_id: case.ids.0.into(), topic_id: case.ids.1.into() },
            has_outbox_from_published: case.outbox,
            remembered: case.remembered.map(NextOffset),
            was_read: case.was_read,
            start: if case.latest { StartPolicy::Latest } else { StartPolicy::Earliest },
            on_data_loss: if case.skip { DataLossPolicy::Skip } else { DataLossPolicy::Halt },
        })
    }

    fn base() -> Case {
        Case {
            position: None,
            committed: None,
            bounds: (0, 100),
            ids: ("c", "t"),
            outbox: false,
            remembered: None,
            was_read: false,
            skip: false,
            latest: false,
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "as the facts have it")]
    fn ours(k: i64) -> Option<Committed> {
        Some(committed("g", 1, NextOffset(k), None))
    }

    #[expect(clippy::unnecessary_wraps, reason = "as the facts have it")]
    fn foreign(k: i64) -> Option<Committed> {
        Some(Committed { next_offset: NextOffset(k), metadata: String::new() })
    }

    #[test]
    fn every_line_of_the_table_is_decided_as_written() {
        let halt = Decision::Halt;
        let at = NextOffset;
        let cases = [
            (Case { ..base() }, Decision::FirstStart { at: at(0) }),
            (Case { latest: true, ..base() }, Decision::FirstStart { at: at(100) }),
            (Case { committed: ours(5), ..base() }, halt(HaltReason::DatabaseLost)),
            (Case { position: Some(position(7, 5)), committed: ours(7), ..base() }, Decision::Go),
            (
                Case { position: Some(position(7, 5)), committed: ours(6), ..base() },
                Decision::Publish { from: at(6), to: at(7) },
            ),
            (
                Case { position: Some(position(7, 5)), committed: ours(5), ..base() },
                Decision::Publish { from: at(5), to: at(7) },
            ),
            (Case { position: Some(position(7, 5)), committed: ours(4), ..base() }, halt(HaltReason::GroupWentBack)),
            (Case { position: Some(position(7, 5)), committed: ours(8), ..base() }, halt(HaltReason::DatabaseWentBack)),
            (
                Case { position: Some(position(7, 9)), committed: Some(replayed("g", 1, at(9))), ..base() },
                Decision::Replay { to: at(9) },
            ),
            (Case { position: Some(position(7, 9)), ..base() }, halt(HaltReason::DatabaseWentBack)),
            (
                Case { position: Some(position(7, 9)), committed: Some(replayed("g", 1, at(101))), ..base() },
                halt(HaltReason::InputsTruncated),
            ),
            (Case { position: Some(position(7, 7)), committed: Some(replayed("g", 1, at(7))), ..base() }, Decision::Go),
            (Case { position: Some(position(7, 5)), committed: foreign(6), ..base() }, halt(HaltReason::GroupReset)),
            (Case { position: Some(position(7, 5)), committed: foreign(7), ..base() }, halt(HaltReason::GroupReset)),
            (Case { position: Some(position(7, 7)), ..base() }, Decision::CommitPosition),
            (Case { remembered: Some(5), ..base() }, halt(HaltReason::DatabaseLost)),
            (Case { was_read: true, latest: true, ..base() }, halt(HaltReason::DatabaseLost)),
            (Case { position: Some(position(7, 5)), remembered: Some(7), ..base() }, Decision::CommitPosition),
            (
                Case { position: Some(position(7, 5)), remembered: Some(8), ..base() },
                halt(HaltReason::DatabaseWentBack),
            ),
            (
                Case { position: Some(position(7, 5)), outbox: true, ..base() },
                Decision::LookUp { from: at(5), to: at(7) },
            ),
            (
                Case { position: Some(Position { group: "old".into(), ..position(7, 5) }), outbox: true, ..base() },
                halt(HaltReason::GroupRenamed),
            ),
            (
                Case { position: Some(position(101, 5)), committed: ours(101), ..base() },
                halt(HaltReason::InputsTruncated),
            ),
            (
                Case { position: Some(position(7, 7)), committed: ours(7), bounds: (9, 100), ..base() },
                halt(HaltReason::InputsDeleted),
            ),
            (
                Case { position: Some(position(7, 7)), committed: ours(7), bounds: (9, 100), skip: true, ..base() },
                Decision::SkipGap { from: Some(at(7)), to: at(9) },
            ),
            (
                Case { position: Some(position(7, 5)), committed: ours(6), bounds: (9, 100), skip: true, ..base() },
                Decision::SkipGap { from: Some(at(6)), to: at(9) },
            ),
            (
                Case { position: Some(position(7, 5)), bounds: (9, 100), skip: true, ..base() },
                Decision::SkipGap { from: None, to: at(9) },
            ),
            (
                Case { position: Some(position(7, 8)), bounds: (9, 100), skip: true, ..base() },
                halt(HaltReason::InputsDeleted),
            ),
            (
                Case { position: Some(position(7, 5)), committed: ours(7), ids: ("c", "other"), ..base() },
                halt(HaltReason::TopicRecreated),
            ),
            (
                Case { position: Some(position(7, 5)), committed: ours(7), ids: ("other", "t"), ..base() },
                halt(HaltReason::ClusterChanged),
            ),
        ];
        for (index, (case, expected)) in cases.iter().enumerate() {
            assert_eq!(run(case), *expected, "case {index}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// The laws that make the table safe, over all combinations.
        #[test]
        fn no_combination_skips_or_repeats_a_decided_input(
            d in proptest::option::of(0i64..12), p_back in -3i64..6, k in proptest::option::of(0i64..12), is_ours: bool,
            is_replay: bool,
            start in 0i64..12, length in 0i64..12, same_topic: bool, same_cluster: bool, outbox: bool, skip: bool, latest: bool,
            remembered in proptest::option::of(0i64..12), was_read: bool,
        ) {
            let was_read = was_read && k.is_none(); // a takeover asks only then
            let case = Case {
                position: d.map(|d| position(d, (d - p_back).max(0))),
                committed: k.and_then(|k| match (is_ours, is_replay) {
                    (true, true) => Some(replayed("g", 1, NextOffset(k))),
                    (true, false) => ours(k),
                    (false, _) => foreign(k),
                }),
                bounds: (start, start + length),
                ids: (if same_cluster { "c" } else { "x" }, if same_topic { "t" } else { "x" }),
                outbox, remembered, was_read, skip, latest,
            };
            let decision = run(&case);
            if !matches!(decision, Decision::Halt(_)) {
                prop_assert!(remembered <= Some(d.unwrap_or(start)), "the stores are ahead");
            }
            match decision {
                Decision::FirstStart { at } => {
                    prop_assert!(d.is_none() && k.is_none() && !was_read);
                    prop_assert!(at.0 == start || at.0 == start + length);
                }
                Decision::Go => prop_assert!(d == k && is_ours && same_topic && same_cluster),
                Decision::Publish { from, to } => {
                    prop_assert!(is_ours && same_topic && same_cluster);
                    prop_assert_eq!((Some(from.0), Some(to.0)), (k, d));
                    prop_assert!(from < to && from.0 >= to.0 - p_back);
                }
                Decision::Replay { to } => {
                    prop_assert!(is_ours && is_replay && same_topic && same_cluster);
                    prop_assert!(Some(to.0) == k && k > d && d >= Some(start) && to.0 <= start + length);
                }
                Decision::CommitPosition => prop_assert!(d.is_some() && k.is_none() && !outbox && p_back >= 0),
                Decision::LookUp { to, .. } => prop_assert!(k.is_none() && outbox && Some(to.0) == d),
                Decision::SkipGap { from, to } => {
                    prop_assert!(skip && to.0 == start && d.is_some() && d < Some(start));
                    prop_assert_eq!(from.map(|from| from.0), k);
                    prop_assert!(k.is_none_or(|k| is_ours && Some(k) <= d) && p_back >= 0);
                }
                Decision::Halt(_) => prop_assert!(d.is_some() || k.is_some() || remembered.is_some() || was_read),
                Decision::Resume { .. } | Decision::Begin { .. } => prop_assert!(false, "of steps without rows"),
            }
        }

        /// The same for steps without rows, where K is the truth.
        #[test]
        fn no_combination_lets_a_step_without_rows_skip_or_repeat_what_its_state_has_seen(
            k in proptest::option::of(0i64..12), is_ours: bool, start in 0i64..12, length in 0i64..12, same_topic: bool,
            remembered in proptest::option::of(0i64..12), is_stateful: bool, was_read: bool, skip: bool, latest: bool,
        ) {
            let was_read = was_read && k.is_none(); // a takeover asks only then
            let committed = k.map(|k| {
                let topic_id = if same_topic { "t" } else { "x" };
                let ours = committed("g", 0, NextOffset(k), Some(topic_id));
                if is_ours { ours } else { Committed { metadata: String::new(), ..ours } }
            });
            let remembered = remembered.map(NextOffset);
            let decision = decide_log(&LogFacts {
                pipeline: "g",
                committed: committed.as_ref(),
                bounds: Bounds { start: NextOffset(start), end: NextOffset(start + length) },
                topic_id: "t",
                remembered,
                was_read,
                is_stateful,
                start: if latest { StartPolicy::Latest } else { StartPolicy::Earliest },
                on_data_loss: if skip { DataLossPolicy::Skip } else { DataLossPolicy::Halt },
            });
            match decision {
                Decision::Begin { at } => {
                    prop_assert!(k.is_none() && !was_read && remembered.is_none_or(|seen| seen.0 <= start));
                    prop_assert!(at.0 == start || at.0 == start + length);
                }
                Decision::Resume { at } => {
                    prop_assert!(Some(at.0) == k && start <= at.0 && at.0 <= start + length);
                    prop_assert!(!is_ours || same_topic);
                    prop_assert!(is_ours || !is_stateful || remembered == Some(at));
                    prop_assert!(!is_ours || remembered <= Some(at), "K went back");
                }
                Decision::SkipGap { from, to } => {
                    prop_assert!(skip && to.0 == start && k < Some(start));
                    prop_assert_eq!(from.map(|from| from.0), k);
                }
                Decision::Halt(_) => prop_assert!(k.is_some() || remembered.is_some() || was_read),
                _ => prop_assert!(false, "of steps with rows"),
            }
        }
    }
}
