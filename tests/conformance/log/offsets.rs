//! The group's committed offsets: with transactions, without, and whose they are.

use super::*;

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
    assert_eq!(scene.visible(1), ["message"]);
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

pub fn an_offsets_only_transaction_moves_k(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 2);
    let mut member = scene.reader(2);
    let group = member.source.group();
    let mut sink = scene.sink();
    for offset in [1, 2] {
        sink.begin().unwrap();
        sink.flush().unwrap();
        sink.send_offsets(&[(scene.place(0), k(offset)), (scene.place(1), k(offset * 10))], &member.membership())
            .unwrap();
        sink.commit().unwrap();
    }
    assert_eq!(sink.taint(), None);
    assert_eq!(group.committed(&[scene.place(0), scene.place(1)], SOON).unwrap(), [Some(k(2)), Some(k(20))]);
    sink.close();
    member.close();
}

pub fn an_empty_transaction_is_no_error(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 1);
    let mut sink = scene.sink();
    for _ in 0..2 {
        publish(&mut *sink, &scene.topic, &[]);
    }
    publish(&mut *sink, &scene.topic, &["message"]);
    sink.close();
    assert_eq!(scene.visible(1), ["message"]);
}

pub fn a_message_for_no_topic_fails_at_the_flush_at_the_latest(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 1);
    let nothing = TopicName::parse(&unique("nothing")).unwrap();
    let mut sink = scene.sink();
    assert!(sink.message_bytes_max(&nothing).is_err());
    sink.begin().unwrap();
    send(&mut *sink, &scene.topic, "lost");
    let message = Message {
        destination: &nothing,
        partition: None,
        key: Some(b"k"),
        value: None,
        headers: &[],
        timestamp: None,
        is_tracked: false,
    };
    let result = sink.send(&message).and_then(|()| sink.flush());
    assert!(result.is_err());
    assert!(sink.commit().is_err(), "a transaction with a failed message cannot be committed");
    sink.renew().unwrap();
    publish(&mut *sink, &scene.topic, &["again"]);
    sink.close();
    assert_eq!(scene.visible(1), ["again"]);
}

pub fn a_message_too_large_fails_at_the_flush_at_the_latest(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 1);
    let mut sink = scene.sink();
    let bytes_max = sink.message_bytes_max(&scene.topic).unwrap().bytes();
    // No compression makes this fit.
    let mut seed = 1_u64;
    let noise = (0..2 * bytes_max).map(|_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed.to_be_bytes()[0]
    });
    let value: Vec<u8> = noise.collect();
    sink.begin().unwrap();
    let message = Message {
        destination: &scene.topic,
        partition: None,
        key: None,
        value: Some(&value),
        headers: &[],
        timestamp: None,
        is_tracked: false,
    };
    let result = sink.send(&message).and_then(|()| sink.flush());
    assert!(result.is_err());
    sink.renew().unwrap();
    publish(&mut *sink, &scene.topic, &["small"]);
    let message = Message { value: Some(&value[..bytes_max]), ..message };
    sink.begin().unwrap();
    sink.send(&message).and_then(|()| sink.flush()).expect("the largest message that is said to fit");
    sink.commit().unwrap();
    sink.close();
    found(bench, &scene.topic, 2);
}

/// The broker orders offsets by when they were written, not by when their transaction was committed.
pub fn the_later_write_of_an_offset_wins(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 1);
    let mut member = scene.reader(1);
    let group = member.source.group();
    let mut sink = scene.sink();
    sink.begin().unwrap();
    sink.send_offsets(&[(scene.place(0), k(5))], &member.membership()).unwrap();
    group.commit(&[(scene.place(0), k(3))], SOON).unwrap();
    sink.commit().unwrap();
    sink.close();
    assert_eq!(committed(&*group, &scene.place(0)), Some(3));
    member.close();
}

pub fn a_deleted_topic_takes_its_offsets_with_it(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 1);
    let other = bench.create_topic(&unique("other"), 1);
    let place = TopicPartition::new(other.clone(), Partition(0));
    let mut member = scene.reader(1);
    let group = member.source.group();
    group.commit(&[(place.clone(), k(3)), (scene.place(0), k(4))], SOON).unwrap();
    assert_eq!(committed(&*group, &place), Some(3));
    bench.delete_topic(&other);
    bench.create_topic(other.as_str(), 1);
    eventually("no offset for the topic created anew", || {
        member.poll();
        let answer = group.committed(std::slice::from_ref(&place), SOON).ok()?;
        (answer == [None]).then_some(())
    });
    assert_eq!(committed(&*group, &scene.place(0)), Some(4));
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
    // The offset is one of a partition that has moved: for a kept one the broker-side protocol takes an older epoch
    // (KIP-1251).
    let moved = scene.place(second.notes.tasks.first().unwrap().partition.0);
    let refused = sink.send_offsets(&[(moved, k(1))], &stale).and_then(|()| sink.commit());
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

/// The group is no fence between its members (docs/traps.md#membership-is-not-ownership). Were this to change, the
/// engine's own check would be idle.
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
}

/// A group without members takes a commit from anybody who names neither member nor generation
/// (docs/traps.md#a-commit-without-a-member).
pub fn nobody_commits_before_joining_or_after_leaving(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 1);
    let mut member = scene.member();
    let group = member.source.group();
    let early = group.commit(&[(scene.place(0), k(1))], SOON);
    assert!(early.is_err(), "not joined yet");
    member.own(1);
    group.commit(&[(scene.place(0), k(2))], SOON).unwrap();
    member.close();
    for wait_ms in [0, 300] {
        std::thread::sleep(Duration::from_millis(wait_ms));
        let late = group.commit(&[(scene.place(0), k(3))], SOON);
        assert!(late.is_err(), "left already");
    }
    let mut other = scene.member();
    other.own(1);
    assert_eq!(committed(&*other.source.group(), &scene.place(0)), Some(2));
    other.close();
}
