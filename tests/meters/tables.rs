//! Two tables as one.

use super::{Outcome, Record, key_of};
use std::collections::BTreeMap;
use tidegate::testing::Random;

/// The values that a table has had for a key, the first one none. Two that follow one another differ.
type Values = Vec<Option<i64>>;

#[derive(Default)]
pub struct Tables {
    /// Those of both tables.
    values: BTreeMap<String, [Values; 2]>,
    changes: i64,
}

impl Tables {
    pub fn next(&mut self, random: &mut Random, from: i64) -> Vec<Record> {
        let mut records = Vec::new();
        for n in 0..50 {
            let (key, side) = (format!("t{}", random.below(30)), usize::from(random.happens(50)));
            let values = &mut self.values.entry(key.clone()).or_insert_with(|| [vec![None], vec![None]])[side];
            self.changes += 1;
            let is_there = values.last() != Some(&None);
            let value = if is_there && random.happens(30) { None } else { Some(self.changes) };
            values.push(value);
            let (topic, field) = [("tariffs", "cents"), ("discounts", "percent")][side];
            let value = value.map(|value| format!(r#"{{"{field}":{value}}}"#));
            records.push(Record { topic, key, value, at: from + n * 300 });
        }
        records
    }

    pub const fn changes(&self) -> i64 {
        self.changes
    }

    /// Each change of one of both tables is told once, in its table's order; between the tables there is none.
    pub fn judge(&self, outcome: &mut dyn Outcome) -> Result<(), String> {
        let mut told: BTreeMap<String, Vec<[Option<i64>; 2]>> = BTreeMap::new();
        for found in outcome.read("told-prices") {
            let value: serde_json::Value =
                found.value.as_deref().map_or_else(Default::default, |value| serde_json::from_slice(value).unwrap());
            let both = ["cents", "percent"].map(|field| value[field].as_i64());
            if both == [None, None] && found.value.is_some() {
                return Err(format!("told-prices: {found:?} says nothing"));
            }
            told.entry(key_of(&found)).or_default().push(both);
        }
        for (key, [left, right]) in &self.values {
            let mut at = [0, 0];
            for both in told.remove(key).unwrap_or_default() {
                let is_at = |at: [usize; 2]| [left.get(at[0]), right.get(at[1])] == both.each_ref().map(Some);
                let next = [[at[0] + 1, at[1]], [at[0], at[1] + 1]];
                let Some(next) = next.into_iter().find(|at| is_at(*at)) else {
                    return Err(format!(
                        "told-prices: {key}: {both:?} does not follow {at:?} of {left:?} and {right:?}"
                    ));
                };
                at = next;
            }
            let ends = [left.len() - 1, right.len() - 1];
            if at != ends {
                return Err(format!("told-prices: {key}: told as far as {at:?} of {ends:?}"));
            }
        }
        told.first_key_value().map_or(Ok(()), |told| Err(format!("told-prices: {told:?} was never said")))
    }
}
