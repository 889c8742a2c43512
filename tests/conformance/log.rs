//! What every log does, as sentences.

use crate::member::{Member, text};
use crate::{eventually, unique};
use std::time::Duration;
use tidegate::flow::key::partition_for;
use tidegate::flow::record::{Header, NextOffset, Partition, TopicName, TopicPartition};
use tidegate::ports::history::{Found, TopicHistory};
use tidegate::ports::sink::{Message, Sink};
use tidegate::ports::source::{Bounds, Committed, CopartitionGroup, Group, Membership, Source, Subscription};

/// A log that a test can furnish.
pub trait LogBench {
    /// Creates a topic under exactly this name.
    fn create_topic(&self, name: &str, partitions: i32) -> TopicName;
    /// Deletes a topic.
    fn delete_topic(&self, topic: &TopicName);
    /// Forgets everything before the offset, as retention does.
    fn truncate_before(&self, place: &TopicPartition, offset: i64);
    /// Produces outside any transaction, durably.
    fn produce(&self, place: &TopicPartition, key: Option<&[u8]>, value: Option<&[u8]>);
    /// A new member.
    fn source(&self, subscription: &Subscription) -> Box<dyn Source>;
    /// A new transactional producer.
    fn sink(&self, transactional_id: &str) -> Box<dyn Sink>;
    /// What the audit reads.
    fn history(&self, group: &str) -> Box<dyn TopicHistory>;
}

const SOON: Duration = Duration::from_secs(20);
const AT_ONCE: Duration = Duration::from_millis(300);

/// One topic, one group, one member to ask.
struct Scene<'a> {
    bench: &'a dyn LogBench,
    topic: TopicName,
    group: String,
}

impl<'a> Scene<'a> {
    fn new(bench: &'a dyn LogBench, partitions: i32) -> Self {
        let topic = bench.create_topic(&unique("topic"), partitions);
        Self { bench, topic, group: unique("group") }
    }

    fn place(&self, partition: i32) -> TopicPartition {
        TopicPartition::new(self.topic.clone(), Partition(partition))
    }

    fn member(&self) -> Member {
        let lead = CopartitionGroup { lead: self.topic.clone(), companions: Vec::new() };
        Member::new(self.bench.source(&Subscription { group: self.group.clone(), groups: vec![lead] }))
    }

    /// A member that owns all partitions and reads them from the start.
    fn reader(&self, partitions: i32) -> Member {
        let mut member = self.member();
        member.own(usize::try_from(partitions).unwrap());
        member.start(&(0..partitions).map(|number| (self.place(number), 0)).collect::<Vec<_>>());
        member
    }

    fn produce(&self, partition: i32, values: &[&str]) {
        values.iter().for_each(|value| self.bench.produce(&self.place(partition), Some(b"k"), Some(value.as_bytes())));
    }

    fn sink(&self) -> Box<dyn Sink> {
        self.bench.sink(&unique("sink"))
    }

    fn visible(&self) -> Vec<String> {
        found(self.bench, &self.topic).iter().map(|found| text(found.value.as_deref())).collect()
    }
}

fn found(bench: &dyn LogBench, topic: &TopicName) -> Vec<Found> {
    let mut out = Vec::new();
    bench.history("nobody").each_message(topic, &mut |found| out.push(found)).expect("history");
    out
}

fn send(sink: &mut dyn Sink, topic: &TopicName, value: &str) {
    let message = Message { destination: topic, key: Some(b"k"), value: Some(value.as_bytes()), headers: &[] };
    sink.send(&message).expect("send");
}

fn publish(sink: &mut dyn Sink, topic: &TopicName, values: &[&str]) {
    sink.begin().expect("begin");
    values.iter().for_each(|value| send(sink, topic, value));
    sink.flush().expect("flush");
    sink.commit().expect("commit");
}

/// Begins and fills a transaction, all acknowledged, and leaves it open.
fn leave_open(sink: &mut dyn Sink, topic: &TopicName, values: &[&str]) {
    sink.begin().expect("begin");
    values.iter().for_each(|value| send(sink, topic, value));
    sink.flush().expect("flush");
}

fn k(offset: i64) -> Committed {
    Committed { next_offset: NextOffset(offset), metadata: format!("v1 test 1 {offset}") }
}

fn committed(group: &dyn Group, place: &TopicPartition) -> Option<i64> {
    let answer = group.committed(std::slice::from_ref(place), SOON).expect("committed");
    answer[0].as_ref().map(|committed| committed.next_offset.0)
}

