//! The lowest layer of the settings.

use crate::settings::Settings;
use crate::settings::layer::{Entry, Layer};
use crate::settings::origin::Origin;
use crate::settings::schema::Schema;

impl Schema {
    /// The lowest layer: what the structs default to, and what the topology says.
    pub(super) fn defaults(&self) -> Layer {
        let tree = serde_json::to_value(Settings::default()).unwrap_or_default();
        let mut entries = Vec::new();
        for rule in Self::rules().filter(|rule| !rule.is_map) {
            let text = match tree.get(rule.path()) {
                Some(serde_json::Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
                None => continue,
            };
            entries.push(Entry::new(rule.section, rule.key, None, text, Origin::Default));
        }
        let of_topology = |key, name, text| Entry::new("pipeline", key, name, text, Origin::Topology);
        entries.push(of_topology("name", None, self.pipeline.clone()));
        for (name, value) in &self.thresholds {
            entries.push(of_topology("thresholds", Some(name.clone()), value.to_string()));
        }
        Layer { entries }
    }
}
