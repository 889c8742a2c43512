//! One job: the second part of W3: readings as they come, by the clock of the wall, what they cost, and graphs of a year meanwhile.
//!
//! Each device has its rows under way in the tables, and some a whole year, up to a quarter that is a backlog. Then readings come at
//! their rate. Their clock lies behind the wall's by half an hour and what filling took, so that the quarter is told in the middle of
//! the first minute: half of it shows what readings cost, the rest what a quarter does, four times an hour.

use super::w3::{W3, create_input, end, ends, send};
use crate::Outcome;
use crate::child::Child;
use crate::judge::offsets;
use crate::judge::rolled::{Case, judge};
use crate::load::pacer::now_us;
use crate::load::readings::{EVERY_MS, Readings, Sent, name};
use crate::meter::cpu::{Processes, Sample, resident_mib_max};
use crate::meter::latency::quantiles;
use crate::meter::traffic::Traffic;
use crate::options::rolled::RollUps;
use crate::report::Report;
use crate::report::live::{GraphRun, LiveRun, StorageRun};
use crate::rig::tables::Connection;
use crate::rig::tiers::{Size, Year, make_token, outbox};
use crate::rig::topics::{self, PARTITIONS};
use crate::system::System;
use rdkafka::producer::{DefaultProducerContext, Producer, ThreadedProducer};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tidegate::flow::rollup::Tier;
use tidegate::http::client;

/// The part that the claim is about.
pub const MEAN: &str = "mean over a quarter of an hour";

const QUARTER_MS: i64 = 15 * 60_000;
/// A quarter is told so long behind its end.
const GRACE_MS: i64 = 30_000;
/// For so long the load goes on when the quarter should have been told, and when the graphs should have come.
const SPARE_S: u64 = 60;
/// The readings' clock lies so far behind the wall's, so that the end of their last quarter is not ahead of it.
const BEHIND_MS: i64 = 2 * QUARTER_MS;
/// What comes behind all readings is so much later: their last quarter is over by then.
const OVER_MS: i64 = QUARTER_MS + 2 * GRACE_MS;
/// Readings gather for so long before they are sent: those of a gateway wait for each other.
const LINGER_MS: &str = "50";
/// Interval of asking whether the quarter is told.
const TOLD_EVERY: Duration = Duration::from_secs(2);
/// One graph of so many is read and checked.
const CHECKED_EVERY: usize = 20;
const POINTS: usize = 800;
const TOKEN: &str = "tg_bench";
const WAIT: Duration = Duration::from_mins(2);

/// CPU seconds at a moment, by seconds since the load has begun.
type Samples = Vec<(f64, Sample)>;

