//! Members and the partitions given to them, and what an old membership may still do.

use crate::cluster::{Member, WAIT, fill, new_topic, place, shared, subscription, task, unique};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tidegate::adapters::kafka::{GroupProtocol, KafkaAdmin, KafkaOffsets, KafkaSettings, KafkaSink, KafkaSource};
use tidegate::flow::record::{NextOffset, TopicName, TopicPartition};
use tidegate::ports::fault::Fault;
use tidegate::ports::repair::Offsets;
use tidegate::ports::sink::Sink;
use tidegate::ports::source::{Committed, Source, TaskId};

const PARTITIONS: i32 = 6;

/// Every member can say where the owner of each partition is asked, and an operator's client who is there.
fn owners(settings: &KafkaSettings) {
    let lead = new_topic(settings, "orders", PARTITIONS);
    let companion = new_topic(settings, "customers", PARTITIONS);
    let group = format!("owners-{}", unique());
    let subscription = subscription(&group, &lead, &[&companion]);
    let offsets = KafkaOffsets::connect(settings, &group).unwrap();
    assert_eq!(offsets.members(WAIT).unwrap(), 0, "a group that nobody knows");
    let mut members: Vec<Member> = ["one:8230", "two:8230", ""]
        .map(|address| {
            let settings = KafkaSettings { advertised_address: address.into(), ..settings.clone() };
            Member::join(&settings, &subscription)
        })
        .into();
    settle(&mut members);
    let owned = |member: &Member, address: &str| -> Vec<(TopicPartition, String)> {
        member.notes.owned.iter().map(|task| (place(&lead, task.partition.0), address.to_owned())).collect()
    };
    let told = [owned(&members[0], "one:8230"), owned(&members[1], "two:8230")].concat();
    assert_eq!(told.len(), 4, "the third one told nothing");
    for member in &members {
        let addresses = member.source.group().addresses(WAIT).unwrap();
        assert_eq!(addresses.into_iter().collect::<BTreeSet<_>>(), told.iter().cloned().collect());
    }
    assert_eq!(offsets.members(WAIT).unwrap(), 3);
}

#[test]
fn the_owner_of_each_partition_is_known_with_the_classic_protocol() {
    let Some(settings) = shared("the_owner_of_each_partition_is_known_with_the_classic_protocol") else { return };
    owners(&settings);
}

#[test]
fn the_owner_of_each_partition_is_known_with_the_broker_side_protocol() {
    let Some(settings) = shared("the_owner_of_each_partition_is_known_with_the_broker_side_protocol") else { return };
    owners(&KafkaSettings { group_protocol: GroupProtocol::Consumer, ..settings });
}

/// One more member than partitions: it learns that it was taken in, and nothing else.
fn an_idle_member_is_told(settings: &KafkaSettings) {
    let lead = new_topic(settings, "orders", 1);
    let subscription = subscription(&format!("idle-{}", unique()), &lead, &[]);
    let mut busy = Member::join(settings, &subscription);
    busy.poll_until("the partition", |notes| notes.owned.len() == 1);
    let mut idle = Member::join(settings, &subscription);
    let until = Instant::now() + WAIT;
    while idle.notes.memberships.is_empty() {
        assert!(Instant::now() < until, "an idle member is told nothing");
        busy.poll(Duration::from_millis(10));
        idle.poll(Duration::from_millis(10));
    }
    assert!(idle.notes.owned.is_empty());
}

#[test]
fn an_idle_member_is_told_that_it_was_taken_in() {
    let Some(settings) = shared("an_idle_member_is_told_that_it_was_taken_in") else { return };
    an_idle_member_is_told(&settings);
    an_idle_member_is_told(&KafkaSettings { group_protocol: GroupProtocol::Consumer, ..settings });
}

#[test]
fn the_session_timeouts_that_the_broker_takes_can_be_asked_for() {
    let Some(settings) = shared("the_session_timeouts_that_the_broker_takes_can_be_asked_for") else { return };
    let lead = new_topic(&settings, "orders", 1);
    // A client that has just connected does not know yet under which id the broker answers.
    for _ in 0..5 {
        let began = Instant::now();
        assert_eq!(KafkaAdmin::connect(&settings).unwrap().session_bounds_ms(&lead), Some((1_000, 1_800_000)));
        assert!(began.elapsed() < Duration::from_secs(5), "told after {:?}", began.elapsed());
    }
}

