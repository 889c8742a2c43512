//! One job: the same exactly-once steps without an engine, as fast as they can be written by hand.
//!
//! Per worker one database thread (poll, position by compare-and-set, `SELECT … FOR NO KEY UPDATE`, one `UNNEST` update,
//! one `UNNEST` outbox insert, commit) and one Kafka thread (a transaction with the offsets last). No takeover, no
//! rebalance, no error handling: whatever fails ends the process.

use crate::Outcome;
use crate::child::RowsRun;
use crate::clients::{self, Transactions};
use crate::load::{Notice, Notification, change, threshold};
use crate::rig::tables::Connection;
use crate::rig::topics::PARTITIONS;
use crate::system::{Progress, say, worker};
use crossbeam_channel::{Receiver, Sender, bounded};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, Producer};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio_postgres::Statement;

/// Batches that the database may be ahead of Kafka.
const AHEAD: usize = 8;

/// The messages and positions that a database transaction leaves to publish.
struct Publication {
    records: u64,
    /// Next offset by partition.
    positions: BTreeMap<i32, i64>,
    /// Key and value, in order within a partition.
    messages: Vec<(Vec<u8>, Vec<u8>)>,
}

pub fn run(child: &RowsRun) -> Outcome {
    let progress = Arc::new(Progress::default());
    let mut threads = Vec::new();
    for number in 0..child.workers {
        let partitions = clients::share(PARTITIONS, child.workers, number);
        let consumer = clients::consumer(&child.brokers, &child.group, &child.input, partitions, false)?;
        let metadata = consumer.group_metadata().ok_or("no group metadata")?;
        let database = Database::open(&child.database)?;
        let (send, receive) = bounded(AHEAD);
        let (settings, counts) = (child.clone(), Arc::clone(&progress));
        threads.push(worker("database", move || read(&settings, &consumer, &database, &send, &counts))?);
        let (settings, counts) = (child.clone(), Arc::clone(&progress));
        let producer = clients::producer(&child.brokers, &format!("{}-{number}", child.group))?;
        threads.push(worker("kafka", move || publish(&settings, &producer, &metadata, &receive, &counts))?);
    }
    say("ready");
    progress.tell(child.records, |_| Ok(()))?;
    for thread in threads {
        let _ = thread.join();
    }
    Ok(())
}

fn publish(
    child: &RowsRun,
    producer: &Transactions,
    metadata: &ConsumerGroupMetadata,
    publications: &Receiver<Publication>,
    progress: &Progress,
) -> Outcome {
    while let Ok(first) = publications.recv() {
        producer.begin_transaction()?;
        let (mut records, mut positions) = (0, BTreeMap::new());
        for publication in std::iter::once(first).chain(publications.try_iter()) {
            for (key, value) in &publication.messages {
                let record = BaseRecord::to(&child.output).key(key).payload(value);
                producer.send(record).map_err(|(error, _)| error)?;
            }
            records += publication.records;
            positions.extend(publication.positions);
        }
        clients::commit(producer, metadata, &child.input, &positions)?;
        progress.published.fetch_add(records, Ordering::AcqRel);
    }
    Ok(())
}

/// One notification on its way.
struct Pending {
    partition: i32,
    offset: i64,
    key: Vec<u8>,
    notification: Notification,
}

fn read(
    child: &RowsRun,
    consumer: &BaseConsumer,
    database: &Database,
    publications: &Sender<Publication>,
    progress: &Progress,
) -> Outcome {
    let mut next_offsets: BTreeMap<i32, i64> = BTreeMap::new();
    let mut batch: Vec<Pending> = Vec::with_capacity(child.batch);
    while !progress.is_stopping() {
        collect(child, consumer, &mut batch, progress)?;
        if batch.is_empty() {
            continue;
        }
        let publication = database.commit(&batch, &mut next_offsets, threshold(child.share))?;
        progress.handled.fetch_add(publication.records, Ordering::AcqRel);
        publications.send(publication)?;
        batch.clear();
    }
    Ok(())
}

/// Until the batch is full, or its first record is old enough.
fn collect(child: &RowsRun, consumer: &BaseConsumer, batch: &mut Vec<Pending>, progress: &Progress) -> Outcome {
    let mut due: Option<Instant> = None;
    while batch.len() < child.batch && !progress.is_stopping() {
        let wait = due.map_or(Duration::from_millis(50), |due| due.saturating_duration_since(Instant::now()));
        let Some(message) = consumer.poll(wait) else {
            if due.is_some_and(|due| due <= Instant::now()) {
                break;
            }
            continue;
        };
        let message = message?;
        due.get_or_insert_with(|| Instant::now() + Duration::from_millis(child.age_ms));
        batch.push(Pending {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().ok_or("no key")?.to_vec(),
            notification: serde_json::from_slice(message.payload().ok_or("no value")?)?,
        });
    }
    Ok(())
}

