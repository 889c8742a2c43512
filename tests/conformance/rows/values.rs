//! Values of every type come back as they were written.

use super::*;

const WIDE: [Column<'_>; 12] = [
    ("flag", ColumnType::Bool, true),
    ("small", ColumnType::I16, true),
    ("middle", ColumnType::I32, true),
    ("large", ColumnType::I64, true),
    ("half", ColumnType::F32, true),
    ("full", ColumnType::F64, true),
    ("name", ColumnType::Text, true),
    ("raw", ColumnType::Bytes, true),
    ("uid", ColumnType::Uuid, true),
    ("at", ColumnType::Timestamp, true),
    ("extra", ColumnType::Json, true),
    ("amount", ColumnType::Numeric, true),
];

fn wide_values() -> Vec<Value> {
    vec![
        Value::Bool(true),
        Value::I16(-3),
        Value::I32(70_000),
        Value::I64(i64::MAX),
        Value::F32(0.1),
        Value::F64(0.1),
        Value::Text("späti 'quoted' \"twice\" \\ ☂".into()),
        Value::Bytes(vec![0, 1, 0xff, b'\'']),
        Value::Text("67e55044-10b1-426f-9247-bb680e5fe0c8".into()),
        Value::Text("2026-01-31T12:00:00.250001Z".into()),
        Value::Json(r#"{"a": [1, null, "x"]}"#.into()),
        Value::Text("123456789012345678901234567890.12345".into()),
    ]
}

/// Writes the values to a row that holds something else, commits, and reads them on a new connection.
fn round_trip(bench: &dyn RowsBench, before: &[Value], values: &[Value]) {
    let scene = Scene::new(bench);
    let wide = Table::new(&unique("wide").replace('-', "_")).unversioned();
    bench.create_table(&wide, &WIDE, None);
    bench.insert(&wide, &WIDE, &RowRead { key: Key::I64(7), version: 0, values: before.to_vec() });
    let mut rows = bench.rows(&scene.pipeline);
    // Other columns than the table's order, so that nothing rests on positions.
    let mut columns = WIDE;
    columns.reverse();
    rows.bind(&[scene.spec(), spec(&wide, &columns)]).unwrap();
    assert!(rows.create(&scene.claim(0, 1), NextOffset(0)).unwrap());
    let reversed: Vec<Value> = values.iter().rev().cloned().collect();
    rows.begin().unwrap();
    assert_eq!(rows.advance(&[scene.moved(1, 0, 1)]).unwrap(), [true]);
    let found = rows.read(1, &ids(&[7])).unwrap();
    let before: Vec<Value> = before.iter().rev().cloned().collect();
    assert_same(&found[0].values, &before);
    assert_eq!(found[0].version, 0, "a table without a version column");
    let write = RowWrite { key: Key::I64(7), from_version: 0, to_version: 0, values: reversed.clone() };
    rows.write(1, &[write]).unwrap();
    assert_eq!(rows.commit().unwrap(), CommitAnswer::Done);
    let mut other = bench.rows(&scene.pipeline);
    other.bind(&[spec(&wide, &columns)]).unwrap();
    other.begin().unwrap();
    let found = other.read(0, &ids(&[7])).unwrap();
    other.rollback();
    assert_same(&found[0].values, &reversed);
}

/// Equal, where JSON texts are compared as values: a `jsonb` column keeps no spelling.
#[track_caller]
fn assert_same(found: &[Value], wanted: &[Value]) {
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(wanted) {
        match (found, wanted) {
            (Value::Json(found), Value::Json(wanted)) => {
                let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
                assert_eq!(parse(found), parse(wanted));
            }
            _ => assert_eq!(found, wanted),
        }
    }
}

pub fn rows_round_trip_every_type(bench: &dyn RowsBench) {
    let other = vec![
        Value::Bool(false),
        Value::I16(0),
        Value::I32(1),
        Value::I64(2),
        Value::F32(3.5),
        Value::F64(4.25),
        Value::Text(String::new()),
        Value::Bytes(Vec::new()),
        Value::Text("00000000-0000-0000-0000-000000000000".into()),
        Value::Text("1970-01-01T00:00:00.000000Z".into()),
        Value::Json("[]".into()),
        Value::Text("0.5".into()),
    ];
    round_trip(bench, &other, &wide_values());
}

pub fn nulls_and_extremes_round_trip(bench: &dyn RowsBench) {
    let nulls = vec![Value::Null; WIDE.len()];
    let mut extremes = wide_values();
    extremes[1] = Value::I16(i16::MIN);
    extremes[2] = Value::I32(i32::MIN);
    extremes[3] = Value::I64(i64::MIN);
    extremes[4] = Value::F32(f32::MAX);
    extremes[5] = Value::F64(-1e300);
    extremes[9] = Value::Text("1999-12-31T23:59:59.999999Z".into());
    extremes[10] = Value::Json("null".into());
    extremes[11] = Value::Text("-0.000000000000000001".into());
    round_trip(bench, &nulls, &extremes);
    round_trip(bench, &extremes, &nulls);
}

pub fn every_key_type_finds_its_row(bench: &dyn RowsBench) {
    let uuid = uuid::Uuid::new_v4();
    for (key_type, keys) in [
        (KeyType::I64BigEndian, vec![Key::I64(-5), Key::I64(i64::MAX)]),
        (KeyType::Uuid, vec![Key::Uuid(uuid), Key::Uuid(uuid::Uuid::nil())]),
        (KeyType::Text, vec![Key::from("späti'"), Key::from("")]),
    ] {
        let scene = Scene::new(bench);
        let table = Table::new(&unique("keyed").replace('-', "_")).key("who", key_type).version("revision");
        bench.create_table(&table, &SCORE, None);
        for key in &keys {
            let values = vec![Value::F64(1.0), Value::Null];
            bench.insert(&table, &SCORE, &RowRead { key: key.clone(), version: 3, values });
        }
        let mut rows = bench.rows(&scene.pipeline);
        rows.bind(&[spec(&table, &SCORE)]).unwrap();
        assert!(rows.create(&scene.claim(0, 1), NextOffset(0)).unwrap());
        rows.begin().unwrap();
        rows.advance(&[scene.moved(1, 0, 1)]).unwrap();
        let mut sorted = keys.clone();
        sorted.sort();
        let found = by_key(rows.read(0, &sorted).unwrap());
        assert_eq!(found.iter().map(|row| row.key.clone()).collect::<Vec<_>>(), sorted);
        assert!(found.iter().all(|row| row.version == 3));
        let values = vec![Value::F64(2.0), Value::Null];
        let writes = sorted.iter().map(|key| RowWrite {
            key: key.clone(),
            from_version: 3,
            to_version: 5,
            values: values.clone(),
        });
        rows.write(0, &writes.collect::<Vec<_>>()).unwrap();
        rows.commit().unwrap();
        rows.begin().unwrap();
        assert!(rows.read(0, &sorted).unwrap().iter().all(|row| row.version == 5 && row.values == values));
        rows.rollback();
    }
}
