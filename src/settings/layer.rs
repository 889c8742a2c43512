//! One layer of settings, and how the layers are laid over each other.

use crate::settings::Problem;
use crate::settings::effective::Effective;
use crate::settings::hint::hint;
use crate::settings::origin::Origin;
use crate::settings::problem::Problems;
use crate::settings::properties::is_secret;
use crate::settings::rule::Rule;
use crate::settings::schema::Schema;
use crate::settings::secret::MASK;
use crate::settings::unseen;
use config::{Config, ConfigError, Map, Source, Value, ValueKind};
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::fmt;

/// What one source says, in the order it says it.
#[derive(Default)]
pub(super) struct Layer {
    pub entries: Vec<Entry>,
}

/// One value as it was written.
#[derive(Clone)]
pub(super) struct Entry {
    pub section: String,
    /// Empty where a value stands in the place of a section.
    pub key: String,
    /// The name within a map, which may contain dots.
    pub name: Option<String>,
    pub text: String,
    /// Written without quotes.
    pub is_plain: bool,
    pub origin: Origin,
}

impl Entry {
    pub(super) fn new(section: &str, key: &str, name: Option<String>, text: String, origin: Origin) -> Self {
        Self { section: section.into(), key: key.into(), name, text, is_plain: true, origin }
    }

    /// Splits `section.key.name`, of which the last may contain dots.
    pub(super) fn at(path: &str, text: String, origin: Origin) -> Self {
        let mut parts = path.splitn(3, '.');
        let mut part = || parts.next().unwrap_or_default();
        let (section, key, name) = (part(), part(), part());
        Self::new(section, key, (!name.is_empty()).then(|| name.to_string()), text, origin)
    }

    /// Whether the value must not print.
    pub(super) fn is_secret(&self) -> bool {
        Schema::rule(&self.section, &self.key)
            .is_some_and(|rule| rule.is_secret || (rule.is_map && self.name.as_deref().is_some_and(is_secret)))
    }

    pub(super) fn path(&self) -> String {
        let parts = [Some(&self.section), Some(&self.key), self.name.as_ref()];
        parts.into_iter().flatten().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(".")
    }
}

/// A layer whose values are known to be allowed.
#[derive(Clone, Default)]
pub(super) struct Typed {
    values: Vec<(Entry, ValueKind)>,
}

impl Layer {
    /// What is legal and hardly meant, a sentence each.
    pub(super) fn notes(&self) -> impl Iterator<Item = String> {
        self.entries.iter().filter_map(Entry::note)
    }

    /// Reads every entry by its rule; what is wrong goes to `problems`.
    pub(super) fn check(&self, schema: &Schema, problems: &mut Problems) -> Typed {
        let mut typed = Typed::default();
        for entry in &self.entries {
            match entry.check(schema) {
                Ok(value) => typed.values.push((entry.clone(), value)),
                Err(problem) => problems.add(problem.path, problem.value, problem.message, problem.origin),
            }
        }
        typed
    }
}

impl Entry {
    fn check(&self, schema: &Schema) -> Result<ValueKind, Problem> {
        let path = self.path();
        let problem = |message: String, value: Option<String>| Problem {
            path: path.clone(),
            value,
            message,
            origin: self.origin.clone(),
        };
        let Some(rule) = Schema::rule(&self.section, &self.key) else {
            // The value of a key that nobody knows may be a secret with a slip in its name.
            return Err(problem(schema.unknown(&path, &self.origin), None));
        };
        let expected = || rule.allowed.expected();
        match &self.name {
            Some(_) if !rule.is_map => return Err(problem(format!("expected {}, found a mapping", expected()), None)),
            None if rule.is_map => {
                return Err(problem(format!("expected a mapping of names to {}", expected()), None));
            }
            Some(name) => schema.check_name(rule, name).map_err(|message| problem(message, None))?,
            None => {}
        }
        // A URL with a password may stand in the place of any other value.
        let is_masked = self.is_secret() || (self.text.contains("://") && self.text.contains('@'));
        let of_the_client = || schema.mistake(rule, self.name.as_deref()?, &self.text);
        self.unseen(rule)
            .or_else(of_the_client)
            .map_or_else(|| self.value(rule), Err)
            .map_err(|message| problem(message, Some(if is_masked { MASK.into() } else { self.text.clone() })))
    }

