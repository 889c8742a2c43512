//! The result of a demo: one line for people, one object for programs.

use super::home::offline::Comparison;
use super::process::Process;
use super::recovery::Recovery;
use super::ticker::grouped;
use super::world::World;
use crate::app::failure::Failure;
use crate::engine::audit::{AuditReport, Findings};
use serde::Serialize;
use std::io::Write;
use std::sync::PoisonError;
use std::time::Duration;

/// The set-up that the figures were taken on.
const EDITION: &str = "embedded: in-process log and SQLite rows, a model and not for production";

/// The end of a demo.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    edition: &'static str,
    /// Records in the source topics.
    records: i64,
    /// Records decided, by the database's count.
    decided: i64,
    /// The sum of row versions.
    row_versions: i64,
    /// Notices and dead letters put into the outbox.
    announced: i64,
    /// Messages found in the topics.
    in_topic: usize,
    missing: usize,
    twice: usize,
    unknown: usize,
    altered: usize,
    out_of_order: usize,
    /// Everything else that must not be, a sentence each.
    contradictions: Vec<String>,
    crashes: u64,
    recovered: usize,
    recovery_ms: Vec<u64>,
    /// Notices that a worker published in the place of a dead one.
    published_from_outbox: u64,
    algorithm_runs: u64,
    repeated_algorithm_runs: u64,
    /// Age of a record when its notification is committed, over the whole demo.
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    /// The first of each finding, by id.
    ids: Vec<String>,
    /// The devices'; none without devices.
    pub(super) roll_ups: Option<RolledUp>,
}

/// The end of the devices' pipeline.
#[derive(Debug, Default, Serialize)]
pub(super) struct RolledUp {
    devices: u32,
    /// Readings in their topic, those that came twice counted once.
    readings: u64,
    /// Buckets in the tables of the three tiers, each compared with the offline computation.
    buckets: u64,
    /// Buckets that are not what it says.
    wrong: u64,
    /// The time until the month was in its tables; none where the demo ended before.
    filled_ms: Option<u64>,
    crashes: u64,
    recovered: u64,
    dead_letters: i64,
    /// The first wrong buckets, and what else must not be, a sentence each.
    findings: Vec<String>,
}

impl RolledUp {
    pub(super) fn new(report: &AuditReport, compared: Comparison, process: &Process) -> Self {
        let Comparison { readings, buckets, wrong, mut findings } = compared;
        let recoveries = process.recoveries.lock().unwrap_or_else(PoisonError::into_inner);
        let (crashes, recovered) = (process.crashes, recoveries.len() as u64);
        findings.extend(report.contradictions.iter().cloned());
        let audited = [
            (report.missing.count, "are missing"),
            (report.twice.count, "came twice"),
            (report.unknown.count, "are unknown"),
            (report.altered.count, "are altered"),
            (report.out_of_order.count, "are out of order"),
        ];
        let audited = audited.into_iter().filter(|(count, _)| *count > 0);
        findings.extend(audited.map(|(count, what)| format!("{count} messages between the tiers {what}")));
        if !report.is_drained() {
            findings.push("a partition was not read to its end and published".into());
        }
        if report.dead_letters > 0 {
            findings.push(format!("{} dead letters", report.dead_letters));
        }
        if crashes != recovered {
            findings.push(format!("{crashes} crashes, {recovered} recoveries"));
        }
        let dead_letters = report.dead_letters;
        Self { readings, buckets, wrong, crashes, recovered, dead_letters, findings, ..Self::default() }
    }

    /// Of so many devices, whose month took so long.
    pub(super) fn of(self, devices: u32, filled: Option<Duration>) -> Self {
        let filled_ms = filled.map(|filled| u64::try_from(filled.as_millis()).unwrap_or(u64::MAX));
        Self { devices, filled_ms, ..self }
    }

    const fn is_good(&self) -> bool {
        self.wrong == 0 && self.findings.is_empty()
    }

    fn write(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let Self { devices, readings, buckets, wrong, crashes, recovered, .. } = self;
        let judged = if *wrong == 0 {
            "each is what an offline computation says".into()
        } else {
            format!("{} are not what an offline computation says", grouped(*wrong))
        };
        writeln!(
            out,
            "  roll-ups  {} devices, {} readings in {} buckets of three tiers: {judged} · {recovered} of {crashes} crashes recovered",
            grouped(*devices),
            grouped(*readings),
            grouped(*buckets)
        )?;
        self.findings.iter().try_for_each(|finding| Ok(writeln!(out, "  found     {finding}")?))
    }
}

impl Summary {
    pub(super) fn new(report: &AuditReport, world: &World, process: &Process) -> Self {
        let (status, crashes) = (&process.status, process.crashes);
        let recoveries = process.recoveries.lock().unwrap_or_else(PoisonError::into_inner);
        let findings: [&Findings; 5] =
            [&report.missing, &report.twice, &report.unknown, &report.altered, &report.out_of_order];
        let mut summary = Self {
            edition: EDITION,
            records: world.scoring.records(),
            decided: report.records,
            row_versions: report.row_versions.unwrap_or(-1),
            announced: report.announced,
            in_topic: report.in_topics,
            missing: report.missing.count,
            twice: report.twice.count,
            unknown: report.unknown.count,
            altered: report.altered.count,
            out_of_order: report.out_of_order.count,
            contradictions: report.contradictions.clone(),
            crashes,
            recovered: recoveries.len(),
            recovery_ms: recoveries.iter().map(Recovery::took_ms).collect(),
            published_from_outbox: recoveries.iter().map(|recovery| recovery.published).sum(),
            algorithm_runs: world.scoring.runs.total(),
            repeated_algorithm_runs: world.scoring.runs.repeated(),
            p50_ms: tenths(status.age_at_publication.quantile_ms(0.5, None)),
            p99_ms: tenths(status.age_at_publication.quantile_ms(0.99, None)),
            ids: findings.iter().flat_map(|found| found.ids.iter().cloned()).collect(),
            roll_ups: None,
        };
        drop(recoveries);
        summary.check(report, world);
        summary
    }

