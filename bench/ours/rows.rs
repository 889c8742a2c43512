//! One job: rows by id, as the binary runs them.

use crate::Outcome;
use crate::child::RowsRun;
use crate::load::{self, Notice, Notification};
use crate::rig::topics::PARTITIONS;
use crate::system::{Progress, say};
use rdkafka::TopicPartitionList;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tidegate::adapters::kafka::{KafkaSettings, KafkaSink, KafkaSource};
use tidegate::adapters::postgres::{OutboxSettings, PostgresRows, PostgresSchema, PostgresSettings};
use tidegate::engine::member::{Member, Ports, WorkerPorts};
use tidegate::engine::protocol::order::{Hook, NoHook};
use tidegate::engine::status::{Counter, Status};
use tidegate::flow::{Algorithm, Context, Reject, Table, Topology};
use tidegate::ports::clock::SystemClock;
use tidegate::ports::schema::Schema;
use tidegate::ports::source::Subscription;
use tidegate::settings::EngineSettings;

/// The columns that the algorithm reads and writes.
#[derive(Serialize, Deserialize)]
struct Row {
    v: f64,
    n: i64,
}

struct Grow;

impl Algorithm for Grow {
    type Event = Notification;
    type Row = Row;
    type Notices = Option<Notice>;

    fn apply(&self, event: Notification, row: &mut Row, _: &mut Context<'_>) -> Result<Option<Notice>, Reject> {
        let change = load::change(event.id, row.v);
        let notice = Notice { id: event.id, n: row.n, change, at: event.at };
        row.v += change;
        row.n += 1;
        Ok(Some(notice))
    }
}

fn topology(child: &RowsRun) -> Arc<Topology> {
    let mut topology = Topology::new(&child.group);
    let update = topology.source(&child.input).update(Table::new("bench_rows"), Grow);
    update.at_least("change", load::threshold(child.share), |notice: &Notice| notice.change).to(&child.output);
    Arc::new(topology)
}

pub fn run(child: &RowsRun) -> Outcome {
    let topology = topology(child);
    topology.validate().map_err(|errors| errors.join("; "))?;
    let kafka = KafkaSettings { bootstrap_servers: child.brokers.clone(), ..KafkaSettings::default() };
    let postgres = PostgresSettings::new(&child.database);
    let mut schema = PostgresSchema::new(&postgres, OutboxSettings::default(), &child.group)?;
    schema.migrate()?;
    let worker = |number| -> Outcome<WorkerPorts> {
        let rows = Box::new(PostgresRows::new(&postgres, &child.group, &child.group)?);
        let open = |producer| KafkaSink::open(&kafka, &format!("{}-0-{number}-{producer}", child.group));
        Ok(WorkerPorts { rows, sink: Box::new(open(0)?), spare: Some(Box::new(open(1)?)) })
    };
    let ports = Ports {
        source: Box::new(KafkaSource::join(&kafka, &Subscription::of(&topology), None)?),
        workers: (0..child.workers).map(worker).collect::<Outcome<_>>()?,
        clock: Arc::new(SystemClock::default()),
        history: None,
        stores: None,
        changelogs: None,
        fencer: None,
        note: None,
        owner: "bench".into(),
    };
    let settings = EngineSettings {
        workers: child.workers,
        batch_rows: child.batch,
        batch_age: Duration::from_millis(child.age_ms),
        ..EngineSettings::default()
    };
    let status = Arc::new(Status::default());
    let hook: Arc<dyn Hook> = Arc::new(NoHook);
    let running = Member::new(&topology, settings, ports, Arc::clone(&status), &hook)?.spawn();
    let progress = Arc::new(Progress::default());
    let committed = CommittedOffsets::open(child)?;
    let mut is_ready = false;
    progress.tell(child.records, |progress| {
        if running.is_stopping() {
            return Err("the member has ended".into());
        }
        if !is_ready && status.tasks().len() == usize::try_from(PARTITIONS)? && status.is_ready() {
            is_ready = true;
            say("ready");
        }
        let handled = status.value(Counter::Records);
        progress.handled.store(handled, Ordering::Release);
        if child.records > 0 && handled >= child.records {
            progress.published.store(committed.sum()?, Ordering::Release);
        } else if status.value(Counter::KafkaCommits) > 0 {
            progress.published.store(1, Ordering::Release);
        }
        Ok(())
    })?;
    running.stop();
    running.join(Duration::from_secs(20))?;
    Ok(())
}

/// The committed offsets by the broker's answer: asked for only when everything has been handled.
struct CommittedOffsets {
    consumer: BaseConsumer,
    input: String,
}

impl CommittedOffsets {
    fn open(child: &RowsRun) -> Outcome<Self> {
        let consumer =
            ClientConfig::new().set("bootstrap.servers", &child.brokers).set("group.id", &child.group).create()?;
        Ok(Self { consumer, input: child.input.clone() })
    }

    fn sum(&self) -> Outcome<u64> {
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition(&self.input, partition);
        }
        let committed = self.consumer.committed_offsets(list, Duration::from_secs(10))?;
        let offsets = committed.elements().into_iter().filter_map(|element| element.offset().to_raw());
        Ok(offsets.filter(|offset| *offset > 0).sum::<i64>().unsigned_abs())
    }
}
