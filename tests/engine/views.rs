//! The shipped pipeline `views`: each minute of each user is told once, with its final count.

use serde_json::{Value, json};
use std::time::Duration;
use tidegate::pipelines::views::topology;
use tidegate::testing::{Sent, TestDriver};

/// A minute's start, an hour before the driver began.
const BEGAN_MS: i64 = 1_767_222_000_000;

fn send(driver: &mut TestDriver, second: i64, user: &str, page: &str) {
    let (key, value) = (Some(user.as_bytes().to_vec()), Some(json!({"page": page}).to_string().into_bytes()));
    driver.send_record("views", Sent { key, value, timestamp_ms: Some(BEGAN_MS + second * 1_000), ..Sent::default() });
}

/// User, minute, views and the last page.
fn told(driver: &mut TestDriver) -> Vec<(String, i64, u64, String)> {
    let found = driver.read_raw("view-counts").into_iter();
    let counts = found.map(|found| {
        let value: Value = serde_json::from_slice(&found.value.unwrap()).unwrap();
        let text = |name: &str| value[name].as_str().unwrap().to_owned();
        assert_eq!(found.key.as_deref(), Some(text("user").as_bytes()));
        let minute = (value["start_ms"].as_i64().unwrap() - BEGAN_MS) / 60_000;
        (text("user"), minute, value["views"].as_u64().unwrap(), text("last_page"))
    });
    counts.collect()
}

#[test]
fn a_minute_is_told_once_when_a_later_view_says_that_it_is_over() {
    let mut driver = TestDriver::new(topology());
    for (second, page) in [(1, "home"), (59, "cart"), (61, "pay"), (58, "back")] {
        send(&mut driver, second, "ada", page);
    }
    assert_eq!(told(&mut driver), []);
    send(&mut driver, 70, "ada", "done");
    assert_eq!(told(&mut driver), [("ada".into(), 0, 3, "back".into())]);
    send(&mut driver, 59, "ada", "late");
    assert_eq!(driver.read_raw("views-dlt").len(), 1, "its minute is over for good");
    send(&mut driver, 200, "bob", "home");
    assert_eq!(told(&mut driver).len(), 1, "another user closes nothing");
}

#[test]
fn a_minute_of_a_user_who_is_gone_is_told_once_nothing_has_come_for_two_minutes() {
    let mut driver = TestDriver::new(topology());
    send(&mut driver, 5, "ada", "home");
    driver.advance(Duration::from_secs(119));
    assert_eq!(told(&mut driver), []);
    driver.advance(Duration::from_secs(2));
    assert_eq!(told(&mut driver), [("ada".into(), 0, 1, "home".into())]);
}
