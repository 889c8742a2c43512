//! Rolls the readings of the devices of many homes up: into quarters of an hour, hours and days, for graphs over a week, a month, a year.
//!
//! The topic `home-readings` and those of the roll-up are described in the folder `topics/home`; `tidegate migrate` makes its tables. A
//! record's key is a device, and its value what the device measured at one time or several: written by producers, or by an instance
//! that takes readings over HTTP.

use crate::flow::rollup::{Between, Kind, Measured, Metered, Metric, Patience, Reading};
use crate::flow::{Context, Reject, Topology};

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
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn what_a_device_measures_at_one_time_is_a_reading_of_each_metric() {
        let mut driver = crate::testing::TestDriver::new(topology());
        driver.send("home-readings", "boiler", json!([{"at_ms": 0, "metrics": {"power": 5.0, "mode": 2}}]));
        driver.advance(Duration::from_mins(16));
        driver.send("home-readings", "boiler", json!([{"at_ms": 960_000, "metrics": {"power": 7.0}}]));
        driver.run();
        let told: Vec<String> =
            driver.read("home-quarters").into_iter().map(|(key, _): (String, serde_json::Value)| key).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told.iter().all(|key| key.contains("boiler")), "{told:?}");
    }
}
