//! A step that keeps nothing has no row.
//~ a `process` step keeps nothing, and this algorithm has a row of the type `i64`
//~ say `type Row = ();`, or keep the value

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
    topology.source("orders").process(Mistaken).to("told");
}
