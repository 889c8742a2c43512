//! What the pipeline of `home` is sent, drawn from a seed, and what its tables must have in the end: the readings of each
//! bucket, one after the other, and each parent made of its children. `tests/engine` holds the engine on its models against it,
//! `tests/system` the service on real servers.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use tidegate::flow::key::partition_for;
use tidegate::flow::rollup::{Bucket, Measured, Metered as _, Metric, Packed, Point, Tier};
use tidegate::pipelines::home::Home;
use tidegate::ports::history::Found;
use tidegate::testing::Random;

const MINUTE: i64 = 60_000;
const QUARTER: i64 = 15 * MINUTE;
const HOUR: i64 = 4 * QUARTER;

/// The metrics whose buckets are the same in whatever order they are merged: of values that are whole numbers.
const METRICS: [&str; 5] = ["power", "temperature", "voltage", "mode", "door"];
pub const DEVICES: u64 = 24;
/// What the clock moves by with each portion.
pub const PORTION_MS: i64 = 2 * HOUR;

/// A record: device, time, value.
pub struct Record {
    pub key: String,
    pub at: i64,
    pub value: String,
}

/// The readings that were sent, each once.
pub struct Load {
    random: Random,
    clock: i64,
    given: BTreeMap<(String, &'static str), BTreeMap<i64, f64>>,
    /// What the device that has no connection keeps, until it has one again.
    kept: Vec<Measured>,
}

impl Load {
    /// `start`: the time of the first portion, in milliseconds since 1970, UTC.
    pub fn new(seed: u64, start: i64) -> Self {
        Self { random: Random::new(seed), clock: start, given: BTreeMap::new(), kept: Vec::new() }
    }

    /// The records of the next two hours: some late, though no more than an hour and a half, and some sent twice.
    pub fn next(&mut self) -> Vec<Record> {
        let mut records = Vec::new();
        for n in 0..4 * DEVICES {
            self.clock += PORTION_MS / i64::try_from(4 * DEVICES).unwrap();
            let device = if n < DEVICES { n } else { self.random.below(DEVICES) };
            let mut measured = Vec::new();
            for _ in 0..=self.random.below(4) {
                let late =
                    if self.random.happens(25) { self.random.below(90 * 60_000) } else { self.random.below(60_000) };
                let at_ms = self.clock - i64::try_from(late).unwrap();
                let metrics = self.metrics(&format!("device-{device}"), at_ms);
                measured.push(Measured { at_ms, metrics });
            }
            let record = self.record(format!("device-{device}"), &measured);
            if self.random.happens(10) {
                records.push(Record { value: record.value.clone(), key: record.key.clone(), at: record.at });
            }
            records.push(record);
        }
        // One has no connection: it measures once a minute and sends nothing.
        for minute in 0..PORTION_MS / MINUTE {
            let at_ms = self.clock - PORTION_MS + minute * MINUTE;
            let metrics = self.metrics("cellar", at_ms);
            self.kept.push(Measured { at_ms, metrics });
        }
        records
    }

    /// What comes last: the device without a connection has one, and sends everything; and each partition learns that all is over.
    pub fn end(&mut self) -> Vec<Record> {
        let kept = std::mem::take(&mut self.kept);
        let mut records: Vec<Record> = kept.chunks(100).map(|some| self.record("cellar".into(), some)).collect();
        self.clock += 3 * HOUR;
        let over = |n| Record { key: format!("over-{n}"), at: self.clock, value: "[]".into() };
        records.extend((0..64).map(over));
        records
    }

    fn record(&self, key: String, measured: &[Measured]) -> Record {
        Record { key, at: self.clock, value: serde_json::to_string(measured).unwrap() }
    }

    fn metrics(&mut self, device: &str, at_ms: i64) -> BTreeMap<String, f64> {
        let mut metrics = BTreeMap::new();
        for _ in 0..=self.random.below(2) {
            let metric = *self.random.choose(&METRICS);
            let value = match metric {
                "voltage" => 230 + self.random.below(20),
                "mode" => self.random.below(16),
                _ => self.random.below(3_000),
            };
            let readings = self.given.entry((device.to_owned(), metric)).or_default();
            let value = *readings.entry(at_ms).or_insert(f64::from(u32::try_from(value).unwrap()));
            metrics.insert(metric.to_owned(), value);
        }
        metrics
    }

    /// How many there are.
    pub fn readings(&self) -> usize {
        self.given.values().map(BTreeMap::len).sum()
    }

    /// Those of a device's metric, by their times.
    pub fn of(&self, device: &str, metric: &'static str) -> &BTreeMap<i64, f64> {
        &self.given[&(device.to_owned(), metric)]
    }

