//! Orders that are confirmed in time, too late or never: timers beside rows.

use super::service::WAIT_MS;
use super::{IDS, Outcome, PARTITIONS, PORTION_MS, Record, key_of, number, partition_of, same};
use std::collections::BTreeMap;
use tidegate::testing::Random;

/// Its version, then the cents that are open, confirmed and lapsed.
type Row = [i64; 4];

#[derive(Default)]
pub struct Orders {
    placed: i64,
    /// Confirmations that are still to be sent: by time and order, with the account.
    later: BTreeMap<(i64, i64), i64>,
    rows: BTreeMap<i64, Row>,
    /// Account, cents and time of each order that nobody confirms in time.
    lapsed: BTreeMap<String, (i64, i64, i64)>,
}

fn confirmation(((at, order), id): ((i64, i64), i64)) -> Record {
    Record::new("orders", id, format!(r#"{{"kind":"confirmed","order":"o{order}"}}"#), at)
}

impl Orders {
    /// In the order of time.
    pub fn next(&mut self, random: &mut Random, from: i64) -> Vec<Record> {
        let mut records = Vec::new();
        for n in 0..50 {
            let (at, order) = (from + n * 300, self.placed);
            self.placed += 1;
            let below = |random: &mut Random, end: i64| i64::try_from(random.below(end.unsigned_abs())).unwrap();
            let (id, cents) = (below(random, IDS), 1 + below(random, 500));
            let value = format!(r#"{{"kind":"placed","order":"o{order}","cents":{cents}}}"#);
            records.push(Record::new("orders", id, value, at));
            let after = match random.below(10) {
                0 => None,
                1 => Some(WAIT_MS),
                2 => Some(WAIT_MS + below(random, 60_000)),
                3 => Some(WAIT_MS - 1),
                _ => Some(1 + below(random, WAIT_MS - 1)),
            };
            if let Some(after) = after {
                self.later.insert((at + after, order), id);
            }
            let [version, _, confirmed, lapsed] = self.rows.entry(id).or_default();
            *version += 2; // it is placed, and it ends
            if after.is_some_and(|after| after < WAIT_MS) {
                *confirmed += cents;
            } else {
                *lapsed += cents;
                self.lapsed.insert(format!("o{order}"), (id, cents, at + WAIT_MS));
            }
        }
        let rest = self.later.split_off(&(from + PORTION_MS, 0));
        records.extend(std::mem::replace(&mut self.later, rest).into_iter().map(confirmation));
        records.sort_by_key(|record| record.at); // stable: an order comes before its confirmation
        records
    }

    /// Two for each partition: at most 1,000 timers fire behind one record, and none behind half a second's worth.
    pub fn end(&mut self, at: i64) -> Vec<Record> {
        let mut records: Vec<Record> = std::mem::take(&mut self.later).into_iter().map(confirmation).collect();
        for partition in 0..PARTITIONS {
            let id = (0..IDS).find(|id| partition_of(&id.to_string()) == partition).unwrap();
            let nothing = |at| Record::new("orders", id, r#"{"kind":"nothing"}"#.into(), at);
            records.extend([nothing(at), nothing(at + 1)]);
        }
        records
    }

    pub fn sums(&self) -> String {
        format!("{} of {} orders lapsed", self.lapsed.len(), self.placed)
    }

    pub fn judge(&self, outcome: &mut dyn Outcome) -> Result<(), String> {
        let (mut told, mut last) = (Vec::new(), BTreeMap::new());
        for found in outcome.read("lapsed-orders") {
            let value: serde_json::Value = serde_json::from_slice(found.value.as_deref().unwrap()).unwrap();
            let (order, at) = (value["order"].as_str().unwrap().to_owned(), number(&found, "at_ms"));
            let before = last.insert(found.partition, at);
            if before.is_some_and(|before| before > at) {
                return Err(format!("lapsed-orders: {order} of {at} is told behind {before:?}"));
            }
            told.push((order, (key_of(&found).parse().unwrap(), number(&found, "cents"), at)));
        }
        told.sort_unstable();
        same("lapsed-orders", &Vec::from_iter(self.lapsed.clone()), &told)?;
        let mut rows: BTreeMap<i64, Vec<i64>> = (0..IDS).map(|id| (id, vec![0; 4])).collect();
        rows.extend(self.rows.iter().map(|(id, row)| (*id, row.to_vec())));
        let found = outcome.rows("accounts", &["open", "confirmed", "lapsed"]);
        same("accounts", &Vec::from_iter(rows), &Vec::from_iter(found))
    }
}
