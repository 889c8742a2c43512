//! One job: W1: a notification changes its row once, and every fifth change is published, exactly once.
//!
//! First a backlog, for throughput and CPU: ours and bare in pairs, the order rotating. Then a fixed rate, for latency.

use crate::Outcome;
use crate::child::{Child, RowsRun, RowsSystem as Name};
use crate::judge::rows::{Case, judge};
use crate::load::pacer::{now_us, pace};
use crate::load::{Input, notification};
use crate::meter::calibration::calibrate;
use crate::meter::latency::{quantiles, watch};
use crate::meter::stretch::{Stretch, perf_file};
use crate::options::rows::Rows;
use crate::report::Report;
use crate::report::latency::LatencyRun;
use crate::report::run::Run;
use crate::rig::gathering::Gathering;
use crate::rig::reading::reader;
use crate::rig::{Rig, tables, topics};
use crate::system::System;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const SEED: u64 = 20_260_131;
/// Time for which the load gathers records: the Java client's default is 5 ms, before version 4 it was none.
const LINGER: Duration = Duration::from_millis(2);

struct W1<'a> {
    rig: Rig,
    options: &'a Rows,
    runs: usize,
}

pub fn run(options: &Rows) -> Outcome {
    let rig = Rig::start(options.common.smoke, true)?;
    let parameters = serde_json::json!({
        "seed": SEED, "records": options.records, "naive_records": options.naive_records, "rows": options.rows,
        "share": options.share, "batch": options.batch, "age_ms": options.age_ms, "workers": options.common.workers,
        "partitions": topics::PARTITIONS, "layout": "a: all processes share all cores",
    });
    let mut report = Report::new("w1", calibrate(&rig)?, parameters);
    let mut w1 = W1 { rig, options, runs: 0 };
    if !options.no_backlog {
        w1.backlog(&mut report)?;
    }
    if options.rate > 0 {
        w1.latency(&mut report)?;
    }
    claims(&mut report);
    report.end(options.common.save)
}

