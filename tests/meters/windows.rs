//! Windows: of keys that fall idle, by the clock of the partition, and beside rows.

use super::service::{GRACE_MS, WINDOW_MS};
use super::{IDS, Outcome, Record, key_of, number, one_of_each, partition_of, same, text};
use std::collections::{BTreeMap, BTreeSet};
use tidegate::testing::Random;

/// Where what comes too late for a window beside rows ends.
pub const USAGE_DLT: &str = "usage-dlt";

const fn start_of(at: i64) -> i64 {
    at - at % WINDOW_MS
}

/// Whether a window that began there is closed by then.
const fn is_closed(start: i64, clock: i64) -> bool {
    start + WINDOW_MS + GRACE_MS <= clock
}

/// The readings of a window, and their units.
#[derive(Clone, Copy, Default)]
struct Sum {
    readings: i64,
    units: i64,
}

impl Sum {
    const fn add(&mut self, units: i64) {
        self.readings += 1;
        self.units += units;
    }
}

/// A third of the times lies up to 20 s back: too late for some windows.
fn jittered(random: &mut Random, at: i64) -> i64 {
    let back = if random.happens(33) { random.below(20_000) } else { 0 };
    at - i64::try_from(back).unwrap()
}

fn units(random: &mut Random) -> i64 {
    i64::try_from(random.below(100)).unwrap()
}

/// Each key has its readings in one portion: its last window is closed by nothing but its idleness.
#[derive(Default)]
pub struct Readings {
    due: BTreeMap<(String, i64), Sum>,
    /// The keys whose readings may lie further apart than the time after which a key is idle, and those of the last
    /// portion.
    slow: BTreeSet<String>,
    last: Vec<String>,
}

