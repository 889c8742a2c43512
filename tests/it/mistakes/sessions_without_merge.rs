//! Sessions may become one, so their algorithm says how.
//~ `Count` does not say how two of its windows become one
//~ sessions grow together where an event comes between them: `impl Merge for Count`

use std::time::Duration;
use tidegate::flow::window::{Session, Window, Windowed};
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
    topology.source("numbers").window(Session::gap(Duration::from_secs(60)).grace(Duration::ZERO)).aggregate("counts", Count).to("counted");
}
