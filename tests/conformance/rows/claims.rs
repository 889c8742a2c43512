//! The owner of a position, and how a zombie is kept out.

use super::*;

pub fn the_first_claim_finds_nothing_and_creates_once(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.connect();
    let claim = scene.claim(0, 4);
    assert_eq!(rows.claim(std::slice::from_ref(&claim)).unwrap(), [Claimed::Absent]);
    assert!(rows.create(&claim, NextOffset(17)).unwrap());
    assert!(!rows.create(&claim, NextOffset(99)).unwrap(), "it exists already");
    let positions = bench.history(&scene.pipeline).positions().unwrap();
    assert_eq!(positions.len(), 1);
    let (source, position, counts) = &positions[0];
    assert_eq!((source, position.epoch), (&scene.place(0), 1));
    assert_eq!((position.next_offset, position.published), (NextOffset(17), NextOffset(17)));
    assert_eq!((position.incarnation, position.partition_count), (0, 4));
    assert_eq!((&position.log_ids, position.group.as_str()), (&claim.log_ids, scene.pipeline.as_str()));
    assert_eq!(*counts, Counts::default());
    let mut elsewhere = bench.rows(&unique("pipeline"));
    assert_eq!(elsewhere.claim(&[claim]).unwrap(), [Claimed::Absent], "positions belong to their pipeline");
}

pub fn claim_raises_the_epoch(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    assert!(rows.create(&scene.claim(1, 1), NextOffset(5)).unwrap());
    assert_eq!(owned(&rows.claim(&[scene.claim(0, 1)]).unwrap()), (2, 0), "the same generation may claim again");
    assert_eq!(owned(&rows.claim(&[scene.claim(0, 3)]).unwrap()), (3, 0));
    let both = rows.claim(&[scene.claim(1, 3), scene.claim(2, 3), scene.claim(0, 3)]).unwrap();
    assert_eq!(owned(&both[..1]), (2, 5), "in the order asked");
    assert_eq!(both[1], Claimed::Absent);
    assert_eq!(owned(&both[2..]), (4, 0));
}

pub fn stale_generation_cannot_claim(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    assert_eq!(owned(&rows.claim(&[scene.claim(0, 9)]).unwrap()), (2, 0));
    assert_eq!(rows.claim(&[scene.claim(0, 8)]).unwrap(), [Claimed::Stale { generation: 9 }]);
    let mut successor = scene.connect();
    assert_eq!(owned(&successor.claim(&[scene.claim(0, 9)]).unwrap()), (3, 0), "the refused claim changed nothing");
}

pub fn a_later_generation_is_claimed_over_only_as_it_was_found(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    assert_eq!(owned(&rows.claim(&[scene.claim(0, 9)]).unwrap()), (2, 0));
    let over = |generation, adopts| Claim { adopts: Some(adopts), ..scene.claim(0, generation) };
    assert_eq!(rows.claim(&[over(3, 8)]).unwrap(), [Claimed::Stale { generation: 9 }]);
    assert_eq!(owned(&rows.claim(&[over(3, 9)]).unwrap()), (3, 0));
    assert_eq!(rows.claim(&[over(2, 9)]).unwrap(), [Claimed::Stale { generation: 3 }], "a claim that comes late");
    assert_eq!(owned(&rows.claim(&[scene.claim(0, 3)]).unwrap()), (4, 0), "the new count holds");
}

pub fn zombie_compare_and_set_changes_nothing(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut zombie = scene.owner();
    step(&scene, &mut *zombie, &scene.moved(1, 0, 1), 11.0);
    let mut successor = scene.connect();
    assert_eq!(owned(&successor.claim(&[scene.claim(0, 2)]).unwrap()), (2, 1));
    zombie.begin().unwrap();
    assert_eq!(zombie.advance(&[scene.moved(1, 1, 2)]).unwrap(), [false]);
    zombie.rollback();
    assert_eq!(scene.next_offset(0), Some(1));
    step(&scene, &mut *successor, &scene.moved(2, 1, 2), 12.0);
    assert_eq!((scene.next_offset(0), scene.score(1)), (Some(2), (2, Value::F64(12.0))));
}

pub fn compare_and_set_demands_the_offset(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    step(&scene, &mut *rows, &scene.moved(1, 0, 3), 11.0);
    for from in [0, 2, 4] {
        rows.begin().unwrap();
        assert_eq!(rows.advance(&[scene.moved(1, from, 9)]).unwrap(), [false], "from {from}");
        rows.rollback();
    }
    assert_eq!(scene.next_offset(0), Some(3));
}

pub fn compare_and_set_answers_for_each_move(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    assert!(rows.create(&scene.claim(2, 1), NextOffset(40)).unwrap());
    let at = |partition: i32, from: i64| Move { source: scene.place(partition), ..scene.moved(1, from, from + 1) };
    rows.begin().unwrap();
    assert_eq!(rows.advance(&[at(2, 40), at(1, 0), at(0, 0), at(2, 39)]).unwrap(), [true, false, true, false]);
    rows.rollback();
    rows.begin().unwrap();
    assert_eq!(rows.advance(&[at(2, 40), at(0, 0)]).unwrap(), [true, true]);
    rows.commit().unwrap();
    assert_eq!((scene.next_offset(0), scene.next_offset(2)), (Some(1), Some(41)));
}

pub fn a_position_moves_on_from_where_the_transaction_put_it(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    let none = Counts::default();
    rows.begin().unwrap();
    assert_eq!(rows.advance(&[Move { counts: none, ..scene.moved(1, 0, 2) }]).unwrap(), [true]);
    rows.savepoint().unwrap();
    assert_eq!(rows.advance(&[scene.moved(1, 2, 5)]).unwrap(), [true]);
    rows.commit().unwrap();
    let (_, position, counts) = bench.history(&scene.pipeline).positions().unwrap().remove(0);
    assert_eq!((position.next_offset, counts.records), (NextOffset(5), 3));
    rows.begin().unwrap();
    assert_eq!(rows.advance(&[scene.moved(1, 5, 6)]).unwrap(), [true]);
    assert_eq!(rows.advance(&[scene.moved(1, 5, 7)]).unwrap(), [false]);
    rows.rollback();
    assert_eq!(scene.next_offset(0), Some(5));
}
