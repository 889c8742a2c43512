//! Sums the use of each user: events come in any order of partitions and are brought together by user. Every tenth event of
//! a user is published, and each event that uses much by itself.
//!
//! Topics `events`, `usage-by-user-repartition`, `usage-usage-changelog` and `usage-updates`, described in the folder
//! `topics/usage`. No database: the sums lie in the store `usage`, beside the partition.

use crate::flow::{Algorithm, Context, Reject, Topology};
use serde::{Deserialize, Serialize};

/// One event of a user in this many is published, however little it used.
const ANNOUNCED_EVERY: u64 = 10;

/// The pipeline; `tidegate::run` gives it a command line.
#[must_use]
pub fn topology() -> Topology {
    let mut topology = Topology::new("usage");
    topology
        .source("events")
        .key_by("by-user", |event: &Event| event.user_id.clone())
        .aggregate("usage", Sum)
        .at_least("large-use", 100.0, |update| update.magnitude)
        .to("usage-updates");
    topology
}

/// The event. Further fields are ignored, so that producers can add some first.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    user_id: String,
    units: f64,
}

/// The value kept for each user.
#[derive(Serialize, Deserialize, Default, PartialEq, Debug)]
struct Usage {
    count: u64,
    units: f64,
    /// Times of the earliest and the latest event, by their own timestamps.
    first_ms: i64,
    last_ms: i64,
}

/// The notice for the next topic.
#[derive(Serialize, PartialEq, Debug)]
struct Update {
    user: String,
    count: u64,
    units: f64,
    /// The weight of this event for the filter: its units, or infinity for a tenth event.
    #[serde(skip)]
    magnitude: f64,
}

/// Adds each event to its user's sum.
struct Sum;

impl Algorithm for Sum {
    type Event = Event;
    type Row = Usage;
    type Notices = Option<Update>;

    fn apply(&self, event: Event, usage: &mut Usage, context: &mut Context<'_>) -> Result<Option<Update>, Reject> {
        let at_ms = context.event_time_ms();
        let is_first = usage.count == 0;
        usage.count += 1;
        usage.units += event.units;
        usage.first_ms = if is_first { at_ms } else { usage.first_ms.min(at_ms) };
        usage.last_ms = if is_first { at_ms } else { usage.last_ms.max(at_ms) };
        let magnitude = if usage.count.is_multiple_of(ANNOUNCED_EVERY) { f64::INFINITY } else { event.units };
        Ok(Some(Update { user: context.key().to_string(), count: usage.count, units: usage.units, magnitude }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Key;
    use crate::flow::record::TopicName;

    fn apply(event: &str, usage: &mut Usage) -> Option<Update> {
        let (topic, key) = (TopicName::parse("usage-by-user-repartition").unwrap(), Key::from("ada"));
        let event = serde_json::from_str(event).unwrap();
        Sum.apply(event, usage, &mut Context::example(&topic, &key)).unwrap()
    }

    #[test]
    fn events_add_up_and_every_tenth_matters_without_bound() {
        let mut usage = Usage::default();
        let updates: Vec<Update> =
            (0..20).filter_map(|_| apply(r#"{"userId": "ada", "units": 2.5, "more": 1}"#, &mut usage)).collect();
        assert_eq!(usage, Usage { count: 20, units: 50.0, first_ms: 0, last_ms: 0 });
        let boundless: Vec<u64> =
            updates.iter().filter(|update| update.magnitude.is_infinite()).map(|update| update.count).collect();
        assert_eq!(boundless, [10, 20]);
        assert_eq!(updates[0], Update { user: "ada".into(), count: 1, units: 2.5, magnitude: 2.5 });
    }

    #[test]
    fn the_magnitude_is_not_told() {
        let update = Update { user: "ada".into(), count: 10, units: 1.0, magnitude: f64::INFINITY };
        assert_eq!(serde_json::to_string(&update).unwrap(), r#"{"user":"ada","count":10,"units":1.0}"#);
    }

    #[test]
    fn an_event_without_user_or_units_does_not_decode() {
        for event in [r#"{"units": 1}"#, r#"{"userId": "ada"}"#, r#"{"userId": 7, "units": 1}"#] {
            assert!(serde_json::from_str::<Event>(event).is_err(), "{event}");
        }
    }

    #[test]
    fn the_topology_is_sound() {
        let topology = topology();
        assert_eq!(topology.validate(), Ok(()));
        let leads: Vec<&str> = topology.sub_topologies().iter().map(|sub| sub.lead.as_str()).collect();
        assert_eq!(leads, ["events", "usage-by-user-repartition"]);
    }
}
