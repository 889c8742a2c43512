//! One job: what can be chosen about W5.

use super::{Common, Keeping};
use crate::load::events::USERS_MAX;
use clap::Args;

#[derive(Args, Debug, Clone)]
pub struct Stores {
    #[command(flatten)]
    pub common: Common,
    /// Keys in the changelog
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=USERS_MAX))]
    pub keys: u64,
    #[command(flatten)]
    pub keeping: Keeping,
    /// Events per second before the kill
    #[arg(long, default_value_t = 10_000)]
    pub rate: u64,
    /// Seconds of it: two flush intervals and a half
    #[arg(long, default_value_t = 13)]
    pub seconds: u64,
    /// Partition counts whose memory is compared
    #[arg(long, value_delimiter = ',', default_value = "8,64,256")]
    pub partitions: Vec<i32>,
}

impl Stores {
    /// With the short inputs where they are asked for.
    pub fn shortened(mut self) -> Self {
        self.common.shorten();
        if self.common.smoke {
            self.keys = self.keys.min(50_000);
            self.rate = self.rate.min(2_000);
            self.seconds = self.seconds.min(7);
            self.partitions.retain(|count| *count <= 64);
        }
        self
    }
}
