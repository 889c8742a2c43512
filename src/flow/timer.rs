//! Timers of keys: set by a record, kept in a store beside the partition, fired once the task's clock has come to them.
//!
//! A timer has a key and a name, and there is one of each at most. The store that keeps the timers of a step has two entries
//! for each: one by time, key and name, in whose byte order they fire, and one by key and name, which says its time. There are
//! two clocks: the task's, by which values of stores expire, which is the highest event time among the records that the task's
//! streams have decided; and the wall clock. What fires by the wall clock fires in turns between records, and the store keeps
//! the last turn.

use crate::flow::algorithm::Context;
use crate::flow::effect::Reject;
use crate::flow::store::{Opened, StateAccess, Store, TimerKind, Unavailable};
use serde::{Deserialize, Serialize};

/// Most bytes of a timer's name.
pub const NAME_BYTES: usize = 128;

/// Most timers that fire behind one record; none fires behind as many of their messages either. The others wait for the
/// next one: a transaction has room for what one record leads to.
pub(crate) const TURN: usize = 1_000;

/// Bytes behind which none fires, of what the timers of one turn lead to: keys and values of messages, and the writes in stores.
pub(crate) const TURN_BYTES: usize = 32 << 20;

/// Begins the entries by event time, and by wall clock.
const BY_TIME: [u8; 2] = [b'@', b'A'];
/// Begins the entries by key.
const BY_KEY: u8 = b'=';
/// Ends a key, within which each zero is followed by a one: so keys are in their byte order, and a key comes before those
/// that it begins.
const END: [u8; 2] = [0, 0];

/// The time at which a timer fires.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum At {
    /// Once the task's clock has come so far, in milliseconds since 1970, UTC. One that has passed fires with the record that
    /// sets it, and where a timer sets it with the next record that takes the clock on.
    Event(i64),
    /// Once it is so late by the clock of the machine that has the partition, in milliseconds since 1970, UTC: between two
    /// records, whether one comes or not. [`Context::now_ms`] is that clock, which may differ between attempts of a record.
    Wall(i64),
}

impl From<At> for When {
    fn from(at: At) -> Self {
        match at {
            At::Event(at) => Self::Event(at),
            At::Wall(wall) => Self::Wall { wall },
        }
    }
}

/// The clock that a timer goes by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Clock {
    /// The event time of its task's records.
    Event,
    /// The wall clock.
    Wall,
}

/// The value of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum When {
    Event(i64),
    Wall { wall: i64 },
}

/// The name of a tick's timer, which has no key.
const TICK: &str = "\0every";

/// Whether a timer of this name is a tick.
pub(crate) fn is_tick(name: &str) -> bool {
    name == TICK
}

/// Whether a timer of this name is a step's own, and none that an algorithm has set.
pub(crate) fn is_own(name: &str) -> bool {
    name.starts_with('\0')
}

/// The last turn in which timers fired by the wall clock.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct LastTurn {
    /// Messages that such turns have led to, this one included.
    pub(crate) messages: i64,
    /// The time on the wall clock.
    pub(crate) at_ms: i64,
    /// The next offset of each input: the turn lies in front of these records.
    pub(crate) next: Vec<i64>,
}

/// The entry of the last turn.
pub(crate) const LAST_TURN: &[u8] = b"#";

/// The number of a message of a turn, given how many there were before: below those of all records. They begin again after two
/// thousand million.
pub(crate) const fn number_in_turn(messages: i64) -> i32 {
    i32::MIN + (messages & 0x7fff_ffff) as i32
}

/// The number of the store of a step that has timers.
fn number(state: &mut dyn StateAccess) -> Result<usize, Unavailable> {
    match state.timers() {
        Some((number, _)) => Ok(number),
        None => Err(state.lacks("the step has no store of timers".into())),
    }
}

/// Reads the last turn.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn last_turn(state: &mut dyn StateAccess) -> Result<LastTurn, Reject> {
    let (number, store) = (number(state)?, Store::new("").proved());
    Ok(Opened { store: &store, number, state }.get(LAST_TURN)?.unwrap_or_default())
}

