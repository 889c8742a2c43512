//! Where reading begins, what it shows, and what it says when it cannot go on.

use crate::cluster::{Member, fill, new_topic, place, shared, subscription, task, unique};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tidegate::adapters::kafka::{KafkaAdmin, KafkaFeed, KafkaHistory, TopicSpec};
use tidegate::flow::record::{Header, NextOffset, TopicName};
use tidegate::ports::fault::Fault;
use tidegate::ports::history::TopicHistory;
use tidegate::ports::source::{Bounds, Committed, Source};

#[test]
fn nothing_is_told_before_start_and_then_from_the_explicit_offset() {
    let Some(settings) = shared("nothing_is_told_before_start") else { return };
    let lead = new_topic(&settings, "lead", 2);
    let companion = new_topic(&settings, "companion", 2);
    fill(&settings, &lead, 2, 20);
    fill(&settings, &companion, 2, 20);
    let mut member = Member::join(&settings, &subscription(&format!("start-{}", unique()), &lead, &[&companion]));
    member.poll_until("assignment", |notes| notes.owned.len() == 2);
    let committed = Committed { next_offset: NextOffset(2), metadata: String::new() };
    member.source.group().commit(&[(place(&lead, 0), committed)], Duration::from_secs(5)).unwrap();
    for _ in 0..20 {
        member.poll(Duration::from_millis(50));
    }
    assert_eq!(member.notes.records, [], "told before start");
    assert_eq!(member.notes.out_of_range, []);

    member.start(&[&lead], 0, 5);
    member.start(&[&companion], 0, 18);
    member.poll_until("records from the offsets", |notes| notes.records.len() >= 15 + 2);
    member.poll(Duration::from_millis(200));
    let offsets = |topic: usize| -> Vec<i64> {
        member.notes.records.iter().filter(|record| record.1 == topic).map(|record| record.2).collect()
    };
    assert_eq!(offsets(0), (5..20).collect::<Vec<_>>());
    assert_eq!(offsets(1), [18, 19]);
    assert!(member.notes.records.iter().all(|record| record.0 == task(0)), "task 1 was never started");

    member.source.hold(&[place(&lead, 0)]).unwrap();
    fill(&settings, &lead, 1, 3);
    member.poll(Duration::from_millis(500));
    assert_eq!(member.notes.records.len(), 17, "told while held back");
    member.source.release(&[place(&lead, 0)]).unwrap();
    member.poll_until("records after the release", |notes| notes.records.len() == 20);
    assert!(member.source.start(&[(place(&lead, 9), NextOffset(0))]).unwrap_err().is_retry());
}

#[test]
fn what_is_fetched_while_held_back_is_not_fetched_again() {
    let Some(settings) = shared("what_is_fetched_while_held_back") else { return };
    let lead = new_topic(&settings, "lead", 1);
    fill(&settings, &lead, 1, 5_000);
    let mut member = Member::join(&settings, &subscription(&format!("hold-{}", unique()), &lead, &[]));
    member.poll_until("assignment", |notes| notes.owned.len() == 1);
    member.start(&[&lead], 0, 0);
    member.source.hold(&[place(&lead, 0)]).unwrap();
    member.poll(Duration::from_secs(1));
    assert!(member.notes.records.len() < 5_000, "told while held back");
    // Gone from the broker: what comes now was kept by the client.
    KafkaAdmin::connect(&settings).unwrap().delete_records(&place(&lead, 0), 5_000).unwrap();
    member.source.release(&[place(&lead, 0)]).unwrap();
    member.poll_until("what was kept", |notes| notes.records.len() >= 5_000 || !notes.out_of_range.is_empty());
    member.poll(Duration::from_millis(200));
    let offsets: Vec<i64> = member.notes.records.iter().map(|record| record.2).collect();
    assert_eq!(offsets, (0..5_000).collect::<Vec<_>>());
    assert_eq!(member.notes.out_of_range, []);
}

#[test]
fn an_offset_outside_the_log_is_told_and_can_be_repaired() {
    let Some(settings) = shared("an_offset_outside_the_log_is_told") else { return };
    let lead = new_topic(&settings, "lead", 2);
    fill(&settings, &lead, 2, 20);
    KafkaAdmin::connect(&settings).unwrap().delete_records(&place(&lead, 0), 8).unwrap();
    let mut member = Member::join(&settings, &subscription(&format!("range-{}", unique()), &lead, &[]));
    member.poll_until("assignment", |notes| notes.owned.len() == 2);
    let bounds = member.source.group().bounds(&place(&lead, 0), Duration::from_secs(5)).unwrap();
    assert_eq!(bounds, Bounds { start: NextOffset(8), end: NextOffset(20) });
    member.poll(Duration::from_millis(500));
    assert_eq!(member.notes.out_of_range, [], "a paused partition must stay quiet");

    member.start(&[&lead], 0, 3); // below the start
    member.start(&[&lead], 1, 25); // beyond the end
    member.poll_until("both told", |notes| notes.out_of_range.len() >= 2);
    let mut told: Vec<_> = member.notes.out_of_range.iter().map(|(task, topic, _)| (*task, *topic)).collect();
    told.sort_unstable();
    assert_eq!(told, [(task(0), 0), (task(1), 0)]);
    assert_eq!(member.notes.records, []);

    member.start(&[&lead], 0, 8);
    member.start(&[&lead], 1, 19);
    member.poll_until("records after the repair", |notes| notes.records.len() >= 13);
    member.poll(Duration::from_millis(200));
    let of = |number: i32| member.notes.records.iter().filter(move |record| record.0 == task(number)).count();
    assert_eq!((of(0), of(1)), (12, 1));
}

