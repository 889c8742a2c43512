//! The journal of the in-process log: one transaction an entry.

use super::connection::{Connection, SqliteSettings, Trouble};
use super::outbox::{decode_headers, encode_headers, topic};
use crate::flow::record::{NextOffset, Offset, Partition, Timestamp, TopicName, TopicPartition};
use crate::ports::Fault;
use crate::ports::journal::{Journal, JournalContents, JournalEntry, JournalRecord};
use crate::ports::source::Committed;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// Keeps the in-process log in a file. A file of its own serves best: each commit of the log takes the write lock.
#[derive(Debug)]
pub struct SqliteJournal {
    connection: Connection,
}

impl SqliteJournal {
    /// Opens the file and creates the journal's tables where they are missing.
    ///
    /// # Errors
    /// `Retry` when the file cannot be opened or written.
    pub fn new(settings: &SqliteSettings) -> Result<Self, Fault> {
        let mut connection = Connection::open(settings)?;
        connection.transaction(|connection| connection.run(include_str!("migrations/journal.sql")))?;
        Ok(Self { connection })
    }
}

fn place(row: &SqliteRow, first: usize) -> Result<TopicPartition, Trouble> {
    Ok(TopicPartition::new(topic(row, first)?, Partition(row.try_get(first + 1)?)))
}

fn record(row: &SqliteRow) -> Result<JournalRecord, Trouble> {
    Ok(JournalRecord {
        place: place(row, 0)?,
        offset: Offset(row.try_get(2)?),
        timestamp: Timestamp(row.try_get(3)?),
        key: row.try_get(4)?,
        value: row.try_get(5)?,
        headers: decode_headers(row.try_get(6)?)?,
    })
}

fn offset(row: &SqliteRow) -> Result<(String, TopicPartition, Committed), Trouble> {
    let committed = Committed { next_offset: NextOffset(row.try_get(3)?), metadata: row.try_get(4)? };
    Ok((row.try_get(0)?, place(row, 1)?, committed))
}

/// Forgets everything about a topic.
fn forget(connection: &mut Connection, topic: &TopicName) -> Result<(), Trouble> {
    for statement in [
        "DELETE FROM journal_record WHERE topic = ?1",
        "DELETE FROM journal_end WHERE topic = ?1",
        "DELETE FROM journal_committed WHERE topic = ?1",
        "DELETE FROM journal_topic WHERE topic = ?1",
    ] {
        connection.execute(sqlx::query(statement).bind(topic.to_string()))?;
    }
    Ok(())
}

impl Journal for SqliteJournal {
    fn load(&mut self) -> Result<JournalContents, Fault> {
        let read = |connection: &mut Connection| -> Result<JournalContents, Trouble> {
            let topics = connection.fetch(sqlx::query("SELECT topic, topic_id, partitions FROM journal_topic"))?;
            let records = connection.fetch(sqlx::query(
                "SELECT topic, partition, record_offset, timestamp, key, value, headers FROM journal_record \
                 ORDER BY topic, partition, record_offset",
            ))?;
            let offsets = connection.fetch(sqlx::query(
                "SELECT group_id, topic, partition, next_offset, metadata FROM journal_committed",
            ))?;
            let ends = connection.fetch(sqlx::query("SELECT topic, partition, next_offset FROM journal_end"))?;
            let kept = |row: &SqliteRow| Ok((topic(row, 0)?, row.try_get(1)?, Partition(row.try_get(2)?)));
            let end = |row: &SqliteRow| Ok((place(row, 0)?, NextOffset(row.try_get(2)?)));
            Ok(JournalContents {
                topics: topics.iter().map(kept).collect::<Result<_, Trouble>>()?,
                records: records.iter().map(record).collect::<Result<_, Trouble>>()?,
                offsets: offsets.iter().map(offset).collect::<Result<_, Trouble>>()?,
                ends: ends.iter().map(end).collect::<Result<_, Trouble>>()?,
            })
        };
        Ok(self.connection.transaction(read)?)
    }

    fn topic(&mut self, topic: &TopicName, id: &str, count: Partition) -> Result<(), Fault> {
        self.connection.transaction(|connection| {
            // A topic of this name that was deleted meanwhile: another id, another content.
            forget(connection, topic)?;
            let keep = sqlx::query("INSERT INTO journal_topic (topic, topic_id, partitions) VALUES (?1, ?2, ?3)");
            connection.execute(keep.bind(topic.to_string()).bind(id.to_owned()).bind(count.0))
        })?;
        Ok(())
    }

    fn append(&mut self, entry: &JournalEntry) -> Result<(), Fault> {
        self.connection.transaction(|connection| {
            for record in &entry.records {
                let keep = sqlx::query(
                    "INSERT INTO journal_record (topic, partition, record_offset, timestamp, key, value, headers) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                );
                let keep = keep.bind(record.place.topic.to_string()).bind(record.place.partition.0);
                let keep = keep.bind(record.offset.0).bind(record.timestamp.0);
                let keep = keep.bind(record.key.clone()).bind(record.value.clone());
                connection.execute(keep.bind(encode_headers(&record.headers)))?;
            }
            for (place, end) in &entry.ends {
                let keep = sqlx::query(
                    "INSERT OR REPLACE INTO journal_end (topic, partition, next_offset) VALUES (?1, ?2, ?3)",
                );
                connection.execute(keep.bind(place.topic.to_string()).bind(place.partition.0).bind(end.0))?;
            }
            for (group, place, committed) in &entry.offsets {
                let keep = sqlx::query(
                    "INSERT OR REPLACE INTO journal_committed (group_id, topic, partition, next_offset, metadata) \
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                );
                let keep = keep.bind(group.clone()).bind(place.topic.to_string()).bind(place.partition.0);
                connection.execute(keep.bind(committed.next_offset.0).bind(committed.metadata.clone()))?;
            }
            Ok(())
        })?;
        Ok(())
    }
}