    /// The value as the rule reads it.
    fn value(&self, rule: &Rule) -> Result<ValueKind, String> {
        let read = rule.allowed.check(&self.text, self.is_plain);
        read.map_err(|message| message + &hint(rule, &self.text))
    }

    /// What stands unseen around a value that goes on to a client as it is. A newline ends every PEM text.
    fn unseen(&self, rule: &Rule) -> Option<String> {
        let is_pem = self.name.as_deref().is_some_and(|name| name.to_ascii_lowercase().ends_with(".pem"));
        let is_passed_on = (rule.is_secret || rule.key == "properties") && !is_pem;
        is_passed_on.then(|| unseen::around(&self.text))?
    }

    /// The spaces around a secret, which may be meant.
    fn note(&self) -> Option<String> {
        let is_spaced = self.text.starts_with(' ') || self.text.ends_with(' ');
        let is_odd = is_spaced && self.name.is_some() && self.is_secret();
        is_odd.then(|| format!("{}: begins or ends with a space ({})", self.path(), self.origin))
    }
}

impl fmt::Debug for Typed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Typed({} values)", self.values.len()) // secrets are among them
    }
}

impl Source for Typed {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        let mut root: Map<String, Value> = Map::new();
        for (entry, kind) in &self.values {
            let section = table(&mut root, &entry.section);
            let (target, key) = match &entry.name {
                Some(name) => (table(section, &entry.key), name),
                None => (section, &entry.key),
            };
            target.insert(key.clone(), Value::new(Some(&entry.origin.to_string()), kind.clone()));
        }
        Ok(root)
    }
}

/// The table under `key`, made if need be.
fn table<'m>(map: &'m mut Map<String, Value>, key: &str) -> &'m mut Map<String, Value> {
    let value = map.entry(key.into()).or_insert_with(|| Value::new(None, ValueKind::Table(Map::new())));
    if !matches!(value.kind, ValueKind::Table(_)) {
        value.kind = ValueKind::Table(Map::new());
    }
    match &mut value.kind {
        ValueKind::Table(table) => table,
        _ => unreachable!("made a table above"),
    }
}

/// Lays the layers over each other, later wins.
pub(super) fn merge<T: DeserializeOwned>(layers: Vec<Typed>) -> Result<(T, Vec<Effective>), Problems> {
    let mut origins = HashMap::new();
    for (entry, _) in layers.iter().flat_map(|layer| &layer.values) {
        origins.insert(entry.origin.to_string(), entry.origin.clone());
    }
    let mut builder = Config::builder();
    for layer in layers {
        builder = builder.add_source(layer);
    }
    let merged = builder.build().map_err(|error| broken(&error))?;
    let values = by_path(&merged.cache);
    let effective = effective(&values, &origins);
    let table = values.into_iter().map(|(rule, value)| (rule.path(), value)).collect();
    let settings = T::deserialize(Value::new(None, ValueKind::Table(table))).map_err(|error| broken(&error))?;
    Ok((settings, effective))
}

/// The values in the order of the rules, out of their sections.
fn by_path(merged: &Value) -> Vec<(&'static Rule, Value)> {
    let within = |value: &Value, key: &str| match &value.kind {
        ValueKind::Table(table) => table.get(key).cloned(),
        _ => None,
    };
    let value = |rule: &Rule| within(&within(merged, rule.section)?, rule.key);
    Schema::rules().filter_map(|rule| Some((rule, value(rule)?))).collect()
}

fn effective(values: &[(&Rule, Value)], origins: &HashMap<String, Origin>) -> Vec<Effective> {
    let mut all = Vec::new();
    let mut push = |path: String, value: &Value, is_secret: bool| {
        let origin = value.origin().and_then(|text| origins.get(text)).cloned().unwrap_or_default();
        all.push(Effective::new(path, &value.kind, is_secret, origin));
    };
    for (rule, value) in values {
        let path = rule.path();
        if let ValueKind::Table(table) = &value.kind {
            let mut names: Vec<_> = table.iter().collect();
            names.sort_by_key(|(name, _)| *name);
            for (name, value) in names {
                push(format!("{path}.{name}"), value, is_secret(name));
            }
        } else {
            push(path, value, rule.is_secret);
        }
    }
    all
}

/// A disagreement between rules and structs: a mistake of ours, which a test looks for.
fn broken(error: &ConfigError) -> Problems {
    let mut problems = Problems::default();
    problems.add("settings", None, error.to_string(), Origin::Default);
    problems
}
