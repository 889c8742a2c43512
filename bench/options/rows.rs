//! One job: what can be chosen about W1.

use super::Common;
use crate::child::RowsSystem;
use clap::Args;

#[derive(Args, Debug, Clone)]
pub struct Rows {
    #[command(flatten)]
    pub common: Common,
    /// Systems to run
    #[arg(long, value_enum, value_delimiter = ',', default_value = "ours,bare,naive")]
    pub only: Vec<RowsSystem>,
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
}

impl Rows {
    /// With the short inputs where they are asked for.
    pub fn shortened(mut self) -> Self {
        self.common.shorten();
        if self.common.smoke {
            self.records = self.records.min(50_000);
            self.naive_records = self.naive_records.min(500);
            self.rows = self.rows.min(100_000);
            self.seconds = self.seconds.min(2);
            self.warm_up = self.warm_up.min(1);
        }
        self
    }
}
