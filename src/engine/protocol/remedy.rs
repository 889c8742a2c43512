//! The remedies for a halt: commands that can be copied as they stand, or a step by hand where no command helps.
//!
//! Steps by hand come first and commands last, so that the message of a halt ends with a command wherever there is one.

use crate::engine::protocol::decision::HaltReason;
use crate::flow::record::{NextOffset, TopicPartition};
use crate::flow::topology::CommitKind;
use serde::Serialize;
use std::fmt;

/// One way on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// The whole command; `None` where no command can do it.
    pub command: Option<String>,
    /// The effect of the command, or the step by hand.
    pub effect: &'static str,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.command {
            Some(command) => write!(f, "{}: `{command}`", self.effect),
            None => write!(f, "by hand: {}", self.effect),
        }
    }
}

/// The values that the commands are filled in with.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The call of the program, up to the command's name.
    pub program: &'a str,
    /// The source partition.
    pub source: &'a TopicPartition,
    /// The commit of its step.
    pub commit: CommitKind,
    /// Whether its step has stores.
    pub is_stateful: bool,
    /// D.
    pub next_offset: Option<NextOffset>,
    /// K.
    pub committed: Option<NextOffset>,
    /// The offset that the reason is about: the offset of the stores, the log's end, or one past a record that is to
    /// blame.
    pub at: Option<NextOffset>,
}

impl Place<'_> {
    /// `<program> <verb> <source partition> <rest>`.
    fn command(&self, verb: &str, rest: &str, effect: &'static str) -> Choice {
        let Self { program, source, .. } = self;
        let command = format!("{program} {verb} {source} {rest}");
        Choice { command: Some(command.trim_end().into()), effect }
    }

    /// The command of [`Place::command`] with `--to` an offset that is perhaps not known.
    fn to(&self, verb: &str, offset: Option<NextOffset>, rest: &str, effect: &'static str) -> Option<Choice> {
        let offset = offset?;
        Some(self.command(verb, format!("--to {offset} {rest}").trim_end(), effect))
    }
}

const fn by_hand(effect: &'static str) -> Choice {
    Choice { command: None, effect }
}

/// The ways on, never empty.
#[must_use]
pub fn choices(reason: HaltReason, place: &Place<'_>) -> Vec<Choice> {
    let ways = match reason {
        HaltReason::DatabaseLost
        | HaltReason::DatabaseWentBack
        | HaltReason::GroupWentBack
        | HaltReason::GroupReset
        | HaltReason::GroupRenamed
        | HaltReason::TopicRecreated
        | HaltReason::ClusterChanged
        | HaltReason::InputsTruncated
            if place.commit == CommitKind::Rows && place.is_stateful =>
        {
            of_rows_with_stores(reason, place)
        }
        HaltReason::GroupReset if place.commit == CommitKind::Rows => of_reset_rows(place),
        HaltReason::GroupWentBack if place.commit == CommitKind::Log => of_the_rest(reason, place),
        HaltReason::DatabaseLost
        | HaltReason::DatabaseWentBack
        | HaltReason::GroupWentBack
        | HaltReason::GroupRenamed
        | HaltReason::TopicRecreated
        | HaltReason::ClusterChanged
        | HaltReason::InputsDeleted
        | HaltReason::InputsTruncated => of_numbers(reason, place),
        _ => of_the_rest(reason, place),
    };
    ways.into_iter().flatten().collect()
}

/// A step with rows and stores: state cannot go back with its rows, and its changelog records are ordered by a sequence
/// over all inputs of the task, so only a takeover, which has them all, can send the missing ones.
fn of_rows_with_stores(reason: HaltReason, place: &Place<'_>) -> Vec<Option<Choice>> {
    let hand = |effect| Some(by_hand(effect));
    let restore = "restore the database to a state at or after the committed offset, then restart";
    let anew = "begin anew: stop all instances, delete the position and the group's offset of this partition, the changelog topics \
                and state.dir, run `topics apply`, start";
    match reason {
        HaltReason::DatabaseLost => vec![
            hand(restore),
            hand(anew),
            place.committed.map(|_| {
                place.command("adopt", "--from-group", "rows and stores are good: go on at the committed offset")
            }),
        ],
        HaltReason::DatabaseWentBack => vec![
            hand(restore),
            hand(anew),
            place.to(
                "skip",
                place.committed.filter(|k| place.next_offset.is_none_or(|d| *k > d)),
                "",
                "leave the rows as they are; the stores have the committed values",
            ),
        ],
        HaltReason::GroupReset | HaltReason::GroupWentBack => vec![hand(
            "let the database's position decide: stop all instances, kafka-consumer-groups.sh --delete-offsets of this partition, \
             start; the takeover publishes the missing messages",
        )],
        HaltReason::GroupRenamed => vec![hand("start under the old pipeline.name")],
        _ => vec![hand("point the settings at the old log, or restore it"), hand(anew)],
    }
}