// === records ===

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
        sink.send(&Message { destination: &scene.topic, key, value, headers }).unwrap();
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
    let found = found(bench, &scene.topic);
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
        let message = Message { destination: &scene.topic, key: Some(key.as_bytes()), value: Some(b"v"), headers: &[] };
        sink.send(&message).unwrap();
    }
    sink.flush().unwrap();
    sink.commit().unwrap();
    sink.close();
    let found = found(bench, &scene.topic);
    assert_eq!(found.len(), 50);
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

// === transactions ===

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
    assert_eq!(scene.visible(), ["committed", "plain"]);
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
    assert_eq!(scene.visible(), ["before"]);
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
    let offsets: Vec<i64> = found(bench, &scene.topic).iter().map(|found| found.offset).collect();
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
    assert!(!matches!(late, Err(tidegate::ports::Fault::Fatal(_))), "and may start again: {late:?}");
    assert_eq!(scene.visible(), ["successor"]);
    successor.close();
    predecessor.close();
    assert_eq!(scene.visible(), ["successor"]);
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
    assert_eq!(scene.visible(), ["again"]);
}

// === committed offsets ===

pub fn offsets_and_messages_are_committed_together(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 2);
    let mut member = scene.reader(2);
    let group = member.source.group();
    assert_eq!(group.committed(&[scene.place(0), scene.place(1)], SOON).unwrap(), [None, None]);
    let mut sink = scene.sink();
    leave_open(&mut *sink, &scene.topic, &["message"]);
    sink.send_offsets(&[(scene.place(1), k(7))], &member.membership()).unwrap();
    sink.commit().unwrap();
    sink.close();
    assert_eq!(group.committed(&[scene.place(1), scene.place(0)], SOON).unwrap(), [Some(k(7)), None]);
    assert_eq!(scene.visible(), ["message"]);
    member.close();
}

pub fn stable_committed_offset_waits_for_pending_transaction(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 2);
    let mut member = scene.reader(2);
    let group = member.source.group();
    let mut sink = scene.sink();
    leave_open(&mut *sink, &scene.topic, &["message"]);
    sink.send_offsets(&[(scene.place(0), k(3))], &member.membership()).unwrap();
    let pending = group.committed(&[scene.place(0)], AT_ONCE);
    assert!(pending.as_ref().is_err_and(tidegate::ports::Fault::is_retry), "{pending:?}");
    assert_eq!(committed(&*group, &scene.place(1)), None, "the other partition is not concerned");
    let waiting = std::thread::spawn({
        let (group, place) = (member.source.group(), scene.place(0));
        move || committed(&*group, &place)
    });
    std::thread::sleep(Duration::from_millis(50));
    sink.commit().unwrap();
    assert_eq!(waiting.join().unwrap(), Some(3), "a patient reader gets what the transaction decided");
    sink.close();
    member.close();
}

pub fn offsets_of_an_aborted_transaction_change_nothing(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 1);
    let mut member = scene.reader(1);
    let group = member.source.group();
    let mut sink = scene.sink();
    for offset in [4, 9] {
        leave_open(&mut *sink, &scene.topic, &["message"]);
        sink.send_offsets(&[(scene.place(0), k(offset))], &member.membership()).unwrap();
        if offset == 4 {
            sink.commit().unwrap();
        } else {
            sink.renew().unwrap();
        }
    }
    assert_eq!(committed(&*group, &scene.place(0)), Some(4));
    sink.close();
    member.close();
}

pub fn stale_generation_cannot_commit_offsets(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 4);
    let mut first = scene.reader(4);
    let stale = first.membership();
    let mut second = scene.member();
    eventually("an even share", || {
        first.poll();
        second.poll();
        (first.notes.tasks.len() == 2 && second.notes.tasks.len() == 2).then_some(())
    });
    let mut sink = scene.sink();
    sink.begin().unwrap();
    let refused = sink.send_offsets(&[(scene.place(0), k(1))], &stale).and_then(|()| sink.commit());
    assert!(refused.as_ref().is_err_and(tidegate::ports::Fault::is_fenced), "{refused:?}");
    sink.renew().unwrap();
    sink.begin().unwrap();
    settle(&mut [&mut first, &mut second]);
    sink.send_offsets(&[(scene.place(0), k(2))], &first.membership()).unwrap();
    sink.commit().unwrap();
    assert_eq!(committed(&*first.source.group(), &scene.place(0)), Some(2));
    sink.close();
    first.close();
    second.close();
}

/// Polls until all members have been told of one generation.
fn settle(members: &mut [&mut Member]) {
    let mut calm = 0;
    eventually("one generation", || {
        members.iter_mut().for_each(|member| member.poll());
        let generations: Vec<i32> = members.iter().map(|member| member.membership().generation()).collect();
        calm = if generations.windows(2).all(|pair| pair[0] == pair[1]) { calm + 1 } else { 0 };
        (calm > 20).then_some(())
    });
}

