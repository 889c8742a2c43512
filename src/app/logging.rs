//! The log on standard error: its level and its form.

use crate::settings::{LogFormat, Settings};
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

/// Starts logging as the settings say; `TIDEGATE_LOG` (a filter such as `tidegate=debug`) wins. Only the first call of a
/// process counts.
pub(super) fn start(settings: &Settings) {
    let level = settings.log.level.as_str();
    // The driver's notices ("already exists, skipping") would be noise at our level.
    let usual = || EnvFilter::new(format!("{level},sqlx=warn"));
    let filter = EnvFilter::try_from_env("TIDEGATE_LOG").unwrap_or_else(|_| usual());
    let is_terminal = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(is_terminal);
    // Failing means that a subscriber is set already: the user's own program has its logging.
    let _ = match settings.log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    for note in settings.notes() {
        tracing::info!("{note}");
    }
}
