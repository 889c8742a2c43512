//! Records come back as they were sent, where they belong, in their order.

use super::*;

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
