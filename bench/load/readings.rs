//! One job: readings of many devices, seeded, for W3: what a device measures when, in which order it is sent, and what is told of a
//! span of it.
//!
//! A record is what a device measured at one moment: a value of each metric, every five seconds, as
//! `[{"at_ms":…,"metrics":{"current":4.17,…}}]` of some 190 bytes. One in a hundred comes up to a minute late, one in a thousand
//! twice. Values have the decimal places of real sensors, so that sums are no round numbers and take their full width in the tables.

use crate::load::mix;
use std::fmt::Write;
use tidegate::flow::rollup::{
    Between, Bucket, Kind, Measure, Measured, Metered, Metric, Point, Reading, Rise, Sketch, States,
};
use tidegate::flow::{Context, Reject};

/// Milliseconds from one record of a device to the next.
pub const EVERY_MS: i64 = 5_000;
/// Values repeat after so long: the span of a row of hours.
pub const PERIOD_MS: i64 = 32 * 86_400_000;
/// Most steps of [`EVERY_MS`] by which a record comes late: a minute.
const DELAY_MAX: i64 = 12;
const SEED: u64 = 20_260_131;

/// The metrics, in the order of their names, which is that of a record's JSON.
pub static METRICS: [&str; 10] =
    ["current", "door", "energy", "frequency", "humidity", "mode", "power", "pressure", "temperature", "voltage"];

/// [`Metered`]: kinds as those of the shipped pipeline `home`, and four gauges more.
pub struct Meters;

impl Metered for Meters {
    type Event = Vec<Measured>;

    fn readings(&self, measured: Vec<Measured>, _: &Context<'_>) -> Result<Vec<Reading>, Reject> {
        Ok(Measured::readings(measured))
    }

    fn metric(&self, name: &str) -> Option<Metric> {
        let plain = Metric::new(kind(name)?);
        Some(around(name).map_or(plain, |around| plain.quantiles_around(around)))
    }
}

/// `None`: there is no such metric.
fn kind(metric: &str) -> Option<Kind> {
    Some(match metric {
        "power" | "voltage" | "current" | "frequency" => Kind::Gauge(Between::Step),
        "temperature" | "humidity" | "pressure" => Kind::Gauge(Between::Linear),
        "energy" => Kind::counter(),
        "mode" => Kind::State,
        "door" => Kind::Event,
        _ => return None,
    })
}

/// Where a metric's quantiles are kept, the value that they are kept around.
fn around(metric: &str) -> Option<f64> {
    match metric {
        "power" => Some(0.0),
        "voltage" => Some(240.0),
        _ => None,
    }
}

/// A device's name, the key of its records.
pub fn name(device: u64) -> String {
    format!("device-{device:06}")
}

/// The value of a device's metric in the step of that number since 1970.
pub fn value(device: u64, metric: &str, step: i64) -> f64 {
    let step = step.rem_euclid(PERIOD_MS / EVERY_MS);
    // No two metrics begin with the same two letters.
    let letters = metric.bytes().take(2).fold(0, |all, letter| (all << 8) | u64::from(letter));
    let of = |step: i64| mix(SEED ^ mix(device) ^ mix((letters << 48) | step.cast_unsigned()));
    // A level of five minutes, and noise.
    let (level, noise) = (of((step / 60) | (1 << 40)), of(step));
    let among = |number: u64, count: u64| i64::try_from(number % count).unwrap_or(0);
    let (whole, parts) = match metric {
        "power" => ([20, 800, 1_500, 6_000, 20_000][(level % 5) as usize] + among(noise, 100), 10.0),
        "temperature" => (180 + among(level, 40) + among(noise, 3), 10.0),
        "voltage" => (2_300 + among(level, 100) + among(noise, 20), 10.0),
        "current" => (among(level, 800) + among(noise, 20), 100.0),
        "pressure" => (9_900 + among(level, 300) + among(noise, 4), 10.0),
        "frequency" => (4_990 + among(noise, 20), 100.0),
        "humidity" => (40 + among(level, 20) + among(noise, 2), 1.0),
        "energy" => (1_000_000 + step * 7 + among(noise, 7), 1_000.0),
        "mode" => (among(level, 4), 1.0),
        _ => (1, 1.0),
    };
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let whole = whole as f64;
    whole / parts
}

/// The readings of a span: steps of all devices, each of which has its own place within a step.
#[derive(Clone, Copy, Debug)]
pub struct Readings {
    pub devices: u64,
    /// So many of [`METRICS`], from the front.
    pub metrics: usize,
    /// A multiple of [`EVERY_MS`], in milliseconds since 1970.
    pub from_ms: i64,
    pub steps: i64,
}

/// A record on its way.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub device: u64,
    /// The step in which it was measured, from 0.
    pub step: i64,
    /// The step in which it is sent.
    pub sent_in: i64,
}

