//! The reads of the audit, and the work on the schema.

use super::*;

pub fn counters_add_up(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    let counts = Counts { records: 5, row_changes: 4, announced: 3, dead_letters: 2, skipped: 1, late: 0 };
    for from in [0, 1] {
        rows.begin().unwrap();
        rows.advance(&[Move { counts, ..scene.moved(1, from, from + 1) }]).unwrap();
        rows.commit().unwrap();
    }
    let found = bench.history(&scene.pipeline).positions().unwrap().remove(0).2;
    let twice = Counts { records: 10, row_changes: 8, announced: 6, dead_letters: 4, skipped: 2, late: 0 };
    assert_eq!(found, twice);
    assert_eq!(bench.history(&unique("pipeline")).positions().unwrap(), []);
}

pub fn version_sum_is_counted_from_the_baseline(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    bench.insert(&scene.table, &SCORE, &row(3, 40, 1.0));
    let sum = |table: &Table| bench.history(&scene.pipeline).version_sum(table).unwrap();
    let mut schema = bench.schema(&scene.pipeline, Duration::from_secs(1));
    schema.note_baseline(&scene.table).unwrap();
    assert_eq!(sum(&scene.table), Some(0));
    let mut rows = scene.owner();
    step(&scene, &mut *rows, &scene.moved(1, 0, 1), 11.0);
    schema.note_baseline(&scene.table).unwrap();
    assert_eq!(sum(&scene.table), Some(1), "the base line is noted once and for ever");
    assert_eq!(sum(&scene.table.clone().unversioned()), None);
}

pub fn migrate_is_done_once(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut schema = bench.schema(&scene.pipeline, Duration::from_secs(1));
    schema.migrate().unwrap();
    assert_eq!(schema.migrate().unwrap(), [] as [String; 0]);
    schema.verify().unwrap();
}

pub fn slots_are_leased_to_one_owner(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let term = Duration::from_secs(60);
    let mut schema = bench.schema(&scene.pipeline, term);
    assert_eq!(schema.lease_slot("a", None, term).unwrap(), 0);
    assert_eq!(schema.lease_slot("b", None, term).unwrap(), 1);
    assert_eq!(schema.lease_slot("c", Some(7), term).unwrap(), 7);
    let taken = schema.lease_slot("d", Some(0), term);
    assert!(taken.as_ref().is_err_and(Fault::is_retry), "{taken:?}");
    assert_eq!(schema.lease_slot("a", Some(0), term).unwrap(), 0, "one's own may be leased again");
    assert!(schema.renew_slot(0, "a", term).unwrap());
    assert!(!schema.renew_slot(0, "b", term).unwrap());
    schema.release_slot(0, "b");
    assert!(schema.renew_slot(0, "a", term).unwrap(), "nobody else can release it");
    schema.release_slot(0, "a");
    assert!(!schema.renew_slot(0, "a", term).unwrap());
    assert_eq!(schema.lease_slot("e", None, term).unwrap(), 0, "the lowest free one");
    assert_eq!(schema.lease_slot("f", None, Duration::ZERO).unwrap(), 2);
    assert_eq!(schema.lease_slot("g", None, term).unwrap(), 2, "its term was over");
}

pub fn maintenance_keeps_what_is_not_published(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    fill(&scene, &mut *rows, 0, &[(1, 1), (2, 1)]);
    std::thread::sleep(Duration::from_millis(5));
    bench.schema(&scene.pipeline, Duration::ZERO).maintain().unwrap();
    assert_eq!(scene.outbox_of(&mut *rows, 0).len(), 2, "P is still 0");
    fill(&scene, &mut *rows, 0, &[(101, 1)]);
    bench.schema(&scene.pipeline, Duration::from_secs(3600)).maintain().unwrap();
    assert_eq!(scene.outbox_of(&mut *rows, 0).len(), 3, "young rows stay, published or not");
}

pub fn nothing_to_write_is_no_error(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    rows.begin().unwrap();
    assert_eq!(rows.advance(&[]).unwrap(), [false; 0]);
    rows.write(0, &[]).unwrap();
    rows.append(&[]).unwrap();
    rows.record(&[]).unwrap();
    assert_eq!(rows.commit().unwrap(), CommitAnswer::Done);
    assert_eq!(rows.claim(&[]).unwrap(), []);
    assert_eq!(rows.outbox(&scene.place(0), NextOffset(0), NextOffset(0), 10).unwrap(), []);
}
