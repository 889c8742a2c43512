//! What a user says of metered devices.

use crate::flow::algorithm::Context;
use crate::flow::effect::Reject;
use crate::flow::rollup::{Metric, Reading, Watch};
use serde::de::DeserializeOwned;

/// What a user says of metered devices: which readings an event has, and what its metrics are.
pub trait Metered: Send + Sync + 'static {
    /// The record's value, decoded.
    type Event: DeserializeOwned + 'static;

    /// The readings of an event of the device that is the record's key.
    ///
    /// # Errors
    /// [`Reject`]: the record is none.
    fn readings(&self, event: Self::Event, context: &Context<'_>) -> Result<Vec<Reading>, Reject>;

    /// The metric of that name; `None` where there is none: the record is a dead letter (`unknown-metric`).
    fn metric(&self, name: &str) -> Option<Metric>;

    /// What is told of devices in the topic `<name>-alerts`: those that fall silent, and values that leave their bounds. Asked once,
    /// when the pipeline is built. By default nothing is told, and there is no such topic.
    fn watch(&self) -> Watch {
        Watch::default()
    }
}
