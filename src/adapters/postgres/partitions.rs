//! Range partitions of the outbox and the ledger: made ahead of time, dropped whole.
//!
//! A row whose range has no partition goes to the default partition, so an insert never fails because maintenance is late
//! or a clock jumped. A range of which the default partition holds rows is never created afterwards (attaching it would
//! have to move them): it stays in the default partition, which is emptied by DELETE under the same two conditions.
//! Attaching locks the default partition against every reader, so a dump that runs for hours keeps it from being done: hours
//! are made ahead, so that no row need go there meanwhile.
//! Dropping takes a brief exclusive lock on the parent, and gives up rather than hold writers back
//! (docs/traps.md#ddl-queues-everybody).

use super::connection::Server;
use super::rights::ACT_AS;
use super::statements::{self, Name};
use crate::flow::record::Timestamp;
use crate::ports::failpoint::failpoint;
use crate::ports::fault::Fault;
use crate::ports::guard::{self, Guard};
use crate::ports::schema::Maintained;
use crate::settings::outbox::OutboxSettings;
use sqlx::Row;
use std::ops::Range;

/// For how long partitions are kept ready beyond the one in use: a dump, or a transaction that somebody forgot, may last so
/// long.
const AHEAD_MINUTES: i64 = 12 * 60;
/// The least and the most of them: maintenance may be late by two, and each costs a reader of the whole outbox a look.
const AHEAD_MIN: i64 = 3;
const AHEAD_MAX: i64 = 48;

/// Most rows deleted from a default partition in one transaction: some 0.1 s of work, so that no batch waits for it.
const DELETE_MAX: i64 = 10_000;
/// Most such transactions in one run, each minute: as many rows as a busy pipeline writes meanwhile, and more.
const DELETES_MAX: usize = 60;

/// The time for which DDL may queue for its lock: every batch behind it in the queue waits with it. In use, batches hold
/// their locks for some 40 ms.
const DDL_LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = 500";

/// A partitioned table of ours.
#[derive(Clone, Copy, Debug)]
struct Parent {
    table: &'static str,
    /// The column it is cut by.
    instant: &'static str,
}

const PARENTS: [Parent; 2] =
    [Parent { table: "outbox", instant: "created_at" }, Parent { table: "verdict", instant: "decided_at" }];

/// A partition: its name and its range in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    name: String,
    range: Range<i64>,
}

/// The database's clock, and the partitions of one table.
struct Parts {
    now_ms: i64,
    parts: Vec<Part>,
}

/// Makes partitions ahead. Answers how many.
pub(super) fn create_ahead(server: &mut Server, settings: OutboxSettings) -> Result<usize, Fault> {
    let mut created = 0;
    for parent in PARENTS {
        let found = find(server, parent)?;
        for range in wanted(found.now_ms, settings.partition_minutes, &found.parts) {
            match create(server, parent, &range)? {
                Creation::Done => created += 1,
                Creation::NotNeeded => {}
                Creation::Locked => break, // the next ones would wait in vain, too, and all batches with them
            }
        }
    }
    Ok(created)
}

/// Makes partitions ahead, and drops old partitions whose rows are published.
pub(super) fn maintain(server: &mut Server, settings: OutboxSettings) -> Result<Maintained, Fault> {
    let created = create_ahead(server, settings)?;
    let mut dropped = 0;
    let retention_ms = i64::from(settings.retention_hours) * 3_600_000;
    for parent in PARENTS {
        let found = find(server, parent)?;
        let is_past = |part: &&Part| part.range.end <= found.now_ms - retention_ms;
        for part in found.parts.iter().filter(is_past) {
            dropped += usize::from(drop_if_published(server, parent, part)?);
        }
        empty_default(server, parent, retention_ms)?;
    }
    Ok(Maintained { created, dropped })
}

/// The ranges of time between the partitions of the outbox: they have been dropped, and older ones are kept.
pub(super) fn gaps(server: &mut Server) -> Result<Vec<(Timestamp, Timestamp)>, Fault> {
    let [outbox, _] = PARENTS;
    Ok(between(&find(server, outbox)?.parts))
}

