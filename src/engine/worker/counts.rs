//! The watch over the partition counts of the sources.

use crate::engine::protocol::decision::HaltReason;
use crate::engine::task::State;
use crate::engine::worker::desk::{Act, Desk};
use crate::engine::worker::wiring::Wiring;
use crate::flow::record::TopicName;
use crate::flow::topology::SubTopology;
use crate::ports::obstacle::{ObstacleKind, Reason};
use crate::ports::source::TaskId;
use std::collections::BTreeMap;
use std::time::Duration;

/// The finder of obstacles that the watch is.
const WATCH: &str = "counts";

/// The watch, which asks for partition counts from time to time.
#[derive(Default)]
pub(crate) struct CountWatch {
    looked_at: Duration,
    /// Companions with more partitions than their lead topics, each with the count that was warned of.
    warned: BTreeMap<TopicName, i32>,
}

impl CountWatch {
    /// Asks for the partition counts of the sources from time to time. With state or a declaration a change halts the
    /// task: a key's records go elsewhere, and its state does not (docs/traps.md#more-partitions). Without, a companion
    /// that has more partitions than its lead topic is warned of.
    pub(crate) fn look(&mut self, desk: &mut Desk) {
        let now = desk.wiring.clock.elapsed();
        if now.saturating_sub(self.looked_at) < desk.wiring.settings.count_check {
            return;
        }
        self.looked_at = now;
        look_for_sources(desk);
        let watched: Vec<(TaskId, Vec<(TopicName, i32)>)> = desk
            .tasks
            .values()
            .filter(|task| task.state() == State::Running && rests_on_counts(&task.sub_topology))
            .map(|task| (task.id, task.sub_topology.sources().cloned().zip(task.counts.iter().copied()).collect()))
            .collect();
        // A log that does not answer is seen elsewhere, and is not asked again for each task.
        let mut found: BTreeMap<TopicName, Option<i32>> = BTreeMap::new();
        for (id, sources) in watched {
            for (number, (topic, was)) in sources.into_iter().enumerate() {
                let ask = || desk.wiring.group.partition_count(&topic, desk.wiring.settings.ask_wait).ok().flatten();
                let Some(is) = *found.entry(topic.clone()).or_insert_with(ask) else { continue };
                if is != was {
                    desk.acts.push_back(Act::HandOverLog);
                    let message = format!("{topic} was {was} partitions, now {is}");
                    if let Some(halt) = desk.halt_of(id, number, HaltReason::PartitionCountChanged, message) {
                        desk.halt(id, halt);
                    }
                    break;
                }
            }
        }
        self.look_at_companions(desk);
    }

    /// Warns, once for each count, of a companion that has more partitions than its lead topic, whose partition numbers
    /// are the ones that are assigned.
    fn look_at_companions(&mut self, desk: &Desk) {
        let Wiring { group, settings, .. } = &desk.wiring;
        let count = |topic: &TopicName| group.partition_count(topic, settings.ask_wait).ok().flatten();
        let tasks = desk.tasks.values().filter(|task| task.state() == State::Running);
        let subs: BTreeMap<usize, &SubTopology> = tasks
            .filter(|task| !task.sub_topology.companions.is_empty() && !rests_on_counts(&task.sub_topology))
            .map(|task| (task.id.sub_topology, &task.sub_topology))
            .collect();
        for sub in subs.into_values() {
            let Some(lead) = count(&sub.lead) else { continue };
            for companion in &sub.companions {
                let Some(found) = count(companion).filter(|found| *found > lead) else { continue };
                if self.warned.insert(companion.clone(), found) != Some(found) {
                    tracing::warn!("{}", unread(&sub.lead, lead, companion, found));
                }
            }
        }
    }
}

/// Tells of source topics that are gone: the group takes their partitions away without a word.
fn look_for_sources(desk: &Desk) {
    let Wiring { topology, group, settings, status, .. } = &desk.wiring;
    let mut gone = Vec::new();
    for topic in topology.sources() {
        match group.partition_count(&topic, settings.ask_wait) {
            Ok(Some(_)) => {}
            Ok(None) => gone.push((format!("topic {topic}"), source_gone(&topic))),
            Err(_) => return, // seen elsewhere, and not asked again for each topic
        }
    }
    status.obstacles.report(ObstacleKind::SourceGone, WATCH, gone);
}

fn source_gone(topic: &TopicName) -> Reason {
    Reason::new(
        format!("the brokers know no topic {topic}: it was deleted"),
        "make it anew (`topics apply` creates what is described, empty), or take it out of the pipeline; `halted` then prints \
         where its partitions can go on",
    )
}

/// Whether a changed partition count matters for more than the set of partitions that is read.
fn rests_on_counts(sub: &SubTopology) -> bool {
    sub.is_stateful() || sub.declared.is_some()
}

fn unread(lead: &TopicName, count: i32, companion: &TopicName, found: i32) -> String {
    let last = found - 1;
    format!(
        "{companion} has {found} partitions, and {lead}, with which it is read, {count}: what lies in its partitions {count} to \
         {last} is read by nobody; give both topics one count, then restart"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_reads_of_a_companion_is_told_with_its_numbers() {
        let name = |topic| TopicName::parse(topic).unwrap();
        let told = unread(&name("readings"), 12, &name("corrections"), 24);
        assert!(told.starts_with("corrections has 24 partitions, and readings"), "{told}");
        assert!(told.contains("partitions 12 to 23 is read by nobody"), "{told}");
    }
}
