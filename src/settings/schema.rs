//! Which keys there are: those of the sections, and the thresholds that the topology names.

use crate::flow::Topology;
use crate::flow::nearest::suggestion;
use crate::settings::java;
use crate::settings::origin::Origin;
use crate::settings::owned;
use crate::settings::rule::{PropertyMistake, Rule};
use crate::settings::unknown;
use crate::settings::{
    EngineSettings, HttpSettings, InstanceSettings, KafkaSettings, LogSettings, OutboxSettings, PipelineSettings,
    PostgresSettings, RollUpSettings, StateSettings,
};

/// The known keys and what the topology adds to them.
#[derive(Clone, Debug, Default)]
pub(super) struct Schema {
    pub(super) pipeline: String,
    pub(super) thresholds: Vec<(String, f64)>,
    client: Option<PropertyMistake>,
}

impl Schema {
    pub(super) fn new(topology: &Topology, client: Option<PropertyMistake>) -> Self {
        Self {
            pipeline: topology.name().into(),
            thresholds: topology.thresholds().iter().map(|t| (t.name().into(), t.value())).collect(),
            client,
        }
    }

    /// Every key in the order of the sections.
    pub(super) fn rules() -> impl Iterator<Item = &'static Rule> {
        [
            PipelineSettings::RULES,
            EngineSettings::RULES_OF_PIPELINE,
            EngineSettings::RULES_OF_RETRY,
            KafkaSettings::RULES,
            PostgresSettings::RULES,
            EngineSettings::RULES,
            StateSettings::RULES,
            EngineSettings::RULES_OF_STATE,
            OutboxSettings::RULES,
            RollUpSettings::RULES,
            HttpSettings::RULES,
            InstanceSettings::RULES,
            LogSettings::RULES,
        ]
        .into_iter()
        .flatten()
    }

    pub(super) fn rule(section: &str, key: &str) -> Option<&'static Rule> {
        Self::rules().find(|rule| rule.section == section && rule.key == key)
    }

    pub(super) fn has_section(section: &str) -> bool {
        Self::rules().any(|rule| rule.section == section)
    }

    /// The names that the topology gives to its thresholds.
    pub(super) fn threshold_names(&self) -> impl Iterator<Item = &str> {
        self.thresholds.iter().map(|(name, _)| name.as_str())
    }

    /// The sentence about a key that nobody knows.
    pub(super) fn unknown(&self, path: &str, origin: &Origin) -> String {
        let name = |rule: &Rule| if rule.is_map { rule.path() + "." } else { rule.path() };
        let thresholds = self.threshold_names().map(|name| format!("pipeline.thresholds.{name}"));
        unknown::sentence(path, origin, &Self::rules().map(name).chain(thresholds).collect::<Vec<_>>())
    }

    /// Checks the name of a map's entry.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn check_name(&self, rule: &Rule, name: &str) -> Result<(), String> {
        match rule.key {
            "thresholds" if !self.threshold_names().any(|known| known == name) => {
                let known: Vec<_> = self.threshold_names().collect();
                let known = if known.is_empty() { "none".into() } else { known.join(", ") };
                Err(format!(
                    "unknown threshold{}; pipeline {} has: {known}",
                    suggestion(name, self.threshold_names()),
                    self.pipeline
                ))
            }
            "properties" => {
                owned::check(name)?;
                java::instead(name).or_else(|| self.client?(name, None)).map_or(Ok(()), Err)
            }
            _ => Ok(()),
        }
    }

    /// What the client says is wrong with the value of a map's entry.
    pub(super) fn mistake(&self, rule: &Rule, name: &str, value: &str) -> Option<String> {
        self.client.filter(|_| rule.key == "properties")?(name, Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use crate::settings::problem::Problems;
    use std::collections::BTreeSet;

    #[test]
    fn every_field_has_a_rule_and_a_default_that_it_allows() {
        let tree = serde_json::to_value(Settings::default()).unwrap();
        let fields: BTreeSet<String> = tree.as_object().unwrap().keys().cloned().collect();
        assert_eq!(fields, Schema::rules().map(Rule::path).collect(), "fields, and rules");
        let mut problems = Problems::default();
        let schema = Schema::new(&Topology::new("any"), None);
        schema.defaults().check(&schema, &mut problems);
        assert_eq!(problems, Problems::default());
    }

    #[test]
    fn the_page_of_settings_has_each_with_its_default_and_what_it_allows() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/settings.md")).unwrap();
        let table = page.split("| setting | default | allowed | meaning |").nth(1).unwrap();
        let mut rows = table.lines().skip(2).take_while(|line| line.starts_with("| `"));
        let tree = serde_json::to_value(Settings::default()).unwrap();
        for rule in Schema::rules() {
            let name = if rule.is_map { ".<name>" } else { "" };
            let default = match &tree[rule.path()] {
                _ if (rule.section, rule.key) == ("pipeline", "name") || rule.key == "thresholds" => {
                    "the topology's".into()
                }
                serde_json::Value::String(text) if !text.is_empty() => text.clone(),
                serde_json::Value::String(_) | serde_json::Value::Object(_) => "(none)".into(),
                other => other.to_string(),
            };
            let (section, key, allowed) = (rule.section, rule.key, rule.allowed.expected());
            let expected = format!("| `{section}.{key}{name}` | {default} | {allowed} | ");
            let row = rows.next().unwrap_or_default();
            assert!(row.starts_with(&expected), "docs/settings.md\nexpected {expected}\nfound    {row}");
        }
        assert_eq!(rows.next(), None, "a row of no setting");
    }
}
