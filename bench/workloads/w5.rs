//! One job: W5: how long keyed state takes to be there: from its changelog, after kill -9 with the local store, and what an
//! idle instance takes in memory by partitions.

use crate::Outcome;
use crate::child::{Child, Kept, KeyedRun, Shape};
use crate::judge::offsets;
use crate::judge::usage::{Case, Sums, judge};
use crate::load::events::{Events, KEEP_ALL, key};
use crate::load::kept;
use crate::load::pacer::pace;
use crate::meter::calibration::calibrate;
use crate::meter::cpu::{resident_mib, resident_mib_max};
use crate::options::stores::Stores;
use crate::ours::keyed::Internal;
use crate::report::Report;
use crate::report::restore::{MemoryRun, RestartRun, RestoreRun};
use crate::rig::topics::{self, PARTITIONS, Topic};
use crate::rig::{Rig, filling};
use crate::system::System;
use rdkafka::producer::Producer;
use std::time::{Duration, Instant};

const SEED: u64 = 20_260_131;
/// Events handled after a restore, which check what was restored.
const PROOFS: u64 = 1_000;
/// Bytes of an event.
const EVENT_BYTES: usize = 100;
/// Time for which an idle instance settles before its memory is read.
const SETTLE: Duration = Duration::from_secs(3);
const WAIT: Duration = Duration::from_secs(60);

struct W5<'a> {
    rig: Rig,
    options: &'a Stores,
    runs: usize,
}

pub fn run(options: &Stores) -> Outcome {
    let rig = Rig::start(options.common.smoke, false)?;
    let parameters = serde_json::json!({
        "seed": SEED, "keys": options.keys, "value_bytes": 32, "partitions": PARTITIONS, "rate": options.rate,
        "seconds": options.seconds, "store": options.keeping.store.name(), "workers": options.common.workers,
        "flush_ms": options.keeping.flush_ms, "layout": "a: all processes share all cores",
    });
    let mut report = Report::new("w5", calibrate(&rig)?, parameters);
    let mut w5 = W5 { rig, options, runs: 0 };
    w5.restores(&mut report)?;
    if options.keeping.store.is_lasting() {
        for _ in 0..options.common.reps {
            report.restarts.push(w5.restart()?);
        }
    } else {
        report.notes.push("restart after kill -9: needs a store on disk, --store rocksdb".into());
    }
    for partitions in &options.partitions {
        report.memory.push(w5.memory(*partitions)?);
    }
    claims(&mut report);
    report.end(options.common.save)
}

/// The claims about ours, for the parts that were measured.
fn claims(report: &mut Report) {
    let rate = |system: &str| report.restore_rate(system);
    let (ours, probe) = (rate("ours"), rate("probe"));
    let share = ours.zip(probe).map(|(ours, probe)| ours / probe);
    // Either claim will do; the one nearer to its bound is reported.
    if share.is_some_and(|share| share >= 0.7) {
        report.claim("restore, ours/probe", share, 0.7, true);
    } else {
        report.claim("restore, records/s (or 0.7 of the probe)", ours, 200_000.0, true);
    }
    let slowest = report.restarts.iter().map(|run| run.milliseconds).max_by(f64::total_cmp);
    report.claim("restart after kill -9, ms from assignment, slowest", slowest, 1_000.0, false);
    let grown = report.mib_per_partition();
    report.claim("memory, MiB for each further partition", grown, 1.0, false);
}

