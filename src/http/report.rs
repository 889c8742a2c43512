//! The numbers as the page and programs get them.

use super::sources::{DeclaredReport, LettersReport, RollUpReport, ShuffleReport, UndeclaredReport};
use super::view::{About, Recovery, View};
use crate::engine::status::{Counted, Kind, METRICS, Metric, Place};
use crate::engine::status::{Halt, RestoreStatus, Status, StoreStatus};
use crate::ports::obstacle::{Obstacle, Reason};
use crate::ports::source::TaskId;
use serde::{Serialize, Serializer};
use std::sync::Arc;
use tokio::sync::watch;

/// All numbers at one moment: those of [`METRICS`], with what they are numbers of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What runs.
    #[serde(flatten)]
    pub about: About,
    /// Tidegate's version.
    pub version: &'static str,
    /// Whether the group has taken us in and every partition that is ours takes records or stands halted.
    pub is_ready: bool,
    /// The numbers of the instance.
    #[serde(flatten)]
    pub numbers: Numbers,
    /// The partitions that are ours.
    pub tasks: Vec<TaskReport>,
    /// Those that stand still.
    pub halts: Vec<HaltReport>,
    /// What keeps this instance from its work although nothing is halted.
    pub obstacles: Vec<ObstacleReport>,
    /// Stores that are being made whole from their changelogs.
    pub restores: Vec<RestoreReport>,
    /// Dead letters by source topic and code.
    pub dead_letter_codes: Vec<LettersReport>,
    /// How sources keep to their declared partitioning.
    pub declared: Vec<DeclaredReport>,
    /// How sources lie that declare nothing, where a step keeps something by their keys.
    pub undeclared: Vec<UndeclaredReport>,
    /// Sources whose records lie already where `key_by` sends them: shuffles to remove.
    pub needless_shuffles: Vec<ShuffleReport>,
    /// What roll-ups have done.
    pub roll_ups: Vec<RollUpReport>,
    /// What the last crash came to, under `demo`; left out under `run`, which has no crash of its own to tell of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_recovery: Option<Recovery>,
}

/// The numbers of the instance: the fields that [`METRICS`] names, in its order.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers(Vec<(&'static str, Number)>);

impl Serialize for Numbers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Number {
    /// A count.
    Count(u64),
    /// A duration in ms; `null` where nothing was measured.
    Ms(Option<f64>),
}

/// One task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TaskReport {
    /// Which sub-topology, from 0.
    pub sub_topology: usize,
    /// The partition number.
    pub partition: i32,
    /// Its state in words.
    pub state: &'static str,
    /// Its source partitions.
    pub inputs: Vec<InputReport>,
    /// Its stores, once they are whole.
    pub stores: Vec<StoreReport>,
}

/// What one store of a task held when it was last written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoreReport {
    /// The store.
    pub store: String,
    /// Keys, possibly an estimate.
    pub keys: u64,
    /// Bytes of keys and values, possibly an estimate.
    pub bytes: u64,
}

impl From<StoreStatus> for StoreReport {
    fn from(StoreStatus { store, size }: StoreStatus) -> Self {
        Self { store, keys: size.keys, bytes: size.bytes }
    }
}

/// One restore under way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RestoreReport {
    /// Which sub-topology, from 0.
    pub sub_topology: usize,
    /// The partition number.
    pub partition: i32,
    /// The store.
    pub store: String,
    /// The share that is done, from 0 to 1.
    pub share: f64,
    /// Changelog records read.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Seconds to go at the speed so far; `null` while nothing has been read.
    pub seconds_left: Option<f64>,
}

impl From<(TaskId, RestoreStatus)> for RestoreReport {
    fn from((id, restore): (TaskId, RestoreStatus)) -> Self {
        Self {
            sub_topology: id.sub_topology,
            partition: id.partition.0,
            share: restore.share(),
            seconds_left: restore.seconds_left(),
            records: restore.records,
            bytes: restore.bytes,
            store: restore.store,
        }
    }
}

/// One source partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InputReport {
    /// `topic-partition`.
    pub source: String,
    /// D: the first offset that is not decided yet, in the database or, in a step without rows, in memory.
    pub next_offset: i64,
    /// K: the group's offset.
    pub committed_offset: i64,
}

