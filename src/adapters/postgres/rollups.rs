//! The tables of roll-ups: buckets, devices and tokens, and the partitions of the tiers that are not kept for good.
//!
//! Quarters and hours are cut by the start of their rows, so that what is not kept any more is dropped whole. What no partition covers
//! lies in the default partition, as with the outbox.

use super::connection::Server;
use super::statements::{Limits, Name, Statement};
use crate::flow::rollup::Tier;
use crate::ports::failpoint::failpoint;
use crate::ports::fault::Fault;
use crate::ports::rollups::{BucketRow, Described, Device, Grant, Keep, NewestRow, RollUpTables, WantedDevices};
use crate::settings::postgres::PostgresSettings;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use std::ops::Range;

/// Longest statement: whoever looks at a graph has gone by then.
const STATEMENT_MS: u32 = 5_000;

/// Partitions that are made beyond the one in use.
const AHEAD: i64 = 2;

/// The time for which a change of partitions may wait for its lock: every batch behind it in the queue waits with it.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = 500";

/// [`RollUpTables`] on Postgres.
#[derive(Debug)]
pub struct PostgresRollUps {
    server: Server,
}

impl PostgresRollUps {
    /// Does not connect.
    ///
    /// # Errors
    /// `Fatal` when the settings cannot be used.
    pub fn new(settings: &PostgresSettings) -> Result<Self, Fault> {
        let limits = Limits {
            statement: STATEMENT_MS,
            lock: settings.lock_timeout_ms,
            idle: settings.idle_in_transaction_timeout_ms,
        };
        Ok(Self { server: Server::with_limits(settings, limits)? })
    }

    fn is_there(&mut self, table: &Name) -> Result<bool, Fault> {
        let quoted = table.to_string();
        self.server.transaction("look for a table", async |c| {
            let ask = sqlx::query("SELECT to_regclass($1) IS NOT NULL").bind(&quoted).persistent(false);
            ask.fetch_one(c).await?.try_get(0)
        })
    }

    /// Makes a table that is missing; answers its name where it was.
    fn create_table(&mut self, name: &str, columns: &str) -> Result<Option<String>, Fault> {
        let table = name_of(name)?;
        if self.is_there(&table)? {
            return Ok(None);
        }
        let text = format!("CREATE TABLE {table} {columns}");
        let create = self.server.statement(&text);
        let created = self.server.transaction("create a table of a roll-up", async |c| {
            sqlx::raw_sql(create.sql()).execute(c).await.map(drop)
        });
        match created {
            Ok(()) => Ok(Some(name.to_owned())),
            Err(fault) if fault.to_string().contains("SQLSTATE 42P07") => Ok(None), // somebody was faster
            Err(fault) if fault.is_retry() => Err(fault),
            Err(fault) => Err(Fault::fatal(format!("cannot make it; as a role that may, run: {text}")).because(fault)),
        }
    }

    /// The ranges of the partitions of a table, with their names.
    fn partitions(&mut self, table: &Name) -> Result<Vec<(String, Range<i64>)>, Fault> {
        let quoted = table.to_string();
        self.server.transaction("list partitions", async |c| {
            let ask = sqlx::query(
                "SELECT c.relname::text, (regexp_match(b.bound, 'FROM \\(''?(-?\\d+)''?\\)'))[1]::bigint, \
                 (regexp_match(b.bound, 'TO \\(''?(-?\\d+)''?\\)'))[1]::bigint FROM pg_inherits i \
                 JOIN pg_class c ON c.oid = i.inhrelid CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid)) b(bound) \
                 WHERE i.inhparent = to_regclass($1) AND b.bound <> 'DEFAULT' ORDER BY 2",
            );
            let rows = ask.bind(&quoted).persistent(false).fetch_all(c).await?;
            let read = |row: &PgRow| Ok((row.try_get(0)?, row.try_get(1)?..row.try_get(2)?));
            rows.iter().map(read).collect()
        })
    }

