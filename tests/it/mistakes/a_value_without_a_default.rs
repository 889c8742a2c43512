//! A key that was not seen yet has the default.
//~ `std::default::Default` is not implemented for `NonZero<i64>`

use tidegate::flow::{Algorithm, Context, Reject, Topology};

struct Mistaken;

impl Algorithm for Mistaken {
    type Event = i64;
    type Row = std::num::NonZeroI64;
    type Notices = Option<i64>;

    fn apply(&self, _: i64, _: &mut std::num::NonZeroI64, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        Ok(None)
    }
}

fn main() {
    let mut topology = Topology::new("mistake");
    topology.source("orders").aggregate("sums", Mistaken).to("told");
}
