//! The outcome of a run, by which two runs are compared; and its stores, held against their changelogs.

use crate::engine::status::State;
use crate::flow::record::{Partition, TopicName};
use crate::flow::table::TableSpec;
use crate::flow::timer::LAST_TURN;
use crate::ports::history::Found;
use crate::ports::rows::RowRead;
use crate::ports::source::TaskId;
use crate::ports::store::StoreId;
use crate::testing::driver::plan::Plan;
use crate::testing::driver::world::{Instance, World};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Rows by table, messages by topic: the things by which two runs are compared. Offsets are left out, since aborted
/// attempts and transaction markers take some.
type Outcome = (Vec<(String, Vec<RowRead>)>, Vec<(TopicName, Vec<Message>)>);
/// Partition, key, value and id of a message.
type Message = (i32, Option<Vec<u8>>, Option<Vec<u8>>, Option<String>);

impl World {
    /// Stops every instance; then each store on each disk holds the result of a replay of its changelog up to its
    /// checkpoint, and the instance that ran its task until then has written all of it.
    pub(super) fn leave_and_check_stores(&mut self, plan: &Plan, when: &str) {
        let up =
            self.instances.iter().enumerate().filter(|(_, instance)| instance.member.is_some() && !instance.is_frozen);
        let running: BTreeSet<(usize, TaskId)> = up
            .flat_map(|(number, instance)| instance.status.tasks().into_iter().map(move |task| (number, task)))
            .filter(|(_, (_, status))| status.state == State::Running)
            .map(|(number, (task, _))| (number, task))
            .collect();
        for member in self.instances.iter_mut().filter_map(|instance| instance.member.take()) {
            if let Err(fault) = member.close() {
                panic!("{when}: an instance did not stop: {fault}");
            }
        }
        let subs = plan.topology.sub_topologies().iter().enumerate();
        let stores = subs.flat_map(|(number, sub)| sub.stores.iter().map(move |store| (number, store)));
        let changelog = |(sub, store)| Some((sub, store, plan.topology.changelog_topic(store)?));
        for (sub_topology, store, topic) in stores.filter_map(changelog) {
            let records = self.log.read(&topic);
            let ids = (0..plan.partitions)
                .map(|number| StoreId { name: Arc::clone(&store.name), partition: Partition(number) });
            let places = ids.flat_map(|id| self.instances.iter().enumerate().map(move |on| (id.clone(), on)));
            for (id, (number, Instance { stores: disk, .. })) in places {
                let checkpoint = disk.checkpoint(&id);
                let task = TaskId { sub_topology, partition: id.partition };
                let is_written = |found: &Found| checkpoint.as_ref().is_some_and(|at| found.offset < at.next_offset.0);
                assert!(
                    !running.contains(&(number, task))
                        || records.iter().filter(|found| found.partition == id.partition.0).all(is_written),
                    "{when}: store {id} is not written to the end of its changelog: {checkpoint:?}"
                );
                let Some(checkpoint) = checkpoint else { continue };
                let is_known =
                    |found: &&Found| found.partition == id.partition.0 && found.offset < checkpoint.next_offset.0;
                let mut replayed = BTreeMap::new();
                for found in records.iter().filter(is_known) {
                    let key = found.key.clone().unwrap_or_default();
                    match &found.value {
                        Some(value) => replayed.insert(key, value.clone()),
                        None => replayed.remove(&key),
                    };
                }
                let kept: BTreeMap<_, _> = disk.contents(&id).into_iter().collect();
                assert!(
                    kept == replayed,
                    "{when}: store {id} is not as its changelog at {}:\n  store     {kept:?}\n  changelog {replayed:?}",
                    checkpoint.next_offset
                );
            }
        }
    }

    pub(super) fn outcome(&self, plan: &Plan) -> Outcome {
        let table = |spec: TableSpec| (spec.table.name.clone(), self.database.all(&spec.table));
        let message = |found: &Found| {
            (found.partition, found.key.clone(), found.value.clone(), found.header("tg_id").map(str::to_owned))
        };
        // Order is promised per source partition; how those interleave may differ from run to run. Behind a topic that the
        // pipeline writes itself even offsets, and with them ids, depend on where transactions ended.
        let written = plan.topology.outputs();
        let origin = |message: &Message| {
            let id = message.3.as_deref().unwrap_or_default();
            let source = id.rsplitn(3, '/').nth(2).map(str::to_owned);
            let topic = id.split('/').nth(1).and_then(|topic| TopicName::parse(topic).ok());
            source.filter(|_| topic.is_some_and(|topic| !written.contains(&topic)))
        };
        let changelogs = plan.topology.changelogs();
        let stores = plan.topology.sub_topologies().iter().flat_map(|sub| &sub.stores);
        let of_timers: BTreeSet<TopicName> = stores
            .filter(|store| store.timers.is_some())
            .filter_map(|store| plan.topology.changelog_topic(store))
            .collect();
        let topic = |topic: TopicName| {
            let mut messages: Vec<Message> = self.log.read(&topic).iter().map(message).collect();
            if changelogs.contains(&topic) {
                // The number of records of a key depends on where batches ended; its last value does not.
                let last: BTreeMap<_, _> =
                    messages.into_iter().map(|(partition, key, value, _)| ((partition, key), value)).collect();
                messages = last.into_iter().map(|((partition, key), value)| (partition, key, value, None)).collect();
                // When a turn by the wall clock was is another matter in each run.
                let is_turn = |key: &Option<Vec<u8>>| of_timers.contains(&topic) && key.as_deref() == Some(LAST_TURN);
                messages.retain(|(_, key, value, _)| value.is_some() && !is_turn(key));
            } else {
                let (mut ordered, mut loose): (Vec<Message>, Vec<Message>) =
                    messages.into_iter().partition(|message| origin(message).is_some());
                ordered.sort_by_key(|message| (message.0, origin(message)));
                for message in &mut loose {
                    message.3 = None;
                }
                loose.sort();
                ordered.append(&mut loose);
                messages = ordered;
            }
            (topic, messages)
        };
        let tables = plan.topology.tables().into_iter().map(table).collect();
        (tables, plan.topology.outputs().into_iter().map(topic).collect())
    }
}