    /// Makes the partition of a range, unless the default partition has rows of it.
    fn attach(&mut self, table: &str, range: &Range<i64>) -> Result<bool, Fault> {
        let (parent, default) = (name_of(table)?, name_of(&format!("{table}_default"))?);
        let part = name_of(&format!("{table}_{}", day_of(range.start)))?;
        let (start, end) = (range.start, range.end);
        let held = self.server.statement(&format!(
            "SELECT EXISTS (SELECT FROM {default} WHERE start_ms >= {start} AND start_ms < {end})"
        ));
        // Made apart and then attached: CREATE … PARTITION OF would lock the parent against every writer.
        let create = self.server.statement(&format!(
            "CREATE TABLE {part} (LIKE {parent} INCLUDING ALL); \
             ALTER TABLE {parent} ATTACH PARTITION {part} FOR VALUES FROM ({start}) TO ({end})"
        ));
        let made = self.server.transaction("make a partition of a roll-up", async |c| {
            sqlx::raw_sql(LOCK_TIMEOUT).execute(&mut *c).await?;
            if sqlx::query(held.sql()).persistent(false).fetch_one(&mut *c).await?.try_get(0)? {
                return Ok(false);
            }
            sqlx::raw_sql(create.sql()).execute(c).await?;
            failpoint!(K28);
            Ok(true)
        });
        failpoint!(K29, if matches!(made, Ok(true)));
        match made {
            Err(fault) if fault.is_retry() || was_faster(&fault) => Ok(false), // the next run tries again
            made => made,
        }
    }

    fn drop_table(&mut self, name: &str) -> Result<bool, Fault> {
        let drop_it = self.server.statement(&format!("DROP TABLE IF EXISTS {}", name_of(name)?));
        let dropped = self.server.transaction("drop a partition of a roll-up", async |c| {
            sqlx::raw_sql(LOCK_TIMEOUT).execute(&mut *c).await?;
            sqlx::raw_sql(drop_it.sql()).execute(c).await?;
            failpoint!(K28);
            Ok(true)
        });
        failpoint!(K29, if matches!(dropped, Ok(true)));
        match dropped {
            Err(fault) if fault.is_retry() => Ok(false),
            dropped => dropped,
        }
    }

    fn changed(&mut self, what: &str, change: &Statement, values: &[&str]) -> Result<u64, Fault> {
        self.server.transaction(what, async |c| {
            let mut query = sqlx::query(change.sql()).persistent(false);
            for value in values {
                query = query.bind(*value);
            }
            query.execute(c).await.map(|done| done.rows_affected())
        })
    }
}

impl RollUpTables for PostgresRollUps {
    fn rows(
        &mut self,
        table: &str,
        (device, metric): (&str, &str),
        (from_ms, to_ms): (i64, i64),
    ) -> Result<Vec<BucketRow>, Fault> {
        let table = name_of(table)?;
        let select = self.server.statement(&format!(
            "SELECT start_ms, version, buckets FROM {table} \
             WHERE device = $1 AND metric = $2 AND start_ms >= $3 AND start_ms < $4 ORDER BY start_ms"
        ));
        let query = sqlx::query(select.sql()).bind(device).bind(metric).bind(from_ms).bind(to_ms);
        let query = query.persistent(self.server.is_caching);
        self.server.transaction("read a roll-up", async |c| {
            let rows = query.fetch_all(c).await?;
            let read = |row: &PgRow| {
                Ok(BucketRow { start_ms: row.try_get(0)?, version: row.try_get(1)?, buckets: row.try_get(2)? })
            };
            rows.iter().map(read).collect()
        })
    }

