//! A transaction is whole or nothing.

use super::*;

pub fn a_step_is_committed_as_a_whole(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    assert_eq!(step(&scene, &mut *rows, &scene.moved(1, 0, 3), 11.5), CommitAnswer::Done);
    assert_eq!((scene.next_offset(0), scene.score(1)), (Some(3), (1, Value::F64(11.5))));
    let outbox = scene.outbox_of(&mut *rows, 0);
    assert_eq!(outbox.len(), 1);
    assert_eq!(outbox[0].value.as_deref(), Some(&b"0/0"[..]));
    let (_, position, counts) = bench.history(&scene.pipeline).positions().unwrap().remove(0);
    assert_eq!((position.published, counts.records, counts.row_changes), (NextOffset(0), 3, 1));
    assert_eq!(scene.score(2), (0, Value::F64(10.0)), "the other row is as it was");
}

pub fn rollback_leaves_nothing(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    rows.begin().unwrap();
    rows.advance(&[scene.moved(1, 0, 1)]).unwrap();
    rows.read(0, &ids(&[1])).unwrap();
    rows.write(0, &[write(1, 0, 99.0)]).unwrap();
    rows.append(&[scene.outbox_row(0, 0, 0)]).unwrap();
    rows.record(&[scene.verdict(0)]).unwrap();
    rows.rollback();
    rows.rollback();
    assert_eq!((scene.next_offset(0), scene.score(1)), (Some(0), (0, Value::F64(10.0))));
    assert_eq!(scene.outbox_of(&mut *rows, 0), []);
    step(&scene, &mut *rows, &scene.moved(1, 0, 1), 11.0);
    assert_eq!(scene.score(1), (1, Value::F64(11.0)), "the connection goes on, and the batch can be offered again");
}

pub fn a_lost_connection_leaves_nothing_and_no_lock(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut zombie = scene.owner();
    zombie.begin().unwrap();
    zombie.advance(&[scene.moved(1, 0, 1)]).unwrap();
    zombie.read(0, &ids(&[1])).unwrap();
    zombie.write(0, &[write(1, 0, 99.0)]).unwrap();
    drop(zombie);
    let mut successor = scene.connect();
    let claimed = crate::eventually("the claim", || successor.claim(&[scene.claim(0, 2)]).ok());
    assert_eq!(owned(&claimed), (2, 0));
    step(&scene, &mut *successor, &scene.moved(2, 0, 1), 11.0);
    assert_eq!(scene.score(1), (1, Value::F64(11.0)));
}

pub fn reads_answer_what_is_there(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    rows.begin().unwrap();
    rows.advance(&[scene.moved(1, 0, 1)]).unwrap();
    assert_eq!(by_key(rows.read(0, &ids(&[-1, 1, 2, 3])).unwrap()), [row(1, 0, 10.0), row(2, 0, 10.0)]);
    assert_eq!(rows.read(0, &ids(&[3])).unwrap(), []);
    assert_eq!(rows.read(0, &[]).unwrap(), []);
    rows.rollback();
}

pub fn a_transaction_reads_its_own_writes(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    rows.begin().unwrap();
    rows.advance(&[scene.moved(1, 0, 1)]).unwrap();
    rows.read(0, &ids(&[1])).unwrap();
    rows.write(0, &[write(1, 0, 11.0)]).unwrap();
    let found = rows.read(0, &ids(&[1])).unwrap();
    assert_eq!((found[0].version, &found[0].values[0]), (1, &Value::F64(11.0)));
    rows.write(0, &[write(1, 1, 12.0)]).unwrap();
    rows.commit().unwrap();
    assert_eq!(scene.score(1), (2, Value::F64(12.0)));
}

pub fn a_refused_value_blames_the_row(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    rows.begin().unwrap();
    rows.advance(&[scene.moved(1, 0, 1)]).unwrap();
    rows.read(0, &ids(&[1, 2])).unwrap();
    let refused = rows.write(0, &[write(1, 0, 11.0), write(2, 0, -1.0)]);
    let Err(WriteFault::Rejected(reject)) = refused else { panic!("not a reject: {refused:?}") };
    assert!(!reject.code().is_empty() && !reject.message().is_empty(), "{reject:?}");
    rows.rollback();
    assert_eq!(scene.score(1), (0, Value::F64(10.0)));
}

