//! Keeps a score for each account: readings move it a little, corrections set it, and large changes are published.
//!
//! Topics `readings` (lead), `corrections` (companion) and `large-changes`, described in the folder `topics/`. The table:
//!
//! ```sql
//! create table accounts (id bigint primary key, score double precision not null, version bigint not null);
//! ```

use crate::flow::{Algorithm, Context, Reject, Topology};
use serde::{Deserialize, Serialize};

/// The companion topic; each of its records contains the new score.
const CORRECTIONS: &str = "corrections";

/// The pipeline; `tidegate::run` gives it a command line.
#[must_use]
pub fn topology() -> Topology {
    let mut topology = Topology::new("scoring");
    topology
        .source("readings")
        .with(CORRECTIONS)
        .update("accounts", Smooth { weight: 0.2 })
        .at_least("large-change", 0.5, |change| change.magnitude)
        .to("large-changes");
    topology
}

/// The notification: a reading has a value, a correction a score. Further fields are ignored, as `topics/schemas` promises.
#[derive(Deserialize)]
struct Event {
    value: Option<f64>,
    score: Option<f64>,
}

/// The columns read and written back.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Account {
    score: f64,
}

/// The notice for the next topic.
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
        account.score = if context.topic() == CORRECTIONS {
            event.score.ok_or_else(|| missing("score"))?
        } else {
            before + self.weight * (event.value.ok_or_else(|| missing("value"))? - before)
        };
        Ok(Some(Change { magnitude: (account.score - before).abs(), score: account.score }))
    }
}

fn missing(field: &str) -> Reject {
    Reject::dead_letter("bad-json", format!("the field {field} is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Key;
    use crate::flow::record::TopicName;

    fn apply(topic: &str, event: &str, account: &mut Account) -> Result<Option<Change>, Reject> {
        let (topic, key) = (TopicName::parse(topic).unwrap(), Key::from(7));
        let event = serde_json::from_str(event).unwrap();
        Smooth { weight: 0.2 }.apply(event, account, &mut Context::example(&topic, &key))
    }

    #[test]
    fn a_reading_moves_the_score_a_fifth_of_the_way() {
        let mut account = Account { score: 5.0 };
        let change = apply("readings", r#"{"value": 10}"#, &mut account).unwrap();
        assert_eq!(change, Some(Change { magnitude: 1.0, score: 6.0 }));
        assert_eq!(account, Account { score: 6.0 });
    }

    #[test]
    fn a_correction_sets_the_score() {
        let mut account = Account { score: 5.0 };
        let change = apply("corrections", r#"{"score": -1}"#, &mut account).unwrap();
        assert_eq!(change, Some(Change { magnitude: 6.0, score: -1.0 }));
    }

    #[test]
    fn an_event_of_the_wrong_shape_or_topic_is_rejected() {
        let mut account = Account { score: 5.0 };
        for (topic, event) in
            [("readings", r#"{"score": 1}"#), ("corrections", r#"{"value": 1}"#), ("corrections", "{}")]
        {
            assert_eq!(apply(topic, event, &mut account).unwrap_err().code(), "bad-json", "{topic} {event}");
        }
        assert!(serde_json::from_str::<Event>(r#"{"value": "ten"}"#).is_err());
        assert_eq!(account, Account { score: 5.0 });
    }

    #[test]
    fn the_topology_is_sound() {
        assert_eq!(topology().validate(), Ok(()));
    }
}
