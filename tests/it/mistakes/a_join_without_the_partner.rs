//! Behind a join the event is a pair. The words are the compiler's own: it compares two types, with no bound between them that
//! the library could say anything of.
//~ expected tuple `(_, String)`
//~ found type `i64`

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
    topology.source("orders").join::<String>("users").aggregate("sums", Mistaken).to("told");
}