/// The row lock rules it out; were it to happen all the same, a blind write would hide it.
pub fn a_row_with_another_version_is_not_written(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    rows.begin().unwrap();
    rows.advance(&[scene.moved(1, 0, 1)]).unwrap();
    rows.read(0, &ids(&[1])).unwrap();
    let refused = rows.write(0, &[write(1, 7, 11.0)]);
    assert!(matches!(refused, Err(WriteFault::Fault(Fault::Corrupt(_)))), "{refused:?}");
    rows.rollback();
    assert_eq!(scene.score(1), (0, Value::F64(10.0)));
}

pub fn an_outbox_row_is_not_kept_twice(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    let row = scene.outbox_row(0, 0, 0);
    for is_first in [true, false] {
        rows.begin().unwrap();
        rows.advance(&[scene.moved(1, 0, 0)]).unwrap();
        assert_eq!(rows.append(std::slice::from_ref(&row)).is_ok(), is_first);
        assert_eq!(rows.commit().is_ok(), is_first);
        rows.rollback();
    }
    assert_eq!(scene.outbox_of(&mut *rows, 0), [row]);
}

pub fn a_verdict_may_be_decided_again(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    for _ in 0..2 {
        rows.begin().unwrap();
        rows.advance(&[scene.moved(1, 0, 0)]).unwrap();
        rows.record(&[scene.verdict(0), scene.verdict(1)]).unwrap();
        rows.commit().unwrap();
    }
}

pub fn savepoint_keeps_earlier_writes(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    rows.begin().unwrap();
    rows.advance(&[scene.moved(1, 0, 2)]).unwrap();
    rows.read(0, &ids(&[1, 2])).unwrap();
    rows.write(0, &[write(1, 0, 11.0)]).unwrap();
    rows.append(&[scene.outbox_row(0, 0, 0)]).unwrap();
    rows.savepoint().unwrap();
    rows.append(&[scene.outbox_row(0, 1, 0)]).unwrap();
    let refused = rows.write(0, &[write(2, 0, -1.0)]);
    assert!(matches!(refused, Err(WriteFault::Rejected(_))), "{refused:?}");
    rows.rollback_to_savepoint().unwrap();
    // The savepoint stays: a second failure behind it is undone as well.
    assert!(rows.write(0, &[write(2, 0, -2.0)]).is_err());
    rows.rollback_to_savepoint().unwrap();
    rows.append(&[scene.outbox_row(0, 1, 7)]).unwrap();
    assert_eq!(rows.commit().unwrap(), CommitAnswer::Done);
    assert_eq!((scene.score(1), scene.score(2)), ((1, Value::F64(11.0)), (0, Value::F64(10.0))));
    let told: Vec<i32> = scene.outbox_of(&mut *rows, 0).iter().map(|row| row.seq).collect();
    assert_eq!((scene.next_offset(0), told), (Some(2), vec![0, 7]));
}

pub fn the_savepoint_moves(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    rows.begin().unwrap();
    rows.advance(&[scene.moved(1, 0, 1)]).unwrap();
    rows.read(0, &ids(&[1, 2])).unwrap();
    rows.savepoint().unwrap();
    rows.write(0, &[write(1, 0, 11.0)]).unwrap();
    rows.savepoint().unwrap();
    rows.write(0, &[write(2, 0, 12.0)]).unwrap();
    rows.rollback_to_savepoint().unwrap();
    rows.commit().unwrap();
    assert_eq!((scene.score(1), scene.score(2)), ((1, Value::F64(11.0)), (0, Value::F64(10.0))));
}

pub fn a_failed_transaction_cannot_be_committed(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    rows.begin().unwrap();
    rows.advance(&[scene.moved(1, 0, 1)]).unwrap();
    rows.read(0, &ids(&[1, 2])).unwrap();
    rows.write(0, &[write(1, 0, 11.0)]).unwrap();
    assert!(rows.write(0, &[write(2, 0, -1.0)]).is_err());
    let answer = rows.commit();
    assert!(answer.is_err(), "a COMMIT that was a rollback must not pass for one: {answer:?}");
    rows.rollback();
    assert_eq!((scene.next_offset(0), scene.score(1)), (Some(0), (0, Value::F64(10.0))));
}
