//! Tidegate's own tables: migrations, maintenance, and the names of producers.

use super::connection::Server;
use super::statements::{self, Limits, Statement};
use super::{partitions, rights};
use crate::flow::table::Table;
use crate::ports::failpoint::failpoint;
use crate::ports::fault::Fault;
use crate::ports::schema::{Maintained, Schema};
use crate::settings::outbox::OutboxSettings;
use crate::settings::postgres::PostgresSettings;
use sqlx::Row;
use sqlx::postgres::PgConnection;
use std::time::Duration;

/// A step of the schema. Never edited once released; a later release adds steps that the release before it can live with
/// (expand and contract: docs/traps.md#two-releases-at-once).
struct Migration {
    version: i32,
    name: &'static str,
    text: &'static str,
}

const MIGRATIONS: [Migration; 6] = [
    Migration { version: 1, name: "position", text: include_str!("migrations/0001_position.sql") },
    Migration { version: 2, name: "outbox", text: include_str!("migrations/0002_outbox.sql") },
    Migration { version: 3, name: "verdict", text: include_str!("migrations/0003_verdict.sql") },
    Migration { version: 4, name: "baseline_slot", text: include_str!("migrations/0004_baseline_slot.sql") },
    Migration { version: 5, name: "repair", text: include_str!("migrations/0005_repair.sql") },
    Migration { version: 6, name: "event_time", text: include_str!("migrations/0006_event_time.sql") },
];

/// First key of our advisory locks, "tide" in ASCII; the second is a hash of the locked name.
const LOCK_SPACE: i32 = 0x7469_6465;

/// The time for which a second runner waits for the first: far longer than a migration of empty tables takes.
const MIGRATION_LOCK_MS: u32 = 60_000;

/// Longest statement of migrations.
const LONG_STATEMENT_MS: u32 = 600_000;

/// Longest sum of the versions of a user's table: a day, since it is done once and kept.
const BASELINE_MS: u32 = 86_400_000;

/// Longest statement about slots. The client waits 5 s longer than the server may take.
const BRIEF_MS: u32 = 3_000;

/// [`Schema`] on Postgres.
#[derive(Debug)]
pub struct PostgresSchema {
    server: Server,
    outbox: OutboxSettings,
    pipeline: String,
}

impl PostgresSchema {
    /// The schema in which `pipeline` runs. Does not connect.
    ///
    /// # Errors
    /// `Fatal` when the settings cannot be used.
    pub fn new(settings: &PostgresSettings, outbox: OutboxSettings, pipeline: &str) -> Result<Self, Fault> {
        let limits = Limits {
            statement: LONG_STATEMENT_MS.max(settings.statement_timeout_ms),
            lock: MIGRATION_LOCK_MS.max(settings.lock_timeout_ms),
            idle: settings.idle_in_transaction_timeout_ms,
        };
        Self::with_limits(settings, outbox, pipeline, limits)
    }

    /// The same for questions that are answered at once or not at all, such as those about slots: an answer that is lost is
    /// missed after 8 s, in time to ask again before a lease of 15 s is over.
    ///
    /// # Errors
    /// The same as [`PostgresSchema::new`].
    pub fn brief(settings: &PostgresSettings, outbox: OutboxSettings, pipeline: &str) -> Result<Self, Fault> {
        let limits = Limits {
            statement: BRIEF_MS.min(settings.statement_timeout_ms),
            lock: BRIEF_MS.min(settings.lock_timeout_ms),
            idle: settings.idle_in_transaction_timeout_ms,
        };
        Self::with_limits(settings, outbox, pipeline, limits)
    }

    /// The same for the base line, whose sums read whole tables.
    ///
    /// # Errors
    /// The same as [`PostgresSchema::new`].
    pub fn patient(settings: &PostgresSettings, outbox: OutboxSettings, pipeline: &str) -> Result<Self, Fault> {
        let limits = Limits {
            statement: BASELINE_MS.max(settings.statement_timeout_ms),
            lock: MIGRATION_LOCK_MS.max(settings.lock_timeout_ms),
            idle: settings.idle_in_transaction_timeout_ms,
        };
        Self::with_limits(settings, outbox, pipeline, limits)
    }

