//! Devices that are not heard any more, by the wall clock.

use super::{Outcome, Record, key_of, number};
use std::collections::BTreeMap;
use tidegate::testing::Random;

/// What is told of a device: the number of its heartbeats, and whether it was switched off.
type Told = (i64, bool);

/// Each device has its heartbeats in one portion.
#[derive(Default)]
pub struct Silence {
    due: BTreeMap<String, Told>,
}

impl Silence {
    pub fn next(&mut self, random: &mut Random, portion: u64, from: i64) -> Vec<Record> {
        let mut records = Vec::new();
        for n in 0..10 {
            let (key, beats) = (format!("d{portion}-{n}"), 1 + random.below(3));
            let is_off = random.happens(25);
            let mut send = |kind: &str| {
                records.push(Record::new("heartbeats", &key, format!(r#"{{"kind":"{kind}"}}"#), from));
            };
            (0..beats).for_each(|_| send("alive"));
            if is_off {
                send("off");
            }
            self.due.insert(key, (i64::try_from(beats).unwrap(), is_off));
        }
        records
    }

    pub fn devices(&self) -> usize {
        self.due.len()
    }

    /// A device that nobody took over in time may be told as silent between its heartbeats, once behind each at most;
    /// the last word is the right one, once, and nothing is told of a device behind its end.
    pub fn judge(&self, outcome: &mut dyn Outcome) -> Result<(), String> {
        let mut told: BTreeMap<String, Vec<Told>> = BTreeMap::new();
        for found in outcome.read("silent-devices") {
            let value: serde_json::Value = serde_json::from_slice(found.value.as_deref().unwrap()).unwrap();
            let is_off = value["is_off"].as_bool().unwrap();
            told.entry(key_of(&found)).or_default().push((number(&found, "beats"), is_off));
        }
        for (device, due) in &self.due {
            let told = told.remove(device).unwrap_or_default();
            // By heartbeats, then by whether it is off: each further one says more.
            if told.last() != Some(due) || !told.is_sorted_by(|one, next| one < next && !one.1) {
                return Err(format!("silent-devices: {device} must end as {due:?}, and was told as {told:?}"));
            }
        }
        told.first_key_value().map_or(Ok(()), |told| Err(format!("silent-devices: {told:?} was never heard")))
    }
}
