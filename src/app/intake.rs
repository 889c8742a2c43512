//! Readings on their way from HTTP into a topic: one producer, whose acknowledgement all that wait share.

use crate::adapters::kafka::KafkaFeed;
use crate::flow::record::TopicName;
use crate::http::Untaken;
use crate::ports::Fault;
use crate::ports::failpoint::failpoint;
use crate::settings::kafka::KafkaSettings;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::sync::OnceLock;
use std::time::Duration;

/// Requests that may wait; further ones are told to come again.
const WAITING_MAX: usize = 64;
/// Records that are acknowledged at once.
const RECORDS_MAX: usize = 20_000;
/// The time that a request waits for its acknowledgement: longer than the producer's own.
const WAIT: Duration = Duration::from_secs(70);

/// Keys and values.
pub(super) type Records = Vec<(String, Vec<u8>)>;

/// One request.
struct Batch {
    topic: TopicName,
    records: Records,
    answer: Sender<Result<(), String>>,
}

/// The way in. Its producer is made with the first request.
pub(super) struct Intake {
    kafka: KafkaSettings,
    batches: OnceLock<Sender<Batch>>,
}

impl Intake {
    pub(super) const fn new(kafka: KafkaSettings) -> Self {
        Self { kafka, batches: OnceLock::new() }
    }

    /// Writes records, and waits until they are acknowledged.
    pub(super) fn take(&self, topic: &TopicName, records: Records) -> Result<(), Untaken> {
        let batches = self.batches.get_or_init(|| {
            let (batches, waiting) = bounded(WAITING_MAX);
            let kafka = self.kafka.clone();
            // Without a thread its channel has no other end, which is told below.
            let _ = std::thread::Builder::new().name("intake".into()).spawn(move || work(&kafka, &waiting));
            batches
        });
        let (answer, answered) = bounded(1);
        batches.try_send(Batch { topic: topic.clone(), records, answer }).map_err(|error| match error {
            TrySendError::Full(_) => Untaken::Full,
            TrySendError::Disconnected(_) => Untaken::Failed("there is no thread to write readings".into()),
        })?;
        let failed = |_| Untaken::Failed("the brokers have not acknowledged it in time".into());
        answered.recv_timeout(WAIT).map_err(failed)?.map_err(Untaken::Failed)
    }
}

fn work(kafka: &KafkaSettings, waiting: &Receiver<Batch>) {
    let mut feed: Option<KafkaFeed> = None;
    while let Ok(first) = waiting.recv() {
        let mut batches = vec![first];
        while batches.iter().map(|batch| batch.records.len()).sum::<usize>() < RECORDS_MAX {
            let Ok(next) = waiting.try_recv() else { break };
            batches.push(next);
        }
        let result = write(&mut feed, kafka, &batches).map_err(|fault| fault.to_string());
        if result.is_err() {
            feed = None; // another one knows nothing of what this one has left
        }
        failpoint!(K26, if result.is_ok());
        for batch in batches {
            let _ = batch.answer.send(result.clone());
        }
    }
}

fn write(feed: &mut Option<KafkaFeed>, kafka: &KafkaSettings, batches: &[Batch]) -> Result<(), Fault> {
    let feed = match feed {
        Some(feed) => feed,
        None => feed.insert(KafkaFeed::connect(kafka)?),
    };
    for Batch { topic, records, .. } in batches {
        for (key, value) in records {
            feed.send(topic, None, Some(key.as_bytes()), Some(value), &[])?;
        }
    }
    feed.flush()
}