pub fn run(w3: &mut W3<'_>, report: &mut Report) -> Outcome {
    let RollUps { devices, metrics, filled, seconds, requests, graph_rate, .. } = *w3.options;
    let now_ms = i64::try_from(now_us() / 1_000)?;
    // The load begins half of its time before the quarter in front of a boundary is told.
    let boundary_ms = now_ms - now_ms.rem_euclid(QUARTER_MS) - BEHIND_MS;
    let before_ms = i64::try_from(seconds * 1_000 / 2)? / EVERY_MS * EVERY_MS;
    let backlog = (QUARTER_MS + GRACE_MS - before_ms) / EVERY_MS;
    let paced_ms = i64::try_from((seconds + requests / graph_rate + 2 * SPARE_S) * 1_000)?;
    let from_ms = boundary_ms - QUARTER_MS;
    let readings = Readings { devices, metrics, from_ms, steps: backlog + paced_ms / EVERY_MS };

    let input = "live";
    create_input(&w3.rig.brokers, input)?;
    let records = u64::try_from(readings.order().count())? + ends();
    let (run, internal) = w3.prepare("live", input, records, now_ms)?;
    eprintln!("live: filling the tables");
    let year = Year::new(&run.rollup, devices, filled, metrics, from_ms)?;
    year.fill(&run.database)?;
    let connection = Connection::open(&run.database)?;
    for tier in Tier::ALL {
        report.storage.push(storage(tier.word(), year.buckets(tier), &year.size(&connection, tier)?));
    }
    report.notes.push(format!("live: of the rows under way are filled: {}", year.told()));
    make_token(&run.database, &run.rollup, TOKEN)?;

    let producer = topics::producer(&w3.rig.brokers, LINGER_MS)?;
    let told_at = Duration::from_millis(before_ms.unsigned_abs());
    let live = Live { w3, readings, input, backlog, told_at, producer };
    let mut order = live.readings.order().peekable();
    let (mut value, mut in_front) = (String::new(), 0);
    while let Some(sent) = order.next_if(|sent| sent.sent_in < backlog) {
        live.send(sent, &mut value)?;
        in_front += 1;
    }
    live.producer.flush(WAIT)?;
    let mut system = System::start(&Child::RolledUp(run.clone()))?;
    let address = format!("127.0.0.1:{}", system.expect("port")?);
    system.expect("ready")?;
    live.await_read(&run.group)?;
    std::thread::sleep(Duration::from_secs(3));
    let before = Traffic::read(&live.w3.rig)?;
    let processes = live.w3.rig.processes(system.pid());
    let of = Measured { address: &address, rollup: &run.rollup, connection: &connection, processes };
    live.measure(report, order, &of)?;
    system.expect("done")?;
    system.finish()?;
    let now = Traffic::read(&live.w3.rig)?;
    if let Some(mean) = report.live.iter_mut().find(|run| run.part == MEAN) {
        let input = now.of_topic(input, &before).taken;
        let changelogs = internal.changelogs.iter().map(|topic| now.of_topic(topic, &before).taken).sum::<f64>();
        let records = f64::from(u32::try_from(records - in_front)?);
        (mean.input_in, mean.changelog_in) = (Some(input / records), Some(changelogs / records));
    }
    let buckets = judge(&Case {
        brokers: &run.brokers,
        database: &run.database,
        group: &run.group,
        rollup: &run.rollup,
        input,
        records,
        readings: live.readings,
        year: Some(&year),
        dead_letters: &internal.dead_letters,
    })?;
    eprintln!("live: {records} records, {buckets} buckets, judged");
    let size = outbox(&connection)?;
    report.storage.push(storage("outbox: a message", size.rows.unsigned_abs(), &size));
    Ok(())
}

const fn storage(tier: &'static str, buckets: u64, size: &Size) -> StorageRun {
    StorageRun { tier, rows: size.rows, buckets, packed_bytes: size.packed_bytes, disk_bytes: size.disk_bytes }
}

struct Live<'a> {
    w3: &'a W3<'a>,
    readings: Readings,
    input: &'a str,
    /// Steps that are there before the load begins.
    backlog: i64,
    /// The time of the load at which the quarter is told.
    told_at: Duration,
    producer: ThreadedProducer<DefaultProducerContext>,
}

/// The system under the load.
struct Measured<'a> {
    /// Where it can be asked for graphs.
    address: &'a str,
    rollup: &'a str,
    connection: &'a Connection,
    processes: Processes,
}

