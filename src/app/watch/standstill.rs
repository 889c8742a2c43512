//! Partitions that have something to take and do not move, and sources of which nothing can be used.

use crate::app::watch::standing::named;
use crate::engine::status::{LettersOfCode, State, Stream, TaskStatus};
use crate::flow::record::TopicName;
use crate::ports::obstacle::Reason;
use crate::ports::source::TaskId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The time after which something that does not move is told: with the time that it takes to be seen, half a minute.
pub(super) const STANDS: Duration = Duration::from_secs(20);

/// The fewest dead letters in a row that make a rejected source, and the least time for which nothing else came.
const REJECTED: u64 = 10;
const REJECTED_FOR: Duration = Duration::from_secs(10);

/// What may stand still: an input that waits for a known cause, or a task as a whole.
type Place = (TaskId, Option<usize>);

/// The tasks and inputs with something to do, as they last moved.
#[derive(Debug, Default)]
pub(super) struct Standstill {
    seen: BTreeMap<Place, Seen>,
}

#[derive(Debug, PartialEq)]
struct Seen {
    /// D and K.
    offsets: Vec<(i64, i64)>,
    state: State,
    since: Duration,
}

impl Standstill {
    /// The partitions that stand still now, those with one cause together. `lagging` are the tasks with records to take, and
    /// `waits` what is known of causes, by source partition.
    pub(super) fn look(
        &mut self,
        tasks: &BTreeMap<TaskId, TaskStatus>,
        waits: &BTreeMap<String, Reason>,
        lagging: &BTreeSet<TaskId>,
        now: Duration,
    ) -> Vec<(String, Reason)> {
        let mut seen = BTreeMap::new();
        let mut standing: BTreeMap<Reason, BTreeSet<(String, i32)>> = BTreeMap::new();
        for (id, task) in tasks.iter().filter(|(_, task)| task.halt.is_none()) {
            for (number, reason) in candidates(*id, task, waits, lagging) {
                let is_it = |other: usize| number.is_none_or(|number| number == other);
                let inputs = task.inputs.iter().enumerate().filter(|(other, _)| is_it(*other));
                let offsets = inputs.map(|(_, (_, next, committed))| (*next, *committed)).collect();
                let before = self.seen.get(&(*id, number)).filter(|before| before.state == task.state);
                let before = before.filter(|before| before.offsets == offsets);
                let since = before.map_or(now, |before| before.since);
                if now.saturating_sub(since) >= STANDS
                    && let Some((source, ..)) = task.inputs.get(number.unwrap_or(0))
                {
                    standing.entry(reason).or_default().insert(place_of(source, *id));
                }
                seen.insert((*id, number), Seen { offsets, state: task.state, since });
            }
        }
        self.seen = seen;
        standing.into_iter().map(|(reason, places)| (named(&places), reason)).collect()
    }
}

/// The inputs of a task that wait for a known cause, or the task where it has something to do and none is known.
fn candidates(
    id: TaskId,
    task: &TaskStatus,
    waits: &BTreeMap<String, Reason>,
    lagging: &BTreeSet<TaskId>,
) -> Vec<(Option<usize>, Reason)> {
    let wait = |(number, (source, ..)): (usize, &(String, i64, i64))| Some((Some(number), waits.get(source)?.clone()));
    let known: Vec<_> = task.inputs.iter().enumerate().filter_map(wait).collect();
    let has_work = match task.state {
        State::Running => lagging.contains(&id),
        State::Restoring | State::CatchingUp => false, // long by nature
        _ => true,
    };
    if known.is_empty() && has_work { vec![(None, unknown(task.state))] } else { known }
}

fn place_of(source: &str, id: TaskId) -> (String, i32) {
    let topic = source.rsplit_once('-').map_or(source, |(topic, _)| topic);
    (topic.to_owned(), id.partition.0)
}

/// The reason of a standstill of which no step has told a cause.
fn unknown(state: State) -> Reason {
    match state {
        State::Running => Reason::new(
            "records wait in front of them, and no step has told of a failure: the pipeline's own code or a statement has not \
             come back",
            "look for the record in hand and a long statement (pg_stat_activity); a stack of the process names the code",
        ),
        state => Reason::new(
            format!("their takeover does not come further than: {}", state.label()),
            "`halted` asks database and group; `kafka-consumer-groups.sh --describe --state` tells how the group is",
        ),
    }
}

/// The sources as something of them was last used.
#[derive(Debug, Default)]
pub(super) struct Rejected {
    seen: BTreeMap<TopicName, (Stream, Duration)>,
}

impl Rejected {
    /// The sources of which everything has become a dead letter for a while.
    /// `letters`: the dead letters by source and code.
    pub(super) fn look(
        &mut self,
        streams: &BTreeMap<TopicName, Stream>,
        letters: &BTreeMap<(TopicName, String), LettersOfCode>,
        now: Duration,
    ) -> Vec<(String, Reason)> {
        let mut found = Vec::new();
        for (topic, stream) in streams {
            let (before, since) = self.seen.entry(topic.clone()).or_insert((Stream::default(), now));
            if before.used != stream.used {
                (*before, *since) = (*stream, now);
            }
            if stream.rejected - before.rejected >= REJECTED && now.saturating_sub(*since) >= REJECTED_FOR {
                let cause = "no record of it could be used since it was last looked at or since the start";
                let of_topic = letters.iter().filter(|((of, _), _)| of == topic);
                let code = of_topic.max_by_key(|(_, of)| of.count).map_or("", |((_, code), _)| code.as_str());
                let next = next_of_rejected(topic, code);
                found.push((topic.to_string(), Reason::new(cause, next)));
            }
        }
        found
    }
}

