//! Transactions: what readers see, and who fences whom.

use super::*;

pub fn aborted_records_are_hidden(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 1);
    let mut sink = scene.sink();
    leave_open(&mut *sink, &scene.topic, &["aborted"]);
    sink.renew().unwrap();
    publish(&mut *sink, &scene.topic, &["committed"]);
    leave_open(&mut *sink, &scene.topic, &["closed"]);
    sink.close();
    scene.produce(0, &["plain"]);
    let mut reader = scene.reader(1);
    assert_eq!(reader.hear(2), ["committed", "plain"]);
    assert_eq!(scene.visible(2), ["committed", "plain"]);
    reader.close();
}

pub fn open_transaction_stops_committed_readers(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 1);
    let (mut first, mut second) = (scene.sink(), scene.sink());
    scene.produce(0, &["before"]);
    leave_open(&mut *first, &scene.topic, &["open"]);
    publish(&mut *second, &scene.topic, &["behind"]);
    scene.produce(0, &["plain"]);
    let mut reader = scene.reader(1);
    assert_eq!(reader.hear(1), ["before"], "what lies behind an open transaction waits, committed or not");
    assert_eq!(scene.visible(1), ["before"]);
    first.commit().unwrap();
    assert_eq!(reader.hear(4), ["before", "open", "behind", "plain"]);
    first.close();
    second.close();
    reader.close();
}

pub fn transactions_leave_gaps_in_the_offsets(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 1);
    let mut sink = scene.sink();
    publish(&mut *sink, &scene.topic, &["a", "b"]);
    publish(&mut *sink, &scene.topic, &["c"]);
    sink.close();
    let offsets: Vec<i64> = found(bench, &scene.topic, 3).iter().map(|found| found.offset).collect();
    assert_eq!(offsets, [0, 1, 3], "the marker of the first transaction lies at 2");
}

pub fn successor_fences_predecessor_and_ends_its_transaction(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 1);
    let id = unique("sink");
    let mut predecessor = bench.sink(&id);
    leave_open(&mut *predecessor, &scene.topic, &["predecessor"]);
    let mut successor = bench.sink(&id);
    publish(&mut *successor, &scene.topic, &["successor"]);
    let late = predecessor.commit();
    assert!(late.is_err(), "the predecessor's commit is refused");
    assert!(predecessor.is_fenced() && !successor.is_fenced());
    assert!(!matches!(late, Err(tidegate::ports::Fault::Fatal(_))), "and may start again: {late:?}");
    assert_eq!(scene.visible(1), ["successor"]);
    successor.close();
    predecessor.close();
    assert_eq!(scene.visible(1), ["successor"]);
}

pub fn renew_ends_what_was_open(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 1);
    let mut sink = scene.sink();
    let id = sink.transactional_id().to_owned();
    leave_open(&mut *sink, &scene.topic, &["given up"]);
    sink.renew().unwrap();
    assert_eq!(sink.transactional_id(), id);
    assert_eq!(sink.taint(), None);
    publish(&mut *sink, &scene.topic, &["again"]);
    sink.close();
    assert_eq!(scene.visible(1), ["again"]);
}