/// Keeps the last turn.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn keep_turn(state: &mut dyn StateAccess, turn: &LastTurn) -> Result<(), Reject> {
    let (number, store) = (number(state)?, Store::new("").proved());
    Opened { store: &store, number, state }.put(LAST_TURN, turn)
}

/// A timer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Timer {
    /// The clock that it goes by.
    pub clock: Clock,
    /// The time at which it is due, in milliseconds since 1970, UTC.
    pub at: i64,
    /// The key of the record that set it.
    pub key: Vec<u8>,
    /// Its name, which the algorithm gave it.
    pub name: String,
}

impl Timer {
    /// The key of the record that set it; none of a tick.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        (!is_tick(&self.name)).then_some(&self.key[..])
    }

    /// Notes that it is run: what it sets for its own time fires later.
    pub(crate) fn runs_in(&self, context: &mut Context<'_>) {
        context.timer = Some((self.clock == Clock::Wall, self.at));
    }

    /// Its name, as it is told.
    pub(crate) fn told(&self) -> &str {
        self.name.trim_start_matches('\0')
    }

    /// Its entry by time.
    pub(crate) fn by_time(&self) -> Vec<u8> {
        let mut entry = first_at(self.clock, self.at);
        put_key(&mut entry, &self.key);
        entry.extend_from_slice(self.name.as_bytes());
        entry
    }

    /// Its entry by key.
    pub(crate) fn by_key(&self) -> Vec<u8> {
        let mut entry = vec![BY_KEY];
        put_key(&mut entry, &self.key);
        entry.extend_from_slice(self.name.as_bytes());
        entry
    }

    /// The timer of an entry by time; `None` for any other.
    pub(crate) fn read(entry: &[u8]) -> Option<Self> {
        let (prefix, rest) = entry.split_first()?;
        let clock = [Clock::Event, Clock::Wall].into_iter().find(|clock| clock.prefix() == *prefix)?;
        let (time, mut rest) = rest.split_first_chunk::<8>()?;
        let mut key = Vec::new();
        loop {
            match rest {
                [0, 0, name @ ..] => {
                    let at = (u64::from_be_bytes(*time) ^ SIGN).cast_signed();
                    let name = String::from_utf8(name.to_vec()).ok()?;
                    return Some(Self { clock, at, key, name });
                }
                [0, 1, more @ ..] => (key.push(0), rest = more).1,
                [byte, more @ ..] if *byte > 0 => (key.push(*byte), rest = more).1,
                _ => return None,
            }
        }
    }
}

/// Turned over, so that times before 1970 come first.
const SIGN: u64 = 1 << 63;

impl Clock {
    const fn prefix(self) -> u8 {
        match self {
            Self::Event => BY_TIME[0],
            Self::Wall => BY_TIME[1],
        }
    }

    /// What every entry by this clock is less than.
    pub(crate) const fn behind_all(self) -> [u8; 1] {
        [self.prefix() + 1]
    }
}

/// What the first entry by time of a time is no less than.
pub(crate) fn first_at(clock: Clock, at: i64) -> Vec<u8> {
    let mut entry = vec![clock.prefix()];
    entry.extend_from_slice(&(at.cast_unsigned() ^ SIGN).to_be_bytes());
    entry
}

fn put_key(entry: &mut Vec<u8>, key: &[u8]) {
    for byte in key {
        entry.push(*byte);
        entry.extend((*byte == 0).then_some(1));
    }
    entry.extend_from_slice(&END);
}

/// A store of timers: each entry says the time.
pub(crate) fn store_of(name: &str, kind: TimerKind) -> Store<When> {
    Store::new(name).of_timers(kind)
}