/// The next step where every record of a topic becomes a dead letter, most of them with `code`.
fn next_of_rejected(topic: &TopicName, code: &str) -> String {
    let mend = match code {
        "too-large" => "raise the limit that its message names",
        _ => "mend the sender or the algorithm",
    };
    format!(
        "read one with its cause (`kafka-console-consumer.sh … --topic {topic}-dlt --from-beginning --max-messages 1 --property \
         print.headers=true`), and {mend}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::Partition;

    fn id(number: i32) -> TaskId {
        TaskId { sub_topology: 0, partition: Partition(number) }
    }

    fn task(number: i32, state: State, places: [i64; 2]) -> (TaskId, TaskStatus) {
        let input = |topic: &str, place| (format!("{topic}-{number}"), place, 0);
        let inputs = vec![input("readings", places[0]), input("corrections", places[1])];
        (id(number), TaskStatus { state, inputs, halt: None })
    }

    /// The tasks at a second, with the causes and the lagging tasks.
    type Moment = (u64, Vec<(TaskId, TaskStatus)>, Vec<(&'static str, &'static str)>, Vec<i32>);

    fn told(moments: Vec<Moment>) -> Vec<Vec<String>> {
        let mut standstill = Standstill::default();
        let look = |(second, tasks, waits, lagging): Moment| {
            let waits = waits.into_iter().map(|(source, cause)| (source.to_owned(), Reason::new(cause, "mend")));
            let lagging = lagging.into_iter().map(id).collect();
            let tasks = tasks.into_iter().collect();
            let found = standstill.look(&tasks, &waits.collect(), &lagging, Duration::from_secs(second));
            found.into_iter().map(|(about, reason)| format!("{about}: {}", reason.cause)).collect()
        };
        moments.into_iter().map(look).collect()
    }

    #[test]
    fn a_partition_with_records_that_does_not_move_is_told_after_twenty_seconds_with_its_cause() {
        let at =
            |second, place| (second, vec![task(0, State::Running, [place, 0])], vec![("readings-0", "a lock")], vec![]);
        let found = told(vec![at(0, 5), at(19, 5), at(20, 5), at(21, 6), at(40, 6), at(41, 6)]);
        let lock = vec!["readings 0: a lock".to_owned()];
        assert_eq!(found, [vec![], vec![], lock.clone(), vec![], vec![], lock]);
    }

    #[test]
    fn partitions_with_one_cause_are_told_together() {
        let waits = || vec![("readings-0", "a lock"), ("readings-1", "a lock"), ("corrections-2", "another")];
        let tasks = || (0..3).map(|number| task(number, State::Running, [1, 1])).collect::<Vec<_>>();
        let found = told(vec![(0, tasks(), waits(), vec![]), (30, tasks(), waits(), vec![])]);
        assert_eq!(found[1], ["readings 0-1: a lock", "corrections 2: another"]);
    }

    #[test]
    fn records_that_wait_without_a_known_cause_are_told_and_an_idle_partition_is_not() {
        let at = |second, lagging| (second, vec![task(0, State::Running, [5, 5])], vec![], lagging);
        let found = told(vec![at(0, vec![]), at(30, vec![]), at(31, vec![0]), at(49, vec![0]), at(51, vec![0])]);
        assert!(found[..4].iter().all(Vec::is_empty), "{found:?}");
        assert!(found[4][0].starts_with("readings 0: records wait in front of them"), "{found:?}");
    }

    #[test]
    fn a_task_of_which_one_input_moves_does_not_stand_still() {
        let at = |second, other| (second, vec![task(0, State::Running, [5, other])], vec![], vec![0]);
        let found = told(vec![at(0, 1), at(10, 2), at(20, 3), at(30, 4)]);
        assert!(found.iter().all(Vec::is_empty), "{found:?}");
    }

    #[test]
    fn a_takeover_that_comes_no_further_is_told_and_a_long_restore_is_not() {
        let at = |second, state| (second, vec![task(0, state, [5, 5])], vec![], vec![]);
        let found = told(vec![at(0, State::Claiming), at(20, State::Claiming)]);
        assert!(found[1][0].ends_with("does not come further than: claiming"), "{found:?}");
        assert!(told(vec![at(0, State::Restoring), at(60, State::Restoring)])[1].is_empty());
    }

    #[test]
    fn what_is_next_for_a_rejected_source_is_a_command_and_the_limit_where_its_records_are_too_large() {
        let of = |code| next_of_rejected(&TopicName::parse("readings").unwrap(), code);
        assert!(of("bad-json").contains("--topic readings-dlt") && of("bad-json").contains("print.headers=true"));
        assert!(of("bad-json").ends_with("mend the sender or the algorithm"));
        assert!(of("too-large").ends_with("raise the limit that its message names"));
        assert!(!of("too-large").contains("  "));
    }

    #[test]
    fn a_source_all_of_whose_records_are_rejected_is_told_until_one_is_used() {
        let mut rejected = Rejected::default();
        let mut at = |second, used, letters| {
            let streams = [(TopicName::parse("readings").unwrap(), Stream { used, rejected: letters })].into();
            rejected.look(&streams, &BTreeMap::new(), Duration::from_secs(second)).len()
        };
        assert_eq!([at(0, 0, 5), at(5, 0, 500), at(10, 0, 600), at(11, 1, 700)], [0, 0, 1, 0]);
        assert_eq!(
            [at(15, 1, 709), at(30, 1, 709), at(31, 1, 710), at(32, 2, 2_000), at(50, 3, 3_000)],
            [0, 0, 1, 0, 0]
        );
    }
}
