//! What the log of a running service says now and then: when all of its partitions run, and which dead letters there are. Looked at
//! by the main thread, so that neither costs the pipeline anything.

use crate::engine::status::{LettersOfCode, State, Status, TaskStatus};
use crate::flow::record::TopicName;
use crate::ports::source::TaskId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The pause after the first line about dead letters of one code. Each further one doubles it, up to the longest; a code that was
/// quiet for a whole pause begins again.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// See the module.
pub(super) struct Watch {
    status: Arc<Status>,
    standing: Option<Standing>,
    letters: BTreeMap<(TopicName, String), Telling>,
}

impl Watch {
    pub(super) const fn new(status: Arc<Status>) -> Self {
        Self { status, standing: None, letters: BTreeMap::new() }
    }

    /// Writes the lines that are due.
    pub(super) fn look(&mut self, now: Duration) {
        self.tell_standing();
        self.tell_letters(|telling, count| telling.due(count, now));
    }

    /// Writes what has not been told yet: the process ends.
    pub(super) fn end(&mut self) {
        self.tell_letters(Telling::rest);
    }

    fn tell_standing(&mut self) {
        let Some(standing) = Standing::of(&self.status.tasks()) else { return };
        if self.standing.as_ref() == Some(&standing) || (self.standing.is_none() && standing.is_idle()) {
            return;
        }
        let partitions = standing.names();
        match (standing.running.len(), standing.halted.len()) {
            (0, 0) => tracing::info!("this instance has no partition now"),
            (running, 0) => tracing::info!(partitions, "all {running} partitions of this instance run"),
            (0, halted) => tracing::error!(
                partitions,
                "all {halted} partitions of this instance are halted; `halted` prints what repairs them"
            ),
            (running, halted) => {
                let all = running + halted;
                let (running, halted) = (named(&standing.running), named(&standing.halted));
                tracing::warn!(
                    running,
                    halted,
                    "of the {all} partitions of this instance some are halted; the others run"
                );
            }
        }
        self.standing = Some(standing);
    }

    fn tell_letters(&mut self, mut due: impl FnMut(&mut Telling, u64) -> Option<u64>) {
        for ((topic, code), of) in self.status.letters.by_code() {
            let telling = self.letters.entry((topic.clone(), code.clone())).or_default();
            let Some(new) = due(telling, of.count) else { continue };
            let LettersOfCode { count, source, offset, message } = of;
            tracing::warn!(
                source = %topic, code, new, count, latest = %source, offset = offset.0, cause = message,
                "records became dead letters, in {topic}-dlt; the stream goes on"
            );
        }
    }
}

/// When the dead letters of one code were told, and how many.
#[derive(Debug)]
struct Telling {
    told: u64,
    next: Duration,
    pause: Duration,
}

impl Default for Telling {
    fn default() -> Self {
        Self { told: 0, next: Duration::ZERO, pause: FIRST_PAUSE }
    }
}

impl Telling {
    /// The number of new ones, where it is to be told now.
    fn due(&mut self, count: u64, now: Duration) -> Option<u64> {
        if count == self.told || now < self.next {
            return None;
        }
        if now >= self.next + self.pause {
            self.pause = FIRST_PAUSE; // quiet for long
        }
        self.next = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.rest(count)
    }

    /// The number of new ones, if any.
    fn rest(&mut self, count: u64) -> Option<u64> {
        let new = count.checked_sub(self.told).filter(|new| *new > 0)?;
        self.told = count;
        Some(new)
    }
}

/// The partitions of the lead topics that run and that are halted, once there are no others.
#[derive(Debug, Default, PartialEq, Eq)]
struct Standing {
    running: BTreeSet<(String, i32)>,
    halted: BTreeSet<(String, i32)>,
}

