//! One job: every bucket of a roll-up's tables, against the readings that were sent.

use super::offsets;
use crate::Outcome;
use crate::load::readings::{Meters, Readings, is_like, name};
use crate::rig::tables::Connection;
use crate::rig::tiers::Year;
use crate::rig::topics::PARTITIONS;
use std::collections::BTreeMap;
use tidegate::flow::rollup::{Bucket, Metered as _, Metric, Packed, Slot, Tier};

/// Devices whose rows are fetched at once.
const PAGE: u64 = 50;

/// The conditions that must hold after a run.
pub struct Case<'a> {
    pub brokers: &'a str,
    pub database: &'a str,
    pub group: &'a str,
    pub rollup: &'a str,
    pub input: &'a str,
    /// Number of records in the input.
    pub records: u64,
    pub readings: Readings,
    /// What lay in the tables before.
    pub year: Option<&'a Year>,
    /// Topics that must be empty.
    pub dead_letters: &'a [String],
}

/// The slots of a device's metric in one tier, by their starts.
type Slots = BTreeMap<i64, Slot>;

/// Judges a run; answers the number of buckets that were made of the readings.
///
/// # Errors
/// The first thing found wrong.
pub fn judge(case: &Case<'_>) -> Outcome<usize> {
    is_read(case.brokers, case.group, case.input, case.records)?;
    for topic in case.dead_letters {
        if offsets::ends(case.brokers, topic, PARTITIONS)?.iter().any(|end| *end > 0) {
            return Err(format!("judge: {topic} is not empty").into());
        }
    }
    let (connection, mut buckets) = (Connection::open(case.database)?, 0);
    for first in (0..case.readings.devices).step_by(usize::try_from(PAGE)?) {
        let devices = first..case.readings.devices.min(first + PAGE);
        let mut found = slots(case, &connection, (devices.start, devices.end - 1))?;
        for device in devices {
            for metric in case.readings.metrics() {
                let [quarters, hours, days] =
                    Tier::ALL.map(|tier| found.remove(&(name(device), (*metric).to_owned(), tier.word())));
                let of_tier = [quarters, hours, days].map(Option::unwrap_or_default);
                buckets += judge_one(case, (device, *metric), &of_tier)?;
            }
        }
        if let Some(((device, metric, tier), _)) = found.pop_first() {
            return Err(format!("judge: {tier} of {metric} of {device}, which nobody has sent").into());
        }
    }
    Ok(buckets)
}

/// The group's offsets at the ends of the input, which is whole.
///
/// # Errors
/// Where they are not.
pub fn is_read(brokers: &str, group: &str, input: &str, records: u64) -> Outcome {
    let ends = offsets::ends(brokers, input, PARTITIONS)?;
    let found = ends.iter().sum::<i64>().unsigned_abs();
    if found != records {
        return Err(format!("judge: the input has {found} records, where {records} were sent").into());
    }
    offsets::compare(brokers, group, input, &ends)
}

/// The slots of some devices; of a filled table, those of the rows under way.
fn slots(
    case: &Case<'_>,
    connection: &Connection,
    (first, last): (u64, u64),
) -> Outcome<BTreeMap<(String, String, &'static str), Slots>> {
    let mut found: BTreeMap<(String, String, &'static str), Slots> = BTreeMap::new();
    for tier in Tier::ALL {
        let from_ms = case.year.map_or(i64::MIN, |year| year.until_ms - year.until_ms.rem_euclid(tier.row_ms()));
        let ask = format!(
            "SELECT device, metric, start_ms, buckets FROM {} WHERE device >= $1 AND device <= $2 AND start_ms >= $3",
            tier.table(case.rollup)
        );
        let (first, last) = (name(first), name(last));
        for row in connection.wait(connection.client.query(ask.as_str(), &[&first, &last, &from_ms]))? {
            let (device, metric, start_ms): (String, String, i64) = (row.get(0), row.get(1), row.get(2));
            let read = Packed::from(row.get::<_, Vec<u8>>(3)).slots(start_ms, tier.bucket_ms())?;
            let slots = found.entry((device, metric, tier.word())).or_default();
            slots
                .extend(read.into_iter().map(|(number, slot)| (start_ms + i64::from(number) * tier.bucket_ms(), slot)));
        }
    }
    Ok(found)
}

/// One metric of a device in all tiers.
fn judge_one(case: &Case<'_>, (device, metric): (u64, &'static str), of_tier: &[Slots; 3]) -> Outcome<usize> {
    let readings = &case.readings;
    let known = Meters.metric(metric).ok_or("no such metric")?;
    let mut buckets = 0;
    for (number, tier) in Tier::ALL.into_iter().enumerate() {
        let slots = &of_tier[number];
        let what = |start: i64| format!("judge: {} of {metric} of {}, {start}", tier.word(), name(device));
        let first = readings.from_ms - readings.from_ms.rem_euclid(tier.bucket_ms());
        let before: Slots = slots.range(..first).map(|(start, slot)| (*start, slot.clone())).collect();
        let filled = case.year.map(|year| year.current(device, metric, tier)).unwrap_or_default();
        if before != filled {
            return Err(format!("{}: what lay there before is another", what(first)).into());
        }
        let mut made = slots.range(first..);
        for start in (first..readings.to_ms()).step_by(usize::try_from(tier.bucket_ms())?) {
            let Some((found_at, slot)) = made.next() else {
                return Err(format!("{}: there is no bucket", what(start)).into());
            };
            let span = (start, start + tier.bucket_ms());
            // A parent of which a part was filled is the merge of its children.
            let due = if start < readings.from_ms && number > 0 {
                merged(&known, of_tier[number - 1].range(span.0..span.1).map(|(_, slot)| slot))?
            } else {
                readings.bucket(device, metric, span)
            };
            let is_right = match (&slot.base, &due) {
                (Some(found), Some(due)) => slot.late.is_none() && is_like(found, due),
                _ => false,
            };
            if *found_at != start || !is_right {
                return Err(format!("{}: {slot:?} from {found_at} on, where {due:?} is due", what(start)).into());
            }
            buckets += 1;
        }
        if let Some((start, slot)) = made.next() {
            return Err(format!("{}: {slot:?}, which nobody has sent", what(*start)).into());
        }
    }
    Ok(buckets)
}

fn merged<'a>(metric: &Metric, children: impl Iterator<Item = &'a Slot>) -> Outcome<Option<Bucket>> {
    let mut parent: Option<Bucket> = None;
    for child in children.filter_map(|slot| slot.base.as_ref()) {
        parent = Some(match parent {
            Some(parent) => metric.overlay(&parent, child)?,
            None => child.clone(),
        });
    }
    Ok(parent)
}