/// The claims about ours, for the parts that were measured.
fn claims(report: &mut Report) {
    let rate = report.ratio(["ours", "bare"], None, |run| run.records_per_s).map(|spread| spread.median);
    report.claim("rate, ours/bare", rate, 0.6, true);
    let own = report.median("ours", None, |run| run.own_us);
    report.claim("own CPU of ours, µs/rec", own, 5.0, false);
    let ours = report.latencies.iter().find(|run| run.system == "ours").map(|run| run.latency.clone());
    report.claim("latency of ours, p50 ms", ours.as_ref().map(|latency| latency.p50), 15.0, false);
    report.claim("latency of ours, p99 ms", ours.as_ref().map(|latency| latency.p99), 60.0, false);
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn float(number: u64) -> f64 {
    number as f64
}

impl W1<'_> {
    fn input(&self, topic: &str, records: u64) -> Input {
        Input { topic: topic.into(), seed: SEED, records, rows: self.options.rows }
    }

    fn wants(&self, system: Name) -> bool {
        self.options.only.contains(&system)
    }

    /// A run with a group, an output and a table of its own.
    fn prepare(&mut self, system: Name, input: &Input, records: u64, share: f64) -> Outcome<RowsRun> {
        self.runs += 1;
        let group = format!("{}-{}", system.name(), self.runs);
        let output = format!("{group}-out");
        let database = self.rig.database()?.url.clone();
        topics::create(&self.rig.brokers, &[&output])?;
        tables::reset(&database, input.rows)?;
        let Rows { batch, age_ms, .. } = *self.options;
        let (brokers, input, workers) = (self.rig.brokers.clone(), input.topic.clone(), self.options.common.workers);
        Ok(RowsRun { brokers, database, group, input, output, records, share, batch, age_ms, workers })
    }

    fn case<'a>(system: Name, run: &'a RowsRun, input: &'a Input) -> Case<'a> {
        let RowsRun { brokers, database, group, output, share, .. } = run;
        let group = (system != Name::Naive).then_some(group.as_str());
        Case { brokers, database, input, output, share: *share, group }
    }

    fn backlog(&mut self, report: &mut Report) -> Outcome {
        let (long, short) =
            (self.input("changes", self.options.records), self.input("changes-short", self.options.naive_records));
        for input in [&long, &short] {
            topics::create(&self.rig.brokers, &[&input.topic, &input.dead_letters()])?;
            topics::fill(&self.rig.brokers, input)?;
        }
        if !self.options.common.smoke {
            self.timed(Name::Bare, &long)?; // the broker's compiler, the disk's cache
        }
        for repetition in 0..self.options.common.reps {
            let mut pair = [Name::Ours, Name::Bare];
            pair.rotate_left(repetition % 2);
            for system in pair {
                if self.wants(system) {
                    report.runs.push(self.timed(system, &long)?);
                }
            }
        }
        if self.wants(Name::Naive) {
            report.runs.push(self.timed(Name::Naive, &short)?);
        }
        Ok(())
    }

    /// One run over the whole input, judged.
    fn timed(&mut self, name: Name, input: &Input) -> Outcome<Run> {
        let run = self.prepare(name, input, input.records, self.options.share)?;
        let perf = self.options.common.perf.as_deref().filter(|_| name == Name::Ours);
        let perf = perf_file(perf, &run.group)?;
        let stretch = Stretch::run(&self.rig, &Child::Rows(name, run.clone()), 1.0, perf.as_deref())?;
        let verdict = judge(&Self::case(name, &run, input))?;
        Ok(stretch.judged(name.name(), true, verdict.messages))
    }

    fn latency(&mut self, report: &mut Report) -> Outcome {
        for name in [Name::Ours, Name::Bare] {
            if self.wants(name) {
                report.latencies.push(self.paced(name)?);
            }
        }
        Ok(())
    }

    /// One run at a fixed rate, judged.
    fn paced(&mut self, name: Name) -> Outcome<LatencyRun> {
        let (rate, share) = (self.options.rate, self.options.latency_share);
        let warm_up = Duration::from_secs(self.options.warm_up);
        let topic = format!("live-{}", name.name());
        let input = self.input(&topic, rate * (self.options.seconds + self.options.warm_up));
        topics::create(&self.rig.brokers, &[&topic, &input.dead_letters()])?;
        let run = self.prepare(name, &input, 0, share)?;
        let mut system = System::start(&Child::Rows(name, run.clone()))?;
        let processes = self.rig.processes(system.pid());
        system.expect("ready")?;
        std::thread::sleep(Duration::from_secs(1));
        let consumer = reader(&self.rig.brokers, &run.output, 0..topics::PARTITIONS, false)?;
        let mut load = Gathering::start(&self.rig.brokers, &topic, topics::PARTITIONS, LINGER)?;
        let is_over = AtomicBool::new(false);
        let before = Mutex::new(processes.sample());
        let begun_us = now_us();
        let from_us = begun_us + self.options.warm_up * 1_000_000;
        let (seen, used, seconds) = std::thread::scope(|scope| -> Outcome<_> {
            let watching = scope.spawn(|| watch(&consumer, &is_over));
            let warmed = scope.spawn(|| {
                std::thread::sleep(warm_up);
                *before.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = processes.sample();
            });
            let send = |number, due| {
                let id = input.id(number);
                load.send(&id.to_string(), notification(id, due), due)
            };
            let paced = pace(input.records, rate, send).and_then(|()| load.end());
            let _ = warmed.join();
            let used = processes.sample() - *before.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let seconds = float(now_us() - from_us) / 1e6;
            is_over.store(true, Ordering::Release);
            paced?;
            let seen = watching.join().map_err(|_| "the reader panicked")??;
            Ok((seen, used, seconds))
        })?;
        system.finish()?;
        let verdict = judge(&Self::case(name, &run, &input))?;
        if verdict.messages != seen.len() {
            return Err(format!("judge: {} messages, of which the reader saw {}", verdict.messages, seen.len()).into());
        }
        let records = float(rate * self.options.seconds);
        let run = LatencyRun {
            system: name.name(),
            rate,
            share,
            latency: quantiles(&seen, from_us),
            own_us: used.own / records * 1e6,
            broker_us: used.broker / records * 1e6,
            postgres_us: used.postgres / records * 1e6,
            foreign_share: used.foreign_share(seconds)?,
        };
        eprintln!("{}: at {rate}/s p50 {:.1} ms, p99 {:.1} ms, judged", run.system, run.latency.p50, run.latency.p99);
        Ok(run)
    }
}
