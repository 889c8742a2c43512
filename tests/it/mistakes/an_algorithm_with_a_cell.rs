//! Several workers run one algorithm at a time: what it remembers belongs into its row or a store.
//~ `Cell<i64>` cannot be shared between threads safely
//~ required by a bound in `Algorithm`

use std::cell::Cell;
use tidegate::flow::{Algorithm, Context, Reject, Topology};

struct Mistaken(Cell<i64>);

impl Algorithm for Mistaken {
    type Event = i64;
    type Row = i64;
    type Notices = Option<i64>;

    fn apply(&self, cents: i64, _: &mut i64, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        self.0.set(self.0.get() + cents);
        Ok(Some(self.0.get()))
    }
}

fn main() {
    let mut topology = Topology::new("mistake");
    topology.source("orders").aggregate("sums", Mistaken(Cell::new(0))).to("told");
}