pub fn strangers_cannot_commit_offsets(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 1);
    let mut member = scene.reader(1);
    let generation = member.membership().generation();
    let stranger = Membership::new(&scene.group, "stranger", generation, None).unwrap();
    let mut sink = scene.sink();
    sink.begin().unwrap();
    let refused = sink.send_offsets(&[(scene.place(0), k(1))], &stranger).and_then(|()| sink.commit());
    assert!(refused.as_ref().is_err_and(tidegate::ports::Fault::is_fenced), "{refused:?}");
    sink.close();
    assert_eq!(committed(&*member.source.group(), &scene.place(0)), None);
    member.close();
}

/// Hazard H2: the group is no fence between its members. Were this to change, the engine's own check would be idle.
pub fn a_member_may_commit_what_it_does_not_own(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 2);
    let (mut first, mut second) = (scene.member(), scene.member());
    eventually("an even share", || {
        first.poll();
        second.poll();
        (first.notes.tasks.len() == 1 && second.notes.tasks.len() == 1).then_some(())
    });
    settle(&mut [&mut first, &mut second]);
    let foreign = second.notes.tasks.first().unwrap().partition.0;
    let mut sink = scene.sink();
    sink.begin().unwrap();
    sink.send_offsets(&[(scene.place(foreign), k(5))], &first.membership()).unwrap();
    sink.commit().unwrap();
    assert_eq!(committed(&*second.source.group(), &scene.place(foreign)), Some(5));
    sink.close();
    first.close();
    second.close();
}

pub fn commit_outside_a_transaction_keeps_the_metadata(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 1);
    let mut member = scene.reader(1);
    let group = member.source.group();
    group.commit(&[(scene.place(0), k(11))], SOON).unwrap();
    assert_eq!(group.committed(&[scene.place(0)], SOON).unwrap(), [Some(k(11))]);
    member.close();
    let gone = group.commit(&[(scene.place(0), k(12))], SOON);
    assert!(gone.is_err(), "a member that has left cannot commit");
}

// === groups ===

pub fn companions_move_with_their_lead(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 4);
    let companion = bench.create_topic(&unique("companion"), 4);
    let subscription = Subscription {
        group: scene.group.clone(),
        groups: vec![CopartitionGroup { lead: scene.topic.clone(), companions: vec![companion.clone()] }],
    };
    let twin = |partition: i32| TopicPartition::new(companion.clone(), Partition(partition));
    for partition in 0..4 {
        scene.produce(partition, &["lead"]);
        bench.produce(&twin(partition), Some(b"k"), Some(b"companion"));
    }
    let mut members = [0, 1].map(|_| Member::new(bench.source(&subscription)));
    eventually("an even share", || {
        members.iter_mut().for_each(Member::poll);
        members.iter().all(|member| member.notes.tasks.len() == 2).then_some(())
    });
    for member in &mut members {
        let partitions: Vec<i32> = member.notes.tasks.iter().map(|task| task.partition.0).collect();
        let places = partitions.iter().flat_map(|number| [(scene.place(*number), 0), (twin(*number), 0)]);
        member.start(&places.collect::<Vec<_>>());
    }
    for member in &mut members {
        member.hear(4);
        for heard in &member.notes.records {
            assert!(member.notes.tasks.contains(&heard.task));
            assert_eq!(text(heard.value.as_deref()), ["lead", "companion"][heard.topic]);
        }
    }
    members.iter_mut().for_each(Member::close);
}

pub fn revoked_before_moved(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 4);
    let mut first = scene.reader(4);
    let mut second = scene.member();
    for _ in 0..200 {
        second.poll();
    }
    assert!(second.notes.tasks.is_empty(), "nobody has given anything up");
    eventually("an even share", || {
        first.poll();
        assert!(first.notes.tasks.is_disjoint(&second.notes.tasks));
        second.poll();
        assert!(first.notes.tasks.is_disjoint(&second.notes.tasks));
        (first.notes.tasks.len() == 2 && second.notes.tasks.len() == 2).then_some(())
    });
    assert_eq!(first.notes.revoked.len(), 2, "no more moved than had to");
    assert!(first.notes.lost.is_empty() && second.notes.revoked.is_empty());
    second.start(&second.notes.tasks.iter().map(|task| (scene.place(task.partition.0), 0)).collect::<Vec<_>>());
    for partition in 0..4 {
        scene.produce(partition, &["x"]);
    }
    first.hear(2);
    second.hear(2);
    first.close();
    second.close();
}

