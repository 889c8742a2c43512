//! What can be set, where each value came from, and what is wrong with it.
//!
//! Layers, later wins: built-in defaults, the file (`--config`, `TIDEGATE_CONFIG`), the environment (`TIDEGATE_A__B`), flags
//! (`--set a.b=value`). Each entry is checked in its own layer, so that all mistakes are told at once, each with its path,
//! value, allowed range and origin; then the crate `config` lays the layers over each other, carries every origin along,
//! and builds the structs. Secrets never print.

mod certificates;
mod changed;
mod database_url;
mod defaults;
mod effective;
pub(crate) mod engine;
mod environment;
mod file;
mod flags;
mod hint;
mod http;
mod instance;
pub(crate) mod java;
pub(crate) mod kafka;
mod layer;
mod log;
mod mebibytes;
mod millis;
mod origin;
pub(crate) mod outbox;
pub(crate) mod owned;
mod pipeline;
pub(crate) mod postgres;
mod problem;
mod properties;
mod rollup;
mod rule;
mod schema;
mod scrubber;
mod secret;
mod security;
mod servers;
mod sources;
mod state;
pub(crate) mod text_file;
mod unknown;
mod unseen;
mod variable;
pub(crate) mod yaml;

pub(crate) use crate::flow::nearest::suggestion;
pub use effective::Effective;
pub(crate) use effective::to_yaml;
pub use engine::{DataLossPolicy, EngineSettings, MissingRow, StartPolicy};
pub use http::{HttpSettings, Login};
pub use instance::InstanceSettings;
pub use kafka::{GroupProtocol, KafkaSettings};
pub use log::{LogFormat, LogLevel, LogSettings};
pub use origin::Origin;
pub use outbox::OutboxSettings;
pub use pipeline::PipelineSettings;
pub use postgres::PostgresSettings;
pub use problem::{Problem, Problems};
pub use properties::Properties;
pub use rollup::RollUpSettings;
pub use rule::PropertyMistake;
pub use scrubber::Scrubber;
pub use secret::Secret;
pub use sources::Sources;
pub use state::StateSettings;

use crate::flow::Topology;
use layer::Layer;
use schema::Schema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Every setting, checked. Each component has one struct here; the name that serde gives a field is the setting it holds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// What runs.
    #[serde(flatten)]
    pub pipeline: PipelineSettings,
    /// How Kafka is reached.
    #[serde(flatten)]
    pub kafka: KafkaSettings,
    /// How `PostgreSQL` is reached.
    #[serde(flatten)]
    pub database: PostgresSettings,
    /// What the engine does with odd records, how often it tries again; latency against throughput.
    #[serde(flatten)]
    pub engine: EngineSettings,
    /// What lies beside the process.
    #[serde(flatten)]
    pub state: StateSettings,
    /// The table of what is to be announced.
    #[serde(flatten)]
    pub outbox: OutboxSettings,
    /// The tables of roll-ups.
    #[serde(flatten)]
    pub rollup: RollUpSettings,
    /// The page and the probes.
    #[serde(flatten)]
    pub http: HttpSettings,
    /// Who this instance is.
    #[serde(flatten)]
    pub instance: InstanceSettings,
    /// What is written to standard error.
    #[serde(flatten)]
    pub log: LogSettings,
    #[serde(skip)]
    loaded: Loaded,
}

/// What is remembered beside the values.
#[derive(Clone, Debug, Default)]
struct Loaded {
    effective: Vec<Effective>,
    notes: Vec<String>,
    sources: Sources,
    schema: Schema,
    scrubber: Scrubber,
}

impl Settings {
    /// Gathers the layers. The pipeline's name and its thresholds have their defaults from `topology`.
    ///
    /// # Errors
    /// Every mistake of every layer at once.
    pub fn load(topology: &Topology, sources: Sources) -> Result<Self, Problems> {
        Self::load_for(&[], topology, sources)
    }

    /// The same as [`Settings::load`] for a command that has `needs`.
    ///
    /// # Errors
    /// Every mistake of every layer at once, and what is missing.
    pub fn load_for(needs: &[Need], topology: &Topology, sources: Sources) -> Result<Self, Problems> {
        let schema = Schema::new(topology, sources.client);
        let mut problems = Problems::default();
        let mut notes = Vec::new();
        let layers = sources.layers(&schema, &mut notes, &mut problems);
        let typed: Vec<_> = layers.iter().map(|layer| layer.check(&schema, &mut problems)).collect();
        let (mut settings, effective): (Self, _) = layer::merge(typed)?;
        notes.extend(layers.iter().flat_map(Layer::notes).chain(settings.database.notes()));
        let scrubber = Scrubber::of(&layers);
        settings.loaded = Loaded { effective, notes, sources, schema, scrubber };
        problems.add_new(settings.cross_check());
        problems.add_new(settings.engine.suits(topology, &|path| settings.origin_of(path)));
        problems.add_new(settings.missing(needs));
        problems.into_result()?;
        Ok(settings)
    }

