//! What is told of the readings of one metric over a span.

use crate::flow::rollup::bytes::{Damaged, Reader, write_int, write_number, write_unsigned};
use crate::flow::rollup::{Point, Rise, Sketch, States};
use serde::{Deserialize, Serialize};

/// The readings of one metric over a span, in a few numbers. With [`Bucket::first`], [`Bucket::last`], [`Bucket::min`] and
/// [`Bucket::max`] a graph whose columns are buckets looks as if it had every reading.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub struct Bucket {
    /// How many readings.
    pub n: u64,
    /// Their values added up.
    pub sum: f64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// The first reading.
    pub first: Point,
    /// The last reading.
    pub last: Point,
    /// The time between readings that are close enough to each other for their metric to be known in between.
    pub covered_ms: i64,
    /// What depends on the kind of the metric.
    pub measure: Measure,
    /// How the values are distributed, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sketch: Option<Sketch>,
}

/// What is told of the time between the first reading and the last, by the kind of the metric.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// Of a gauge: value by time, in units times milliseconds, over the covered time.
    Gauge {
        /// The area below the curve.
        integral: f64,
    },
    /// Of a counter.
    Counter(Rise),
    /// Of a state.
    State(States),
    /// Of an event: nothing but their number.
    Event,
}

impl Bucket {
    /// The mean of a gauge over the covered time; of its readings where there is only one. `None` for other kinds.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        let Measure::Gauge { integral } = self.measure else { return None };
        #[expect(clippy::cast_precision_loss, reason = "milliseconds and readings are far below 2^53")]
        let (covered, n) = (self.covered_ms as f64, self.n as f64);
        Some(if self.covered_ms > 0 { integral / covered } else { self.sum / n })
    }

    /// The value at or below which that part of the readings lies, from 0 to 1: within 0.8 % of it, or of its distance from the value
    /// that the sketch lies around. `None` without a sketch.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let told = self.sketch.as_ref()?.quantile(part)?;
        Some(told.max(self.min).min(self.max))
    }

    /// Writes its bytes. `start_ms`: the start of its span, from which its times are counted.
    pub fn write(&self, into: &mut Vec<u8>, start_ms: i64) {
        let Self { n, sum, min, max, first, last, covered_ms, ref measure, ref sketch } = *self;
        let kind = match measure {
            Measure::Gauge { .. } => 0,
            Measure::Counter(_) => 1,
            Measure::State(_) => 2,
            Measure::Event => 3,
        };
        into.push(kind | u8::from(sketch.is_some()) << 2);
        write_unsigned(into, n);
        first.write(into, start_ms);
        last.write(into, start_ms);
        for value in [sum, min, max] {
            write_number(into, value);
        }
        write_int(into, covered_ms);
        match measure {
            Measure::Gauge { integral } => write_number(into, *integral),
            Measure::Counter(rise) => rise.write(into, start_ms),
            Measure::State(states) => states.write(into),
            Measure::Event => {}
        }
        if let Some(sketch) = sketch {
            sketch.write(into);
        }
    }

    pub(crate) fn read(from: &mut Reader<'_>, start_ms: i64) -> Result<Self, Damaged> {
        let (head, n) = (from.byte()?, from.unsigned()?);
        let (first, last) = (Point::read(from, start_ms)?, Point::read(from, start_ms)?);
        let (sum, min, max, covered_ms) = (from.number()?, from.number()?, from.number()?, from.int()?);
        let measure = match head & 3 {
            0 => Measure::Gauge { integral: from.number()? },
            1 => Measure::Counter(Rise::read(from, start_ms)?),
            2 => Measure::State(States::read(from)?),
            _ => Measure::Event,
        };
        let sketch = if head & 4 == 0 { None } else { Some(Sketch::read(from)?) };
        Ok(Self { n, sum, min, max, first, last, covered_ms, measure, sketch })
    }
}