/// A step with rows whose group was reset.
fn of_reset_rows(place: &Place<'_>) -> Vec<Option<Choice>> {
    let follow = match (place.committed, place.next_offset) {
        (Some(k), Some(d)) if k < d => place.to(
            "reset",
            Some(k),
            "--emit",
            "go back to where the group was reset: rows change again and messages are published again, under new ids",
        ),
        (Some(k), Some(d)) if k > d => {
            place.to("skip", Some(k), "", "go on where the group was reset: the records before have no effect")
        }
        _ => None,
    };
    let undo = "undo the reset: the database's position decides, and nothing is published twice";
    vec![follow, Some(place.command("adopt", "--from-database", undo))]
}

/// Position, committed offset and log contradict each other.
fn of_numbers(reason: HaltReason, place: &Place<'_>) -> Vec<Option<Choice>> {
    let command = |verb, rest, effect| Some(place.command(verb, rest, effect));
    let hand = |effect| Some(by_hand(effect));
    let adopt_database = |effect| command("adopt", "--from-database", effect);
    let restore = "restore the database to a state at or after the committed offset, then restart";
    match reason {
        HaltReason::DatabaseLost => vec![
            hand(restore),
            command("reset", "--to start --emit", "the rows are new too: begin with the log's first record"),
            command("adopt", "--from-group", "the rows are good: go on at the committed offset"),
        ],
        HaltReason::DatabaseWentBack => vec![
            hand(restore),
            place.to("skip", place.committed, "", "leave the rows as they are"),
            command("replay", "--emit", "recompute the rows and publish again, with the same ids"),
            command("replay", "--suppress-output", "recompute the rows, publish nothing"),
        ],
        HaltReason::GroupRenamed => vec![
            hand("start under the old pipeline.name"),
            adopt_database("the position goes over to this group, and nothing is published twice"),
        ],
        HaltReason::TopicRecreated => vec![command(
            "reset",
            "--to start",
            "begin with the new topic's first record; the rows and stores stay as they are",
        )],
        HaltReason::ClusterChanged => vec![
            hand("point the settings at the old cluster"),
            adopt_database("this cluster is a copy, with each record at its old offset: go on"),
            command("reset", "--to start", "begin with this cluster's first record; the rows stay as they are"),
        ],
        HaltReason::InputsDeleted => {
            vec![command("skip", "--to start", "go on at the log's start; what lay before has no effect")]
        }
        HaltReason::InputsTruncated => vec![
            hand("restore the log"),
            place.to("reset", place.at, "", "go on with the records written behind the log's end; ids there are new"),
        ],
        _ => vec![adopt_database("the database's position decides, and nothing is published twice")],
    }
}

/// K is gone, and the stores made from the inputs are not.
fn of_lost_offsets(place: &Place<'_>) -> Vec<Option<Choice>> {
    if !place.is_stateful {
        return vec![
            Some(place.command(
                "reset",
                "--to start",
                "send the records that are kept on once more: right where the pipeline's own topics were made anew with it; \
                 otherwise the stores behind them count twice",
            )),
            Some(place.command(
                "reset",
                "--to end",
                "nothing counts twice: records written since the offset was lost have no effect",
            )),
        ];
    }
    vec![
        Some(by_hand(
            "begin anew: stop all instances, delete the changelog topics and state.dir, run `topics apply`, start",
        )),
        Some(place.command(
            "reset",
            "--to start",
            "begin with the first record that is kept, on top of the stores' contents: right where the topic was \
                 made anew; otherwise its records count twice",
        )),
        place.at.is_none().then(|| {
            place.command(
                "reset",
                "--to end",
                "nothing counts twice: records written since the offset was lost have no effect",
            )
        }),
        place.to("reset", place.at, "", "go on at the stores' offset"),
    ]
}

