//! The load of the system tests: notifications of two co-partitioned topics change a row by a random draw, and about 30 %
//! of the changes are published. The draw is kept in the row, in its notice and, by a trigger, in a ledger of all
//! changes. So an oracle can distinguish a result that was published again from one that was computed again.
//!
//! The algorithm breaks the contract of [`Algorithm`] on purpose: it is not a function of its arguments.

#[path = "../tests/oracle/laws/chain.rs"]
mod chain;

use chain::{chained, magnitude_of};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use tidegate::flow::{Algorithm, Context, Key, Reject, Topology};
use uuid::Uuid;

#[derive(Deserialize)]
struct Reading {
    /// Any text; the record has 20 B to 900 KiB with the rest. The notice repeats it.
    #[serde(default)]
    payload: String,
    /// The defect of the record.
    poison: Option<Poison>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Poison {
    Rejected,
    Panic,
    Abort,
}

/// Beside the version, which the engine keeps.
#[derive(Serialize, Deserialize)]
struct Thing {
    nonce: i64,
    chain: i64,
    /// Number of changes so far.
    links: i64,
    /// The changes since the row was read, for the ledger: a trigger moves them there.
    trail: String,
}

#[derive(Serialize)]
struct Change {
    nonce: i64,
    magnitude: f64,
    payload: String,
}

struct Draw;

/// Takes what a source bears that has no part in the load, and does nothing with it.
struct Take;

impl Algorithm for Take {
    type Event = Reading;
    type Row = ();
    type Notices = Option<Change>;

    fn apply(&self, _: Reading, (): &mut (), _: &mut Context<'_>) -> Result<Option<Change>, Reject> {
        Ok(None)
    }
}

impl Algorithm for Draw {
    type Event = Reading;
    type Row = Thing;
    type Notices = Option<Change>;

    fn apply(&self, reading: Reading, thing: &mut Thing, context: &mut Context<'_>) -> Result<Option<Change>, Reject> {
        match reading.poison {
            Some(Poison::Rejected) => return Err(Reject::new("it asks for it")),
            Some(Poison::Panic) => panic!("it asks for it"),
            Some(Poison::Abort) => std::process::abort(),
            None => {}
        }
        let Key::I64(id) = *context.key() else { return Err(Reject::new("the key is no number")) };
        let nonce = Uuid::new_v4().as_u64_pair().0.rotate_left(32).cast_signed();
        let place = (context.topic(), context.partition(), context.offset());
        thing.nonce = nonce;
        thing.links += 1;
        thing.chain = chained(thing.chain, id, place, nonce);
        let (topic, partition, offset) = place;
        // Writing to a String cannot fail.
        let _ = write!(thing.trail, "{} {topic} {partition} {offset} {nonce} {},", thing.links, thing.chain);
        Ok(Some(Change { nonce, magnitude: magnitude_of(nonce), payload: reading.payload }))
    }
}

fn main() -> tidegate::Exit {
    let mut topology = Topology::new("load");
    topology
        .source("load-readings")
        .with("load-corrections")
        .update("things", Draw)
        .at_least("large", 0.7, |change| change.magnitude)
        .to("load-changes");
    // For a test that deletes a source: what the load is sent to has to stay for the oracle.
    if std::env::var_os("LOAD_SPARE").is_some() {
        topology.source("load-spare").process(Take).done();
    }
    tidegate::run(topology)
}