impl Live<'_> {
    fn send(&self, sent: Sent, value: &mut String) -> Outcome {
        self.readings.record(sent, value);
        send(&self.producer, self.input, &name(sent.device), value, self.readings.sent_ms(sent))
    }

    /// Waits until the group has read what is there.
    fn await_read(&self, group: &str) -> Outcome {
        let (begun_at, brokers) = (Instant::now(), &self.w3.rig.brokers);
        let ends = offsets::ends(brokers, self.input, PARTITIONS)?;
        while offsets::committed(brokers, group, self.input, PARTITIONS)? != ends {
            if begun_at.elapsed() > 5 * WAIT {
                return Err("the backlog in front of the load is not read within ten minutes".into());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// The load, by the clock; what is left when the measurement is over comes at once.
    fn pace(&self, order: impl Iterator<Item = Sent>, begun_us: u64, is_over: &AtomicBool) -> Outcome {
        let mut value = String::new();
        let begins_ms = self.readings.from_ms + self.backlog * EVERY_MS;
        for sent in order {
            let due = begun_us + (self.readings.sent_ms(sent) - begins_ms).unsigned_abs() * 1_000;
            while let Some(early) = due.checked_sub(now_us()).filter(|early| *early > 0) {
                if is_over.load(Ordering::Acquire) {
                    break;
                }
                std::thread::sleep(Duration::from_micros(early));
            }
            self.send(sent, &mut value)?;
        }
        end(&self.producer, self.input, &self.readings, OVER_MS)?;
        Ok(())
    }

    /// Lets the load run, and measures what it costs by itself, with a quarter, and with graphs.
    fn measure(&self, report: &mut Report, order: impl Iterator<Item = Sent> + Send, of: &Measured<'_>) -> Outcome {
        let (begun_us, begun_at) = (now_us(), Instant::now());
        let (samples, is_over) = (Mutex::new(Samples::new()), AtomicBool::new(false));
        let over = &is_over;
        std::thread::scope(|scope| -> Outcome {
            let load = scope.spawn(move || self.pace(order, begun_us, over));
            scope.spawn(|| sample(&of.processes, begun_at, &samples, &is_over));
            let mut measured = self.measured(report, of, begun_at, &samples);
            if measured.is_ok() && load.is_finished() {
                measured =
                    Err("the graphs took longer than the load: ask for fewer of them a second, --graph-rate".into());
            }
            is_over.store(true, Ordering::Release);
            let loaded = load.join().map_err(|_| "the load panicked")?;
            measured.and(loaded)
        })
    }

    /// What is measured while the load runs.
    fn measured(&self, report: &mut Report, of: &Measured<'_>, begun_at: Instant, samples: &Mutex<Samples>) -> Outcome {
        let told_at = self.told_at.as_secs_f64();
        std::thread::sleep(self.told_at);
        let told_s = self.await_told(of, begun_at)?;
        std::thread::sleep(Duration::from_secs(self.w3.options.seconds).saturating_sub(begun_at.elapsed()));
        let behind_s = told_s - told_at;
        report.notes.push(format!("live: a quarter, its hours and its days were in the tables within {behind_s:.0} s"));
        let taken = samples.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let runs = parts(&taken, told_at, resident_mib_max(of.processes.own)?)?;
        let quiet = runs.first().cloned().ok_or("nothing was sampled")?;
        report.live.extend(runs);
        report.graphs.push(self.graphs(of, &quiet)?);
        Ok(())
    }

    /// Waits until the quarter is told in every row of days, and answers the seconds since the load began.
    fn await_told(&self, of: &Measured<'_>, begun_at: Instant) -> Outcome<f64> {
        let due = i64::try_from(self.readings.devices)? * i64::try_from(self.readings.metrics)?;
        // What was filled has version 1, and rows that were not there at all begin with it too: of these all are new.
        let row_ms = self.readings.from_ms - self.readings.from_ms.rem_euclid(Tier::Days.row_ms());
        let filled = self.readings.from_ms - row_ms >= Tier::Days.bucket_ms();
        let ask = format!(
            "SELECT count(*) FROM {} WHERE start_ms = {row_ms} AND version >= {}",
            Tier::Days.table(of.rollup),
            if filled { 2 } else { 1 }
        );
        loop {
            let told: i64 = of.connection.wait(of.connection.client.query_one(ask.as_str(), &[]))?.get(0);
            if told == due {
                return Ok(begun_at.elapsed().as_secs_f64());
            }
            if begun_at.elapsed() > Duration::from_secs(self.w3.options.seconds + SPARE_S) {
                return Err(format!("the quarter is told of {told} of {due} metrics, a minute behind its time").into());
            }
            std::thread::sleep(TOLD_EVERY);
        }
    }

    /// Asks for graphs of a year, at their rate.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    fn graphs(&self, of: &Measured<'_>, quiet: &LiveRun) -> Outcome<GraphRun> {
        let RollUps { requests, graph_rate, filled, .. } = *self.w3.options;
        let bearer = format!("Bearer {TOKEN}");
        let (mut asked, mut due, mut bytes) = (Vec::new(), Vec::new(), 0);
        let (before, begun_us) = (of.processes.sample(), now_us());
        for number in 0..requests {
            let due_us = begun_us + number * 1_000_000 / graph_rate;
            std::thread::sleep(Duration::from_micros(due_us.saturating_sub(now_us())));
            let chance = crate::load::mix(number);
            let metric = self.readings.metrics()[usize::try_from(chance % self.readings.metrics as u64)?];
            let device = name(chance / 64 % filled);
            let path = format!("/api/series?device={device}&metric={metric}&from=now-365d&to=now&points={POINTS}");
            let from_us = now_us();
            let answer = client::get(of.address, &path, Some(("Authorization", bearer.as_str())), WAIT)?;
            let answered_us = now_us();
            if answer.code != 200 {
                return Err(format!("judge: {path}: {} {}", answer.code, answer.body).into());
            }
            asked.push((from_us, answered_us - from_us));
            due.push((due_us, answered_us.saturating_sub(due_us)));
            bytes += answer.body.len();
            if usize::try_from(number)?.is_multiple_of(CHECKED_EVERY) {
                check(&answer.body).map_err(|error| format!("judge: {path}: {error}"))?;
            }
        }
        let (used, seconds) = (of.processes.sample() - before, (now_us() - begun_us) as f64 / 1e6);
        let cores = std::thread::available_parallelism()?.get() as f64;
        let each = |all: f64, quiet: f64| (all - quiet * cores * seconds) / requests as f64 * 1e3;
        let run = GraphRun {
            name: "a year at 800 points",
            asked: quantiles(&asked, 0),
            due: quantiles(&due, 0),
            bytes: bytes as f64 / requests as f64,
            own_ms: each(used.own, quiet.own),
            postgres_ms: each(used.postgres, quiet.postgres),
            foreign_share: used.foreign_share(seconds)?,
        };
        eprintln!("graphs: {requests}, p50 {:.1} ms, p99 {:.1} ms", run.asked.p50, run.asked.p99);
        Ok(run)
    }
}

/// Takes a sample each second.
fn sample(processes: &Processes, begun_at: Instant, samples: &Mutex<Samples>, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Acquire) {
        let taken = (begun_at.elapsed().as_secs_f64(), processes.sample());
        samples.lock().unwrap_or_else(PoisonError::into_inner).push(taken);
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// What the load costs in front of the quarter that is told at `told_at`, with it, and on average over a quarter of an hour.
#[expect(clippy::cast_precision_loss, reason = "a handful of cores")]
fn parts(samples: &[(f64, Sample)], told_at: f64, resident: f64) -> Outcome<Vec<LiveRun>> {
    let cores = std::thread::available_parallelism()?.get() as f64;
    // The first seconds are those of connections and of what waited.
    let first = samples.iter().find(|(at, _)| *at >= 1.0).ok_or("nothing was sampled")?;
    let middle = samples.iter().rfind(|(at, _)| *at < told_at).ok_or("nothing was sampled")?;
    let last = samples.last().ok_or("nothing was sampled")?;
    let part = |part: &'static str, from: &(f64, Sample), to: &(f64, Sample)| -> Outcome<LiveRun> {
        let (seconds, used) = (to.0 - from.0, to.1 - from.1);
        let share = |used: f64| used / seconds / cores;
        let (own, broker, postgres) = (share(used.own), share(used.broker), share(used.postgres));
        Ok(LiveRun {
            part,
            seconds,
            own,
            broker,
            postgres,
            foreign_share: used.foreign_share(seconds)?,
            resident_mib_max: None,
            input_in: None,
            changelog_in: None,
        })
    };
    let quiet = part("readings alone", first, middle)?;
    let with = part("with a quarter that is told", middle, last)?;
    let whole = QUARTER_MS as f64 / 1e3;
    let mean = |quiet: f64, with: f64, seconds: f64| quiet + (with - quiet) * seconds / whole;
    let told = LiveRun {
        part: MEAN,
        seconds: whole,
        own: mean(quiet.own, with.own, with.seconds),
        broker: mean(quiet.broker, with.broker, with.seconds),
        postgres: mean(quiet.postgres, with.postgres, with.seconds),
        foreign_share: with.foreign_share.max(quiet.foreign_share),
        resident_mib_max: Some(resident),
        input_in: None,
        changelog_in: None,
    };
    Ok(vec![quiet, with, told])
}

/// Whether a graph is one of a year of readings each five seconds.
fn check(body: &str) -> Outcome {
    let told: serde_json::Value = serde_json::from_str(body)?;
    let columns = told["columns"].as_array().ok_or("there are no columns")?;
    if told["tier"] != "hours" || !(POINTS / 2..=POINTS).contains(&columns.len()) {
        return Err(format!("{} columns of {}", columns.len(), told["tier"]).into());
    }
    let due = told["column_ms"].as_i64().ok_or("no width")? / EVERY_MS;
    // The last ones are not over.
    for column in &columns[1..columns.len() - 2] {
        let is_between = match column["mean"].as_f64() {
            Some(mean) => column["min"].as_f64() <= Some(mean) && Some(mean) <= column["max"].as_f64(),
            None => true,
        };
        if column["n"].as_i64() != Some(due) || !is_between {
            return Err(format!("{column}, where {due} readings are due").into());
        }
    }
    if told["open"]["error"].is_string() {
        return Err(format!("what is open is not told: {}", told["open"]).into());
    }
    Ok(())
}
