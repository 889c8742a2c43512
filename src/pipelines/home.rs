//! Rolls the readings of the devices of many homes up: into quarters of an hour, hours and days, for graphs over a week, a month, a year.
//!
//! The topic `home-readings` and those of the roll-up are described in the folder `topics/home`; `tidegate migrate` makes its tables. A
//! record's key is a device, and its value what the device measured at one time or several: written by producers, or by an instance
//! that takes readings over HTTP. The topic `home-alerts` tells of devices that have been silent for half an hour, and of mains voltage
//! and temperatures that are too high.

use crate::flow::rollup::{Between, Kind, Measured, Metered, Metric, Patience, Reading, Watch};
use crate::flow::{Context, Reject, Topology};
use std::time::Duration;

/// The metrics of all devices.
pub struct Home;

impl Metered for Home {
    type Event = Vec<Measured>;

    fn readings(&self, measured: Vec<Measured>, _: &Context<'_>) -> Result<Vec<Reading>, Reject> {
        Ok(Measured::readings(measured))
    }

    fn metric(&self, name: &str) -> Option<Metric> {
        match name {
            "power" => Some(Metric::new(Kind::Gauge(Between::Step)).quantiles()),
            "temperature" => Some(Metric::new(Kind::Gauge(Between::Linear))),
            "voltage" => Some(Metric::new(Kind::Gauge(Between::Step)).quantiles_around(240.0)),
            "energy" => Some(Metric::new(Kind::counter())),
            "mode" => Some(Metric::new(Kind::State)),
            "door" => Some(Metric::new(Kind::Event)),
            _ => None,
        }
    }

    /// The mains may have a tenth more than 230 V (EN 50160); water above 90 degrees is about to boil.
    fn watch(&self) -> Watch {
        Watch::default().silent_after(Duration::from_mins(30)).above("voltage", 253.0, 250.0).above(
            "temperature",
            90.0,
            80.0,
        )
    }
}

/// The pipeline.
#[must_use]
pub fn topology() -> Topology {
    let mut topology = Topology::new("home");
    topology.source("home-readings").roll_up("home", Home, Patience::default());
    topology
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Key;
    use crate::flow::record::TopicName;

    #[test]
    fn what_a_device_measures_at_one_time_is_a_reading_of_each_metric() {
        let (topic, key) = (TopicName::parse("home-readings").unwrap(), Key::from("boiler"));
        let measured = serde_json::from_str(
            r#"[{"at_ms": 5, "metrics": {"power": 5.5, "mode": 2}}, {"at_ms": 9, "metrics": {}}]"#,
        );
        let readings = Home.readings(measured.unwrap(), &Context::example(&topic, &key)).unwrap();
        let read: Vec<_> = readings
            .iter()
            .map(|reading| (reading.metric.as_str(), reading.point.at_ms, reading.point.value))
            .collect();
        assert_eq!(read, [("mode", 5, 2.0), ("power", 5, 5.5)]);
        assert!(read.iter().all(|(metric, ..)| Home.metric(metric).is_some()));
        assert!(Home.metric("pressure").is_none());
    }
}
