//! Tells of each impression of an advertisement whether somebody clicked on it within ten minutes.
//!
//! Topics `impressions`, `clicks`, `attribution-waiting-changelog`, `attribution-waiting-timers-changelog` and
//! `attributed-impressions`, described in the folder `topics/attribution`. Both sources are keyed by impression. No database:
//! impressions and clicks wait for each other in the store `waiting`, beside the partition.
//!
//! A click may be told an hour late, by a telephone that was offline: so long the last word about an impression waits.

use crate::flow::Topology;
use crate::flow::pairing::{Pair, Paired, Within};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The pipeline; `tidegate::run` gives it a command line.
#[must_use]
pub fn topology() -> Topology {
    let within = Within::between(Duration::ZERO, Duration::from_mins(10)).grace(Duration::from_hours(1));
    let mut topology = Topology::new("attribution");
    topology
        .source("impressions")
        .join_within("clicks", within)
        .aggregate("waiting", Attribution)
        .to("attributed-impressions");
    topology
}

/// An advertisement was shown.
#[derive(Serialize, Deserialize)]
struct Impression {
    advertisement: String,
}

/// Somebody clicked on it.
#[derive(Serialize, Deserialize)]
struct Click {
    position: i64,
}

/// The notice for the next topic.
#[derive(Serialize, PartialEq, Debug)]
struct Attributed {
    advertisement: String,
    clicked_after_ms: Option<i64>,
}

/// Pairs each impression with its clicks.
struct Attribution;

impl Paired for Attribution {
    type Left = Impression;
    type Right = Click;
    type Notices = Option<Attributed>;

    fn pair(&self, impression: &Impression, _: &Click, pair: &Pair<'_>) -> Option<Attributed> {
        let clicked_after_ms = pair.right_ms.zip(pair.left_ms).map(|(clicked, shown)| clicked - shown);
        Some(Attributed { advertisement: impression.advertisement.clone(), clicked_after_ms })
    }

    fn left_alone(&self, impression: &Impression, _: &Pair<'_>) -> Option<Attributed> {
        Some(Attributed { advertisement: impression.advertisement.clone(), clicked_after_ms: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Key;

    #[test]
    fn an_impression_is_told_with_the_time_of_its_click_or_without_one() {
        let (key, impression) = (Key::from("i-1"), Impression { advertisement: "shoes".into() });
        let pair = Pair { key: &key, left_ms: Some(1_000), right_ms: Some(1_250) };
        let told = |attributed: Option<Attributed>| serde_json::to_string(&attributed.unwrap()).unwrap();
        assert_eq!(
            told(Attribution.pair(&impression, &Click { position: 7 }, &pair)),
            r#"{"advertisement":"shoes","clicked_after_ms":250}"#
        );
        let alone = Pair { right_ms: None, ..pair };
        assert_eq!(
            told(Attribution.left_alone(&impression, &alone)),
            r#"{"advertisement":"shoes","clicked_after_ms":null}"#
        );
    }
}
