//! Timers of the naive interpreter: behind each record of a stream the first one that is due fires, and so on; and in each
//! turn by the wall clock that the engine has kept.

use super::interpreter::{Interpreter, Place, Told, place_of};
use super::kept::Kept;
use super::stall::has_stalled;
use crate::flow::algorithm::Context;
use crate::flow::effect::Reject;
use crate::flow::identity::{TIMER_HEADER, WINDOW_HEADER, span_of};
use crate::flow::key::{Key, KeyType};
use crate::flow::record::{Offset, Record, Timestamp, TopicPartition};
use crate::flow::step::{LogStep, RowStep};
use crate::flow::timer::{Clock, LAST_TURN, LastTurn, Timer, is_tick, number_in_turn, set_tick};
use crate::flow::topology::StepKind;

/// Most timers, and messages of them, behind one record or in one turn.
const TURN: i32 = 1_000;

/// Bytes of messages and writes in stores, behind which none fires.
const TURN_BYTES: usize = 32 << 20;

impl Interpreter<'_> {
    /// Fires the timers that are due by event time behind a record that led to `own` messages.
    pub(super) fn fire_behind(&mut self, place: Place<'_>, offset: Offset, own: i32) {
        let now = self.stores_of(place).stream_time.unwrap_or(i64::MIN);
        if !place.sub.is_table(&place.source.topic) {
            self.fire(place, (Clock::Event, now), offset, own);
            self.set_tick(place, offset);
        }
    }

    /// Sets the next tick where none is set.
    fn set_tick(&mut self, place: Place<'_>, offset: Offset) {
        let StepKind::Log(step) = &place.sub.step else { return };
        let Some(period_ms) = step.period_ms() else { return };
        let mut stores = self.stores_of(place);
        let record = Record { offset, timestamp: Timestamp(0), key: None, value: None, headers: &[] };
        let terms = (&Key::from(""), self.latest_event_time, stores.stream_time, None);
        let set =
            |context: &mut Context<'_>| context.state.as_deref_mut().map_or(Ok(()), |state| set_tick(state, period_ms));
        if stores.run(place.source, &record, terms, set).is_ok() {
            self.stores.insert((place.number, place.source.partition.0), stores);
        }
    }

    /// A turn by the wall clock. `source`: the first input of its task.
    pub(super) fn turn(&mut self, source: &TopicPartition, turn: &LastTurn) {
        let Some(place) = place_of(self.topology, source) else { return };
        let Some(number) = place.sub.stores.iter().position(|store| store.timers.is_some()) else { return };
        let last = self.stores_of(place).kept.get(number).and_then(|kept| kept.get(LAST_TURN).cloned());
        let last: LastTurn =
            last.and_then(|last| serde_json::from_slice(last.value.get(1..)?).ok()).unwrap_or_default();
        let offset = Offset(turn.next.first().copied().unwrap_or(0));
        let messages = self.fire(place, (Clock::Wall, turn.at_ms), offset, number_in_turn(last.messages));
        let turn = LastTurn { messages: last.messages + i64::from(messages), ..turn.clone() };
        let value = [&[1][..], &serde_json::to_vec(&turn).unwrap_or_default()].concat();
        let mut stores = self.stores_of(place);
        if let Some(kept) = stores.kept.get_mut(number) {
            kept.insert(LAST_TURN.to_vec(), Kept { value, expires_at: None });
        }
        self.stores.insert((place.number, place.source.partition.0), stores);
    }

    /// Fires the timers that are due, and answers how many messages they led to.
    fn fire(&mut self, place: Place<'_>, (clock, now): (Clock, i64), offset: Offset, first: i32) -> i32 {
        let Some(number) = place.sub.stores.iter().position(|store| store.timers.is_some()) else { return 0 };
        let (mut fired, mut messages, mut bytes) = (0, 0, 0);
        while fired < TURN && messages < TURN && bytes < TURN_BYTES {
            let mut stores = self.stores_of(place);
            let kept = stores.kept.get_mut(number);
            let due = kept.and_then(|kept| {
                let mut timers =
                    kept.keys().filter_map(|entry| Timer::read(entry)).filter(|timer| timer.clock == clock);
                let timer = timers.next().filter(|timer| timer.at <= now)?;
                drop(timers);
                kept.remove(&timer.by_time());
                kept.remove(&timer.by_key());
                Some(timer)
            });
            let Some(timer) = due else { break };
            stores.written = 0;
            self.stores.insert((place.number, place.source.partition.0), stores);
            let record = Record { offset, timestamp: Timestamp(timer.at), key: timer.key(), value: None, headers: &[] };
            let result = match &place.sub.step {
                StepKind::Rows(step) => self.update(place, &**step, &record, Some(&timer)),
                StepKind::Log(step) => self.ring(place, &**step, &record, (&timer, clock, now)),
            };
            let mut about = vec![(TIMER_HEADER, timer.told().to_owned())];
            if let (Err(_), StepKind::Rows(step)) = (&result, &place.sub.step) {
                about.extend(self.window_of(place, &**step, &record, &timer).map(|span| (WINDOW_HEADER, span)));
                bytes += self.give_up(place, &**step, &record, &timer);
            }
            let before = self.out.len();
            match result {
                Ok(told) => {
                    bytes += self.stores_of(place).written;
                    self.announce(place, &record, first + messages, told);
                }
                Err(Reject::Skip { .. }) => {}
                Err(reject) => {
                    self.dead_letter(place, &record, (first + messages, about), &reject);
                }
            }
            fired += 1;
            let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
            bytes += self.out.iter().skip(before).map(|told| length(&told.key) + length(&told.value)).sum::<usize>();
            messages += i32::try_from(self.out.len() - before).unwrap_or(i32::MAX);
        }
        messages
    }

    /// The span of the window that a timer was set for, before what it was set for is dropped.
    fn window_of(
        &mut self,
        place: Place<'_>,
        step: &dyn RowStep,
        record: &Record<'_>,
        timer: &Timer,
    ) -> Option<String> {
        let key = step.table().table.key_type.parse(record.key).ok()?;
        let terms = (&key, self.latest_event_time, None, None);
        let look = |context: &mut Context<'_>| Ok(step.window(timer, context));
        let found = self.stores_of(place).run(place.source, record, terms, look);
        found.ok().flatten().map(|(start_ms, end_ms)| span_of(start_ms, end_ms))
    }

    /// Drops what a timer was set for that has failed, and answers the bytes that were written.
    fn give_up(&mut self, place: Place<'_>, step: &dyn RowStep, record: &Record<'_>, timer: &Timer) -> usize {
        let Ok(key) = step.table().table.key_type.parse(record.key) else { return 0 };
        let mut stores = self.stores_of(place);
        stores.written = 0;
        let terms = (&key, self.latest_event_time, None, None);
        if stores.run(place.source, record, terms, |context| step.give_up(timer, context)).is_err() {
            return 0;
        }
        let written = stores.written;
        self.stores.insert((place.number, place.source.partition.0), stores);
        written
    }

    /// Runs a step without rows over a timer.
    fn ring(
        &mut self,
        place: Place<'_>,
        step: &dyn LogStep,
        record: &Record<'_>,
        (timer, clock, now): (&Timer, Clock, i64),
    ) -> Result<(Vec<Told>, Option<i64>), Reject> {
        let any = || KeyType::Text.parse(record.key).unwrap_or_else(|_| Key::from(""));
        let key_type = step.key_type().filter(|_| !is_tick(&timer.name));
        let seen = key_type.map_or_else(|| Ok(any()), |key_type| key_type.parse(record.key))?;
        let mut stores = self.stores_of(place);
        let is_by_wall = clock == Clock::Wall;
        let written_at = stores.stream_time.filter(|_| is_by_wall);
        let terms = (&seen, self.latest_event_time, written_at, is_by_wall.then_some(now));
        let stepped = stores.run(place.source, record, terms, |context| step.timer(timer, context));
        has_stalled(); // which makes no difference here
        let stepped = stepped?;
        let told = self.told(record, stepped)?;
        self.stores.insert((place.number, place.source.partition.0), stores);
        Ok((told, None))
    }
}
