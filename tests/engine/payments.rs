//! The shipped pipeline `payments`: no confirmation within ten minutes.

use serde_json::{Value, json};
use std::time::Duration;
use tidegate::pipelines::payments::topology;
use tidegate::testing::TestDriver;

const MINUTE: Duration = Duration::from_mins(1);

fn told(driver: &mut TestDriver) -> Vec<String> {
    let found = driver.read_raw("unconfirmed-payments");
    let value = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    found.iter().map(|found| value(found.value.as_deref().unwrap())["payment"].as_str().unwrap().to_owned()).collect()
}

fn made(driver: &mut TestDriver, payment: &str) {
    driver.send("payments", payment, json!({"kind": "made", "cents": 990}));
}

fn confirmed(driver: &mut TestDriver, payment: &str) {
    driver.send("payments", payment, json!({"kind": "confirmed"}));
}

#[test]
fn a_payment_that_is_not_confirmed_within_ten_minutes_is_told_of_once() {
    let mut driver = TestDriver::new(topology());
    made(&mut driver, "kept");
    made(&mut driver, "forgotten");
    driver.advance(MINUTE * 9);
    confirmed(&mut driver, "kept");
    assert_eq!(told(&mut driver), Vec::<String>::new());
    driver.advance(MINUTE);
    made(&mut driver, "another");
    assert_eq!(told(&mut driver), ["forgotten"]);
    confirmed(&mut driver, "forgotten");
    confirmed(&mut driver, "another");
    driver.advance(MINUTE * 30);
    confirmed(&mut driver, "another");
    assert_eq!(told(&mut driver), ["forgotten"]);
    driver.crash_everywhere();
}

#[test]
fn a_confirmation_behind_the_deadline_is_too_late_even_where_nothing_came_before_it() {
    let mut driver = TestDriver::new(topology());
    made(&mut driver, "p");
    driver.advance(MINUTE * 10);
    confirmed(&mut driver, "p");
    assert_eq!(told(&mut driver), ["p"]);
    driver.crash_everywhere();
}
