//! The tables of roll-ups: buckets, devices and tokens. Lists lie as JSON; what is not kept any more is deleted row by row, since
//! tables have no partitions here.

use super::connection::{Connection, SqliteSettings, Trouble};
use super::statements::quoted;
use crate::flow::rollup::Tier;
use crate::ports::Fault;
use crate::ports::rollups::{BucketRow, Described, Device, Grant, Keep, NewestRow, RollUpTables, WantedDevices};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row};

const DAY_MS: i64 = 86_400_000;

/// [`RollUpTables`] on SQLite.
#[derive(Debug)]
pub struct SqliteRollUps {
    connection: Connection,
}

impl SqliteRollUps {
    /// Opens a connection.
    ///
    /// # Errors
    /// `Retry` when the file cannot be opened.
    pub fn new(settings: &SqliteSettings) -> Result<Self, Fault> {
        Ok(Self { connection: Connection::open(settings)? })
    }

    /// Keeps what is said of devices, all or none.
    ///
    /// # Errors
    /// `Retry` when the file cannot be written; `Fatal` when there is no such table.
    pub fn describe_all(&mut self, rollup: &str, devices: &[Device]) -> Result<(), Fault> {
        let text = format!(
            "INSERT OR REPLACE INTO {} (device, name, room, home, kind, zone, formerly) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            devices_of(rollup)
        );
        self.connection.transaction(|connection| {
            for Device { device, described } in devices {
                let Described { name, room, home, kind, zone, formerly } = described.clone();
                let query = sqlx::query(AssertSqlSafe(text.clone())).bind(device.clone()).bind(name).bind(room);
                let query = query.bind(home).bind(kind).bind(zone).bind(list(&formerly)?);
                connection.execute(query)?;
            }
            Ok(())
        })?;
        Ok(())
    }
}

impl RollUpTables for SqliteRollUps {
    fn rows(
        &mut self,
        table: &str,
        (device, metric): (&str, &str),
        (from_ms, to_ms): (i64, i64),
    ) -> Result<Vec<BucketRow>, Fault> {
        let text = format!(
            "SELECT start_ms, version, buckets FROM {} WHERE device = ?1 AND metric = ?2 AND start_ms >= ?3 AND start_ms < ?4 \
             ORDER BY start_ms",
            quoted(table)
        );
        let query = sqlx::query(AssertSqlSafe(text)).bind(device.to_owned()).bind(metric.to_owned());
        let rows = self.connection.fetch(query.bind(from_ms).bind(to_ms))?;
        Ok(rows.iter().map(|row| bucket_row(row, 0)).collect::<Result<_, Trouble>>()?)
    }

    fn devices(&mut self, rollup: &str, wanted: &WantedDevices) -> Result<Vec<Device>, Fault> {
        let (days, devices) = (quoted(&Tier::Days.table(rollup)), devices_of(rollup));
        let known = if wanted.only.is_some() {
            format!(
                "known(device) AS (SELECT value FROM json_each(?5) k WHERE value > ?6 AND \
                 (EXISTS (SELECT 1 FROM {devices} d WHERE d.device = k.value) OR \
                 EXISTS (SELECT 1 FROM {days} t WHERE t.device = k.value)))"
            )
        } else {
            // Those with readings are found by skipping through the primary key.
            format!(
                "seen(device) AS (SELECT min(device) FROM {days} WHERE device > ?6 UNION ALL \
                 SELECT (SELECT min(t.device) FROM {days} t WHERE t.device > s.device) FROM seen s WHERE s.device IS NOT NULL), \
                 known(device) AS (SELECT device FROM seen WHERE device IS NOT NULL UNION \
                 SELECT device FROM {devices} WHERE device > ?6)"
            )
        };
        let text = format!(
            "WITH RECURSIVE {known} SELECT DISTINCT k.device, d.name, d.room, d.home, d.kind, d.zone, d.formerly FROM known k \
             LEFT JOIN {devices} d ON d.device = k.device \
             WHERE (?1 IS NULL OR instr(lower(k.device), lower(?1)) > 0 OR instr(lower(d.name), lower(?1)) > 0) \
             AND (?2 IS NULL OR d.room = ?2) AND (?3 IS NULL OR d.home = ?3) AND (?4 IS NULL OR d.kind = ?4) \
             ORDER BY k.device LIMIT ?7"
        );
        let WantedDevices { search, room, home, kind, only, after, limit } = wanted.clone();
        let query = sqlx::query(AssertSqlSafe(text)).bind(search).bind(room).bind(home).bind(kind);
        let query = query.bind(only.map(|only| list(&only)).transpose()?);
        let rows = self.connection.fetch(query.bind(after.unwrap_or_default()).bind(i64::from(limit)))?;
        Ok(rows.iter().map(device_row).collect::<Result<_, Trouble>>()?)
    }