/// Polls all members until the tasks are dealt out among them, nobody has two more than another, and this has stayed so.
fn settle(members: &mut [Member]) {
    let until = Instant::now() + Duration::from_secs(60);
    let mut calm_since = Instant::now();
    let mut before = Vec::new();
    loop {
        for member in &mut *members {
            member.poll(Duration::from_millis(10));
        }
        let owned: Vec<BTreeSet<_>> = members.iter().map(|member| member.notes.owned.clone()).collect();
        let total: usize = owned.iter().map(BTreeSet::len).sum();
        let union: BTreeSet<_> = owned.iter().flatten().collect();
        assert!(union.len() == total || Instant::now() < until, "two members own one task: {owned:?}");
        let sizes = || owned.iter().map(BTreeSet::len);
        let is_dealt = total == 6 && union.len() == 6 && sizes().max().unwrap() - sizes().min().unwrap() <= 1;
        if !is_dealt || owned != before {
            calm_since = Instant::now();
        }
        before = owned;
        if calm_since.elapsed() > Duration::from_secs(1) {
            return;
        }
        assert!(Instant::now() < until, "the group does not settle: {before:?}");
    }
}

/// Starts what is assigned, and reads: lead and companion of every task must come, and nothing else. Leaves everything held
/// back, which must not outlive the next start, here or after a revoke.
fn read_all(members: &mut [Member], topics: &[&TopicName], count: usize) {
    for member in &mut *members {
        member.notes.records.clear();
        let owned: Vec<_> = member.notes.owned.iter().copied().collect();
        for task in &owned {
            member.start(topics, task.partition.0, 0);
        }
        let wanted = owned.len() * topics.len() * count;
        member.poll_until("records of lead and companion", |notes| notes.records.len() >= wanted);
        member.poll(Duration::from_millis(100));
        for task in &owned {
            for topic in 0..topics.len() {
                let found = member.notes.records.iter().filter(|record| record.0 == *task && record.1 == topic);
                let offsets: Vec<i64> = found.map(|record| record.2).collect();
                assert_eq!(offsets, (0..i64::try_from(count).unwrap()).collect::<Vec<_>>(), "{task:?} topic {topic}");
            }
            let places: Vec<_> = topics.iter().map(|topic| place(topic, task.partition.0)).collect();
            member.source.hold(&places).unwrap();
        }
    }
}

fn aligned(settings: &KafkaSettings) {
    let lead = new_topic(settings, "orders", PARTITIONS);
    let companion = new_topic(settings, "customers", PARTITIONS);
    fill(settings, &lead, PARTITIONS, 10);
    fill(settings, &companion, PARTITIONS, 10);
    let subscription = subscription(&format!("aligned-{}", unique()), &lead, &[&companion]);
    let topics = [&lead, &companion];
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(Member::join(settings, &subscription));
        settle(&mut members);
        read_all(&mut members, &topics, 10);
    }
    let mut first = members.remove(0);
    first.source.close(&mut first.notes);
    assert!(first.notes.owned.is_empty(), "the leaver was not told of the revoke");
    assert!(first.notes.revoked > 0);
    settle(&mut members);
    read_all(&mut members, &topics, 10);
    drop(members.remove(0)); // leaves without saying so to anybody here
    settle(&mut members);
    read_all(&mut members, &topics, 10);
    for member in &members {
        for membership in &member.notes.memberships {
            assert!(membership.generation() >= 0 && !membership.member_id().is_empty());
        }
    }
}

#[test]
fn companions_stay_aligned_over_joins_and_leaves_of_three_members() {
    let Some(settings) = shared("companions_stay_aligned") else { return };
    aligned(&settings);
}

#[test]
fn companions_stay_aligned_under_the_broker_side_protocol() {
    let Some(settings) = shared("companions_stay_aligned_under_the_broker_side_protocol") else { return };
    aligned(&KafkaSettings { group_protocol: GroupProtocol::Consumer, ..settings });
}

fn an_old_generation_is_fenced(settings: &KafkaSettings) {
    let lead = new_topic(settings, "lead", PARTITIONS);
    let group = format!("generation-{}", unique());
    let subscription = subscription(&group, &lead, &[]);
    let mut members = vec![Member::join(settings, &subscription)];
    settle(&mut members);
    let old = members[0].membership();
    members.push(Member::join(settings, &subscription));
    settle(&mut members);
    let new = members[0].membership();
    assert!(new.generation() > old.generation(), "{old:?} {new:?}");
    assert_eq!(new.member_id(), old.member_id());

    let mut sink = KafkaSink::open(settings, &format!("generation-{}", unique())).unwrap();
    let kept = members[0].notes.owned.iter().next().unwrap().partition.0;
    let moved = members[1].notes.owned.iter().next().unwrap().partition.0;
    // Kafka 4.3's own protocol lets an old epoch commit what has stayed with its member since (KIP-1251).
    let refused = if settings.group_protocol == GroupProtocol::Classic { kept } else { moved };
    let of_old = [(place(&lead, refused), Committed { next_offset: NextOffset(6), metadata: String::new() })];
    let offsets = [(place(&lead, kept), Committed { next_offset: NextOffset(7), metadata: "v1 x 1 7".into() })];
    sink.begin().unwrap();
    let refused = sink.send_offsets(&of_old, &old).unwrap_err();
    assert!(matches!(refused, Fault::Fenced(_)), "{refused}");
    assert!(sink.taint().is_some());
    sink.renew().unwrap();
    assert_eq!(sink.taint(), None);
    sink.begin().unwrap();
    sink.send_offsets(&offsets, &new).unwrap();
    sink.commit().unwrap();
    let committed = members[0].source.group().committed(&[offsets[0].0.clone()], Duration::from_secs(5)).unwrap();
    assert_eq!(committed, [Some(offsets[0].1.clone())]);
}

