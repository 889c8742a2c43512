//! A record's value is decoded as the event.
//~ consider adding `#[derive(serde::Deserialize)]` to your `Order` type

use tidegate::flow::{Algorithm, Context, Reject, Topology};

struct Order {
    cents: i64,
}

struct Mistaken;

impl Algorithm for Mistaken {
    type Event = Order;
    type Row = i64;
    type Notices = Option<i64>;

    fn apply(&self, _: Order, _: &mut i64, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        Ok(None)
    }
}

fn main() {
    let mut topology = Topology::new("mistake");
    topology.source("orders").aggregate("sums", Mistaken).to("told");
}
