//! One job: W3: readings of many devices, rolled up into quarters, hours and days: as a backlog, and then live, with graphs.
//!
//! The backlog is read by ours and by a loop that only reads and commits, in pairs, the order rotating. Each run of ours has tables of
//! its own, of which every bucket is held against the readings.

use super::live;
use crate::Outcome;
use crate::child::{Child, RollUpRun};
use crate::judge::rolled::{Case, is_read, judge};
use crate::load::readings::{EVERY_MS, Readings};
use crate::meter::calibration::calibrate;
use crate::meter::stretch::{Stretch, perf_file};
use crate::meter::traffic::Traffic;
use crate::options::rolled::RollUps;
use crate::ours::rolled::{REST, topology};
use crate::report::Report;
use crate::report::run::{Flow, Run};
use crate::report::scale::ScaleRun;
use crate::rig::topics::{self, BytesRecord, PARTITIONS, Topic, offer, producer};
use crate::rig::{Rig, tiers};
use rdkafka::producer::{DefaultProducerContext, Producer, ThreadedProducer};
use std::time::Duration;
use tidegate::flow::key::partition_for;
use tidegate::flow::record::TopicName;
use tidegate::flow::rollup::Tier;
use tidegate::settings::{OutboxSettings, RollUpSettings};

/// The first reading of the backlog: 2026-01-01, the start of a day.
const FIRST_MS: i64 = 1_767_225_600_000;
/// Records behind the readings that tell every partition that all of them are over. No device has sent them.
const OVER: u64 = 64;
/// So much later than the readings they come: the minutes are forgotten by then.
const OVER_MS: i64 = 3 * 3_600_000;
const WAIT: Duration = Duration::from_mins(2);

/// The workload under way.
pub struct W3<'a> {
    pub rig: Rig,
    pub options: &'a RollUps,
    runs: usize,
}

/// The topics of a run beside its input.
pub struct Internal {
    /// Those of the tiers.
    pub told: Vec<String>,
    pub changelogs: Vec<String>,
    pub dead_letters: Vec<String>,
}

pub fn run(options: &RollUps) -> Outcome {
    let rig = Rig::start(options.common.smoke, true)?;
    let parameters = serde_json::json!({
        "devices": options.devices, "metrics": options.metrics, "every_ms": EVERY_MS, "minutes": options.minutes,
        "seconds": options.seconds, "requests": options.requests, "graph_rate": options.graph_rate,
        "filled": options.filled, "workers": options.common.workers, "store": options.keeping.store.name(),
        "flush_ms": options.keeping.flush_ms, "partitions": PARTITIONS, "layout": "a: all processes share all cores",
    });
    let mut report = Report::new("w3", calibrate(&rig)?, parameters);
    let mut w3 = W3 { rig, options, runs: 0 };
    if !options.no_backlog {
        w3.backlog(&mut report)?;
    }
    if !options.no_live {
        live::run(&mut w3, &mut report)?;
    }
    claims(&mut report, options);
    report.scale = scale(&report, options)?;
    report.end(options.common.save)
}

/// The claims about ours, for the parts that were measured.
fn claims(report: &mut Report, options: &RollUps) {
    let rate = report.median("ours", None, |run| run.records_per_s);
    report.claim("backlog, records/s (a day of 10,000 devices in half an hour)", rate, 96_000.0, true);
    let mean = report.live.iter().find(|run| run.part == live::MEAN).map(|run| run.all() * 100.0);
    let what = format!("{} devices live, % of all cores, own, broker and database", options.devices);
    report.claim(&what, mean, 10.0, false);
    let p99 = report.graphs.first().map(|run| run.asked.p99);
    report.claim("graph of a year at 800 points meanwhile, p99 ms", p99, 20.0, false);
}