fn between(parts: &[Part]) -> Vec<(Timestamp, Timestamp)> {
    let gaps = parts.windows(2).filter_map(|pair| match pair {
        [one, next] if one.range.end < next.range.start => {
            Some((Timestamp(one.range.end), Timestamp(next.range.start)))
        }
        _ => None,
    });
    gaps.collect()
}

/// The ranges to make: the one in use and those ahead of it, less the ranges that others cover already.
fn wanted(now_ms: i64, partition_minutes: u32, parts: &[Part]) -> Vec<Range<i64>> {
    let length = i64::from(partition_minutes.max(1)) * 60_000;
    let current = now_ms.div_euclid(length);
    let is_free =
        |range: &Range<i64>| parts.iter().all(|part| part.range.end <= range.start || range.end <= part.range.start);
    let ahead = (AHEAD_MINUTES * 60_000 / length).clamp(AHEAD_MIN, AHEAD_MAX);
    (current..=current + ahead).map(|slot| slot * length..(slot + 1) * length).filter(is_free).collect()
}

fn find(server: &mut Server, parent: Parent) -> Result<Parts, Fault> {
    let Parent { table, .. } = parent;
    let list = server.statement(&format!(
        "SELECT c.relname::text, \
         (extract(epoch FROM (regexp_match(b.bound, 'FROM \\(''([^'']+)''\\)'))[1]::timestamptz) * 1000)::bigint, \
         (extract(epoch FROM (regexp_match(b.bound, 'TO \\(''([^'']+)''\\)'))[1]::timestamptz) * 1000)::bigint, \
         (extract(epoch FROM clock_timestamp()) * 1000)::bigint \
         FROM (SELECT 1) AS one LEFT JOIN (pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid \
         JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid)) AS b(bound) ON b.bound <> 'DEFAULT') \
         ON i.inhparent = '{{schema}}.{table}'::regclass ORDER BY 2"
    ));
    server.transaction("list partitions", async |c| {
        let rows = sqlx::query(list.sql()).persistent(false).fetch_all(c).await?;
        let now_ms = rows.first().map_or(Ok(0), |row| row.try_get(3))?;
        let mut parts = Vec::new();
        for row in &rows {
            if let (Some(name), Some(start), Some(end)) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?) {
                parts.push(Part { name, range: start..end });
            }
        }
        Ok(Parts { now_ms, parts })
    })
}

/// The outcome for a partition that was to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Creation {
    Done,
    /// The default partition holds rows of its range, or another maintainer was faster.
    NotNeeded,
    /// Somebody has the default partition's lock.
    Locked,
}

/// Creates one partition, if it can be.
fn create(server: &mut Server, parent: Parent, range: &Range<i64>) -> Result<Creation, Fault> {
    let Parent { table, instant } = parent;
    let name = name_of(parent, range.start)?;
    let (start, end) = (bound(range.start), bound(range.end));
    // Made apart and then attached: CREATE … PARTITION OF would lock the parent against every writer.
    let create = statements::on_table(
        &server.schema,
        &name,
        &format!(
            "CREATE TABLE {{schema}}.{{table}} (LIKE {{schema}}.{table} INCLUDING DEFAULTS) \
             WITH (autovacuum_vacuum_insert_threshold = -1); \
             ALTER TABLE {{schema}}.{table} ATTACH PARTITION {{schema}}.{{table}} FOR VALUES FROM ({start}) TO ({end})"
        ),
    );
    let held = server.statement(&format!(
        "SELECT EXISTS (SELECT FROM {{schema}}.{table}_default WHERE {instant} >= {start} AND {instant} < {end})"
    ));
    // Its partitions stay the owner's: a migration that alters the parent alters them too.
    let become_owner = server.statement(&format!(
        "SELECT set_config('role', pg_get_userbyid(relowner)::text, true) FROM pg_class \
         WHERE oid = '{{schema}}.{table}'::regclass AND pg_has_role(relowner, {ACT_AS})"
    ));
    let outcome = server.transaction("create a partition", async |c| {
        sqlx::raw_sql(DDL_LOCK_TIMEOUT).execute(&mut *c).await?;
        if sqlx::query(held.sql()).persistent(false).fetch_one(&mut *c).await?.try_get(0)? {
            return Ok(Creation::NotNeeded);
        }
        sqlx::query(become_owner.sql()).persistent(false).execute(&mut *c).await?;
        sqlx::raw_sql(create.sql()).execute(c).await.map(|_| Creation::Done)
    });
    match outcome {
        // A second maintainer made it, or a row of the range came to the default partition.
        Err(fault) if is_taken(&fault) => Ok(Creation::NotNeeded),
        Err(fault) if fault.is_retry() => Ok(Creation::Locked),
        outcome => outcome,
    }
}

