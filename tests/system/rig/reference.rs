//! The expected result, computed one record after the other in the order of the feed. It knows the algorithm by its
//! description (topics/schemas) and shares no code with it but the reading and writing of JSON numbers.

use std::collections::BTreeMap;

const WEIGHT: f64 = 0.2;

/// A row.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Account {
    pub score: f64,
    pub version: i64,
}

/// A message in `large-changes`: the version that its header names, and its bytes.
#[derive(Clone, PartialEq, Debug)]
pub struct Notice {
    pub version: i64,
    pub value: String,
}

/// All rows, and by id all notices in their order.
#[derive(Default)]
pub struct Reference {
    pub rows: BTreeMap<i64, Account>,
    pub notices: BTreeMap<i64, Vec<Notice>>,
    pub threshold: f64,
}

impl Reference {
    /// Ids 1 to `ids`, each with score 0 and version 0.
    pub fn new(ids: i64) -> Self {
        let rows = (1..=ids).map(|id| (id, Account::default())).collect();
        Self { rows, notices: BTreeMap::new(), threshold: 0.5 }
    }

    /// `number` is the JSON number as sent.
    pub fn apply(&mut self, topic: &str, id: i64, number: &str) {
        let number: f64 = serde_json::from_str(number).unwrap();
        let account = self.rows.get_mut(&id).unwrap();
        let before = account.score;
        account.score = if topic == "corrections" { number } else { before + WEIGHT * (number - before) };
        if account.score.to_bits() != before.to_bits() {
            account.version += 1;
        }
        let magnitude = (account.score - before).abs();
        if magnitude >= self.threshold {
            let json = |number: f64| serde_json::to_string(&number).unwrap();
            let value = format!(r#"{{"magnitude":{},"score":{}}}"#, json(magnitude), json(account.score));
            self.notices.entry(id).or_default().push(Notice { version: account.version, value });
        }
    }

    pub fn versions(&self) -> i64 {
        self.rows.values().map(|account| account.version).sum()
    }

    pub fn notice_count(&self) -> usize {
        self.notices.values().map(Vec::len).sum()
    }
}
