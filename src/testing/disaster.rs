//! Disasters in a simulation: their effects on the world, and the sub-topologies that are judged no further afterwards.

use super::simulation::{Disaster, Simulation};
use crate::engine::protocol::decision::{DataLossPolicy, HaltReason};
use crate::flow::record::{NextOffset, Partition, TopicName, TopicPartition};
use crate::flow::topology::{StepKind, SubTopology, Topology};
use crate::ports::source::Committed;
use crate::ports::store::{Checkpoint, StoreId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Longer than a session and a transaction last in a simulation.
const LAPSE: Duration = Duration::from_secs(10);

impl Simulation {
    /// Carries out the disaster, and notes the sub-topologies it strikes. `is_living`: no instance dies of it.
    pub(super) fn strike(&mut self, disaster: &Disaster, is_living: bool) {
        if !is_living && is_deadly(disaster) {
            self.kill_all();
        }
        let before = self.standing_of_tasks();
        self.carry_out(disaster);
        if *disaster == Disaster::Backup {
            return;
        }
        // One disaster may undo the traces of another one, or take them away.
        let is_first = !std::mem::replace(&mut self.had_disaster, true);
        self.must_halt.clear();
        if is_first && self.is_nobody_there() {
            self.must_halt = self.must_halt(disaster, &before);
        }
    }

    fn carry_out(&mut self, disaster: &Disaster) {
        let group = self.topology.name().to_owned();
        match disaster {
            Disaster::Backup => self.back_up(),
            Disaster::Restored => {
                if self.restore_backup() {
                    self.struck_where(|sub| sub.table().is_some());
                }
            }
            Disaster::GroupBegunAgain => {
                let offsets = self.offsets(&group);
                self.driver.log().delete_group(&group);
                for (place, committed) in offsets {
                    // Nothing is journalled in a simulation.
                    drop(self.driver.log().set_committed(&group, &place, Some(committed)));
                }
            }
            Disaster::GroupDeleted => {
                self.driver.log().delete_group(&group);
                self.forget_stores(|_| true);
                // Without a position in a database only state distinguishes a first start from a lost offset.
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
                let name = self.place(topic, 0).topic;
                self.driver.log().delete_topic(&name);
                self.create(&name);
                self.struck_where(|sub| reads(sub, &name));
            }
            Disaster::ChangelogLost(nth) => {
                let stores = self.topology.sub_topologies().iter().flat_map(|sub| &sub.stores);
                let found = stores.filter_map(|store| self.topology.changelog_topic(store)).nth(*nth);
                let Some(name) = found else { return };
                self.driver.log().delete_topic(&name);
                self.create(&name);
                let topology = self.topology.clone();
                let is_of = |sub: &SubTopology| {
                    sub.stores.iter().any(|store| topology.changelog_topic(store).as_ref() == Some(&name))
                };
                self.struck_where(is_of);
            }
            Disaster::OffsetBack(topic, partition) => self.set_back(&group, &self.place(topic, *partition)),
            Disaster::ChangelogCut(nth, partition, offsets) => self.cut_changelog(*nth, *partition, *offsets),
        }
    }

    fn is_nobody_there(&mut self) -> bool {
        let is_any_up = (0..self.driver.instance_count()).any(|instance| self.driver.is_up(instance));
        !is_any_up && self.driver.log().open_transactions() == 0
    }

    /// Every task, with its evidence.
    fn standing_of_tasks(&mut self) -> BTreeMap<(usize, i32), Standing> {
        let (topology, mut out) = (self.topology.clone(), BTreeMap::new());
        for (number, sub) in topology.sub_topologies().iter().enumerate() {
            let made = sub.sent_on_to().first().cloned();
            let written: Vec<TopicName> =
                sub.stores.iter().filter_map(|store| topology.changelog_topic(store)).chain(made).collect();
            for partition in 0..self.shape.partitions {
                let log = self.driver.log();
                let committed = sub.sources().map(|topic| {
                    let place = TopicPartition::new(topic.clone(), Partition(partition));
                    let k = log.committed(topology.name(), &place).map(|found| found.next_offset);
                    (place, k)
                });
                let end = |topic: &TopicName| {
                    log.bounds(&TopicPartition::new(topic.clone(), Partition(partition))).map(|bounds| bounds.end)
                };
                let has_written = written.iter().filter_map(end).any(|end| end > NextOffset(0));
                out.insert((number, partition), Standing { committed: committed.collect(), has_written });
            }
        }
        out
    }

    /// The tasks that must stand still, since the next takeover sees the disaster in any case.
    fn must_halt(&mut self, disaster: &Disaster, before: &BTreeMap<(usize, i32), Standing>) -> BTreeSet<(usize, i32)> {
        let (topology, group) = (self.topology.clone(), self.topology.name().to_owned());
        let mut out = BTreeSet::new();
        for ((number, partition), standing) in before {
            let Some(sub) = topology.sub_topologies().get(*number) else { continue };
            let is_here = |topic: &str, at: i32| {
                at.rem_euclid(self.shape.partitions) == *partition && sub.sources().any(|found| found.as_str() == topic)
            };
            let has_rows = sub.table().is_some();
            let is_to_halt = match disaster {
                // The effects of the records are there, and K is not; or the K of another input says that it was read.
                Disaster::OffsetLost(topic, at) if is_here(topic, *at) && !has_rows && sub.is_stateful() => {
                    let name = TopicName::parse(topic).ok();
                    let others = standing.committed.iter().filter(|(place, _)| Some(&place.topic) != name.as_ref());
                    let is_any_left = others.clone().any(|(_, k)| k.is_some());
                    standing.has_taken(name.as_ref()) && (is_any_left || standing.has_written)
                }
                Disaster::GroupDeleted => !has_rows && standing.has_taken(None) && standing.has_written,
                // A position beside an offset that another program has committed.
                Disaster::OffsetReset(topic, at, _) => has_rows && is_here(topic, *at) && standing.has_taken(None),
                Disaster::Recreated(topic) => {
                    let name = TopicName::parse(topic).ok();
                    has_rows && is_here(topic, *partition) && standing.has_taken(name.as_ref())
                }
                Disaster::ChangelogLost(nth) => {
                    let lost = topology.sub_topologies().iter().flat_map(|sub| &sub.stores).nth(*nth);
                    standing.has_taken(None) && lost.is_some_and(|lost| sub.stores.contains(lost))
                }
                Disaster::Restored => {
                    let mut places = standing.committed.iter();
                    has_rows
                        && places.any(|(place, k)| {
                            let d = self.driver.database().position(&group, place).map(|found| found.next_offset);
                            *k > d
                        })
                }
                Disaster::InputsDeleted(topic, at, _) if is_here(topic, *at) => {
                    self.shape.settings.on_data_loss == DataLossPolicy::Halt
                        && standing.committed.iter().any(|(place, k)| {
                            let start = self.driver.log().bounds(place).map(|bounds| bounds.start);
                            let d = self.driver.database().position(&group, place).map(|found| found.next_offset);
                            place.topic.as_str() == topic
                                && if has_rows { d } else { *k }.is_some_and(|at| Some(at) < start)
                        })
                }
                _ => false,
            };
            if is_to_halt {
                out.insert((*number, *partition));
            }
        }
        out
    }

    fn set_back(&mut self, group: &str, place: &TopicPartition) {
        self.driver.pass(LAPSE);
        let Some(k) = self.driver.log().committed(group, place) else { return };
        let at = k.next_offset.0 - 1;
        if at < self.driver.log().bounds(place).map_or(0, |bounds| bounds.start.0) {
            return;
        }
        let words: Vec<String> = k.metadata.splitn(5, ' ').map(str::to_owned).collect();
        let [version, pipeline, epoch, _, rest @ ..] = &words[..] else { return };
        let metadata = [version, pipeline, epoch, &at.to_string()].into_iter().chain(rest).cloned().collect::<Vec<_>>();
        let earlier = Committed { next_offset: NextOffset(at), metadata: metadata.join(" ") };
        drop(self.driver.log().set_committed(group, place, Some(earlier)));
        self.struck_where(|sub| reads(sub, &place.topic));
        let topology = self.topology.clone();
        let of_it = topology.sub_topologies().iter().filter(|sub| reads(sub, &place.topic) && sub.table().is_none());
        let is_proof = |checkpoint: &Checkpoint| {
            checkpoint.inputs.iter().any(|(source, seen)| source == place && seen.is_some_and(|seen| seen.0 > at))
        };
        if of_it.flat_map(|sub| &sub.stores).any(|spec| self.only_disk_has(&spec.name, place.partition, &is_proof)) {
            self.expect_halt(|sub| reads(sub, &place.topic), place.partition);
        }
    }

    fn cut_changelog(&mut self, nth: usize, partition: i32, offsets: i64) {
        self.driver.pass(LAPSE);
        let topology = self.topology.clone();
        let stores = topology.sub_topologies().iter().flat_map(|sub| sub.stores.iter().map(move |spec| (sub, spec)));
        let found = stores.filter_map(|(sub, spec)| Some((sub, spec, topology.changelog_topic(spec)?))).nth(nth);
        let Some((sub, spec, topic)) = found else { return };
        let place = self.place(topic.as_str(), partition);
        let Some(bounds) = self.driver.log().bounds(&place) else { return };
        let end = NextOffset((bounds.end.0 - offsets).max(bounds.start.0));
        self.driver.log().truncate_from(&place, end);
        self.struck_where(|other| {
            other.stores.iter().any(|store| topology.changelog_topic(store).as_ref() == Some(&topic))
        });
        if self.only_disk_has(&spec.name, place.partition, &|checkpoint| checkpoint.next_offset > end) {
            self.expect_halt(|other| other.lead == sub.lead, place.partition);
        }
    }

    /// These tasks have to stand still while the one disk is there.
    fn expect_halt(&mut self, is_meant: impl Fn(&SubTopology) -> bool, partition: Partition) {
        let subs = self.topology.sub_topologies().iter().enumerate().filter(|(_, sub)| is_meant(sub));
        self.expected_halts.extend(subs.map(|(number, _)| (number, partition.0)));
    }

    /// Whether there is one instance alone, and its disk has such a checkpoint of a store.
    fn only_disk_has(&mut self, store: &Arc<str>, partition: Partition, is_such: &dyn Fn(&Checkpoint) -> bool) -> bool {
        let id = StoreId { name: Arc::clone(store), partition };
        self.driver.instance_count() == 1 && self.driver.disk(0).checkpoint(&id).as_ref().is_some_and(is_such)
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

    /// A step that is halted because its group forgot its stores is judged no further: its decided and unpublished
    /// messages wait for a person.
    pub(super) fn forgive_forgotten(&mut self) {
        let standing = self.driver.standing().into_iter();
        let halted: BTreeSet<TopicName> =
            standing.filter(|halt| halt.reason == HaltReason::StoreAdded).map(|halt| halt.source.topic).collect();
        let subs = self.topology.sub_topologies();
        let forgotten = self.forgotten.iter().filter_map(|number| subs.get(*number)).flat_map(SubTopology::sources);
        let forgotten: BTreeSet<TopicName> = forgotten.filter(|topic| halted.contains(*topic)).cloned().collect();
        if !forgotten.is_empty() {
            self.struck_where(|sub| sub.sources().any(|topic| forgotten.contains(topic)));
        }
    }

    /// These sub-topologies are judged no further, nor are those that read their output or share a table with them.
    fn struck_where(&mut self, is_struck: impl Fn(&SubTopology) -> bool) {
        let subs = self.topology.sub_topologies();
        self.struck.extend(subs.iter().enumerate().filter(|(_, sub)| is_struck(sub)).map(|(number, _)| number));
        loop {
            let struck: Vec<&SubTopology> = self.struck.iter().filter_map(|number| subs.get(*number)).collect();
            let announced = struck.iter().flat_map(|sub| sub.destinations.clone());
            let dead_letters = struck.iter().flat_map(|sub| sub.sources()).map(Topology::dead_letter_topic);
            let written: BTreeSet<TopicName> = announced.chain(dead_letters).collect();
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

/// Whether it cannot be done while anybody is up, or is seen by nobody who is.
const fn is_deadly(disaster: &Disaster) -> bool {
    use Disaster::{ChangelogLost, GroupBegunAgain, GroupDeleted, Recreated};
    matches!(disaster, GroupDeleted | GroupBegunAgain | Recreated(_) | ChangelogLost(_))
}

/// A task's evidence of the records that it took.
struct Standing {
    /// K of each input.
    committed: Vec<(TopicPartition, Option<NextOffset>)>,
    /// Whether anything was written into its changelogs, or into the topic that it sends its records on to.
    has_written: bool,
}

impl Standing {
    /// Whether a record of the topic was taken; of any, where none is given.
    fn has_taken(&self, topic: Option<&TopicName>) -> bool {
        let mut found = self.committed.iter().filter(|(place, _)| topic.is_none_or(|topic| place.topic == *topic));
        found.any(|(_, k)| k.is_some_and(|k| k > NextOffset(0)))
    }
}

fn reads(sub: &SubTopology, topic: &TopicName) -> bool {
    sub.sources().any(|source| source == topic)
}
