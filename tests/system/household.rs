//! Real readings: a day of each of 206 weeks of a household, seven quantities of each, as 1,442 devices, every record sent twice, with
//! two kills. An awk program says what each bucket must have.

use crate::home::{kill, now_ms, prepared, rows, send};
use crate::rig::{say, until};
use crate::rolled::Record;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tidegate::adapters::kafka::KafkaFeed;
use tidegate::flow::rollup::{Measured, Metered as _, Packed, Tier};
use tidegate::pipelines::home::Home;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
const WEEK_MINUTES: usize = 10_080;
const DAY_MINUTES: usize = 1_440;
/// The relative error that sums may have, of which the order of adding is another one.
const SUM_ERROR: f64 = 1e-9;

/// What is told of a bucket: how many readings, the smallest, the largest, their sum.
type Told = (u64, f64, f64, f64);

fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The readings of each device, by the minute of its day.
fn devices(csv: &str) -> BTreeMap<String, Vec<(usize, f64)>> {
    let mut devices: BTreeMap<String, Vec<(usize, f64)>> = BTreeMap::new();
    for (number, line) in csv.lines().skip(1).enumerate() {
        let (week, minute) = (number / WEEK_MINUTES, number % WEEK_MINUTES);
        if minute >= DAY_MINUTES {
            continue;
        }
        for (column, text) in line.trim_end().split(',').skip(1).enumerate() {
            let Ok(value) = text.parse::<f64>() else { continue };
            devices.entry(format!("house-{week}-{column}")).or_default().push((minute, value));
        }
    }
    devices
}

/// Tier, device, number of the bucket.
fn due(awk: &str) -> BTreeMap<(String, String, i64), Told> {
    let line = |line: &str| {
        let [tier, device, bucket, n, min, max, sum] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let number = |text: &str| text.parse::<f64>().unwrap();
        let told = (n.parse().unwrap(), number(min), number(max), number(sum));
        ((tier.to_owned(), device.to_owned(), bucket.parse().unwrap()), told)
    };
    awk.lines().map(line).collect()
}

#[test]
fn a_day_of_real_readings_as_1442_devices_has_the_buckets_that_awk_says() {
    let Some(world) = prepared("household") else { return };
    let file = output_of(&mut Command::new("tests/home/household.sh")).trim().to_owned();
    let due = due(&output_of(Command::new("awk").args(["-f", "tests/home/household.awk", &file])));
    let devices = devices(&std::fs::read_to_string(Path::new(&file)).unwrap());
    assert_eq!(devices.len(), 1_442);
    let midnight = now_ms() - now_ms() % DAY_MS - DAY_MS;
    let feed = KafkaFeed::connect(&world.kafka_settings()).unwrap();
    let mut instances = ["first", "second"].map(|name| world.stateful_instance(name));
    let mut readings = 0;
    for quarter in 0..DAY_MINUTES / 15 {
        let mut records = Vec::new();
        for (device, all) in &devices {
            let own = all.iter().filter(|(minute, _)| minute / 15 == quarter);
            let measured = |(minute, value): &(usize, f64)| Measured {
                at_ms: midnight + i64::try_from(*minute).unwrap() * MINUTE_MS,
                metrics: BTreeMap::from([("power".to_owned(), *value)]),
            };
            let measured: Vec<Measured> = own.map(measured).collect();
            readings += measured.len();
            let Some(last) = measured.last() else { continue };
            let value = serde_json::to_string(&measured).unwrap();
            for _ in 0..2 {
                records.push(Record { key: device.clone(), at: last.at_ms, value: value.clone() });
            }
        }
        send(&feed, &records);
        if let Some(number) = [30, 70].iter().position(|at| *at == quarter) {
            kill(&world, &mut instances[number], false);
        }
    }
    let over = |n: usize| Record { key: format!("over-{n}"), at: midnight + DAY_MS + 3_600_000, value: "[]".into() };
    send(&feed, &(0..64).map(over).collect::<Vec<_>>());
    say(&format!("household: {readings} readings of {} devices are sent, each twice", devices.len()));
    until("every bucket is what awk says", Duration::from_secs(300), || {
        let mut left = due.clone();
        for tier in Tier::ALL {
            for ((device, metric, start_ms), bytes) in rows(&world, tier) {
                let metric = Home.metric(&metric).unwrap();
                for (number, slot) in Packed::from(bytes).slots(start_ms, tier.bucket_ms()).unwrap() {
                    let Some(bucket) = slot.whole(&metric).unwrap() else { continue };
                    let at = (start_ms + i64::from(number) * tier.bucket_ms() - midnight) / tier.bucket_ms();
                    let place = (tier.word().to_owned(), device.clone(), at);
                    let (n, min, max, sum) = left.remove(&place).ok_or_else(|| format!("{place:?} is not due"))?;
                    let is_same = (bucket.n, bucket.min.to_bits(), bucket.max.to_bits())
                        == (n, min.to_bits(), max.to_bits())
                        && (bucket.sum - sum).abs() <= SUM_ERROR * sum.abs();
                    if !is_same {
                        return Err(format!("{place:?}: {bucket:?}, and not {:?}", (n, min, max, sum)));
                    }
                }
            }
        }
        if left.is_empty() { Ok(()) } else { Err(format!("{} buckets are missing", left.len())) }
    });
    for instance in &mut instances {
        let (status, took) = instance.terminate(Duration::from_secs(20));
        assert!(status.success(), "{} ended with {status} after {took:?}", instance.name);
    }
    world.audit();
    world.note(&format!("{readings} readings, {} buckets", due.len()));
}