impl Context<'_> {
    /// Sets a timer of the record's key: [`Algorithm::timer`](crate::flow::Algorithm::timer) is run with its name, once. A key
    /// has one timer of a name: set again, it is moved. It is set together with everything else that the record leads to, or
    /// not at all. In a unit test whose [`Context::example`] has no stores nothing is set.
    ///
    /// In [`Algorithm::timer`](crate::flow::Algorithm::timer) one that is set for the time of the timer itself, or an earlier one by
    /// the same clock, fires once that clock has gone on by a millisecond: none keeps others waiting.
    ///
    /// # Errors
    /// A dead letter, where the record has no key (`null-key`), the name has more than 128 bytes or the time lies before 1970
    /// (`bad-timer`). If the step was given no timers by `with_timers`, or none by the wall clock by `with_wall_timers`, the
    /// partition halts in front of the record, with this reason.
    pub fn set_timer(&mut self, name: &str, at: At) -> Result<(), Reject> {
        self.check_name(name)?;
        let (At::Event(ms) | At::Wall(ms)) = at;
        if ms < 0 && self.state.is_some() {
            let message = format!(
                "the timer {name:?} is set for {ms}, before 1970: let its time be one in milliseconds since 1970, UTC, such as \
                 event_time_ms() and a pause"
            );
            return Err(Reject::dead_letter("bad-timer", message));
        }
        let when = self.behind_itself(at);
        self.move_timer(name, Some(when), false)
    }

    /// The time at which a timer fires: where a timer that is run sets it for its own time or an earlier one, once the clock has
    /// gone on. Otherwise one that sets itself would fire for ever, and those of later times never.
    fn behind_itself(&self, at: At) -> When {
        match (at, self.timer) {
            (At::Event(ms), Some((false, own))) if ms <= own => {
                let clock = self.task_clock_ms().unwrap_or(own).max(own);
                When::Event(clock.saturating_add(1))
            }
            (At::Wall(ms), Some((true, own))) if ms <= own => {
                When::Wall { wall: self.now_ms().max(own).saturating_add(1) }
            }
            (at, _) => at.into(),
        }
    }

    /// Sets a timer of the step's own, whose name begins with a zero.
    pub(crate) fn set_own_timer(&mut self, name: &str, at: At) -> Result<(), Reject> {
        self.move_timer(name, Some(at.into()), true)
    }

    /// Takes a timer of the step's own back.
    pub(crate) fn cancel_own_timer(&mut self, name: &str) -> Result<(), Reject> {
        self.move_timer(name, None, true)
    }

    /// Takes a timer of the record's key back, where there is one.
    ///
    /// # Errors
    /// The same as [`Context::set_timer`].
    pub fn cancel_timer(&mut self, name: &str) -> Result<(), Reject> {
        self.check_name(name)?;
        self.move_timer(name, None, false)
    }

    /// Refuses a name that is too long, or one of a step's own.
    fn check_name(&self, name: &str) -> Result<(), Reject> {
        if self.state.is_none() || (name.len() <= NAME_BYTES && !is_own(name)) {
            return Ok(());
        }
        let length = name.len();
        let message = format!("the name of a timer has {length} bytes, and at most {NAME_BYTES}, the first one not 0");
        Err(Reject::dead_letter("bad-timer", message))
    }

    fn move_timer(&mut self, name: &str, when: Option<When>, is_own: bool) -> Result<(), Reject> {
        let Some(state) = self.state.as_deref_mut() else { return Ok(()) };
        let is_by_wall = matches!(when, Some(When::Wall { .. }));
        let number = match state.timers() {
            Some((number, kind)) if kind.is_own == is_own && (kind.goes_by_wall || !is_by_wall) => number,
            found => return Err(state.lacks(no_timer(found.map(|(_, kind)| kind)).into()).into()),
        };
        let Some(key) = self.record_key else {
            return Err(Reject::dead_letter(
                "null-key",
                format!("the timer {name:?} belongs to no key: its record has none"),
            ));
        };
        let timer = |when| {
            let (clock, at) = match when {
                When::Event(at) => (Clock::Event, at),
                When::Wall { wall } => (Clock::Wall, wall),
            };
            Timer { clock, at, key: key.to_vec(), name: name.to_owned() }
        };
        let by_key = timer(When::Event(0)).by_key();
        let store = Store::<When>::new("").proved();
        let mut opened = Opened { store: &store, number, state };
        if let Some(before) = opened.get(&by_key)? {
            opened.delete(timer(before).by_time());
        }
        let Some(when) = when else {
            opened.delete(&by_key);
            return Ok(());
        };
        let timer = timer(when);
        opened.put(&by_key, &when)?;
        opened.put(timer.by_time(), &when)?;
        opened.state.timer_was_set(timer.clock == Clock::Wall, timer.at);
        Ok(())
    }
}