    fn with_limits(
        settings: &PostgresSettings,
        outbox: OutboxSettings,
        pipeline: &str,
        limits: Limits,
    ) -> Result<Self, Fault> {
        if outbox.partition_minutes == 0 || outbox.retention_hours == 0 {
            return Err(Fault::fatal("outbox settings: partition_minutes and retention_hours must be above 0"));
        }
        Ok(Self { server: Server::with_limits(settings, limits)?, outbox, pipeline: pipeline.into() })
    }

    /// Names the server's process of its connection.
    pub(super) fn backend(&self) -> &str {
        self.server.backend()
    }

    /// Notes the base lines of those tables that have none: the sums of their versions, less what the pipeline has added to
    /// them by the same moment. So it may run already.
    ///
    /// # Errors
    /// `Retry` when the database did not answer, or another instance is at it.
    ///
    /// `sources` are the topics of the steps of each table. A table that comes later gets no more of the pipeline's changes
    /// than its own sources have made: what else is not to be found in the older tables was lost there, and shows.
    pub fn note_baselines(&mut self, tables: &[(Table, Vec<String>)]) -> Result<(), Fault> {
        let versioned: Vec<(&str, &str)> = tables
            .iter()
            .filter_map(|(table, _)| Some((table.name.as_str(), table.version_column.as_deref()?)))
            .collect();
        let names: Vec<&str> = versioned.iter().map(|(name, _)| *name).collect();
        for (name, version) in &versioned {
            statements::version_sum(name, version).map_err(Fault::fatal)?;
        }
        let ask = self
            .server
            .statement("SELECT table_name FROM {schema}.baseline WHERE pipeline = $1 AND table_name = ANY($2)");
        let locked = format!("{} baseline of {}", self.server.schema, self.pipeline);
        let (schema, pipeline) = (self.server.schema.clone(), &self.pipeline);
        self.server.transaction("note the base line", async |c| {
            // Asked first, without the lock: the sums read whole tables, and mostly all is noted.
            if noted(c, &ask, pipeline, &names).await?.len() == names.len() {
                return Ok(());
            }
            lock(c, &locked).await?;
            let noted = noted(c, &ask, pipeline, &names).await?;
            let (noted, missing): (Vec<_>, Vec<_>) =
                versioned.iter().copied().partition(|(name, _)| noted.iter().any(|noted| noted == name));
            if missing.is_empty() {
                return Ok(());
            }
            let note = statements::baselines(&schema, &missing, &noted).map_err(sqlx::Error::Protocol)?;
            let [missing, noted] = [missing, noted].map(|all| all.iter().map(|(name, _)| *name).collect::<Vec<_>>());
            let is_missing = |(table, _): &&(Table, Vec<String>)| missing.contains(&table.name.as_str());
            let sources: Vec<&String> = tables.iter().filter(is_missing).flat_map(|(_, sources)| sources).collect();
            let note = sqlx::query(note.sql()).bind(pipeline).bind(missing.clone()).bind(noted).bind(sources);
            note.persistent(false).execute(c).await.map(drop)
        })
    }

    /// Refuses a role that lacks rights on our tables, with the statements that grant them. `run` asks at its start.
    ///
    /// # Errors
    /// `Fatal` with the sentence; `Retry` when the database did not answer.
    pub fn check_rights(&mut self) -> Result<(), Fault> {
        rights::check(&mut self.server)
    }