#[test]
fn a_recreated_topic_has_another_id() {
    let Some(settings) = shared("a_recreated_topic_has_another_id") else { return };
    let admin = KafkaAdmin::connect(&settings).unwrap();
    let name = new_topic(&settings, "recreated", 3);
    let other = new_topic(&settings, "lead", 1);
    let member = Member::join(&settings, &subscription(&format!("ids-{}", unique()), &other, &[]));
    let (group, wait) = (member.source.group(), Duration::from_secs(10));
    let before = group.log_ids(&name, wait).unwrap();
    assert_eq!(before, group.log_ids(&name, wait).unwrap());
    assert_eq!(before.cluster_id, admin.cluster_id().unwrap());
    assert!(!before.topic_id.is_empty() && !before.cluster_id.is_empty());
    assert_eq!(group.partition_count(&name, wait).unwrap(), Some(3));

    admin.delete(std::slice::from_ref(&name)).unwrap();
    let until = Instant::now() + wait; // the brokers hear of it a little later
    while group.partition_count(&name, wait).unwrap().is_some() {
        assert!(Instant::now() < until, "a deleted topic is still there");
    }
    assert!(matches!(group.log_ids(&name, wait).unwrap_err(), Fault::Corrupt(_)));
    let spec = TopicSpec { name: name.clone(), partitions: 3, replicas: 1, config: BTreeMap::new() };
    admin.create(&[spec]).unwrap();
    let until = Instant::now() + wait;
    let after = loop {
        match group.log_ids(&name, wait) {
            Ok(ids) => break ids,
            Err(fault) => assert!(Instant::now() < until, "{fault}"),
        }
    };
    assert_ne!(after.topic_id, before.topic_id);
    assert_eq!(after.cluster_id, before.cluster_id);
}

#[test]
fn keys_values_headers_and_their_absence_arrive_as_sent() {
    let Some(settings) = shared("keys_values_headers_arrive") else { return };
    let lead = new_topic(&settings, "lead", 1);
    let feed = KafkaFeed::connect(&settings).unwrap();
    let absent = Header { name: "absent".into(), value: None };
    let headers = [Header::new("a", *b"1"), absent, Header::new("a", *b"")];
    feed.send(&lead, None, None, Some(b"v"), &headers).unwrap();
    feed.send(&lead, None, Some(b""), None, &[]).unwrap();
    feed.flush().unwrap();
    let mut history = KafkaHistory::connect(&settings, "nobody").unwrap();
    let mut found = Vec::new();
    history.each_message(&lead, &mut |message| found.push(message)).unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].key.as_deref(), found[0].value.as_deref()), (None, Some(&b"v"[..])));
    assert_eq!(found[0].headers, headers);
    assert_eq!((found[1].key.as_deref(), found[1].value.as_deref()), (Some(&b""[..]), None));
    assert_eq!(found[1].headers, []);
}

/// What a broker tells of the topic, once it is so: another than the one that was asked for a change may tell what it had before for
/// a moment. After 20 s, whatever it tells.
fn once(admin: &KafkaAdmin, name: &TopicName, is_so: impl Fn(&Option<TopicSpec>) -> bool) -> Option<TopicSpec> {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let found = admin.current(name).unwrap();
        if is_so(&found) || Instant::now() > until {
            return found;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn topics_are_planned_and_changed() {
    let Some(settings) = shared("topics_are_planned_and_changed") else { return };
    let admin = KafkaAdmin::connect(&settings).unwrap();
    let name = crate::cluster::topic(&format!("planned-{}", unique()));
    assert_eq!(admin.current(&name).unwrap(), None);
    let config = BTreeMap::from([("cleanup.policy".to_string(), "compact".to_string())]);
    let spec = TopicSpec { name: name.clone(), partitions: 2, replicas: 1, config };
    admin.create(std::slice::from_ref(&spec)).unwrap();
    assert_eq!(once(&admin, &name, Option::is_some), Some(spec.clone()));
    assert!(admin.create(std::slice::from_ref(&spec)).is_err(), "created twice");
    assert!(admin.names().unwrap().contains(&name));

    admin.create_partitions(&name, 4).unwrap();
    admin.alter_config(&name, &BTreeMap::from([("retention.ms".to_string(), "60000".to_string())])).unwrap();
    let is_changed = |topic: &TopicSpec| topic.partitions == 4 && topic.config.contains_key("retention.ms");
    let changed = once(&admin, &name, |found| found.as_ref().is_some_and(is_changed)).unwrap();
    assert_eq!(changed.partitions, 4);
    assert_eq!(changed.config.get("cleanup.policy").map(String::as_str), Some("compact"), "an old setting is kept");
    assert_eq!(changed.config.get("retention.ms").map(String::as_str), Some("60000"));
}
