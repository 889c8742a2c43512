//! A step is there once its chain ends.
//~ unused `StepBuilder` that must be used
//~ a step does nothing until its chain ends in to() or done()

#![deny(unused_must_use)]

use tidegate::flow::{Algorithm, Context, Reject, Topology};

struct Mistaken;

impl Algorithm for Mistaken {
    type Event = i64;
    type Row = i64;
    type Notices = Option<i64>;

    fn apply(&self, cents: i64, sum: &mut i64, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        *sum += cents;
        Ok(Some(*sum))
    }
}

fn main() {
    let mut topology = Topology::new("mistake");
    topology.source("orders").aggregate("sums", Mistaken);
}
