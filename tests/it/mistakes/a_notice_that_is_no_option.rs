//! There may be no notice, or several.
//~ `i64` is not an iterator

use tidegate::flow::{Algorithm, Context, Reject, Topology};

struct Mistaken;

impl Algorithm for Mistaken {
    type Event = i64;
    type Row = i64;
    type Notices = i64;

    fn apply(&self, _: i64, _: &mut i64, _: &mut Context<'_>) -> Result<i64, Reject> {
        Ok(7)
    }
}

fn main() {
    let mut topology = Topology::new("mistake");
    topology.source("orders").aggregate("sums", Mistaken).to("told");
}
