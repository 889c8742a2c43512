//! Disasters in a simulation: what they do to the world, and which sub-topologies are judged no further afterwards.

use super::simulation::{Disaster, Simulation};
use crate::flow::record::{NextOffset, Partition, TopicName, TopicPartition};
use crate::flow::topology::{StepKind, SubTopology};
use crate::ports::source::Committed;
use std::collections::BTreeSet;
use std::time::Duration;

/// Longer than a session and a transaction last in a simulation.
const LAPSE: Duration = Duration::from_secs(10);

impl Simulation {
    /// Does it, and notes whom it strikes.
    pub(super) fn strike(&mut self, disaster: &Disaster) {
        let group = self.topology.name().to_owned();
        match disaster {
            Disaster::Backup => self.back_up(),
            Disaster::Restored => {
                if self.restore_backup() {
                    self.struck_where(|sub| sub.table().is_some());
                }
            }
            Disaster::GroupBegunAgain => {
                self.kill_all();
                let offsets = self.offsets(&group);
                self.driver.log().delete_group(&group);
                for (place, committed) in offsets {
                    // Nothing is journalled in a simulation.
                    drop(self.driver.log().set_committed(&group, &place, Some(committed)));
                }
            }
            Disaster::GroupDeleted => {
                self.kill_all();
                self.driver.log().delete_group(&group);
                self.forget_stores(|_| true);
                // Without a position in a database there is nothing that tells a first start from a lost offset but state.
                self.struck_where(|sub| matches!(sub.step, StepKind::Log(_)));
            }
            Disaster::OffsetLost(topic, partition) => {
                let place = self.place(topic, *partition);
                drop(self.driver.log().set_committed(&group, &place, None));
                self.forget_stores(|sub| reads(sub, &place.topic));
                self.struck_where(|sub| reads(sub, &place.topic) && matches!(sub.step, StepKind::Log(_)));
            }
            Disaster::OffsetReset(topic, partition, to) => {
                let place = self.place(topic, *partition);
                let committed = Committed { next_offset: NextOffset(*to), metadata: String::new() };
                drop(self.driver.log().set_committed(&group, &place, Some(committed)));
                self.struck_where(|sub| reads(sub, &place.topic));
            }
            Disaster::InputsDeleted(topic, partition, records) => {
                let place = self.place(topic, *partition);
                let start = self.driver.log().bounds(&place).map_or(0, |bounds| bounds.start.0);
                self.driver.log().truncate_before(&place, NextOffset(start + records));
                self.struck_where(|sub| reads(sub, &place.topic));
            }
            Disaster::Recreated(topic) => {
                self.kill_all();
                let name = self.place(topic, 0).topic;
                self.driver.log().delete_topic(&name);
                self.create(&name);
                self.struck_where(|sub| reads(sub, &name));
            }
            Disaster::ChangelogLost(nth) => {
                let stores = self.topology.sub_topologies().iter().flat_map(|sub| &sub.stores);
                let found = stores.filter_map(|store| self.topology.changelog_topic(store)).nth(*nth);
                let Some(name) = found else { return };
                self.kill_all();
                self.driver.log().delete_topic(&name);
                self.create(&name);
                let topology = self.topology.clone();
                let is_of = |sub: &SubTopology| {
                    sub.stores.iter().any(|store| topology.changelog_topic(store).as_ref() == Some(&name))
                };
                self.struck_where(is_of);
            }
        }
    }

    /// Kills every instance, for longer than the group remembers them.
    fn kill_all(&mut self) {
        for instance in 0..self.driver.instance_count() {
            self.driver.kill(instance);
        }
        self.driver.pass(LAPSE);
    }

    fn place(&self, topic: &str, partition: i32) -> TopicPartition {
        let topic = TopicName::parse(topic).unwrap_or_else(|error| panic!("{error}"));
        TopicPartition::new(topic, Partition(partition.rem_euclid(self.shape.partitions)))
    }

    fn create(&mut self, topic: &TopicName) {
        if let Err(fault) = self.driver.log().create_topic(topic.as_str(), self.shape.partitions) {
            panic!("{fault}");
        }
    }

    fn offsets(&mut self, group: &str) -> Vec<(TopicPartition, Committed)> {
        let topology = self.topology.clone();
        let topics = topology.sub_topologies().iter().flat_map(SubTopology::sources);
        let places = topics
            .flat_map(|topic| (0..self.shape.partitions).map(|n| TopicPartition::new(topic.clone(), Partition(n))));
        let places: Vec<TopicPartition> = places.collect();
        let found = |place: TopicPartition| Some((place.clone(), self.driver.log().committed(group, &place)?));
        places.into_iter().filter_map(found).collect()
    }

    /// The group remembers nothing of the stores of these steps with rows any more.
    fn forget_stores(&mut self, is_meant: impl Fn(&SubTopology) -> bool) {
        let subs = self.topology.sub_topologies().iter().enumerate();
        let stateful = subs.filter(|(_, sub)| sub.table().is_some() && sub.is_stateful() && is_meant(sub));
        self.forgotten.extend(stateful.map(|(number, _)| number));
    }

    /// These sub-topologies are judged no further, nor is whatever reads what they write or shares a table with them.
    fn struck_where(&mut self, is_struck: impl Fn(&SubTopology) -> bool) {
        let subs = self.topology.sub_topologies();
        self.struck.extend(subs.iter().enumerate().filter(|(_, sub)| is_struck(sub)).map(|(number, _)| number));
        loop {
            let struck: Vec<&SubTopology> = self.struck.iter().filter_map(|number| subs.get(*number)).collect();
            let written: BTreeSet<&TopicName> = struck.iter().filter_map(|sub| sub.destination.as_ref()).collect();
            let tables: BTreeSet<&str> = struck.iter().filter_map(|sub| Some(&*sub.table()?.table.name)).collect();
            let follows = |sub: &SubTopology| {
                sub.sources().any(|topic| written.contains(topic))
                    || sub.table().is_some_and(|spec| tables.contains(&*spec.table.name))
            };
            let more: Vec<usize> =
                subs.iter().enumerate().filter(|(_, sub)| follows(sub)).map(|(number, _)| number).collect();
            let before = self.struck.len();
            self.struck.extend(more);
            if self.struck.len() == before {
                return;
            }
        }
    }
}

fn reads(sub: &SubTopology, topic: &TopicName) -> bool {
    sub.sources().any(|source| source == topic)
}