impl Readings {
    pub fn next(&mut self, random: &mut Random, portion: u64, from: i64) -> Vec<Record> {
        let mut records = Vec::new();
        self.last.clear();
        for n in 0..10 {
            let (key, mut at) = (format!("r{portion}-{n}"), from);
            for _ in 0..=random.below(6) {
                at += i64::try_from(random.below(6_000)).unwrap();
                let units = units(random);
                records.push(Record::new("readings", &key, format!(r#"{{"units":{units}}}"#), at));
                self.due.entry((key.clone(), start_of(at))).or_default().add(units);
            }
            self.last.push(key);
        }
        records
    }

    pub fn were_slow(&mut self) {
        self.slow.extend(self.last.iter().cloned());
    }

    pub fn windows(&self) -> usize {
        self.due.len()
    }

    /// Each window is closed once. One whose key was idle in between is corrected, and told whole in the end.
    pub fn judge(&self, outcome: &mut dyn Outcome) -> Result<(), String> {
        let mut told: BTreeMap<(String, i64), Vec<[i64; 3]>> = BTreeMap::new();
        for found in outcome.read("reading-sums") {
            let pane = ["correction", "readings", "units"].map(|field| number(&found, field));
            told.entry((key_of(&found), number(&found, "start_ms"))).or_default().push(pane);
        }
        for (window, Sum { readings, units }) in &self.due {
            let panes = told.remove(window).unwrap_or_default();
            let is_counted = panes.iter().zip(0..).all(|([correction, ..], n)| *correction == n);
            let is_whole = panes.last().is_some_and(|[_, n, sum]| (n, sum) == (readings, units));
            let is_once = panes.len() == 1 || self.slow.contains(&window.0);
            if !(is_counted && is_whole && is_once) {
                return Err(format!("reading-sums: {window:?} has {readings} of {units}, told as {panes:?}"));
            }
        }
        told.first_key_value().map_or(Ok(()), |told| Err(format!("reading-sums: {told:?} was never read")))
    }
}

/// Windows by the clock of the partition.
#[derive(Default)]
pub struct Clocked {
    clocks: BTreeMap<i32, i64>,
    /// By partition, beginning and key: the order in which they are closed.
    windows: BTreeMap<(i32, i64, String), Sum>,
    /// By partition, in their order.
    late: BTreeMap<i32, Vec<(String, String)>>,
    sent: u64,
}

impl Clocked {
    fn send(&mut self, key: &str, units: i64, at: i64) -> Record {
        self.sent += 1;
        let (partition, value) = (partition_of(key), format!(r#"{{"units":{units},"n":{}}}"#, self.sent));
        let clock = self.clocks.entry(partition).or_default();
        *clock = at.max(*clock);
        if is_closed(start_of(at), *clock) {
            self.late.entry(partition).or_default().push((key.to_owned(), value.clone()));
        } else {
            self.windows.entry((partition, start_of(at), key.to_owned())).or_default().add(units);
        }
        Record::new("clocked", key, value, at)
    }

    pub fn next(&mut self, random: &mut Random, from: i64) -> Vec<Record> {
        let one = |n: i64| {
            let at = jittered(random, from + n * 200);
            self.send(&format!("c{}", random.below(40)), units(random), at)
        };
        (0..75).map(one).collect()
    }

    pub fn end(&mut self, at: i64) -> Vec<Record> {
        one_of_each().iter().map(|key| self.send(key, 0, at)).collect()
    }

    pub fn sums(&self) -> String {
        let late: usize = self.late.values().map(Vec::len).sum();
        format!("{} windows by the partition's clock and {late} records too late for them", self.windows.len())
    }

    pub fn judge(&self, outcome: &mut dyn Outcome) -> Result<(), String> {
        let is_due = |partition: &i32, start: i64| is_closed(start, self.clocks[partition]);
        let due = self.windows.iter().filter(|((partition, start, _), _)| is_due(partition, *start));
        let due = due.map(|((partition, start, key), sum)| (*partition, *start, key.clone(), sum.readings, sum.units));
        let told = outcome.read("clocked-sums").into_iter().map(|found| {
            assert_eq!(number(&found, "correction"), 0);
            let [start, readings, units] = ["start_ms", "readings", "units"].map(|field| number(&found, field));
            (found.partition, start, key_of(&found), readings, units)
        });
        same("clocked-sums", &due.collect::<Vec<_>>(), &told.collect::<Vec<_>>())?;
        let late: Vec<_> = self.late.values().flatten().cloned().collect();
        let told = outcome.read("clocked-late");
        same("clocked-late", &late, &told.iter().map(|found| (key_of(found), text(found))).collect::<Vec<_>>())
    }
}

/// A meter: its clock and its windows.
#[derive(Default)]
struct Meter {
    clock: i64,
    windows: BTreeMap<i64, Sum>,
}

impl Meter {
    /// The beginning and units of each closed window, in the order in which they are closed.
    fn closed(&self) -> impl Iterator<Item = (i64, i64)> {
        let closed = self.windows.iter().filter(|(start, _)| is_closed(**start, self.clock));
        closed.map(|(start, sum)| (*start, sum.units))
    }
}

/// Windows beside rows.
#[derive(Default)]
pub struct Usage {
    meters: BTreeMap<i64, Meter>,
    late: Vec<(String, String)>,
    sent: u64,
}

impl Usage {
    fn send(&mut self, id: i64, units: i64, at: i64) -> Record {
        self.sent += 1;
        let value = format!(r#"{{"units":{units},"n":{}}}"#, self.sent);
        let meter = self.meters.entry(id).or_default();
        meter.clock = at.max(meter.clock);
        if is_closed(start_of(at), meter.clock) {
            self.late.push((id.to_string(), value.clone()));
        } else {
            meter.windows.entry(start_of(at)).or_default().add(units);
        }
        Record::new("usage", id, value, at)
    }

    pub fn next(&mut self, random: &mut Random, from: i64) -> Vec<Record> {
        let one = |n: i64| {
            let at = jittered(random, from + n * 200);
            self.send(i64::try_from(random.below(IDS.unsigned_abs())).unwrap(), units(random), at)
        };
        (0..75).map(one).collect()
    }

    pub fn end(&mut self, at: i64) -> Vec<Record> {
        (0..IDS).map(|id| self.send(id, 0, at)).collect()
    }

    pub fn sums(&self) -> String {
        let closed: usize = self.meters.values().map(|meter| meter.closed().count()).sum();
        format!("{closed} windows beside rows and {} records too late for them", self.late.len())
    }

    pub fn judge(&self, outcome: &mut dyn Outcome) -> Result<(), String> {
        let (mut told, mut rows) = (BTreeMap::new(), BTreeMap::new());
        for (id, meter) in &self.meters {
            let (mut all, mut totals) = (0, Vec::new());
            for ((start, units), windows) in meter.closed().zip(1..) {
                all += units;
                totals.push([start, all, windows]);
            }
            let windows = i64::try_from(totals.len()).unwrap();
            rows.insert(*id, vec![windows, all, windows]);
            told.insert(id.to_string(), totals);
        }
        told.retain(|_, totals| !totals.is_empty());
        let mut found: BTreeMap<String, Vec<[i64; 3]>> = BTreeMap::new();
        for total in outcome.read("meter-totals") {
            let numbers = ["start_ms", "units", "windows"].map(|field| number(&total, field));
            found.entry(key_of(&total)).or_default().push(numbers);
        }
        same("meter-totals", &Vec::from_iter(told), &Vec::from_iter(found))?;
        same("meters", &Vec::from_iter(rows), &Vec::from_iter(outcome.rows("meters", &["units", "windows"])))?;
        let dead = outcome.read(USAGE_DLT);
        if let Some(other) = dead.iter().find(|dead| dead.header("kafka_dlt-exception-fqcn") != Some("late")) {
            return Err(format!("{USAGE_DLT}: {other:?}"));
        }
        let mut dead: Vec<_> = dead.iter().map(|dead| (key_of(dead), text(dead))).collect();
        let mut late = self.late.clone();
        dead.sort_unstable();
        late.sort_unstable();
        same(USAGE_DLT, &late, &dead)
    }
}
