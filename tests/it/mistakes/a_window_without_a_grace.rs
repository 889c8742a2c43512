//! How long windows wait for late events has no default.
//~ `Tumbling` cannot be the windows of `_`
//~ windows need a grace, the time for which they wait for late events: `Tumbling::of(size).grace(time)`

use std::time::Duration;
use tidegate::flow::window::{Tumbling, Window, Windowed};
use tidegate::flow::{Context, Reject, Topology};

struct Count;

impl Windowed for Count {
    type Event = i64;
    type Value = i64;
    type Notices = Option<i64>;

    fn add(&self, _: &i64, count: &mut i64, _: &mut Context<'_>) -> Result<(), Reject> {
        *count += 1;
        Ok(())
    }

    fn emit(&self, count: &i64, _: &Window<'_>) -> Option<i64> {
        Some(*count)
    }
}

fn main() {
    let mut topology = Topology::new("mistake");
    topology.source("numbers").window(Tumbling::of(Duration::from_secs(60))).aggregate("counts", Count).to("counted");
}
