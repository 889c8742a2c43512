//! One job: what can be chosen about W2, W4 and W6.

use super::{Common, Keeping};
use crate::load::events::{BYTES_MIN, KEEP_ALL, USERS_MAX};
use clap::{Args, ValueEnum};

/// The systems that W2 compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum System {
    /// Tidegate, through the library entry of its binary
    Ours,
    /// Records in, records out, without an engine: the limit
    Null,
    /// The same, and read again where they arrive
    NullBoth,
}

#[derive(Args, Debug, Clone)]
pub struct Keyed {
    #[command(flatten)]
    pub common: Common,
    /// Events in the input; of more than 256 bytes a quarter as many
    #[arg(long, default_value_t = 2_000_000)]
    pub records: u64,
    /// Users
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=USERS_MAX))]
    pub users: u64,
    /// Bytes of an event, several after commas [default: 100 for W2, 100,1024 for W4]
    #[arg(long, value_delimiter = ',', value_parser = bytes)]
    pub bytes: Vec<usize>,
    /// Longest that a record waits for its transaction, in milliseconds
    #[arg(long, default_value_t = 100)]
    pub commit_ms: u64,
    #[command(flatten)]
    pub keeping: Keeping,
    /// Events of ten that are summed, by what they used; the others are dropped before the shuffle (W2)
    #[arg(long, default_value_t = KEEP_ALL, value_parser = clap::value_parser!(u64).range(1..=KEEP_ALL))]
    pub kept: u64,
    /// Systems to run (W2)
    #[arg(long, value_enum, value_delimiter = ',', num_args = 1.., default_value = "ours,null,null-both")]
    pub only: Vec<System>,
}

fn bytes(text: &str) -> Result<usize, String> {
    let bytes = text.parse().map_err(|_| "not a number".to_owned())?;
    if bytes < BYTES_MIN { Err(format!("an event has at least {BYTES_MIN} bytes")) } else { Ok(bytes) }
}

impl Keyed {
    /// With the short inputs where they are asked for, and `bytes` where no size is given.
    pub fn shortened(mut self, bytes: &[usize]) -> Self {
        self.common.shorten();
        if self.common.smoke {
            self.records = self.records.min(400_000);
            self.users = self.users.min(5_000);
        }
        if self.bytes.is_empty() {
            self.bytes = bytes.into();
        }
        self
    }

    /// Number of events of `bytes` in an input: about equal work for the disk.
    pub const fn records_of(&self, bytes: usize) -> u64 {
        if bytes > 256 { self.records / 4 } else { self.records }
    }
}
