//! One job: W1: a notification changes its row once, and every fifth change is announced, exactly once.
//!
//! First a backlog, for throughput and CPU: ours and bare in pairs, the order rotating. Then a fixed rate, for latency.

use crate::Outcome;
use crate::judge::{Case, judge};
use crate::load::Input;
use crate::load::pacer::{now_us, pace};
use crate::meter::calibration::calibrate;
use crate::meter::cpu::{Processes, resident_mib_max};
use crate::meter::latency::{quantiles, reader, watch};
use crate::options::{Child, System as Name, Workload};
use crate::report::{Claim, LatencyRun, Report, Run};
use crate::rig::{Rig, tables, topics};
use crate::system::System;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const SEED: u64 = 20_260_131;

struct W1<'a> {
    rig: Rig,
    options: &'a Workload,
    runs: usize,
}

pub fn run(options: &Workload) -> Outcome {
    let rig = Rig::start(options.smoke)?;
    let calibration = calibrate(&rig)?;
    let mut w1 = W1 { rig, options, runs: 0 };
    let mut report = Report {
        workload: "w1",
        commit: word("git", &["rev-parse", "--short", "HEAD"]),
        date: word("date", &["+%F"]),
        parameters: serde_json::json!({
            "seed": SEED, "records": options.records, "naive_records": options.naive_records, "rows": options.rows,
            "share": options.share, "batch": options.batch, "age_ms": options.age_ms, "workers": options.workers,
            "partitions": topics::PARTITIONS, "layout": "a: all processes share all cores",
        }),
        calibration,
        runs: Vec::new(),
        latencies: Vec::new(),
        claims: Vec::new(),
    };
    if !options.no_backlog {
        w1.backlog(&mut report)?;
    }
    if options.rate > 0 {
        w1.latency(&mut report)?;
    }
    claims(&mut report);
    println!("{}", report.markdown());
    if options.save { report.save() } else { Ok(()) }
}

