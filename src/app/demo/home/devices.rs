//! The demo's devices: four in a home. What they measure depends on their number and the time alone, so that it is the same every time.

use crate::ports::rollups::{Described, Device as Known};
use std::f64::consts::TAU;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Devices in a home.
const IN_HOME: u32 = 4;
/// Devices that measure every hour, those of the first home; the page is to be looked at with these.
const BUSY: u32 = IN_HOME;
/// The time between two readings of a busy device.
const BUSY_MS: i64 = HOUR_MS;
/// The time between two readings of any other. What a month costs is its buckets: with this one, a thousand devices come to some
/// 75,000 quarters, as many hours, and 37,000 days.
const SELDOM_MS: i64 = 12 * HOUR_MS;
/// The counter of one boiler in so many is set to zero every now and then.
const RESET_EVERY: u32 = 10 * IN_HOME;
/// How often.
const RESET_MS: i64 = 20 * DAY_MS;

/// What a device is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Draws power, and counts the energy.
    Boiler,
    /// Measures the temperature of a room.
    Thermometer,
    /// Has modes.
    Heating,
    /// Tells when it is opened.
    Door,
}

/// A device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::app::demo) struct Device {
    pub(in crate::app::demo) name: String,
    number: u32,
    kind: Kind,
}

impl Device {
    /// So many devices.
    pub(in crate::app::demo) fn all(count: u32) -> Vec<Self> {
        (0..count).map(Self::numbered).collect()
    }

    /// Whether one of the demo's devices, however many it has, is called so.
    pub(in crate::app::demo) fn is_one(name: &str) -> bool {
        let home = name.strip_prefix("home-").and_then(|rest| rest.get(..3)?.parse::<u32>().ok());
        let first = home.and_then(|home| home.checked_sub(1)).map(|before| before * IN_HOME);
        first.is_some_and(|first| (first..first + IN_HOME).any(|number| Self::numbered(number).name == name))
    }

    fn numbered(number: u32) -> Self {
        let kind = match number % IN_HOME {
            0 => Kind::Boiler,
            1 => Kind::Thermometer,
            2 => Kind::Heating,
            _ => Kind::Door,
        };
        let word = match kind {
            Kind::Boiler => "boiler",
            Kind::Thermometer => "thermometer",
            Kind::Heating => "heating",
            Kind::Door => "door",
        };
        Self { name: format!("{}-{word}", home_of(number)), number, kind }
    }

    /// What people say of it.
    pub(in crate::app::demo) fn described(&self) -> Known {
        let (room, kind) = match self.kind {
            Kind::Boiler => ("cellar", "meter"),
            Kind::Thermometer => ("living room", "thermometer"),
            Kind::Heating => ("living room", "thermostat"),
            Kind::Door => ("hall", "contact"),
        };
        let described = Described {
            room: Some(room.into()),
            home: Some(home_of(self.number)),
            kind: Some(kind.into()),
            ..Described::default()
        };
        Known { device: self.name.clone(), described }
    }

    /// Whether it is heard of every hour, and every few seconds while the demo runs.
    pub(in crate::app::demo) const fn is_busy(&self) -> bool {
        self.number < BUSY
    }

    /// The times at which it measures, from the first one on and before the second one.
    pub(in crate::app::demo) fn times(&self, (from_ms, to_ms): (i64, i64)) -> impl Iterator<Item = i64> {
        let every_ms = if self.is_busy() { BUSY_MS } else { SELDOM_MS };
        let offset_ms = i64::from(scattered(u64::from(self.number), 0) % 43_200) * 1_000 % every_ms;
        let first = (from_ms - offset_ms).div_euclid(every_ms) * every_ms + offset_ms;
        let first = if first < from_ms { first + every_ms } else { first };
        (0..).map(move |n| first + n * every_ms).take_while(move |at_ms| *at_ms < to_ms)
    }

