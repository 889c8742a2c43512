//! Named thresholds: filter settings that may change while the pipeline runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that a filter compares magnitudes with. Clones share the value.
///
/// A change holds from the next record decided; records decided before keep their verdict, also through a recovery,
/// because the filter runs before the database commit and never again after it.
#[derive(Clone, Debug)]
pub struct Threshold {
    name: Arc<str>,
    bits: Arc<AtomicU64>,
}

impl Threshold {
    pub(crate) fn new(name: &str, value: f64) -> Self {
        Self { name: name.into(), bits: Arc::new(AtomicU64::new(value.to_bits())) }
    }

    /// The name, as settings spell it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value in force.
    #[must_use]
    pub fn value(&self) -> f64 {
        // Relaxed: the value stands alone; nothing else is published with it.
        f64::from_bits(self.bits.load(Ordering::Relaxed))
    }

    /// Puts a new value in force.
    pub fn set(&self, value: f64) {
        self.bits.store(value.to_bits(), Ordering::Relaxed);
    }
}
