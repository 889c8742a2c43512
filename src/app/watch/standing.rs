//! The partitions of this instance that run and that are halted.

use crate::engine::status::{State, TaskStatus};
use crate::ports::source::TaskId;
use std::collections::{BTreeMap, BTreeSet};

/// The partitions of the lead topics that run and that are halted, once there are no others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) running: BTreeSet<(String, i32)>,
    pub(super) halted: BTreeSet<(String, i32)>,
    /// Those that are halted, by the reason.
    causes: BTreeMap<&'static str, BTreeSet<(String, i32)>>,
}

impl Standing {
    /// `None` while some partition is neither running nor halted.
    pub(super) fn of(tasks: &BTreeMap<TaskId, TaskStatus>) -> Option<Self> {
        let mut standing = Self::default();
        for (id, task) in tasks {
            let source = task.inputs.first().map_or("", |(source, ..)| source.as_str());
            let topic = source.rsplit_once('-').map_or(source, |(topic, _)| topic);
            let place = (topic.to_owned(), id.partition.0);
            match (&task.halt, task.state) {
                (Some(halt), _) => {
                    standing.causes.entry(halt.reason.label()).or_default().insert(place.clone());
                    standing.halted.insert(place)
                }
                (None, State::Running) => standing.running.insert(place),
                _ => return None,
            };
        }
        Some(standing)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.halted.is_empty()
    }

    /// `schema-changed: readings 0-3; wrongly-keyed: readings 7`.
    pub(super) fn causes(&self) -> String {
        let cause = |(reason, places): (&&str, &BTreeSet<(String, i32)>)| format!("{reason}: {}", named(places));
        self.causes.iter().map(cause).collect::<Vec<_>>().join("; ")
    }

    pub(super) fn names(&self) -> String {
        named(&self.running.union(&self.halted).cloned().collect())
    }
}

/// `readings 0-3 7, corrections 0`: the numbers of each topic, those in a row by the first and the last of them.
pub(crate) fn named(places: &BTreeSet<(String, i32)>) -> String {
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
    fn partitions_are_named_in_rows() {
        let place = |topic: &str, number| (topic.to_owned(), number);
        let places = [0, 1, 2, 3, 7].map(|number| place("readings", number)).into_iter().chain([place("events", 4)]);
        assert_eq!(named(&places.collect()), "events 4, readings 0-3 7");
        assert_eq!(named(&BTreeSet::new()), "");
    }

    #[test]
    fn partitions_stand_once_each_of_them_runs_or_is_halted() {
        use crate::engine::protocol::decision::HaltReason;
        use crate::engine::status::Halt;
        use crate::flow::record::{Partition, TopicName, TopicPartition};
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
        let halted = |number: i32, reason| {
            let source = TopicPartition::new(TopicName::derived("readings"), Partition(number));
            let halt =
                Halt { source, reason, next_offset: None, committed: None, detail: String::new(), choices: vec![] };
            let (id, status) = task(number, State::Halted);
            (id, TaskStatus { halt: Some(halt), ..status })
        };
        let schema = [1, 2, 3].map(|number| halted(number, HaltReason::SchemaChanged));
        tasks.extend(schema.into_iter().chain([halted(7, HaltReason::WronglyKeyed)]));
        let standing = Standing::of(&tasks).unwrap();
        assert_eq!(standing.causes(), "schema-changed: readings 1-3; wrongly-keyed: readings 7");
        assert!(Standing::of(&BTreeMap::new()).unwrap().is_idle());
    }
}