/// Drops one partition if all its rows are published. A row whose position is gone counts as not published.
fn drop_if_published(server: &mut Server, parent: Parent, part: &Part) -> Result<bool, Fault> {
    let Ok(name) = Name::parse(&part.name) else { return Ok(false) };
    let table = parent.table;
    let schema = server.schema.clone();
    // The few sources of a partition are found by skipping through its primary key; then one probe for each.
    let is_published = statements::on_table(
        &schema,
        &name,
        "WITH RECURSIVE source AS ( \
         (SELECT pipeline, topic, partition FROM {schema}.{table} ORDER BY pipeline, topic, partition LIMIT 1) UNION ALL \
         SELECT n.pipeline, n.topic, n.partition FROM source AS s, LATERAL ( \
         SELECT o.pipeline, o.topic, o.partition FROM {schema}.{table} AS o \
         WHERE (o.pipeline, o.topic, o.partition) > (s.pipeline, s.topic, s.partition) \
         ORDER BY o.pipeline, o.topic, o.partition LIMIT 1) AS n) \
         SELECT NOT EXISTS (SELECT FROM source AS s LEFT JOIN {schema}.position AS p USING (pipeline, topic, partition) \
         WHERE p.published IS NULL OR EXISTS (SELECT FROM {schema}.{table} AS o WHERE o.pipeline = s.pipeline \
         AND o.topic = s.topic AND o.partition = s.partition AND o.source_offset >= p.published))",
    );
    let lock = server.statement(&format!("LOCK TABLE ONLY {{schema}}.{table} IN ACCESS EXCLUSIVE MODE"));
    let drop_it = statements::on_table(&schema, &name, "DROP TABLE {schema}.{table}");
    let must_be_published = must_be_published(parent);
    if must_be_published {
        let ask = is_published.sql();
        let is_published = server.transaction("look at a partition", async |c| {
            sqlx::query(ask).persistent(false).fetch_one(c).await?.try_get::<bool, _>(0)
        })?;
        if !is_published {
            return Ok(false);
        }
    }
    let outcome = server.transaction("drop a partition", async |c| {
        sqlx::raw_sql(DDL_LOCK_TIMEOUT).execute(&mut *c).await?;
        sqlx::raw_sql(lock.sql()).execute(&mut *c).await?;
        // Asked again under the lock: a row may have come since.
        if must_be_published
            && !sqlx::query(is_published.sql()).persistent(false).fetch_one(&mut *c).await?.try_get::<bool, _>(0)?
        {
            return Ok(false);
        }
        sqlx::raw_sql(drop_it.sql()).execute(c).await?;
        failpoint!(K12);
        Ok(true)
    });
    failpoint!(K13, if matches!(outcome, Ok(true)));
    match outcome {
        Err(fault) if fault.is_retry() => Ok(false), // the lock was not to be had: the next run tries again
        outcome => outcome,
    }
}

/// The ledger is not published, so age alone decides there.
fn must_be_published(parent: Parent) -> bool {
    parent.table == "outbox" && !guard::is_off(Guard::VerifiedK)
}