    fn devices(&mut self, rollup: &str, wanted: &WantedDevices) -> Result<Vec<Device>, Fault> {
        let (days, devices) = (name_of(&Tier::Days.table(rollup))?, name_of(&format!("{rollup}_devices"))?);
        let known = if wanted.only.is_some() {
            format!(
                "WITH known AS (SELECT k.device FROM unnest($5::text[]) k(device) WHERE k.device > $6 AND \
                 (EXISTS (SELECT FROM {devices} d WHERE d.device = k.device) OR \
                 EXISTS (SELECT FROM {days} t WHERE t.device = k.device)))"
            )
        } else {
            // Those with readings are found by skipping through the primary key.
            format!(
                "WITH RECURSIVE seen AS ((SELECT device FROM {days} WHERE device > $6 ORDER BY device LIMIT 1) UNION ALL \
                 SELECT (SELECT t.device FROM {days} t WHERE t.device > s.device ORDER BY t.device LIMIT 1) FROM seen s \
                 WHERE s.device IS NOT NULL), known AS (SELECT device FROM seen WHERE device IS NOT NULL UNION \
                 SELECT device FROM {devices} WHERE device > $6)"
            )
        };
        let select = self.server.statement(&format!(
            "{known} SELECT k.device, d.name, d.room, d.home, d.kind, d.zone, coalesce(d.formerly, '{{}}') FROM known k \
             LEFT JOIN {devices} d USING (device) \
             WHERE ($1::text IS NULL OR position(lower($1) IN lower(k.device)) > 0 OR position(lower($1) IN lower(d.name)) > 0) \
             AND ($2::text IS NULL OR d.room = $2) AND ($3::text IS NULL OR d.home = $3) AND ($4::text IS NULL OR d.kind = $4) \
             AND ($5::text[] IS NULL OR k.device = ANY ($5)) ORDER BY k.device LIMIT $7"
        ));
        let query = sqlx::query(select.sql())
            .bind(&wanted.search)
            .bind(&wanted.room)
            .bind(&wanted.home)
            .bind(&wanted.kind)
            .bind(&wanted.only)
            .bind(wanted.after.as_deref().unwrap_or_default())
            .bind(i64::from(wanted.limit))
            .persistent(self.server.is_caching);
        self.server.transaction("list devices", async |c| {
            let rows = query.fetch_all(c).await?;
            let read = |row: &PgRow| {
                let described = Described {
                    name: row.try_get(1)?,
                    room: row.try_get(2)?,
                    home: row.try_get(3)?,
                    kind: row.try_get(4)?,
                    zone: row.try_get(5)?,
                    formerly: row.try_get(6)?,
                };
                Ok(Device { device: row.try_get(0)?, described })
            };
            rows.iter().map(read).collect()
        })
    }

    fn newest(&mut self, rollup: &str, devices: &[String]) -> Result<Vec<NewestRow>, Fault> {
        let (quarters, days) = (name_of(&Tier::Quarters.table(rollup))?, name_of(&Tier::Days.table(rollup))?);
        let select = self.server.statement(&format!(
            "SELECT d.device, m.metric, q.start_ms, q.version, q.buckets FROM unnest($1::text[]) d(device) \
             CROSS JOIN LATERAL (WITH RECURSIVE m AS ( \
             (SELECT metric FROM {days} t WHERE t.device = d.device ORDER BY metric LIMIT 1) UNION ALL \
             SELECT (SELECT t.metric FROM {days} t WHERE t.device = d.device AND t.metric > m.metric ORDER BY t.metric LIMIT 1) \
             FROM m WHERE m.metric IS NOT NULL) SELECT metric FROM m WHERE metric IS NOT NULL) m \
             LEFT JOIN LATERAL (SELECT start_ms, version, buckets FROM {quarters} q \
             WHERE q.device = d.device AND q.metric = m.metric ORDER BY q.start_ms DESC LIMIT 1) q ON true ORDER BY 1, 2"
        ));
        let query = sqlx::query(select.sql()).bind(devices).persistent(self.server.is_caching);
        self.server.transaction("read the newest rows", async |c| {
            let rows = query.fetch_all(c).await?;
            let read = |row: &PgRow| {
                let start_ms: Option<i64> = row.try_get(2)?;
                let row_of = |start_ms| {
                    Ok::<_, sqlx::Error>(BucketRow { start_ms, version: row.try_get(3)?, buckets: row.try_get(4)? })
                };
                let newest = start_ms.map(row_of).transpose()?;
                Ok(NewestRow { device: row.try_get(0)?, metric: row.try_get(1)?, row: newest })
            };
            rows.iter().map(read).collect()
        })
    }

    fn describe(&mut self, rollup: &str, device: &Device) -> Result<(), Fault> {
        let devices = name_of(&format!("{rollup}_devices"))?;
        let write = self.server.statement(&format!(
            "INSERT INTO {devices} (device, name, room, home, kind, zone, formerly) VALUES ($1, $2, $3, $4, $5, $6, $7) \
             ON CONFLICT (device) DO UPDATE SET name = excluded.name, room = excluded.room, home = excluded.home, \
             kind = excluded.kind, zone = excluded.zone, formerly = excluded.formerly"
        ));
        let Device { device, described } = device;
        let Described { name, room, home, kind, zone, formerly } = described;
        let query = sqlx::query(write.sql()).bind(device).bind(name).bind(room).bind(home).bind(kind).bind(zone);
        let query = query.bind(formerly).persistent(false);
        self.server.transaction("describe a device", async |c| query.execute(c).await.map(drop))
    }

