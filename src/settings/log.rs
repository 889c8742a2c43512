//! What is written to standard error.

use crate::settings::rule::{Allowed, Rule};
use serde::{Deserialize, Serialize};

/// Settings of the log. The environment variable `TIDEGATE_LOG` may narrow it by module, as `RUST_LOG` would.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogSettings {
    /// How a line is written. Default: `text`, for people.
    #[serde(rename = "log.format")]
    pub format: LogFormat,
    /// The least level that is written. Default: `info`.
    #[serde(rename = "log.level")]
    pub level: LogLevel,
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The least level that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Somebody must act.
    Error,
    /// Something is odd.
    Warn,
    /// What happens to the whole instance.
    #[default]
    Info,
    /// What happens to a batch.
    Debug,
    /// What happens to a record.
    Trace,
}

impl LogLevel {
    /// The word, as settings and log filters spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl LogSettings {
    pub(super) const RULES: &'static [Rule] = &[
        Rule::new("log", "format", Allowed::Choice(&["text", "json"])),
        Rule::new("log", "level", Allowed::Choice(&["error", "warn", "info", "debug", "trace"])),
    ];
}
