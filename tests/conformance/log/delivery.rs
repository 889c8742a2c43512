//! Deliveries: which records come, from where on, and which do not.

use super::*;

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

pub fn held_partitions_are_silent_until_released(bench: &dyn LogBench) {
    let scene = Scene::new(bench, 2);
    let mut member = scene.reader(2);
    scene.produce(0, &["a"]);
    assert_eq!(member.hear(1), ["a"]);
    member.source.hold(&[scene.place(0)]).unwrap();
    scene.produce(0, &["b", "c"]);
    scene.produce(1, &["d"]);
    assert_eq!(member.hear(2), ["a", "d"]);
    member.source.release(&[scene.place(0)]).unwrap();
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
