//! Everything that each command needs: the pipeline, and where its settings come from.

use crate::app::failure::Failure;
use crate::app::signals::Signals;
use crate::flow::Topology;
use crate::settings::{Need, Settings, Sources};

/// The pipeline and the sources of its settings, handed to every command.
pub(super) struct App {
    pub(super) topology: Topology,
    pub(super) sources: Sources,
    #[cfg_attr(
        not(any(feature = "sqlite", all(feature = "kafka", feature = "postgres"))),
        allow(dead_code, reason = "only what runs for long holds them")
    )]
    pub(super) signals: Signals,
}

/// What the Kafka client says of its settings together, before any server is asked.
///
/// # Errors
/// The contradiction.
#[cfg(feature = "kafka")]
pub(super) fn check_client(settings: &Settings) -> Result<(), Failure> {
    let said = crate::adapters::kafka::properties::contradiction(&settings.kafka);
    said.map_or(Ok(()), |sentence| Err(Failure::Setup(vec![format!("kafka.properties: {sentence}")])))
}

#[cfg(not(feature = "kafka"))]
#[expect(clippy::unnecessary_wraps, reason = "as the service has it")]
pub(super) const fn check_client(_: &Settings) -> Result<(), Failure> {
    Ok(())
}

impl App {
    /// The servers that `run` cannot do without: a pipeline without rows needs no database.
    pub(super) fn needs(&self) -> &'static [Need] {
        if self.topology.tables().is_empty() { &[Need::Kafka] } else { &[Need::Kafka, Need::Database] }
    }

    /// Ends a command that looks at the database of a pipeline which has none.
    #[cfg(all(feature = "kafka", feature = "postgres"))]
    pub(super) fn with_rows(&self, command: &str) -> Result<(), Failure> {
        if !self.topology.tables().is_empty() {
            return Ok(());
        }
        let name = self.topology.name();
        Err(Failure::message(format!(
            "{command}: pipeline {name} has no rows, so there is no database to look at; what it does is at /status of \
             its instances (http.address)"
        )))
    }

    /// The pipeline as the settings have it.
    pub(super) fn pipeline(&self) -> Result<Topology, Failure> {
        as_set(&self.topology, &self.settings_for(&[])?)
    }

    /// The settings for a command that cannot do without `needs`: everything that is wrong or missing comes at once.
    pub(super) fn settings_for(&self, needs: &[Need]) -> Result<Settings, Failure> {
        Ok(Settings::load_for(needs, &self.topology, self.sources.clone())?)
    }
}

/// The pipeline under the name and with the thresholds of the settings.
///
/// # Errors
/// Where it cannot have that name.
pub(super) fn as_set(topology: &Topology, settings: &Settings) -> Result<Topology, Failure> {
    let topology = topology.clone().renamed(&settings.pipeline.name);
    topology.validate().map_err(Failure::Topology)?;
    apply_thresholds(&topology, settings.pipeline.thresholds.iter().map(|(name, value)| (name.as_str(), *value)));
    Ok(topology)
}

/// Puts thresholds in force by name; names that the topology does not have were refused with the settings.
pub(super) fn apply_thresholds<'a>(topology: &Topology, values: impl Iterator<Item = (&'a str, f64)>) {
    for (name, value) in values {
        if let Some(threshold) = topology.thresholds().iter().find(|threshold| threshold.name() == name)
            && threshold.value().to_bits() != value.to_bits()
        {
            tracing::info!(threshold = name, from = threshold.value(), to = value, "threshold changed");
            threshold.set(value);
        }
    }
}
