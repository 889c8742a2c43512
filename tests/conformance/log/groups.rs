//! Members come and go, and tasks move.

use super::*;

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

pub fn every_sub_topology_has_its_tasks(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 2);
    let second = bench.create_topic(&unique("second"), 3);
    let lead = |topic: &TopicName| CopartitionGroup { lead: topic.clone(), companions: Vec::new() };
    let groups = vec![lead(&scene.topic), lead(&second)];
    let mut member = Member::new(bench.source(&Subscription { group: scene.group.clone(), groups }));
    member.own(5);
    let wanted = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)];
    let found: Vec<_> = member.notes.tasks.iter().map(|task| (task.sub_topology, task.partition.0)).collect();
    assert_eq!(found, wanted);
    let place = TopicPartition::new(second, Partition(2));
    bench.produce(&place, None, Some(b"x"));
    member.start(&[(place, 0)]);
    member.hear(1);
    let heard = &member.notes.records[0];
    assert_eq!((heard.task.sub_topology, heard.topic), (1, 0));
    member.close();
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
