//! The shipped pipeline `usage`: events at random, brought together by user, summed, published now and then.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate::engine::protocol::order::THROUGH_LOG;
use tidegate::flow::record::{Header, Timestamp, TopicName};
use tidegate::pipelines::usage::topology;
use tidegate::ports::history::Found;
use tidegate::testing::TestDriver;

/// Sends `count` events of five users, keyed so that neither the key nor the partition shows the user.
fn feed(driver: &mut TestDriver, count: u64) {
    for n in 0..count {
        let event = json!({"userId": format!("user-{}", n * 7 % 5), "units": n % 4});
        let key = (n % 3 > 0).then(|| format!("trace-{n}"));
        driver.send_raw("events", key.as_deref().map(str::as_bytes), Some(event.to_string().as_bytes()));
    }
}

/// The sums that an offline program makes of the same events: count and units by user.
fn offline(count: u64) -> BTreeMap<String, (u64, f64)> {
    let mut sums: BTreeMap<String, (u64, f64)> = BTreeMap::new();
    for n in 0..count {
        let (events, units) = sums.entry(format!("user-{}", n * 7 % 5)).or_default();
        *events += 1;
        *units += f64::from(u32::try_from(n % 4).unwrap());
    }
    sums
}

fn updates(driver: &mut TestDriver) -> Vec<(String, Value)> {
    let found = driver.read_raw("usage-updates");
    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap();
    let mut updates: Vec<_> = found
        .iter()
        .map(|found| (text(found.key.as_deref()), serde_json::from_str(&text(found.value.as_deref())).unwrap()))
        .collect();
    updates.sort_by_key(|(user, update): &(String, Value)| (user.clone(), update["count"].as_u64()));
    updates
}

#[test]
fn every_users_sum_is_that_of_an_offline_program_and_each_user_is_in_one_partition() {
    let mut driver = TestDriver::new(topology()).partitions(3).instances(2);
    feed(&mut driver, 120);
    for (user, (count, units)) in offline(120) {
        let usage = driver.store("usage", &user).unwrap();
        assert_eq!((usage["count"].as_u64(), usage["units"].as_f64()), (Some(count), Some(units)), "{user}");
    }
    let repartitioned = driver.read_raw("usage-by-user-repartition");
    assert_eq!(repartitioned.len(), 120, "each record once");
    let mut places: BTreeMap<Vec<u8>, i32> = BTreeMap::new();
    for found in repartitioned {
        let partition = *places.entry(found.key.clone().unwrap()).or_insert(found.partition);
        assert_eq!(partition, found.partition, "a user lies in two partitions");
    }
    assert_eq!(places.len(), 5);
}

#[test]
fn every_tenth_event_is_announced_and_so_is_one_that_reaches_the_threshold() {
    let mut driver = TestDriver::new(topology()).partitions(2);
    for n in 1..=21 {
        let units = if n == 4 { 100.0 } else { 1.0 };
        driver.send("events", 1, json!({"userId": "ada", "units": units})); // one key: order is kept in one partition only
    }
    let counts: Vec<Value> = updates(&mut driver).into_iter().map(|(_, update)| update["count"].clone()).collect();
    assert_eq!(counts, [4, 10, 20]);
    driver.threshold("large-use", 1.0);
    driver.send("events", 1, json!({"userId": "bob", "units": 1.0}));
    assert_eq!(updates(&mut driver).last().unwrap().1, json!({"user": "bob", "count": 1, "units": 1.0}));
}

#[test]
fn an_event_that_is_none_is_a_dead_letter_and_the_others_go_on() {
    let mut driver = TestDriver::new(topology()).partitions(2);
    driver.send_raw("events", None, Some(b"no json"));
    driver.send("events", 1, json!({"userId": "ada", "units": 2}));
    assert_eq!(driver.read_raw("events-dlt").len(), 1);
    assert_eq!(driver.store("usage", "ada").unwrap()["count"], 1);
    assert_eq!(driver.store("usage", "bob"), None);
}

