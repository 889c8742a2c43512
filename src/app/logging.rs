//! What is written to standard error, and in which form.

use crate::settings::{LogFormat, Settings};
use tracing_subscriber::EnvFilter;

/// Starts logging as the settings say; `TIDEGATE_LOG` (a filter such as `tidegate=debug`) wins. Only the first call of a
/// process counts.
pub(super) fn start(settings: &Settings) {
    let level = settings.log.level.as_str();
    let filter = EnvFilter::try_from_env("TIDEGATE_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Failing means that a subscriber is set already: the user's own program has its logging.
    let _ = match settings.log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    for note in settings.notes() {
        tracing::info!("{note}");
    }
}
