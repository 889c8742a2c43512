//! Timers of the naive interpreter: behind each record of a stream the first one that is due fires, and so on.

use super::interpreter::{Interpreter, Place};
use crate::flow::effect::Reject;
use crate::flow::key::{Key, KeyType};
use crate::flow::record::{Offset, Record, Timestamp};
use crate::flow::timer::Timer;
use crate::flow::topology::StepKind;

/// Most timers, and messages of them, behind one record.
const TURN: i32 = 1_000;

impl Interpreter<'_> {
    /// Fires the timers that are due behind a record that led to `own` messages.
    pub(super) fn fire(&mut self, place: Place<'_>, offset: Offset, own: i32) {
        let (Some(number), StepKind::Log(step)) =
            (place.sub.stores.iter().position(|store| store.has_timers), &place.sub.step)
        else {
            return;
        };
        let (mut fired, mut seq) = (0, own);
        while !place.sub.is_table(&place.source.topic) && fired < TURN && seq < own + TURN {
            let mut stores = self.stores_of(place);
            let clock = stores.stream_time.unwrap_or(i64::MIN);
            let kept = stores.kept.get_mut(number);
            let first = kept.and_then(|kept| {
                let timer = kept.keys().find_map(|entry| Timer::read(entry)).filter(|timer| timer.at <= clock)?;
                kept.remove(&timer.by_time());
                kept.remove(&timer.by_key());
                Some(timer)
            });
            let Some(timer) = first else { return };
            self.stores.insert((place.number, place.source.partition.0), stores.clone());
            let Timer { at, key, name } = timer;
            let record = Record { offset, timestamp: Timestamp(at), key: Some(&key), value: None, headers: &[] };
            let any = || KeyType::Text.parse(record.key).unwrap_or_else(|_| Key::from(""));
            let seen = step.key_type().map_or_else(|| Ok(any()), |key_type| key_type.parse(record.key));
            let result = seen.and_then(|seen| {
                stores.run(place.source, &record, (&seen, self.latest_event_time), |context| {
                    step.timer(&key, &name, context)
                })
            });
            let result = result.and_then(|stepped| self.fits(&record, &stepped.emissions).map(|()| stepped));
            let before = self.out.len();
            match result {
                Ok(stepped) => {
                    self.stores.insert((place.number, place.source.partition.0), stores);
                    self.announce(place, &record, seq, (stepped.emissions, None));
                }
                Err(Reject::Skip { .. }) => {}
                Err(reject) => self.dead_letter(place, &record, (seq, Some(name)), &reject),
            }
            fired += 1;
            seq += i32::try_from(self.out.len() - before).unwrap_or(i32::MAX);
        }
    }
}
