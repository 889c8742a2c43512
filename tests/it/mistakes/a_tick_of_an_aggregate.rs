//! A tick is one of the whole partition, and an aggregate works by key.
//~ `every` runs a `process` step once for its whole partition, and this step has a row of the type `i64` for each key
//~ remove `every`, and give each key a timer: `with_timers`, `Context::set_timer` in `apply`, and once more in `timer`

use std::time::Duration;
use tidegate::flow::{Algorithm, Context, Reject, Topology};

struct Mistaken;

impl Algorithm for Mistaken {
    type Event = i64;
    type Row = i64;
    type Notices = Option<i64>;

    fn apply(&self, _: i64, _: &mut i64, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        Ok(None)
    }
}

fn main() {
    let mut topology = Topology::new("mistake");
    topology.source("orders").aggregate("sums", Mistaken).with_timers("ticks").every(Duration::from_secs(60)).to("told");
}