/// What the figures come to for more devices; nothing where a part was left out.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn scale(report: &Report, options: &RollUps) -> Outcome<Vec<ScaleRun>> {
    let cores = std::thread::available_parallelism()?.get() as f64;
    let RollUpSettings { quarters_days, hours_days } = RollUpSettings::default();
    let days = [quarters_days.unwrap_or(365), hours_days.unwrap_or(365), 365];
    let mean = report.live.iter().find(|run| run.part == live::MEAN);
    let told = report.runs.iter().find_map(|run| run.flow).map(|flow| flow.repartition);
    let (Some(mean), Some(told), [quarters, hours, all_days, outbox]) = (mean, told, &report.storage[..]) else {
        return Ok(Vec::new());
    };
    let storage = [quarters, hours, all_days];
    let kept_s = f64::from(OutboxSettings::default().retention_hours) * 3_600.0;
    let of = |devices: u64| {
        let (more, series) = (devices as f64 / options.devices as f64, (devices * options.metrics as u64) as f64);
        let records_per_s = devices as f64 / (EVERY_MS as f64 / 1e3);
        let gb = |number: usize| {
            let buckets = f64::from(days[number]) * 86_400_000.0 / Tier::ALL[number].bucket_ms() as f64;
            buckets * storage[number].each(storage[number].disk_bytes) * series / 1e9
        };
        // A row is half full on average, and is written whole.
        let half = |number: usize| {
            let slots = Tier::ALL[number].row_ms() as f64 / Tier::ALL[number].bucket_ms() as f64;
            slots / 2.0 * storage[number].each(storage[number].packed_bytes)
        };
        let told_per_s = series / (Tier::Quarters.bucket_ms() as f64 / 1e3);
        let bytes = mean.input_in.unwrap_or(f64::NAN) + mean.changelog_in.unwrap_or(f64::NAN) + told;
        ScaleRun {
            devices,
            records_per_s,
            own_cores: mean.own * cores * more,
            broker_cores: mean.broker * cores * more,
            postgres_cores: mean.postgres * cores * more,
            kafka_mb_s: bytes * records_per_s / 1e6,
            rows_per_s: told_per_s * 3.0,
            rewritten_mb_s: told_per_s * (half(0) + half(1) + half(2)) / 1e6,
            quarters_gb: gb(0),
            hours_gb: gb(1),
            days_gb_year: gb(2),
            outbox_gb: told_per_s * 2.0 * kept_s * outbox.each(outbox.disk_bytes) / 1e9,
        }
    };
    Ok([10_000, 100_000, 1_000_000].map(of).into())
}

impl W3<'_> {
    /// A run with a group, topics and tables of its own over an input that is there.
    pub fn prepare(&mut self, name: &str, input: &str, records: u64, now_ms: i64) -> Outcome<(RollUpRun, Internal)> {
        self.runs += 1;
        let group = format!("{name}-{}", self.runs);
        let database = self.rig.database()?.url.clone();
        let run = RollUpRun {
            brokers: self.rig.brokers.clone(),
            rollup: group.replace('-', "_"),
            input: input.into(),
            records,
            workers: self.options.common.workers,
            store: self.options.keeping.store,
            flush_ms: self.options.keeping.flush_ms,
            folder: self.rig.folder().join(&group),
            database,
            group,
        };
        tiers::create(&run.database, &run.rollup, now_ms)?;
        let internal = Internal::of(&run)?;
        internal.create(&run)?;
        Ok((run, internal))
    }

    fn backlog(&mut self, report: &mut Report) -> Outcome {
        let steps = i64::try_from(self.options.minutes)? * 60_000 / EVERY_MS;
        let RollUps { devices, metrics, .. } = *self.options;
        let readings = Readings { devices, metrics, from_ms: FIRST_MS, steps };
        let input = "readings";
        create_input(&self.rig.brokers, input)?;
        let records = fill(&self.rig.brokers, input, &readings)?;
        if !self.options.common.smoke {
            self.null(input, records)?; // the broker's compiler, the disk's cache
        }
        for repetition in 0..self.options.common.reps {
            let mut pair = [true, false];
            pair.rotate_left(repetition % 2);
            for is_ours in pair {
                report.runs.push(if is_ours {
                    self.ours(input, records, &readings)?
                } else {
                    self.null(input, records)?
                });
            }
        }
        Ok(())
    }

    /// One run of ours over the backlog, judged. Its tables go with it.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    fn ours(&mut self, input: &str, records: u64, readings: &Readings) -> Outcome<Run> {
        let (run, internal) = self.prepare("ours", input, records, readings.to_ms())?;
        let before = Traffic::read(&self.rig)?;
        let perf = perf_file(self.options.common.perf.as_deref(), &run.group)?;
        let stretch = Stretch::run(&self.rig, &Child::RolledUp(run.clone()), 1.0, perf.as_deref())?.without(REST);
        let now = Traffic::read(&self.rig)?;
        let buckets = judge(&Case {
            brokers: &run.brokers,
            database: &run.database,
            group: &run.group,
            rollup: &run.rollup,
            input,
            records,
            readings: *readings,
            year: None,
            dead_letters: &internal.dead_letters,
        })?;
        let mut judged = stretch.judged("ours", true, buckets);
        let per_record = |bytes: f64| bytes / records as f64;
        let taken = |topics: &[String]| topics.iter().map(|topic| now.of_topic(topic, &before).taken).sum::<f64>();
        let given = |topics: &[String]| topics.iter().map(|topic| now.of_topic(topic, &before).given).sum::<f64>();
        judged.flow = Some(Flow {
            taken: per_record(now.of_all(&before).taken),
            given: per_record(now.of_all(&before).given),
            input_given: per_record(now.of_topic(input, &before).given),
            repartition_given: per_record(given(&internal.told)),
            repartition: per_record(taken(&internal.told)),
            changelog: per_record(taken(&internal.changelogs)),
            changelog_records: None,
        });
        tiers::remove(&run.database, &run.rollup)?;
        Ok(judged)
    }

    /// One run that reads the backlog and commits it.
    fn null(&mut self, input: &str, records: u64) -> Outcome<Run> {
        self.runs += 1;
        let group = format!("null-{}", self.runs);
        let run = RollUpRun {
            brokers: self.rig.brokers.clone(),
            database: String::new(),
            rollup: String::new(),
            input: input.into(),
            records,
            workers: self.options.common.workers,
            store: self.options.keeping.store,
            flush_ms: self.options.keeping.flush_ms,
            folder: self.rig.folder().join(&group),
            group,
        };
        let stretch = Stretch::run(&self.rig, &Child::Reading(run.clone()), 1.0, None)?;
        is_read(&run.brokers, &run.group, input, records)?;
        Ok(stretch.judged("null", false, 0))
    }
}

