//! The shipped pipeline `charges`: payments, two tables, one row.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tidegate::engine::status::Counter;
use tidegate::flow::Key;
use tidegate::flow::row::Value;
use tidegate::pipelines::charges::topology;
use tidegate::testing::TestDriver;

#[derive(Serialize, Deserialize)]
struct Account {
    spent_cents: i64,
    bonus_cents: i64,
}

#[test]
fn payments_change_their_accounts_by_what_both_tables_said_at_their_time() {
    let mut driver = TestDriver::new(topology()).partitions(3).instances(2);
    for id in [7, 8, 9] {
        driver.row("accounts", id, Account { spent_cents: 0, bonus_cents: 0 });
    }
    driver.send("customers", 7, json!({"bonus_percent": 10}));
    driver.send("customers", 8, json!({"bonus_percent": 0}));
    driver.send("credit-limits", 7, json!({"limit_cents": 1_000}));
    driver.run();
    driver.send("payments", 7, json!({"cents": 800}));
    driver.send("payments", 8, json!({"cents": 5_000}));
    driver.send("payments", 9, json!({"cents": 5_000}));
    driver.run(); // after a crash a table is read to its end before the stream goes on
    driver.send("customers", 7, json!({"bonus_percent": 1}));
    driver.run();
    driver.send("payments", 7, json!({"cents": 400}));
    driver.run();
    driver.send("credit-limits", 7, json!({"limit_cents": 2_000}));
    driver.send("payments", 7, json!({"cents": 1_000}));
    let told = |spent: i64, limit: i64| (Key::I64(7), json!({"spent_cents": spent, "limit_cents": limit}));
    assert_eq!(driver.read_keyed("exceeded-limits"), [told(1_200, 1_000), told(2_200, 2_000)]);
    let row = driver.row_of("accounts", 7).unwrap();
    assert_eq!((row.version, row.values), (3, vec![Value::I64(2_200), Value::I64(80 + 4 + 10)]));
    assert_eq!(driver.row_of("accounts", 8).unwrap().values[0], Value::I64(5_000), "no limit is no obstacle");
    assert_eq!(driver.row_of("accounts", 9).unwrap().version, 0, "nobody knows the customer");
    assert_eq!((0..2).map(|number| driver.status(number).value(Counter::Skipped)).sum::<u64>(), 1);
    driver.crash_everywhere();
}
