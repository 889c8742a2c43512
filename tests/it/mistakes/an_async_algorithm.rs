//! An algorithm calls nobody: it may run again, and nothing of the first run is left. The words are the compiler's own: a method
//! of another type than its trait's is no bound that is not met, so a library cannot say anything of it.
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
