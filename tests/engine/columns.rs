//! Columns as tables have them: narrow keys, dates, lists, decimals of any crate, columns that the database makes.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;
use tidegate::engine::audit::audit;
use tidegate::flow::row::Value;
use tidegate::flow::{Algorithm, Change, Context, Reject, Table, Topology};
use tidegate::testing::TestDriver;

/// A decimal that takes any form of number, as those of several crates do.
#[derive(Clone, Default, Serialize)]
struct Decimal(String);

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl serde::de::Visitor<'_> for Any {
            type Value = Decimal;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a decimal")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Decimal, E> {
                let is_decimal = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.' || c == '-');
                if is_decimal && text.parse::<f64>().is_ok() {
                    Ok(Decimal(text.into()))
                } else {
                    Err(E::custom("no decimal"))
                }
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// A day that takes no other text.
#[derive(Clone, Serialize)]
struct Day(String);

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_day = text.len() == 10 && text.split('-').count() == 3;
        if is_day { Ok(Self(text)) } else { Err(serde::de::Error::custom("no day")) }
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct User {
    id: i32,
    born: Day,
    tags: Vec<String>,
    total: Decimal,
    twice: i64,
    count: i64,
}

fn user() -> User {
    let total = Decimal("1.10".into());
    User { id: 7, born: Day("1970-01-01".into()), tags: Vec::new(), total, twice: 0, count: 0 }
}

#[derive(Deserialize)]
struct Event {
    tag: String,
    #[serde(default)]
    twice: Option<i64>,
}

struct Tag;

impl Algorithm for Tag {
    type Event = Event;
    type Row = User;
    type Notices = Option<User>;

    fn apply(&self, event: Event, user: &mut User, _: &mut Context<'_>) -> Result<Option<User>, Reject> {
        user.tags.push(event.tag);
        user.count += 1;
        if let Some(twice) = event.twice {
            user.twice = twice;
        }
        Ok(Some(user.clone()))
    }
}

fn topology() -> Topology {
    let mut topology = Topology::new("users");
    topology.source("events").update("users", Tag).insert_missing(|_| user()).to("users-told");
    topology
}

/// The column `twice` is twice the column `count`, which the table makes.
fn generate(driver: &mut TestDriver) {
    driver.database().generate(&Table::new("users"), "twice", |values| match values.last() {
        Some(Value::I64(count)) => Value::I64(2 * count),
        _ => Value::Null,
    });
}

#[test]
fn columns_of_many_types_are_found_out_from_the_struct() {
    use tidegate::flow::table::ColumnType;
    let columns = topology().tables().remove(0).columns;
    let first: Vec<ColumnType> = columns.iter().map(|column| column.accepts[0]).collect();
    let due =
        [ColumnType::I32, ColumnType::Date, ColumnType::Json, ColumnType::Numeric, ColumnType::I64, ColumnType::I64];
    assert_eq!(first, due);
    assert!(columns[2].accepts.contains(&ColumnType::Array));
}

#[test]
fn a_key_of_32_bits_a_list_a_day_and_a_decimal_go_in_and_out() {
    let mut driver = TestDriver::new(topology());
    driver.row("users", 7, user());
    for (id, tag) in [(7, "a"), (7, "b"), (8, "c")] {
        driver.send("events", id, json!({ "tag": tag }));
    }
    let row = driver.row_of("users", 7).unwrap();
    let due = [
        Value::Text("1970-01-01".into()),
        Value::Json(r#"["a","b"]"#.into()),
        Value::Text("1.10".into()),
        Value::I64(0),
        Value::I64(2),
    ];
    assert_eq!((row.version, &row.values[..]), (2, &due[..]));
    let ids: Vec<i64> = driver.read("users-told").into_iter().map(|(_, told)| told["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, [7, 7, 8], "of a row that is new as well");
}

#[test]
fn a_column_that_the_database_makes_is_read_and_never_written() {
    let mut driver = TestDriver::new(topology());
    driver.row("users", 7, user());
    generate(&mut driver);
    for tag in ["a", "b"] {
        driver.send("events", 7, json!({ "tag": tag }));
    }
    driver.send("events", 7, json!({ "tag": "c", "twice": 1 }));
    driver.send("events", 8, json!({ "tag": "d" }));
    driver.send("events", 8, json!({ "tag": "e" }));
    let told: Vec<_> = driver.read("users-told").into_iter().map(|(id, told)| (id, told["twice"].clone())).collect();
    assert_eq!(told, [(7, json!(0)), (7, json!(2)), (8, json!(0)), (8, json!(2))]);
    let dead = driver.read_raw("events-dlt");
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].header("kafka_dlt-exception-fqcn"), Some("read-only"));
    let message = dead[0].header("kafka_dlt-exception-message").unwrap();
    assert_eq!(message, "column twice: the database makes its value, and the algorithm has changed it");
    for id in [7, 8] {
        assert_eq!(driver.row_of("users", id).unwrap().values[3..], [Value::I64(4), Value::I64(2)]);
    }
    let (mut rows, mut log) = (driver.database().history("users"), driver.log().history("users"));
    assert!(audit(&topology(), &mut rows, &mut log).unwrap().is_clean());
}

/// Amounts as the crate has them that most use.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Purse {
    balance: rust_decimal::Decimal,
    credit: Option<rust_decimal::Decimal>,
}