    /// Every value in force with its origin, secrets masked, in the order of the sections.
    #[must_use]
    pub fn effective(&self) -> &[Effective] {
        &self.loaded.effective
    }

    /// What was skipped and why, one line each: to be logged once.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.loaded.notes
    }

    /// Takes the secrets of these settings out of lines.
    #[must_use]
    pub const fn scrubber(&self) -> &Scrubber {
        &self.loaded.scrubber
    }

    /// The file that was read.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.loaded.sources.file.as_deref()
    }

    /// The flags that name these settings on a command line. No secret is among them: `--set` refuses those.
    #[must_use]
    pub fn flags(&self) -> Vec<String> {
        let file = self.file().map(|file| ["--config".to_owned(), file.display().to_string()]);
        let set = self.loaded.sources.flags.iter().map(|flag| ["--set".to_owned(), flag.clone()]);
        file.into_iter().chain(set).flatten().collect()
    }

    /// Checks that what a command needs is named: `run` needs Kafka, and the database where a step has rows.
    ///
    /// # Errors
    /// One problem for each that is missing.
    pub fn require(&self, needs: &[Need]) -> Result<(), Problems> {
        self.missing(needs).into_result()
    }

    /// What is not set, or names a file that cannot be read.
    fn missing(&self, needs: &[Need]) -> Problems {
        let mut problems = Problems::default();
        for need in needs {
            let (path, is_missing, example) = match need {
                Need::Kafka => ("kafka.bootstrap_servers", self.kafka.bootstrap_servers.is_empty(), "localhost:9092"),
                Need::Database => ("database.url", self.database.url.is_empty(), "postgres://user:password@host/db"),
            };
            if is_missing {
                let variable = variable::variable(path);
                problems.add(
                    path,
                    None,
                    format!("is not set; set it in the file, or {variable}, for example to {example}"),
                    self.origin_of(path),
                );
            }
            match need {
                Need::Kafka => self.kafka.check_needs(&|path| self.origin_of(path), &mut problems),
                Need::Database => self.database.check_needs(&|path| self.origin_of(path), &mut problems),
            }
        }
        problems
    }

    /// Reads the file again and answers the thresholds as they should be now; environment and flags still win over it.
    /// Nothing else is taken from it, so that a running instance changes in no other way.
    ///
    /// # Errors
    /// What is wrong with the file or with its thresholds; the values in force should stay.
    pub fn reload_thresholds(&self) -> Result<BTreeMap<String, f64>, Problems> {
        let schema = &self.loaded.schema;
        let mut problems = Problems::default();
        let layers = self.loaded.sources.layers(schema, &mut Vec::new(), &mut problems);
        let layers: Vec<_> = layers.into_iter().map(|layer| layer.only("pipeline", "thresholds")).collect();
        let typed: Vec<_> = layers.iter().map(|layer| layer.check(schema, &mut problems)).collect();
        problems.retain(|problem| {
            problem.path.starts_with("pipeline.thresholds") || matches!(problem.path.as_str(), "file" | "pipeline")
        });
        problems.into_result()?;
        Ok(layer::merge::<Self>(typed)?.0.pipeline.thresholds)
    }

    /// Where the value of `path` was written.
    pub(crate) fn origin_of(&self, path: &str) -> Origin {
        let found = self.loaded.effective.iter().find(|entry| entry.path == path);
        found.map_or(Origin::Default, |entry| entry.origin.clone())
    }

    /// What only several settings together can get wrong.
    fn cross_check(&self) -> Problems {
        let mut problems = Problems::default();
        let origin = |path: &str| self.origin_of(path);
        self.kafka.cross_check(&origin, &mut problems);
        self.database.cross_check(&origin, &mut problems);
        self.outbox.cross_check(&origin, &mut problems);
        self.http.cross_check(&origin, &mut problems);
        self.engine.cross_check(&origin, &mut problems);
        problems
    }
}

/// What a command cannot do without.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// `kafka.bootstrap_servers`
    Kafka,
    /// `database.url`
    Database,
}

impl Layer {
    /// The entries under one key.
    fn only(mut self, section: &str, key: &str) -> Self {
        self.entries.retain(|entry| entry.section == section && entry.key == key);
        self
    }
}