    /// Checks that the end was reached, which the audit does not ask.
    fn check(&mut self, report: &AuditReport, world: &World) {
        let mut must = |holds: bool, sentence: String| {
            if !holds {
                self.contradictions.push(sentence);
            }
        };
        let (records, decided) = (self.records, self.decided);
        must(records == decided, format!("{records} records were fed, {decided} were decided"));
        must(report.is_drained(), "a partition was not read to its end and published".into());
        must(report.published == report.outbox_rows, "outbox rows wait at or beyond the committed offsets".into());
        must(world.log.open_transactions() == 0, "a transaction is still open".into());
        let (crashes, recovered) = (self.crashes, self.recovered);
        must(recovered as u64 == crashes, format!("{crashes} crashes, {recovered} recoveries"));
    }

    /// Whether all is as promised.
    pub(super) fn is_good(&self) -> bool {
        self.missing + self.twice + self.unknown + self.altered + self.out_of_order == 0
            && self.contradictions.is_empty()
            && self.repeated_algorithm_runs == 0
            && self.roll_ups.as_ref().is_none_or(RolledUp::is_good)
    }

    /// The audit line, and a line for each thing that is wrong.
    pub(super) fn write(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let number = |n: i64| u64::try_from(n).map_or_else(|_| "?".into(), grouped);
        let (records, versions) = (number(self.records), number(self.row_versions));
        let (announced, in_topic) = (number(self.announced), grouped(self.in_topic as u64));
        let sign = |holds: bool| if holds { "=" } else { "but" };
        writeln!(
            out,
            "  audit     {records} in {} {versions} row versions · {announced} announced {} {in_topic} in the topic · \
             {} missing, {} twice, {} out of order",
            sign(records == versions),
            sign(announced == in_topic),
            self.missing,
            self.twice,
            self.out_of_order
        )?;
        if self.crashes > 0 {
            writeln!(
                out,
                "  crashes   {} of {} recovered · {} notices published from the outbox · {} algorithm runs, {} repeated",
                self.recovered,
                self.crashes,
                grouped(self.published_from_outbox),
                grouped(self.algorithm_runs),
                grouped(self.repeated_algorithm_runs)
            )?;
        }
        if let Some(roll_ups) = &self.roll_ups {
            roll_ups.write(out)?;
        }
        for id in &self.ids {
            writeln!(out, "  found     {id}")?;
        }
        for contradiction in &self.contradictions {
            writeln!(out, "  found     {contradiction}")?;
        }
        Ok(())
    }
}

fn tenths(ms: Option<f64>) -> Option<f64> {
    ms.map(|ms| (ms * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Summary {
        Summary {
            edition: EDITION,
            records: 3,
            decided: 3,
            row_versions: 3,
            announced: 1,
            in_topic: 1,
            missing: 0,
            twice: 0,
            unknown: 0,
            altered: 0,
            out_of_order: 0,
            contradictions: Vec::new(),
            crashes: 1,
            recovered: 1,
            recovery_ms: vec![1_022],
            published_from_outbox: 1,
            algorithm_runs: 3,
            repeated_algorithm_runs: 0,
            p50_ms: None,
            p99_ms: None,
            ids: Vec::new(),
            roll_ups: Some(RolledUp::default()),
        }
    }

    #[test]
    fn one_thing_that_must_not_be_is_enough_for_a_bad_end() {
        assert!(good().is_good());
        let spoil: [fn(&mut Summary); 9] = [
            |summary| summary.missing = 1,
            |summary| summary.twice = 1,
            |summary| summary.unknown = 1,
            |summary| summary.altered = 1,
            |summary| summary.out_of_order = 1,
            |summary| summary.repeated_algorithm_runs = 1,
            |summary| summary.contradictions.push("a transaction is still open".into()),
            |summary| summary.roll_ups = Some(RolledUp { wrong: 1, ..RolledUp::default() }),
            |summary| {
                let findings = vec!["1 dead letters".into()];
                summary.roll_ups = Some(RolledUp { findings, ..RolledUp::default() });
            },
        ];
        for (number, spoil) in spoil.iter().enumerate() {
            let mut summary = good();
            spoil(&mut summary);
            assert!(!summary.is_good(), "spoilt by number {number}");
        }
    }

    /// The checks beyond the audit, in a world that has come to rest.
    #[test]
    fn records_that_were_not_decided_and_crashes_without_a_recovery_are_contradictions() {
        let world = World::open(None, 0).unwrap();
        let report = world.scoring.audit().unwrap();
        let mut summary = good();
        summary.check(&report, &world);
        assert!(summary.is_good(), "{:?}", summary.contradictions);
        summary = Summary { decided: 2, crashes: 2, ..good() };
        summary.check(&report, &world);
        let told = summary.contradictions.join("; ");
        assert!(
            told.contains("3 records were fed, 2 were decided") && told.contains("2 crashes, 1 recoveries"),
            "{told}"
        );
        assert!(!summary.is_good());
    }
}
