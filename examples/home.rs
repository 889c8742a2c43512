//! The devices of many homes: their readings are rolled up into quarters of an hour, hours and days. The system tests kill this one.
//!
//! A record's key is a device, and its value what the device measured at one time or several.

use tidegate::flow::rollup::{Between, Kind, Measured, Metered, Metric, Patience, Reading};
use tidegate::flow::{Context, Reject, Topology};

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
    topology.source("readings").roll_up("home", Home, Patience::default());
    topology
}

#[allow(dead_code, reason = "tests take the topology alone")]
fn main() -> tidegate::Exit {
    tidegate::run(topology())
}
