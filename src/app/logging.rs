//! The log on standard error: its level, its form, and that no secret is in it.

#[cfg(all(feature = "kafka", feature = "postgres"))]
use crate::app::notices::Notices;
use crate::settings::{LogFormat, Scrubber, Settings};
use std::io::{self, IsTerminal as _, Write};
use std::panic::Location;
use std::sync::Arc;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// No server sends warnings to this edition.
#[cfg(not(all(feature = "kafka", feature = "postgres")))]
type Notices = tracing_subscriber::layer::Identity;

/// Starts logging as the settings say; `TIDEGATE_LOG` (a filter such as `tidegate=debug`) wins. Only the first call of a
/// process counts.
pub(super) fn start(settings: &Settings) {
    let level = settings.log.level.as_str();
    // The driver's notices ("already exists, skipping") would be noise at our level.
    let usual = || EnvFilter::new(format!("{level},sqlx=warn"));
    let filter = EnvFilter::try_from_env("TIDEGATE_LOG").unwrap_or_else(|_| usual());
    let is_terminal = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let secrets = Arc::new(settings.scrubber().clone());
    let writer = move || Scrubbed { out: io::stderr(), secrets: Arc::clone(&secrets) };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(is_terminal);
    // A line that cannot be written would be told on the same standard error, by a macro that panics.
    let builder = builder.log_internal_errors(false);
    // Failing means that a subscriber is set already: the user's own program has its logging.
    let _ = match settings.log.format {
        LogFormat::Text => builder.finish().with(Notices::default()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().with(Notices::default()).try_init(),
    };
    if settings.log.format == LogFormat::Json {
        std::panic::set_hook(Box::new(|panic| tell_panic(panic.payload_as_str(), panic.location())));
    }
    for note in settings.notes() {
        tracing::info!("{note}");
    }
}

/// A panic as one line of the log, where programs read it: Rust would write several lines of text amid those of JSON.
fn tell_panic(said: Option<&str>, at: Option<&Location<'_>>) {
    let thread = std::thread::current();
    let at = at.map_or_else(|| "an unknown place".into(), ToString::to_string);
    let said = said.unwrap_or("no text");
    tracing::error!(
        thread = thread.name().unwrap_or("unnamed"),
        "panicked at {at}: {said}; most likely a defect of the code there: send this line to those who keep it"
    );
}

/// Takes secrets out of what is written. The subscriber writes a line at a time, so that no secret comes in two.
struct Scrubbed<W> {
    out: W,
    secrets: Arc<Scrubber>,
}

impl<W: Write> Write for Scrubbed<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.out.write_all(self.secrets.scrub(&String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Topology;
    use crate::settings::Sources;
    use std::sync::{Mutex, PoisonError};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(line)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_of_any_library_leaves_without_the_secret_in_either_format() {
        let password = ("TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD".into(), "can\"ary#5ecret".into());
        let secrets = Sources { environment: vec![password], ..Sources::default() }.scrubber(&Topology::new("any"));
        let secrets = Arc::new(secrets);
        for is_json in [false, true] {
            let lines = Lines::default();
            let (out, secrets) = (lines.clone(), Arc::clone(&secrets));
            let writer = move || Scrubbed { out: out.clone(), secrets: Arc::clone(&secrets) };
            let builder = tracing_subscriber::fmt().with_writer(writer).with_ansi(!is_json);
            let log = || {
                tracing::warn!(key = "can\"ary#5ecret", value = %"5ecret", "ignored can%22ary%235ecret");
            };
            if is_json {
                tracing::subscriber::with_default(builder.json().finish(), log);
            } else {
                tracing::subscriber::with_default(builder.finish(), log);
            }
            let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
            assert!(text.contains("ignored ***"), "{text}");
            assert!(!text.contains("5ecret") && !text.contains("ary"), "{text}");
        }
    }

    #[test]
    fn a_panic_is_one_line_of_json_without_the_secret() {
        let password = ("TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD".into(), "can\"ary#5ecret".into());
        let secrets = Sources { environment: vec![password], ..Sources::default() }.scrubber(&Topology::new("any"));
        let (lines, secrets) = (Lines::default(), Arc::new(secrets));
        let out = lines.clone();
        let writer = move || Scrubbed { out: out.clone(), secrets: Arc::clone(&secrets) };
        let subscriber = tracing_subscriber::fmt().with_writer(writer).json().flatten_event(true).finish();
        tracing::subscriber::with_default(subscriber, || {
            tell_panic(Some("index out\nof bounds: can\"ary#5ecret"), Some(Location::caller()));
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        let message = line["message"].as_str().unwrap();
        assert!(message.starts_with("panicked at src/app/logging.rs:"), "{message}");
        assert!(message.contains(": index out\nof bounds: ***; most likely"), "{message}");
        assert_eq!(line["level"], "ERROR");
    }
}
