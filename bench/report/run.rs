//! One job: timed runs over a backlog, and how they compare.

use super::Report;
use super::table::{self, Column, Spread, spread};
use serde::Serialize;
use std::fmt::Write;

/// One timed run.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    pub system: &'static str,
    /// Bytes of a record, where the workload compares sizes.
    pub bytes: Option<usize>,
    /// Between the first published records and the last.
    pub records_per_s: f64,
    /// CPU microseconds per input record, in the same time.
    pub own_us: f64,
    pub broker_us: f64,
    pub postgres_us: Option<f64>,
    pub resident_mib_max: f64,
    /// From the start of the process to its first committed output.
    pub first_output_ms: f64,
    /// Share of the machine that processes outside the run took: above a few percent, repeat it.
    pub foreign_share: f64,
    /// Messages that the judge found, all as they must be.
    pub messages: usize,
    pub flow: Option<Flow>,
}

/// Bytes of record batches through the broker, as they lie in the log, per input record; of the whole run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Flow {
    /// Taken from producers, all topics.
    pub taken: f64,
    /// Given to consumers, all topics.
    pub given: f64,
    /// Given of the input; more than it has is read again after a pause.
    pub input_given: f64,
    /// Given of the topic where the events of a user lie together; 0 where that is the input.
    pub repartition_given: f64,
    /// Taken into the topic where the events of a user lie together; 0 where that is the input.
    pub repartition: f64,
    pub changelog: f64,
    /// Changelog records per input record, where they were counted.
    pub changelog_records: Option<f64>,
}

impl Run {
    fn name(&self) -> String {
        self.bytes.map_or_else(|| self.system.to_owned(), |bytes| format!("{} {bytes} B", self.system))
    }

    /// CPU of system, broker and database together.
    pub fn all_us(&self) -> f64 {
        self.own_us + self.broker_us + self.postgres_us.unwrap_or(0.0)
    }

    /// Bytes through the broker, in and out.
    pub fn moved(&self) -> Option<f64> {
        self.flow.map(|flow| flow.taken + flow.given)
    }
}

impl Report {
    fn all<'a>(&'a self, system: &'a str, bytes: Option<usize>) -> impl Iterator<Item = &'a Run> {
        self.runs.iter().filter(move |run| run.system == system && (bytes.is_none() || run.bytes == bytes))
    }

    /// The median of one system's runs over records of `bytes` (`None`: of any size).
    pub fn median(&self, system: &str, bytes: Option<usize>, number: impl Fn(&Run) -> f64) -> Option<f64> {
        spread(self.all(system, bytes).map(number)).map(|spread| spread.median)
    }

    /// Ratios of `number`, one system's to another's over records of `bytes` (`None`: of any size): pair by pair where
    /// they ran in pairs, else of the medians.
    pub fn ratio(&self, pair: [&str; 2], bytes: Option<usize>, number: impl Fn(&Run) -> f64) -> Option<Spread> {
        let [these, those] = pair.map(|system| self.all(system, bytes).map(&number).collect::<Vec<f64>>());
        if these.len() == those.len() {
            return spread(these.iter().zip(&those).map(|(this, that)| this / that));
        }
        let ratio = spread(these.into_iter())?.median / spread(those.into_iter())?.median;
        Some(Spread { min: ratio, median: ratio, max: ratio })
    }
}

/// The table of runs, and the ratio of the first system to each other one.
pub fn write(report: &Report, text: &mut String) {
    let columns: [Column<Run>; 16] = [
        Column::with_spread("rec/s", 0, |run| Some(run.records_per_s)),
        Column::new("own CPU µs/rec", 2, |run| Some(run.own_us)),
        Column::new("broker", 2, |run| Some(run.broker_us)),
        Column::new("postgres", 2, |run| run.postgres_us),
        Column::new("sum", 2, |run| Some(run.all_us())),
        Column::new("RSS MiB", 0, |run| Some(run.resident_mib_max)),
        Column::new("first output ms", 0, |run| Some(run.first_output_ms)),
        Column::new("broker in B/rec", 1, |run| Some(run.flow?.taken)),
        Column::new("broker out B/rec", 1, |run| Some(run.flow?.given)),
        Column::new("input out", 1, |run| Some(run.flow?.input_given)),
        Column::new("repartition out", 1, |run| Some(run.flow?.repartition_given)),
        Column::new("repartition in", 1, |run| Some(run.flow?.repartition)),
        Column::new("changelog in", 1, |run| Some(run.flow?.changelog)),
        Column::new("changelog records/rec", 2, |run| run.flow?.changelog_records),
        Column::new("foreign CPU %", 1, |run| Some(run.foreign_share * 100.0)),
        Column::new("messages", 0, |run| Some(f64::from(u32::try_from(run.messages).unwrap_or(u32::MAX)))),
    ];
    table::write("backlog", &report.runs, Run::name, &columns, text);
    let Some(first) = report.runs.first().map(|run| run.system) else { return };
    let mut pairs: Vec<(&str, Option<usize>)> = Vec::new();
    for run in report.runs.iter().filter(|run| run.system != first) {
        if !pairs.contains(&(run.system, run.bytes)) {
            pairs.push((run.system, run.bytes));
        }
    }
    for (other, bytes) in pairs {
        let ratio = |number: fn(&Run) -> f64| report.ratio([first, other], bytes, number);
        let (Some(rate), Some(own)) = (ratio(|run| run.records_per_s), ratio(|run| run.own_us)) else { continue };
        let size = bytes.map_or_else(String::new, |bytes| format!(" at {bytes} B"));
        let _ = writeln!(
            text,
            "\n{first}/{other}{size}: {:.2}x rec/s ({:.2}–{:.2}), {:.2}x own CPU",
            rate.median, rate.min, rate.max, own.median
        );
    }
}
