//! Reads a history from a real Kafka and a real PostgreSQL: the load of `examples/load.rs`. It knows the database, the
//! topics and the group's offsets, and asks no instance for anything.

mod batches;
mod database;
mod topics;
mod watch;

pub use watch::Watch;

use crate::laws::{History, Position, Sample, Source, SourceSample, States};
use database::Database;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tidegate::flow::record::{NextOffset, TopicName, TopicPartition};
use topics::Topics;

pub const PIPELINE: &str = "load";
pub const SOURCES: [&str; 2] = ["load-readings", "load-corrections"];
pub const OUTPUT: &str = "load-changes";
/// The header that says what a record must lead to: `change` or `dead-letter`.
pub const EXPECT_HEADER: &str = "expect";
/// The header with the number under which a record's sender knows it.
pub const RECEIPT_HEADER: &str = "receipt";

/// Outbox rows are kept for a day, and dropped by the hour.
const OUTBOX_KEPT: Duration = Duration::from_hours(25);
/// Longest wait until nothing moves any more.
const STILL_WITHIN: Duration = Duration::from_secs(30);

/// Where the servers are.
#[derive(Clone)]
pub struct Servers {
    pub bootstrap: String,
    pub database_url: String,
}

/// Facts known only to the one who ran the load.
#[derive(Default)]
pub struct Told {
    /// Nothing more is fed, and there was time to work everything off.
    pub is_drained: bool,
    pub samples: Vec<Sample>,
    /// When the last fault ended.
    pub healed_at_ms: Option<i64>,
    /// Receipts of what was acknowledged.
    pub accepted: Vec<u64>,
}

/// Reads everything. The pipeline must stand still: read again until nothing has moved meanwhile.
///
/// # Errors
/// A sentence: a server that did not answer, a pipeline that does not stand still.
pub fn read(servers: &Servers, told: Told) -> Result<History, String> {
    let (mut topics, mut database) = (Topics::connect(&servers.bootstrap)?, Database::new(&servers.database_url)?);
    let until = std::time::Instant::now() + STILL_WITHIN;
    let mut history = loop {
        let before = sources(&topics, &mut database, true)?;
        let history = read_once(&mut topics, &mut database, before)?;
        let after = sources(&topics, &mut database, true)?;
        match history.sources.iter().zip(&after).find(|(before, after)| numbers(before) != numbers(after)) {
            None => break history,
            Some((source, _)) if std::time::Instant::now() > until => {
                return Err(format!("{} moves: the oracle wants the pipeline to stand still", source.place));
            }
            Some(_) => std::thread::sleep(Duration::from_secs(1)),
        }
    };
    history.is_drained = told.is_drained;
    history.samples = told.samples;
    history.healed_at_ms = told.healed_at_ms;
    history.accepted = told.accepted;
    Ok(history)
}

/// The topics before the database: whatever was sent, also in vain, must have been committed there first.
fn read_once(topics: &mut Topics, database: &mut Database, sources: Vec<Source>) -> Result<History, String> {
    let letters = SOURCES.map(|source| format!("{source}-dlt"));
    let outputs = letters.iter().map(String::as_str).chain([OUTPUT]);
    let (mut found, mut counts) = (Vec::new(), BTreeMap::new());
    for name in outputs {
        let topic = TopicName::parse(name)?;
        counts.insert(topic.clone(), topics.count(&topic)?);
        found.extend(topics.outputs(&topic)?);
    }
    let mut inputs = Vec::new();
    for name in SOURCES {
        inputs.extend(topics.inputs(&TopicName::parse(name)?)?);
    }
    Ok(History {
        pipeline: PIPELINE.into(),
        read_at_ms: now_ms(),
        outbox_kept_ms: i64::try_from(OUTBOX_KEPT.as_millis()).map_err(|error| error.to_string())?,
        is_drained: false,
        sources,
        inputs,
        rows: database.rows()?,
        links: database.links()?,
        verdicts: database.verdicts()?,
        outbox: database.outbox()?,
        outputs: found,
        output_partitions: counts,
        states: States::default(), // the load keeps none
        samples: Vec::new(),
        healed_at_ms: None,
        accepted: Vec::new(),
    })
}

/// Every source partition: the positions first, so that P is older than K.
fn sources(topics: &Topics, database: &mut Database, is_stable: bool) -> Result<Vec<Source>, String> {
    let positions = database.positions()?;
    let mut out = Vec::new();
    for name in SOURCES {
        let topic = TopicName::parse(name)?;
        for (place, start, end, committed) in topics.progress(&topic, is_stable)? {
            let position = positions.get(&place).copied();
            out.push(Source { place, start, end, committed, position });
        }
    }
    Ok(out)
}

/// One sample of a pipeline that moves.
fn sample(topics: &Topics, database: &mut Database) -> Result<Sample, String> {
    let sources = sources(topics, database, false)?.into_iter().map(|source| SourceSample {
        position: source.position.map(|position| (position.epoch, position.decided)),
        place: source.place,
        end: source.end,
        committed: source.committed,
    });
    let (idle_ms, lock_wait_ms) = database.waits()?;
    let outputs = topics.stable_ends(&TopicName::parse(OUTPUT)?)?;
    Ok(Sample { at_ms: now_ms(), sources: sources.collect(), outputs, idle_ms, lock_wait_ms })
}

fn numbers(source: &Source) -> (&TopicPartition, NextOffset, Option<NextOffset>, Option<(i64, NextOffset)>) {
    let position = source.position.map(|Position { epoch, decided, .. }| (epoch, decided));
    (&source.place, source.end, source.committed, position)
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
