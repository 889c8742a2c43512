//! Questions about the log.

use super::*;

pub fn bounds_tell_what_a_committed_reader_sees(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 1);
    let member = scene.member();
    let group = member.source.group();
    let bounds = |start: i64, end: i64| {
        let wanted = Bounds { start: NextOffset(start), end: NextOffset(end) };
        eventually(&format!("{wanted:?}"), || {
            (group.bounds(&scene.place(0), SOON).expect("bounds") == wanted).then_some(())
        });
    };
    bounds(0, 0);
    scene.produce(0, &["a", "b", "c"]);
    bounds(0, 3);
    let mut sink = scene.sink();
    leave_open(&mut *sink, &scene.topic, &["open"]);
    scene.produce(0, &["behind"]);
    bounds(0, 3);
    sink.commit().unwrap();
    sink.close();
    bounds(0, 6);
    bench.truncate_before(&scene.place(0), 2);
    bounds(2, 6);
}

pub fn topics_have_ids_and_counts(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 3);
    let member = scene.member();
    let group = member.source.group();
    assert_eq!(group.partition_count(&scene.topic, SOON).unwrap(), Some(3));
    let nothing = TopicName::parse(&unique("nothing")).unwrap();
    assert_eq!(group.partition_count(&nothing, SOON).unwrap(), None);
    let ids = group.log_ids(&scene.topic, SOON).unwrap();
    assert!(!ids.cluster_id.is_empty() && !ids.topic_id.is_empty(), "{ids:?}");
    assert_eq!(group.log_ids(&scene.topic, SOON).unwrap(), ids);
    let other = bench.create_topic(&unique("other"), 1);
    let others = group.log_ids(&other, SOON).unwrap();
    assert_eq!(others.cluster_id, ids.cluster_id);
    assert_ne!(others.topic_id, ids.topic_id);
    bench.delete_topic(&other);
    bench.create_topic(other.as_str(), 1);
    eventually("another id for the topic created anew", || {
        let again = group.log_ids(&other, SOON).ok()?;
        (again.topic_id != others.topic_id).then_some(())
    });
    let mut sink = scene.sink();
    assert!(sink.message_bytes_max(&scene.topic).unwrap().bytes() > 10_000);
    sink.close();
}

pub fn history_reads_what_is_committed(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 2);
    scene.produce(0, &["a"]);
    scene.produce(1, &["b", "c"]);
    let mut member = scene.reader(2);
    let group = member.source.group();
    group.commit(&[(scene.place(1), k(2))], SOON).unwrap();
    assert_eq!(scene.visible(3), ["a", "b", "c"]);
    let progress = bench.history(&scene.group).progress(&[scene.place(1), scene.place(0)]).unwrap();
    assert_eq!(progress, [(Some(NextOffset(2)), NextOffset(2)), (None, NextOffset(1))]);
    let nothing = TopicName::parse(&unique("nothing")).unwrap();
    let missing = bench.history(&scene.group).each_message(&nothing, &mut |_| ());
    assert!(missing.is_err());
    member.close();
}
