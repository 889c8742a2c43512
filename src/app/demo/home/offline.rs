//! The offline computation: every bucket of the three tiers from the readings in the topic, by plain arithmetic, and its comparison with
//! the tables. It takes from the operator how a row is unpacked, and nothing of how one is made.
//!
//! A quarter that need not be told yet may be told in part: then it is to be that of the readings that came first. Devices that somebody
//! has sent readings of over HTTP are not looked at: these may lie between others in any order, of which a bucket knows less.

use super::devices::Device;
use super::meters::{NAME, READINGS, SILENCE};
use super::readings::{Sent, parse};
use crate::adapters::sqlite::SqliteRollUps;
use crate::app::demo::pipeline::Pipeline;
use crate::flow::record::TopicName;
use crate::flow::rollup::{Bucket, Measure, Packed, RollUp, Tier};
use crate::ports::Fault;
use crate::ports::rollups::{RollUpTables as _, WantedDevices};
use std::collections::{BTreeMap, BTreeSet, HashMap};

const QUARTER_MS: i64 = 900_000;
/// What `Patience` says, as the docs tell it: the wait behind the end, for further changes, and for late readings.
const GRACE_MS: i64 = 30_000;
const SETTLE_MS: i64 = 10_000;
const KEPT_MS: i64 = 7_200_000;
/// Findings that are told.
const FINDINGS_MAX: usize = 20;
/// The part by which sums may differ that were added up in another order.
const ROUNDING: f64 = 1e-9;
/// The part by which a quantile may be wrong, by what docs/rollups.md tells of it, with some to spare for rounding.
const QUANTILE: f64 = 0.0081;

/// What the comparison came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::app::demo) struct Comparison {
    /// Readings in the topic, those that came twice counted once.
    pub(in crate::app::demo) readings: u64,
    /// Buckets in the tables.
    pub(in crate::app::demo) buckets: u64,
    /// Buckets that are not what they are to be, all of them.
    pub(in crate::app::demo) wrong: u64,
    /// The first ones, a sentence each.
    pub(in crate::app::demo) findings: Vec<String>,
}

impl Comparison {
    fn find(&mut self, finding: impl FnOnce() -> String) {
        self.wrong += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding());
        }
    }
}

/// A reading: time and value.
type Reading = (i64, f64);

/// The readings of a quarter as they came.
#[derive(Default)]
struct Quarter {
    readings: Vec<Reading>,
    /// The time of its partition from which on all of them are told.
    due_ms: i64,
}

/// The quarters of a metric of a device, and the time of its partition.
#[derive(Default)]
struct Series {
    quarters: BTreeMap<i64, Quarter>,
    clock_ms: i64,
}

/// By device and metric.
type All = BTreeMap<(String, String), Series>;

/// Compares the tables with the topic. Nothing may run.
pub(in crate::app::demo) fn compare(pipeline: &Pipeline) -> Result<Comparison, Fault> {
    let mut comparison = Comparison::default();
    let all = read(pipeline)?;
    let mut tables = SqliteRollUps::new(&pipeline.rows)?;
    let rollup = pipeline.topology.roll_ups().first().ok_or_else(|| Fault::fatal("the pipeline has no roll-up"))?;
    let wanted = WantedDevices { limit: u32::MAX, ..WantedDevices::default() };
    let listed: Vec<String> = tables.devices(NAME, &wanted)?.into_iter().map(|device| device.device).collect();
    for newest in tables.newest(NAME, &listed)? {
        let is_read = all.contains_key(&(newest.device.clone(), newest.metric.clone()));
        if !is_read && Device::is_one(&newest.device) {
            comparison.find(|| format!("{} {}: is in the tables, and was never read", newest.device, newest.metric));
        }
    }
    for ((device, metric), series) in &all {
        compare_one(&mut comparison, &mut tables, rollup, (device, metric), series)?;
    }
    Ok(comparison)
}

