//! An algorithm calls nobody: it may run again, and nothing of the first run is left.
//~ expected `Result<Option<i64>, Reject>`, found future

use tidegate::flow::{Algorithm, Context, Reject, Topology};

struct Mistaken;

impl Algorithm for Mistaken {
    type Event = i64;
    type Row = i64;
    type Notices = Option<i64>;

    async fn apply(&self, cents: i64, sum: &mut i64, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        *sum += cents;
        Ok(None)
    }
}

fn main() {
    let mut topology = Topology::new("mistake");
    topology.source("orders").aggregate("sums", Mistaken).to("told");
}
