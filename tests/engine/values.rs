//! Values come out bit for bit as they went in: rows of which an algorithm changes one column, and values in a store.

use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use tidegate::flow::row::Value;
use tidegate::flow::{Algorithm, Context, Reject, Topology};
use tidegate::testing::TestDriver;

/// The row of the trials: absent values in front, JSON that no double holds.
#[derive(Serialize, Deserialize)]
struct Account {
    #[serde(skip_serializing_if = "Option::is_none")]
    bonus: Option<i64>,
    balance: i64,
    extra: serde_json::Value,
    rate: f64,
}

/// Like [`Account`], its JSON as it stands.
#[derive(Serialize)]
struct Stored {
    bonus: Option<i64>,
    balance: i64,
    extra: Box<RawValue>,
    rate: f64,
}

struct Deposit;

impl Algorithm for Deposit {
    type Event = serde_json::Value;
    type Row = Account;
    type Notices = Option<f64>;

    fn apply(
        &self,
        event: serde_json::Value,
        account: &mut Account,
        _: &mut Context<'_>,
    ) -> Result<Option<f64>, Reject> {
        account.balance += 1;
        if let Some(extra) = event.get("extra") {
            account.extra["p"] = extra.clone();
        }
        Ok(Some(account.rate))
    }
}

fn deposits(extra: &str) -> TestDriver {
    let mut topology = Topology::new("deposits");
    topology.source("deposits").update("accounts", Deposit).to("told");
    let mut driver = TestDriver::new(topology);
    let extra = RawValue::from_string(extra.into()).unwrap();
    driver.row("accounts", 7, Stored { bonus: None, balance: 100, extra, rate: 130.653_316_326_530_61 });
    driver
}

fn values(driver: &mut TestDriver) -> Vec<Value> {
    driver.row_of("accounts", 7).unwrap().values
}

const EXTRA: &str = r#"{"id": 12345678901234567890123, "price": 0.1234567890123456789012, "v": 1.10}"#;

#[test]
fn a_column_that_the_algorithm_did_not_change_stays_as_it_was_and_in_its_place() {
    let mut driver = deposits(EXTRA);
    for balance in 101..=103 {
        driver.send("deposits", 7, json!({}));
        let rate = Value::F64(130.653_316_326_530_61);
        assert_eq!(values(&mut driver), [Value::Null, Value::I64(balance), Value::Json(EXTRA.into()), rate]);
    }
    let told = driver.read_raw("told");
    assert!(told.iter().all(|found| found.value.as_deref() == Some(b"130.65331632653061")), "{told:?}");
    assert!(driver.read_raw("deposits-dlt").is_empty());
}

#[test]
fn of_a_json_column_what_was_not_changed_keeps_its_digits() {
    let mut driver = deposits(EXTRA);
    driver.send("deposits", 7, json!({"extra": f64::MAX}));
    driver.send("deposits", 7, json!({"extra": [1.5, null]}));
    driver.send("deposits", 7, json!({}));
    let Value::Json(text) = values(&mut driver).remove(2) else { panic!("not JSON") };
    for digits in ["\"id\":12345678901234567890123", "\"price\":0.1234567890123456789012", "\"v\":1.10", "[1.5,null]"] {
        assert!(text.contains(digits), "no {digits} in {text}");
    }
    assert!(driver.read_raw("deposits-dlt").is_empty());
}

#[test]
fn the_largest_double_as_a_database_spells_it_does_not_lock_its_row_out() {
    let digits = format!("{{\"p\": 17976931348623157{}}}", "0".repeat(292));
    let mut driver = deposits(&digits);
    driver.send("deposits", 7, json!({}));
    assert_eq!(values(&mut driver)[1..3], [Value::I64(101), Value::Json(digits)]);
    assert!(driver.read_raw("deposits-dlt").is_empty());
}

/// Floats by the thousand, decoded and encoded again at each record.
#[derive(Serialize, Deserialize, Default)]
struct Kept {
    count: i64,
    floats: Vec<f64>,
}

struct Keep;

impl Algorithm for Keep {
    type Event = Vec<f64>;
    type Row = Kept;
    type Notices = Option<i64>;

    fn apply(&self, event: Vec<f64>, kept: &mut Kept, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        kept.count += 1;
        if kept.floats.is_empty() {
            kept.floats = event;
        }
        Ok(None)
    }
}

#[test]
fn what_a_store_keeps_is_the_same_after_many_records_and_a_lost_disk() {
    let mut topology = Topology::new("keeping");
    topology.source("floats").aggregate("kept", Keep).to("told");
    let mut driver = TestDriver::new(topology).settings(|settings| settings.store_flush = std::time::Duration::ZERO);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut roll = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        f64::from_bits(seed)
    };
    let mut floats: Vec<f64> =
        std::iter::repeat_with(&mut roll).filter(|float| float.is_finite()).take(2_000).collect();
    floats.extend([130.653_316_326_530_61, -0.0, f64::MAX, f64::MIN_POSITIVE, 5e-324, 0.1 + 0.2]);
    for _ in 0..10 {
        driver.send("floats", "ada", &floats);
        driver.run();
    }
    driver.stop(0);
    driver.disk(0).lose();
    driver.start(0);
    driver.send("floats", "ada", &floats);
    let kept: Kept = serde_json::from_value(driver.store("kept", "ada").unwrap()).unwrap();
    assert_eq!(kept.count, 11);
    let bits = |floats: &[f64]| floats.iter().map(|float| float.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&kept.floats), bits(&floats));
}
