//! The largest messages that topics take, as they were last read. A record is rejected for its size only by a limit that was
//! read some seconds ago at most: a topic's settings change while an instance runs.
//!
//! Nobody asks the log here. A limit that is too old is marked, the executor lets the relay ask for the marked ones, and the
//! record is offered again with the answer.

use crate::flow::effect::Reject;
use crate::flow::record::TopicName;
use crate::ports::Clock;
use crate::ports::sink::SizeLimit;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The age up to which a limit is good enough to reject a record by, and the least time between two questions about one topic.
const AGE_MAX: Duration = Duration::from_secs(5);

/// The code of a record that waits for a limit to be read anew. It is no try of the record's.
pub(crate) const AWAITS_LIMIT: &str = "(limit asked for)";

/// The limits of several topics, each for itself.
#[derive(Clone)]
pub struct Limits {
    clock: Arc<dyn Clock>,
    topics: HashMap<TopicName, Arc<Limit>>,
}

/// The limit of one topic.
pub(crate) struct Limit {
    topic: TopicName,
    clock: Arc<dyn Clock>,
    /// The largest message in bytes, for a look that costs nothing.
    bytes: AtomicUsize,
    known: Mutex<Known>,
    /// Whether it is to be asked for.
    is_wanted: AtomicBool,
}

struct Known {
    limit: SizeLimit,
    read_at: Duration,
    asked_at: Duration,
    /// The age up to which it is good enough to reject by. A record that is offered again later than that, since its task had to
    /// be taken over first, would be held up for ever.
    age_max: Duration,
    /// When a record was first held up for it, since it was good enough last.
    awaited_at: Option<Duration>,
    /// Whether a record was rejected by it since it was read. The age stays as it is until it is read again: more of what goes out with
    /// that record may be too large.
    has_rejected: bool,
}

impl Known {
    const fn new(limit: SizeLimit, now: Duration) -> Self {
        Self { limit, read_at: now, asked_at: now, age_max: AGE_MAX, awaited_at: None, has_rejected: false }
    }
}

impl Limits {
    /// The limits as they were read just now.
    #[must_use]
    pub fn new(clock: &Arc<dyn Clock>, limits: HashMap<TopicName, SizeLimit>) -> Self {
        let mut new = Self { clock: Arc::clone(clock), topics: HashMap::new() };
        new.learn(limits);
        new
    }

    /// Takes limits that were read just now.
    pub(crate) fn learn(&mut self, limits: HashMap<TopicName, SizeLimit>) {
        let now = self.clock.elapsed();
        for (topic, limit) in limits {
            if let Some(known) = self.topics.get(&topic) {
                known.learn(limit, now);
                continue;
            }
            let known = Limit {
                topic: topic.clone(),
                clock: Arc::clone(&self.clock),
                bytes: AtomicUsize::new(limit.bytes()),
                known: Mutex::new(Known::new(limit, now)),
                is_wanted: AtomicBool::new(false),
            };
            self.topics.insert(topic, Arc::new(known));
        }
    }

    /// The limit of a topic, which later answers change.
    pub(crate) fn of(&self, topic: &TopicName) -> Option<Arc<Limit>> {
        self.topics.get(topic).cloned()
    }

    /// Whether a message of `bytes` may go to `topic`; `what` names it in the sentence, like "a notice".
    ///
    /// # Errors
    /// [`Limit::check`]'s.
    pub(crate) fn check(&self, topic: &TopicName, bytes: usize, what: &str) -> Result<(), Reject> {
        self.topics.get(topic).map_or(Ok(()), |limit| limit.check(bytes, what))
    }

    /// The largest message of a topic in bytes, where it is known. One below `bytes` that is too old is asked for, and good
    /// enough until the answer.
    pub(crate) fn room(&self, topic: &TopicName, bytes: usize) -> Option<usize> {
        let limit = self.topics.get(topic)?;
        let room = limit.bytes.load(Ordering::Relaxed);
        if bytes > room && !limit.is_fresh() {
            limit.is_wanted.store(true, Ordering::Relaxed);
        }
        Some(room)
    }

    /// The topics to ask about now, each once in some seconds.
    pub(crate) fn wanted(&self) -> Vec<TopicName> {
        let now = self.clock.elapsed();
        self.topics.values().filter(|limit| limit.is_due(now)).map(|limit| limit.topic.clone()).collect()
    }
}

