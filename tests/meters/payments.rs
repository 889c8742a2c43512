//! Payments of two sources that are merged under their payers, and what those of one are, once a period.

use super::service::PERIOD_MS;
use super::{Outcome, PORTION_MS, Record, key_of, number, one_of_each, partition_of, same, text};
use std::collections::BTreeMap;
use tidegate::testing::Random;

/// A partition of the card payments.
#[derive(Default)]
struct Till {
    clock: i64,
    next_tick: Option<i64>,
    payments: i64,
    cents: i64,
}

#[derive(Default)]
pub struct Payments {
    paid: BTreeMap<String, Vec<i64>>,
    tills: BTreeMap<i32, Till>,
    /// Partition, time, payments and cents of each tick.
    ticks: Vec<[i64; 4]>,
}

impl Payments {
    fn send(&mut self, topic: &'static str, key: &str, payer: &str, cents: i64, at: i64) -> Record {
        self.paid.entry(payer.into()).or_default().push(cents);
        if topic == "card-payments" {
            let partition = partition_of(key);
            let till = self.tills.entry(partition).or_default();
            till.clock = at.max(till.clock);
            (till.payments, till.cents) = (till.payments + 1, till.cents + cents);
            let after = (till.clock / PERIOD_MS + 1) * PERIOD_MS;
            let next = till.next_tick.get_or_insert(after);
            if *next <= till.clock {
                self.ticks.push([partition.into(), *next, till.payments, till.cents]);
                (*next, till.payments, till.cents) = (after, 0, 0);
            }
        }
        Record::new(topic, key, format!(r#"{{"payer":"{payer}","cents":{cents}}}"#), at)
    }

    /// Half of the portions have one payment with a card alone, so that some ticks come with hardly any payment between them.
    pub fn next(&mut self, random: &mut Random, portion: u64, from: i64) -> Vec<Record> {
        let (mut records, is_quiet) = (Vec::new(), matches!(portion % 4, 1 | 2));
        for n in 0..40 {
            for topic in ["card-payments", "transfers"] {
                let key = format!("k{}", random.below(100));
                let payer = format!("p{}", random.below(40));
                let cents = 1 + i64::try_from(random.below(500)).unwrap();
                if topic == "transfers" || !is_quiet || n == 20 {
                    records.push(self.send(topic, &key, &payer, cents, from + n * PORTION_MS / 40));
                }
            }
        }
        records
    }

    pub fn end(&mut self, at: i64) -> Vec<Record> {
        one_of_each().iter().map(|key| self.send("card-payments", key, "end", 0, at)).collect()
    }

    pub fn sums(&self) -> String {
        let payments: usize = self.paid.values().map(Vec::len).sum();
        format!("{payments} merged payments and {} ticks", self.ticks.len())
    }

    /// Between the two sources of one step there is no order: each payment makes one step, whichever.
    pub fn judge(&self, outcome: &mut dyn Outcome) -> Result<(), String> {
        let mut told: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for found in outcome.read("paid-sums") {
            told.entry(key_of(&found)).or_default().push(text(&found).parse().unwrap());
        }
        let sorted = |cents: Vec<i64>| {
            let mut cents = cents;
            cents.sort_unstable();
            cents
        };
        let steps =
            |sums: &Vec<i64>| sums.iter().scan(0, |last, sum| Some(sum - std::mem::replace(last, *sum))).collect();
        let told: Vec<_> = told.iter().map(|(payer, sums)| (payer.clone(), sorted(steps(sums)))).collect();
        let due: Vec<_> = self.paid.iter().map(|(payer, cents)| (payer.clone(), sorted(cents.clone()))).collect();
        same("paid-sums", &due, &told)?;

        let ticks = outcome.read("turnovers");
        let of = |tick: &_| ["partition", "at_ms", "payments", "cents"].map(|field| number(tick, field));
        let (mut told, mut due): (Vec<_>, _) = (ticks.iter().map(of).collect(), self.ticks.clone());
        told.sort_unstable();
        due.sort_unstable();
        same("turnovers", &due, &told)
    }
}