impl Readings {
    pub fn metrics(&self) -> &'static [&'static str] {
        &METRICS[..self.metrics]
    }

    /// The time of a device's reading in a step.
    pub fn at_ms(&self, device: u64, step: i64) -> i64 {
        self.from_ms + step * EVERY_MS + place(device, self.devices)
    }

    /// The end of the last step.
    pub const fn to_ms(&self) -> i64 {
        self.from_ms + self.steps * EVERY_MS
    }

    /// Every record, in the order in which they are sent.
    pub fn order(&self) -> impl Iterator<Item = Sent> + use<> {
        let all = *self;
        (0..all.steps + DELAY_MAX).flat_map(move |sent_in| {
            (0..all.devices).flat_map(move |device| {
                let measured = (sent_in - DELAY_MAX).max(0)..=sent_in.min(all.steps - 1);
                measured.rev().filter(move |step| delay(device, all.from_ms, *step) == sent_in - *step).flat_map(
                    move |step| {
                        let copies = if chance(device, all.from_ms, step) % 1_000 == 7 { 2 } else { 1 };
                        std::iter::repeat_n(Sent { device, step, sent_in }, copies)
                    },
                )
            })
        })
    }

    /// Writes a record's value, in place of what `out` holds.
    pub fn record(&self, Sent { device, step, .. }: Sent, out: &mut String) {
        out.clear();
        let (at_ms, step) = (self.at_ms(device, step), self.from_ms / EVERY_MS + step);
        let _ = write!(out, "[{{\"at_ms\":{at_ms},\"metrics\":{{"); // memory takes all
        for (number, metric) in self.metrics().iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            let _ = write!(out, "{comma}\"{metric}\":{}", value(device, metric, step));
        }
        out.push_str("}}]");
    }

    /// The time at which a record is sent, which is its timestamp.
    pub fn sent_ms(&self, sent: Sent) -> i64 {
        self.at_ms(sent.device, sent.sent_in)
    }

    /// The bucket of a span of a device's metric, its readings taken one after the other.
    pub fn bucket(&self, device: u64, metric: &str, (from_ms, to_ms): (i64, i64)) -> Option<Bucket> {
        let steps = (from_ms.max(self.from_ms) / EVERY_MS)..(to_ms.min(self.to_ms()) / EVERY_MS);
        bucket(device, metric, steps, place(device, self.devices))
    }
}

/// Where a device's readings lie within a step: they are spread over it.
fn place(device: u64, devices: u64) -> i64 {
    (device * EVERY_MS.unsigned_abs() / devices.max(1)).cast_signed()
}

fn chance(device: u64, from_ms: i64, step: i64) -> u64 {
    mix(SEED ^ (device << 32) ^ (from_ms / EVERY_MS + step).cast_unsigned())
}

/// Steps by which a record comes late.
fn delay(device: u64, from_ms: i64, step: i64) -> i64 {
    let chance = chance(device, from_ms, step);
    if chance.is_multiple_of(100) { 1 + (chance / 100 % DELAY_MAX.unsigned_abs()).cast_signed() } else { 0 }
}

/// What is told of a device's metric over steps since 1970, one reading after the other by plain arithmetic: nothing is merged.
pub fn bucket(device: u64, metric: &str, steps: std::ops::Range<i64>, place: i64) -> Option<Bucket> {
    let mut points = steps.map(|step| Point { at_ms: step * EVERY_MS + place, value: value(device, metric, step) });
    let (first, kind) = (points.next()?, kind(metric)?);
    let mut sketch = around(metric).map(Sketch::around);
    let (mut n, mut sum, mut min, mut max, mut last) = (0, 0.0, first.value, first.value, first);
    let (mut integral, mut increase, mut states) = (0.0, 0.0, States::default());
    for point in std::iter::once(first).chain(points) {
        n += 1;
        sum += point.value;
        (min, max) = (min.min(point.value), max.max(point.value));
        if let Some(sketch) = &mut sketch {
            sketch.add(point.value);
        }
        let ms = point.at_ms - last.at_ms;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let length = ms as f64;
        match kind {
            Kind::Gauge(Between::Step) => integral += last.value * length,
            Kind::Gauge(Between::Linear) => integral += f64::midpoint(last.value, point.value) * length,
            Kind::Counter { .. } => increase += point.value - last.value,
            Kind::State if ms > 0 => {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 3")]
                let state = last.value as u8;
                *states.held_ms.entry(state).or_default() += ms;
                states.changes += u32::from(last.value.to_bits() != point.value.to_bits());
            }
            Kind::State | Kind::Event => {}
        }
        last = point;
    }
    let measure = match kind {
        Kind::Gauge(_) => Measure::Gauge { integral },
        Kind::Counter { .. } => {
            let mut rise = Rise::default();
            rise.increase = increase;
            Measure::Counter(rise)
        }
        Kind::State => Measure::State(states),
        Kind::Event => Measure::Event,
    };
    Some(Bucket { n, sum, min, max, first, last, covered_ms: last.at_ms - first.at_ms, measure, sketch })
}

/// Whether two buckets tell the same: sums, areas and rises within 1e-9 of themselves, since those of real numbers depend on the order
/// of adding; everything else to the last bit.
pub fn is_like(found: &Bucket, due: &Bucket) -> bool {
    let near = |found: f64, due: f64| (found - due).abs() <= 1e-9 * due.abs().max(1.0);
    let mut same = found.clone();
    let is_near = match (&mut same.measure, &due.measure) {
        (Measure::Gauge { integral }, Measure::Gauge { integral: due }) => {
            let is_near = near(*integral, *due);
            *integral = *due;
            is_near
        }
        (Measure::Counter(rise), Measure::Counter(due)) => {
            let is_near = near(rise.increase, due.increase);
            rise.increase = due.increase;
            is_near
        }
        _ => true,
    };
    same.sum = due.sum;
    is_near && near(found.sum, due.sum) && same == *due
}
