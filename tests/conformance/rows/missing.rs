//! Rows that are inserted where they are missing, and rows that are deleted.

use super::*;

/// A connection that inserts and deletes, and owns partition 0 at offset 0.
fn maker(scene: &Scene<'_>) -> Box<dyn Rows> {
    let mut rows = connect(scene);
    assert!(rows.create(&scene.claim(0, 1), NextOffset(0)).expect("create"));
    rows
}

fn connect(scene: &Scene<'_>) -> Box<dyn Rows> {
    let mut rows = scene.bench.rows(&scene.pipeline);
    rows.bind(&[TableSpec { inserts: true, deletes: true, ..scene.spec() }]).expect("bind");
    rows
}

fn begin(scene: &Scene<'_>, rows: &mut dyn Rows, from: i64) {
    rows.begin().unwrap();
    assert_eq!(rows.advance(&[scene.moved(1, from, from + 1)]).unwrap(), [true]);
}

fn insert(id: i64, score: f64) -> RowWrite {
    RowWrite { kind: WriteKind::Insert, ..write(id, 0, score) }
}

fn delete(id: i64, from_version: i64) -> RowWrite {
    let (key, to_version) = (Key::I64(id), from_version);
    RowWrite { kind: WriteKind::Delete, key, from_version, to_version, values: Vec::new() }
}

/// The versions of rows 1 to 5, as everybody sees them.
fn versions(scene: &Scene<'_>) -> Vec<(Key, i64)> {
    let mut rows = scene.connect();
    rows.begin().unwrap();
    let found = by_key(rows.read(0, &ids(&[1, 2, 3, 4, 5])).unwrap());
    rows.rollback();
    found.into_iter().map(|row| (row.key, row.version)).collect()
}

pub fn a_missing_row_is_inserted_with_its_version_and_values(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = maker(&scene);
    begin(&scene, &mut *rows, 0);
    assert_eq!(rows.read(0, &ids(&[3])).unwrap(), []);
    rows.write(0, &[insert(3, 7.5)]).unwrap();
    let own = rows.read(0, &ids(&[3])).unwrap();
    assert_eq!((own[0].version, &own[0].values[0]), (1, &Value::F64(7.5)), "the transaction reads what it inserted");
    rows.write(0, &[write(3, 1, 8.5)]).unwrap();
    if !bench.is_one_writer() {
        assert_eq!(versions(&scene).len(), 2, "nobody else sees it");
    }
    assert_eq!(rows.commit().unwrap(), CommitAnswer::Done);
    assert_eq!(scene.score(3), (2, Value::F64(8.5)));
}

pub fn a_row_is_deleted_and_may_be_inserted_again(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = maker(&scene);
    begin(&scene, &mut *rows, 0);
    rows.read(0, &ids(&[1])).unwrap();
    rows.write(0, &[delete(1, 0)]).unwrap();
    assert_eq!(rows.read(0, &ids(&[1])).unwrap(), [], "the transaction sees that it is gone");
    rows.write(0, &[insert(1, 3.0)]).unwrap();
    rows.commit().unwrap();
    assert_eq!(scene.score(1), (1, Value::F64(3.0)));
    begin(&scene, &mut *rows, 1);
    rows.read(0, &ids(&[1])).unwrap();
    rows.write(0, &[delete(1, 1)]).unwrap();
    rows.commit().unwrap();
    assert_eq!(versions(&scene), [(Key::I64(2), 0)]);
}

pub fn deletes_updates_and_inserts_go_together(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = maker(&scene);
    begin(&scene, &mut *rows, 0);
    rows.read(0, &ids(&[1, 2, 3, 4])).unwrap();
    rows.write(0, &[delete(1, 0), write(2, 0, 11.0), insert(3, 7.0), insert(4, 8.0)]).unwrap();
    rows.commit().unwrap();
    assert_eq!(versions(&scene), [(Key::I64(2), 1), (Key::I64(3), 1), (Key::I64(4), 1)]);
}

pub fn what_was_inserted_and_deleted_is_undone(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = maker(&scene);
    begin(&scene, &mut *rows, 0);
    rows.read(0, &ids(&[1, 3])).unwrap();
    rows.savepoint().unwrap();
    rows.write(0, &[delete(1, 0), insert(3, 7.0)]).unwrap();
    rows.rollback_to_savepoint().unwrap();
    assert_eq!(rows.read(0, &ids(&[1, 3])).unwrap().len(), 1);
    rows.write(0, &[delete(1, 0), insert(3, 7.0)]).unwrap();
    rows.rollback();
    assert_eq!(versions(&scene), [(Key::I64(1), 0), (Key::I64(2), 0)]);
}

