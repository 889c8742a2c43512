//! Tidegate's own tables in SQLite.

use super::connection::{Connection, SqliteSettings, Trouble};
use super::statements::version_sum;
use crate::flow::table::Table;
use crate::ports::Fault;
use crate::ports::schema::{Maintained, Schema};
use sqlx::Row;
use std::time::Duration;

/// All migrations, in order: name and statements.
const MIGRATIONS: [(&str, &str); 2] = [
    ("0001_tables", include_str!("migrations/0001_tables.sql")),
    ("0002_event_time", include_str!("migrations/0002_event_time.sql")),
];

/// Outbox rows deleted in one transaction: short enough that a worker waits for it without noticing.
const DELETED_ROWS_MAX: i64 = 500;

/// Such transactions in one call, so that upkeep after a long pause does not last for ever.
const DELETIONS_MAX: usize = 200;

/// The wall clock in milliseconds since 1970.
macro_rules! now_ms {
    () => {
        "CAST(unixepoch('now', 'subsec') * 1000 AS INTEGER)"
    };
}

/// Work on the schema for one pipeline.
#[derive(Debug)]
pub struct SqliteSchema {
    connection: Connection,
    pipeline: String,
    retention_ms: i64,
}

impl SqliteSchema {
    /// Opens a connection for one pipeline. Outbox rows are kept for `retention` at least.
    ///
    /// # Errors
    /// `Retry` when the file cannot be opened.
    pub fn new(settings: &SqliteSettings, pipeline: &str, retention: Duration) -> Result<Self, Fault> {
        let connection = Connection::open(settings)?;
        Ok(Self { connection, pipeline: pipeline.into(), retention_ms: millis(retention) })
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn applied(connection: &mut Connection) -> Result<Vec<String>, Trouble> {
    let table = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'tidegate_migration'";
    if connection.fetch_optional(sqlx::query(table))?.is_none() {
        return Ok(Vec::new());
    }
    let rows = connection.fetch(sqlx::query("SELECT name FROM tidegate_migration ORDER BY name"))?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

fn apply(connection: &mut Connection, name: &str, statements: &'static str) -> Result<bool, Trouble> {
    connection.transaction(|connection| {
        connection.run(
            "CREATE TABLE IF NOT EXISTS tidegate_migration (name TEXT NOT NULL PRIMARY KEY, \
             applied_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ'))) STRICT, WITHOUT ROWID",
        )?;
        // Asked again under the lock: another runner may have been faster.
        if applied(connection)?.iter().any(|known| known == name) {
            return Ok(false);
        }
        connection.run(statements)?;
        let note = sqlx::query("INSERT INTO tidegate_migration (name) VALUES (?1)").bind(name.to_owned());
        connection.execute(note)?;
        Ok(true)
    })
}

impl Schema for SqliteSchema {
    fn migrate(&mut self) -> Result<Vec<String>, Fault> {
        let mut names = Vec::new();
        for (name, statements) in MIGRATIONS {
            match apply(&mut self.connection, name, statements).map_err(Fault::from) {
                Ok(true) => names.push(name.to_owned()),
                Ok(false) => {}
                Err(fault @ Fault::Retry(_)) => return Err(fault),
                Err(fault) => return Err(Fault::fatal(format!("migration {name}")).because(fault)),
            }
        }
        Ok(names)
    }

    fn verify(&mut self) -> Result<(), Fault> {
        let applied = applied(&mut self.connection)?;
        let missing: Vec<&str> = MIGRATIONS
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| !applied.iter().any(|known| known == name))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let names = missing.join(", ");
        Err(Fault::fatal(format!("migrations are missing in SQLite: {names}; run: tidegate migrate")))
    }

    fn note_baseline(&mut self, table: &Table) -> Result<(), Fault> {
        let Some(column) = &table.version_column else { return Ok(()) };
        let pipeline = self.pipeline.clone();
        self.connection.transaction(|connection| {
            let row = connection.fetch_optional(sqlx::query(version_sum(&table.name, column)))?;
            let sum: i64 = row.map(|row| row.try_get_unchecked(0)).transpose()?.unwrap_or(0);
            let note = sqlx::query(
                "INSERT INTO tidegate_baseline (pipeline, table_name, version_sum) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            );
            connection.execute(note.bind(pipeline).bind(table.name.clone()).bind(sum))
        })?;
        Ok(())
    }

    fn maintain(&mut self) -> Result<Maintained, Fault> {
        let mut dropped = 0;
        while dropped < DELETIONS_MAX {
            let query = sqlx::query(concat!(
                "DELETE FROM tidegate_outbox WHERE rowid IN (SELECT o.rowid FROM tidegate_outbox o ",
                "JOIN tidegate_position p USING (pipeline, topic, partition) ",
                "WHERE o.pipeline = ?1 AND o.source_offset < p.published AND o.created_at < ",
                now_ms!(),
                " - ?2 LIMIT ?3)"
            ));
            let query = query.bind(self.pipeline.clone()).bind(self.retention_ms).bind(DELETED_ROWS_MAX);
            if self.connection.execute(query)? == 0 {
                break;
            }
            dropped += 1;
        }
        Ok(Maintained { created: 0, dropped })
    }

    fn lease_slot(&mut self, owner: &str, preferred: Option<u32>, term: Duration) -> Result<u32, Fault> {
        let (pipeline, term) = (self.pipeline.clone(), millis(term));
        let leased = self.connection.transaction(|connection| {
            let taken = sqlx::query(concat!(
                "SELECT slot, owner = ?2 FROM tidegate_slot WHERE pipeline = ?1 AND (owner = ?2 OR until > ",
                now_ms!(),
                ") ORDER BY slot"
            ));
            let rows = connection.fetch(taken.bind(pipeline.clone()).bind(owner.to_owned()))?;
            let taken = rows
                .iter()
                .map(|row| Ok((row.try_get::<u32, _>(0)?, row.try_get_unchecked::<i64, _>(1)? != 0)))
                .collect::<Result<Vec<_>, sqlx::Error>>()?;
            let is_free = |slot: u32| taken.iter().all(|(other, is_mine)| *other != slot || *is_mine);
            let mine = taken.iter().find(|(_, is_mine)| *is_mine).map(|(slot, _)| *slot);
            let slot = preferred.or(mine).or_else(|| (0..=u32::MAX).find(|slot| is_free(*slot)));
            let Some(slot) = slot.filter(|slot| is_free(*slot)) else { return Ok(None) };
            let lease = sqlx::query(concat!(
                "INSERT OR REPLACE INTO tidegate_slot (pipeline, slot, owner, until) VALUES (?1, ?2, ?3, ",
                now_ms!(),
                " + ?4)"
            ));
            connection.execute(lease.bind(pipeline).bind(slot).bind(owner.to_owned()).bind(term))?;
            Ok(Some(slot))
        })?;
        leased.ok_or_else(|| Fault::retry(format!("slot {preferred:?} is leased by somebody else")))
    }

    fn renew_slot(&mut self, slot: u32, owner: &str, term: Duration) -> Result<bool, Fault> {
        let renew = sqlx::query(concat!(
            "UPDATE tidegate_slot SET until = ",
            now_ms!(),
            " + ?4 WHERE pipeline = ?1 AND slot = ?2 AND owner = ?3"
        ));
        let renew = renew.bind(self.pipeline.clone()).bind(slot).bind(owner.to_owned()).bind(millis(term));
        Ok(self.connection.execute(renew)? == 1)
    }

    fn release_slot(&mut self, slot: u32, owner: &str) {
        let release = sqlx::query("DELETE FROM tidegate_slot WHERE pipeline = ?1 AND slot = ?2 AND owner = ?3");
        // A lease that cannot be given back ends by its term.
        drop(self.connection.execute(release.bind(self.pipeline.clone()).bind(slot).bind(owner.to_owned())));
    }
}
