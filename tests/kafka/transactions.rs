//! Transactions as a committed reader sees them, and which producers may still end them.

use crate::cluster::{Member, new_topic, place, shared, subscription, topic, unique};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tidegate::adapters::kafka::{KafkaAdmin, KafkaHistory, KafkaSettings, KafkaSink, TopicSpec};
use tidegate::flow::record::{Header, NextOffset, Timestamp, TopicName};
use tidegate::ports::history::TopicHistory;
use tidegate::ports::sink::{Message, Sink};
use tidegate::ports::source::{Committed, Source};

fn send(sink: &mut KafkaSink, topic: &TopicName, value: &str) {
    let message = Message {
        destination: topic,
        partition: None,
        key: Some(b"k"),
        value: Some(value.as_bytes()),
        headers: &[],
        timestamp: None,
        is_tracked: false,
    };
    sink.send(&message).unwrap();
}

fn committed_values(settings: &KafkaSettings, topic: &TopicName) -> Vec<String> {
    let mut values = Vec::new();
    let mut history = KafkaHistory::connect(settings, "nobody").unwrap();
    let note = &mut |found: tidegate::ports::history::Found| {
        values.push(String::from_utf8(found.value.unwrap()).unwrap());
    };
    history.each_message(topic, note).unwrap();
    values
}

#[test]
fn a_second_producer_fences_the_first_and_ends_its_transaction() {
    let Some(settings) = shared("a_second_producer_fences_the_first") else { return };
    let out = new_topic(&settings, "out", 1);
    let id = format!("fence-{}", unique());
    let mut first = KafkaSink::open(&settings, &id).unwrap();
    first.begin().unwrap();
    send(&mut first, &out, "of the zombie");
    first.flush().unwrap();
    let mut second = KafkaSink::open(&settings, &id).unwrap();
    second.begin().unwrap();
    send(&mut second, &out, "of the successor");
    second.flush().unwrap();
    second.commit().unwrap();
    assert_eq!(second.taint(), None);
    let refused = first.commit().unwrap_err();
    assert!(refused.is_retry(), "{refused}");
    assert!(first.taint().is_some() && first.is_fenced() && !second.is_fenced());
    assert_eq!(committed_values(&settings, &out), ["of the successor"]);

    first.renew().unwrap(); // and the other way round
    second
        .begin()
        .and_then(|()| {
            let message = Message {
                destination: &out,
                partition: None,
                key: None,
                value: Some(b"late"),
                headers: &[],
                timestamp: None,
                is_tracked: false,
            };
            second.send(&message)?;
            second.flush()?;
            second.commit()
        })
        .unwrap_err();
    assert_eq!(committed_values(&settings, &out), ["of the successor"]);
}

#[test]
fn aborted_and_open_records_are_hidden() {
    let Some(settings) = shared("aborted_and_open_records_are_hidden") else { return };
    let out = new_topic(&settings, "out", 1);
    let mut sink = KafkaSink::open(&settings, &format!("hidden-{}", unique())).unwrap();
    sink.begin().unwrap();
    send(&mut sink, &out, "aborted");
    sink.flush().unwrap();
    sink.renew().unwrap();
    sink.begin().unwrap();
    send(&mut sink, &out, "committed");
    sink.flush().unwrap();
    sink.commit().unwrap();
    sink.begin().unwrap();
    send(&mut sink, &out, "open");
    sink.flush().unwrap();
    assert_eq!(committed_values(&settings, &out), ["committed"]);

    let mut member = Member::join(&settings, &subscription(&format!("hidden-{}", unique()), &out, &[]));
    member.poll_until("assignment", |notes| notes.owned.len() == 1);
    member.start(&[&out], 0, 0);
    member.poll_until("the committed one", |notes| !notes.records.is_empty());
    member.poll(Duration::from_millis(500));
    assert_eq!(member.notes.records.iter().map(|record| record.3.as_str()).collect::<Vec<_>>(), ["committed"]);
    sink.close(); // aborts at once
    let started = Instant::now();
    let mut other = KafkaSink::open(&settings, &format!("hidden-{}", unique())).unwrap();
    other.begin().unwrap();
    send(&mut other, &out, "later");
    other.flush().unwrap();
    other.commit().unwrap();
    member.poll_until("what came later", |notes| notes.records.len() == 2);
    assert!(started.elapsed() < Duration::from_secs(5), "a closed sink left its transaction open");
}

