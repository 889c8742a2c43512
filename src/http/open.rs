//! The quarters of a device that are not told yet: made of its minutes, which the owner of its partition keeps. Where the owner does
//! not answer, a graph goes without them, and says so.

use super::access::Asker;
use super::stores;
use super::view::View;
use crate::engine::query::{Keys, Span, Wanted};
use crate::flow::rollup::{Bucket, RollUp};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Minutes of one device that are read: those of a day.
const MINUTES_MAX: usize = 1_440;

/// What is open.
pub(super) struct Open {
    /// The quarters by their starts; or why they are not known.
    pub(super) quarters: Result<BTreeMap<i64, Bucket>, String>,
}

impl Open {
    /// Reads the minutes of a device for somebody who has it in sight, at which the owner looks once more.
    pub(super) fn read(view: &dyn View, rollup: &RollUp, asker: &Asker, (device, metric): (&str, &str)) -> Self {
        let keys = Keys::Prefix(format!("{device}\0"));
        let wanted = Wanted::Many { keys, span: Span::default(), from: None, count_max: MINUTES_MAX };
        let found = stores::gathered(view, &rollup.minutes_store(), (wanted, MINUTES_MAX), &asker.credential());
        let minutes = found.map(|entries| {
            let minute = |entry: &crate::engine::query::Entry| (entry.bytes(), entry.value.get().to_owned());
            entries.iter().map(minute).collect::<Vec<_>>()
        });
        Self { quarters: minutes.and_then(|minutes| rollup.open(minutes, metric)) }
    }

    /// Takes away what is told already.
    pub(super) fn without(&mut self, is_told: impl Fn(i64) -> bool) {
        if let Ok(quarters) = &mut self.quarters {
            quarters.retain(|start_ms, _| !is_told(*start_ms));
        }
    }

    /// As it is told: from when on quarters are open, and up to which reading; or why that is not known.
    pub(super) fn told(&self) -> Value {
        match &self.quarters {
            Ok(quarters) => match quarters.first_key_value().zip(quarters.last_key_value()) {
                Some(((from_ms, _), (_, last))) => json!({ "from_ms": from_ms, "last_reading_ms": last.last.at_ms }),
                None => Value::Null,
            },
            Err(error) => json!({ "error": error }),
        }
    }
}
