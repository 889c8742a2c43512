//! Windows that cannot be told: each is a dead letter of its own, and nothing else has a part in it.

use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;
use tidegate::flow::Topology;
use tidegate::flow::record::TopicName;
use tidegate::flow::window::{Clock, Tumbling, Window, Windowed};
use tidegate::flow::{Context, Reject};
use tidegate::testing::{Sent, TestDriver};

/// Keeps the last word, which says what is wrong with the window.
struct Fragile;

#[derive(Serialize, Deserialize)]
struct Told {
    start: i64,
    word: String,
    number: f64,
}

impl Windowed for Fragile {
    type Event = String;
    type Value = String;
    type Notices = Vec<Told>;

    fn add(&self, word: &String, last: &mut String, _: &mut Context<'_>) -> Result<(), Reject> {
        last.clone_from(word);
        Ok(())
    }

    fn emit(&self, last: &String, window: &Window<'_>) -> Vec<Told> {
        assert!(last != "panic", "this word cannot be told");
        let told = |word: &str| Told { start: window.start_ms, word: word.to_owned(), number: 0.0 };
        match &**last {
            "large" => vec![told("small"), told(&"x".repeat(5_000))],
            "no number" => vec![Told { number: f64::NAN, ..told(last) }],
            last => vec![told(last)],
        }
    }
}

#[derive(Clone, Copy)]
enum By {
    Key,
    Partition,
    Idleness,
}

/// Windows of ten milliseconds, which go by this clock, in front of a topic that takes no large notices where that matters.
fn driver(by: By, word: &str) -> TestDriver {
    let mut topology = Topology::new("p");
    let windows = topology.source("words").window(Tumbling::of(Duration::from_millis(10)).grace(Duration::ZERO));
    let windows = match by {
        By::Key => windows,
        By::Partition => windows.clock(Clock::PerPartition),
        By::Idleness => windows.idle_after(Duration::from_mins(1)),
    };
    let step = windows.aggregate("last", Fragile);
    step.filter(|told: &Told| {
        assert!(told.word != "filter", "this word is not to be looked at");
        true
    })
    .to("told");
    let mut driver = TestDriver::new(topology).partitions(1);
    if word == "large" {
        driver.stop(0);
        driver.log().limit_messages(&TopicName::parse("told").unwrap(), 4_000);
        driver.start(0);
    }
    driver
}

fn send(driver: &mut TestDriver, key: &str, at: i64, word: &str) {
    let (key, value) = (Some(key.into()), Some(json!(word).to_string().into_bytes()));
    driver.send_record("words", Sent { key, value, timestamp_ms: Some(at), ..Sent::default() });
}

/// Key, start and word of each window that was told.
fn told(driver: &mut TestDriver) -> Vec<(String, i64, String)> {
    let all = driver.read_raw("told").into_iter();
    all.map(|found| {
        let Told { start, word, .. } = serde_json::from_slice(&found.value.unwrap()).unwrap();
        (String::from_utf8(found.key.unwrap()).unwrap(), start, word)
    })
    .collect()
}

/// Key, window and code of each dead letter.
fn lost(driver: &mut TestDriver) -> Vec<(String, String, String)> {
    let all = driver.read_raw("words-dlt").into_iter();
    all.map(|found| {
        assert_eq!(found.value, None);
        let header = |name: &str| found.header(name).unwrap_or("none").to_owned();
        let key = String::from_utf8(found.key.clone().unwrap()).unwrap();
        (key, header("tg_window"), header("kafka_dlt-exception-fqcn"))
    })
    .collect()
}

fn of(key: &str, start: i64, word: &str) -> (String, i64, String) {
    (key.into(), start, word.into())
}

const WRONG: [(&str, &str); 4] =
    [("panic", "panic"), ("filter", "panic"), ("no number", "not-finite"), ("large", "too-large")];

#[test]
fn a_window_that_cannot_be_told_is_a_dead_letter_and_the_next_one_of_its_key_is_told() {
    for (word, code) in WRONG {
        let mut driver = driver(By::Key, word);
        for (at, word) in [(5, word), (15, "second"), (25, "third"), (35, "fourth")] {
            send(&mut driver, "a", at, word);
        }
        assert_eq!(told(&mut driver), [of("a", 10, "second"), of("a", 20, "third")], "{word}");
        assert_eq!(lost(&mut driver), [("a".into(), "0/10".into(), code.into())]);
        assert!(driver.halts().is_empty());
        if word != "large" {
            driver.crash_everywhere(); // which knows of no limit
        }
    }
}

#[test]
fn a_window_that_cannot_be_told_keeps_no_other_one_from_being_told_with_it() {
    for (word, code) in WRONG {
        let mut driver = driver(By::Partition, word);
        for (key, at, word) in [("a", 5, "first"), ("b", 5, word), ("c", 5, "third"), ("d", 15, "fourth")] {
            send(&mut driver, key, at, word);
        }
        assert_eq!(told(&mut driver), [of("a", 0, "first"), of("c", 0, "third")], "{word}");
        assert_eq!(lost(&mut driver), [("b".into(), "0/10".into(), code.into())]);
        send(&mut driver, "b", 17, "again");
        send(&mut driver, "e", 27, "fifth");
        assert_eq!(told(&mut driver)[2..], [of("b", 10, "again"), of("d", 10, "fourth")]);
        assert_eq!(lost(&mut driver).len(), 1);
        if word != "large" {
            driver.crash_everywhere(); // which knows of no limit
        }
    }
}

#[test]
fn a_window_of_an_idle_key_that_cannot_be_told_is_over_all_the_same() {
    for (word, code) in WRONG {
        let mut driver = driver(By::Idleness, word);
        send(&mut driver, "a", 5, word);
        send(&mut driver, "b", 5, "second");
        for _ in 0..3 {
            driver.advance(Duration::from_mins(1));
        }
        assert_eq!(told(&mut driver), [of("b", 0, "second")], "{word}");
        assert_eq!(lost(&mut driver), [("a".into(), "0/10".into(), code.into())]);
        send(&mut driver, "a", 15, "third");
        send(&mut driver, "a", 25, "fourth");
        assert_eq!(told(&mut driver)[1..], [of("a", 10, "third")]);
        assert_eq!(lost(&mut driver).len(), 1);
    }
}
