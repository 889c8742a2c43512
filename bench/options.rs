//! One job: the command line of the runner, and that of the children it starts from its own binary.

use clap::{Args, Parser, Subcommand, ValueEnum};

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
    W1(Workload),
    /// One system under test, in a process of its own
    #[command(hide = true)]
    Child(Child),
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum System {
    /// Tidegate, through the library entry of its binary
    Ours,
    /// The same steps by hand, without an engine: the limit
    Bare,
    /// What a team writes on day one
    Naive,
}

impl System {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Bare => "bare",
            Self::Naive => "naive",
        }
    }
}

#[derive(Args, Debug, Clone)]
pub struct Workload {
    /// Short inputs, one repetition: does everything work?
    #[arg(long)]
    pub smoke: bool,
    /// Write bench/results/<date>-<commit>.json and .md
    #[arg(long)]
    pub save: bool,
    /// Systems to run
    #[arg(long, value_enum, value_delimiter = ',', default_value = "ours,bare,naive")]
    pub only: Vec<System>,
    /// Repetitions of the pair ours/bare
    #[arg(long, default_value_t = 3)]
    pub reps: usize,
    /// Notifications in the backlog
    #[arg(long, default_value_t = 2_000_000)]
    pub records: u64,
    /// Notifications for the naive peer
    #[arg(long, default_value_t = 20_000)]
    pub naive_records: u64,
    /// Rows in the table
    #[arg(long, default_value_t = 1_000_000)]
    pub rows: i64,
    /// Share of notifications that is announced
    #[arg(long, default_value_t = 0.2)]
    pub share: f64,
    /// Share that is announced in the part that measures latency
    #[arg(long, default_value_t = 0.2)]
    pub latency_share: f64,
    /// Most records of a database transaction
    #[arg(long, default_value_t = 1_000)]
    pub batch: usize,
    /// Longest that a record waits for company, in milliseconds
    #[arg(long, default_value_t = 5)]
    pub age_ms: u64,
    /// Workers
    #[arg(long, default_value_t = 2)]
    pub workers: usize,
    /// Notifications per second while latency is measured; 0 leaves that part out
    #[arg(long, default_value_t = 2_000)]
    pub rate: u64,
    /// Seconds of it, after the warming up
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
    /// Seconds at that rate before latencies count: the broker's compiler is busy for the first ten thousand transactions
    #[arg(long, default_value_t = 60)]
    pub warm_up: u64,
    /// Leave the backlog out
    #[arg(long)]
    pub no_backlog: bool,
    /// Record each timed run of ours with perf into this folder
    #[arg(long)]
    pub perf: Option<std::path::PathBuf>,
}

impl Workload {
    /// With the short inputs where they are asked for.
    pub fn shortened(mut self) -> Self {
        if self.smoke {
            self.reps = 1;
            self.records = self.records.min(50_000);
            self.naive_records = self.naive_records.min(500);
            self.rows = self.rows.min(100_000);
            self.seconds = self.seconds.min(2);
            self.warm_up = self.warm_up.min(1);
        }
        self
    }
}

/// One run of one system.
#[derive(Args, Debug, Clone)]
pub struct Child {
    #[arg(value_enum)]
    pub system: System,
    #[arg(long)]
    pub brokers: String,
    #[arg(long)]
    pub database: String,
    /// Consumer group, pipeline name and prefix of transactional ids
    #[arg(long)]
    pub group: String,
    #[arg(long)]
    pub input: String,
    #[arg(long)]
    pub output: String,
    /// Records to handle; 0: until standard input ends
    #[arg(long)]
    pub records: u64,
    #[arg(long)]
    pub share: f64,
    #[arg(long)]
    pub batch: usize,
    #[arg(long)]
    pub age_ms: u64,
    #[arg(long)]
    pub workers: usize,
}

impl Child {
    /// The arguments that make this child.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec!["child".to_owned(), self.system.name().to_owned()];
        let mut put = |name: &str, value: String| words.extend([format!("--{name}"), value]);
        put("brokers", self.brokers.clone());
        put("database", self.database.clone());
        put("group", self.group.clone());
        put("input", self.input.clone());
        put("output", self.output.clone());
        put("records", self.records.to_string());
        put("share", self.share.to_string());
        put("batch", self.batch.to_string());
        put("age-ms", self.age_ms.to_string());
        put("workers", self.workers.to_string());
        words
    }
}
