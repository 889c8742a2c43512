//! The blame for a record that has failed alone, where no repetition can help: it is the record's own, or that of a timer behind it.
//!
//! What took too long is known by its time. Else fewer timers fire at each try, half as many, until one fires alone. The timer that
//! is to blame becomes a dead letter, and neither the record nor another timer has a part in it. So the number of tries that
//! somebody's fault costs goes by the logarithm of that of the timers, at most.

use crate::engine::task::{Over, SetAside};
use crate::engine::worker::rows::fired::Fired;
use crate::flow::effect::{Reject, TOO_SLOW};
use crate::flow::timer::Timer;
use std::time::Duration;

/// The number of times in a row that a record may be decided for longer than the database waits.
pub(super) const SLOW_MAX: u32 = 3;

/// Who is to blame for a failure.
#[derive(Debug)]
pub(super) enum Blamed {
    /// Nobody yet: it may be chance.
    Nobody,
    /// Who it is shows at the next try, with fewer timers.
    Sought,
    /// A timer, which is a dead letter from now on.
    Timer,
    /// The record: a dead letter, where there is a reject.
    Record(Option<Reject>),
}

impl SetAside {
    /// Blames whoever took longer than `limit` by itself. Where nobody did, fewer timers fire behind the record, and the others wait
    /// for the next one. `took`: the longest time without a statement.
    pub(super) fn blame_slow(&mut self, fired: Fired, took: Duration, limit: Duration) -> Blamed {
        let Fired { own, slowest, count, .. } = fired;
        match slowest {
            _ if own > limit => Blamed::Record(Some(slow(own, limit))),
            Some((took, timer)) if took > limit => self.give_up(timer, &slow(took, limit), false),
            Some(_) if self.most_timers > 0 => {
                self.most_timers = count / 2;
                Blamed::Sought
            }
            _ => Blamed::Record(Some(slow(took, limit))),
        }
    }

    /// Blames the timers whose row cannot be read, or the one that fires alone, unless the batch fails without it, too. Otherwise half
    /// as many fire at the next try.
    pub(super) fn blame_refused(&mut self, fired: Fired, reject: Option<&Reject>, was_set_aside: bool) -> Blamed {
        let Fired { count, last, unread, foreseen, .. } = fired;
        let Some(reject) = reject else { return Blamed::Record(None) };
        if foreseen > 0 && !was_set_aside {
            return Blamed::Sought; // next time with one row in a statement
        }
        if !unread.is_empty() {
            unread.into_iter().for_each(|timer| drop(self.give_up(timer, reject, true)));
            return Blamed::Timer;
        }
        let Some(timer) = last else { return Blamed::Record(Some(reject.clone())) };
        if count > 1 {
            self.most_timers = count / 2;
            return Blamed::Sought;
        }
        if let Some(tried) = self.over.iter().position(|over| over.timer == timer) {
            self.over.remove(tried);
            self.most_timers = 0;
            return Blamed::Sought;
        }
        self.most_timers = 1;
        self.give_up(timer, reject, false)
    }

    fn give_up(&mut self, timer: Timer, reject: &Reject, is_unread: bool) -> Blamed {
        self.over.retain(|over| over.timer != timer);
        self.over.push(Over { timer, reject: reject.clone(), is_unread });
        Blamed::Timer
    }
}

/// The rejection of a record, or timer, whose step took so long that the database has ended its transaction each time.
fn slow(took: Duration, limit: Duration) -> Reject {
    let (took, limit) = (took.as_millis(), limit.as_millis());
    Reject::dead_letter(
        TOO_SLOW,
        format!(
            "its step took {took} ms, {SLOW_MAX} times in a row; the database waits {limit} ms for the next statement"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::timer::{Clock, TURN};

    fn timer(number: usize) -> Timer {
        Timer { clock: Clock::Event, at: 0, key: number.to_be_bytes().to_vec(), name: "due".into() }
    }

    fn ms(time: u64) -> Duration {
        Duration::from_millis(time)
    }

    /// What fires behind a record that takes `own` with timers of which each takes its `times`, as many as may.
    fn fire(set_aside: &SetAside, own: Duration, times: &[Duration]) -> (Fired, Duration) {
        let mut fired = Fired { own, foreseen: times.len(), ..Fired::default() };
        let mut all = own;
        for (number, time) in times.iter().enumerate().take(set_aside.most_timers) {
            let timer = timer(number);
            let time = if set_aside.over.iter().any(|over| over.timer == timer) { Duration::ZERO } else { *time };
            fired.note(&timer, time);
            all += time;
        }
        (fired, all)
    }

    /// The tries until a record is decided or to blame, and the timers that are.
    fn tries(own: Duration, times: &[Duration]) -> (u32, bool, Vec<Timer>) {
        let limit = ms(400);
        let mut set_aside = SetAside::new(0);
        for tries in 1.. {
            let (fired, all) = fire(&set_aside, own, times);
            let over = |set_aside: &SetAside| set_aside.over.iter().map(|over| over.timer.clone()).collect();
            if all <= limit {
                return (tries - 1, false, over(&set_aside));
            }
            match set_aside.blame_slow(fired, all, limit) {
                Blamed::Record(reject) => return (tries, reject.is_some(), over(&set_aside)),
                Blamed::Timer | Blamed::Sought => {}
                Blamed::Nobody => panic!("somebody is"),
            }
        }
        unreachable!()
    }

    #[test]
    fn whoever_is_too_slow_is_blamed_at_once_and_no_other_one() {
        let mut times = vec![ms(0); TURN];
        assert_eq!(tries(ms(401), &times), (1, true, vec![]));
        times[700] = ms(401);
        assert_eq!(tries(ms(0), &times), (1, false, vec![timer(700)]));
        assert_eq!(tries(ms(401), &times), (1, true, vec![]));
    }

    #[test]
    fn where_nobody_is_too_slow_alone_half_of_the_timers_wait_each_time() {
        assert_eq!(tries(ms(0), &vec![ms(1); TURN]), (2, false, vec![]));
        assert_eq!(tries(ms(400), &vec![ms(1); TURN]), (10, false, vec![]));
    }

    #[test]
    fn a_timer_that_the_database_refuses_is_found_among_a_thousand_in_a_few_tries() {
        let (refused, reject) = (timer(0), Reject::new("no"));
        let mut set_aside = SetAside::new(0);
        let mut tries = 0;
        while set_aside.over.is_empty() {
            let (fired, _) = fire(&set_aside, ms(0), &vec![ms(0); TURN]);
            assert!(matches!(set_aside.blame_refused(fired, Some(&reject), tries > 0), Blamed::Sought | Blamed::Timer));
            tries += 1;
        }
        assert_eq!((tries, &set_aside.over[0].timer), (11, &refused));
        // Where it fails without this one, too, the record is to blame.
        let (fired, _) = fire(&set_aside, ms(0), &[ms(0)]);
        assert!(matches!(set_aside.blame_refused(fired, Some(&reject), true), Blamed::Sought));
        assert_eq!((set_aside.over.len(), set_aside.most_timers), (0, 0));
        let (fired, _) = fire(&set_aside, ms(0), &[ms(0)]);
        assert!(matches!(set_aside.blame_refused(fired, Some(&reject), true), Blamed::Record(Some(_))));
    }
}
