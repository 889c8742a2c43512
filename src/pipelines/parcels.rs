//! Sorts the scans of parcels into three topics by what they say: one step, several outputs.
//!
//! Topics `scans`, `deliveries`, `losses` and `movements`, described in the folder `topics/parcels`. The scans are keyed by
//! scanner; what is told of a delivery or a loss is keyed by parcel and what is told of a movement by depot, so that each
//! reader has together what belongs together. A message has the time of its scan, however late the scanner sent it. No
//! database and no store: a scan is sorted by itself.

use crate::flow::{Algorithm, Context, Notice, Reject, Topology};
use serde::{Deserialize, Serialize};

/// The pipeline; `tidegate::run` gives it a command line.
#[must_use]
pub fn topology() -> Topology {
    let mut topology = Topology::new("parcels");
    topology.source("scans").process(Sort).route(
        ["deliveries", "losses", "movements"],
        |notice, [deliveries, losses, movements]| match notice.value().map(|scan| scan.state) {
            Some(State::Delivered) => deliveries,
            Some(State::Lost) => losses,
            Some(State::Moved) | None => movements,
        },
    );
    topology
}

/// What a scan is about.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Debug)]
#[serde(rename_all = "lowercase")]
enum State {
    Moved,
    Delivered,
    Lost,
}

/// The event, and the value of the notice. Further fields are ignored, so that scanners can add some first.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
struct Scan {
    parcel: String,
    depot: String,
    state: State,
    /// Milliseconds since 1970, UTC.
    taken_ms: i64,
}

/// Gives each scan the key and the time under which it is told.
struct Sort;

impl Algorithm for Sort {
    type Event = Scan;
    type Row = ();
    type Notices = Option<Notice<Scan>>;

    fn apply(&self, scan: Scan, (): &mut (), context: &mut Context<'_>) -> Result<Option<Notice<Scan>>, Reject> {
        let key = if scan.state == State::Moved { scan.depot.clone() } else { scan.parcel.clone() };
        let taken_ms = scan.taken_ms;
        Ok(Some(Notice::new(scan).key(key).at(taken_ms).headers(context.headers())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Key;
    use crate::flow::record::TopicName;

    #[test]
    fn a_movement_is_told_under_its_depot_and_anything_else_under_its_parcel() {
        let (topic, key) = (TopicName::parse("scans").unwrap(), Key::from("scanner-7"));
        for (state, key_told) in [(State::Moved, "Delft"), (State::Delivered, "P1"), (State::Lost, "P1")] {
            let scan = Scan { parcel: "P1".into(), depot: "Delft".into(), state, taken_ms: 5 };
            let told = Sort.apply(scan.clone(), &mut (), &mut Context::example(&topic, &key)).unwrap();
            assert_eq!(told, Some(Notice::new(scan).key(key_told).at(5).headers(&[])));
        }
    }

    #[test]
    fn the_topology_is_sound_and_writes_its_three_topics() {
        let topology = topology();
        assert_eq!(topology.validate(), Ok(()));
        let outputs: Vec<String> = topology.outputs().iter().map(ToString::to_string).collect();
        assert_eq!(outputs, ["deliveries", "losses", "movements", "scans-dlt"]);
    }
}
