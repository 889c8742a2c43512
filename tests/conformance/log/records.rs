//! Records come back as they were sent, where they belong, in their order.

use super::*;
use tidegate::flow::record::Timestamp;

pub fn a_record_comes_back_as_it_was_sent(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 1);
    let headers = [
        Header::new("a", "1"),
        Header::new("a", "2"),
        Header { name: "none".into(), value: None },
        Header::new("e", ""),
    ];
    let sent: [(Option<&[u8]>, Option<&[u8]>, &[Header]); 4] = [
        (Some(b"key"), Some(b"value"), &headers),
        (None, Some(b""), &[]),
        (Some(b""), None, &[]),
        (Some(&[0xff, 0]), Some(&[0, 0xfe]), &[]),
    ];
    let mut sink = scene.sink();
    sink.begin().unwrap();
    for (key, value, headers) in sent {
        sink.send(&Message {
            destination: &scene.topic,
            partition: None,
            key,
            value,
            headers,
            timestamp: None,
            is_tracked: false,
        })
        .unwrap();
    }
    sink.flush().unwrap();
    sink.commit().unwrap();
    sink.close();
    let mut reader = scene.reader(1);
    reader.hear(4);
    for (index, (key, value, headers)) in sent.into_iter().enumerate() {
        let record = reader.notes.chunk.record(index).unwrap();
        assert_eq!((record.key, record.value, record.headers), (key, value, headers));
        assert!(record.timestamp.0 > 1_700_000_000_000, "a producer's time: {:?}", record.timestamp);
    }
    let found = found(bench, &scene.topic, 4);
    assert_eq!(found[0].headers, headers);
    assert_eq!(found[2].value, None);
    reader.close();
}

/// An event time, as a step sends it on: 0 would be the moment of sending to Kafka's client.
pub fn a_message_keeps_the_time_it_is_given_and_0_as_1(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 1);
    let mut sink = scene.sink();
    sink.begin().unwrap();
    for at in [0, 1, 86_400_000] {
        let (destination, partition, key, value) = (&scene.topic, None, Some(&b"k"[..]), Some(&b"v"[..]));
        let (headers, timestamp, is_tracked) = (&[][..], Some(Timestamp(at)), false);
        sink.send(&Message { destination, partition, key, value, headers, timestamp, is_tracked }).unwrap();
    }
    sink.flush().unwrap();
    sink.commit().unwrap();
    sink.close();
    let mut reader = scene.reader(1);
    reader.hear(3);
    let kept: Vec<i64> = (0..3).map(|index| reader.notes.chunk.record(index).unwrap().timestamp.0).collect();
    assert_eq!(kept, [1, 1, 86_400_000]);
    reader.close();
}

/// Keys, values and headers are any bytes, absent ones apart from empty ones, as a changelog needs them.
pub fn random_records_come_back_byte_for_byte(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 1);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut roll = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let mut bytes = |length_max: u64| -> Option<Vec<u8>> {
        let length = roll(length_max + 2).checked_sub(1)?; // absent, empty, or longer
        Some((0..length).map(|_| u8::try_from(roll(256)).unwrap()).collect())
    };
    let sent: Vec<_> = (0..200)
        .map(|number| (bytes(40), bytes(400), vec![Header { name: format!("h{number}"), value: bytes(20) }]))
        .collect();
    let mut sink = scene.sink();
    sink.begin().unwrap();
    for (key, value, headers) in &sent {
        sink.send(&Message {
            destination: &scene.topic,
            partition: Some(Partition(0)),
            key: key.as_deref(),
            value: value.as_deref(),
            headers,
            timestamp: None,
            is_tracked: false,
        })
        .unwrap();
    }
    sink.flush().unwrap();
    sink.commit().unwrap();
    sink.close();
    let found = found(bench, &scene.topic, sent.len());
    let back: Vec<_> = found.into_iter().map(|found| (found.key, found.value, found.headers)).collect();
    assert_eq!(back, sent);
}

pub fn keyed_messages_lie_where_murmur2_says(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 5);
    let mut sink = scene.sink();
    sink.begin().unwrap();
    for number in 0..50 {
        let key = number.to_string();
        let message = Message {
            destination: &scene.topic,
            partition: None,
            key: Some(key.as_bytes()),
            value: Some(b"v"),
            headers: &[],
            timestamp: None,
            is_tracked: false,
        };
        sink.send(&message).unwrap();
    }
    sink.flush().unwrap();
    sink.commit().unwrap();
    sink.close();
    let found = found(bench, &scene.topic, 50);
    for message in found {
        assert_eq!(message.partition, partition_for(&message.key.unwrap(), 5));
    }
}

pub fn records_come_in_offset_order(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 2);
    for number in 0..100 {
        scene.produce(number % 2, &[&number.to_string()]);
    }
    let mut reader = scene.reader(2);
    reader.hear(100);
    for partition in 0..2 {
        let mine = reader.notes.records.iter().filter(|heard| heard.task.partition.0 == partition);
        let offsets: Vec<i64> = mine.map(|heard| heard.offset).collect();
        assert_eq!(offsets, (0..50).collect::<Vec<_>>());
    }
    reader.close();
}

pub fn a_message_lies_in_the_partition_it_names(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 3);
    let mut sink = scene.sink();
    sink.begin().unwrap();
    for number in 0..3 {
        let value = number.to_string();
        let message = Message {
            destination: &scene.topic,
            partition: Some(Partition(number)),
            key: Some(b"k"),
            value: Some(value.as_bytes()),
            headers: &[],
            timestamp: None,
            is_tracked: false,
        };
        sink.send(&message).unwrap();
    }
    sink.flush().unwrap();
    sink.commit().unwrap();
    let found = found(bench, &scene.topic, 3);
    found.iter().for_each(|found| assert_eq!(text(found.value.as_deref()), found.partition.to_string()));
    sink.begin().unwrap();
    let message = Message {
        destination: &scene.topic,
        partition: Some(Partition(3)),
        key: None,
        value: None,
        headers: &[],
        timestamp: None,
        is_tracked: false,
    };
    assert!(sink.send(&message).and_then(|()| sink.flush()).is_err(), "there is no such partition");
    sink.close();
}
