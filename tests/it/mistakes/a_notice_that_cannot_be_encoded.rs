//! A notice is encoded as a message's value.
//~ `Change` is no notice
//~ derive `serde::Serialize` for it, or wrap a value that serde writes in `tidegate::flow::Notice`

use tidegate::flow::{Algorithm, Context, Reject, Topology};

struct Change {
    cents: i64,
}

struct Mistaken;

impl Algorithm for Mistaken {
    type Event = i64;
    type Row = i64;
    type Notices = Option<Change>;

    fn apply(&self, _: i64, _: &mut i64, _: &mut Context<'_>) -> Result<Option<Change>, Reject> {
        Ok(None)
    }
}

fn main() {
    let mut topology = Topology::new("mistake");
    topology.source("orders").aggregate("sums", Mistaken).to("told");
}
