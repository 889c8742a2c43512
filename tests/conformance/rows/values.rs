//! Values of every type come back as they were written.

use super::*;

const WIDE: [Column<'_>; 15] = [
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
    ("day", ColumnType::Date, true),
    ("hour", ColumnType::Time, true),
    ("local", ColumnType::LocalTimestamp, true),
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
        Value::Text("2026-01-31".into()),
        Value::Text("12:00:00.250001".into()),
        Value::Text("2026-01-31T12:00:00.250001".into()),
    ]
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A value as a literal of SQL. `hex` is the prefix of one of bytes: `x` as in `x'00ff'`, or `\x` for one that is cast from text.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub fn literal(value: &Value, hex: &str) -> String {
    match value {
        Value::Null => "NULL".into(),
        Value::Bool(v) => v.to_string(),
        Value::I16(v) => v.to_string(),
        Value::I32(v) => v.to_string(),
        // The smallest 64-bit integer is no literal but an expression.
        Value::I64(v) => quoted(&v.to_string()),
        Value::F32(v) => format!("{v:e}"),
        Value::F64(v) => format!("{v:e}"),
        Value::Text(v) | Value::Json(v) => quoted(v),
        Value::Bytes(v) => {
            let digits: String = v.iter().map(|byte| format!("{byte:02x}")).collect();
            if hex == "x" { format!("x'{digits}'") } else { format!("'{hex}{digits}'") }
        }
    }
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
    let write = RowWrite {
        kind: WriteKind::Update,
        key: Key::I64(7),
        from_version: 0,
        to_version: 0,
        values: reversed.clone(),
    };
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
                assert!(is_same_json(&parse(found), &parse(wanted)), "{found} is not {wanted}");
            }
            _ => assert_eq!(found, wanted),
        }
    }
}

/// Numbers by value: `jsonb` writes `1e3` as `1000`.
fn is_same_json(one: &serde_json::Value, other: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (one, other) {
        (Number(one), Number(other)) => match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => one == other,
            _ => one.as_f64() == other.as_f64(),
        },
        (Array(one), Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same_json(one, other))
        }
        (Object(one), Object(other)) => {
            let is_there = |name, value| other.get(name).is_some_and(|other| is_same_json(value, other));
            one.len() == other.len() && one.iter().all(|(name, value)| is_there(name, value))
        }
        _ => one == other,
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
        Value::Text("1970-01-01".into()),
        Value::Text("00:00:00".into()),
        Value::Text("1970-01-01T00:00:00".into()),
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
    extremes[12] = Value::Text("0044-03-15 BC".into());
    extremes[13] = Value::Text("23:59:59.999999".into());
    extremes[14] = Value::Text("infinity".into());
    round_trip(bench, &nulls, &extremes);
    round_trip(bench, &extremes, &nulls);
}