fn word(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// What is promised of ours, as far as it was measured.
fn claims(report: &mut Report) {
    let mut claims = Vec::new();
    let mut claim = |what: &str, found: Option<f64>, bound: f64, is_floor: bool| {
        claims.extend(found.map(|found| Claim { what: what.into(), found, bound, is_floor }));
    };
    let rate = report.ratio("bare", |run| run.records_per_s).map(|spread| spread.median);
    claim("rate, ours/bare", rate, 0.6, true);
    let own = report.runs.iter().filter(|run| run.system == "ours").map(|run| run.own_us);
    claim("own CPU of ours, µs/rec", crate::report::spread(own).map(|spread| spread.median), 5.0, false);
    let ours = report.latencies.iter().find(|run| run.system == "ours");
    claim("latency of ours, p50 ms", ours.map(|run| run.latency.p50), 15.0, false);
    claim("latency of ours, p99 ms", ours.map(|run| run.latency.p99), 60.0, false);
    report.claims = claims;
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

    fn processes(&self, system: &System) -> Processes {
        Processes { own: system.pid(), broker: self.rig.broker, postmaster: self.rig.postmaster }
    }

    /// A child with a group, an output and a table of its own.
    fn child(&mut self, system: Name, input: &Input, records: u64, share: f64) -> Outcome<Child> {
        self.runs += 1;
        let group = format!("{}-{}", system.name(), self.runs);
        let output = format!("{group}-out");
        topics::create(&self.rig.brokers, &[&output])?;
        tables::reset(&self.rig.database, input.rows)?;
        let Workload { batch, age_ms, workers, .. } = *self.options;
        Ok(Child {
            system,
            brokers: self.rig.brokers.clone(),
            database: self.rig.database.clone(),
            group,
            input: input.topic.clone(),
            output,
            records,
            share,
            batch,
            age_ms,
            workers,
        })
    }

    fn case<'a>(&'a self, child: &'a Child, input: &'a Input) -> Case<'a> {
        let group = (child.system != Name::Naive).then_some(child.group.as_str());
        let (brokers, database) = (&self.rig.brokers, &self.rig.database);
        Case { brokers, database, input, output: &child.output, share: child.share, group }
    }

    fn backlog(&mut self, report: &mut Report) -> Outcome {
        let (long, short) =
            (self.input("changes", self.options.records), self.input("changes-short", self.options.naive_records));
        for input in [&long, &short] {
            topics::create(&self.rig.brokers, &[&input.topic, &input.dead_letters()])?;
            topics::fill(&self.rig.brokers, input)?;
        }
        if !self.options.smoke {
            self.timed(Name::Bare, &long)?; // the broker's compiler, the disk's cache
        }
        for repetition in 0..self.options.reps {
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
        let child = self.child(name, input, input.records, self.options.share)?;
        let mut system = System::start(&child)?;
        let processes = self.processes(&system);
        let begun = system.expect("first")?;
        let (begun_at, before) = (Instant::now(), processes.sample());
        let first_output = system.started.elapsed();
        let perf = self.perf(name, system.pid())?;
        let records = float(system.expect("done")? - begun);
        let (seconds, used) = (begun_at.elapsed().as_secs_f64(), processes.sample() - before);
        if let Some(mut perf) = perf {
            perf.wait()?;
        }
        let resident_mib_max = resident_mib_max(system.pid())?;
        system.finish()?;
        let verdict = judge(&self.case(&child, input))?;
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let cores = std::thread::available_parallelism()?.get() as f64;
        let run = Run {
            system: name.name(),
            records_per_s: records / seconds,
            own_us: used.own / records * 1e6,
            broker_us: used.broker / records * 1e6,
            postgres_us: used.postgres / records * 1e6,
            resident_mib_max,
            first_output_ms: first_output.as_secs_f64() * 1e3,
            foreign_share: used.foreign() / (seconds * cores),
            messages: verdict.messages,
        };
        eprintln!(
            "{}: {:.0} rec/s; CPU µs/rec: own {:.2}, broker {:.2}, postgres {:.2}; foreign CPU {:.1} %; {} messages, judged",
            run.system,
            run.records_per_s,
            run.own_us,
            run.broker_us,
            run.postgres_us,
            run.foreign_share * 100.0,
            run.messages
        );
        Ok(run)
    }

    /// Samples ours for a few seconds of a timed run.
    fn perf(&self, name: Name, pid: u32) -> Outcome<Option<std::process::Child>> {
        let Some(folder) = self.options.perf.as_ref().filter(|_| name == Name::Ours) else { return Ok(None) };
        std::fs::create_dir_all(folder)?;
        let data = folder.join(format!("ours-{}.data", self.runs));
        let mut perf = Command::new("perf");
        perf.args(["record", "-q", "-F", "499", "-g", "-p", &pid.to_string(), "-o"])
            .arg(data)
            .args(["--", "sleep", "8"]);
        Ok(Some(perf.spawn()?))
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
        let child = self.child(name, &input, 0, share)?;
        let mut system = System::start(&child)?;
        let processes = self.processes(&system);
        system.expect("ready")?;
        std::thread::sleep(Duration::from_secs(1));
        let consumer = reader(&self.rig.brokers, &child.output, false)?;
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
            let paced = pace(&self.rig.brokers, &input, rate);
            let _ = warmed.join();
            let used = processes.sample() - *before.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let seconds = float(now_us() - from_us) / 1e6;
            is_over.store(true, Ordering::Release);
            paced?;
            let seen = watching.join().map_err(|_| "the reader panicked")??;
            Ok((seen, used, seconds))
        })?;
        system.finish()?;
        let verdict = judge(&self.case(&child, &input))?;
        if verdict.messages != seen.len() {
            return Err(format!("judge: {} messages, of which the reader saw {}", verdict.messages, seen.len()).into());
        }
        let records = float(rate * self.options.seconds);
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let cores = std::thread::available_parallelism()?.get() as f64;
        let run = LatencyRun {
            system: name.name(),
            rate,
            share,
            latency: quantiles(&seen, from_us),
            own_us: used.own / records * 1e6,
            broker_us: used.broker / records * 1e6,
            postgres_us: used.postgres / records * 1e6,
            foreign_share: used.foreign() / (seconds * cores),
        };
        eprintln!("{}: at {rate}/s p50 {:.1} ms, p99 {:.1} ms, judged", run.system, run.latency.p50, run.latency.p99);
        Ok(run)
    }
}
