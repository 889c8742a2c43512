//! A row is read from columns, and written to them.
//~ consider adding `#[derive(serde::Deserialize)]` to your `Account` type
//~ consider adding `#[derive(serde::Serialize)]` to your `Account` type

use tidegate::flow::{Algorithm, Context, Reject, Topology};

struct Account {
    cents: i64,
}

struct Mistaken;

impl Algorithm for Mistaken {
    type Event = i64;
    type Row = Account;
    type Notices = Option<i64>;

    fn apply(&self, _: i64, _: &mut Account, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        Ok(None)
    }
}

fn main() {
    let mut topology = Topology::new("mistake");
    topology.source("orders").update("accounts", Mistaken).to("told");
}