#[test]
fn a_re_keyed_record_that_its_topic_refuses_is_a_dead_letter_and_the_others_go_on() {
    let mut driver = TestDriver::new(topology()).partitions(2);
    feed(&mut driver, 20);
    driver.run();
    driver.log().limit_messages(&TopicName::parse("usage-by-user-repartition").unwrap(), 100);
    let long = json!({"userId": "u".repeat(80), "units": 1}).to_string();
    driver.send_raw("events", Some(b"trace"), Some(long.as_bytes()));
    feed(&mut driver, 20);
    driver.run();
    assert!(driver.halts().is_empty());
    let [dead_letter] = &driver.read_raw("events-dlt")[..] else { panic!("one dead letter") };
    assert_eq!(
        (dead_letter.key.as_deref(), dead_letter.value.as_deref()),
        (Some(&b"u".repeat(80)[..]), Some(long.as_bytes()))
    );
    assert_eq!(dead_letter.header("kafka_dlt-exception-fqcn"), Some("refused"));
    for (user, (count, _)) in offline(20) {
        assert_eq!(driver.store("usage", &user).unwrap()["count"], 2 * count, "{user}");
    }
}

/// Times and the order of a user's events over several partitions may differ after a crash; sums and round counts may not.
#[test]
fn a_crash_at_any_step_changes_neither_sums_nor_what_is_announced() {
    for (step, nth) in THROUGH_LOG.into_iter().flat_map(|step| (1..=4).map(move |nth| (step, nth))) {
        let mut driver = TestDriver::new(topology()).partitions(2).instances(2).settings(|settings| {
            settings.store_flush = Duration::ZERO; // so that there are stores to write
        });
        driver.crash_at(step, nth);
        for _ in 0..3 {
            feed(&mut driver, 20);
            driver.run();
        }
        for (user, (count, units)) in offline(20) {
            let usage = driver.store("usage", &user).unwrap();
            let sums = (usage["count"].as_u64(), usage["units"].as_f64());
            assert_eq!(sums, (Some(3 * count), Some(3.0 * units)), "{user}, a crash after {step:?} number {nth}");
        }
        let told: Vec<Value> = updates(&mut driver).into_iter().map(|(_, update)| update["count"].clone()).collect();
        assert_eq!(told, [10; 5], "a crash after {step:?} number {nth}");
        assert_eq!(driver.crashes(), 1, "{step:?} number {nth}");
    }
}

#[test]
fn an_instance_that_comes_back_to_its_disk_reads_nothing_again() {
    let mut driver = TestDriver::new(topology()).partitions(2);
    feed(&mut driver, 60);
    driver.run();
    driver.stop(0);
    driver.start(0);
    driver.run();
    assert_eq!(driver.records_restored(), 0, "it left its stores whole");
    feed(&mut driver, 5);
    driver.run();
    let sums: u64 =
        (0..5).map(|n| driver.store("usage", &format!("user-{n}")).unwrap()["count"].as_u64().unwrap()).sum();
    assert_eq!(sums, 65);
}

/// A redriven dead letter of this very pipeline: the headers that named it name nothing any more.
#[test]
fn a_re_keyed_copy_bears_no_header_that_would_be_read_as_ours() {
    let mut driver = TestDriver::new(topology()).partitions(3);
    let headers = ["trace", "tg_id", "kafka_dlt-original-topic"];
    let headers = headers.map(|name| Header::new(name, *b"usage/events/0/0/0"));
    let (topic, value) = (TopicName::parse("events").unwrap(), json!({"userId": "user-1", "units": 1}).to_string());
    feed(&mut driver, 1);
    driver.log().produce(&topic, None, Some(value.as_bytes()), &headers, Timestamp(1_767_225_600_000)).unwrap();
    let copies = driver.read_raw("usage-by-user-repartition");
    let names = |found: &Found| found.headers.iter().map(|header| header.name.clone()).collect::<Vec<_>>();
    let names: Vec<_> = copies.iter().map(names).filter(|names| !names.is_empty()).collect();
    assert_eq!(names, [["trace"]]);
}
