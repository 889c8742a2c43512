//! The outcome of a run, by which two runs are compared; and its stores, held against their changelogs.

use crate::engine::status::State;
use crate::flow::record::{Partition, TopicName};
use crate::flow::table::TableSpec;
use crate::flow::timer::{LAST_TURN, is_by_time};
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
pub(super) type Outcome = (Vec<(String, Vec<RowRead>)>, Vec<(TopicName, Vec<Message>)>);
/// Partition, key, value and id of a message.
type Message = (i32, Option<Vec<u8>>, Option<Vec<u8>>, Option<String>);

/// A store's last message of a key without what the wall clock says in it, which is another thing in each run: when a turn was, for
/// when a timer is set, and when a key was heard. `None` where nothing else is said, or the key is deleted.
fn without_wall((partition, key, value, id): Message, is_of_timers: bool) -> Option<Message> {
    let mut value = value?;
    let head = head_of(&value);
    if is_of_timers {
        let is_by_wall = value.get(head) == Some(&b'{');
        let is_turn_or_time = key.as_deref().is_some_and(|key| key == LAST_TURN || is_by_time(key));
        if is_by_wall && is_turn_or_time {
            return None;
        }
        if is_by_wall {
            value.truncate(head);
        }
    } else if let Some(Ok(mut kept)) = value.get(head..).map(serde_json::from_slice::<serde_json::Value>)
        && let Some(of_wall) = of_wall(&mut kept)
    {
        *of_wall = serde_json::Value::Null;
        value.truncate(head);
        value.extend_from_slice(kept.to_string().as_bytes());
    }
    Some((partition, key, Some(value), id))
}

/// The length of what stands in front of a value's JSON: its version, and in a changelog its kind, or the time at which it expires.
fn head_of(value: &[u8]) -> usize {
    match value {
        [_, b'{', ..] => 1,
        [1, ..] => 2,
        _ => 10,
    }
}

/// What the wall clock says in a value: when a key with windows was handled, or when a device of a roll-up was heard.
fn of_wall(kept: &mut serde_json::Value) -> Option<&mut serde_json::Value> {
    if kept.get("heard").is_some() {
        return kept.get_mut("heard")?.get_mut("wall_ms");
    }
    kept.get_mut("idle").filter(|idle| idle.get("handled_ms").is_some())
}

/// What two outcomes do not share: rows, and messages by topic and partition. Where only ids differ, that is said.
pub(super) fn difference(expected: &Outcome, found: &Outcome) -> String {
    let mut out = String::new();
    let mut tell = |line: String| {
        out.push_str("  ");
        out.push_str(&line);
        out.push('\n');
    };
    for ((table, expected), (_, found)) in expected.0.iter().zip(&found.0) {
        let only = |rows: &[RowRead], others: &[RowRead]| -> Vec<String> {
            let others: Vec<String> = others.iter().map(|row| format!("{row:?}")).collect();
            rows.iter().map(|row| format!("{row:?}")).filter(|row| !others.contains(row)).collect()
        };
        only(expected, found).into_iter().for_each(|row| tell(format!("table {table}: without the crash {row}")));
        only(found, expected).into_iter().for_each(|row| tell(format!("table {table}: with it        {row}")));
    }
    for ((topic, expected), (_, found)) in expected.1.iter().zip(&found.1) {
        if expected == found {
            continue;
        }
        let bare = |messages: &[Message]| -> Vec<Message> {
            let mut bare: Vec<Message> = messages
                .iter()
                .map(|(partition, key, value, _)| (*partition, key.clone(), value.clone(), None))
                .collect();
            bare.sort();
            bare
        };
        if bare(expected) == bare(found) {
            tell(format!(
                "topic {topic}: the same messages with other ids, or in another order: do they depend on the order of two topics? \
                 run() between them decides it"
            ));
            continue;
        }
        let only = |messages: &[Message], others: &[Message]| -> Vec<String> {
            messages.iter().filter(|message| !others.contains(message)).map(told).collect()
        };
        only(expected, found)
            .into_iter()
            .for_each(|message| tell(format!("topic {topic}: without the crash {message}")));
        only(found, expected).into_iter().for_each(|message| tell(format!("topic {topic}: with it        {message}")));
    }
    out
}

fn told((partition, key, value, id): &Message) -> String {
    let text = |bytes: &Option<Vec<u8>>| {
        bytes.as_ref().map_or_else(|| "none".into(), |bytes| bytes.escape_ascii().to_string())
    };
    let id = id.as_ref().map(|id| format!(", tg_id {id}")).unwrap_or_default();
    format!("partition {partition}, key {}, value {}{id}", text(key), text(value))
}

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
                let is_of_timers = of_timers.contains(&topic);
                messages = messages.into_iter().filter_map(|message| without_wall(message, is_of_timers)).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_outcomes_do_not_share_is_told_by_topic_and_key_as_text() {
        let topic = |messages: &[(&str, &str, &str)]| -> Outcome {
            let message = |(key, value, id): &(&str, &str, &str)| {
                let bytes = |text: &str| Some(text.as_bytes().to_vec());
                (0, bytes(key), bytes(value), Some((*id).to_owned()))
            };
            (Vec::new(), vec![(TopicName::derived("out"), messages.iter().map(message).collect())])
        };
        let expected = topic(&[("a", "1", "x/0"), ("b", "2", "x/1")]);
        let found = topic(&[("a", "1", "x/0"), ("b", "3", "x/1")]);
        assert_eq!(
            difference(&expected, &found),
            "  topic out: without the crash partition 0, key b, value 2, tg_id x/1\n  \
             topic out: with it        partition 0, key b, value 3, tg_id x/1\n"
        );
        let other = topic(&[("b", "2", "y/0"), ("a", "1", "y/1")]);
        assert!(difference(&expected, &other).contains("the same messages with other ids"));
        assert_eq!(difference(&expected, &expected), "");
    }

    #[test]
    fn times_of_the_wall_clock_are_left_out() {
        let of = |key: &[u8], value: &[u8], is_of_timers| {
            let message = (0, Some(key.to_vec()), Some(value.to_vec()), None);
            without_wall(message, is_of_timers).map(|(_, _, value, _)| value.unwrap())
        };
        assert_eq!(of(b"A123", b"\x01{\"wall\":7}", true), None);
        assert_eq!(of(b"=key", b"\x01{\"wall\":7}", true), Some(b"\x01".to_vec()));
        assert_eq!(of(b"=key", b"\x01\x01{\"wall\":7}", true), Some(b"\x01\x01".to_vec()));
        let heard = of(b"key", b"\x01\x01{\"heard\":{\"at_ms\":5,\"wall_ms\":6}}", false);
        assert_eq!(heard.unwrap(), b"\x01\x01{\"heard\":{\"at_ms\":5,\"wall_ms\":null}}");
        assert_eq!(of(b"=key", b"\x017", true), Some(b"\x017".to_vec()));
        let windows = br#"{"idle":{"handled_ms":5,"timer_ms":9},"n":1}"#;
        let bare = of(b"key", &[&[1], &windows[..]].concat(), false).unwrap();
        assert_eq!(&bare[1..], br#"{"idle":null,"n":1}"#);
        assert_eq!(of(b"key", b"\x01{\"idle\":{\"n\":5}}", false), Some(b"\x01{\"idle\":{\"n\":5}}".to_vec()));
    }
}
