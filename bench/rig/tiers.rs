//! One job: the tables of a roll-up, and a year of buckets in them before anything is read, packed as the product packs them.
//!
//! A few devices are made whole, from their readings, and every other one has the rows of one of them. What they have repeats after
//! 32 days.

use super::tables::Connection;
use crate::Outcome;
use crate::load::readings::{EVERY_MS, METRICS, Meters, PERIOD_MS, bucket, name};
use std::collections::BTreeMap;
use tidegate::adapters::postgres::{PostgresRollUps, PostgresSettings};
use tidegate::flow::rollup::{Bucket, Metered as _, Packed, Slot, Tier};
use tidegate::http::access::hash_of;
use tidegate::ports::rollups::{Grant, Keep, RollUpTables as _};
use tidegate::settings::RollUpSettings;

/// Devices that are made; the others are copies.
const MADE: u64 = 4;
/// Whole rows of each tier in front of the one under way: 35 days of quarters, as they are kept by default, and more than a year.
const WHOLE: [i64; 3] = [35, 12, 1];

/// Makes the tables of a roll-up, with partitions for what is kept at that time.
pub fn create(database: &str, rollup: &str, now_ms: i64) -> Outcome {
    let mut tables = PostgresRollUps::new(&PostgresSettings::new(database))?;
    tables.create(rollup)?;
    let RollUpSettings { quarters_days, hours_days } = RollUpSettings::default();
    tables.maintain(rollup, Keep { quarters_days, hours_days }, now_ms)?;
    Ok(())
}

/// Makes a token that sees everything.
pub fn make_token(database: &str, rollup: &str, token: &str) -> Outcome {
    let grant = Grant { name: "bench".into(), ..Grant::default() };
    Ok(PostgresRollUps::new(&PostgresSettings::new(database))?.make_token(rollup, &hash_of(token), &grant)?)
}

/// The buckets of a device's metric over a period, by tier.
struct Made {
    of: [Vec<Bucket>; 3],
}

/// The buckets that lie in the tables of every device up to a time.
pub struct Year {
    pub rollup: String,
    pub devices: u64,
    /// Devices, from the first on, that have a whole year.
    pub filled: u64,
    /// A multiple of a quarter.
    pub until_ms: i64,
    pub metrics: &'static [&'static str],
    made: BTreeMap<(u64, &'static str), Made>,
}

impl Made {
    fn new(device: u64, metric: &'static str) -> Outcome<Self> {
        let known = Meters.metric(metric).ok_or("no such metric")?;
        let steps = Tier::Quarters.bucket_ms() / EVERY_MS;
        let quarters = (0..PERIOD_MS / Tier::Quarters.bucket_ms())
            .map(|quarter| bucket(device, metric, quarter * steps..(quarter + 1) * steps, 0).ok_or("an empty quarter"));
        let quarters = quarters.collect::<Result<Vec<_>, _>>()?;
        let parents = |children: &[Bucket], count: usize| -> Outcome<Vec<Bucket>> {
            let mut parents = Vec::new();
            for children in children.chunks(count) {
                let mut parent = children.first().ok_or("an empty bucket")?.clone();
                for child in &children[1..] {
                    parent = known.overlay(&parent, child)?;
                }
                parents.push(parent);
            }
            Ok(parents)
        };
        let hours = parents(&quarters, 4)?;
        let days = parents(&hours, 24)?;
        Ok(Self { of: [quarters, hours, days] })
    }

    /// The bucket of a tier that begins then.
    fn at(&self, tier: Tier, start_ms: i64) -> Bucket {
        let of_tier = &self.of[place(tier)];
        let within = start_ms.rem_euclid(PERIOD_MS);
        let mut bucket = of_tier[usize::try_from(within / tier.bucket_ms()).unwrap_or_default()].clone();
        for point in [&mut bucket.first, &mut bucket.last] {
            point.at_ms += start_ms - within;
        }
        bucket
    }

    /// The slots of a row, as far as they end at that time.
    fn slots(&self, tier: Tier, row_ms: i64, until_ms: i64) -> BTreeMap<u16, Slot> {
        let count = (until_ms.min(row_ms + tier.row_ms()) - row_ms) / tier.bucket_ms();
        let slot = |number: u16| {
            let base = Some(self.at(tier, row_ms + i64::from(number) * tier.bucket_ms()));
            (number, Slot { revision: 1, base, late: None })
        };
        (0..u16::try_from(count).unwrap_or_default()).map(slot).collect()
    }
}

const fn place(tier: Tier) -> usize {
    match tier {
        Tier::Quarters => 0,
        Tier::Hours => 1,
        Tier::Days => 2,
    }
}

/// What a tier's table holds.
pub struct Size {
    pub rows: i64,
    /// The buckets of all rows, packed.
    pub packed_bytes: i64,
    /// On the disk: compressed where the database does so, with indexes.
    pub disk_bytes: i64,
}

impl Year {
    pub fn new(rollup: &str, devices: u64, filled: u64, metrics: usize, until_ms: i64) -> Outcome<Self> {
        let (mut made, metrics) = (BTreeMap::new(), &METRICS[..metrics]);
        for device in 0..MADE.min(devices) {
            for metric in metrics {
                made.insert((device, *metric), Made::new(device, metric)?);
            }
        }
        Ok(Self { rollup: rollup.into(), devices, filled, until_ms, metrics, made })
    }

