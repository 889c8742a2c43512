//! Keys as producers of other systems write them: rows, stores, joins, notices and declarations under each type.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate::flow::{Algorithm, Context, Declared, Key, KeyType, Reject, Table, TableTopic, Topology};
use tidegate::testing::TestDriver;

#[derive(Serialize, Deserialize, Default)]
struct Total {
    total: i64,
}

/// Adds up, in a row or a store, and tells the key.
struct Sum;

impl Algorithm for Sum {
    type Event = i64;
    type Row = Total;
    type Notices = Option<Value>;

    fn apply(&self, n: i64, row: &mut Total, context: &mut Context<'_>) -> Result<Option<Value>, Reject> {
        row.total += n;
        let from = context.header("from").map(|from| String::from_utf8_lossy(from).into_owned());
        Ok(Some(json!({"key": context.key().to_string(), "total": row.total, "from": from})))
    }
}

/// Pairs an event with its table's value.
struct Pair;

impl Algorithm for Pair {
    type Event = (i64, i64);
    type Row = ();
    type Notices = Option<Value>;

    fn apply(&self, pair: (i64, i64), (): &mut (), context: &mut Context<'_>) -> Result<Option<Value>, Reject> {
        Ok(Some(json!({"key": context.key().to_string(), "pair": pair})))
    }
}

/// Each key type with an id, and the id as text.
fn kinds() -> [(KeyType, Key, &'static str); 10] {
    let uuid = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    let id = Key::Uuid(uuid::Uuid::try_parse(uuid).unwrap());
    [
        (KeyType::I64, Key::I64(1042), "1042"),
        (KeyType::I64BigEndian, Key::I64(1042), "1042"),
        (KeyType::I32BigEndian, Key::I64(-7), "-7"),
        (KeyType::Uuid, id.clone(), uuid),
        (KeyType::UuidBytes, id.clone(), uuid),
        (KeyType::Text, Key::from("ada"), "ada"),
        (KeyType::Bytes, Key::from(vec![0xff, 0]), "0xff00"),
        (KeyType::Field("id"), Key::I64(1042), "1042"),
        (KeyType::TextField("code"), Key::from("a b"), "a b"),
        (KeyType::UuidField("id"), id, uuid),
    ]
}

#[test]
fn a_row_is_found_by_keys_of_every_type() {
    for (kind, id, text) in kinds() {
        let mut topology = Topology::new("rows");
        topology.source("in").update(Table::new("t").key("id", kind), Sum).to("out");
        let mut driver = TestDriver::new(topology).partitions(3).instances(2);
        driver.row("t", id.clone(), Total { total: 0 });
        driver.send("in", id.clone(), 3);
        driver.send_with("in", id.clone(), 4, &[("from", "a test")]);
        let told = |total: i64, from: Value| (id.clone(), json!({"key": text, "total": total, "from": from}));
        assert_eq!(driver.read_keyed("out"), [told(3, Value::Null), told(7, json!("a test"))], "{kind}");
        assert_eq!(driver.row_of("t", id.clone()).unwrap().version, 2, "{kind}");
        driver.crash_everywhere();
    }
}

#[test]
fn stores_and_tables_are_kept_under_keys_of_every_type() {
    for (kind, id, text) in kinds() {
        let mut topology = Topology::new("stores");
        topology.source("in").aggregate("sums", Sum).keys(kind).to("out");
        topology.source("orders").join(TableTopic::<i64>::new("users")).process(Pair).keys(kind).to("pairs");
        topology.source("out").process(Told).done();
        let mut driver = TestDriver::new(topology).partitions(3);
        driver.send("users", id.clone(), 5);
        driver.send("in", id.clone(), 3);
        driver.run();
        driver.send("in", id.clone(), 4);
        driver.send("orders", id.clone(), 1);
        let raw = |driver: &mut TestDriver, topic: &str| {
            let found = driver.read_raw(topic);
            found.iter().map(|found| found.key.clone().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(raw(&mut driver, "out"), [kind.spell(&id), kind.spell(&id)], "{kind}: the key as it came");
        assert_eq!(driver.read_keyed("pairs"), [(id.clone(), json!({"key": text, "pair": [1, 5]}))], "{kind}");
        let kept = if kind.is_field() { text.as_bytes().to_vec() } else { kind.spell(&id) };
        assert!(raw(&mut driver, "stores-sums-changelog").iter().all(|key| *key == kept), "{kind}");
        assert!(raw(&mut driver, "stores-users-changelog").iter().all(|key| *key == kept), "{kind}");
        driver.crash_everywhere();
    }
}

/// Takes whatever comes.
struct Told;

impl Algorithm for Told {
    type Event = Value;
    type Row = ();
    type Notices = Option<Value>;

    fn apply(&self, _: Value, (): &mut (), _: &mut Context<'_>) -> Result<Option<Value>, Reject> {
        Ok(None)
    }
}

#[test]
fn keys_of_every_type_are_held_against_a_declaration() {
    for (kind, id, _) in kinds().into_iter().filter(|(kind, ..)| !kind.is_field()) {
        let mut topology = Topology::new("declared");
        topology.source("in").declared(Declared::murmur2(3)).aggregate("sums", Sum).keys(kind).to("out");
        let mut driver = TestDriver::new(topology).partitions(3);
        driver.send("in", id.clone(), 3);
        assert_eq!(driver.read_raw("out").len(), 1, "{kind}");
        let home = tidegate::flow::key::partition_for(&kind.spell(&id), 3);
        driver.send_to("in", (home + 1) % 3, Some(&kind.spell(&id)), Some(b"1"));
        assert_eq!(driver.halts().len(), 1, "{kind}");
    }
}

#[test]
fn ids_of_debezium_that_are_spelt_with_a_schema_and_without_are_one_row() {
    let mut topology = Topology::new("cdc");
    topology.source("in").update(Table::new("t").key("id", KeyType::Field("id")), Sum).done();
    let mut driver = TestDriver::new(topology);
    driver.row("t", 7, Total { total: 0 });
    driver.send_raw("in", Some(br#"{"id":7}"#), Some(b"3"));
    driver.send_raw("in", Some(br#"{"schema":{"type":"struct"},"payload":{"id":7}}"#), Some(b"4"));
    driver.send_raw("in", Some(b"7"), Some(b"5"));
    assert_eq!(driver.row_of("t", 7).unwrap().version, 2);
    let dead = driver.read_raw("in-dlt");
    let said = dead[0].headers.iter().find(|header| header.name == "kafka_dlt-exception-message").unwrap();
    let said = String::from_utf8(said.value.clone().unwrap()).unwrap();
    let expected = "the key of 1 bytes is not a JSON object; it looks like a decimal number, 7: declare KeyType::I64";
    assert_eq!(said, expected);
    driver.crash_everywhere();
}
