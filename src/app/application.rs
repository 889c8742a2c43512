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

/// Whether this build can keep the state of the pipeline.
///
/// # Errors
/// `Setup`: it has stores, and the build has nothing to keep them in.
pub(super) fn check_build(topology: &Topology) -> Result<(), Failure> {
    let stores = topology.sub_topologies().iter().flat_map(|sub| &sub.stores);
    let names: Vec<&str> = stores.map(|store| &*store.name).collect();
    if names.is_empty() || cfg!(feature = "rocksdb") {
        return Ok(());
    }
    Err(Failure::Setup(vec![format!(
        "pipeline {} keeps state ({}), and this build has no RocksDB adapter: build it with --features rocksdb",
        topology.name(),
        names.join(", ")
    )]))
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
/// Where it cannot have that name: the declaration itself was found right before.
pub(super) fn as_set(topology: &Topology, settings: &Settings) -> Result<Topology, Failure> {
    let name = &settings.pipeline.name;
    let topology = topology.clone().renamed(name);
    topology.validate().map_err(|mistakes| {
        let mistakes = mistakes.join("\n  ");
        Failure::Setup(vec![format!("pipeline.name: the pipeline cannot have the name {name}\n  {mistakes}")])
    })?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::exit::Exit;
    use crate::pipelines::usage;
    use crate::settings::Scrubber;

    #[test]
    fn a_name_too_long_for_the_topics_of_the_pipeline_ends_every_command_with_the_setting_and_the_fix() {
        let named = |length: usize| {
            let mut settings = Settings::default();
            settings.pipeline.name = "p".repeat(length);
            as_set(&usage::topology(), &settings).map(|topology| topology.name().len())
        };
        let longest = 249 - "-by-user-repartition-dlt".len();
        assert_eq!(named(longest).unwrap(), longest);
        let (failure, mut told) = (named(longest + 3).unwrap_err(), Vec::new());
        let exit = failure.report(&mut told, &Scrubber::default());
        let told = String::from_utf8(told).unwrap();
        assert_eq!((exit, exit.code()), (Exit::Misconfigured, 78));
        assert!(told.starts_with("pipeline.name: the pipeline cannot have the name ppp"), "{told}");
        for words in [
            "its dead-letter topic would have 252 characters, 249 are allowed: shorten the name of the pipeline",
            " by 3 (ppp",
        ] {
            assert!(told.contains(words), "{told}");
        }
    }
}