pub fn all_members_share_the_latest_generation(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 3);
    let mut first = scene.reader(3);
    let before = first.membership().generation();
    let (mut second, mut third) = (scene.member(), scene.member());
    eventually("an even share", || {
        [&mut first, &mut second, &mut third].into_iter().for_each(Member::poll);
        [&first, &second, &third].iter().all(|member| member.notes.tasks.len() == 1).then_some(())
    });
    settle(&mut [&mut first, &mut second, &mut third]);
    assert!(first.membership().generation() > before);
    assert_eq!(first.membership().group(), scene.group);
    assert_ne!(first.membership().member_id(), second.membership().member_id());
    [&mut first, &mut second, &mut third].into_iter().for_each(Member::close);
}

pub fn a_member_that_leaves_hands_its_tasks_on(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 2);
    let mut first = scene.reader(2);
    let generation = first.membership().generation();
    first.close();
    assert_eq!(first.notes.revoked.len(), 2, "it was told before it left");
    assert!(first.notes.tasks.is_empty());
    let mut second = scene.member();
    second.own(2);
    assert!(second.membership().generation() > generation, "the generation never falls");
    second.close();
}

// === delivery ===

pub fn nothing_is_delivered_before_start(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 2);
    scene.produce(0, &["a", "b", "c"]);
    scene.produce(1, &["d"]);
    let mut member = scene.member();
    member.own(2);
    member.linger();
    assert_eq!(member.values(), [] as [&str; 0]);
    member.start(&[(scene.place(0), 1)]);
    assert_eq!(member.hear(2), ["b", "c"]);
    member.close();
}

pub fn paused_partitions_are_silent_until_resumed(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 2);
    let mut member = scene.reader(2);
    scene.produce(0, &["a"]);
    assert_eq!(member.hear(1), ["a"]);
    member.source.pause(&[scene.place(0)]).unwrap();
    scene.produce(0, &["b", "c"]);
    scene.produce(1, &["d"]);
    assert_eq!(member.hear(2), ["a", "d"]);
    member.source.resume(&[scene.place(0)]).unwrap();
    assert_eq!(member.hear(4), ["a", "d", "b", "c"], "none is lost and none comes twice");
    member.start(&[(scene.place(0), 1)]);
    assert_eq!(member.hear(6), ["a", "d", "b", "c", "b", "c"], "a second start reads again from where it says");
    member.close();
}

pub fn what_is_not_ours_cannot_be_started(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 1);
    let mut member = scene.member();
    let early = member.source.start(&[(scene.place(0), NextOffset(0))]);
    assert!(early.as_ref().is_err_and(tidegate::ports::Fault::is_retry), "{early:?}");
    member.own(1);
    let other = member.source.start(&[(scene.place(7), NextOffset(0))]);
    assert!(other.as_ref().is_err_and(tidegate::ports::Fault::is_retry), "{other:?}");
    member.close();
}

pub fn start_outside_the_log_is_out_of_range(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 2);
    for partition in [0, 1] {
        scene.produce(partition, &["a", "b", "c"]);
    }
    bench.truncate_before(&scene.place(0), 2);
    let mut member = scene.member();
    member.own(2);
    member.start(&[(scene.place(0), 1), (scene.place(1), 50)]);
    eventually("both out of range", || {
        member.poll();
        (member.notes.out_of_range.len() >= 2).then_some(())
    });
    let mut told: Vec<i32> = member.notes.out_of_range.iter().map(|(task, ..)| task.partition.0).collect();
    told.sort_unstable();
    told.dedup();
    assert_eq!(told, [0, 1], "{:?}", member.notes.out_of_range);
    assert_eq!(member.values(), [] as [&str; 0]);
    member.start(&[(scene.place(0), 2), (scene.place(1), 3)]);
    scene.produce(1, &["d"]);
    let mut values = member.hear(2);
    values.sort();
    assert_eq!(values, ["c", "d"], "a repaired start reads on; the end of the log is not outside");
    member.close();
}

// === questions ===

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
    assert!(sink.message_bytes_max(&scene.topic).unwrap() > 10_000);
    sink.close();
}

pub fn history_reads_what_is_committed(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 2);
    scene.produce(0, &["a"]);
    scene.produce(1, &["b", "c"]);
    let mut member = scene.reader(2);
    let group = member.source.group();
    group.commit(&[(scene.place(1), k(2))], SOON).unwrap();
    assert_eq!(scene.visible(), ["a", "b", "c"]);
    let progress = bench.history(&scene.group).progress(&[scene.place(1), scene.place(0)]).unwrap();
    assert_eq!(progress, [(Some(NextOffset(2)), NextOffset(2)), (None, NextOffset(1))]);
    let nothing = TopicName::parse(&unique("nothing")).unwrap();
    let missing = bench.history(&scene.group).each_message(&nothing, &mut |_| ());
    assert!(missing.is_err());
    member.close();
}
