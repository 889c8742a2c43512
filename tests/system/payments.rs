//! The example `payments` on a real Kafka: payments at random, of which some are confirmed in time, some too late and some never;
//! which of them must be told is computed beside it. Timers are set before kills and lost disks, and fire behind them. No database
//! takes part.

use crate::keyed::{read, topic, wait_read};
use crate::rig::{Random, World, say};
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate::adapters::kafka::KafkaFeed;
use tidegate::flow::key::partition_for;
use tidegate::flow::record::Timestamp;

const PARTITIONS: i32 = 12;
const PAYMENTS: u64 = 6_000;
/// The time that a payment is given, as the example has it.
const WAIT_MS: i64 = 600_000;
/// The time between two payments.
const STEP_MS: i64 = 500;
/// The first payment's time, of an hour that has passed: nothing is stamped ahead.
const BEGAN_BEFORE_MS: i64 = 3 * 3_600_000;

/// One record of the source.
struct Sent {
    at: i64,
    payment: u64,
    is_made: bool,
}

/// The records in the order of their times, and the payments that must be told, with the time at which they are.
fn drawn(random: &mut Random, began: i64) -> (Vec<Sent>, BTreeMap<String, i64>) {
    let (mut records, mut due) = (Vec::new(), BTreeMap::new());
    for payment in 0..PAYMENTS {
        let at = began + STEP_MS * i64::try_from(payment).unwrap();
        records.push(Sent { at, payment, is_made: true });
        let after = match random.below(10) {
            0 => None,
            1 => Some(WAIT_MS),
            2 => Some(WAIT_MS + i64::try_from(random.below(60_000)).unwrap()),
            3 => Some(WAIT_MS - 1),
            _ => Some(i64::try_from(random.below(WAIT_MS.unsigned_abs())).unwrap()),
        };
        records.extend(after.map(|after| Sent { at: at + after, payment, is_made: false }));
        if after.is_none_or(|after| after >= WAIT_MS) {
            due.insert(format!("p{payment}"), at + WAIT_MS);
        }
    }
    records.sort_by_key(|record| (record.at, record.payment, !record.is_made));
    (records, due)
}

/// A key that lies in this partition.
fn key_in(partition: i32) -> String {
    (0..).map(|n| format!("end-{n}")).find(|key| partition_for(key.as_bytes(), PARTITIONS) == partition).unwrap()
}

/// `TIDEGATE_PAYMENTS_SEED`.
#[test]
fn each_payment_that_nobody_confirmed_in_time_is_told_once_through_kills_and_a_lost_disk() {
    let seed = Random::seed("TIDEGATE_PAYMENTS_SEED");
    let Some(world) = World::keyed("payments", "payments") else { return };
    say(&format!("payments: TIDEGATE_PAYMENTS_SEED={seed}"));
    let mut random = Random::new(seed);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let (records, mut due) = drawn(&mut random, i64::try_from(now).unwrap() - BEGAN_BEFORE_MS);
    let feed = KafkaFeed::connect(&world.kafka_settings()).unwrap();
    let send = |key: &str, at: i64, value: &str| {
        feed.send_at(&topic("payments"), None, Some(key.as_bytes()), Some(value.as_bytes()), &[], Some(Timestamp(at)))
            .unwrap();
    };
    let mut instances = vec![world.stateful_instance("first"), world.stateful_instance("second")];
    let (mut kills, all) = (0, records.len());
    for (n, record) in records.iter().enumerate() {
        let value = if record.is_made { r#"{"kind":"made","cents":990}"# } else { r#"{"kind":"confirmed"}"# };
        send(&format!("p{}", record.payment), record.at, value);
        // Three kills while timers wait; the second one's disk is lost.
        if n == all * (kills + 1) / 4 {
            kills += 1;
            feed.flush().unwrap();
            std::thread::sleep(Duration::from_secs(4));
            let killed = kills % 2;
            instances[killed].kill();
            let name = instances[killed].name.clone();
            if kills == 2 {
                std::fs::remove_dir_all(world.folder().join(format!("state-{name}"))).unwrap();
            }
            instances[killed] = world.stateful_instance(&name);
            world.note(&format!("killed {name} after {n} records"));
        }
    }
    // One more of each partition moves its clock behind every deadline.
    let end = records.last().unwrap().at + WAIT_MS;
    (0..PARTITIONS).for_each(|partition| send(&key_in(partition), end, r#"{"kind":"confirmed"}"#));
    feed.flush().unwrap();
    let sent = u64::try_from(all).unwrap() + u64::from(PARTITIONS.unsigned_abs());
    wait_read(&world, "payments", "payments", sent, Duration::from_secs(300));

    let (expected, mut last) = (due.len(), BTreeMap::new());
    read(&world, "payments", "unconfirmed-payments", |record| {
        let payment = String::from_utf8(record.key.unwrap()).unwrap();
        let value: serde_json::Value = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
        let at = due.remove(&payment).unwrap_or_else(|| panic!("{payment} is told twice, or was confirmed: {value}"));
        assert_eq!((&value["payment"], &value["made_ms"]), (&payment.as_str().into(), &(at - WAIT_MS).into()));
        let before = last.insert(record.partition, at);
        assert!(before.is_none_or(|before| before <= at), "{payment}: told at {at} behind {before:?}");
    });
    assert!(due.is_empty(), "{} of {expected} are not told, the first {:?}", due.len(), due.first_key_value());
    read(&world, "payments", "payments-dlt", |record| panic!("a dead letter: {record:?}"));
    for instance in &mut instances {
        assert!(instance.is_running(), "{} ended by itself", instance.name);
        let (status, took) = instance.terminate(Duration::from_secs(20));
        assert!(status.success(), "{} ended with {status} after {took:?}", instance.name);
    }
    world.note(&format!("{PAYMENTS} payments, {kills} kills and a lost disk: {expected} told, all once and right"));
}