/// Not overwritten, and no dead letter: the record is decided again.
pub fn a_row_that_somebody_else_has_inserted_is_decided_again(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = maker(&scene);
    begin(&scene, &mut *rows, 0);
    assert_eq!(rows.read(0, &ids(&[3, 4])).unwrap(), []);
    if bench.is_one_writer() {
        rows.rollback();
        return; // nobody else writes meanwhile
    }
    rows.savepoint().unwrap();
    bench.insert(&scene.table, &SCORE, &row(3, 5, 20.0));
    let several = rows.write(0, &[insert(3, 7.0), insert(4, 8.0)]);
    assert!(several.is_err());
    rows.rollback_to_savepoint().unwrap();
    let Err(WriteFault::Fault(fault)) = rows.write(0, &[insert(3, 7.0)]) else { panic!("it was taken, or refused") };
    assert!(matches!(fault, Fault::Retry(_)), "{fault}");
    rows.rollback();
    begin(&scene, &mut *rows, 0);
    assert_eq!(rows.read(0, &ids(&[3])).unwrap()[0].version, 5, "it is there by now");
    rows.write(0, &[write(3, 5, 21.0)]).unwrap();
    rows.commit().unwrap();
    assert_eq!(scene.score(3), (6, Value::F64(21.0)));
}

/// The second waits, and finds the row.
pub fn of_two_that_insert_a_row_one_waits_and_decides_again(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut first = maker(&scene);
    assert!(first.create(&scene.claim(1, 1), NextOffset(0)).unwrap());
    begin(&scene, &mut *first, 0);
    first.read(0, &ids(&[3])).unwrap();
    first.write(0, &[insert(3, 7.0)]).unwrap();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            let mut second = connect(&scene);
            let moved = Move { source: scene.place(1), ..scene.moved(1, 0, 1) };
            let mut missed = 0;
            loop {
                second.begin().unwrap();
                assert_eq!(second.advance(std::slice::from_ref(&moved)).unwrap(), [true]);
                let found = second.read(0, &ids(&[3])).unwrap();
                let next = found.first().map_or_else(|| insert(3, 20.0), |found| write(3, found.version, 20.0));
                match second.write(0, &[next]) {
                    Ok(()) => break second.commit().map(|_| missed).unwrap(),
                    Err(WriteFault::Fault(Fault::Retry(_))) => missed += 1,
                    Err(other) => panic!("{other:?}"),
                }
                second.rollback();
            }
        });
        std::thread::sleep(bench.lock_wait() / 10);
        first.commit().unwrap();
        let missed = second.join().unwrap();
        assert!(missed <= 1, "{missed}");
    });
    assert_eq!(scene.score(3), (2, Value::F64(20.0)), "both changes are there");
}

pub fn a_refused_value_blames_the_row_that_is_inserted(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = maker(&scene);
    begin(&scene, &mut *rows, 0);
    rows.read(0, &ids(&[3])).unwrap();
    let refused = rows.write(0, &[insert(3, -1.0)]);
    let Err(WriteFault::Rejected(reject)) = refused else { panic!("not a reject: {refused:?}") };
    assert!(!reject.code().is_empty(), "{reject:?}");
    rows.rollback();
    assert_eq!(versions(&scene).len(), 2);
}

pub fn a_row_without_a_value_for_every_column_is_no_row_to_insert(bench: &dyn RowsBench) {
    let table = Table::new(&unique("wide").replace('-', "_"));
    let all: [Column<'_>; 3] = [("score", ColumnType::F64, false), ("owner", ColumnType::Text, false), SCORE[1]];
    bench.create_table(&table, &all, None);
    let known = spec(&table, &[all[0], all[2]]);
    let mut rows = bench.rows(&unique("pipeline"));
    rows.bind(std::slice::from_ref(&known)).expect("to be updated it need not be known");
    let fault = rows.bind(&[TableSpec { inserts: true, ..known }]).unwrap_err().to_string();
    assert!(fault.contains("column owner: is not null and has no default, and insert_missing"), "{fault}");
    rows.bind(&[TableSpec { inserts: true, ..spec(&table, &all) }]).unwrap();
}