    fn newest(&mut self, rollup: &str, devices: &[String]) -> Result<Vec<NewestRow>, Fault> {
        let (quarters, days) = (quoted(&Tier::Quarters.table(rollup)), quoted(&Tier::Days.table(rollup)));
        let text = format!(
            "SELECT m.device, m.metric, q.start_ms, q.version, q.buckets FROM \
             (SELECT DISTINCT device, metric FROM {days} WHERE device IN (SELECT value FROM json_each(?1))) m \
             LEFT JOIN {quarters} q ON q.device = m.device AND q.metric = m.metric AND q.start_ms = \
             (SELECT max(n.start_ms) FROM {quarters} n WHERE n.device = m.device AND n.metric = m.metric) ORDER BY 1, 2"
        );
        let rows = self.connection.fetch(sqlx::query(AssertSqlSafe(text)).bind(list(devices)?))?;
        let read = |row: &SqliteRow| -> Result<NewestRow, Trouble> {
            let is_there = row.try_get::<Option<i64>, _>(2)?.is_some();
            let newest = is_there.then(|| bucket_row(row, 2)).transpose()?;
            Ok(NewestRow { device: row.try_get(0)?, metric: row.try_get(1)?, row: newest })
        };
        Ok(rows.iter().map(read).collect::<Result<_, Trouble>>()?)
    }

    fn describe(&mut self, rollup: &str, device: &Device) -> Result<(), Fault> {
        self.describe_all(rollup, std::slice::from_ref(device))
    }

    fn delete(&mut self, rollup: &str, device: &str) -> Result<u64, Fault> {
        let tables = Tier::ALL.map(|tier| quoted(&tier.table(rollup))).into_iter().chain([devices_of(rollup)]);
        let deleted = self.connection.transaction(|connection| {
            let mut deleted = 0;
            for table in tables {
                let text = format!("DELETE FROM {table} WHERE device = ?1");
                deleted += connection.execute(sqlx::query(AssertSqlSafe(text)).bind(device.to_owned()))?;
            }
            Ok(deleted)
        })?;
        Ok(deleted)
    }

    fn grant(&mut self, rollup: &str, hash: &[u8]) -> Result<Option<Grant>, Fault> {
        let text = format!("SELECT holder, home, devices, may_write FROM {} WHERE hash = ?1", tokens_of(rollup));
        let row = self.connection.fetch_optional(sqlx::query(AssertSqlSafe(text)).bind(hash.to_vec()))?;
        Ok(row.map(|row| grant_of(&row)).transpose()?)
    }

    fn make_token(&mut self, rollup: &str, hash: &[u8], grant: &Grant) -> Result<(), Fault> {
        let text = format!(
            "INSERT OR REPLACE INTO {} (holder, hash, home, devices, may_write) VALUES (?1, ?2, ?3, ?4, ?5)",
            tokens_of(rollup)
        );
        let Grant { name, home, devices, may_write } = grant.clone();
        let devices = devices.map(|devices| list(&devices)).transpose()?;
        let query = sqlx::query(AssertSqlSafe(text)).bind(name).bind(hash.to_vec()).bind(home).bind(devices);
        self.connection.execute(query.bind(i64::from(may_write)))?;
        Ok(())
    }

    fn tokens(&mut self, rollup: &str) -> Result<Vec<Grant>, Fault> {
        let text = format!("SELECT holder, home, devices, may_write FROM {} ORDER BY holder", tokens_of(rollup));
        let rows = self.connection.fetch(sqlx::query(AssertSqlSafe(text)))?;
        Ok(rows.iter().map(grant_of).collect::<Result<_, Trouble>>()?)
    }