pub fn every_key_type_finds_its_row(bench: &dyn RowsBench) {
    let uuid = uuid::Uuid::new_v4();
    for (key_type, keys) in [
        (KeyType::I64BigEndian, vec![Key::I64(-5), Key::I64(i64::MAX)]),
        (KeyType::Uuid, vec![Key::Uuid(uuid), Key::Uuid(uuid::Uuid::nil())]),
        (KeyType::Text, vec![Key::from("späti'"), Key::from("")]),
        (KeyType::I32BigEndian, vec![Key::I64(-5), Key::I64(i32::MAX.into())]),
        (KeyType::UuidBytes, vec![Key::Uuid(uuid), Key::Uuid(uuid::Uuid::nil())]),
        (KeyType::Bytes, vec![Key::from(&b"\0\xff'"[..]), Key::from(&b""[..])]),
        (KeyType::Field("id"), vec![Key::I64(-5), Key::I64(i64::MAX)]),
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
            kind: WriteKind::Update,
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

/// Numbers at random that are the same in every run, the odd ones among them more often than chance has them.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.roll() % count as u64).unwrap()
    }

    fn one_of<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }

    fn bytes(&mut self, length_max: usize) -> Vec<u8> {
        (0..self.below(length_max + 1)).map(|_| self.roll().to_be_bytes()[3]).collect()
    }

    /// Without NUL, which Postgres' text does not hold.
    fn text(&mut self) -> String {
        let odd = [
            '\'',
            '"',
            '\\',
            '\n',
            '\r',
            '\t',
            '\u{1}',
            '\u{7f}',
            '\u{85}',
            'ß',
            '☂',
            '\u{feff}',
            '\u{10ffff}',
            ' ',
            'N',
        ];
        let letter = |dice: &mut Self| {
            if dice.below(3) == 0 { dice.one_of(&odd) } else { char::from(b'0' + dice.roll().to_be_bytes()[1] % 75) }
        };
        (0..self.below(20)).map(|_| letter(self)).collect()
    }

    fn double(&mut self) -> f64 {
        let odd =
            [0.0, -0.0, f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, 0.1, -0.3, 1e15, 123_456_789_012_345_680.0];
        let any = f64::from_bits(self.roll());
        if self.below(3) == 0 || !any.is_finite() { self.one_of(&odd) } else { any }
    }

    fn single(&mut self) -> f32 {
        let odd = [0.0, -0.0, f32::MAX, f32::MIN_POSITIVE, 1e-45, 0.1, 16_777_216.0];
        let any = f32::from_bits(u32::try_from(self.roll() >> 32).unwrap());
        if self.below(3) == 0 || !any.is_finite() { self.one_of(&odd) } else { any }
    }

    fn digits(&mut self, length: usize) -> String {
        (0..length).map(|_| char::from(b'0' + self.roll().to_be_bytes()[2] % 10)).collect()
    }

    /// A decimal as Postgres spells it: with any number of digits, and no zero in front.
    fn decimal(&mut self) -> String {
        let sign = self.one_of(&["", "-"]);
        let (whole, part) = (self.below(30), self.below(30));
        let whole = format!("{}{}", 1 + self.below(9), self.digits(whole));
        let part = if part == 0 { String::new() } else { format!(".{}", self.digits(part)) };
        format!("{sign}{whole}{part}")
    }

    fn json(&mut self, depth: usize) -> serde_json::Value {
        match self.below(if depth == 0 { 5 } else { 7 }) {
            0 => serde_json::Value::Null,
            1 => self.text().into(),
            2 => self.roll().cast_signed().into(),
            3 => self.double().into(),
            4 => (self.below(2) == 0).into(),
            5 => (0..self.below(4)).map(|_| self.json(depth - 1)).collect(),
            _ => (0..self.below(4)).map(|_| (self.text(), self.json(depth - 1))).collect(),
        }
    }

    fn instant(&mut self) -> String {
        let micros = i128::from(self.roll() % 253_402_300_799_999_999);
        let at = time::OffsetDateTime::from_unix_timestamp_nanos(micros * 1000).unwrap();
        let (date, time) = (at.date(), at.time().as_hms_micro());
        let (month, day) = (u8::from(date.month()), date.day());
        format!("{:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z", date.year(), time.0, time.1, time.2, time.3)
    }

    /// A day and a time as Postgres spells them: without zeros behind the last digit.
    fn local(&mut self) -> (String, String) {
        let instant = self.instant();
        let (day, hour) = instant.trim_end_matches('Z').split_once('T').unwrap();
        let (seconds, micros) = hour.split_once('.').unwrap();
        let micros = micros.trim_end_matches('0');
        let hour = if micros.is_empty() { seconds.to_owned() } else { format!("{seconds}.{micros}") };
        (day.to_owned(), hour)
    }

    /// A value of each column of [`WIDE`].
    fn wide(&mut self) -> Vec<Value> {
        let values = vec![
            Value::Bool(self.below(2) == 0),
            Value::I16(self.roll() as i16),
            Value::I32(self.roll() as i32),
            Value::I64(self.roll().cast_signed()),
            Value::F32(self.single()),
            Value::F64(self.double()),
            Value::Text(self.text()),
            Value::Bytes(self.bytes(40)),
            Value::Text(uuid::Uuid::from_u64_pair(self.roll(), self.roll()).to_string()),
            Value::Text(self.instant()),
            Value::Json(self.json(3).to_string()),
            Value::Text(self.decimal()),
            Value::Text(self.local().0),
            Value::Text(self.local().1),
            Value::Text({
                let (day, hour) = self.local();
                format!("{day}T{hour}")
            }),
        ];
        values.into_iter().map(|value| if self.below(8) == 0 { Value::Null } else { value }).collect()
    }
}

/// 400 rows of random values, written in one batch, are read on another connection as they went in, floats and decimals to
/// the last bit and digit.
pub fn random_values_of_every_type_come_back_bit_for_bit(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let wide = Table::new(&unique("wide").replace('-', "_"));
    bench.create_table(&wide, &WIDE, None);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let nulls = vec![Value::Null; WIDE.len()];
    let mut rows_written: Vec<RowWrite> = (0..400)
        .map(|id| RowWrite {
            kind: WriteKind::Update,
            key: Key::I64(id),
            from_version: 0,
            to_version: 1,
            values: dice.wide(),
        })
        .collect();
    if !bench.has_negative_zero() {
        for value in rows_written.iter_mut().flat_map(|row| &mut row.values) {
            match value {
                Value::F32(number) if *number == 0.0 => *number = 0.0,
                Value::F64(number) if *number == 0.0 => *number = 0.0,
                _ => {}
            }
        }
    }
    let empty = (0..400).map(|id| RowRead { key: Key::I64(id), version: 0, values: nulls.clone() });
    bench.insert_all(&wide, &WIDE, &empty.collect::<Vec<_>>());
    let mut rows = bench.rows(&scene.pipeline);
    rows.bind(&[scene.spec(), spec(&wide, &WIDE)]).unwrap();
    assert!(rows.create(&scene.claim(0, 1), NextOffset(0)).unwrap());
    rows.begin().unwrap();
    assert_eq!(rows.advance(&[scene.moved(1, 0, 1)]).unwrap(), [true]);
    let keys: Vec<i64> = (0..400).collect();
    assert_eq!(rows.read(1, &ids(&keys)).unwrap().len(), 400);
    rows.write(1, &rows_written).unwrap();
    assert_eq!(rows.commit().unwrap(), CommitAnswer::Done);
    let mut other = bench.rows(&scene.pipeline);
    other.bind(&[spec(&wide, &WIDE)]).unwrap();
    other.begin().unwrap();
    let found = by_key(other.read(0, &ids(&keys)).unwrap());
    other.rollback();
    for (found, written) in found.iter().zip(&rows_written) {
        assert_same(&found.values, &written.values);
    }
}

