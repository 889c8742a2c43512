//! The generator for pipelines of a user's own: it draws settings and faults around given rows and records.

use super::random::Random;
use super::simulation::{Act, COMMIT_STEPS, FAILURES, Sending, Shape, Simulation};
use crate::flow::key::Key;
use crate::flow::record::TopicName;
use crate::flow::row::Value;
use crate::flow::topology::Topology;
use crate::settings::engine::EngineSettings;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

type PutRow = Box<dyn Fn(&mut Simulation)>;

/// Runs a topology over given rows and records, once for each seed, with settings, turns and faults that the seed draws:
/// crashes at commit steps, kills, freezes, rebalances, lost answers of the database and of Kafka, lost disks. The traces
/// of each run are compared with the topology's own steps, run over one record at a time.
///
/// Its algorithms must be as [`Algorithm`](crate::flow::Algorithm) asks: the same answer to the same arguments, without
/// `now_ms`.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use serde_json::json;
/// # use tidegate::flow::{Algorithm, Context, Reject, Topology};
/// use tidegate::testing::Explorer;
/// # #[derive(Deserialize)] struct Reading { value: f64 }
/// # #[derive(Serialize, Deserialize)] struct Account { score: f64 }
/// # #[derive(Serialize)] struct Change { score: f64 }
/// # struct Add;
/// # impl Algorithm for Add {
/// #     type Event = Reading; type Row = Account; type Notices = Option<Change>;
/// #     fn apply(&self, reading: Reading, account: &mut Account, _: &mut Context<'_>) -> Result<Option<Change>, Reject> {
/// #         account.score += reading.value;
/// #         Ok(Some(Change { score: account.score }))
/// #     }
/// # }
/// let topology = || {
///     let mut topology = Topology::new("adding");
///     topology.source("readings").update("accounts", Add).to("changes");
///     topology
/// };
/// Explorer::new(topology)
///     .partitions(2)
///     .row("accounts", 7, || Account { score: 0.0 })
///     .send("readings", "7", json!({"value": 1.5}))
///     .send("readings", "8", json!({"value": 1.5})) // no such row: a dead letter
///     .run(0..50);
/// ```
pub struct Explorer {
    topology: Box<dyn Fn() -> Topology>,
    partitions: i32,
    settings: EngineSettings,
    rows: Vec<PutRow>,
    records: Vec<Sending>,
}

impl Explorer {
    /// An explorer of the pipeline that `topology` makes: called once a seed, so that thresholds begin again.
    #[must_use]
    pub fn new(topology: impl Fn() -> Topology + 'static) -> Self {
        let settings = EngineSettings::default();
        Self { topology: Box::new(topology), partitions: 1, settings, rows: Vec::new(), records: Vec::new() }
    }

    /// Gives every topic `count` partitions; one unless said otherwise.
    #[must_use]
    pub const fn partitions(mut self, count: i32) -> Self {
        self.partitions = count;
        self
    }

