//! The shipped pipeline `limits` over records as Debezium writes them.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tidegate::flow::row::Value;
use tidegate::flow::{Algorithm, Change, Context, Key, KeyType, Reject, TableTopic, Topology};
use tidegate::pipelines::limits::topology;
use tidegate::testing::TestDriver;

#[derive(Serialize, Deserialize)]
struct Account {
    limit_cents: i64,
    is_open: bool,
}

const TOPIC: &str = "risk.public.limits";

/// A change of account 1042, with schemas as Connect's converter adds them, or without.
fn sent(driver: &mut TestDriver, has_schema: bool, op: &str, before: Option<i64>, after: Option<i64>) {
    let row = |limit: Option<i64>| limit.map(|limit| json!({"account_id": 1042, "limit_cents": limit, "note": "x"}));
    let source = json!({"version": "3.0.0.Final", "connector": "postgresql", "ts_ms": 1_767_225_600_000_i64});
    let value = json!({"before": row(before), "after": row(after), "source": source, "op": op, "ts_ms": 1});
    let wrapped = |payload: &serde_json::Value| match has_schema {
        true => json!({"schema": {"type": "struct", "optional": false}, "payload": payload}),
        false => payload.clone(),
    };
    let (key, value) = (wrapped(&json!({"account_id": 1042})).to_string(), wrapped(&value).to_string());
    driver.send_raw(TOPIC, Some(key.as_bytes()), Some(value.as_bytes()));
    if op == "d" {
        driver.send_raw(TOPIC, Some(key.as_bytes()), None);
    }
}

#[test]
fn accounts_follow_the_limits_of_the_other_database_through_snapshot_change_and_delete() {
    for has_schema in [false, true] {
        let mut driver = TestDriver::new(topology()).partitions(3).instances(2);
        driver.row("accounts", 1042, Account { limit_cents: 0, is_open: false });
        sent(&mut driver, has_schema, "r", None, Some(500));
        sent(&mut driver, has_schema, "u", Some(500), Some(300));
        sent(&mut driver, has_schema, "d", Some(300), None);
        sent(&mut driver, has_schema, "c", None, Some(900));
        let told = |from: i64, to: i64| {
            let value = json!({"from_cents": from, "to_cents": to, "at_ms": 1_767_225_600_000_i64});
            (Key::I64(1042), value)
        };
        assert_eq!(driver.read_keyed("lowered-limits"), [told(500, 300), told(300, 0)]);
        let row = driver.row_of("accounts", 1042).unwrap();
        assert_eq!((row.version, row.values), (4, vec![Value::I64(900), Value::Bool(true)]));
        assert!(driver.read_raw("risk.public.limits-dlt").is_empty(), "the tombstone is skipped");
        driver.crash_everywhere();
    }
}