/// Rows of the outbox come back byte for byte: keys, values, headers, absent ones apart from empty ones.
pub fn random_outbox_rows_come_back_byte_for_byte(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    let some = |dice: &mut Dice, length| (dice.below(6) != 0).then(|| dice.bytes(length));
    let outbox: Vec<OutboxRow> = (0..200)
        .map(|offset| OutboxRow {
            key: some(&mut dice, 30),
            value: some(&mut dice, 300),
            headers: (0..dice.below(4)).map(|_| Header { name: dice.text(), value: some(&mut dice, 20) }).collect(),
            created_at: Timestamp(i64::try_from(dice.below(4_000_000_000_000)).unwrap()),
            timestamp: (dice.below(3) != 0).then(|| Timestamp(dice.roll().cast_signed() >> dice.below(60))),
            ..scene.outbox_row(0, offset, 0)
        })
        .collect();
    rows.begin().unwrap();
    rows.advance(&[scene.moved(1, 0, 200)]).unwrap();
    rows.append(&outbox).unwrap();
    rows.commit().unwrap();
    assert_eq!(scene.outbox_of(&mut *rows, 0), outbox);
}

/// 150 random keys of each type are found, locked and written, each with its own row.
pub fn random_keys_of_every_type_find_their_rows(bench: &dyn RowsBench) {
    let mut dice = Dice(0xd1b5_4a32_d192_ed03);
    for key_type in [KeyType::I64, KeyType::Uuid, KeyType::Text, KeyType::Bytes] {
        let key = |dice: &mut Dice| match key_type {
            KeyType::Uuid => Key::Uuid(uuid::Uuid::from_u64_pair(dice.roll(), dice.roll())),
            KeyType::Text => Key::from(dice.text().as_str()),
            KeyType::Bytes => Key::from(&dice.roll().to_be_bytes()[..dice.below(9)]),
            _ => Key::I64(dice.roll().cast_signed() >> dice.below(60)),
        };
        let keys: std::collections::BTreeSet<Key> = (0..150).map(|_| key(&mut dice)).collect();
        let keys: Vec<Key> = keys.into_iter().collect();
        let scene = Scene::new(bench);
        let table = Table::new(&unique("keyed").replace('-', "_")).key("who", key_type);
        bench.create_table(&table, &SCORE, None);
        let before =
            keys.iter().map(|key| RowRead { key: key.clone(), version: 0, values: vec![Value::F64(0.0), Value::Null] });
        bench.insert_all(&table, &SCORE, &before.collect::<Vec<_>>());
        let mut rows = bench.rows(&scene.pipeline);
        rows.bind(&[spec(&table, &SCORE)]).unwrap();
        assert!(rows.create(&scene.claim(0, 1), NextOffset(0)).unwrap());
        rows.begin().unwrap();
        rows.advance(&[scene.moved(1, 0, 1)]).unwrap();
        assert_eq!(rows.read(0, &keys).unwrap().len(), keys.len(), "{key_type:?}");
        let own = |key: &Key| vec![Value::F64(1.0), Value::Text(key.to_string())];
        let writes = keys.iter().map(|key| RowWrite {
            kind: WriteKind::Update,
            key: key.clone(),
            from_version: 0,
            to_version: 1,
            values: own(key),
        });
        rows.write(0, &writes.collect::<Vec<_>>()).unwrap();
        assert_eq!(rows.commit().unwrap(), CommitAnswer::Done);
        rows.begin().unwrap();
        let found = by_key(rows.read(0, &keys).unwrap());
        rows.rollback();
        for (found, key) in found.iter().zip(&keys) {
            assert_eq!((&found.key, found.version, &found.values), (key, 1, &own(key)));
        }
        assert_eq!(found.len(), keys.len());
    }
}