/// One partition that stands still, and what a person can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HaltReport {
    /// `topic-partition`.
    pub source: String,
    /// The stable word.
    pub reason: &'static str,
    /// The reason as a sentence.
    pub sentence: String,
    /// D.
    pub next_offset: Option<i64>,
    /// K.
    pub committed_offset: Option<i64>,
    /// What else is known.
    pub detail: String,
    /// What most likely happened.
    pub cause: &'static str,
    /// What can be done, a line each, with the command to run.
    pub choices: Vec<String>,
}

impl From<&Halt> for HaltReport {
    fn from(halt: &Halt) -> Self {
        Self {
            source: halt.source.to_string(),
            reason: halt.reason.label(),
            sentence: halt.reason.to_string(),
            next_offset: halt.next_offset.map(|d| d.0),
            committed_offset: halt.committed.as_ref().map(|committed| committed.next_offset.0),
            detail: halt.detail.clone(),
            cause: halt.reason.cause(),
            choices: halt.choices.iter().map(ToString::to_string).collect(),
        }
    }
}

/// One obstacle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ObstacleReport {
    /// The stable word.
    pub kind: &'static str,
    /// The kind as a sentence.
    pub sentence: &'static str,
    /// Partitions, topic, group or client.
    pub about: String,
    /// The cause.
    pub cause: String,
    /// The next command or setting.
    pub next: String,
}

impl From<Obstacle> for ObstacleReport {
    fn from(Obstacle { kind, about, reason }: Obstacle) -> Self {
        let Reason { cause, next } = reason;
        Self { kind: kind.label(), sentence: kind.sentence(), about, cause, next }
    }
}

/// Takes the numbers now and then, and hands the last ones to whoever listens: a slow reader misses some, nobody waits.
pub(super) struct Reporter {
    view: Arc<dyn View>,
    /// Where the last second began.
    counted: Counted,
    ages: Vec<u64>,
    latest: watch::Sender<Arc<str>>,
}

impl Reporter {
    pub(super) fn new(view: Arc<dyn View>) -> (Self, watch::Receiver<Arc<str>>) {
        let (counted, ages) = (view.status().counted(), view.status().age_at_publication.snapshot());
        let (latest, reports) = watch::channel(Arc::from("{}"));
        let mut reporter = Self { view, counted, ages, latest };
        reporter.report();
        (reporter, reports)
    }

    /// Ends this second and begins the next.
    pub(super) fn report(&mut self) {
        let counted = self.view.status().counted();
        let report = self.take(&counted);
        self.counted = counted;
        self.ages = self.view.status().age_at_publication.snapshot();
        // Numbers and texts only: what cannot be said in JSON is not among them.
        self.latest.send_replace(serde_json::to_string(&report).unwrap_or_default().into());
    }

    fn numbers(&self, counted: &Counted) -> Numbers {
        let fields = METRICS.iter().filter(|metric| matches!(metric.place, Place::Tile(_) | Place::Field));
        let number = |metric: &Metric| {
            let number = match metric.kind {
                Kind::Counter(counter) => Number::Count(counted.value(counter)),
                Kind::Rate(counter) => {
                    Number::Count(counted.value(counter).saturating_sub(self.counted.value(counter)))
                }
                Kind::Quantile(quantile) => Number::Ms(self.age_ms(quantile)),
                Kind::Total | Kind::Gauge => return None, // of parts of the report
            };
            Some((metric.name, number))
        };
        Numbers(fields.filter_map(number).collect())
    }

    /// The age that this share of the last second's records did not exceed, to a tenth of a ms.
    fn age_ms(&self, quantile: f64) -> Option<f64> {
        let ms = self.view.status().age_at_publication.quantile_ms(quantile, Some(&self.ages))?;
        Some((ms * 10.0).round() / 10.0)
    }

    fn take(&self, counted: &Counted) -> Report {
        let status: &Status = self.view.status();
        let (tasks, mut stores) = (status.tasks(), status.stores());
        Report {
            about: self.view.about(),
            version: env!("CARGO_PKG_VERSION"),
            is_ready: super::health::is_ready(status),
            numbers: self.numbers(counted),
            halts: tasks.values().filter_map(|task| task.halt.as_ref()).map(HaltReport::from).collect(),
            tasks: tasks
                .into_iter()
                .map(|(id, task)| TaskReport {
                    sub_topology: id.sub_topology,
                    partition: id.partition.0,
                    state: task.state.label(),
                    inputs: task.inputs.into_iter().map(InputReport::from).collect(),
                    stores: stores.remove(&id).into_iter().flatten().map(StoreReport::from).collect(),
                })
                .collect(),
            obstacles: status.obstacles.all().into_iter().map(ObstacleReport::from).collect(),
            restores: status.restores().into_iter().map(RestoreReport::from).collect(),
            dead_letter_codes: status.letters.by_code().into_iter().map(LettersReport::from).collect(),
            declared: status.declared.sources().into_iter().map(DeclaredReport::from).collect(),
            undeclared: status.undeclared.sources().into_iter().map(UndeclaredReport::from).collect(),
            needless_shuffles: status
                .shuffles
                .needless()
                .into_iter()
                .map(|(topic, sampled)| ShuffleReport { source: topic.to_string(), sampled })
                .collect(),
            roll_ups: self.view.roll_ups().iter().map(RollUpReport::from).collect(),
            last_recovery: self.view.last_recovery(),
        }
    }
}