/// Reads the topic.
fn read(pipeline: &Pipeline) -> Result<All, Fault> {
    let topic = TopicName::parse(READINGS).map_err(Fault::fatal)?;
    let (mut all, mut clocks) = (All::new(), HashMap::new());
    let mut partitions: HashMap<(String, String), i32> = HashMap::new();
    pipeline.log.each_record(&topic, &mut |partition, record| {
        let clock = clocks.entry(partition.0).or_insert(i64::MIN);
        *clock = record.timestamp.0.max(*clock);
        let Some(device) = record.key.and_then(|key| std::str::from_utf8(key).ok()) else { return };
        if !Device::is_one(device) {
            return;
        }
        for Sent { at_ms, metrics } in parse(record.value).into_iter().flatten() {
            for (metric, value) in metrics {
                let name = (device.to_owned(), metric);
                partitions.insert(name.clone(), partition.0);
                let start_ms = at_ms - at_ms.rem_euclid(QUARTER_MS);
                let quarter = all.entry(name).or_default().quarters.entry(start_ms).or_default();
                if quarter.readings.contains(&(at_ms, value)) {
                    continue;
                }
                quarter.readings.push((at_ms, value));
                let end_ms = start_ms + QUARTER_MS;
                let settled = *clock - clock.rem_euclid(SETTLE_MS) + SETTLE_MS;
                let due = if end_ms + KEPT_MS <= *clock { settled } else { settled.max(end_ms + GRACE_MS) };
                quarter.due_ms = due.max(quarter.due_ms);
            }
        }
    });
    for (name, series) in &mut all {
        let clock = partitions.get(name).and_then(|partition| clocks.get(partition));
        series.clock_ms = clock.copied().unwrap_or(i64::MIN);
    }
    Ok(all)
}

fn compare_one(
    comparison: &mut Comparison,
    tables: &mut SqliteRollUps,
    rollup: &RollUp,
    (device, metric): (&str, &str),
    series: &Series,
) -> Result<(), Fault> {
    comparison.readings += series.quarters.values().map(|quarter| quarter.readings.len() as u64).sum::<u64>();
    let mut told: Vec<Reading> = Vec::new();
    for tier in Tier::ALL {
        let found = buckets(tables, rollup, (device, metric), tier)?;
        comparison.buckets += found.len() as u64;
        if tier == Tier::Quarters {
            for (start_ms, Quarter { readings, due_ms }) in &series.quarters {
                let is_over = *due_ms <= series.clock_ms;
                let n = found.get(start_ms).map_or(0, |bucket| usize::try_from(bucket.n).unwrap_or(usize::MAX));
                told.extend(readings.iter().take(if is_over { readings.len() } else { n }));
            }
            told.sort_by(|one, other| one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)));
        }
        let mut expected: BTreeMap<i64, Vec<Reading>> = BTreeMap::new();
        for reading in &told {
            expected.entry(reading.0 - reading.0.rem_euclid(tier.bucket_ms())).or_default().push(*reading);
        }
        let starts: BTreeSet<i64> = expected.keys().chain(found.keys()).copied().collect();
        for start_ms in starts {
            let of = || format!("{device} {metric} {} from {start_ms}", tier.word());
            match (expected.get(&start_ms), found.get(&start_ms)) {
                (Some(readings), Some(bucket)) => {
                    if let Some(difference) = difference(metric, readings, bucket) {
                        comparison.find(|| format!("{}: {difference}", of()));
                    }
                }
                (Some(readings), None) => {
                    comparison.find(|| format!("{}: is missing, with {} readings", of(), readings.len()));
                }
                (None, _) => comparison.find(|| format!("{}: was never read", of())),
            }
        }
    }
    Ok(())
}

/// The buckets of a tier in its table, by their starts.
fn buckets(
    tables: &mut SqliteRollUps,
    rollup: &RollUp,
    (device, metric): (&str, &str),
    tier: Tier,
) -> Result<BTreeMap<i64, Bucket>, Fault> {
    let damaged = |error: String| Fault::corrupt(format!("{device} {metric} {}: {error}", tier.word()));
    let of = rollup.metric(metric).ok_or_else(|| damaged("there is no such metric".into()))?;
    let mut buckets = BTreeMap::new();
    for row in tables.rows(&rollup.table(tier), (device, metric), (i64::MIN, i64::MAX))? {
        let slots = Packed::from(row.buckets).slots(row.start_ms, tier.bucket_ms());
        for (number, slot) in slots.map_err(|error| damaged(error.to_string()))? {
            let whole = slot.whole(&of).map_err(|error| damaged(error.to_string()))?;
            let start_ms = row.start_ms + i64::from(number) * tier.bucket_ms();
            buckets.extend(whole.map(|bucket| (start_ms, bucket)));
        }
    }
    Ok(buckets)
}

