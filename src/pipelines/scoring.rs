//! Keeps a score for each account: readings move it a little, corrections set it, and large changes are announced.
//!
//! Table `accounts (id bigint primary key, score double precision not null, version bigint not null)`; topics `readings` (lead), `corrections`
//! (companion) and `large-changes`, described in the folder `topics/`.

use crate::flow::{Algorithm, Context, Reject, Topology};
use serde::{Deserialize, Serialize};

/// Lead topic.
const READINGS: &str = "readings";

/// Companion topic: equal partition count, same keys.
const CORRECTIONS: &str = "corrections";

/// The pipeline: `tidegate::run(tidegate::pipelines::scoring::topology())`.
#[must_use]
pub fn topology() -> Topology {
    let mut topology = Topology::new("scoring");
    topology
        .source(READINGS)
        .with(CORRECTIONS)
        .update("accounts", Smooth { weight: 0.2 })
        .at_least("large-change", 0.5, |change| change.magnitude)
        .to("large-changes");
    topology
}

/// The notification. Any other shape is a dead letter with the code `bad-json`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Event {
    Reading(Reading),
    Correction(Correction),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reading {
    value: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Correction {
    score: f64,
}

/// The columns read and written back.
#[derive(Serialize, Deserialize)]
struct Account {
    score: f64,
}

/// What the next topic is told.
#[derive(Serialize, PartialEq, Debug)]
struct Change {
    magnitude: f64,
    score: f64,
}

/// Exponential smoothing: each reading moves the score by `weight` of the way.
struct Smooth {
    weight: f64,
}

impl Algorithm for Smooth {
    type Event = Event;
    type Row = Account;
    type Notices = Option<Change>;

    fn apply(&self, event: Event, account: &mut Account, context: &mut Context<'_>) -> Result<Option<Change>, Reject> {
        let before = account.score;
        account.score = match (event, context.topic()) {
            (Event::Reading(reading), READINGS) => before + self.weight * (reading.value - before),
            (Event::Correction(correction), CORRECTIONS) => correction.score,
            (_, topic) => return Err(Reject::dead_letter("wrong-topic", format!("not an event of topic {topic}"))),
        };
        Ok(Some(Change { magnitude: (account.score - before).abs(), score: account.score }))
    }
}
