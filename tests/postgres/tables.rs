//! User tables: compared at start, read and written as arrays.

use crate::server::{Fixture, claim, step};
use serde::{Deserialize, Serialize};
use tidegate::adapters::postgres::{PostgresRows, PostgresSettings};
use tidegate::flow::effect::RowChange;
use tidegate::flow::key::{Key, KeyType, Part};
use tidegate::flow::record::{NextOffset, Offset, Record, Timestamp, TopicName};
use tidegate::flow::row::Value;
use tidegate::flow::table::{ColumnSpec, ColumnType, Table, TableSpec};
use tidegate::flow::topology::StepKind;
use tidegate::flow::{Algorithm, Context, Reject, Topology};
use tidegate::ports::Fault;
use tidegate::ports::rows::{CommitAnswer, RowRead, RowWrite, Rows, WriteFault, WriteKind};

fn column(name: &str, kind: ColumnType, is_nullable: bool) -> ColumnSpec {
    ColumnSpec { name: name.into(), accepts: vec![kind], is_nullable }
}

fn open(fixture: &Fixture, specs: &[TableSpec]) -> PostgresRows {
    let mut rows = fixture.rows();
    rows.bind(specs).unwrap();
    let epoch = fixture.own(&mut rows, 1);
    rows.begin().unwrap();
    let at = fixture.number("SELECT next_offset FROM {tg}.position");
    assert_eq!(rows.advance(&[step(epoch, at, at + 1)]).unwrap(), [true]);
    rows
}

