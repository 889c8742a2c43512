//! Keys of several columns.

use super::*;
use serde::{Deserialize, Serialize};
use tidegate::flow::key::Part;

#[derive(Serialize, Deserialize)]
struct OrderKey {
    tenant: i64,
    code: String,
    lot: uuid::Uuid,
}

fn key(tenant: i64, code: &str) -> Key {
    Key::from([Part::from(tenant), Part::from(code), Part::from(uuid::Uuid::from_u128(0xab))])
}

/// A table of orders with rows under three keys, of which two have the first column in common, and two the second.
fn orders(scene: &Scene<'_>) -> Table {
    let table = Table::new(&unique("orders").replace('-', "_")).compound_key::<OrderKey>();
    scene.bench.create_table(&table, &SCORE, Some("score"));
    for key in [key(1, "a"), key(1, "b"), key(2, "a")] {
        scene.bench.insert(&table, &SCORE, &RowRead { key, version: 0, values: vec![Value::F64(1.0), Value::Null] });
    }
    table
}

/// A connection that makes and deletes orders, and owns partition 0 at offset 0. The struct has a column of the key.
fn owner(scene: &Scene<'_>, table: &Table) -> Box<dyn Rows> {
    let mut rows = scene.bench.rows(&scene.pipeline);
    let columns = [("code", ColumnType::Text, false), SCORE[0]];
    rows.bind(&[TableSpec { inserts: true, deletes: true, ..spec(table, &columns) }]).expect("bind");
    rows
}

fn change(kind: WriteKind, key: Key, score: f64) -> RowWrite {
    let from_version = 0;
    let to_version = i64::from(kind != WriteKind::Delete);
    let is_gone = kind == WriteKind::Delete;
    let values = if is_gone { Vec::new() } else { vec![Value::Null, Value::F64(score)] };
    RowWrite { kind, key, from_version, to_version, values }
}

pub fn a_key_of_several_columns_finds_its_row(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let table = orders(&scene);
    let mut rows = owner(&scene, &table);
    assert!(rows.create(&scene.claim(0, 1), NextOffset(0)).unwrap());
    rows.begin().unwrap();
    assert_eq!(rows.advance(&[scene.moved(1, 0, 1)]).unwrap(), [true]);
    let odd = "\"späti\" \\ ['☂',1]";
    let found = by_key(rows.read(0, &[key(2, "a"), key(1, "a"), key(2, "b"), key(3, odd)]).unwrap());
    let told: Vec<_> = found.iter().map(|row| (row.key.clone(), row.values.clone())).collect();
    let values = vec![Value::Text("a".into()), Value::F64(1.0)];
    assert_eq!(told, [(key(1, "a"), values.clone()), (key(2, "a"), values)]);
    let writes = [
        change(WriteKind::Update, key(1, "a"), 7.0),
        change(WriteKind::Delete, key(2, "a"), 0.0),
        change(WriteKind::Insert, key(3, odd), 8.0),
    ];
    rows.write(0, &writes).unwrap();
    assert_eq!(rows.commit().unwrap(), CommitAnswer::Done);
    rows.begin().unwrap();
    let all = [key(1, "a"), key(1, "b"), key(2, "a"), key(3, odd), key(i64::MAX, "")];
    let found = by_key(rows.read(0, &all).unwrap());
    rows.rollback();
    let told: Vec<_> = found.iter().map(|row| (row.key.clone(), row.version, row.values[1].clone())).collect();
    let score = |score: f64| Value::F64(score);
    let due = [(key(1, "a"), 1, score(7.0)), (key(1, "b"), 0, score(1.0)), (key(3, odd), 1, score(8.0))];
    assert_eq!(told, due);
}

pub fn rows_with_a_key_of_several_columns_are_locked_by_it(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let table = orders(&scene);
    let mut rows = owner(&scene, &table);
    assert!(rows.create(&scene.claim(0, 1), NextOffset(0)).unwrap());
    if bench.is_one_writer() {
        return; // it locks no rows
    }
    rows.begin().unwrap();
    assert_eq!(rows.advance(&[scene.moved(1, 0, 1)]).unwrap(), [true]);
    rows.read(0, &[key(1, "b")]).unwrap();
    let mut other = owner(&scene, &table);
    assert_eq!(other.locked(0, &[key(1, "a"), key(1, "b")]).unwrap(), [key(1, "b")]);
    rows.rollback();
}
