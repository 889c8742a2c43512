//! The shipped pipeline `payments`: no confirmation within ten minutes.

use serde_json::{Value, json};
use tidegate::pipelines::payments::topology;
use tidegate::testing::{Sent, TestDriver};

const MINUTE_MS: i64 = 60_000;

fn told(driver: &mut TestDriver) -> Vec<String> {
    let found = driver.read_raw("unconfirmed-payments");
    let value = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    found.iter().map(|found| value(found.value.as_deref().unwrap())["payment"].as_str().unwrap().to_owned()).collect()
}

/// So many minutes behind the first payment, which was an hour before the driver began.
fn send(driver: &mut TestDriver, minute: i64, payment: &str, value: &Value) {
    let (key, value) = (Some(payment.as_bytes().to_vec()), Some(value.to_string().into_bytes()));
    let timestamp_ms = Some(1_767_222_000_000 + minute * MINUTE_MS);
    driver.send_record("payments", Sent { key, value, timestamp_ms, ..Sent::default() });
}

fn made(driver: &mut TestDriver, minute: i64, payment: &str) {
    send(driver, minute, payment, &json!({"kind": "made", "cents": 990}));
}

fn confirmed(driver: &mut TestDriver, minute: i64, payment: &str) {
    send(driver, minute, payment, &json!({"kind": "confirmed"}));
}

#[test]
fn a_payment_that_is_not_confirmed_within_ten_minutes_is_told_of_once() {
    let mut driver = TestDriver::new(topology());
    made(&mut driver, 0, "kept");
    made(&mut driver, 0, "forgotten");
    confirmed(&mut driver, 9, "kept");
    assert_eq!(told(&mut driver), Vec::<String>::new());
    made(&mut driver, 10, "another");
    assert_eq!(told(&mut driver), ["forgotten"]);
    confirmed(&mut driver, 10, "forgotten");
    confirmed(&mut driver, 10, "another");
    confirmed(&mut driver, 40, "another");
    assert_eq!(told(&mut driver), ["forgotten"]);
    driver.crash_everywhere();
}

#[test]
fn a_confirmation_behind_the_deadline_is_too_late_even_where_nothing_came_before_it() {
    let mut driver = TestDriver::new(topology());
    made(&mut driver, 0, "p");
    confirmed(&mut driver, 10, "p");
    assert_eq!(told(&mut driver), ["p"]);
    driver.crash_everywhere();
}