impl Standing {
    /// `None` while some partition is neither running nor halted.
    fn of(tasks: &BTreeMap<TaskId, TaskStatus>) -> Option<Self> {
        let mut standing = Self::default();
        for (id, task) in tasks {
            let source = task.inputs.first().map_or("", |(source, ..)| source.as_str());
            let topic = source.rsplit_once('-').map_or(source, |(topic, _)| topic);
            let place = (topic.to_owned(), id.partition.0);
            match (&task.halt, task.state) {
                (Some(_), _) => standing.halted.insert(place),
                (None, State::Running) => standing.running.insert(place),
                _ => return None,
            };
        }
        Some(standing)
    }

    fn is_idle(&self) -> bool {
        self.running.is_empty() && self.halted.is_empty()
    }

    fn names(&self) -> String {
        named(&self.running.union(&self.halted).cloned().collect())
    }
}

/// `readings 0-3 7, corrections 0`: the numbers of each topic, those in a row by the first and the last of them.
fn named(places: &BTreeSet<(String, i32)>) -> String {
    let mut topics: BTreeMap<&str, Vec<(i32, i32)>> = BTreeMap::new();
    for (topic, number) in places {
        let rows = topics.entry(topic).or_default();
        match rows.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => rows.push((*number, *number)),
        }
    }
    let row = |(first, last): &(i32, i32)| if first == last { format!("{first}") } else { format!("{first}-{last}") };
    let topic = |(topic, rows): (&str, Vec<(i32, i32)>)| {
        format!("{topic} {}", rows.iter().map(row).collect::<Vec<_>>().join(" "))
    };
    topics.into_iter().map(topic).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letters_are_told_at_the_first_then_after_pauses_that_double() {
        let mut telling = Telling::default();
        let mut at = |seconds, count| telling.due(count, Duration::from_secs(seconds));
        assert_eq!(at(0, 1), Some(1), "the first at once");
        assert_eq!([at(1, 500), at(9, 900)], [None, None]);
        assert_eq!(at(10, 1_000), Some(999));
        assert_eq!([at(20, 2_000), at(29, 3_000), at(30, 4_000)], [None, None, Some(3_000)]);
        assert_eq!([at(69, 5_000), at(70, 6_000)], [None, Some(2_000)]);
        assert_eq!(at(1_000, 6_000), None, "nothing new");
        assert_eq!(at(1_001, 6_001), Some(1), "at once after a long silence");
        assert_eq!([at(1_010, 6_002), at(1_011, 6_002)], [None, Some(1)], "and the pauses begin again");
        assert_eq!([telling.rest(6_010), telling.rest(6_010)], [Some(8), None]);
    }

    #[test]
    fn a_day_of_dead_letters_a_thousand_a_second_makes_some_thirty_lines() {
        let mut telling = Telling::default();
        let lines = (0..86_400_u64).filter_map(|second| telling.due((second + 1) * 1_000, Duration::from_secs(second)));
        assert!((25..40).contains(&lines.count()));
    }

    #[test]
    fn partitions_are_named_in_rows() {
        let place = |topic: &str, number| (topic.to_owned(), number);
        let places = [0, 1, 2, 3, 7].map(|number| place("readings", number)).into_iter().chain([place("events", 4)]);
        assert_eq!(named(&places.collect()), "events 4, readings 0-3 7");
        assert_eq!(named(&BTreeSet::new()), "");
    }

    #[test]
    fn partitions_stand_once_each_of_them_runs_or_is_halted() {
        use crate::flow::record::Partition;
        let id = |number| TaskId { sub_topology: 0, partition: Partition(number) };
        let task = |number: i32, state| {
            let inputs = vec![(format!("readings-{number}"), 0, 0), (format!("corrections-{number}"), 0, 0)];
            (id(number), TaskStatus { state, inputs, halt: None })
        };
        let mut tasks: BTreeMap<_, _> = [task(0, State::Running), task(1, State::Claiming)].into();
        assert_eq!(Standing::of(&tasks), None);
        tasks.extend([task(1, State::Running)]);
        let standing = Standing::of(&tasks).unwrap();
        assert_eq!((standing.names().as_str(), standing.is_idle()), ("readings 0-1", false));
        assert!(Standing::of(&BTreeMap::new()).unwrap().is_idle());
    }
}