/// A connection with its statements.
struct Database {
    connection: Connection,
    advance: Statement,
    select: Statement,
    update: Statement,
    append: Statement,
}

/// A row of the batch.
struct Row {
    id: i64,
    v: f64,
    n: i64,
    version: i64,
}

impl Database {
    fn open(url: &str) -> Outcome<Self> {
        let connection = Connection::open(url)?;
        let prepare = |sql| connection.wait(connection.client.prepare(sql));
        Ok(Self {
            advance: prepare(
                "UPDATE bench_positions p SET next_offset = m.next FROM unnest($1::int[], $2::bigint[], $3::bigint[])
                 m(partition, expected, next) WHERE p.partition = m.partition AND p.next_offset = m.expected",
            )?,
            select: prepare(
                "SELECT id, v, n, version FROM bench_rows WHERE id = ANY($1::bigint[]) ORDER BY id FOR NO KEY UPDATE",
            )?,
            update: prepare(
                "UPDATE bench_rows r SET v = u.v, n = u.n, version = u.version
                 FROM unnest($1::bigint[], $2::float8[], $3::bigint[], $4::bigint[]) u(id, v, n, version)
                 WHERE r.id = u.id",
            )?,
            append: prepare(
                "INSERT INTO bench_outbox SELECT * FROM unnest($1::int[], $2::bigint[], $3::bytea[], $4::bytea[])",
            )?,
            connection,
        })
    }

    fn commit(&self, batch: &[Pending], next_offsets: &mut BTreeMap<i32, i64>, threshold: f64) -> Outcome<Publication> {
        let client = &self.connection.client;
        let mut positions: BTreeMap<i32, i64> = BTreeMap::new();
        for pending in batch {
            positions.insert(pending.partition, pending.offset + 1);
        }
        self.connection.run("BEGIN")?;
        let (partitions, nexts): (Vec<i32>, Vec<i64>) = positions.iter().unzip();
        let expected: Vec<i64> = partitions.iter().map(|p| next_offsets.get(p).copied().unwrap_or(0)).collect();
        let moved = self.connection.wait(client.execute(&self.advance, &[&partitions, &expected, &nexts]))?;
        if moved != partitions.len() as u64 {
            return Err("a position was not where it should be".into());
        }

        let mut ids: Vec<i64> = batch.iter().map(|pending| pending.notification.id).collect();
        ids.sort_unstable();
        ids.dedup();
        let found = self.connection.wait(client.query(&self.select, &[&ids]))?;
        let row = |row: &tokio_postgres::Row| Row { id: row.get(0), v: row.get(1), n: row.get(2), version: row.get(3) };
        let mut rows: Vec<Row> = found.iter().map(row).collect();

        let (mut messages, mut offsets, mut sources) = (Vec::new(), Vec::new(), Vec::new());
        for Pending { partition, offset, key, notification } in batch {
            let index = rows.binary_search_by_key(&notification.id, |row| row.id).map_err(|_| "a row is missing")?;
            let row = &mut rows[index];
            let change = change(row.id, row.v);
            if change >= threshold {
                let notice = Notice { id: row.id, n: row.n, change, at: notification.at };
                messages.push((key.clone(), serde_json::to_vec(&notice)?));
                offsets.push(*offset);
                sources.push(*partition);
            }
            row.v += change;
            row.n += 1;
            row.version += 1;
        }

        let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        let vs: Vec<f64> = rows.iter().map(|row| row.v).collect();
        let ns: Vec<i64> = rows.iter().map(|row| row.n).collect();
        let versions: Vec<i64> = rows.iter().map(|row| row.version).collect();
        self.connection.wait(client.execute(&self.update, &[&ids, &vs, &ns, &versions]))?;
        if !messages.is_empty() {
            let keys: Vec<&[u8]> = messages.iter().map(|(key, _)| key.as_slice()).collect();
            let values: Vec<&[u8]> = messages.iter().map(|(_, value)| value.as_slice()).collect();
            self.connection.wait(client.execute(&self.append, &[&sources, &offsets, &keys, &values]))?;
        }
        self.connection.run("COMMIT")?;
        next_offsets.extend(positions.iter().map(|(partition, next)| (*partition, *next)));
        Ok(Publication { records: batch.len() as u64, positions, messages })
    }
}