#[test]
fn offsets_of_an_old_generation_are_fenced() {
    let Some(settings) = shared("offsets_of_an_old_generation_are_fenced") else { return };
    an_old_generation_is_fenced(&settings);
}

#[test]
fn offsets_of_an_old_member_epoch_are_fenced() {
    let Some(settings) = shared("offsets_of_an_old_member_epoch_are_fenced") else { return };
    an_old_generation_is_fenced(&KafkaSettings { group_protocol: GroupProtocol::Consumer, ..settings });
}

/// The join that takes the partitions away has begun a new generation already (seen in the chaos test: an instance that
/// went on with the old one was refused until it gave up).
fn a_revoke_can_publish(settings: &KafkaSettings) {
    let lead = new_topic(settings, "lead", PARTITIONS);
    let subscription = subscription(&format!("revoke-{}", unique()), &lead, &[]);
    let mut members = vec![Member::join(settings, &subscription)];
    settle(&mut members);
    let mut sink = KafkaSink::open(settings, &format!("revoke-{}", unique())).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let topic = lead.clone();
    members[0].notes.at_revoke = Some(Box::new(move |tasks, membership| {
        let offset = |task: &TaskId| {
            (place(&topic, task.partition.0), Committed { next_offset: NextOffset(5), metadata: "v1 x 1 5".into() })
        };
        let offsets: Vec<_> = tasks.iter().map(offset).collect();
        sink.begin().unwrap();
        let result = sink.send_offsets(&offsets, membership).and_then(|()| sink.commit());
        tell.send((offsets, result)).unwrap();
    }));
    members.push(Member::join(settings, &subscription));
    settle(&mut members);
    let (offsets, result) = told.try_recv().unwrap();
    result.unwrap();
    let moved: Vec<_> = offsets.iter().map(|(place, _)| place.clone()).collect();
    let committed = members[1].source.group().committed(&moved, Duration::from_secs(5)).unwrap();
    assert_eq!(committed, offsets.into_iter().map(|(_, committed)| Some(committed)).collect::<Vec<_>>());
    for member in &mut members {
        member.notes.at_revoke = None;
    }
}

#[test]
fn a_revoked_member_publishes_in_the_generation_that_takes_its_partitions() {
    let Some(settings) = shared("a_revoked_member_publishes") else { return };
    a_revoke_can_publish(&settings);
}

#[test]
fn a_revoked_member_publishes_under_the_broker_side_protocol() {
    let Some(settings) = shared("a_revoked_member_publishes_under_the_broker_side_protocol") else { return };
    a_revoke_can_publish(&KafkaSettings { group_protocol: GroupProtocol::Consumer, ..settings });
}

#[test]
fn a_plain_commit_proves_membership() {
    let Some(settings) = shared("a_plain_commit_proves_membership") else { return };
    let lead = new_topic(&settings, "lead", 1);
    let subscription = subscription(&format!("proof-{}", unique()), &lead, &[]);
    let mut first = Member {
        source: KafkaSource::join(&settings, &subscription, Some("slot-0")).unwrap(),
        notes: Default::default(),
    };
    first.poll_until("assignment", |notes| notes.owned.contains(&task(0)));
    assert_eq!(first.membership().instance_id(), Some("slot-0"));
    let wait = Duration::from_secs(10);
    let commit = [(place(&lead, 0), Committed { next_offset: NextOffset(3), metadata: "v1 proof 4 3".into() })];
    let group = first.source.group();
    group.commit(&commit, wait).unwrap();
    assert_eq!(group.committed(&[place(&lead, 0)], wait).unwrap(), [Some(commit[0].1.clone())]);

    // A second instance under the same slot takes the first one's place in the group.
    let mut second = Member {
        source: KafkaSource::join(&settings, &subscription, Some("slot-0")).unwrap(),
        notes: Default::default(),
    };
    second.poll_until("assignment of the second", |notes| notes.owned.contains(&task(0)));
    let refused = group.commit(&commit, wait).unwrap_err();
    assert!(matches!(refused, Fault::Fenced(_)), "{refused}");
}