impl Internal {
    fn of(run: &RollUpRun) -> Outcome<Self> {
        let topology = topology(run);
        topology.validate().map_err(|errors| errors.join("; "))?;
        let text = |name: TopicName| name.to_string();
        let told = topology.sources().into_iter().map(text).filter(|name| *name != run.input).collect();
        let changelogs = topology.changelogs().into_iter().map(text).collect();
        let dead_letters = topology.dead_letter_topics().map(text).collect();
        Ok(Self { told, changelogs, dead_letters })
    }

    /// Creates the topics of a run: all but its input's.
    fn create(&self, run: &RollUpRun) -> Outcome {
        let is_new = |name: &&String| **name != format!("{}-dlt", run.input);
        let plain = self.told.iter().chain(self.dead_letters.iter().filter(is_new)).map(|name| Topic::new(name));
        let compacted = self.changelogs.iter().map(|name| Topic { is_compacted: true, ..Topic::new(name) });
        topics::create_all(&run.brokers, plain.chain(compacted))
    }
}

/// Creates an input and the topic of what cannot be handled of it.
pub fn create_input(brokers: &str, input: &str) -> Outcome {
    topics::create(brokers, &[input, &format!("{input}-dlt")])
}

/// Sends one record.
pub fn send(
    producer: &ThreadedProducer<DefaultProducerContext>,
    input: &str,
    key: &str,
    value: &str,
    at_ms: i64,
) -> Outcome {
    let partition = partition_for(key.as_bytes(), PARTITIONS);
    let record = BytesRecord::to(input).partition(partition).key(key.as_bytes()).payload(value.as_bytes());
    offer(producer, record.timestamp(at_ms))
}

/// Sends what comes behind all readings, so much later; answers the number of records.
pub fn end(
    producer: &ThreadedProducer<DefaultProducerContext>,
    input: &str,
    readings: &Readings,
    later_ms: i64,
) -> Outcome<u64> {
    for number in 0..OVER {
        send(producer, input, &format!("over-{number}"), "[]", readings.to_ms() + later_ms)?;
    }
    producer.flush(WAIT)?;
    Ok(OVER)
}

/// Number of records behind all readings.
pub const fn ends() -> u64 {
    OVER
}

/// Fills a topic with all readings and their end; answers the number of records.
fn fill(brokers: &str, input: &str, readings: &Readings) -> Outcome<u64> {
    let producer = producer(brokers, "20")?;
    let (mut value, mut records) = (String::new(), 0);
    for sent in readings.order() {
        readings.record(sent, &mut value);
        send(&producer, input, &crate::load::readings::name(sent.device), &value, readings.sent_ms(sent))?;
        records += 1;
    }
    Ok(records + end(&producer, input, readings, OVER_MS)?)
}