    /// Changes settings that are not drawn.
    #[must_use]
    pub fn settings(mut self, change: impl FnOnce(&mut EngineSettings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Puts a row into a table, with version 0.
    #[must_use]
    pub fn row<R: Serialize>(mut self, table: &str, key: impl Into<Key>, row: impl Fn() -> R + 'static) -> Self {
        let (table, key) = (table.to_owned(), key.into());
        self.rows.push(Box::new(move |simulation| simulation.row(&table, key.clone(), row())));
        self
    }

    /// Sends a value under a key, in the topic's format, behind what was sent before.
    ///
    /// # Panics
    /// When the format cannot write the value, or the bytes are no text.
    #[must_use]
    pub fn send(self, topic: &str, key: &str, value: impl Serialize) -> Self {
        let name = TopicName::parse(topic);
        let format = name.map(|name| (self.topology)().format_of(&name)).unwrap_or_default();
        let value = format.encode(&value).map_err(|reject| reject.message().to_owned());
        match value.and_then(|bytes| String::from_utf8(bytes).map_err(|error| error.to_string())) {
            Ok(value) => self.record(Sending {
                topic: topic.into(),
                key: Some(key.into()),
                value: Some(value),
                ..Sending::default()
            }),
            Err(error) => panic!("value for {topic}: {error}"),
        }
    }

    /// Sends a record of any kind, behind what was sent before.
    #[must_use]
    pub fn record(mut self, sending: Sending) -> Self {
        self.records.push(sending);
        self
    }

    /// Runs each seed.
    ///
    /// # Panics
    /// At the first seed that leads to a finding, with its acts and its trace.
    pub fn run(&self, seeds: Range<u64>) {
        for seed in seeds {
            let mut random = Random::new(seed);
            let shape = self.shape(&mut random);
            let acts = self.acts(&mut random, shape.instances as u64);
            let topology = (self.topology)();
            let mut simulation = Simulation::new(topology, shape).traced();
            for put in &self.rows {
                put(&mut simulation);
            }
            let outcome = acts.iter().try_for_each(|act| simulation.act(act)).and_then(|()| simulation.finish());
            let is_refused = |_: &str, _: &mut BTreeMap<String, Value>| false;
            let findings = match outcome {
                Ok(()) => simulation.judge(&is_refused).into_iter().map(|finding| finding.detail).collect(),
                Err(sentence) => vec![sentence],
            };
            assert!(findings.is_empty(), "seed {seed}: {}\n{}", findings.join("\n"), simulation.trace());
        }
    }

    fn shape(&self, random: &mut Random) -> Shape {
        let settings = EngineSettings {
            batch_rows: *random.choose(&[1, 3, 10, 100]),
            batch_age: Duration::from_millis(*random.choose(&[0, 5, 100])),
            log_age: Duration::from_millis(*random.choose(&[0, 100])),
            transaction_rows: *random.choose(&[1, 10_000]),
            store_flush: Duration::from_millis(*random.choose(&[0, 5_000])),
            ..self.settings.clone()
        };
        let (instances, workers) = (*random.choose(&[1, 2, 3]), *random.choose(&[1, 2]));
        let lag = *random.choose(&[1, 1, 3]);
        Shape { partitions: self.partitions, instances, workers, settings, limits: Vec::new(), lag }
    }

    fn acts(&self, random: &mut Random, instances: u64) -> Vec<Act> {
        let mut acts = vec![Act::Turns(3)];
        let share = random.below(40);
        for sending in &self.records {
            acts.push(Act::Send(sending.clone()));
            if random.happens(share) {
                fault(random, instances, &mut acts);
            }
            if random.happens(50) {
                acts.push(Act::Turns(u16::try_from(1 + random.below(6)).unwrap_or(1)));
            }
            if random.happens(20) {
                acts.push(Act::Pass(*random.choose(&[1, 60, 400])));
            }
        }
        acts
    }
}

fn fault(random: &mut Random, instances: u64, acts: &mut Vec<Act>) {
    let instance = usize::try_from(random.below(instances)).unwrap_or(0);
    match random.below(10) {
        0..=2 => {
            let nth = usize::try_from(1 + random.below(2)).unwrap_or(1);
            acts.push(Act::Crash((*random.choose(&COMMIT_STEPS)).into(), nth));
        }
        3 => {
            acts.extend([Act::Kill(instance), Act::Turns(2), Act::Pass(*random.choose(&[10, 5_000])), Act::Turns(2)]);
            if random.happens(50) {
                acts.push(Act::LoseDisk(instance));
            }
            acts.push(Act::Start(instance));
        }
        4 => acts.extend([Act::Stop(instance), Act::Turns(2), Act::Start(instance)]),
        5 => acts.extend([
            Act::Freeze(instance),
            Act::Pass(2_500),
            Act::Turns(4),
            Act::Zombie(instance, 2),
            Act::Thaw(instance),
        ]),
        6 => acts.push(Act::CommitAnswerLost(random.happens(50))),
        7 => acts.extend([Act::DatabaseDown(true), Act::Turns(3), Act::Pass(500), Act::DatabaseDown(false)]),
        8 => acts.push(Act::Expire(instance)),
        _ => acts.push(Act::Fail(*random.choose(&FAILURES))),
    }
}
