//! There may be no notice, or several. The words are the standard library's, for its own `IntoIterator`: a trait of ours in front of
//! it is asked only after it, since `Item` is needed to know whether it may be published.
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