impl From<(String, i64, i64)> for InputReport {
    fn from((source, next_offset, committed_offset): (String, i64, i64)) -> Self {
        Self { source, next_offset, committed_offset }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::protocol::decision::HaltReason;
    use crate::engine::status::{Counter, Looked, State, TaskStatus};
    use crate::flow::record::{NextOffset, Offset, Partition, TopicName, TopicPartition};
    use crate::flow::rollup::RollUp;
    use crate::pipelines::home;
    use crate::ports::obstacle::ObstacleKind;
    use crate::ports::rows::Counts;
    use crate::ports::store::StoreSize;
    use std::collections::BTreeSet;
    use std::time::Duration;

    struct Fake(Status, Vec<RollUp>);

    impl View for Fake {
        fn status(&self) -> &Status {
            &self.0
        }

        fn about(&self) -> About {
            About { pipeline: "scoring".into(), place: "a test".into() }
        }

        fn roll_ups(&self) -> &[RollUp] {
            &self.1
        }

        fn last_recovery(&self) -> Option<Recovery> {
            Some(Recovery { number: 2, took_ms: 31, published: 37, repeated: 1 })
        }
    }

    fn source(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition::new(TopicName::parse(topic).unwrap(), Partition(partition))
    }

    /// A status with something in every part of the report, before the last second of it.
    fn status() -> Status {
        let status = Status::default();
        status.count(Counts { records: 100, row_changes: 90, announced: 20, dead_letters: 3, skipped: 4, late: 2 });
        status.add(Counter::Polls, 7);
        status.add(Counter::DatabaseCommits, 11);
        status.add(Counter::DatabaseRetries, 12);
        status.add(Counter::KafkaCommits, 13);
        status.add(Counter::Taints, 14);
        status.add(Counter::Fencings, 15);
        status.add(Counter::RecoveredRows, 16);
        status.add(Counter::RestoredRecords, 17);
        let (running, halted) = (task(0), task(1));
        let inputs = vec![("readings-0".to_owned(), 70, 50)];
        status.set_task(running, TaskStatus { state: State::Running, inputs, halt: None });
        let halt = Halt {
            source: source("readings", 1),
            reason: HaltReason::StoreUnreadable,
            next_offset: Some(NextOffset(9)),
            committed: None,
            detail: "a detail".into(),
            choices: Vec::new(),
        };
        let inputs = vec![("readings-1".to_owned(), 9, -1)];
        status.set_task(halted, TaskStatus { state: State::Halted, inputs, halt: Some(halt) });
        let size = StoreSize { keys: 5, bytes: 600 };
        status.set_stores(running, vec![StoreStatus { store: "usage".into(), size }]);
        let restore = RestoreStatus {
            store: "usage".into(),
            from: 100,
            position: 125,
            end: 200,
            records: 25,
            bytes: 1_000,
            began_at: Duration::ZERO,
            seconds: 6.0,
        };
        status.set_restore(halted, Some(restore));
        let quota = vec![("broker 1".to_owned(), Reason::new("a quota", "raise it"))];
        status.obstacles.report(ObstacleKind::Throttled, "source", quota);
        status.letters.published(&source("readings", 2), Offset(41), "bad-json", "no JSON");
        status.declared.in_place(&source("clicks", 0).topic, 8, 80);
        status.declared.violated(&source("clicks", 2), Offset(6), 3);
        let looked = Looked { assumed: "murmur2", checked: 10, elsewhere: 2, by_crc32: 1 };
        status.undeclared.looked(&source("orders", 0).topic, looked);
        (0..100).for_each(|_| status.shuffles.sampled(&source("events", 0).topic, true));
        status
    }

    fn task(partition: i32) -> TaskId {
        TaskId { sub_topology: 0, partition: Partition(partition) }
    }

    const REPORTED: &str = concat!(
        r#"{"pipeline":"scoring","place":"a test","version":"VERSION","is_ready":false"#,
        r#","records":105,"records_per_s":5,"row_changes":90,"announced":20,"dead_letters":3,"skipped":4,"unreadable":0,"late":2"#,
        r#","p50_ms":53.9,"p99_ms":105.1"#,
        r#","database_commits":11,"database_retries":12,"kafka_commits":13,"taints":14,"fencings":15"#,
        r#","recovered_rows":16"#,
        r#","tasks":[{"sub_topology":0,"partition":0,"state":"running","inputs":[{"source":"readings-0""#,
        r#","next_offset":70,"committed_offset":50}],"stores":[{"store":"usage","keys":5"#,
        r#","bytes":600}]},{"sub_topology":0,"partition":1,"state":"halted","inputs":[{"source":"readings-1""#,
        r#","next_offset":9,"committed_offset":-1}],"stores":[]}]"#,
        r#","halts":[{"source":"readings-1","reason":"store-unreadable""#,
        r#","sentence":"a store holds what cannot be true","next_offset":9,"committed_offset":null"#,
        r#","detail":"a detail","cause":"the value was written by a later release, or the disk is damaged""#,
        r#","choices":[]}]"#,
        r#","obstacles":[{"kind":"throttled","sentence":"the brokers slow this instance down","about":"broker 1""#,
        r#","cause":"a quota","next":"raise it"}]"#,
        r#","restores":[{"sub_topology":0,"partition":1,"store":"usage","share":0.25"#,
        r#","records":25,"bytes":1000,"seconds_left":18.0}]"#,
        r#","dead_letter_codes":[{"source":"readings","code":"bad-json","count":1,"latest_source":"readings-2""#,
        r#","latest_offset":41,"latest_message":"no JSON"}]"#,
        r#","declared":[{"source":"clicks","checked":9,"bytes_not_shuffled":80"#,
        r#","violations":[{"source":"clicks-2","count":1,"first_offset":6,"expected_partition":3}]}]"#,
        r#","undeclared":[{"source":"orders","assumed":"murmur2","checked":10,"elsewhere":2,"by_crc32":1}]"#,
        r#","needless_shuffles":[{"source":"events","sampled":100}]"#,
        r#","roll_ups":[{"rollup":"home","readings":0,"repeated_readings":0,"late_readings":0"#,
        r#","quarters":0,"quarters_again":0,"requests_refused":1}]"#,
        r#","last_recovery":{"number":2,"took_ms":31,"published":37,"repeated":1}}"#,
    );

    #[test]
    fn the_report_is_the_same_byte_for_byte() {
        let view = Arc::new(Fake(status(), home::topology().roll_ups().to_vec()));
        let (mut reporter, reports) = Reporter::new(Arc::clone(&view) as Arc<dyn View>);
        view.0.count(Counts { records: 5, ..Counts::default() });
        view.1[0].count_refused();
        (1..=100).for_each(|ms| view.0.age_at_publication.add(Duration::from_millis(ms)));
        reporter.report();
        let report = reports.borrow().replace(env!("CARGO_PKG_VERSION"), "VERSION");
        assert_eq!(report, REPORTED);
    }

    /// Every number of a report by its path: each entry of a list counts as `[]`.
    fn numbers_of(path: &str, value: &serde_json::Value, found: &mut BTreeSet<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                let dot = if path.is_empty() { "" } else { "." };
                fields.iter().for_each(|(name, value)| numbers_of(&format!("{path}{dot}{name}"), value, found));
            }
            serde_json::Value::Array(entries) => {
                for entry in entries {
                    numbers_of(&format!("{path}[]"), entry, found);
                }
            }
            serde_json::Value::Number(_) | serde_json::Value::Null => {
                found.insert(path.to_owned());
            }
            serde_json::Value::Bool(_) | serde_json::Value::String(_) => {}
        }
    }

    #[test]
    fn the_table_of_metrics_has_every_number_of_the_report_and_no_other() {
        let mut found = BTreeSet::new();
        numbers_of("", &serde_json::from_str(REPORTED).unwrap(), &mut found);
        // Numbers that say which one is meant, not how much there is.
        let names = ["sub_topology", "partition", "expected_partition", "first_offset", "latest_offset", "number"];
        found.retain(|path| !path.rsplit('.').next().is_some_and(|last| names.contains(&last)));
        let listed: BTreeSet<String> = METRICS.iter().filter_map(Metric::path).collect();
        assert_eq!(found, listed);
    }
}
