//! One job: what a Rust team writes on day one: one record at a time, each step awaited. At least once, and slow.

use crate::Outcome;
use crate::child::RowsRun;
use crate::load::{Notice, Notification, change, threshold};
use crate::system::{Progress, say};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{Consumer, DefaultConsumerContext, StreamConsumer};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::AsyncRuntime;
use sqlx::postgres::PgPool;
use std::sync::Arc;
use std::time::Duration;

/// The same as in rdkafka's feature `tokio`; switching that on here would build the client twice.
struct TokioRuntime;

impl AsyncRuntime for TokioRuntime {
    type Delay = tokio::time::Sleep;

    fn spawn<T: Future<Output = ()> + Send + 'static>(task: T) {
        tokio::spawn(task);
    }

    fn delay_for(duration: Duration) -> Self::Delay {
        tokio::time::sleep(duration)
    }
}

pub fn run(child: &RowsRun) -> Outcome {
    let progress = Arc::new(Progress::default());
    let runtime = tokio::runtime::Runtime::new()?;
    let (settings, counts) = (child.clone(), Arc::clone(&progress));
    runtime.spawn(async move {
        if let Err(error) = serve(&settings, &counts).await {
            eprintln!("naive: {error}");
            std::process::exit(1);
        }
    });
    progress.tell(child.records, |_| Ok(()))?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(())
}

async fn serve(child: &RowsRun, progress: &Progress) -> Outcome {
    let consumer: StreamConsumer<DefaultConsumerContext, TokioRuntime> = ClientConfig::new()
        .set("bootstrap.servers", &child.brokers)
        .set("group.id", &child.group)
        .set("auto.offset.reset", "earliest")
        .create()?;
    let producer: FutureProducer<DefaultClientContext, TokioRuntime> = ClientConfig::new()
        .set("bootstrap.servers", &child.brokers)
        .set("partitioner", "murmur2_random")
        .set("enable.idempotence", "true")
        .create()?;
    let pool = PgPool::connect(&child.database).await?;
    consumer.subscribe(&[&child.input])?;
    say("ready");
    while !progress.is_stopping() {
        let message = consumer.recv().await?;
        let event: Notification = serde_json::from_slice(message.payload().ok_or("no value")?)?;
        let mut transaction = pool.begin().await?;
        let (v, n): (f64, i64) = sqlx::query_as("SELECT v, n FROM bench_rows WHERE id = $1 FOR UPDATE")
            .bind(event.id)
            .fetch_one(&mut *transaction)
            .await?;
        let change = change(event.id, v);
        sqlx::query("UPDATE bench_rows SET v = $2, n = $3, version = version + 1 WHERE id = $1")
            .bind(event.id)
            .bind(v + change)
            .bind(n + 1)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        if change >= threshold(child.share) {
            let value = serde_json::to_string(&Notice { id: event.id, n, change, at: event.at })?;
            let key = event.id.to_string();
            let record = FutureRecord::to(&child.output).key(&key).payload(&value);
            producer.send(record, Duration::from_secs(10)).await.map_err(|(error, _)| error)?;
        }
        progress.add(1);
    }
    Ok(())
}