#[test]
fn all_differences_are_told_at_once() {
    let Some(fixture) = Fixture::new("differences") else { return };
    fixture.sql("CREATE TABLE {u}.a (id integer, version bigint NOT NULL, score real, made bigint GENERATED ALWAYS AS (1) STORED NOT NULL)");
    fixture.sql("CREATE UNLOGGED TABLE {u}.b (id bigint PRIMARY KEY, version bigint NOT NULL, x text NOT NULL)");
    fixture.sql("CREATE VIEW {u}.v AS SELECT id, version FROM {u}.b");
    let table = |name: &str, columns| TableSpec::new(Table::new(&format!("differences.{name}")), columns);
    let specs = [
        table(
            "a",
            vec![
                column("score", ColumnType::F64, false),
                column("gone", ColumnType::Text, false),
                column("made", ColumnType::I64, false),
            ],
        ),
        table("b", vec![column("x", ColumnType::Text, true)]),
        table("v", Vec::new()),
        table("none", Vec::new()),
        TableSpec::new(Table::new("a;DROP TABLE x"), vec![column("c\"d", ColumnType::Text, false)]),
    ];
    let fault = fixture.rows().bind(&specs).unwrap_err();
    assert!(matches!(fault, Fault::Fatal(_)));
    let text = fault.to_string();
    for part in [
        "differences.a, column id: is the key, and has neither",
        "differences.a, column score: is real",
        "differences.a, column gone: missing; expected text not null",
        "differences.b: is unlogged",
        "differences.b, column x: is not null, the struct's field is an Option",
        "differences.v: is no table",
        "differences.none: does not exist",
        "table a;DROP TABLE x: name",
        "\"c\\\"d\"",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

#[test]
fn a_table_whose_rows_may_be_hidden_from_us_is_refused() {
    let Some(fixture) = Fixture::new("hidden") else { return };
    fixture.sql(
        "CREATE TABLE {u}.accounts (id bigint PRIMARY KEY, version bigint NOT NULL, score double precision NOT NULL)",
    );
    fixture.sql("CREATE ROLE hidden_app LOGIN PASSWORD 'app'; GRANT ALL ON SCHEMA {u}, {tg} TO hidden_app");
    fixture.sql(
        "GRANT ALL ON ALL TABLES IN SCHEMA {u} TO hidden_app; GRANT ALL ON ALL TABLES IN SCHEMA {tg} TO hidden_app",
    );
    let (_, host) = fixture.settings.url.expose().rsplit_once('@').unwrap();
    let settings = PostgresSettings {
        url: PostgresSettings::new(&format!("postgres://hidden_app:app@{host}")).url,
        ..fixture.settings.clone()
    };
    let spec = TableSpec::new(Table::new("hidden.accounts"), vec![column("score", ColumnType::F64, false)]);
    let bind = || {
        let mut rows = PostgresRows::new(&settings, "hidden", "hidden").unwrap();
        rows.bind(std::slice::from_ref(&spec)).map_err(|fault| fault.to_string())
    };
    assert_eq!(bind(), Ok(()));
    fixture.sql("ALTER TABLE {u}.accounts ENABLE ROW LEVEL SECURITY; CREATE POLICY half ON {u}.accounts TO hidden_app USING (id <= 100)");
    let refused = bind().unwrap_err();
    let sentence = "table hidden.accounts: row security is in force for role hidden_app; rows it hides would count as missing: grant BYPASSRLS, or a policy of its own: CREATE POLICY hidden_app ON hidden.accounts TO hidden_app USING (true)";
    assert!(refused.contains(sentence), "{refused}");
    assert!(refused.contains("policies now: half using ((id <= 100))"), "{refused}");
    fixture.rows().bind(std::slice::from_ref(&spec)).unwrap(); // the owner sees everything
    fixture.sql("CREATE POLICY hidden_app ON {u}.accounts TO hidden_app USING (true)");
    assert_eq!(bind(), Ok(()), "the way that the sentence names");
    fixture.sql("CREATE POLICY late ON {u}.accounts AS RESTRICTIVE USING (id > 5)");
    assert!(bind().is_err(), "of which a restrictive one takes some away again");
    fixture.sql("ALTER ROLE hidden_app BYPASSRLS");
    assert_eq!(bind(), Ok(()));
    fixture.sql(
        "ALTER ROLE hidden_app NOBYPASSRLS; DROP POLICY late ON {u}.accounts; DROP POLICY hidden_app ON {u}.accounts",
    );
    fixture.sql("CREATE POLICY seen ON {u}.accounts FOR SELECT TO hidden_app USING (true)");
    assert!(bind().is_err(), "of what it may not update nothing is locked");
    fixture.sql("CREATE POLICY changed ON {u}.accounts FOR UPDATE USING (true) WITH CHECK (score < 10)");
    assert_eq!(bind(), Ok(()), "what may not be written is told when it is written");
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Account {
    #[serde(skip_serializing_if = "Option::is_none")]
    bonus: Option<i64>,
    balance: i64,
    extra: serde_json::Value,
}

/// Adds one, and keeps a double in the JSON where the event is one.
struct Deposit;

impl Algorithm for Deposit {
    type Event = Option<f64>;
    type Row = Account;
    type Notices = Option<()>;

    fn apply(&self, event: Option<f64>, row: &mut Account, _: &mut Context<'_>) -> Result<Option<()>, Reject> {
        row.balance += 1;
        if let Some(double) = event {
            row.extra["p"] = double.into();
        }
        Ok(None)
    }
}

/// Runs the step over the row of id 7, as the engine does, and writes it; the row's columns as text.
fn deposit(fixture: &Fixture, value: &str) -> String {
    let mut topology = Topology::new("deposits");
    topology.source("deposits").update(Table::new("deposits.accounts"), Deposit).done();
    let StepKind::Rows(step) = &topology.sub_topologies()[0].step else { panic!("a step with rows") };
    let mut rows = open(fixture, std::slice::from_ref(step.table()));
    let row = rows.read(0, &[Key::I64(7)]).unwrap().remove(0);
    let (topic, key) = (TopicName::parse("deposits").unwrap(), Key::I64(7));
    let value = Some(value.as_bytes());
    let record = Record { offset: Offset(0), timestamp: Timestamp(0), key: Some(b"7"), value, headers: &[] };
    let applied = step.apply(&record, Some(&row.values), &mut Context::example(&topic, &key)).unwrap();
    let RowChange::Set(values) = applied.row else { panic!("it changes its row") };
    let (from_version, to_version) = (row.version, row.version + 1);
    rows.write(0, &[RowWrite { kind: WriteKind::Update, key, from_version, to_version, values }]).unwrap();
    assert_eq!(rows.commit().unwrap(), CommitAnswer::Done);
    fixture.text("SELECT concat_ws(' ', coalesce(bonus::text, 'null'), balance, version, extra) FROM {u}.accounts")
}

#[test]
fn what_an_algorithm_did_not_change_keeps_its_place_and_its_digits() {
    let Some(fixture) = Fixture::new("deposits") else { return };
    fixture.sql("CREATE TABLE {u}.accounts (id bigint PRIMARY KEY, bonus bigint, balance bigint NOT NULL, version bigint NOT NULL, extra jsonb NOT NULL)");
    let digits = r#""v": 1.10, "id": 12345678901234567890123, "price": 0.1234567890123456789012"#;
    fixture.sql(&format!("INSERT INTO {{u}}.accounts VALUES (7, NULL, 100, 0, '{{{digits}}}')"));
    assert_eq!(deposit(&fixture, "null"), format!("null 101 1 {{{digits}}}"));
    let most = format!("17976931348623157{}", "0".repeat(292));
    let with_most = digits.replacen("1.10,", &format!("1.10, \"p\": {most},"), 1);
    let (shorter, longer) = (format!("null 102 2 {{\"p\": {most}, {digits}}}"), format!("null 102 2 {{{with_most}}}"));
    let found = deposit(&fixture, &f64::MAX.to_string());
    assert!(found == shorter || found == longer, "{found}");
    let again = deposit(&fixture, "null");
    assert_eq!(again, found.replacen("102 2", "103 3", 1), "the largest double can be read again");
}

const WIDE: [(&str, ColumnType, &str); 15] = [
    ("c_bool", ColumnType::Bool, "boolean"),
    ("c_i16", ColumnType::I16, "smallint"),
    ("c_i32", ColumnType::I32, "integer"),
    ("c_i64", ColumnType::I64, "bigint"),
    ("c_f32", ColumnType::F32, "real"),
    ("c_f64", ColumnType::F64, "double precision"),
    ("c_text", ColumnType::Text, "text"),
    ("c_varchar", ColumnType::Text, "varchar(40)"),
    ("c_enum", ColumnType::Text, "wide.mood"),
    ("c_bytes", ColumnType::Bytes, "bytea"),
    ("c_uuid", ColumnType::Uuid, "uuid"),
    ("c_at", ColumnType::Timestamp, "timestamptz"),
    ("c_jsonb", ColumnType::Json, "jsonb"),
    ("c_json", ColumnType::Json, "json"),
    ("c_numeric", ColumnType::Numeric, "numeric(20,4)"),
];

fn wide_values(variant: u8) -> Vec<Value> {
    let text = |text: &str| Value::Text(text.into());
    match variant {
        0 => vec![
            Value::Bool(true),
            Value::I16(-3),
            Value::I32(i32::MIN),
            Value::I64(i64::MAX),
            Value::F32(0.1),
            Value::F64(1e-300),
            text("späti \" \\ {a,b} NULL"),
            text(""),
            text("glad"),
            Value::Bytes(vec![0, 255, 10]),
            text("67e55044-10b1-426f-9247-bb680e5fe0c8"),
            text("2026-01-31T12:00:00.250001Z"),
            Value::Json(r#"{"a": [1, null, "x"]}"#.into()),
            Value::Json("[1,2]".into()),
            text("1234567890123456.7891"),
        ],
        1 => vec![
            Value::Bool(false),
            Value::I16(0),
            Value::I32(1),
            Value::I64(i64::MIN),
            Value::F32(f32::MIN_POSITIVE),
            Value::F64(-0.0),
            text("NULL"),
            text("'; DROP TABLE wide.t; --"),
            text("sad"),
            Value::Bytes(Vec::new()),
            text("00000000-0000-0000-0000-000000000000"),
            text("0001-01-01T00:00:00.000000Z"),
            Value::Json("null".into()),
            Value::Json("\"\"".into()),
            text("0.0000"),
        ],
        _ => vec![Value::Null; WIDE.len()],
    }
}

#[test]
fn every_column_type_reads_back_what_was_written_null_too() {
    let Some(fixture) = Fixture::new("wide") else { return };
    fixture.sql("CREATE TYPE {u}.mood AS ENUM ('glad', 'sad')");
    let columns: String = WIDE.iter().map(|(name, _, sql)| format!(", {name} {sql}")).collect();
    fixture.sql(&format!("CREATE TABLE {{u}}.t (id bigint PRIMARY KEY, version bigint NOT NULL{columns})"));
    fixture.sql("INSERT INTO {u}.t (id, version) VALUES (1, 5), (2, 5), (3, 5)");
    let spec =
        TableSpec::new(Table::new("wide.t"), WIDE.iter().map(|(name, kind, _)| column(name, *kind, true)).collect());
    let mut rows = open(&fixture, std::slice::from_ref(&spec));
    let keys: Vec<_> = (1..=3).map(Key::I64).collect();
    let nulls = rows.read(0, &keys).unwrap();
    assert!(nulls.iter().all(|row| row.values == vec![Value::Null; WIDE.len()] && row.version == 5));
    let written: Vec<_> = keys
        .iter()
        .zip([0, 1, 2])
        .map(|(key, variant)| RowWrite {
            kind: WriteKind::Update,
            key: key.clone(),
            from_version: 5,
            to_version: 7,
            values: wide_values(variant),
        })
        .collect();
    rows.write(0, &written).unwrap();
    let found = rows.read(0, &keys).unwrap();
    assert_eq!(rows.commit().unwrap(), CommitAnswer::Done);
    for (row, written) in found.iter().zip(&written) {
        assert_eq!((&row.key, row.version), (&written.key, 7));
        for ((value, expected), (name, ..)) in row.values.iter().zip(&written.values).zip(WIDE) {
            assert_eq!(value, expected, "{name}");
        }
    }
    // The server's own text for the values, so that two mistakes of ours cannot cancel out.
    for (name, expected) in [
        ("c_at", "2026-01-31 12:00:00.250001+00"),
        ("c_uuid", "67e55044-10b1-426f-9247-bb680e5fe0c8"),
        ("c_numeric", "1234567890123456.7891"),
        ("c_bytes", "\\x00ff0a"),
        ("c_text", "späti \" \\ {a,b} NULL"),
        ("c_f64", "1e-300"),
        ("c_bool", "true"),
    ] {
        assert_eq!(fixture.text(&format!("SELECT {name}::text FROM {{u}}.t WHERE id = 1")), expected, "{name}");
    }
}

#[test]
fn keys_may_be_uuids_and_texts_and_tables_unversioned() {
    let Some(fixture) = Fixture::new("keys") else { return };
    fixture.sql("CREATE TABLE {u}.by_uuid (id uuid PRIMARY KEY, n bigint NOT NULL)");
    fixture.sql("CREATE TABLE {u}.\"ByText\" (name text NOT NULL UNIQUE, n bigint NOT NULL, version bigint NOT NULL)");
    let id = uuid::Uuid::from_u128(7);
    fixture.sql(&format!("INSERT INTO {{u}}.by_uuid VALUES ('{id}', 1)"));
    fixture.sql("INSERT INTO {u}.\"ByText\" VALUES ('a''b', 1, 0), ('ä', 1, 0), ('c', 1, 0)");
    let n = || vec![column("n", ColumnType::I64, false)];
    let specs = [
        TableSpec::new(Table::new("keys.by_uuid").key("id", KeyType::Uuid).unversioned(), n()),
        // The struct also shows the key and the version: both are read, neither is written by the struct.
        TableSpec::new(
            Table::new("keys.ByText").key("name", KeyType::Text),
            vec![column("name", ColumnType::Text, false), column("version", ColumnType::I64, false), n().remove(0)],
        ),
    ];
    let mut rows = open(&fixture, &specs);
    assert_eq!(
        rows.read(0, &[Key::from(id)]).unwrap(),
        [RowRead { key: id.into(), version: 0, values: vec![Value::I64(1)] }]
    );
    rows.write(
        0,
        &[RowWrite {
            kind: WriteKind::Update,
            key: id.into(),
            from_version: 0,
            to_version: 0,
            values: vec![Value::I64(2)],
        }],
    )
    .unwrap();
    let keys = [Key::from("a'b"), Key::from("missing"), Key::from("ä")];
    let found = rows.read(1, &keys).unwrap();
    assert_eq!(found.len(), 2);
    let values = vec![Value::Text("changed".into()), Value::I64(99), Value::I64(2)];
    rows.write(1, &[RowWrite { kind: WriteKind::Update, key: "ä".into(), from_version: 0, to_version: 1, values }])
        .unwrap();
    rows.commit().unwrap();
    assert_eq!(fixture.text("SELECT string_agg(format('%s:%s:%s', name, n, version), ' ' ORDER BY name COLLATE \"C\") FROM {u}.\"ByText\""), "a'b:1:0 c:1:0 ä:2:1");
    assert_eq!(fixture.number("SELECT n FROM {u}.by_uuid"), 2);
}

/// A field of a table of one row, its column type in SQL, the field's, and texts that the row holds one after the other.
type Spelt = (&'static str, &'static str, ColumnType, [&'static str; 2]);

const SPELT: [Spelt; 22] = [
    ("c_date", "date", ColumnType::Date, ["2026-01-31", "-infinity"]),
    ("c_time", "time", ColumnType::Time, ["12:00:00.25", "24:00:00"]),
    ("c_local", "timestamp", ColumnType::LocalTimestamp, ["2026-01-31T12:00:00.25", "10000-01-01T00:00:00"]),
    ("c_local3", "timestamp(3)", ColumnType::LocalTimestamp, ["2026-01-31T12:00:00.25", "0044-03-15T12:00:00 BC"]),
    ("c_timetz", "timetz", ColumnType::Spelled, ["12:00:00+02", "00:00:00-11:30"]),
    ("c_interval", "interval", ColumnType::Spelled, ["1 year 2 mons 3 days 04:05:06.7", "-00:00:01"]),
    ("c_inet", "inet", ColumnType::Spelled, ["127.0.0.1", "2001:db8::/32"]),
    ("c_cidr", "cidr", ColumnType::Spelled, ["10.0.0.0/8", "::/0"]),
    ("c_mac", "macaddr", ColumnType::Spelled, ["08:00:2b:01:02:03", "ff:ff:ff:ff:ff:ff"]),
    ("c_range", "int8range", ColumnType::Spelled, ["[1,5)", "empty"]),
    ("c_bits", "bit varying", ColumnType::Spelled, ["0101", ""]),
    ("c_point", "point", ColumnType::Spelled, ["(1.5,-0.1)", "(1e+300,0)"]),
    ("c_xml", "xml", ColumnType::Spelled, ["<a>1</a>", "<b/>"]),
    ("c_search", "tsvector", ColumnType::Spelled, ["'a':1 'b':2", ""]),
    ("c_citext", "citext", ColumnType::Text, ["Späti", "späti"]),
    ("c_domain", "{u}.score", ColumnType::I32, ["7", "8"]),
    ("c_short", "{u}.short", ColumnType::Text, ["ab", ""]),
    ("c_texts", "text[]", ColumnType::Spelled, ["{a,\"b c\",NULL}", "{}"]),
    ("c_ints", "integer[]", ColumnType::Array, ["[1,null,-3]", "[]"]),
    ("c_doubles", "double precision[]", ColumnType::Array, ["[0.1,1e+300]", "[-0.30000000000000004]"]),
    ("c_words", "varchar(5)[]", ColumnType::Array, ["[\"a\",\"b \\\"c\"]", "[\"\"]"]),
    ("c_moods", "{u}.mood[]", ColumnType::Array, ["[\"glad\",\"sad\"]", "[\"sad\"]"]),
];

fn spelt(kind: ColumnType, text: &str) -> Value {
    match kind {
        ColumnType::I32 => Value::I32(text.parse().unwrap()),
        ColumnType::Array => Value::Json(text.into()),
        _ => Value::Text(text.into()),
    }
}

#[test]
fn every_other_type_goes_in_and_out_as_the_server_spells_it_and_lists_as_json() {
    let Some(fixture) = Fixture::new("spelt") else { return };
    fixture.sql("CREATE EXTENSION IF NOT EXISTS citext");
    fixture.sql("CREATE TYPE {u}.mood AS ENUM ('glad', 'sad'); CREATE DOMAIN {u}.score AS integer CHECK (value < 100); CREATE DOMAIN {u}.short AS varchar(3)");
    let columns: String = SPELT.iter().map(|(name, sql, ..)| format!(", {name} {sql}")).collect();
    fixture.sql(&format!("CREATE TABLE {{u}}.t (id bigint PRIMARY KEY, version bigint NOT NULL{columns})"));
    fixture.sql("INSERT INTO {u}.t (id, version) VALUES (1, 0)");
    let wanted = |(name, _, kind, _): &Spelt| match kind {
        ColumnType::Array => ColumnSpec { accepts: vec![ColumnType::Json, *kind], ..column(name, *kind, true) },
        // As a field of text says it.
        ColumnType::Spelled => {
            ColumnSpec { accepts: vec![ColumnType::Text, ColumnType::Array, *kind], ..column(name, *kind, true) }
        }
        _ => column(name, *kind, true),
    };
    let spec = TableSpec::new(Table::new("spelt.t"), SPELT.iter().map(wanted).collect());
    let spec = TableSpec { inserts: true, ..spec };
    let mut rows = open(&fixture, std::slice::from_ref(&spec));
    let keys = [Key::I64(1), Key::I64(2)];
    let found = rows.read(0, &keys).unwrap();
    assert_eq!(found[0].values, vec![Value::Null; SPELT.len()]);
    for (at, version) in [(0, 0), (1, 1), (0, 2)] {
        let values: Vec<Value> = SPELT.iter().map(|(_, _, kind, texts)| spelt(*kind, texts[at])).collect();
        let write = |key: &Key, kind| {
            let (key, values) = (key.clone(), values.clone());
            RowWrite { kind, key, from_version: version, to_version: version + 1, values }
        };
        let second = if version == 0 { WriteKind::Insert } else { WriteKind::Update };
        rows.write(0, &[write(&keys[0], WriteKind::Update), write(&keys[1], second)]).unwrap();
        for row in rows.read(0, &keys).unwrap() {
            for ((value, expected), (name, ..)) in row.values.iter().zip(&values).zip(SPELT) {
                assert_eq!(value, expected, "{name} of {}", row.key);
            }
        }
    }
    rows.write(
        0,
        &[RowWrite {
            kind: WriteKind::Update,
            key: Key::I64(1),
            from_version: 3,
            to_version: 4,
            values: vec![Value::Null; SPELT.len()],
        }],
    )
    .unwrap();
    assert_eq!(rows.read(0, &keys[..1]).unwrap()[0].values, vec![Value::Null; SPELT.len()]);
    rows.commit().unwrap();
    assert_eq!(fixture.text("SELECT c_ints::text || c_moods::text FROM {u}.t WHERE id = 2"), "{1,NULL,-3}{glad,sad}");
}

#[test]
fn a_list_that_its_field_cannot_say_stays_as_it_is_until_it_changes() {
    let Some(fixture) = Fixture::new("lists") else { return };
    fixture.sql("CREATE TABLE {u}.t (id bigint PRIMARY KEY, version bigint NOT NULL, list integer[] NOT NULL, n bigint NOT NULL)");
    fixture.sql("INSERT INTO {u}.t VALUES (1, 0, '[2:3]={7,8}', 0), (2, 0, '{{1,2},{3,4}}', 0)");
    let list =
        ColumnSpec { accepts: vec![ColumnType::Json, ColumnType::Array], ..column("list", ColumnType::Array, false) };
    let spec = TableSpec::new(Table::new("lists.t"), vec![list, column("n", ColumnType::I64, false)]);
    let mut rows = open(&fixture, std::slice::from_ref(&spec));
    let found = rows.read(0, &[Key::I64(1), Key::I64(2)]).unwrap();
    assert_eq!(found[0].values[0], Value::Json("[7,8]".into()));
    let write = |row: &RowRead| {
        let values = vec![row.values[0].clone(), Value::I64(5)];
        RowWrite { kind: WriteKind::Update, key: row.key.clone(), from_version: 0, to_version: 1, values }
    };
    rows.write(0, &found.iter().map(write).collect::<Vec<_>>()).unwrap();
    rows.commit().unwrap();
    assert_eq!(
        fixture.text("SELECT string_agg(list::text || n, ' ' ORDER BY id) FROM {u}.t"),
        "[2:3]={7,8}5 {{1,2},{3,4}}5"
    );
}

#[test]
fn a_smaller_key_finds_its_row_by_the_index() {
    for (name, kind) in [
        ("key_serial", "serial"),
        ("key_smallint", "smallint GENERATED BY DEFAULT AS IDENTITY"),
        ("key_always", "integer GENERATED ALWAYS AS IDENTITY"),
    ] {
        let Some(fixture) = Fixture::new(name) else { return };
        fixture
            .sql(&format!("CREATE TABLE {{u}}.t (id {kind} PRIMARY KEY, version bigint NOT NULL, n bigint NOT NULL)"));
        fixture.sql("INSERT INTO {u}.t (version, n) SELECT 0, i FROM generate_series(1, 900) AS i");
        fixture.sql("ANALYZE {u}.t");
        fixture.sql("SELECT pg_stat_reset_single_table_counters('{u}.t'::regclass)");
        let is_small = name == "key_smallint";
        let id = column("id", if is_small { ColumnType::I16 } else { ColumnType::I32 }, false);
        let spec = TableSpec::new(Table::new(&format!("{name}.t")), vec![id, column("n", ColumnType::I64, false)]);
        let url = format!("{}?options=-c%20enable_seqscan%3Doff", fixture.settings.url.expose());
        let settings = PostgresSettings { url: PostgresSettings::new(&url).url, ..fixture.settings.clone() };
        let by_index = Fixture { name, settings };
        let mut rows = open(&by_index, std::slice::from_ref(&spec));
        let keys = [Key::I64(7), Key::I64(8), Key::I64(i64::MAX)];
        let found = rows.read(0, &keys).unwrap();
        let own = if is_small { Value::I16(7) } else { Value::I32(7) };
        assert_eq!((found.len(), &found[0].key, &found[0].values[0]), (2, &keys[0], &own), "{kind}");
        let write = RowWrite {
            kind: WriteKind::Update,
            key: Key::I64(7),
            from_version: 0,
            to_version: 1,
            values: vec![own, Value::I64(70)],
        };
        rows.write(0, &[write]).unwrap();
        assert_eq!(rows.commit().unwrap(), CommitAnswer::Done);
        assert_eq!(rows.locked(0, &keys).unwrap(), []);
        drop(rows);
        assert_eq!(scans(&fixture).1, 0, "{kind}: read by its index alone");
        assert_eq!(fixture.number("SELECT n FROM {u}.t WHERE id = 7"), 70);
        // A row is made under a key that the database does not give alone.
        let inserting = TableSpec { inserts: true, ..spec };
        let mut rows = fixture.rows();
        if name == "key_always" {
            let told = rows.bind(&[inserting]).unwrap_err().to_string();
            assert!(told.contains("is the key, and the database alone makes it"), "{told}");
            continue;
        }
        rows.bind(&[inserting]).unwrap();
        let epoch = fixture.own(&mut rows, 2);
        rows.begin().unwrap();
        let at = fixture.number("SELECT next_offset FROM {tg}.position");
        assert_eq!(rows.advance(&[step(epoch, at, at + 1)]).unwrap(), [true]);
        let write = |id: i64| RowWrite {
            kind: WriteKind::Insert,
            key: Key::I64(id),
            from_version: 0,
            to_version: 1,
            values: vec![Value::Null, Value::I64(id)],
        };
        rows.savepoint().unwrap();
        rows.write(0, &[write(2000)]).unwrap();
        rows.savepoint().unwrap();
        let refused = rows.write(0, &[write(i64::MAX)]);
        assert!(matches!(refused, Err(WriteFault::Rejected(_))), "{refused:?}");
        rows.rollback_to_savepoint().unwrap();
        rows.commit().unwrap();
        assert_eq!(fixture.number("SELECT n FROM {u}.t WHERE id = 2000"), 2000);
    }
}

#[derive(Serialize, Deserialize)]
struct OrderKey {
    tenant: i32,
    code: String,
    lot: uuid::Uuid,
}

fn order(tenant: i64, code: &str) -> Key {
    Key::from([Part::from(tenant), Part::from(code), Part::from(uuid::Uuid::nil())])
}

#[test]
fn a_key_of_several_columns_finds_its_row_by_the_index() {
    let name = "compound";
    let Some(fixture) = Fixture::new(name) else { return };
    // In another order than the struct's, and of smaller types.
    fixture.sql("CREATE TABLE {u}.t (lot uuid NOT NULL, tenant smallint NOT NULL, code varchar(12) NOT NULL, version bigint NOT NULL, n bigint NOT NULL, UNIQUE (code, tenant, lot))");
    fixture.sql("INSERT INTO {u}.t SELECT '00000000-0000-0000-0000-000000000000', i % 30, 'k' || i, 0, i FROM generate_series(1, 900) AS i");
    fixture.sql("ANALYZE {u}.t");
    fixture.sql("SELECT pg_stat_reset_single_table_counters('{u}.t'::regclass)");
    let spec = TableSpec {
        inserts: true,
        ..TableSpec::new(
            Table::new("compound.t").compound_key::<OrderKey>(),
            vec![column("n", ColumnType::I64, false), column("tenant", ColumnType::I16, false)],
        )
    };
    let url = format!("{}?options=-c%20enable_seqscan%3Doff", fixture.settings.url.expose());
    let settings = PostgresSettings { url: PostgresSettings::new(&url).url, ..fixture.settings.clone() };
    let by_index = Fixture { name, settings };
    let mut rows = open(&by_index, std::slice::from_ref(&spec));
    let keys = [order(7, "k37"), order(7, "k38"), order(8, "k38"), order(i64::MAX, "k7")];
    let found: Vec<_> = rows.read(0, &keys).unwrap().into_iter().map(|row| (row.key, row.values)).collect();
    let due = |tenant: i16, n: i64| vec![Value::I64(n), Value::I16(tenant)];
    assert_eq!(found, [(keys[0].clone(), due(7, 37)), (keys[2].clone(), due(8, 38))]);
    let write = |kind, key: &Key, n| RowWrite {
        kind,
        key: key.clone(),
        from_version: 0,
        to_version: 1,
        values: vec![Value::I64(n), Value::Null],
    };
    rows.write(0, &[write(WriteKind::Update, &keys[0], 70), write(WriteKind::Insert, &keys[1], 71)]).unwrap();
    rows.savepoint().unwrap();
    let refused = rows.write(0, &[write(WriteKind::Insert, &keys[3], 1)]);
    assert!(matches!(refused, Err(WriteFault::Rejected(_))), "{refused:?}");
    rows.rollback_to_savepoint().unwrap();
    assert_eq!(rows.commit().unwrap(), CommitAnswer::Done);
    assert_eq!(rows.locked(0, &keys).unwrap(), []);
    drop(rows);
    let (by_index, over_all) = scans(&fixture);
    assert!(by_index > 0 && over_all == 0, "{by_index} index scans, {over_all} sequential ones");
    let told = "SELECT string_agg(tenant || code || n, ' ' ORDER BY n) FROM {u}.t WHERE version = 1";
    assert_eq!(fixture.text(told), "7k3770 7k3871");
}

#[test]
fn a_table_that_has_no_such_compound_key_is_refused_with_the_fix() {
    let Some(fixture) = Fixture::new("uncompound") else { return };
    let columns = "tenant integer NOT NULL, code char(3) NOT NULL, version bigint NOT NULL";
    fixture.sql(&format!("CREATE TABLE {{u}}.a ({columns}, lot text NOT NULL, PRIMARY KEY (tenant, code))"));
    fixture.sql("CREATE TABLE {u}.b (tenant integer, code text, lot uuid, version bigint NOT NULL, UNIQUE (lot, code, tenant) DEFERRABLE)");
    let spec = |name: &str| TableSpec {
        inserts: true,
        ..TableSpec::new(Table::new(&format!("uncompound.{name}")).compound_key::<OrderKey>(), Vec::new())
    };
    let told = fixture.rows().bind(&[spec("a"), spec("b")]).unwrap_err().to_string();
    for part in [
        "uncompound.a, column lot: is text, the struct needs uuid; a column of a compound key is bigint",
        "uncompound.a, column code: is character; a column of a compound key is bigint",
        "uncompound.a: has neither a primary key nor a unique index over just tenant, code, lot, which are the key; ALTER TABLE uncompound.a ADD UNIQUE (tenant, code, lot), or name the right columns in the struct of Table::compound_key: the table's primary key is (tenant, code)",
        "uncompound.b: the constraint of its key, tenant, code, lot, is DEFERRABLE",
        "uncompound.b, column code: may be null",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
}

#[test]
fn columns_that_the_server_makes_are_read_and_never_written() {
    let Some(fixture) = Fixture::new("generated") else { return };
    fixture.sql("CREATE TABLE {u}.t (id bigint PRIMARY KEY, version bigint NOT NULL, number bigint GENERATED ALWAYS AS IDENTITY, n bigint NOT NULL, twice bigint GENERATED ALWAYS AS (2 * n) STORED NOT NULL, made timestamptz NOT NULL DEFAULT now())");
    fixture.sql("INSERT INTO {u}.t (id, version, n) VALUES (1, 0, 5)");
    let columns = ["number", "n", "twice"].map(|name| column(name, ColumnType::I64, false));
    let spec = TableSpec { inserts: true, deletes: true, ..TableSpec::new(Table::new("generated.t"), columns.into()) };
    let mut rows = open(&fixture, std::slice::from_ref(&spec));
    assert_eq!((rows.read_only(0), rows.keeps(0)), (vec![0, 2], false));
    let keys = [Key::I64(1), Key::I64(2)];
    let numbers = |values: [i64; 3]| values.map(Value::I64).to_vec();
    assert_eq!(rows.read(0, &keys).unwrap()[0].values, numbers([1, 5, 10]));
    let write = |key: &Key, kind| RowWrite {
        kind,
        key: key.clone(),
        from_version: 0,
        to_version: 1,
        values: numbers([99, 6, 99]),
    };
    rows.write(0, &[write(&keys[0], WriteKind::Update), write(&keys[1], WriteKind::Insert)]).unwrap();
    let found: Vec<_> = rows.read(0, &keys).unwrap().into_iter().map(|row| row.values).collect();
    assert_eq!(found, [numbers([1, 6, 12]), numbers([2, 6, 12])]);
    rows.commit().unwrap();
}

/// The scans of the table until now: over an index, and over all of it.
fn scans(fixture: &Fixture) -> (i64, i64) {
    let since = std::time::Instant::now();
    loop {
        // The server counts a session's scans once the session is at rest.
        let count = |what: &str| {
            fixture.number(&format!(
                "SELECT coalesce({what}, 0)::bigint FROM pg_stat_user_tables WHERE relid = '{{u}}.t'::regclass"
            ))
        };
        let found = (count("idx_scan"), count("seq_scan"));
        if found.0 > 0 || since.elapsed() > std::time::Duration::from_secs(5) {
            return found;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn a_key_of_any_text_type_finds_its_row_by_the_index_and_no_other() {
    for (name, kind) in [
        ("key_text", "text"),
        ("key_varchar", "varchar(12)"),
        ("key_char", "char(12)"),
        ("key_domain", "{u}.padded"),
        ("key_citext", "citext"),
        ("key_enum", "{u}.tier"),
        ("key_enum_domain", "{u}.some_tier"),
    ] {
        let Some(fixture) = Fixture::new(name) else { return };
        let labels: Vec<String> = (1..=900).map(|number| format!("'k{number}'")).collect();
        fixture.sql(&format!("CREATE TYPE {{u}}.tier AS ENUM ({})", labels.join(",")));
        fixture.sql("CREATE EXTENSION IF NOT EXISTS citext");
        fixture.sql("CREATE DOMAIN {u}.padded AS char(12); CREATE DOMAIN {u}.some_tier AS {u}.tier");
        fixture.sql(&format!(
            "CREATE TABLE {{u}}.t (name {kind} PRIMARY KEY, version bigint NOT NULL, n bigint NOT NULL)"
        ));
        fixture.sql(&format!("INSERT INTO {{u}}.t SELECT ('k' || i)::{kind}, 0, i FROM generate_series(1, 900) AS i"));
        fixture.sql("ANALYZE {u}.t");
        fixture.sql("SELECT pg_stat_reset_single_table_counters('{u}.t'::regclass)");
        let columns = vec![column("name", ColumnType::Text, false), column("n", ColumnType::I64, false)];
        let spec = TableSpec::new(Table::new(&format!("{name}.t")).key("name", KeyType::Text), columns);
        // Of a table as small as this one all would be read: here only where no index serves.
        let url = format!("{}?options=-c%20enable_seqscan%3Doff", fixture.settings.url.expose());
        let settings = PostgresSettings { url: PostgresSettings::new(&url).url, ..fixture.settings.clone() };
        let by_index = Fixture { name, settings };
        let mut rows = open(&by_index, std::slice::from_ref(&spec));
        let keys = ["k7", "k8", "k8 ", "absent", "K9"].map(Key::from);
        let found: Vec<Key> = rows.read(0, &keys).unwrap().into_iter().map(|row| row.key).collect();
        assert_eq!(found, [Key::from("k7"), Key::from("k8")], "{kind}");
        let values = vec![Value::Text("k7".into()), Value::I64(70)];
        rows.write(
            0,
            &[RowWrite { kind: WriteKind::Update, key: "k7".into(), from_version: 0, to_version: 1, values }],
        )
        .unwrap();
        assert_eq!(rows.commit().unwrap(), CommitAnswer::Done);
        assert_eq!(rows.locked(0, &keys).unwrap(), []);
        drop(rows);
        let (by_index, over_all) = scans(&fixture);
        assert!(by_index > 0 && over_all == 0, "{kind}: {by_index} index scans, {over_all} sequential ones");
        assert_eq!(fixture.text("SELECT string_agg(n::text, ' ') FROM {u}.t WHERE version = 1"), "70", "{kind}");
    }
}

fn two_columns(fixture: &Fixture) -> TableSpec {
    fixture.sql("CREATE TABLE {u}.t (id bigint PRIMARY KEY, version bigint NOT NULL, n bigint NOT NULL CHECK (n < 100), m bigint NOT NULL DEFAULT 0 UNIQUE DEFERRABLE INITIALLY DEFERRED, s text)");
    fixture.sql("INSERT INTO {u}.t SELECT i, 0, i, i, 'secret' FROM generate_series(1, 10) AS i");
    let columns = vec![
        column("n", ColumnType::I64, false),
        column("m", ColumnType::I64, false),
        column("s", ColumnType::Text, true),
    ];
    TableSpec::new(Table::new(&format!("{}.t", fixture.name)), columns)
}

fn write(id: i64, n: i64, m: i64, s: &str) -> RowWrite {
    let values = vec![Value::I64(n), Value::I64(m), Value::Text(s.into())];
    RowWrite { kind: WriteKind::Update, key: Key::I64(id), from_version: 0, to_version: 1, values }
}

#[test]
fn a_write_leaves_other_rows_alone() {
    let Some(fixture) = Fixture::new("others") else { return };
    let spec = two_columns(&fixture);
    let mut rows = open(&fixture, std::slice::from_ref(&spec));
    rows.read(0, &[Key::I64(3), Key::I64(7)]).unwrap();
    rows.write(0, &[write(3, 33, 333, "x"), write(7, 77, 777, "y")]).unwrap();
    rows.commit().unwrap();
    assert_eq!(
        fixture.text("SELECT string_agg(format('%s:%s:%s', n, m, version), ' ' ORDER BY id) FROM {u}.t"),
        "1:1:0 2:2:0 33:333:1 4:4:0 5:5:0 6:6:0 77:777:1 8:8:0 9:9:0 10:10:0"
    );
}

#[test]
fn a_refused_row_is_a_dead_letter_without_row_data_and_the_savepoint_keeps_the_rest() {
    let Some(fixture) = Fixture::new("refused") else { return };
    let spec = two_columns(&fixture);
    let mut rows = open(&fixture, std::slice::from_ref(&spec));
    rows.read(0, &[Key::I64(1), Key::I64(2)]).unwrap();
    rows.write(0, &[write(1, 11, 11, "kept")]).unwrap();
    let deferred = write(2, 5, 3, "secret"); // breaks the deferred unique constraint, which COMMIT would have reported
    for (bad, code) in [
        (write(2, 987_654, 2, "secret"), "constraint"),
        (deferred, "constraint"),
        (write(2, 5, 5_000, "sec\0ret"), "bad-value"),
    ] {
        rows.savepoint().unwrap();
        let Err(WriteFault::Rejected(reject)) = rows.write(0, &[bad]) else { panic!("not rejected: {code}") };
        assert_eq!(reject.code(), code);
        let message = reject.message();
        assert!(!message.contains("secret") && !message.contains("987654"), "{message}");
        if code == "constraint" {
            assert!(message.contains("constraint t_"), "{message}");
        }
        // A failed write cannot be committed, however it failed.
        rows.rollback_to_savepoint().unwrap();
    }
    rows.savepoint().unwrap();
    rows.write(0, &[write(2, 22, 22, "kept")]).unwrap();
    assert_eq!(rows.commit().unwrap(), CommitAnswer::Done);
    assert_eq!(fixture.number("SELECT count(*) FROM {u}.t WHERE s = 'kept' AND version = 1"), 2);
}

#[test]
fn a_failed_transaction_cannot_be_committed() {
    let Some(fixture) = Fixture::new("failed") else { return };
    let spec = two_columns(&fixture);
    for bad in [write(2, 987_654, 2, "x"), write(2, 5, 5, "x\0")] {
        let mut rows = open(&fixture, std::slice::from_ref(&spec));
        let at = fixture.number("SELECT next_offset FROM {tg}.position");
        rows.read(0, &[Key::I64(1), Key::I64(2)]).unwrap();
        rows.write(0, &[write(1, 11, 11, "lost")]).unwrap();
        assert!(rows.write(0, &[bad]).is_err());
        assert!(rows.commit().unwrap_err().is_retry());
        assert_eq!(fixture.number("SELECT next_offset FROM {tg}.position"), at);
    }
    assert_eq!(fixture.number("SELECT count(*) FROM {u}.t WHERE s = 'lost'"), 0);
}

/// A function that does to a row what the test wants.
pub fn trigger(fixture: &Fixture, name: &str, body: &str, event: &str) {
    fixture.sql(&format!(
        "CREATE FUNCTION {{u}}.{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$; \
         CREATE TRIGGER {name} {event} EXECUTE FUNCTION {{u}}.{name}()"
    ));
}

#[test]
fn a_row_that_is_gone_or_has_another_version_is_corrupt_and_one_that_a_trigger_withholds_is_a_dead_letter() {
    let Some(fixture) = Fixture::new("withheld") else { return };
    let spec = two_columns(&fixture);
    trigger(&fixture, "hold", "IF NEW.id = 4 THEN RETURN NULL; END IF;", "BEFORE UPDATE ON {u}.t FOR EACH ROW");
    for (bad, is_corrupt) in [
        (write(99, 1, 99, "x"), true),
        (RowWrite { kind: WriteKind::Update, from_version: 3, ..write(6, 1, 6, "x") }, true),
        (write(4, 1, 4, "x"), false),
    ] {
        let mut rows = open(&fixture, std::slice::from_ref(&spec));
        rows.savepoint().unwrap();
        let Err(WriteFault::Rejected(reject)) = rows.write(0, &[write(1, 1, 1, "x"), bad.clone()]) else { panic!() };
        assert_eq!(reject.code(), "withheld", "one by one it is seen which");
        assert!(reject.message().contains("write withheld.t: 1 rows instead of 2"), "{reject:?}");
        rows.rollback_to_savepoint().unwrap();
        rows.write(0, &[write(1, 1, 1, "x")]).unwrap();
        rows.savepoint().unwrap();
        match rows.write(0, &[bad]).unwrap_err() {
            WriteFault::Fault(fault) => assert!(is_corrupt && matches!(fault, Fault::Corrupt(_)), "{fault}"),
            WriteFault::Rejected(reject) => assert!(!is_corrupt && reject.code() == "withheld", "{reject:?}"),
        }
        rows.rollback_to_savepoint().unwrap();
        assert_eq!(rows.commit().unwrap(), CommitAnswer::Done);
        fixture.sql("UPDATE {u}.t SET version = 0 WHERE id = 1");
    }
}

/// As it looks where another program inserted the row and deleted it again, between our insert and our look at the row.
#[test]
fn a_new_row_that_came_and_went_is_offered_again_and_one_that_is_always_withheld_is_a_dead_letter() {
    let Some(fixture) = Fixture::new("came_and_went") else { return };
    let spec = TableSpec { inserts: true, ..two_columns(&fixture) };
    fixture.sql("CREATE SEQUENCE {u}.tries");
    let body = "IF NEW.id = 98 OR (NEW.id = 99 AND nextval('{u}.tries') = 1) THEN RETURN NULL; END IF;";
    trigger(&fixture, "hold", body, "BEFORE INSERT ON {u}.t FOR EACH ROW");
    let new = |id| RowWrite { kind: WriteKind::Insert, from_version: 0, to_version: 1, ..write(id, 0, id, "x") };
    let refused = |id| {
        let mut rows = open(&fixture, std::slice::from_ref(&spec));
        rows.savepoint().unwrap();
        let fault = rows.write(0, &[new(id)]).unwrap_err();
        rows.rollback_to_savepoint().unwrap();
        assert_eq!(rows.commit().unwrap(), CommitAnswer::Done);
        fault
    };
    let WriteFault::Fault(fault) = refused(99) else { panic!("it was withheld once only") };
    assert!(fault.is_retry() && fault.to_string().contains("came and went"), "{fault}");
    let WriteFault::Rejected(reject) = refused(98) else { panic!("it is withheld each time") };
    assert_eq!(reject.code(), "withheld");
}

#[test]
fn what_a_trigger_or_a_policy_refuses_is_a_dead_letter_whatever_its_sqlstate() {
    let Some(fixture) = Fixture::new("raised") else { return };
    let spec = two_columns(&fixture);
    let codes = ["P0001", "ST404", "45010", "55000", "42501", "XX001", "08006", "57P01", "25006", "26000"];
    for (id, code) in (1..).zip(codes) {
        let body = format!("IF NEW.id = {id} THEN RAISE EXCEPTION 'secret' USING ERRCODE = '{code}'; END IF;");
        trigger(&fixture, &format!("raise_{id}"), &body, "BEFORE UPDATE ON {u}.t FOR EACH ROW");
    }
    let mut rows = open(&fixture, std::slice::from_ref(&spec));
    for (id, code) in (1..).zip(codes) {
        rows.savepoint().unwrap();
        let Err(WriteFault::Rejected(reject)) = rows.write(0, &[write(id, 1, 1, "x")]) else { panic!("{code}") };
        assert_eq!(reject.code(), "trigger", "{code}");
        assert!(reject.message().contains(code) && !reject.message().contains("secret"), "{reject:?}");
        rows.rollback_to_savepoint().unwrap();
    }
    fixture.sql("DROP TRIGGER raise_7 ON {u}.t; DROP TRIGGER raise_9 ON {u}.t");
    rows.write(0, &[write(9, 1, 9, "x")]).unwrap();
    assert_eq!(rows.commit().unwrap(), CommitAnswer::Done);

    // A role that is no owner is held to the policies.
    fixture.sql("CREATE ROLE policed LOGIN PASSWORD 'policed'");
    fixture.sql("GRANT USAGE ON SCHEMA {u}, {tg} TO policed; GRANT ALL ON ALL TABLES IN SCHEMA {u}, {tg} TO policed");
    fixture.sql("ALTER TABLE {u}.t ENABLE ROW LEVEL SECURITY");
    fixture.sql("CREATE POLICY p ON {u}.t TO policed USING (true) WITH CHECK (id <> 7 OR n < 60)");
    let url = fixture.settings.url.expose();
    let (scheme, rest) = url.split_once("://").unwrap();
    let (_, place) = rest.split_once('@').unwrap();
    let url = format!("{scheme}://policed:policed@{place}");
    let settings = PostgresSettings { schema: fixture.settings.schema.clone(), ..PostgresSettings::new(&url) };
    let policed = Fixture { name: fixture.name, settings };
    let mut rows = open(&policed, std::slice::from_ref(&spec));
    rows.savepoint().unwrap();
    let Err(WriteFault::Rejected(reject)) = rows.write(0, &[write(7, 70, 7, "x")]) else { panic!("accepted") };
    assert_eq!(reject.code(), "trigger");
    rows.rollback_to_savepoint().unwrap();
    rows.write(0, &[write(7, 50, 7, "x")]).unwrap();
    assert_eq!(rows.commit().unwrap(), CommitAnswer::Done);
}

#[test]
fn a_trigger_that_refuses_every_write_and_a_grant_that_is_missing_are_corrupt() {
    let Some(fixture) = Fixture::new("refusing") else { return };
    let spec = two_columns(&fixture);
    let mut rows = open(&fixture, std::slice::from_ref(&spec));
    trigger(&fixture, "closed", "RAISE EXCEPTION 'closed';", "BEFORE UPDATE ON {u}.t FOR EACH STATEMENT");
    rows.savepoint().unwrap();
    let Err(WriteFault::Fault(fault)) = rows.write(0, &[write(1, 1, 1, "x")]) else { panic!("no row is to blame") };
    assert!(matches!(fault, Fault::Corrupt(_)) && fault.to_string().contains("whatever is written"), "{fault}");
    rows.rollback();
}

/// `repeat` beyond its limit is refused with 54000 and without a table's name, as ids that are used up are.
const LIMIT: &str = "PERFORM repeat('x', 2147483647);";

#[test]
fn a_limit_that_names_no_table_waits_outside_of_rows_and_where_no_row_can_be_written() {
    let Some(fixture) = Fixture::new("limits") else { return };
    let spec = two_columns(&fixture);
    let told = |fault: &Fault, what: &str| {
        let said = fault.to_string();
        assert!(fault.is_retry(), "{said}");
        assert!(
            said.starts_with(&format!("{what}: SQLSTATE 54000")) && said.contains("requested length too large"),
            "{said}"
        );
        assert!(!said.contains("at line"), "{said}");
    };
    let mut rows = open(&fixture, std::slice::from_ref(&spec));
    rows.savepoint().unwrap();
    trigger(&fixture, "lim", &format!("IF NEW.id = 4 THEN {LIMIT} END IF;"), "BEFORE UPDATE ON {u}.t FOR EACH ROW");
    let Err(WriteFault::Rejected(reject)) = rows.write(0, &[write(4, 1, 1, "x")]) else {
        panic!("the row is to blame")
    };
    assert_eq!(reject.code(), "too-large");
    rows.rollback_to_savepoint().unwrap();
    rows.write(0, &[write(1, 11, 11, "x")]).unwrap();
    rows.rollback();

    fixture.sql("DROP TRIGGER lim ON {u}.t; DROP FUNCTION {u}.lim");
    trigger(&fixture, "limits", LIMIT, "BEFORE UPDATE ON {u}.t FOR EACH STATEMENT");
    let mut rows = open(&fixture, std::slice::from_ref(&spec));
    rows.savepoint().unwrap();
    let Err(WriteFault::Fault(fault)) = rows.write(0, &[write(4, 1, 1, "x")]) else { panic!("no row is to blame") };
    told(&fault, "write limits.t");
    rows.rollback();

    let epoch = fixture.own(&mut rows, 2);
    trigger(&fixture, "positions", LIMIT, "BEFORE INSERT OR UPDATE OF next_offset ON {tg}.position FOR EACH STATEMENT");
    rows.begin().unwrap();
    told(&rows.advance(&[step(epoch, 0, 1)]).unwrap_err(), "move positions");
    rows.rollback();
    told(&rows.create(&claim(1, 2), NextOffset(0)).unwrap_err(), "create a position");
}

#[test]
fn an_index_row_that_is_too_wide_blames_its_row() {
    let Some(fixture) = Fixture::new("wide_index") else { return };
    let spec = two_columns(&fixture);
    fixture.sql("CREATE INDEX t_s ON {u}.t (s)");
    let wide: String = (0..4_000_u32).map(|n| format!("{:08x}", n.wrapping_mul(2_654_435_761))).collect();
    let mut rows = open(&fixture, std::slice::from_ref(&spec));
    rows.savepoint().unwrap();
    let Err(WriteFault::Rejected(reject)) = rows.write(0, &[write(1, 1, 1, &wide)]) else {
        panic!("the row is to blame")
    };
    assert_eq!(reject.code(), "too-large");
    rows.rollback();
}

/// A session that holds what `text` locks until it is dropped.
pub struct Holder {
    connection: Option<sqlx::postgres::PgConnection>,
    runtime: tokio::runtime::Runtime,
}

impl Holder {
    pub fn new(fixture: &Fixture, text: &str) -> Self {
        use sqlx::Connection;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let text = format!("SET application_name = 'idler'; BEGIN; {}", text.replace("{u}", fixture.name));
        let connection = runtime.block_on(async {
            let mut connection = sqlx::postgres::PgConnection::connect(fixture.settings.url.expose()).await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut connection).await.unwrap();
            connection
        });
        Self { connection: Some(connection), runtime }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        use sqlx::Connection;
        if let Some(mut connection) = self.connection.take() {
            self.runtime.block_on(async {
                sqlx::raw_sql("ROLLBACK").execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
            });
        }
    }
}

#[test]
fn who_locks_a_row_is_told_and_which_rows_are_locked_is_seen_without_waiting() {
    let Some(fixture) = Fixture::new("locked") else { return };
    let spec = two_columns(&fixture);
    let settings = PostgresSettings { lock_timeout_ms: 1_500, ..fixture.settings.clone() };
    let fixture = Fixture { name: fixture.name, settings };
    let mut rows = open(&fixture, std::slice::from_ref(&spec));
    let holder = Holder::new(&fixture, "UPDATE {u}.t SET n = 70 WHERE id = 7");
    let keys = [Key::I64(1), Key::I64(7), Key::I64(99)];
    let fault = rows.read(0, &keys).unwrap_err();
    assert!(fault.is_lock_wait(), "{fault}");
    let told = fault.to_string();
    for part in [
        "read locked.t: SQLSTATE 55P03",
        "locked by pid ",
        "application idler",
        "role tidegate",
        "idle in transaction for ",
        "s, in its transaction for ",
        "end it with SELECT pg_terminate_backend(",
    ] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    rows.rollback();
    assert_eq!(rows.locked(0, &keys).unwrap(), [Key::I64(7)]);
    drop(holder);
    assert_eq!(rows.locked(0, &keys).unwrap(), []);
    let holder = Holder::new(&fixture, "LOCK TABLE {u}.t");
    assert_eq!(rows.locked(0, &keys).unwrap(), keys, "with the table all of it is locked");
    drop(holder);
    rows.begin().unwrap();
    assert_eq!(rows.read(0, &keys).unwrap().len(), 2);
    // Another instance of ours lets go by itself.
    let mut other = open(&fixture, std::slice::from_ref(&spec));
    let told = other.read(0, &keys).unwrap_err().to_string();
    assert!(told.contains("application tidegate") && !told.contains("pg_terminate_backend"), "{told}");
    rows.rollback();
}

#[test]
fn one_table_under_two_names_is_refused() {
    let Some(fixture) = Fixture::new("twonames") else { return };
    fixture.sql("CREATE TABLE public.twonames (id bigint PRIMARY KEY, version bigint NOT NULL, n bigint NOT NULL)");
    let spec = |name| TableSpec::new(Table::new(name), vec![column("n", ColumnType::I64, false)]);
    let fault = fixture.rows().bind(&[spec("public.twonames"), spec("twonames")]).unwrap_err();
    assert!(fault.to_string().contains("which another step calls otherwise; use one name"), "{fault}");
}

#[test]
fn a_table_that_changes_under_a_running_pipeline_halts_with_the_statement_named() {
    let Some(fixture) = Fixture::new("drift") else { return };
    let spec = two_columns(&fixture);
    for change in ["ALTER COLUMN n TYPE integer", "DROP COLUMN n"] {
        let mut rows = open(&fixture, std::slice::from_ref(&spec));
        rows.read(0, &[Key::I64(1)]).unwrap();
        rows.commit().unwrap();
        fixture.sql(&format!("ALTER TABLE {{u}}.t {change}"));
        rows.begin().unwrap();
        let fault = rows.read(0, &[Key::I64(1)]).unwrap_err();
        assert!(matches!(fault, Fault::Corrupt(_)) && fault.to_string().contains("read drift.t"), "{fault}");
        fixture
            .sql("ALTER TABLE {u}.t DROP COLUMN IF EXISTS n; ALTER TABLE {u}.t ADD COLUMN n bigint NOT NULL DEFAULT 1");
    }
}

#[test]
fn a_table_that_is_swapped_by_rename_is_the_one_that_the_next_batch_changes() {
    let Some(fixture) = Fixture::new("swapped") else { return };
    let spec = two_columns(&fixture);
    let mut rows = open(&fixture, std::slice::from_ref(&spec));
    rows.read(0, &[Key::I64(1)]).unwrap();
    rows.write(0, &[write(1, 11, 11, "old")]).unwrap();
    rows.commit().unwrap();
    fixture.sql("CREATE TABLE {u}.new (LIKE {u}.t INCLUDING ALL); INSERT INTO {u}.new SELECT * FROM {u}.t");
    fixture.sql("BEGIN; ALTER TABLE {u}.t RENAME TO old; ALTER TABLE {u}.new RENAME TO t; COMMIT");
    rows.begin().unwrap();
    assert_eq!(rows.read(0, &[Key::I64(1)]).unwrap()[0].version, 1);
    rows.write(0, &[RowWrite { kind: WriteKind::Update, from_version: 1, to_version: 2, ..write(1, 12, 12, "new") }])
        .unwrap();
    assert_eq!(rows.commit().unwrap(), CommitAnswer::Done);
    assert_eq!(
        fixture
            .text("SELECT format('%s %s', (SELECT n FROM {u}.t WHERE id = 1), (SELECT n FROM {u}.old WHERE id = 1))"),
        "12 11"
    );
}

#[test]
fn it_works_without_a_statement_cache() {
    let Some(fixture) = Fixture::new("uncached") else { return };
    let settings = PostgresSettings { statement_cache: 0, ..fixture.settings.clone() };
    let fixture = Fixture { name: fixture.name, settings };
    let spec = two_columns(&fixture);
    let mut rows = open(&fixture, std::slice::from_ref(&spec));
    rows.read(0, &[Key::I64(1)]).unwrap();
    rows.write(0, &[write(1, 11, 11, "x")]).unwrap();
    rows.commit().unwrap();
    assert_eq!(fixture.number("SELECT n FROM {u}.t WHERE id = 1"), 11);
}

#[test]
fn a_key_outside_of_the_databases_encoding_blames_its_record() {
    let Some(fixture) = Fixture::new("utf8") else { return };
    fixture.sql("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    let (head, _) = fixture.settings.url.expose().rsplit_once('/').unwrap();
    let fixture = Fixture::on(&format!("{head}/latin"), "latin");
    fixture.sql("CREATE TABLE {u}.t (name text PRIMARY KEY, version bigint NOT NULL, n bigint NOT NULL)");
    let columns = vec![column("n", ColumnType::I64, false)];
    let spec = TableSpec::new(Table::new("latin.t").key("name", KeyType::Text), columns);
    let mut rows = open(&fixture, std::slice::from_ref(&spec));
    let fault = rows.read(0, &[Key::from("a"), Key::from("☂")]).unwrap_err();
    assert!(matches!(fault, Fault::Corrupt(_)), "{fault}");
    assert_eq!(fault.reject().map(tidegate::flow::Reject::code), Some("bad-value"), "{fault}");
    assert!(fault.to_string().contains("read latin.t: SQLSTATE 22P05"), "{fault}");
}
