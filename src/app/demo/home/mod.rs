//! The demo's second pipeline: devices with a month of readings, rolled up, and an audit that knows nothing of the operator.

pub(super) mod devices;
pub(super) mod feeder;
pub(super) mod meters;
pub(super) mod offline;
mod readings;
