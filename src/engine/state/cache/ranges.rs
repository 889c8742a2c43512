//! Ranges of keys: the store's contents under those of the cache, the newest and the proved.

use crate::engine::state::cache::value::{Value, open_envelope};
use crate::engine::state::cache::{CLOCK, WriteBack};
use crate::flow::record::Timestamp;
use crate::ports::Fault;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Sees keys with their values, `None` where there is none; answers whether to go on.
type Show<'a> = dyn FnMut(&[u8], Option<&[u8]>) -> bool + 'a;

impl WriteBack {
    /// Shows keys with `from <= key < to` and their newest values at `now`, in key order until `visit` answers false.
    pub(crate) fn scan(
        &mut self,
        from: &[u8],
        to: Option<&[u8]>,
        now: Timestamp,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Fault> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        self.index();
        let cache = &*self;
        let newest = cache.unflushed_within(from, to).map(|(key, _, value)| (key, value));
        cache.merge(newest, from, to, now, &mut |key, value| value.is_none_or(|value| visit(key, value)))
    }

    /// Entries written after `flushed`, in key order: key, number and newest value.
    fn unflushed_within<'a>(
        &'a self,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> impl Iterator<Item = (&'a [u8], usize, &'a Value)> {
        let range = (Bound::Included(from), to.map_or(Bound::Unbounded, Bound::Excluded));
        let within = self.unflushed.as_ref().map(|index| index.range::<[u8], _>(range));
        within
            .into_iter()
            .flatten()
            .filter_map(|(key, number)| Some((&**key, *number, &self.entries.get(*number)?.value)))
    }

    /// Makes the index of the entries written after `flushed`, unless there is one: each was touched by a batch that is
    /// not proved, or lies in an entry whose number only the entries know.
    fn index(&mut self) {
        self.is_ranged = true;
        if self.unflushed.is_some() {
            return;
        }
        let entries = &self.entries;
        let written = entries.iter().filter(|(_, entry)| entry.batch > self.flushed);
        let index = written.filter_map(|(number, _)| Some((entries.key(number)?.into(), number)));
        self.unflushed = Some(index.collect());
    }

    /// The store's contents under those of `over`, which must be in key order and within the range, like the result;
    /// `None` for a key whose value is deleted or has expired.
    fn merge<'a>(
        &self,
        over: impl Iterator<Item = (&'a [u8], &'a Value)>,
        from: &[u8],
        to: Option<&[u8]>,
        now: Timestamp,
        visit: &mut Show<'_>,
    ) -> Result<(), Fault> {
        let mut goes_on = true;
        let mut show = |key: &[u8], value: Option<&[u8]>| {
            goes_on = goes_on && visit(key, value.filter(|_| key != CLOCK));
            goes_on
        };
        let mut ahead = over.peekable();
        self.store.scan(from, to, &mut |key, bytes| {
            while let Some((above, value)) = ahead.next_if(|(above, _)| *above < key) {
                if !show(above, value.at(now)) {
                    return false;
                }
            }
            match ahead.next_if(|(above, _)| *above == key) {
                Some((_, value)) if *value != Value::Unread => show(key, value.at(now)),
                _ => show(key, open_envelope(bytes, now)),
            }
        })?;
        for (above, value) in ahead {
            if !show(above, value.at(now)) {
                break;
            }
        }
        Ok(())
    }

    /// Shows the proved value of `key`, which a crash at this moment would leave.
    pub(crate) fn proved(&self, key: &[u8], now: Timestamp, visit: &mut dyn FnMut(Option<&[u8]>)) -> Result<(), Fault> {
        let number = self.entries.find(key);
        let unproved = self.in_flight.iter().flatten().chain(&self.open);
        let before = unproved.into_iter().find(|touched| Some(touched.number) == number).map(|touched| &touched.value);
        let value = before.or_else(|| self.entries.get(number?).map(|entry| &entry.value));
        match value {
            Some(value) if *value != Value::Unread => visit(value.at(now)),
            _ => self.store.get(key, &mut |found| visit(found.and_then(|bytes| open_envelope(bytes, now))))?,
        }
        Ok(())
    }

    /// Shows proved values as [`WriteBack::scan`] shows the newest, but looks at no more than `keys_max` keys, expired
    /// ones included. Answers the key to go on from: the one that `visit` did not accept, or the first one not looked
    /// at; `None` at the end.
    pub(crate) fn page_proved(
        &mut self,
        from: &[u8],
        to: Option<&[u8]>,
        now: Timestamp,
        keys_max: usize,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<Option<Vec<u8>>, Fault> {
        if to.is_some_and(|to| to <= from) {
            return Ok(None);
        }
        self.index();
        let cache = &*self;
        let before = cache.before();
        let proved = cache.unflushed_within(from, to).filter_map(|(key, number, newest)| {
            Some((key, before.get(&number).map_or(Some(newest), |before| *before)?))
        });
        let (mut seen, mut next) = (0, None);
        cache.merge(proved, from, to, now, &mut |key, value| {
            let goes_on = seen < keys_max && value.is_none_or(|value| visit(key, value));
            seen += 1;
            if !goes_on {
                next = Some(key.to_vec());
            }
            goes_on
        })?;
        Ok(next)
    }

    /// The number of proved values that the store lacks.
    pub(crate) fn unwritten_count(&self) -> usize {
        let written = || self.entries.iter().filter(|(_, entry)| entry.batch > self.flushed).count();
        let written = self.unflushed.as_ref().map_or_else(written, BTreeMap::len);
        written - self.before().values().filter(|before| before.is_none()).count()
    }

    /// The proved values of entries that unproved batches have written; `None` where the store has it.
    fn before(&self) -> HashMap<usize, Option<&Value>> {
        let unproved = self.in_flight.iter().chain([&self.open]);
        // The value before the first of them decides, so it comes last.
        let touched = unproved.rev().flatten();
        touched.map(|touched| (touched.number, (touched.batch > self.flushed).then_some(&touched.value))).collect()
    }
}