    /// Holds the rows of a tier against the readings: every bucket that there is, and that there is no other one.
    ///
    /// # Errors
    /// The first difference.
    pub fn judge(&self, tier: Tier, rows: &BTreeMap<(String, String, i64), Vec<u8>>) -> Result<usize, String> {
        let mut due: BTreeMap<(&str, &str, i64), Bucket> = BTreeMap::new();
        for ((device, metric), readings) in &self.given {
            for (start, bucket) in tiers(metric, readings, tier) {
                due.insert((device, metric, start), bucket);
            }
        }
        let count = due.len();
        for ((device, metric, start_ms), bytes) in rows {
            let packed = Packed::from(bytes.clone());
            let slots = packed.slots(*start_ms, tier.bucket_ms()).map_err(|error| error.to_string())?;
            for (number, slot) in slots {
                let start = start_ms + i64::from(number) * tier.bucket_ms();
                let found = slot.whole(&metric_of(metric)).map_err(|error| error.to_string())?;
                let due = due.remove(&(device, metric, start));
                if found != due {
                    return Err(format!("{tier:?} of {device}, {metric}, {start}: {found:?}, and not {due:?}"));
                }
            }
        }
        due.first_key_value().map_or(Ok(count), |missing| Err(format!("{tier:?}: nothing of {missing:?}")))
    }
}

/// The alerts that are due of records in the order in which they were sent, by device, as JSON: of half an hour of silence by the clock of
/// each partition, of which a thirtieth may be missing from what is noted, and of temperatures.
pub fn alerts(records: &[Record], partitions: i32) -> BTreeMap<String, Vec<Value>> {
    let (silent_after, old, upper, lower) = (31 * MINUTE, MINUTE, 90.0, 80.0);
    let mut due: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut clocks: BTreeMap<i32, i64> = BTreeMap::new();
    let mut heard: BTreeMap<(i32, &str), (i64, bool)> = BTreeMap::new();
    let mut crossed: BTreeMap<&str, (i64, bool)> = BTreeMap::new();
    let silent = |since_ms: i64| json!({ "alert": "silent", "since_ms": since_ms });
    let back = |since_ms: i64| json!({ "alert": "back", "since_ms": since_ms });
    for Record { key, at, value } in records {
        let partition = partition_for(key.as_bytes(), partitions);
        let clock = clocks.entry(partition).or_insert(*at);
        *clock = (*clock).max(*at);
        let clock = *clock;
        let told = due.entry(key.clone()).or_default();
        let mut measured: Vec<Measured> = serde_json::from_str(value).unwrap();
        measured.sort_by_key(|measured| measured.at_ms);
        for Measured { at_ms, metrics } in measured {
            let Some(value) = metrics.get("temperature") else { continue };
            let (since, is_above) = crossed.get(&**key).copied().unwrap_or((at_ms, false));
            if at_ms >= since && if is_above { *value < lower } else { *value > upper } {
                crossed.insert(key, (at_ms, !is_above));
                let alert = if is_above { "below" } else { "above" };
                told.push(json!({ "alert": alert, "metric": "temperature", "at_ms": at_ms, "value": value }));
            }
        }
        let (noted, is_silent) = heard.get(&(partition, &**key)).copied().unwrap_or((clock, false));
        let was_silent = is_silent || clock >= noted + silent_after;
        told.extend((was_silent && !is_silent).then(|| silent(noted)));
        told.extend(was_silent.then(|| back(noted)));
        let noted = if was_silent || clock > noted + old { clock } else { noted };
        heard.insert((partition, key), (noted, false));
        for ((of, device), (noted, is_silent)) in &mut heard {
            if *of == partition && !*is_silent && clock >= *noted + silent_after {
                *is_silent = true;
                due.entry((*device).to_owned()).or_default().push(silent(*noted));
            }
        }
    }
    due.retain(|_, told| !told.is_empty());
    due
}

/// The alerts that were told, by device, in their order.
pub fn told(found: impl IntoIterator<Item = Found>) -> BTreeMap<String, Vec<Value>> {
    let mut told: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for Found { key, value, .. } in found {
        let device = String::from_utf8(key.unwrap()).unwrap();
        told.entry(device).or_default().push(serde_json::from_slice(&value.unwrap()).unwrap());
    }
    told
}

fn metric_of(name: &str) -> Metric {
    Home.metric(name).unwrap()
}

/// The buckets of a tier: quarters of their minutes, everything else of its children.
fn tiers(name: &str, readings: &BTreeMap<i64, f64>, tier: Tier) -> BTreeMap<i64, Bucket> {
    let metric = metric_of(name);
    let one = readings.iter().map(|(at_ms, value)| {
        let point = Point { at_ms: *at_ms, value: *value };
        (*at_ms, metric.bucket(point).unwrap())
    });
    let mut buckets: BTreeMap<i64, Bucket> = one.collect();
    for span in [MINUTE].into_iter().chain(Tier::ALL.into_iter().map(Tier::bucket_ms)) {
        let mut parents: BTreeMap<i64, Bucket> = BTreeMap::new();
        for (start, bucket) in buckets {
            let start = start - start.rem_euclid(span);
            let merged = match parents.remove(&start) {
                Some(parent) => metric.merge(&parent, &bucket).unwrap(),
                None => bucket,
            };
            parents.insert(start, merged);
        }
        buckets = parents;
        if span == tier.bucket_ms() {
            break;
        }
    }
    buckets
}
