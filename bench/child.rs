//! One job: the order for a system under test: one run, on its command line as JSON.

use crate::Outcome;
use crate::rig::stores::StoreKind;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A system under test and its run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Child {
    /// W1.
    Rows(RowsSystem, RowsRun),
    /// Tidegate with keyed state.
    Keyed(KeyedRun),
    /// Records in, records out, without an engine: the limit of W2.
    Null(KeyedRun, Hops),
    /// A changelog read and loaded by hand: the limit of W5.
    RestoreProbe(KeyedRun),
    /// Tidegate with a roll-up.
    RolledUp(RollUpRun),
    /// The same input, read and committed: the limit of W3.
    Reading(RollUpRun),
}

/// The systems that W1 compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum RowsSystem {
    /// Tidegate, through the library entry of its binary
    Ours,
    /// The same steps by hand, without an engine: the limit
    Bare,
    /// A team's first version, written on day one
    Naive,
}

impl RowsSystem {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Bare => "bare",
            Self::Naive => "naive",
        }
    }
}

/// One run of W1.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RowsRun {
    pub brokers: String,
    pub database: String,
    /// Consumer group, pipeline name and prefix of transactional ids.
    pub group: String,
    pub input: String,
    pub output: String,
    /// Records to handle; 0: until standard input ends.
    pub records: u64,
    pub share: f64,
    pub batch: usize,
    pub age_ms: u64,
    pub workers: usize,
}

/// The way in which the events of a user come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// Re-keyed through a repartition topic.
    Shuffled,
    /// They lie together already, and the source says so.
    Declared,
}

/// What is kept for each user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kept {
    /// One sum over all of its events.
    Sum,
    /// A sum for each window of [`WINDOW_MS`], given out once the user's next event has closed it.
    Windows,
}

/// The length of a window in milliseconds: ten of them a second.
pub const WINDOW_MS: i64 = 100;

/// The hops that records take without an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hops {
    /// Into the topic where those of a user lie together.
    One,
    /// And out of it: read there, with the offsets committed.
    Both,
}

impl Hops {
    /// Number of hops.
    pub const fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::Both => 2,
        }
    }
}

/// One run over keyed state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyedRun {
    pub brokers: String,
    /// Consumer group, pipeline name and prefix of transactional ids.
    pub group: String,
    pub input: String,
    pub output: String,
    pub shape: Shape,
    pub keeps: Kept,
    /// Partitions of the input and of the topics that belong to it.
    pub partitions: i32,
    /// Events of a user for each notice.
    pub every: u64,
    /// Events that used so much are dropped before the shuffle.
    pub kept: u64,
    /// Records to handle, those of a repartition topic counted as well; 0: until standard input ends.
    pub records: u64,
    pub commit_ms: u64,
    pub workers: usize,
    pub store: StoreKind,
    /// Interval at which committed values go into the store.
    pub flush_ms: u64,
    /// Where a store on disk lies.
    pub folder: PathBuf,
}

/// One run of W3.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RollUpRun {
    pub brokers: String,
    pub database: String,
    /// Consumer group, pipeline name and prefix of transactional ids.
    pub group: String,
    /// The name of the roll-up, with which its tables and topics begin.
    pub rollup: String,
    pub input: String,
    /// Records to handle.
    pub records: u64,
    pub workers: usize,
    pub store: StoreKind,
    /// Interval at which committed values go into the store.
    pub flush_ms: u64,
    /// Where a store on disk lies.
    pub folder: PathBuf,
}

impl Child {
    /// The arguments that make this child.
    pub fn words(&self) -> Outcome<[String; 2]> {
        Ok(["child".into(), serde_json::to_string(self)?])
    }

    /// From the last of them.
    pub fn read(json: &str) -> Outcome<Self> {
        Ok(serde_json::from_str(json)?)
    }
}