    fn delete(&mut self, rollup: &str, device: &str) -> Result<u64, Fault> {
        let tables = Tier::ALL.map(|tier| tier.table(rollup)).into_iter().chain([format!("{rollup}_devices")]);
        let delete = |table: String| {
            let table = name_of(&table)?;
            Ok(self.server.statement(&format!("DELETE FROM {table} WHERE device = $1")))
        };
        let deletes: Vec<Statement> = tables.map(delete).collect::<Result<_, Fault>>()?;
        let deleted = self.server.transaction("delete a device", async |c| {
            let mut deleted = 0;
            for delete in &deletes {
                deleted +=
                    sqlx::query(delete.sql()).persistent(false).bind(device).execute(&mut *c).await?.rows_affected();
                failpoint!(K30);
            }
            Ok(deleted)
        });
        failpoint!(K31, if deleted.is_ok());
        deleted
    }

    fn grant(&mut self, rollup: &str, hash: &[u8]) -> Result<Option<Grant>, Fault> {
        let tokens = name_of(&format!("{rollup}_tokens"))?;
        let select =
            self.server.statement(&format!("SELECT holder, home, devices, may_write FROM {tokens} WHERE hash = $1"));
        let query = sqlx::query(select.sql()).bind(hash).persistent(self.server.is_caching);
        self.server.transaction("look for a token", async |c| {
            query.fetch_optional(c).await?.map(|row| grant_of(&row)).transpose()
        })
    }

    fn make_token(&mut self, rollup: &str, hash: &[u8], grant: &Grant) -> Result<(), Fault> {
        let tokens = name_of(&format!("{rollup}_tokens"))?;
        let write = self.server.statement(&format!(
            "INSERT INTO {tokens} (holder, hash, home, devices, may_write) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (holder) DO UPDATE SET hash = excluded.hash, home = excluded.home, devices = excluded.devices, \
             may_write = excluded.may_write, made_at = now()"
        ));
        let Grant { name, home, devices, may_write } = grant;
        let query = sqlx::query(write.sql()).bind(name).bind(hash).bind(home).bind(devices).bind(*may_write);
        let query = query.persistent(false);
        self.server.transaction("make a token", async |c| query.execute(c).await.map(drop))
    }

    fn tokens(&mut self, rollup: &str) -> Result<Vec<Grant>, Fault> {
        let tokens = name_of(&format!("{rollup}_tokens"))?;
        let select =
            self.server.statement(&format!("SELECT holder, home, devices, may_write FROM {tokens} ORDER BY holder"));
        self.server.transaction("list tokens", async |c| {
            let rows = sqlx::query(select.sql()).persistent(false).fetch_all(c).await?;
            rows.iter().map(grant_of).collect()
        })
    }

    fn revoke(&mut self, rollup: &str, holder: &str) -> Result<bool, Fault> {
        let tokens = name_of(&format!("{rollup}_tokens"))?;
        let delete = self.server.statement(&format!("DELETE FROM {tokens} WHERE holder = $1"));
        Ok(self.changed("revoke a token", &delete, &[holder])? > 0)
    }

    fn create(&mut self, rollup: &str) -> Result<Vec<String>, Fault> {
        let mut made = Vec::new();
        for tier in Tier::ALL {
            let (name, cut) = (tier.table(rollup), part_ms(tier).is_some());
            let columns = format!(
                "(device text COLLATE \"C\" NOT NULL, metric text COLLATE \"C\" NOT NULL, start_ms bigint NOT NULL, \
                 version bigint NOT NULL DEFAULT 0, buckets bytea NOT NULL, PRIMARY KEY (device, metric, start_ms)){}",
                if cut { " PARTITION BY RANGE (start_ms)" } else { "" }
            );
            made.extend(self.create_table(&name, &columns)?);
            if cut {
                let parent = name_of(&name)?;
                made.extend(self.create_table(&format!("{name}_default"), &format!("PARTITION OF {parent} DEFAULT"))?);
            }
        }
        made.extend(self.create_table(
            &format!("{rollup}_devices"),
            "(device text COLLATE \"C\" PRIMARY KEY, name text, room text, home text, kind text, zone text, \
             formerly text[] NOT NULL DEFAULT '{}')",
        )?);
        made.extend(self.create_table(
            &format!("{rollup}_tokens"),
            "(holder text PRIMARY KEY, hash bytea NOT NULL UNIQUE, home text, devices text[], \
             may_write boolean NOT NULL DEFAULT false, made_at timestamptz NOT NULL DEFAULT now())",
        )?);
        Ok(made)
    }

