//! The warnings that a database server sends along with an answer: one about ids that are running out comes with every
//! transaction. Of each kind one line is let through at once, and the next after pauses that double.

use crate::adapters::postgres::NOTICES as TARGET;
use crate::app::watch::telling::Telling;
use crate::ports::clock::{Clock as _, SystemClock};
use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::sync::{Mutex, PoisonError};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Number of kinds that are told apart; all beyond it count as one.
const KINDS_MAX: usize = 100;

/// See the module.
#[derive(Default)]
pub(super) struct Notices {
    clock: SystemClock,
    kinds: Mutex<BTreeMap<String, Telling>>,
}

impl Notices {
    fn is_due(&self, text: &str) -> bool {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        // Numbers grow from line to line.
        let kind: String = text.chars().filter(|c| !c.is_ascii_digit()).collect();
        let kind = if kinds.len() < KINDS_MAX || kinds.contains_key(&kind) { kind } else { String::new() };
        kinds.entry(kind).or_default().is_due(self.clock.elapsed())
    }
}

impl<S: Subscriber> Layer<S> for Notices {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        if event.metadata().target() != TARGET {
            return true;
        }
        let mut text = Text::default();
        event.record(&mut text);
        self.is_due(&text.0)
    }
}

/// The text of an event.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, _: &Field, value: &dyn Debug) {
        let _ = write!(self.0, "{value:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tracing_subscriber::layer::SubscriberExt as _;

    #[test]
    fn a_warning_that_comes_with_every_transaction_is_one_line_and_others_are_not_held_back() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let out = Arc::clone(&lines);
        let writer = move || Lines(Arc::clone(&out));
        let subscriber = tracing_subscriber::fmt().with_writer(writer).finish().with(Notices::default());
        tracing::subscriber::with_default(subscriber, || {
            for left in 0..1_000 {
                tracing::warn!(target: TARGET, "database \"bank\" must be vacuumed within {left} transactions");
                tracing::warn!("ours");
            }
            tracing::warn!(target: TARGET, "another");
        });
        let text = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
        let count = |part: &str| text.matches(part).count();
        assert_eq!((count("must be vacuumed within 0 "), count("must be vacuumed")), (1, 1), "{text}");
        assert_eq!((count("ours"), count("another")), (1_000, 1));
    }

    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(line)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
}