#[test]
fn a_column_that_was_not_sent_is_a_dead_letter_that_says_what_to_do() {
    let mut driver = TestDriver::new(topology());
    driver.row("accounts", 7, Account { limit_cents: 5, is_open: true });
    let value = br#"{"op":"u","before":null,"after":{"account_id":7,"limit_cents":"__debezium_unavailable_value"}}"#;
    driver.send_raw(TOPIC, Some(br#"{"account_id":7}"#), Some(value));
    let dead = driver.read_raw("risk.public.limits-dlt");
    let said = dead[0].headers.iter().find(|header| header.name == "kafka_dlt-exception-message").unwrap();
    assert!(String::from_utf8_lossy(said.value.as_deref().unwrap()).contains("REPLICA IDENTITY FULL"));
    assert_eq!(driver.row_of("accounts", 7).unwrap().values[0], Value::I64(5));
}

/// A message, as Debezium writes it for `pg_logical_emit_message`, that a router has brought to the table's topic.
#[test]
fn a_message_of_the_other_databases_log_is_a_dead_letter_for_want_of_a_row_and_under_a_rows_key_skipped() {
    let mut driver = TestDriver::new(topology());
    driver.row("accounts", 7, Account { limit_cents: 5, is_open: true });
    let value = br#"{"op":"m","ts_ms":1,"source":{"ts_ms":1},"message":{"prefix":"audit","content":"eA=="}}"#;
    driver.send_raw(TOPIC, Some(br#"{"prefix":"audit"}"#), Some(value));
    driver.send_raw(TOPIC, Some(br#"{"account_id":7}"#), Some(value));
    let dead = driver.read_raw("risk.public.limits-dlt");
    let codes: Vec<_> = dead.iter().map(|found| found.header("kafka_dlt-exception-fqcn").unwrap()).collect();
    assert_eq!(codes, ["bad-key"]);
    let row = driver.row_of("accounts", 7).unwrap();
    assert_eq!((row.version, row.values), (0, vec![Value::I64(5), Value::Bool(true)]));
}

#[test]
fn a_number_in_base64_is_a_dead_letter_that_says_what_to_do() {
    let mut driver = TestDriver::new(topology());
    driver.row("accounts", 7, Account { limit_cents: 5, is_open: true });
    let value = br#"{"op":"u","before":null,"after":{"account_id":7,"limit_cents":"AfQ="}}"#;
    driver.send_raw(TOPIC, Some(br#"{"account_id":7}"#), Some(value));
    let dead = driver.read_raw("risk.public.limits-dlt");
    assert_eq!(dead[0].header("kafka_dlt-exception-fqcn"), Some("bad-json"));
    let said = dead[0].header("kafka_dlt-exception-message").unwrap();
    assert!(said.contains("decimal.handling.mode=string") && said.contains("AfQ="), "{said}");
    assert_eq!(driver.row_of("accounts", 7).unwrap().values[0], Value::I64(5));
}

/// An account's limit as the other database has it.
#[derive(Serialize, Deserialize)]
struct Limit {
    limit_cents: i64,
}

/// Tells whether a payment keeps to its account's limit.
struct Check;

impl Algorithm for Check {
    type Event = (i64, Change<Limit>);
    type Row = ();
    type Notices = Option<bool>;

    fn apply(&self, event: (i64, Change<Limit>), (): &mut (), _: &mut Context<'_>) -> Result<Option<bool>, Reject> {
        let (cents, change) = event;
        Ok(change.after.map(|limit| cents <= limit.limit_cents))
    }
}

#[test]
fn a_topic_of_changes_is_a_table_that_a_stream_is_joined_with() {
    for has_schema in [false, true] {
        let mut topology = Topology::new("checks");
        let limits: TableTopic<Change<Limit>> = TableTopic::new(TOPIC);
        topology.source("payments").join(limits).process(Check).keys(KeyType::Field("account_id")).to("checked");
        let mut driver = TestDriver::new(topology).partitions(2);
        let key = match has_schema {
            false => r#"{"account_id":1042}"#.to_owned(),
            true => {
                json!({"schema": {"type": "struct", "optional": false}, "payload": {"account_id": 1042}}).to_string()
            }
        };
        let pay = |driver: &mut TestDriver| {
            driver.run();
            driver.send_raw("payments", Some(key.as_bytes()), Some(b"400"));
            driver.run();
        };
        sent(&mut driver, has_schema, "r", None, Some(500));
        pay(&mut driver);
        sent(&mut driver, has_schema, "u", Some(500), Some(300));
        pay(&mut driver);
        driver.kill(0);
        driver.disk(0).lose();
        driver.start(0);
        pay(&mut driver);
        sent(&mut driver, has_schema, "d", Some(300), None);
        pay(&mut driver);
        assert!(driver.halts().is_empty(), "{:?}", driver.halts());
        let told: Vec<_> = driver.read_raw("checked").into_iter().filter_map(|found| found.value).collect();
        assert_eq!(told, [b"true".to_vec(), b"false".to_vec(), b"false".to_vec()]);
    }
}