impl W5<'_> {
    /// A run of ours over keyed events, with a group and topics of its own.
    fn prepare(&mut self, name: &str, partitions: i32, records: u64) -> Outcome<(KeyedRun, Internal)> {
        self.runs += 1;
        let group = format!("{name}-{}", self.runs);
        let run = KeyedRun {
            brokers: self.rig.brokers.clone(),
            input: format!("{group}-events"),
            output: format!("{group}-out"),
            keeps: Kept::Sum,
            shape: Shape::Declared,
            partitions,
            every: 1,
            kept: KEEP_ALL,
            records,
            commit_ms: 100,
            workers: self.options.common.workers,
            store: self.options.keeping.store,
            flush_ms: self.options.keeping.flush_ms,
            folder: self.rig.folder().join(&group),
            group,
        };
        let internal = Internal::of(&run)?;
        let of = |name| Topic { name, partitions, is_compacted: false };
        let dead_letters = format!("{}-dlt", run.input);
        topics::create_all(&run.brokers, [of(&run.input), of(&dead_letters), of(&run.output)].into_iter())?;
        internal.create(&run)?;
        Ok((run, internal))
    }

    /// Writes one changelog record for each key.
    fn fill(&self, internal: &Internal) -> Outcome {
        filling::changelog(&self.rig.brokers, &internal.changelog, SEED, self.options.keys)
    }

    fn events(&self, run: &KeyedRun, records: u64) -> Events {
        Events::new(&run.input, SEED, records, self.options.keys, EVENT_BYTES, true)
    }

    fn judge(&self, run: &KeyedRun, internal: &Internal, events: &Events) -> Outcome {
        let before = |user| kept::before_restore(SEED, user).0;
        let Internal { changelog, keyed, dead_letters } = internal;
        let sums = Some(Sums { changelog, output: &run.output, every: run.every, before: &before });
        judge(&Case {
            brokers: &self.rig.brokers,
            events,
            kept: KEEP_ALL,
            group: &run.group,
            keyed,
            is_keyed_read: true,
            sums,
            dead_letters,
        })?;
        Ok(())
    }

    /// Ours and the probe in pairs, the order rotating.
    fn restores(&mut self, report: &mut Report) -> Outcome {
        for repetition in 0..self.options.common.reps {
            let (run, internal) = self.prepare("restore", PARTITIONS, PROOFS)?;
            self.fill(&internal)?;
            let mut pair = [true, false];
            pair.rotate_left(repetition % 2);
            for is_ours in pair {
                report.restores.push(if is_ours { self.ours(&run, &internal)? } else { self.probe(&run)? });
            }
        }
        Ok(())
    }

    /// One restore by the engine. Events behind it and the judge check it.
    fn ours(&self, run: &KeyedRun, internal: &Internal) -> Outcome<RestoreRun> {
        let mut system = System::start(&Child::Keyed(run.clone()))?;
        let restored = self.restored(&mut system, "ours")?;
        let events = self.events(run, PROOFS);
        filling::events(&self.rig.brokers, &events)?;
        system.expect("done")?;
        system.finish()?;
        self.judge(run, internal, &events)?;
        Ok(restored)
    }

    /// One restore by hand, into stores of its own.
    fn probe(&self, run: &KeyedRun) -> Outcome<RestoreRun> {
        let folder = run.folder.with_extension("probe");
        let mut system = System::start(&Child::RestoreProbe(KeyedRun { folder, ..run.clone() }))?;
        let restored = self.restored(&mut system, "probe")?;
        system.finish()?;
        Ok(restored)
    }

    /// Measures from the assignment until everything is restored.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    fn restored(&self, system: &mut System, name: &'static str) -> Outcome<RestoreRun> {
        let processes = self.rig.processes(system.pid());
        system.expect("assigned")?;
        let (begun_at, before) = (Instant::now(), processes.sample());
        let records = system.expect("ready")?;
        let (seconds, used) = (begun_at.elapsed().as_secs_f64(), processes.sample() - before);
        // Behind a restore of ours lie the changes of the events that checked it.
        if !(self.options.keys..=self.options.keys + PROOFS).contains(&records) {
            return Err(format!("{name}: {records} records restored, where {} lie there", self.options.keys).into());
        }
        let bytes = key(0).len() + kept::before_restore(SEED, 0).1.len();
        let run = RestoreRun {
            system: name,
            seconds,
            records_per_s: records as f64 / seconds,
            megabytes_per_s: (records * bytes as u64) as f64 / seconds / 1e6,
            own_us: used.own / records as f64 * 1e6,
            broker_us: used.broker / records as f64 * 1e6,
            resident_mib_max: resident_mib_max(system.pid())?,
            foreign_share: used.foreign_share(seconds)?,
        };
        eprintln!("{name}: {records} records in {seconds:.2} s, {:.0}/s", run.records_per_s);
        Ok(run)
    }

    /// Restores, takes events at a rate, is killed, starts again with the store that it left; then judged.
    fn restart(&mut self) -> Outcome<RestartRun> {
        let Stores { rate, seconds, .. } = *self.options;
        let (run, internal) = self.prepare("restart", PARTITIONS, 0)?;
        self.fill(&internal)?;
        let events = self.events(&run, rate * seconds);
        let child = Child::Keyed(run.clone());
        let mut system = System::start(&child)?;
        system.expect("ready")?;
        let producer = topics::paced_producer(&self.rig.brokers, &run.input)?;
        let mut scratch = Vec::new();
        pace(events.records, rate, |number, _| filling::send(&producer, &events, number, &mut scratch))?;
        system.kill()?;
        producer.flush(WAIT)?;

        let mut system = System::start(&child)?;
        let processes = self.rig.processes(system.pid());
        system.expect("assigned")?;
        let (begun_at, before) = (Instant::now(), processes.sample());
        let replayed = system.expect("ready")?;
        let (elapsed, used) = (begun_at.elapsed(), processes.sample() - before);
        let from_start_ms = system.started.elapsed().as_secs_f64() * 1e3;
        self.await_end(&run)?;
        system.finish()?;
        self.judge(&run, &internal, &events)?;
        let milliseconds = elapsed.as_secs_f64() * 1e3;
        eprintln!("restart: {milliseconds:.0} ms from the assignment, {replayed} records replayed, judged");
        Ok(RestartRun {
            milliseconds,
            from_start_ms,
            replayed,
            foreign_share: used.foreign_share(elapsed.as_secs_f64())?,
        })
    }

    /// Waits until the group has read its input.
    fn await_end(&self, run: &KeyedRun) -> Outcome {
        let (begun_at, brokers) = (Instant::now(), &self.rig.brokers);
        let ends = offsets::ends(brokers, &run.input, PARTITIONS)?;
        while offsets::committed(brokers, &run.group, &run.input, PARTITIONS)? != ends {
            if begun_at.elapsed() > WAIT {
                return Err("the input is not read to its end within a minute of the restart".into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Measures the memory of an idle instance with empty stores.
    fn memory(&mut self, partitions: i32) -> Outcome<MemoryRun> {
        let (run, _) = self.prepare("memory", partitions, 0)?;
        let mut system = System::start(&Child::Keyed(run))?;
        system.expect("ready")?;
        std::thread::sleep(SETTLE);
        let resident_mib = resident_mib(system.pid())?;
        system.finish()?;
        eprintln!("{partitions} partitions: {resident_mib:.1} MiB");
        Ok(MemoryRun { partitions, resident_mib })
    }
}