/// In what a bucket differs from its readings, which are in the order of time, if in anything.
fn difference(metric: &str, readings: &[Reading], bucket: &Bucket) -> Option<String> {
    let (Some(first), Some(last)) = (readings.first(), readings.last()) else {
        return Some("it has no reading".into());
    };
    let values = || readings.iter().map(|(_, value)| *value);
    let silence_ms = i64::try_from(SILENCE.as_millis()).unwrap_or(i64::MAX);
    // The steps from each reading to the next one, where it is known what was in between.
    let steps = || readings.iter().zip(readings.iter().skip(1));
    let length = |one: &Reading, next: &Reading| Some(next.0 - one.0).filter(|ms| *ms <= silence_ms).unwrap_or(0);
    let covered: i64 = steps().map(|(one, next)| length(one, next)).sum();
    let exact: [(&str, i128, i128); 4] = [
        ("n", readings.len() as i128, i128::from(bucket.n)),
        ("the first time", first.0.into(), bucket.first.at_ms.into()),
        ("the last time", last.0.into(), bucket.last.at_ms.into()),
        ("the covered time", covered.into(), bucket.covered_ms.into()),
    ];
    if let Some((what, due, found)) = exact.iter().find(|(_, due, found)| due != found) {
        return Some(format!("{what} is {found}, and not {due}"));
    }
    let (smallest, largest) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    let mut near = vec![
        ("the sum", values().sum::<f64>(), bucket.sum),
        ("the smallest", smallest, bucket.min),
        ("the largest", largest, bucket.max),
        ("the first", first.1, bucket.first.value),
        ("the last", last.1, bucket.last.value),
    ];
    #[expect(clippy::cast_precision_loss, reason = "milliseconds are far below 2^53")]
    let area = |height: fn(f64, f64) -> f64| -> f64 {
        steps().map(|(one, next)| height(one.1, next.1) * length(one, next) as f64).sum()
    };
    match (metric, &bucket.measure) {
        ("power", Measure::Gauge { integral }) => near.push(("the area", area(|one, _| one), *integral)),
        ("temperature", Measure::Gauge { integral }) => {
            near.push(("the area", area(f64::midpoint), *integral));
        }
        ("energy", Measure::Counter(rise)) => {
            let risen = steps().map(|(one, next)| if next.1 < one.1 { next.1 } else { next.1 - one.1 }).sum::<f64>();
            let falls = steps().filter(|(one, next)| next.1 < one.1).count();
            near.push(("the rise", risen, rise.increase));
            if falls != rise.resets as usize || rise.glitches != 0 {
                return Some(format!(
                    "it has {} resets and {} glitches, and not {falls} and 0",
                    rise.resets, rise.glitches
                ));
            }
        }
        ("mode", Measure::State(states)) => {
            let mut held: BTreeMap<u8, i64> = BTreeMap::new();
            for (one, next) in steps().filter(|(one, next)| length(one, next) > 0) {
                let state = (0..=15).find(|state| f64::from(*state).to_bits() == one.1.to_bits()).unwrap_or(u8::MAX);
                *held.entry(state).or_default() += length(one, next);
            }
            let changes = steps().filter(|(one, next)| one.1.to_bits() != next.1.to_bits()).count();
            if held != states.held_ms || changes != states.changes as usize {
                return Some(format!(
                    "states held {:?} with {} changes, and not {held:?} with {changes}",
                    states.held_ms, states.changes
                ));
            }
        }
        ("door", Measure::Event) => {}
        (_, other) => return Some(format!("it is of another kind: {other:?}")),
    }
    if metric == "power" {
        let mut sorted: Vec<f64> = values().collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.get(sorted.len().div_ceil(2) - 1).copied().unwrap_or_default();
        match bucket.quantile(0.5) {
            Some(found) if (found - middle).abs() <= QUANTILE * middle.abs() => {}
            found => return Some(format!("its median is {found:?}, and not {middle}")),
        }
    }
    let is_near = |due: f64, found: f64| (due - found).abs() <= ROUNDING * due.abs().max(1.0);
    let far = near.into_iter().find(|(_, due, found)| !is_near(*due, *found));
    far.map(|(what, due, found)| format!("{what} is {found}, and not {due}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::demo::crash::Dies;
    use crate::app::demo::process::Process;
    use crate::app::demo::world::World;
    use crate::flow::record::Timestamp;
    use crate::flow::rollup::Metered as _;
    use crate::flow::rollup::{Between, Kind, Metric, Point};
    use crate::pipelines::home::Home;
    use std::time::Duration;

    fn bucket(metric: &str, readings: &[Reading]) -> Bucket {
        let metric = Home.metric(metric).unwrap().silence(SILENCE);
        let buckets =
            readings.iter().map(|(at_ms, value)| metric.bucket(Point { at_ms: *at_ms, value: *value }).unwrap());
        buckets.reduce(|one, next| metric.merge(&one, &next).unwrap()).unwrap()
    }

    const READ: [Reading; 4] = [(0, 3.0), (60_000, 2.0), (90_000, 4.0), (100_000_000, 4.0)];

    #[test]
    fn a_bucket_of_its_readings_differs_in_nothing() {
        for metric in ["power", "temperature", "energy", "mode", "door"] {
            assert_eq!(difference(metric, &READ, &bucket(metric, &READ)), None, "{metric}");
        }
    }

    #[test]
    fn whatever_a_bucket_has_otherwise_is_found() {
        let found = |metric: &str, spoil: &dyn Fn(&mut Bucket)| {
            let mut bucket = bucket(metric, &READ);
            spoil(&mut bucket);
            difference(metric, &READ, &bucket)
        };
        let spoils: [(&str, &dyn Fn(&mut Bucket)); 11] = [
            ("n is", &|bucket| bucket.n += 1),
            ("the sum", &|bucket| bucket.sum += 0.001),
            ("the smallest", &|bucket| bucket.min = 1.9),
            ("the largest", &|bucket| bucket.max = 4.1),
            ("the first time", &|bucket| bucket.first.at_ms = 1),
            ("the first", &|bucket| bucket.first.value = 3.1),
            ("the last time", &|bucket| bucket.last.at_ms += 1),
            ("the last", &|bucket| bucket.last.value = 4.1),
            ("the covered time", &|bucket| bucket.covered_ms += 1),
            ("the area", &|bucket| bucket.measure = Measure::Gauge { integral: 1.0 }),
            ("its median", &|bucket| bucket.sketch = None),
        ];
        for (what, spoil) in spoils {
            let told = found("power", spoil).unwrap_or_default();
            assert!(told.starts_with(what), "{what}: {told:?}");
        }
        let other = |metric: &str| found(metric, &|bucket| bucket.measure = Measure::Event).unwrap_or_default();
        assert!(other("temperature").contains("of another kind"));
        let risen = |bucket: &mut Bucket| {
            if let Measure::Counter(rise) = &mut bucket.measure {
                rise.increase += 1.0;
            }
        };
        assert!(found("energy", &risen).unwrap_or_default().starts_with("the rise"));
        let held = |bucket: &mut Bucket| {
            if let Measure::State(states) = &mut bucket.measure {
                states.held_ms.insert(2, 1);
            }
        };
        assert!(found("mode", &held).unwrap_or_default().starts_with("states held"));
        // A metric that is taken for another one.
        let linear = Metric::new(Kind::Gauge(Between::Linear)).quantiles().silence(SILENCE);
        let buckets = READ.map(|(at_ms, value)| linear.bucket(Point { at_ms, value }).unwrap());
        let linear = buckets.into_iter().reduce(|one, next| linear.merge(&one, &next).unwrap()).unwrap();
        assert!(difference("power", &READ, &linear).unwrap().starts_with("the area"));
    }

    /// From readings in the topic to the comparison, and what it says of tables that are not as they should be.
    #[test]
    fn tables_that_have_lost_a_device_or_a_reading_are_found() {
        let world = World::open(None, 4).unwrap();
        let home = world.home.as_ref().unwrap();
        let now = world.clock.now().0;
        let topic = TopicName::parse(READINGS).unwrap();
        let send = |device: &str, sent_ms: i64, value: String| {
            home.log.produce(&topic, Some(device.as_bytes()), Some(value.as_bytes()), &[], Timestamp(sent_ms)).unwrap();
        };
        let day = 86_400_000;
        let power = |at_ms: i64, watts: i32| format!(r#"[{{"at_ms":{at_ms},"metrics":{{"power":{watts}}}}}]"#);
        for n in 0..20 {
            send("home-001-boiler", now - day + n * 600_000, power(now - day + n * 600_000, 5));
        }
        send("home-001-boiler", now, power(now, 5));
        let run = || {
            let mut process = Process::new(home, Dies::Anywhere);
            process.start().unwrap();
            while !process.is_at_rest() {
                std::thread::sleep(Duration::from_millis(5));
            }
            process.stop(Duration::from_mins(1)).unwrap();
        };
        run();
        let compared = compare(home).unwrap();
        assert_eq!((compared.wrong, compared.readings), (0, 21), "{:?}", compared.findings);
        assert!(compared.buckets > 15, "{}", compared.buckets);
        // What nobody has rolled up: a reading, and one behind which it is due.
        send("home-001-boiler", now, power(now - day / 2, 7));
        let before = compare(home).unwrap();
        assert_eq!(before.wrong, 0, "it need not be told yet: {:?}", before.findings);
        send("home-001-boiler", now + 20_000, power(now, 5));
        let compared = compare(home).unwrap();
        let told = compared.findings.join("; ");
        assert!(compared.wrong >= 2 && told.contains("power quarters") && told.contains("is missing"), "{told}");
        run();
        assert_eq!(compare(home).unwrap().wrong, 0);
        SqliteRollUps::new(&home.rows).unwrap().delete(NAME, "home-001-boiler").unwrap();
        let compared = compare(home).unwrap();
        assert_eq!((compared.buckets, compared.wrong > 15), (0, true));
        assert!(compared.findings[0].contains("home-001-boiler power quarters"), "{:?}", compared.findings);
    }
}
