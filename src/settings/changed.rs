//! A settings file that changed while its values are in force.

use crate::settings::problem::Problems;
use crate::settings::{Effective, Settings, layer};
use std::collections::{BTreeMap, BTreeSet};

impl Settings {
    /// The names of all settings but the thresholds that have another value now that the file is read again: they wait for the
    /// next start.
    #[must_use]
    pub fn waiting(&self) -> BTreeSet<String> {
        let (schema, mut problems) = (&self.loaded.schema, Problems::default());
        let layers = self.loaded.sources.layers(schema, &mut Vec::new(), &mut problems);
        let typed = layers.iter().map(|layer| layer.check(schema, &mut problems)).collect();
        let Ok((fresh, effective)) = layer::merge::<Self>(typed) else { return BTreeSet::new() };
        let (before, now) = (values(&self.loaded.effective), values(&effective));
        let differs = |path: &&&str| before.get(**path) != now.get(**path);
        let mut waiting: BTreeSet<String> =
            before.keys().chain(now.keys()).filter(differs).map(ToString::to_string).collect();
        // Secrets are not among the values.
        if fresh.database.url != self.database.url {
            waiting.insert("database.url".into());
        }
        let is_same = |name: &str, value: &str| self.kafka.properties.value(name) == Some(value);
        let changed = fresh.kafka.properties.iter().filter(|(name, value)| !is_same(name, value));
        waiting.extend(changed.map(|(name, _)| format!("kafka.properties.{name}")));
        waiting
    }
}

/// Values by path, without the thresholds.
fn values(effective: &[Effective]) -> BTreeMap<&str, &serde_json::Value> {
    let others = effective.iter().filter(|entry| !entry.path.starts_with("pipeline.thresholds."));
    others.map(|entry| (entry.path.as_str(), &entry.value)).collect()
}
