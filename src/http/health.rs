//! The probes' answers. None of them asks Kafka or the database: restarting a pod repairs neither.

use crate::engine::status::{Counter, Status};
use crate::ports::Clock;
use crate::ports::clock::SystemClock;
use crate::ports::obstacle::{Obstacle, ObstacleKind};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A polling thread that has not gone round for so long is dead. A revoke may hold it for a minute
/// ([`EngineSettings::revoke_within`](crate::settings::engine::EngineSettings::revoke_within)), and after five the group
/// throws the member out anyway.
const STALLED: Duration = Duration::from_mins(2);

/// Watches that the polling thread goes round.
pub(super) struct Pulse {
    clock: Box<dyn Clock>,
    /// The rounds last seen, and when they were first seen.
    seen: Mutex<(u64, Duration)>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self::new(Box::new(SystemClock::default()))
    }
}

impl Pulse {
    fn new(clock: Box<dyn Clock>) -> Self {
        let now = clock.elapsed();
        Self { clock, seen: Mutex::new((0, now)) }
    }

    /// Whether it has gone round lately. Before its first round the start-up probe is in charge.
    pub(super) fn is_alive(&self, status: &Status) -> bool {
        let (polls, now) = (status.value(Counter::Polls), self.clock.elapsed());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if polls != seen.0 {
            *seen = (polls, now);
        }
        polls == 0 || now.saturating_sub(seen.1) < STALLED
    }
}

/// Whether the polling thread has gone round once.
pub(super) fn is_started(status: &Status) -> bool {
    status.value(Counter::Polls) > 0
}

/// Whether the group has taken us in, every source is there, and every partition that is ours takes records. A halted one alerts, but the others go
/// on; having none is fine.
pub(super) fn is_ready(status: &Status) -> bool {
    is_started(status) && status.is_ready() && status.obstacles.first(ObstacleKind::SourceGone).is_none()
}

/// The sentence where it is not, with the cause where one is known.
pub(super) fn unready(status: &Status) -> String {
    if let Some(Obstacle { reason, .. }) = status.obstacles.first(ObstacleKind::SourceGone) {
        return format!("{}; {}", reason.cause, reason.next);
    }
    if status.is_member() {
        return "partitions are being taken over".into();
    }
    match status.obstacles.first(ObstacleKind::NotAdmitted) {
        Some(Obstacle { reason, .. }) => {
            format!("the group has not taken this instance in: {}; {}", reason.cause, reason.next)
        }
        None => "the group has not taken this instance in".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::Timestamp;
    use crate::ports::obstacle::Reason;
    use std::sync::Arc;

    #[derive(Default)]
    struct Hand(Mutex<Duration>);

    impl Clock for Arc<Hand> {
        fn now(&self) -> Timestamp {
            Timestamp(0)
        }

        fn elapsed(&self) -> Duration {
            *self.0.lock().unwrap()
        }

        fn sleep(&self, duration: Duration) {
            *self.0.lock().unwrap() += duration;
        }
    }

    #[test]
    fn a_polling_thread_that_stands_still_is_dead_and_one_that_never_ran_is_starting() {
        let (hand, status) = (Arc::new(Hand::default()), Status::default());
        let pulse = Pulse::new(Box::new(Arc::clone(&hand)));
        let at = |seconds| {
            *hand.0.lock().unwrap() = Duration::from_secs(seconds);
            pulse.is_alive(&status)
        };
        assert!(at(1_000) && !is_started(&status) && !is_ready(&status));
        status.add(Counter::Polls, 1);
        assert!(at(1_001) && is_started(&status) && !is_ready(&status), "nobody has taken it in");
        assert_eq!(unready(&status), "the group has not taken this instance in");
        let full = vec![("group g".to_owned(), Reason::new("it is full", "raise group.max.size"))];
        status.obstacles.report(ObstacleKind::NotAdmitted, "source", full);
        assert_eq!(unready(&status), "the group has not taken this instance in: it is full; raise group.max.size");
        status.set_member(true);
        assert_eq!(status.obstacles.all(), []);
        assert!(is_ready(&status), "though it may have nothing to do");
        assert!(at(1_100));
        assert!(!at(1_121));
        status.add(Counter::Polls, 1);
        assert!(at(1_122));
        let gone = vec![("topic readings".to_owned(), Reason::new("it was deleted", "make it anew"))];
        status.obstacles.report(ObstacleKind::SourceGone, "counts", gone);
        assert!(!is_ready(&status));
        assert_eq!(unready(&status), "it was deleted; make it anew");
    }
}