    /// The server, the database and the schema, without what is secret, for the person who is about to change them.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}, schema {}", self.server.place(), self.server.schema)
    }

    /// The other pipelines of this schema that have positions of these topics, the first few, if this one has no position at
    /// all: it starts for the first time, or one of them was renamed.
    ///
    /// # Errors
    /// `Retry` when the database did not answer.
    pub fn likely_former(&mut self, topics: &[String]) -> Result<Vec<String>, Fault> {
        let ask = self.server.statement(
            "SELECT DISTINCT pipeline FROM {schema}.position WHERE topic = ANY ($2) AND NOT EXISTS \
             (SELECT FROM {schema}.position WHERE pipeline = $1) ORDER BY 1 LIMIT 5",
        );
        let pipeline = &self.pipeline;
        self.server.transaction("look for other pipelines", async |c| {
            let rows = sqlx::query(ask.sql()).bind(pipeline).bind(topics).persistent(false).fetch_all(c).await?;
            rows.iter().map(|row| row.try_get(0)).collect()
        })
    }

    /// The slots whose holder owns no position and whose lease ends within `left_max`, each with its holder. These instances
    /// died, the latest first, and others have claimed their partitions since. A lease with more time left was renewed lately, by an instance
    /// that has just started or has no partition.
    ///
    /// # Errors
    /// `Retry` when the database did not answer.
    pub fn idle_slots(&mut self, left_max: Duration) -> Result<Vec<(u32, String)>, Fault> {
        let ask = self.server.statement(
            "SELECT slot, owner FROM {schema}.slot AS s WHERE pipeline = $1 \
             AND expires_at < clock_timestamp() + $2 * interval '1 millisecond' AND NOT EXISTS \
             (SELECT FROM {schema}.position AS p WHERE p.pipeline = s.pipeline AND p.owner = s.owner) ORDER BY expires_at DESC, slot",
        );
        let pipeline = &self.pipeline;
        let rows = self.server.transaction("look for idle slots", async |c| {
            sqlx::query(ask.sql()).bind(pipeline).bind(millis(left_max)).persistent(false).fetch_all(c).await
        })?;
        let slot = |row: &sqlx::postgres::PgRow| -> Result<_, sqlx::Error> {
            Ok((u32::try_from(row.try_get::<i32, _>(0)?).unwrap_or(u32::MAX), row.try_get(1)?))
        };
        let slots: Result<Vec<_>, sqlx::Error> = rows.iter().map(slot).collect();
        slots.map_err(|error| Fault::corrupt("the table of slots").because(error))
    }

    /// Applies one migration unless it has been applied.
    fn apply(&mut self, migration: &Migration) -> Result<bool, Fault> {
        let Migration { version, name, text } = migration;
        let schema = self.server.schema.to_string();
        let create_schema = self.server.statement("CREATE SCHEMA {schema}");
        let create_log = self.server.statement(
            "CREATE TABLE IF NOT EXISTS {schema}.migration (version integer PRIMARY KEY, name text NOT NULL, \
             applied_at timestamptz NOT NULL DEFAULT now())",
        );
        let is_applied = self.server.statement("SELECT EXISTS (SELECT FROM {schema}.migration WHERE version = $1)");
        let apply = self.server.statement(text);
        let note = self.server.statement("INSERT INTO {schema}.migration (version, name) VALUES ($1, $2)");
        self.server.transaction(&format!("migration {version} ({name})"), async |c| {
            lock(c, &schema).await?;
            // Asked first: CREATE SCHEMA IF NOT EXISTS needs the right to create one even where it exists.
            let has_schema = sqlx::query("SELECT to_regnamespace($1) IS NOT NULL").bind(&schema).persistent(false);
            if !has_schema.fetch_one(&mut *c).await?.try_get::<bool, _>(0)? {
                sqlx::raw_sql(create_schema.sql()).execute(&mut *c).await?;
                failpoint!(K27);
            }
            sqlx::raw_sql(create_log.sql()).execute(&mut *c).await?;
            failpoint!(K27);
            let ask = sqlx::query(is_applied.sql()).bind(*version).persistent(false);
            if ask.fetch_one(&mut *c).await?.try_get(0)? {
                return Ok(false);
            }
            sqlx::raw_sql(apply.sql()).execute(&mut *c).await?;
            failpoint!(K27);
            sqlx::query(note.sql()).bind(*version).bind(*name).persistent(false).execute(c).await?;
            failpoint!(K27);
            Ok(true)
        })
    }
}