    fn revoke(&mut self, rollup: &str, holder: &str) -> Result<bool, Fault> {
        let text = format!("DELETE FROM {} WHERE holder = ?1", tokens_of(rollup));
        Ok(self.connection.execute(sqlx::query(AssertSqlSafe(text)).bind(holder.to_owned()))? > 0)
    }

    fn create(&mut self, rollup: &str) -> Result<Vec<String>, Fault> {
        let tier = "device text NOT NULL, metric text NOT NULL, start_ms bigint NOT NULL, version bigint NOT NULL DEFAULT 0, \
                    buckets blob NOT NULL, PRIMARY KEY (device, metric, start_ms)";
        let devices = "device text PRIMARY KEY NOT NULL, name text, room text, home text, kind text, zone text, formerly text NOT NULL";
        let tokens = "holder text PRIMARY KEY NOT NULL, hash blob NOT NULL UNIQUE, home text, devices text, \
                      may_write bigint NOT NULL, made_at text NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ'))";
        let tiers = Tier::ALL.map(|of| (of.table(rollup), tier));
        let others = [(format!("{rollup}_devices"), devices), (format!("{rollup}_tokens"), tokens)];
        let made = self.connection.transaction(|connection| {
            let mut made = Vec::new();
            for (name, columns) in tiers.into_iter().chain(others) {
                let known = sqlx::query("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1");
                if connection.fetch_optional(known.bind(name.clone()))?.is_none() {
                    let text = format!("CREATE TABLE {} ({columns})", quoted(&name));
                    connection.execute(sqlx::query(AssertSqlSafe(text)))?;
                    made.push(name);
                }
            }
            Ok(made)
        })?;
        Ok(made)
    }

    /// Makes nothing ahead; the second number is that of the rows that were deleted.
    fn maintain(&mut self, rollup: &str, keep: Keep, now_ms: i64) -> Result<(usize, usize), Fault> {
        let mut dropped = 0;
        for (tier, days) in [(Tier::Quarters, keep.quarters_days), (Tier::Hours, keep.hours_days)] {
            let Some(days) = days else { continue };
            let before = now_ms - i64::from(days) * DAY_MS - tier.row_ms();
            let text = format!("DELETE FROM {} WHERE start_ms <= ?1", quoted(&tier.table(rollup)));
            dropped += self.connection.execute(sqlx::query(AssertSqlSafe(text)).bind(before))?;
        }
        Ok((0, usize::try_from(dropped).unwrap_or(usize::MAX)))
    }
}

fn devices_of(rollup: &str) -> String {
    quoted(&format!("{rollup}_devices"))
}

fn tokens_of(rollup: &str) -> String {
    quoted(&format!("{rollup}_tokens"))
}

/// A list as it lies in a column, and as `json_each` takes it.
fn list(names: &[String]) -> Result<String, Fault> {
    serde_json::to_string(names).map_err(|error| Fault::fatal("a list of names is no JSON").because(error))
}

fn names(list: &str) -> Result<Vec<String>, Trouble> {
    let damaged = |error| Fault::corrupt(format!("SQLite holds {list:?} where a list of names lies")).because(error);
    Ok(serde_json::from_str(list).map_err(damaged)?)
}

/// Reads `start_ms, version, buckets`, which begin at `first`.
fn bucket_row(row: &SqliteRow, first: usize) -> Result<BucketRow, Trouble> {
    Ok(BucketRow { start_ms: row.try_get(first)?, version: row.try_get(first + 1)?, buckets: row.try_get(first + 2)? })
}

fn device_row(row: &SqliteRow) -> Result<Device, Trouble> {
    let formerly: Option<String> = row.try_get(6)?;
    let described = Described {
        name: row.try_get(1)?,
        room: row.try_get(2)?,
        home: row.try_get(3)?,
        kind: row.try_get(4)?,
        zone: row.try_get(5)?,
        formerly: formerly.map_or_else(|| Ok(Vec::new()), |formerly| names(&formerly))?,
    };
    Ok(Device { device: row.try_get(0)?, described })
}

fn grant_of(row: &SqliteRow) -> Result<Grant, Trouble> {
    let devices: Option<String> = row.try_get(2)?;
    Ok(Grant {
        name: row.try_get(0)?,
        home: row.try_get(1)?,
        devices: devices.map(|devices| names(&devices)).transpose()?,
        may_write: row.try_get::<i64, _>(3)? != 0,
    })
}
