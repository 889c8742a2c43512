//! One job: the command line of the runner: a workload and what can be chosen about it.

pub mod keyed;
pub mod rolled;
pub mod rows;
pub mod stores;

use crate::rig::stores::StoreKind;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use tidegate::settings::EngineSettings;

/// Measures Tidegate against what a person would write by hand. See bench/README.md.
#[derive(Parser, Debug)]
#[command(name = "bench")]
pub struct Options {
    #[command(subcommand)]
    pub mode: Mode,
    /// Passed by `cargo bench`, without meaning here.
    #[arg(long, hide = true, global = true)]
    pub bench: bool,
}

#[derive(Subcommand, Debug)]
pub enum Mode {
    /// Rows by id, one output for each fifth notification, exactly once
    W1(rows::Rows),
    /// Events of users at random, re-keyed and summed by user, exactly once
    W2(keyed::Keyed),
    /// Readings of many devices, rolled up into tables: as a backlog, live, and graphs of a year meanwhile
    W3(rolled::RollUps),
    /// The same sums over a source that is keyed by user already, against W2
    W4(keyed::Keyed),
    /// Restore of keyed state: from its changelog, after kill -9; memory by partitions
    W5(stores::Stores),
    /// The same sums for each window of a tenth of a second, against W4's
    W6(keyed::Keyed),
    /// One system under test, in a process of its own: what it is to do, as JSON
    #[command(hide = true)]
    Child { json: String },
}

/// The options that every workload takes.
#[derive(Args, Debug, Clone)]
pub struct Common {
    /// Short inputs, one repetition: does everything work?
    #[arg(long)]
    pub smoke: bool,
    /// Write bench/results/<date>-<commit>-<workload>.json and .md
    #[arg(long)]
    pub save: bool,
    /// Repetitions of each pair
    #[arg(long, default_value_t = 3)]
    pub reps: usize,
    /// Workers
    #[arg(long, default_value_t = 2)]
    pub workers: usize,
    /// Record each timed run of ours with perf into this folder
    #[arg(long)]
    pub perf: Option<PathBuf>,
}

/// The options for keeping keyed state.
#[derive(Args, Debug, Clone, Copy)]
pub struct Keeping {
    /// Where keyed state lies
    #[arg(long, value_enum, default_value = "memory")]
    pub store: StoreKind,
    /// Interval at which committed values go there, in milliseconds
    #[arg(long, default_value_t = flush_ms())]
    pub flush_ms: u64,
}

fn flush_ms() -> u64 {
    u64::try_from(EngineSettings::default().store_flush.as_millis()).unwrap_or(u64::MAX)
}

impl Common {
    fn shorten(&mut self) {
        if self.smoke {
            self.reps = 1;
        }
    }
}