    /// The starts of a tier's rows: of the whole year, or of the one under way alone, which is missing where nothing of it is over.
    fn rows(&self, tier: Tier) -> impl DoubleEndedIterator<Item = i64> {
        let current = self.until_ms - self.until_ms.rem_euclid(tier.row_ms());
        (0..=WHOLE[place(tier)]).rev().map(move |back| current - back * tier.row_ms())
    }

    /// The slots that were filled of the row under way of a device's metric, by their starts.
    pub fn current(&self, device: u64, metric: &'static str, tier: Tier) -> BTreeMap<i64, Slot> {
        let Some(row_ms) = self.rows(tier).next_back() else { return BTreeMap::new() };
        let slots = self.made[&(device % MADE, metric)].slots(tier, row_ms, self.until_ms);
        slots.into_iter().map(|(number, slot)| (row_ms + i64::from(number) * tier.bucket_ms(), slot)).collect()
    }

    /// How much of the rows under way is filled, in words.
    pub fn told(&self) -> String {
        let of = |tier: Tier| {
            let filled = self.until_ms.rem_euclid(tier.row_ms()) / tier.bucket_ms();
            format!("{} {filled} of {}", tier.word(), tier.row_ms() / tier.bucket_ms())
        };
        Tier::ALL.map(of).join(", ")
    }

    /// Number of buckets that are filled in a tier's table.
    pub fn buckets(&self, tier: Tier) -> u64 {
        let current = (self.until_ms.rem_euclid(tier.row_ms()) / tier.bucket_ms()).unsigned_abs();
        let whole = (WHOLE[place(tier)] * tier.row_ms() / tier.bucket_ms()).unsigned_abs();
        (current * self.devices + whole * self.filled) * self.metrics.len() as u64
    }

    /// Fills the tables.
    pub fn fill(&self, database: &str) -> Outcome {
        let connection = Connection::open(database)?;
        connection.run(
            "CREATE UNLOGGED TABLE bench_year (made bigint, metric text, tier text, start_ms bigint, is_current boolean, \
             buckets bytea)",
        )?;
        let insert = "INSERT INTO bench_year VALUES ($1, $2, $3, $4, $5, $6)";
        let insert = connection.wait(connection.client.prepare(insert))?;
        for ((device, metric), made) in &self.made {
            for tier in Tier::ALL {
                let rows: Vec<i64> = self.rows(tier).collect();
                for row_ms in &rows {
                    let slots = made.slots(tier, *row_ms, self.until_ms);
                    if slots.is_empty() {
                        continue;
                    }
                    let packed: Vec<u8> = Packed::of(&slots, *row_ms, tier.bucket_ms()).into();
                    let (device, word, is_current) = (device.cast_signed(), tier.word(), rows.last() == Some(row_ms));
                    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
                        [&device, metric, &word, row_ms, &is_current, &packed];
                    connection.wait(connection.client.execute(&insert, &values))?;
                }
            }
        }
        for tier in Tier::ALL {
            // The name is made as the load makes it.
            let (table, width, first) = (tier.table(&self.rollup), 6, name(0));
            let prefix = first.trim_end_matches('0');
            let (devices, filled, made) = (self.devices, self.filled, MADE.min(self.devices));
            connection.run(&format!(
                "INSERT INTO {table} (device, metric, start_ms, version, buckets) \
                 SELECT '{prefix}' || lpad(n::text, {width}, '0'), y.metric, y.start_ms, 1, y.buckets \
                 FROM generate_series(0, {devices} - 1) n JOIN bench_year y ON y.made = n % {made} \
                 WHERE y.tier = '{}' AND (n < {filled} OR y.is_current)",
                tier.word()
            ))?;
            connection.run(&format!("VACUUM (ANALYZE) {table}"))?;
        }
        connection.run("DROP TABLE bench_year")?;
        connection.run("CHECKPOINT")
    }

    /// The size of a tier's table.
    pub fn size(&self, connection: &Connection, tier: Tier) -> Outcome<Size> {
        let table = tier.table(&self.rollup);
        let ask = format!(
            "SELECT count(*), coalesce(sum(octet_length(buckets)), 0)::bigint, \
             (SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_partition_tree('{table}')) FROM {table}"
        );
        let row = connection.wait(connection.client.query_one(ask.as_str(), &[]))?;
        Ok(Size { rows: row.get(0), packed_bytes: row.get(1), disk_bytes: row.get(2) })
    }
}

/// The size of the outbox, with what all runs of this database have left there: a row for each hour and day that is told.
pub fn outbox(connection: &Connection) -> Outcome<Size> {
    let ask = "SELECT count(*), coalesce(sum(octet_length(key) + octet_length(value) + octet_length(headers)), 0)::bigint, \
               (SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_partition_tree('tidegate.outbox')) FROM tidegate.outbox";
    let row = connection.wait(connection.client.query_one(ask, &[]))?;
    Ok(Size { rows: row.get(0), packed_bytes: row.get(1), disk_bytes: row.get(2) })
}

/// Removes the tables of a roll-up.
pub fn remove(database: &str, rollup: &str) -> Outcome {
    let tables = Tier::ALL.map(|tier| tier.table(rollup)).join(", ");
    Connection::open(database)?.run(&format!("DROP TABLE {tables}, {rollup}_devices, {rollup}_tokens"))
}