#[test]
fn committed_waits_for_a_pending_transaction() {
    let Some(settings) = shared("committed_waits_for_a_pending_transaction") else { return };
    let lead = new_topic(&settings, "lead", 1);
    let mut member = Member::join(&settings, &subscription(&format!("stable-{}", unique()), &lead, &[]));
    member.poll_until("assignment", |notes| notes.owned.len() == 1);
    let group = member.source.group();
    let wait = Duration::from_secs(1);
    assert_eq!(group.committed(&[place(&lead, 0)], wait).unwrap(), [None]);
    let mut sink = KafkaSink::open(&settings, &format!("stable-{}", unique())).unwrap();
    let commit = |next: i64| {
        let metadata = format!("v1 stable 3 {next}");
        [(place(&lead, 0), Committed { next_offset: NextOffset(next), metadata })]
    };
    sink.begin().unwrap();
    sink.send_offsets(&commit(5), &member.membership()).unwrap();
    let pending = group.committed(&[place(&lead, 0)], wait).unwrap_err();
    assert!(pending.is_retry(), "{pending}");
    let person = KafkaHistory::connect(&settings, member.membership().group()).unwrap().group();
    let told = person.committed(&[place(&lead, 0)], Duration::from_secs(3)).unwrap_err();
    let words = format!("an open transaction holds the committed offset of {lead}-0, and has not ended within 3 s");
    assert!(told.is_retry() && told.to_string().contains(&words), "{told}");
    let asker = std::thread::spawn({
        let (group, place) = (group.clone(), place(&lead, 0));
        move || group.committed(&[place], Duration::from_secs(10))
    });
    std::thread::sleep(Duration::from_millis(300));
    assert!(!asker.is_finished(), "an unstable answer");
    sink.commit().unwrap();
    assert_eq!(asker.join().unwrap().unwrap(), [Some(commit(5)[0].1.clone())]);
    let mut history = KafkaHistory::connect(&settings, member.membership().group()).unwrap();
    assert_eq!(history.progress(&[place(&lead, 0)]).unwrap(), [(Some(NextOffset(5)), NextOffset(0))]);

    sink.begin().unwrap();
    sink.send_offsets(&commit(9), &member.membership()).unwrap();
    sink.renew().unwrap(); // aborts
    assert_eq!(group.committed(&[place(&lead, 0)], Duration::from_secs(10)).unwrap(), [Some(commit(5)[0].1.clone())]);
}

#[test]
fn a_message_of_the_largest_size_passes_and_small_batches_are_made_for_a_small_topic() {
    let Some(settings) = shared("a_message_of_the_largest_size_passes") else { return };
    let out = topic(&format!("small-{}", unique()));
    let config = BTreeMap::from([("max.message.bytes".to_string(), "20000".to_string())]);
    let spec = TopicSpec { name: out.clone(), partitions: 1, replicas: 1, config };
    KafkaAdmin::connect(&settings).unwrap().create(&[spec]).unwrap();
    let mut sink = KafkaSink::open(&settings, &format!("small-{}", unique())).unwrap();
    let largest = sink.message_bytes_max(&out).unwrap().bytes();
    assert!((18_000..20_000).contains(&largest), "{largest}");
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let noise: Vec<u8> = (0..40_000).map(|_| random()).collect(); // must not compress
    let header = [Header::new("tg_id", vec![b'x'; 60])];
    sink.begin().unwrap();
    let value = &noise[..largest - 1 - 5 - 60];
    sink.send(&Message {
        destination: &out,
        partition: None,
        key: Some(b"k"),
        value: Some(value),
        headers: &header,
        timestamp: None,
        is_tracked: false,
    })
    .unwrap();
    for _ in 0..100 {
        sink.send(&Message {
            destination: &out,
            partition: None,
            key: Some(b"k"),
            value: Some(&noise[..1_000]),
            headers: &[],
            timestamp: None,
            is_tracked: false,
        })
        .unwrap();
    }
    sink.flush().unwrap();
    sink.commit().unwrap();
    assert_eq!(sink.taint(), None);

    sink.begin().unwrap();
    let _ = sink.send(&Message {
        destination: &out,
        partition: None,
        key: None,
        value: Some(&noise[..30_000]),
        headers: &[],
        timestamp: None,
        is_tracked: false,
    });
    let refused = sink.flush().unwrap_err();
    assert!(matches!(refused, tidegate::ports::Fault::Corrupt(_)), "{refused}");
    assert!(sink.message_bytes_max(&topic("there-is-no-such-topic")).unwrap_err().is_retry());

    // Raised again, the limit is seen by the same producer.
    let raised = BTreeMap::from([("max.message.bytes".to_string(), "100000".to_string())]);
    KafkaAdmin::connect(&settings).unwrap().alter_config(&out, &raised).unwrap();
    sink.renew().unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while sink.message_bytes_max(&out).unwrap().bytes() < 90_000 {
        assert!(Instant::now() < until, "the broker still tells the old limit");
        std::thread::sleep(Duration::from_millis(100));
    }
    sink.begin().unwrap();
    sink.send(&Message {
        destination: &out,
        partition: None,
        key: None,
        value: Some(&noise[..30_000]),
        headers: &[],
        timestamp: None,
        is_tracked: false,
    })
    .unwrap();
    sink.flush().unwrap();
    sink.commit().unwrap();
}

#[test]
fn a_time_that_its_topic_refuses_is_told_with_the_settings_that_refuse_it() {
    let Some(settings) = shared("a_time_that_its_topic_refuses") else { return };
    let out = topic(&format!("times-{}", unique()));
    let config = BTreeMap::from([("message.timestamp.before.max.ms".to_string(), "1000".to_string())]);
    let spec = TopicSpec { name: out.clone(), partitions: 1, replicas: 1, config };
    KafkaAdmin::connect(&settings).unwrap().create(&[spec]).unwrap();
    let mut sink = KafkaSink::open(&settings, &format!("times-{}", unique())).unwrap();
    sink.begin().unwrap();
    let timestamp = Some(Timestamp(1_000));
    let (partition, key, value) = (None, None, Some(&b"old"[..]));
    let message = Message { destination: &out, partition, key, value, headers: &[], timestamp, is_tracked: false };
    let refused = sink.send(&message).and_then(|()| sink.flush()).unwrap_err();
    let told = refused.to_string();
    assert!(matches!(refused, tidegate::ports::Fault::Corrupt(_)), "{told}");
    assert!(told.contains(out.as_str()) && told.contains("message.timestamp.before.max.ms"), "{told}");
}
