//! One job: what can be chosen about W3.

use super::{Common, Keeping};
use crate::load::readings::METRICS;
use clap::Args;

#[derive(Args, Debug, Clone)]
pub struct RollUps {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub keeping: Keeping,
    /// Devices, each of which sends a record every 5 s
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(10..=1_000_000))]
    pub devices: u64,
    /// Metrics of each device
    #[arg(long, default_value_t = METRICS.len(), value_parser = metrics)]
    pub metrics: usize,
    /// Minutes of readings in the backlog
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub minutes: u64,
    /// Leave the backlog out
    #[arg(long)]
    pub no_backlog: bool,
    /// Leave the live part and the graphs out
    #[arg(long)]
    pub no_live: bool,
    /// Seconds of live readings before graphs are asked for; a quarter of an hour is told in their middle
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(10..=60))]
    pub seconds: u64,
    /// Graphs of a year that are asked for while readings come
    #[arg(long, default_value_t = 2_000)]
    pub requests: u64,
    /// Graphs a second
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    pub graph_rate: u64,
    /// Devices whose rows of a whole year lie in the tables; every other one has the rows that are under way
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub filled: u64,
}

fn metrics(text: &str) -> Result<usize, String> {
    let count = text.parse().map_err(|_| "not a number".to_owned())?;
    if (1..=METRICS.len()).contains(&count) { Ok(count) } else { Err(format!("there are 1 to {}", METRICS.len())) }
}

impl RollUps {
    /// With the short inputs where they are asked for.
    pub fn shortened(mut self) -> Self {
        self.common.shorten();
        if self.common.smoke {
            self.devices = self.devices.min(100);
            self.minutes = self.minutes.min(20);
            self.seconds = self.seconds.min(10);
            self.requests = self.requests.min(60);
            self.filled = self.filled.min(5);
        }
        self.filled = self.filled.min(self.devices);
        self
    }
}