fn empty_default(server: &mut Server, parent: Parent, retention_ms: i64) -> Result<u64, Fault> {
    let Parent { table, instant } = parent;
    let published = if must_be_published(parent) {
        "AND EXISTS (SELECT FROM {schema}.position AS p WHERE p.pipeline = d.pipeline AND p.topic = d.topic \
         AND p.partition = d.partition AND d.source_offset < p.published)"
    } else {
        ""
    };
    // Each DELETE starts behind the last row of the one before, so that none looks at deleted rows again.
    let delete = server.statement(&format!(
        "WITH gone AS (DELETE FROM {{schema}}.{table}_default WHERE ctid = ANY (ARRAY ( \
         SELECT d.ctid FROM {{schema}}.{table}_default AS d WHERE d.ctid > $3::tid \
         AND d.{instant} < clock_timestamp() - $1 * interval '1 millisecond' {published} LIMIT $2)) RETURNING ctid) \
         SELECT count(*), max(ctid)::text FROM gone"
    ));
    let (mut behind, mut deleted) = ("(0,0)".to_owned(), 0);
    for _ in 0..DELETES_MAX {
        let (rows, last) = server.transaction("empty the default partition", async |c| {
            let query = sqlx::query(delete.sql()).bind(retention_ms).bind(DELETE_MAX).bind(&behind).persistent(false);
            let row = query.fetch_one(c).await?;
            Ok((row.try_get::<i64, _>(0)?, row.try_get::<Option<String>, _>(1)?))
        })?;
        deleted += rows.unsigned_abs();
        match last {
            Some(last) if rows >= DELETE_MAX => behind = last,
            _ => break,
        }
    }
    Ok(deleted)
}

/// `outbox_20261122t1800`, by the start of its range in UTC.
fn name_of(parent: Parent, start_ms: i64) -> Result<Name, Fault> {
    let at = time::OffsetDateTime::from_unix_timestamp(start_ms.div_euclid(1000))
        .map_err(|error| Fault::corrupt("the database's clock is outside years 0 to 9999").because(error))?;
    let (year, month, day) = at.to_calendar_date();
    let name = format!("{}_{year:04}{:02}{day:02}t{:02}{:02}", parent.table, u8::from(month), at.hour(), at.minute());
    Name::parse(&name).map_err(Fault::corrupt)
}

/// An instant as a literal.
fn bound(ms: i64) -> String {
    format!("'{}'", Timestamp(ms).to_rfc3339())
}

/// 42P07 duplicate table, 42P17 overlapping range, 23514 a row of the range in the default partition: somebody was faster.
fn is_taken(fault: &Fault) -> bool {
    let text = fault.to_string();
    ["SQLSTATE 42P07", "SQLSTATE 42P17", "SQLSTATE 23514", "SQLSTATE 23505"].iter().any(|code| text.contains(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    #[test]
    fn the_range_in_use_and_half_a_day_more_are_wanted_unless_something_covers_them() {
        assert_eq!(wanted(10 * HOUR + 1, 60, &[]).first(), Some(&(10 * HOUR..11 * HOUR)));
        let counts = [1, 60, 360, 1_440].map(|minutes| wanted(10 * HOUR, minutes, &[]).len());
        assert_eq!(counts, [49, 13, 4, 4]);
        let covered = [Part { name: "p".into(), range: 11 * HOUR..12 * HOUR }];
        assert_eq!(wanted(10 * HOUR, 60, &covered).len(), 12);
        // After the length was changed, a range that would overlap waits until time has passed it.
        assert_eq!(wanted(10 * HOUR, 120, &covered).first(), Some(&(12 * HOUR..14 * HOUR)));
    }

    #[test]
    fn the_gaps_lie_between_the_partitions() {
        let part = |range: Range<i64>| Part { name: "p".into(), range };
        let parts = [part(0..10), part(10..20), part(40..50), part(60..70)];
        assert_eq!(between(&parts), [(Timestamp(20), Timestamp(40)), (Timestamp(50), Timestamp(60))]);
        assert_eq!((between(&parts[..1]), between(&[])), (vec![], vec![]));
    }

    #[test]
    fn a_partition_is_named_by_its_start() {
        let name = name_of(PARENTS[0], 1_769_860_800_000).unwrap();
        assert_eq!(name.to_string(), "\"outbox_20260131t1200\"");
        assert_eq!(bound(0), "'1970-01-01T00:00:00.000Z'");
    }
}