impl Limit {
    /// Whether a message of `bytes` may go to the topic.
    ///
    /// # Errors
    /// The reject of its record: a dead letter, or `Retry` with [`AWAITS_LIMIT`] where the limit must be read anew first.
    pub(crate) fn check(&self, bytes: usize, what: &str) -> Result<(), Reject> {
        if bytes <= self.bytes.load(Ordering::Relaxed) {
            return Ok(());
        }
        let now = self.clock.elapsed();
        let mut known = self.lock();
        let told = format!("{what} of {bytes} bytes for {}: {}", self.topic, known.limit.told(&self.topic, bytes));
        if now.saturating_sub(known.read_at) < known.age_max {
            (known.awaited_at, known.has_rejected) = (None, true);
            return Err(Reject::dead_letter("too-large", told));
        }
        let awaited_at = *known.awaited_at.get_or_insert(now);
        if known.read_at > awaited_at {
            // The answer came, and was too old again once the record was.
            (known.age_max, known.awaited_at) = (known.age_max.saturating_mul(2), Some(now));
        }
        drop(known);
        self.is_wanted.store(true, Ordering::Relaxed);
        Err(Reject::retry(AWAITS_LIMIT, format!("{told}; whether that still holds is asked first")))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, limit: SizeLimit, now: Duration) {
        let mut known = self.lock();
        if limit.bytes() != known.limit.bytes() || known.has_rejected {
            (known.age_max, known.awaited_at, known.has_rejected) = (AGE_MAX, None, false); // what was held up for it may pass
        }
        (known.limit, known.read_at) = (limit, now);
        self.bytes.store(limit.bytes(), Ordering::Relaxed);
    }

    fn is_fresh(&self) -> bool {
        self.clock.elapsed().saturating_sub(self.lock().read_at) < AGE_MAX
    }

    fn is_due(&self, now: Duration) -> bool {
        if !self.is_wanted.load(Ordering::Relaxed) {
            return false;
        }
        let mut known = self.lock();
        let is_due = now.saturating_sub(known.asked_at.max(known.read_at)) >= AGE_MAX;
        if is_due {
            known.asked_at = now;
            self.is_wanted.store(false, Ordering::Relaxed);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::memory::ManualClock;

    #[test]
    fn a_limit_is_asked_for_once_in_some_seconds_and_rejects_only_when_it_was_read_just_now() {
        let clock = Arc::new(ManualClock::default());
        let (out, elapsed) = (TopicName::parse("out").unwrap(), Arc::clone(&clock) as Arc<dyn Clock>);
        let limit = |value| HashMap::from([(out.clone(), SizeLimit { value, framing: 24, is_own: false })]);
        let mut limits = Limits::new(&elapsed, limit(700));
        assert!(limits.check(&out, 676, "a notice").is_ok());
        let reject = limits.check(&out, 677, "a notice").unwrap_err();
        assert_eq!(reject.code(), "too-large");
        let told = "a notice of 677 bytes for out: max.message.bytes of out is 700: raise it to at least 701";
        assert_eq!(reject.message(), told);
        clock.advance(AGE_MAX);
        assert!(limits.wanted().is_empty(), "nobody needs it");
        assert_eq!(limits.check(&out, 677, "a notice").unwrap_err().code(), AWAITS_LIMIT);
        assert_eq!((limits.wanted(), limits.wanted()), (vec![out.clone()], vec![]));
        assert_eq!(limits.check(&out, 677, "a notice").unwrap_err().code(), AWAITS_LIMIT, "no answer yet");
        assert!(limits.wanted().is_empty(), "it was asked for just now");
        clock.advance(AGE_MAX);
        assert_eq!(limits.wanted().len(), 1, "again, since nobody answered");
        limits.learn(limit(800));
        assert!(limits.check(&out, 677, "a notice").is_ok());
        assert!(limits.check(&out, 777, "a notice").unwrap_err().message().contains("is 800"));
    }

    /// As the timers behind a record are, where the task must be taken over first; and two of them, of which both must pass at once.
    #[test]
    fn what_is_offered_again_only_after_a_minute_each_time_is_held_up_some_times_and_not_for_ever() {
        let clock = Arc::new(ManualClock::default());
        let (out, elapsed) = (TopicName::parse("out").unwrap(), Arc::clone(&clock) as Arc<dyn Clock>);
        let limit = |value| HashMap::from([(out.clone(), SizeLimit { value, framing: 24, is_own: false })]);
        let mut limits = Limits::new(&elapsed, limit(700));
        let mut held_up = |value, messages| {
            let is_held_up = |limits: &Limits| {
                clock.advance(Duration::from_mins(1));
                let mut all = (0..messages).map(|_| limits.check(&out, 677, "a notice"));
                all.any(|said| said.is_err_and(|reject| reject.code() == AWAITS_LIMIT))
            };
            let mut times = 0;
            while is_held_up(&limits) {
                times += 1;
                assert!(times < 100, "for ever");
                clock.advance(Duration::from_secs(1));
                assert_eq!(limits.wanted().len(), 1, "it is asked for each time");
                limits.learn(limit(value));
            }
            times
        };
        assert_eq!(
            [held_up(700, 1), held_up(700, 1)],
            [5, 6],
            "good enough for 5, 10, 20, 40, 80 s, and then for 5 s again"
        );
        assert_eq!(held_up(700, 2), 6, "both are rejected by one answer");
        assert_eq!(held_up(800, 1), 1, "it was raised meanwhile");
    }
}