/// The beginning of the sentence about a migration that failed, with the way out where a right is missing.
fn cannot_migrate(said: &str) -> String {
    if said.contains("SQLSTATE 42501") {
        return "cannot migrate: the role of database.url lacks a right; GRANT CREATE ON DATABASE to it for the first time, and \
                run it as the same role later"
            .into();
    }
    "cannot migrate".into()
}

/// Those of the tables whose base line is noted.
async fn noted(
    c: &mut PgConnection,
    ask: &Statement,
    pipeline: &str,
    names: &[&str],
) -> Result<Vec<String>, sqlx::Error> {
    let rows = sqlx::query(ask.sql()).bind(pipeline).bind(names).persistent(false).fetch_all(c).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Takes the transaction's advisory lock on `name`. Released with the transaction, so it works behind a pooler.
async fn lock(c: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    let lock = sqlx::query("SELECT pg_advisory_xact_lock($1, hashtext($2))");
    lock.bind(LOCK_SPACE).bind(name).persistent(false).execute(c).await.map(drop)
}

impl Schema for PostgresSchema {
    fn migrate(&mut self) -> Result<Vec<String>, Fault> {
        // A command for a person: a fault that a batch would merely retry ends it.
        self.server.connect().map_err(|fault| {
            if fault.to_string().contains("read-only") { Fault::fatal("cannot migrate").because(fault) } else { fault }
        })?;
        let mut applied = Vec::new();
        for migration in &MIGRATIONS {
            let Migration { version, name, .. } = migration;
            let is_new = self.apply(migration).map_err(|fault| match fault {
                Fault::Corrupt(_) => Fault::fatal(cannot_migrate(&fault.to_string())).because(fault),
                other => other,
            })?;
            if is_new {
                applied.push(format!("{version:04}_{name}"));
            }
        }
        partitions::create_ahead(&mut self.server, self.outbox)?;
        Ok(applied)
    }

    fn verify(&mut self) -> Result<(), Fault> {
        let schema = self.server.schema.clone();
        let log = format!("{schema}.\"migration\"");
        let read = self.server.statement("SELECT version FROM {schema}.migration");
        let applied = self.server.transaction("read the migrations", async |c| {
            let ask = sqlx::query("SELECT to_regclass($1) IS NOT NULL").bind(&log).persistent(false);
            if !ask.fetch_one(&mut *c).await?.try_get::<bool, _>(0)? {
                return Ok(Vec::new());
            }
            let rows = sqlx::query(read.sql()).persistent(false).fetch_all(c).await?;
            rows.iter().map(|row| row.try_get(0)).collect()
        });
        let applied: Vec<i32> = applied.map_err(|fault| rights::explain(fault, &schema.to_string()))?;
        let missing: Vec<_> = MIGRATIONS
            .iter()
            .filter(|migration| !applied.contains(&migration.version))
            .map(|migration| format!("{:04}_{}", migration.version, migration.name))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Fault::fatal(format!(
            "schema {schema} of the database {} lacks {}; run `tidegate migrate` as its owner, or correct database.url",
            self.server.place(),
            missing.join(", ")
        )))
    }

    fn note_baseline(&mut self, table: &Table) -> Result<(), Fault> {
        self.note_baselines(&[(table.clone(), Vec::new())])
    }

    fn maintain(&mut self) -> Result<Maintained, Fault> {
        partitions::maintain(&mut self.server, self.outbox)
    }

    fn lease_slot(&mut self, owner: &str, preferred: Option<u32>, term: Duration) -> Result<u32, Fault> {
        // An owner that asks again gets its slot again. Free are those without a lease that is still running.
        let choose = self.server.statement(
            "SELECT coalesce((SELECT min(slot) FROM {schema}.slot WHERE pipeline = $1 AND owner = $2 \
             AND expires_at > clock_timestamp()), (SELECT min(n)::integer FROM generate_series(0, \
             (SELECT count(*) FROM {schema}.slot WHERE pipeline = $1)) AS n WHERE NOT EXISTS (SELECT FROM {schema}.slot AS s \
             WHERE s.pipeline = $1 AND s.slot = n AND s.expires_at > clock_timestamp())))",
        );
        let lease = self.server.statement(
            "INSERT INTO {schema}.slot AS s (pipeline, slot, owner, expires_at) \
             VALUES ($1, $2, $3, clock_timestamp() + $4 * interval '1 millisecond') ON CONFLICT (pipeline, slot) \
             DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at \
             WHERE s.owner = excluded.owner OR s.expires_at <= clock_timestamp() RETURNING slot",
        );
        // Left by instances that were killed; one that was merely stopped leases another slot.
        let forget = self.server.statement(
            "DELETE FROM {schema}.slot WHERE pipeline = $1 AND expires_at < clock_timestamp() - interval '1 day'",
        );
        let preferred = preferred.map(|slot| i32::try_from(slot).unwrap_or(i32::MAX));
        let locked = format!("{} slots of {}", self.server.schema, self.pipeline);
        let pipeline = &self.pipeline;
        let leased: Option<i32> = self.server.transaction_behind_locks("lease a slot", async |c| {
            lock(c, &locked).await?;
            sqlx::query(forget.sql()).bind(pipeline).persistent(false).execute(&mut *c).await?;
            let slot: i32 = if let Some(slot) = preferred {
                slot
            } else {
                let choose = sqlx::query(choose.sql()).bind(pipeline).bind(owner).persistent(false);
                choose.fetch_one(&mut *c).await?.try_get(0)?
            };
            let lease = sqlx::query(lease.sql()).bind(pipeline).bind(slot).bind(owner).bind(millis(term));
            lease.persistent(false).fetch_optional(c).await?.map(|row| row.try_get(0)).transpose()
        })?;
        leased.and_then(|slot| u32::try_from(slot).ok()).ok_or_else(|| {
            let slot = preferred.map(|slot| format!(" {slot}")).unwrap_or_default();
            Fault::retry(format!("slot{slot} of pipeline {} is leased by another instance", self.pipeline))
        })
    }

    fn renew_slot(&mut self, slot: u32, owner: &str, term: Duration) -> Result<bool, Fault> {
        let renew = self.server.statement(
            "UPDATE {schema}.slot SET expires_at = clock_timestamp() + $4 * interval '1 millisecond' \
             WHERE pipeline = $1 AND slot = $2 AND owner = $3",
        );
        let pipeline = &self.pipeline;
        let slot = i32::try_from(slot).unwrap_or(i32::MAX);
        self.server
            .transaction_behind_locks("renew a slot", async |c| {
                let renew = sqlx::query(renew.sql()).bind(pipeline).bind(slot).bind(owner).bind(millis(term));
                renew.persistent(false).execute(c).await
            })
            .map(|result| result.rows_affected() == 1)
    }

    fn release_slot(&mut self, slot: u32, owner: &str) {
        let release =
            self.server.statement("DELETE FROM {schema}.slot WHERE pipeline = $1 AND slot = $2 AND owner = $3");
        let pipeline = &self.pipeline;
        let slot = i32::try_from(slot).unwrap_or(i32::MAX);
        let released = self.server.transaction_behind_locks("release a slot", async |c| {
            sqlx::query(release.sql()).bind(pipeline).bind(slot).bind(owner).persistent(false).execute(c).await
        });
        if let Err(fault) = released {
            tracing::warn!(slot, %fault, "slot not released; its lease will expire");
        }
    }
}

fn millis(term: Duration) -> i64 {
    i64::try_from(term.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_in_order_and_name_our_schema_everywhere() {
        for (index, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(usize::try_from(migration.version).unwrap(), index + 1);
            for line in migration.text.lines().filter(|line| line.contains("CREATE TABLE") || line.contains(" ON ")) {
                assert!(line.contains("{schema}."), "{line}");
            }
        }
    }
}
