//! The pipeline of the demo's devices: the shipped one's metrics, which may be silent for longer, since most devices are seldom heard of.

use crate::flow::rollup::{Measured, Metered, Metric, Patience, Reading};
use crate::flow::{Context, Reject, Topology};
use crate::pipelines::home::Home;
use std::time::Duration;

/// The topic of the readings.
pub(in crate::app::demo) const READINGS: &str = "home-readings";
/// The roll-up, and the pipeline.
pub(in crate::app::demo) const NAME: &str = "home";
/// The longest time between two readings of which it is known what was in between: most devices are heard of twice a day.
pub(in crate::app::demo) const SILENCE: Duration = Duration::from_hours(24);

struct Meters;

impl Metered for Meters {
    type Event = Vec<Measured>;

    fn readings(&self, measured: Vec<Measured>, context: &Context<'_>) -> Result<Vec<Reading>, Reject> {
        Home.readings(measured, context)
    }

    fn metric(&self, name: &str) -> Option<Metric> {
        Home.metric(name).map(|metric| metric.silence(SILENCE))
    }
}

/// The pipeline.
pub(in crate::app::demo) fn topology() -> Topology {
    let mut topology = Topology::new(NAME);
    topology.source(READINGS).roll_up(NAME, Meters, Patience::default());
    topology
}