    fn maintain(&mut self, rollup: &str, keep: Keep, now_ms: i64) -> Result<(usize, usize), Fault> {
        let (mut made, mut dropped) = (0, 0);
        for (tier, days) in [(Tier::Quarters, keep.quarters_days), (Tier::Hours, keep.hours_days)] {
            let Some(part_ms) = part_ms(tier) else { continue };
            let table = tier.table(rollup);
            let (parent, default) = (name_of(&table)?, format!("{table}_default"));
            if !self.is_there(&name_of(&default)?)? {
                continue; // a table that its owner has made otherwise
            }
            let found = self.partitions(&parent)?;
            let keep_ms = i64::from(days.unwrap_or(BACK_DAYS)) * DAY_MS;
            for range in wanted((now_ms - keep_ms, now_ms), part_ms, &found) {
                made += usize::from(self.attach(&table, &range)?);
            }
            if days.is_none() {
                continue;
            }
            for (name, range) in &found {
                if range.end <= now_ms - keep_ms {
                    dropped += usize::from(self.drop_table(name)?);
                }
            }
            let before = now_ms - keep_ms - tier.row_ms();
            let empty = format!("DELETE FROM {} WHERE start_ms < {before}", name_of(&default)?);
            let empty = self.server.statement(&empty);
            self.changed("empty the default partition of a roll-up", &empty, &[])?;
        }
        Ok((made, dropped))
    }
}

const DAY_MS: i64 = 86_400_000;

/// So many days back partitions are made where a tier is kept for good.
const BACK_DAYS: u32 = 370;

/// The length of the partitions of a tier: a multiple of its rows'. Days are few, and kept for good.
const fn part_ms(tier: Tier) -> Option<i64> {
    match tier {
        Tier::Quarters => Some(7 * DAY_MS),
        Tier::Hours => Some(96 * DAY_MS),
        Tier::Days => None,
    }
}

/// The ranges of a span, and some ahead of it, that no partition covers.
fn wanted((from_ms, now_ms): (i64, i64), part_ms: i64, found: &[(String, Range<i64>)]) -> Vec<Range<i64>> {
    let (first, last) = (from_ms.div_euclid(part_ms), now_ms.div_euclid(part_ms) + AHEAD);
    let is_free = |range: &Range<i64>| found.iter().all(|(_, own)| own.end <= range.start || range.end <= own.start);
    (first..=last).map(|number| number * part_ms..(number + 1) * part_ms).filter(is_free).collect()
}

/// `20261201`, by which a partition is called.
fn day_of(at_ms: i64) -> String {
    let at = time::OffsetDateTime::from_unix_timestamp(at_ms.div_euclid(1_000));
    let day = at.map(|at| at.to_calendar_date());
    day.map_or_else(|_| at_ms.to_string(), |(year, month, day)| format!("{year:04}{:02}{day:02}", u8::from(month)))
}

fn name_of(name: &str) -> Result<Name, Fault> {
    Name::parse(name).map_err(Fault::fatal)
}

fn was_faster(fault: &Fault) -> bool {
    let text = fault.to_string();
    ["SQLSTATE 42P07", "SQLSTATE 42P17", "SQLSTATE 23514"].iter().any(|code| text.contains(code))
}

fn grant_of(row: &PgRow) -> Result<Grant, sqlx::Error> {
    Ok(Grant { name: row.try_get(0)?, home: row.try_get(1)?, devices: row.try_get(2)?, may_write: row.try_get(3)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_cover_what_is_kept_and_some_weeks_ahead_without_overlaps() {
        let week = 7 * DAY_MS;
        let all = wanted((10 * week + 1, 12 * week), week, &[]);
        assert_eq!(all, [10, 11, 12, 13, 14].map(|n| n * week..(n + 1) * week));
        let found = [("p".to_owned(), 11 * week..12 * week), ("q".to_owned(), 13 * week - DAY_MS..14 * week)];
        assert_eq!(wanted((10 * week, 12 * week), week, &found), [10, 14].map(|n| n * week..(n + 1) * week));
        assert_eq!(day_of(0), "19700101");
        for tier in Tier::ALL {
            assert_eq!(part_ms(tier).map_or(0, |part| part % tier.row_ms()), 0);
        }
    }
}