/// Sees to it that a tick is set for the next whole period behind the task's clock, once it has one: a tick that is set for an
/// earlier time stays, and one of a longer period, which a release before had, is moved.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn set_tick(state: &mut dyn StateAccess, period_ms: i64) -> Result<(), Reject> {
    let clock = state.clock();
    if clock == i64::MIN {
        return Ok(());
    }
    let (number, store) = (number(state)?, Store::<When>::new("").proved());
    let mut opened = Opened { store: &store, number, state };
    let tick = |at| Timer { clock: Clock::Event, at, key: Vec::new(), name: TICK.to_owned() };
    let next = tick(clock.div_euclid(period_ms).saturating_add(1).saturating_mul(period_ms));
    match opened.get(next.by_key())? {
        Some(When::Event(at)) if at <= next.at => return Ok(()),
        Some(When::Event(at)) => opened.delete(tick(at).by_time()),
        Some(When::Wall { .. }) | None => {}
    }
    opened.put(next.by_key(), &When::Event(next.at))?;
    opened.put(next.by_time(), &When::Event(next.at))?;
    opened.state.timer_was_set(false, next.at);
    Ok(())
}

/// What the algorithm of a step is told that sets a timer which the step does not have.
const fn no_timer(kind: Option<TimerKind>) -> &'static str {
    match kind {
        None => "the algorithm sets a timer, and its step was given none: add `with_timers`",
        Some(TimerKind { is_own: true, .. }) => {
            "the algorithm sets a timer, and its step, whose windows or pairs set their own, has no others: set it in an \
             aggregate that reads what this one announces"
        }
        Some(_) => {
            "the algorithm sets a timer by the wall clock, and its step's go by event time: a step without rows may have \
             `with_wall_timers` in place of `with_timers`, an `update` step cannot"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn timer() -> impl Strategy<Value = Timer> {
        let key = proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(255), any::<u8>()], 0..5);
        let at = prop_oneof![Just(i64::MIN), Just(-1), Just(0), Just(1), any::<i64>()];
        let clock = prop_oneof![Just(Clock::Event), Just(Clock::Wall)];
        (clock, at, key, "[a-b]{0,2}").prop_map(|(clock, at, key, name)| Timer { clock, at, key, name })
    }

    proptest! {
        #[test]
        fn entries_are_read_as_they_were_written_and_are_in_the_order_of_time_key_and_name(one in timer(), next in timer()) {
            prop_assert_eq!(Timer::read(&one.by_time()), Some(one.clone()));
            prop_assert_eq!(one.by_time().cmp(&next.by_time()), one.cmp(&next));
            let is_within = first_at(one.clock, one.at) <= one.by_time() && one.by_time()[..] < one.clock.behind_all()[..];
            prop_assert!(is_within);
            prop_assert_eq!(one.by_key() == next.by_key(), (one.key, one.name) == (next.key, next.name));
        }
    }

    #[test]
    fn what_is_no_entry_by_time_is_no_timer() {
        let (clock, at, key, name) = (Clock::Event, 7, b"k\0".to_vec(), "n".to_owned());
        let timer = Timer { clock, at, key, name };
        for entry in [
            timer.by_key(),
            first_at(Clock::Event, 7),
            LAST_TURN.to_vec(),
            vec![],
            b"@12345678k\0\x02n".to_vec(),
            b"@12345678k\0\0\xff".to_vec(),
        ] {
            assert_eq!(Timer::read(&entry), None, "{entry:?}");
        }
    }
}