struct Pay;

impl Algorithm for Pay {
    type Event = Purse;
    type Row = Purse;
    type Notices = Option<Purse>;

    fn apply(&self, paid: Purse, purse: &mut Purse, _: &mut Context<'_>) -> Result<Option<Purse>, Reject> {
        purse.balance += paid.balance;
        purse.credit = paid.credit.or(purse.credit);
        Ok(Some(purse.clone()))
    }
}

fn decimal(text: &str) -> rust_decimal::Decimal {
    text.parse().unwrap()
}

#[test]
fn an_amount_of_rust_decimal_goes_through_event_row_and_notice_without_losing_a_digit() {
    use tidegate::flow::table::ColumnType;
    let mut topology = Topology::new("purses");
    topology.source("paid").update("purses", Pay).to("purses-told");
    let columns = topology.tables().remove(0).columns;
    let kinds: Vec<(ColumnType, bool)> = columns.iter().map(|column| (column.accepts[0], column.is_nullable)).collect();
    assert_eq!(kinds, [(ColumnType::Numeric, false), (ColumnType::Numeric, true)]);
    let mut driver = TestDriver::new(topology);
    driver.row("purses", 7, Purse { balance: decimal("12345678901234567890.12345678"), credit: None });
    driver.row("purses", 8, Purse { balance: decimal("0.10"), credit: Some(decimal("-5.000")) });
    driver.send("paid", 7, json!({ "balance": "0.00000001", "credit": "79228162514264337593543950335" }));
    driver.send("paid", 8, json!({ "balance": "0.20", "credit": null }));
    let row = |driver: &mut TestDriver, id: i64| driver.row_of("purses", id).unwrap().values;
    let text = |text: &str| Value::Text(text.into());
    let due = [text("12345678901234567890.12345679"), text("79228162514264337593543950335")];
    assert_eq!(row(&mut driver, 7), due);
    assert_eq!(
        row(&mut driver, 8),
        [text("0.30"), text("-5.000")],
        "the scale stays, and a double would say 0.30000000000000004"
    );
    let told = driver.read("purses-told");
    let due = json!({ "balance": "12345678901234567890.12345679", "credit": "79228162514264337593543950335" });
    assert_eq!(told.iter().find(|(id, _)| *id == 7).unwrap().1, due);
    driver.crash_everywhere();
}

#[test]
fn a_decimal_of_debezium_in_base64_is_named_with_the_setting_of_the_connector() {
    let read = |balance: &str| {
        let value = format!(r#"{{"op":"c","before":null,"after":{{"balance":{balance},"credit":null}}}}"#);
        serde_json::from_str::<Change<Purse>>(&value).map_err(|error| error.to_string())
    };
    for balance in [r#""AfQ=""#, r#"{"scale":2,"value":"AfQ="}"#] {
        let refused = read(balance).unwrap_err();
        assert!(refused.contains("decimal.handling.mode=string"), "{refused}");
    }
    assert_eq!(read(r#""5.00""#).unwrap().after.unwrap().balance.to_string(), "5.00");
}
