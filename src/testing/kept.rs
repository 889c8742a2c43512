//! The stores of a task in the naive interpreter: maps.

use super::death::is_death;
use crate::flow::algorithm::Context;
use crate::flow::effect::Reject;
use crate::flow::key::Key;
use crate::flow::record::{Partition, Record, Timestamp, TopicPartition};
use crate::flow::store::{StateAccess, StoreSpec, TimerKind, Unavailable};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A value of a store, `[version][JSON]`, and the event time at which it can be read no more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Kept {
    pub(super) value: Vec<u8>,
    pub(super) expires_at: Option<i64>,
}

/// The stores of one task.
#[derive(Clone, Debug, Default)]
pub(super) struct Stores {
    pub(super) specs: Vec<StoreSpec>,
    pub(super) kept: Vec<BTreeMap<Vec<u8>, Kept>>,
    pub(super) stream_time: Option<i64>,
    /// Values put from now on never expire.
    pub(super) is_everlasting: bool,
    /// A clock is kept nevertheless, from before.
    pub(super) is_clocked: bool,
    /// Bytes of the writes, as changelog records.
    pub(super) written: usize,
}

/// Bytes of a changelog record beside its key and value.
const FRAME: usize = 137;

impl Stores {
    /// Runs a step over the stores: its writes stay only if it succeeds.
    pub(super) fn run<T>(
        &mut self,
        source: &TopicPartition,
        record: &Record<'_>,
        (key, latest, written_at, now_ms): (&Key, i64, Option<i64>, Option<i64>),
        step: impl FnOnce(&mut Context<'_>) -> Result<T, Reject>,
    ) -> Result<T, Reject> {
        let at = written_at.unwrap_or(record.timestamp.0);
        let mut access = Access { stores: self, at };
        let (topic, partition) = (&source.topic, Partition(source.partition.0));
        let (offset, timestamp, state) = (record.offset, record.timestamp, Some(&mut access as &mut dyn StateAccess));
        let (now, latest) = (now_ms.map_or(timestamp, Timestamp), Timestamp(latest));
        let (headers, record_key, timer) = (record.headers, record.key, None);
        let mut context =
            Context { topic, partition, offset, timestamp, headers, now, latest, key, record_key, state, timer };
        catch_unwind(AssertUnwindSafe(|| step(&mut context))).unwrap_or_else(|panic| {
            let code = if is_death(&*panic) { "kills-the-process" } else { "panic" };
            Err(Reject::dead_letter(code, ""))
        })
    }

    /// Whether a value can still be read.
    pub(super) fn is_live(&self, kept: &Kept) -> bool {
        kept.expires_at.is_none_or(|at| at > self.stream_time.unwrap_or(i64::MIN))
    }
}

/// The stores during one record.
struct Access<'a> {
    stores: &'a mut Stores,
    at: i64,
}

impl StateAccess for Access<'_> {
    fn find(&self, name: &str) -> Option<usize> {
        self.stores.specs.iter().position(|spec| *spec.name == *name)
    }

    fn get(&mut self, store: usize, key: &[u8], visit: &mut dyn FnMut(Option<&[u8]>)) -> Result<(), Unavailable> {
        let found = self.stores.kept.get(store).and_then(|kept| kept.get(key));
        visit(found.filter(|kept| self.stores.is_live(kept)).map(|kept| &kept.value[..]));
        Ok(())
    }

    fn put(&mut self, store: usize, key: &[u8], value: Option<&[u8]>) {
        let spec = self.stores.specs.get(store).filter(|_| !self.stores.is_everlasting);
        let lifetime = spec.and_then(|spec| spec.time_to_live);
        self.stores.written += key.len() + value.map_or(0, <[u8]>::len) + FRAME;
        let Some(kept) = self.stores.kept.get_mut(store) else { return };
        let Some(value) = value else { return drop(kept.remove(key)) };
        let after = |ms: u128| self.at.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX));
        let before = kept.get(key).and_then(|kept| kept.expires_at);
        // A late record never ends a value sooner.
        let expires_at = lifetime.map(|time| after(time.as_millis())).map(|at| at.max(before.unwrap_or(at)));
        kept.insert(key.to_vec(), Kept { value: value.to_vec(), expires_at });
    }

    fn scan(
        &mut self,
        store: usize,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Unavailable> {
        let Some(all) = self.stores.kept.get(store) else { return Ok(()) };
        let found = all.iter().filter(|(key, _)| &key[..] >= from && to.is_none_or(|to| &key[..] < to));
        found.filter(|(_, kept)| self.stores.is_live(kept)).all(|(key, kept)| visit(key, &kept.value));
        Ok(())
    }

    fn corrupt(&mut self, _: String) -> Unavailable {
        Unavailable
    }

    fn lacks(&mut self, _: String) -> Unavailable {
        Unavailable
    }

    fn clock(&self) -> i64 {
        self.stores.stream_time.unwrap_or(i64::MIN)
    }

    fn timers(&self) -> Option<(usize, TimerKind)> {
        self.stores.specs.iter().enumerate().find_map(|(number, spec)| Some((number, spec.timers?)))
    }
}
