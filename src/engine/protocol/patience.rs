//! How long something has been waited for: K, which a pending transaction keeps unreadable until its timeout, and a hanging
//! one for ever; or any other step of a takeover. People are told by the watch over the status (`Status::waits`).

use std::time::Duration;

/// The time after which the owner of a pending commit is taken for dead: longer than the commit of a living one takes.
const COMMIT_MAX: Duration = Duration::from_secs(1);

/// The history of one operation that keeps failing.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    since: Option<Duration>,
}

impl Patience {
    /// The operation has succeeded.
    pub(crate) fn end(&mut self) {
        *self = Self::default();
    }

    /// The operation failed once more.
    pub(crate) fn failed(&mut self, now: Duration) {
        self.since.get_or_insert(now);
    }

    /// Whether the failure has lasted so long that the owner of the transaction which keeps K pending is to be taken
    /// for dead.
    pub(crate) fn is_at_an_end(&self, now: Duration) -> bool {
        self.since.is_some_and(|since| now.saturating_sub(since) >= COMMIT_MAX)
    }

    /// Whether it has failed since it last succeeded.
    pub(crate) const fn has_begun(&self) -> bool {
        self.since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_at_an_end_a_second_after_k_could_first_not_be_read() {
        let mut patience = Patience::default();
        let at = Duration::from_millis;
        assert!(!patience.is_at_an_end(at(9_000)), "K was never asked for in vain");
        patience.failed(at(5_000));
        patience.failed(at(5_500));
        assert_eq!([5_000, 5_999, 6_000].map(|now| patience.is_at_an_end(at(now))), [false, false, true]);
        patience.end();
        assert!(!patience.is_at_an_end(at(9_000)));
    }
}