    /// What it measures at a time, by metric.
    pub(in crate::app::demo) fn measure(&self, at_ms: i64) -> Vec<(&'static str, f64)> {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds are far below 2^53")]
        let day = (at_ms % DAY_MS) as f64 / DAY_MS as f64; // the part of the day that is over
        let noise = f64::from(scattered(u64::from(self.number), at_ms.unsigned_abs()) % 2_001) / 1_000.0 - 1.0;
        match self.kind {
            Kind::Boiler => {
                // Mornings and evenings.
                let drawn = 900.0 * (2.0 * TAU * (day - 0.21)).sin().max(0.0) + 60.0 + 40.0 * noise;
                vec![("power", tenths(drawn)), ("energy", self.energy(at_ms))]
            }
            Kind::Thermometer => vec![("temperature", tenths(20.5 + 1.8 * (TAU * (day - 0.4)).sin() + 0.3 * noise))],
            Kind::Heating => {
                let mode = if day < 0.25 || day > 0.9 {
                    1.0
                } else if noise > 0.8 {
                    0.0
                } else {
                    2.0
                };
                vec![("mode", mode)]
            }
            Kind::Door => vec![("door", 1.0)],
        }
    }

    /// Watt hours since the counter was made, or set to zero.
    fn energy(&self, at_ms: i64) -> f64 {
        let since_ms = if self.number % RESET_EVERY == IN_HOME { at_ms % RESET_MS } else { at_ms };
        #[expect(clippy::cast_precision_loss, reason = "milliseconds are far below 2^53")]
        let hours = since_ms as f64 / HOUR_MS as f64;
        // It never falls but for a reset: 300 W, more in one half of the day than in the other.
        (300.0 * hours + 800.0 * (1.0 - (TAU * hours / 24.0).cos())).floor()
    }
}

/// The name of the home of a device: `home-001`.
fn home_of(number: u32) -> String {
    format!("home-{:03}", number / IN_HOME + 1)
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// A number that seems to have nothing to do with the two, and is the same for the same two (`SplitMix64`).
fn scattered(one: u64, other: u64) -> u32 {
    let z = one.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ other.wrapping_mul(0xd129_0d3b_3c3f_4b2d);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    u32::try_from((z ^ (z >> 31)) >> 32).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::demo::home::meters;
    use crate::flow::rollup::Point;

    const NOON_MS: i64 = 1_796_083_200_000;

    #[test]
    fn a_span_has_the_same_times_as_its_parts_and_every_value_is_one_of_its_metric() {
        let topology = meters::topology();
        let rollup = &topology.roll_ups()[0];
        for device in Device::all(44) {
            let times = |span| device.times(span).collect::<Vec<i64>>();
            let (from, middle, to) = (NOON_MS - 30 * DAY_MS, NOON_MS - 3 * DAY_MS - 1, NOON_MS);
            let whole = times((from, to));
            assert_eq!(whole, [times((from, middle)), times((middle, to))].concat());
            assert_eq!(whole.len(), if device.is_busy() { 720 } else { 60 }, "{}", device.name);
            for at_ms in whole {
                for (metric, value) in device.measure(at_ms) {
                    let metric = rollup.metric(metric).unwrap();
                    assert!(metric.bucket(Point { at_ms, value }).is_ok(), "{} {at_ms} {value}", device.name);
                }
            }
        }
    }

    #[test]
    fn a_device_of_the_demo_is_told_by_its_name() {
        assert!(Device::all(4_000).iter().all(|device| Device::is_one(&device.name)));
        for name in ["", "boiler", "home-", "home-001", "home-000-boiler", "home-1-boiler", "home-001-lamp", "home-€"]
        {
            assert!(!Device::is_one(name), "{name}");
        }
    }

    #[test]
    fn a_counter_rises_and_falls_only_where_it_is_set_to_zero() {
        let falls = |number: u32| {
            let device = Device::numbered(number);
            let values: Vec<f64> = (0..30 * 24).map(|hour| device.energy(NOON_MS + hour * HOUR_MS)).collect();
            values.windows(2).filter(|pair| pair[1] < pair[0]).count()
        };
        assert_eq!(falls(0), 0);
        assert!((1..=2).contains(&falls(IN_HOME)), "{}", falls(IN_HOME));
    }
}