/// Stores, records, and resources of others.
fn of_the_rest(reason: HaltReason, place: &Place<'_>) -> Vec<Option<Choice>> {
    let hand = |effect| Some(by_hand(effect));
    let rebuild = |effect| Some(place.command("state rebuild", "", effect));
    match reason {
        HaltReason::GroupReset => vec![
            Some(place.command(
                "adopt",
                "--from-group",
                "go on where the group was reset: the stores count records twice or never",
            )),
            place.to("reset", place.at, "", "undo the reset: go on at the stores' offset"),
        ],
        HaltReason::GroupWentBack => vec![
            place.to(
                "reset",
                place.committed,
                "--emit",
                "go on at the group's offset: the records from there on count twice in stores and are published again",
            ),
            place.to("reset", place.at, "", "go on at the stores' offset, or where this process had come: nothing counts twice"),
        ],
        HaltReason::Unpublishable => {
            vec![hand("let the topic take the messages by the setting that the detail names (`topics apply` sets those that are described), then restart")]
        }
        HaltReason::OffsetsLost => of_lost_offsets(place),
        HaltReason::PartitionCountChanged if place.is_stateful => vec![
            hand("if no record was handled yet: give the topics of the step one count, declare it, start"),
            hand(
                "otherwise a key's state stays where the old count put it, and no count goes back: stop all instances, \
                 declare the new count, run `topics apply` and start under a new pipeline.name, with new tables where there \
                 are rows; it makes the state again from the first record that is kept, and publishes again",
            ),
        ],
        HaltReason::PartitionCountChanged => vec![hand(
            "the step keeps no state that could be left behind: declare the new count and deploy; records in a key's old partition \
             may be handled after those in its new one",
        )],
        HaltReason::WronglyKeyed => vec![
            hand("mend the producer first, or declare the source with OnViolation::Warn or ::Repartition"),
            place.to("skip", place.at, "", "pass over the record: it has no effect"),
        ],
        HaltReason::Unreadable => vec![
            hand("mend the producer first; if the record is right, deploy a release that reads it: the partition goes on by itself"),
            place.to("skip", place.at, "", "pass over the record: it has no effect"),
        ],
        HaltReason::ChangelogTruncated => vec![
            hand(
                "first of all run `topics apply`, which makes cleanup.policy compact again: nothing more is lost then",
            ),
            hand(
                "without loss: start on a state.dir, of another instance or a backup, whose store reaches the changelog's start",
            ),
            hand(
                "where it was cut at its end: the store of this disk has the lost records, which no other instance has: \
                 keep a copy of state.dir first",
            ),
            rebuild(
                "with loss, on the disk of each instance that halts so: go on with the records that the changelog still holds, without \
                 those that were deleted or cut off",
            ),
        ],
        HaltReason::ChangelogRecreated => vec![
            hand("restore the changelog"),
            rebuild("with loss, on this instance's disk: the store gets the contents of the new changelog"),
        ],
        HaltReason::StoreAdded => vec![
            hand("if the store was renamed: give it its old name back, its changelog still holds it"),
            (place.commit == CommitKind::Log).then(|| {
                place.command(
                    "reset",
                    "--to start --emit",
                    "take the records that are kept once more; other stores of the step, and readers of its messages, get them twice",
                )
            }),
            rebuild(
                "on the disk of each instance that halts so: go on with the store as it is, without the records read before",
            ),
        ],
        HaltReason::StoreUnreadable => vec![
            hand("deploy the release that wrote the value, or one that upgrades it"),
            rebuild("on this instance's disk: make the store again from its changelog"),
        ],
        HaltReason::StoreUnwritable => {
            vec![hand("make room on the disk of state.dir, then restart: nothing is lost")]
        }
        HaltReason::UnknownStore => {
            vec![hand(
                "add what the halt names to the step in the topology (`with_store`, `with_timers`, `with_wall_timers`), or deploy \
                 the release before; nothing is lost",
            )]
        }
        _ => vec![hand("undo the change of the table or deploy a release that fits it, then restart")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::{Partition, TopicName};

    fn of(reason: HaltReason, committed: Option<i64>) -> Vec<Choice> {
        let source = TopicPartition::new(TopicName::parse("readings").unwrap(), Partition(3));
        let offset = |n: i64| Some(NextOffset(n));
        let committed = committed.map(NextOffset);
        let place = Place {
            program: "tidegate --config t.yaml",
            source: &source,
            commit: CommitKind::Rows,
            is_stateful: false,
            next_offset: offset(7),
            committed,
            at: offset(9),
        };
        choices(reason, &place)
    }

    /// The reasons that no command can mend: the owner of the table, of the topic or of the disk, the author of the
    /// topology, or a person who moves keyed state between partitions has to act.
    const BY_HAND: [HaltReason; 5] = [
        HaltReason::SchemaChanged,
        HaltReason::Unpublishable,
        HaltReason::PartitionCountChanged,
        HaltReason::StoreUnwritable,
        HaltReason::UnknownStore,
    ];

    #[test]
    fn every_halt_ends_with_a_command_or_says_that_it_is_done_by_hand() {
        for reason in HaltReason::ALL {
            let last = of(reason, Some(5)).pop().unwrap();
            assert_eq!(last.command.is_none(), BY_HAND.contains(&reason), "{reason:?}: {last}");
            assert_eq!(last.to_string().ends_with('`'), last.command.is_some());
        }
    }

    #[test]
    fn nothing_sends_the_rows_of_a_step_with_stores_back() {
        let source = TopicPartition::new(TopicName::parse("readings").unwrap(), Partition(3));
        for reason in HaltReason::ALL {
            let place = Place {
                program: "tidegate",
                source: &source,
                commit: CommitKind::Rows,
                is_stateful: true,
                next_offset: Some(NextOffset(7)),
                committed: Some(NextOffset(12)),
                at: Some(NextOffset(9)),
            };
            let ways = choices(reason, &place);
            assert!(!ways.is_empty(), "{reason:?}");
            for command in ways.iter().filter_map(|choice| choice.command.as_ref()) {
                let goes_back =
                    command.contains("replay") || command.contains("--emit") || command.contains("--from-database");
                assert!(!goes_back, "{reason:?}: {command}");
            }
        }
    }

    #[test]
    fn without_rows_a_group_that_went_back_goes_on_where_it_is_or_where_it_was() {
        let source = TopicPartition::new(TopicName::parse("readings").unwrap(), Partition(3));
        let (committed, at) = (Some(NextOffset(5)), Some(NextOffset(9)));
        let (program, commit, is_stateful, next_offset) = ("tidegate", CommitKind::Log, true, None);
        let place = Place { program, source: &source, commit, is_stateful, next_offset, committed, at };
        let commands: Vec<String> =
            choices(HaltReason::GroupWentBack, &place).into_iter().filter_map(|choice| choice.command).collect();
        assert_eq!(commands, ["tidegate reset readings-3 --to 5 --emit", "tidegate reset readings-3 --to 9"]);
    }

    #[test]
    fn the_commands_are_whole() {
        let commands = |reason, committed| -> Vec<String> {
            of(reason, committed).into_iter().filter_map(|choice| choice.command).collect()
        };
        let expected = [
            "tidegate --config t.yaml skip readings-3 --to 12",
            "tidegate --config t.yaml replay readings-3 --emit",
            "tidegate --config t.yaml replay readings-3 --suppress-output",
        ];
        assert_eq!(commands(HaltReason::DatabaseWentBack, Some(12)), expected);
        assert_eq!(commands(HaltReason::DatabaseWentBack, None), expected[1..]);
        let reset = |k| commands(HaltReason::GroupReset, Some(k)).first().cloned().unwrap();
        assert_eq!(reset(5), "tidegate --config t.yaml reset readings-3 --to 5 --emit");
        assert_eq!(reset(9), "tidegate --config t.yaml skip readings-3 --to 9");
        assert_eq!(reset(7), "tidegate --config t.yaml adopt readings-3 --from-database");
        let rebuild = "tidegate --config t.yaml state rebuild readings-3";
        assert_eq!(commands(HaltReason::StoreUnreadable, None), [rebuild]);
    }

    #[test]
    fn each_halt_is_answered_by_its_own_ways_out() {
        let source = TopicPartition::new(TopicName::parse("readings").unwrap(), Partition(3));
        let first = |reason, is_stateful| {
            let (next_offset, at) = (Some(NextOffset(7)), Some(NextOffset(9)));
            let committed = Some(NextOffset(5));
            let place = Place {
                program: "tidegate",
                source: &source,
                commit: CommitKind::Rows,
                is_stateful,
                next_offset,
                committed,
                at,
            };
            choices(reason, &place).first().unwrap().to_string()
        };
        let told = [
            (HaltReason::GroupReset, true, "let the database's position decide"),
            (HaltReason::GroupWentBack, true, "let the database's position decide"),
            (HaltReason::GroupRenamed, true, "start under the old pipeline.name"),
            (HaltReason::GroupRenamed, false, "start under the old pipeline.name"),
            (HaltReason::TopicRecreated, false, "begin with the new topic's first record"),
            (HaltReason::ClusterChanged, false, "point the settings at the old cluster"),
            (HaltReason::InputsDeleted, false, "go on at the log's start"),
            (HaltReason::InputsTruncated, false, "restore the log"),
            (HaltReason::Unpublishable, false, "let the topic take the messages"),
            (HaltReason::WronglyKeyed, false, "mend the producer first"),
            (HaltReason::Unreadable, false, "deploy a release that reads it"),
            (HaltReason::SchemaChanged, false, "undo the change of the table"),
        ];
        for (reason, is_stateful, words) in told {
            let told = first(reason, is_stateful);
            assert!(told.contains(words), "{reason:?}: {told}");
        }
    }
}
