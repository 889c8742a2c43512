//! Where the layers come from: given as values, so that a test needs no process of its own.

use crate::flow::Topology;
use crate::settings::layer::Layer;
use crate::settings::problem::Problems;
use crate::settings::rule::PropertyMistake;
use crate::settings::schema::Schema;
use crate::settings::scrubber::Scrubber;
use crate::settings::variable::PREFIX;
use crate::settings::{environment, file, flags};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// The file, the environment and the flags.
#[derive(Clone, Default)]
pub struct Sources {
    /// The settings file.
    pub file: Option<PathBuf>,
    /// Environment variables; those that do not begin with `TIDEGATE_` are not looked at.
    pub environment: Vec<(OsString, OsString)>,
    /// `path=value`, as given to `--set`.
    pub flags: Vec<String>,
    /// The Kafka client, which is asked about `kafka.properties`; a build without one asks nobody.
    pub client: Option<PropertyMistake>,
}

impl Sources {
    /// The process's own environment, with `--config` and `--set` as given. `TIDEGATE_CONFIG` names the file otherwise.
    #[must_use]
    pub fn of_process(config: Option<PathBuf>, flags: Vec<String>) -> Self {
        let is_ours = |name: &OsString| name.to_string_lossy().starts_with(PREFIX);
        let file = config.or_else(|| std::env::var_os("TIDEGATE_CONFIG").filter(|v| !v.is_empty()).map(Into::into));
        Self { file, environment: std::env::vars_os().filter(|(name, _)| is_ours(name)).collect(), flags, client: None }
    }

    /// Takes the secrets of all sources out of lines, also where something is wrong with the settings.
    #[must_use]
    pub fn scrubber(&self, topology: &Topology) -> Scrubber {
        Scrubber::of(&self.layers(&Schema::new(topology, None), &mut Vec::new(), &mut Problems::default()))
    }

    /// The layers, lowest first.
    pub(super) fn layers(&self, schema: &Schema, notes: &mut Vec<String>, problems: &mut Problems) -> [Layer; 4] {
        let file = self.file.as_deref().map(|path| file::layer(path, problems)).unwrap_or_default();
        [
            schema.defaults(),
            file,
            environment::layer(&self.environment, schema, notes, problems),
            flags::layer(&self.flags, problems),
        ]
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names only: environment variables hold secrets.
        let names: Vec<_> = self.environment.iter().map(|(name, _)| name).collect();
        f.debug_struct("Sources").field("file", &self.file).field("environment", &names).finish_non_exhaustive()
    }
}
