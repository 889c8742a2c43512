//! The write-back cache in front of one partition of one store.
//!
//! ```text
//!  record ──accept──→ open batch ──seal──→ in flight ──prove──→ proved ──flush──→ KeyedStore + checkpoint
//!     └─reject: undone  └─undo             └ its changelog records are in a transaction
//! ```
//! An entry holds the newest value. Each batch remembers, for every key it touched, the value before: a rejected record
//! goes back to it, and a query or a flush sees it while a later value is not proved. Only proved values reach the
//! store, so a store never holds a value that its changelog lacks. The changelog gets one record a key and batch,
//! however often the key was written: the largest saving of the cache.

mod value;

mod entry;

mod flush;
mod ranges;
mod search;
mod sweep;

use crate::engine::state::cache::entry::{ENTRY_BYTES, Entry, Touched, Undo};
use crate::engine::state::cache::value::{PLAIN, Value, after, expiring, expiry};
use crate::engine::state::slots::Slots;
use crate::flow::record::Timestamp;
use crate::flow::store::StoreSpec;
use crate::ports::Fault;
use crate::ports::store::{Checkpoint, KeyedStore, StoreSize, Write};
use std::collections::{BTreeMap, VecDeque};

/// The key under which a store keeps its task's clock, as `[PLAIN][1][ms since 1970, JSON]`: no record may use it.
pub(crate) const CLOCK: &[u8] = b"\0tidegate\0clock";

/// One partition of one store, with its cache.
pub(crate) struct WriteBack {
    store: Box<dyn KeyedStore>,
    spec: StoreSpec,
    entries: Slots<Entry>,
    record: Vec<Undo>,
    open: Vec<Touched>,
    in_flight: VecDeque<Vec<Touched>>,
    /// The number of the open batch; each batch has another.
    batch: u64,
    /// The store has the writes of this batch and those before it, and none of later ones.
    flushed: u64,
    /// Whether a batch is proved that wrote a value the store lacks.
    is_dirty: bool,
    bytes: usize,
    /// The bytes left by the last sweep.
    swept: usize,
    /// The entries that were written after `flushed`, in key order; `None` while nobody asks for ranges.
    unflushed: Option<BTreeMap<Box<[u8]>, usize>>,
    /// Whether a range was asked for since the last flush.
    is_ranged: bool,
}

impl WriteBack {
    pub(crate) fn new(store: Box<dyn KeyedStore>, spec: StoreSpec) -> Self {
        Self {
            store,
            spec,
            entries: Slots::default(),
            record: Vec::new(),
            open: Vec::new(),
            in_flight: VecDeque::new(),
            batch: 1,
            flushed: 0,
            is_dirty: false,
            bytes: 0,
            swept: 0,
            unflushed: None,
            is_ranged: false,
        }
    }

    pub(crate) const fn spec(&self) -> &StoreSpec {
        &self.spec
    }

    /// Whether a value is proved that the store lacks.
    pub(crate) const fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// Whether the open batch has written something.
    pub(crate) const fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// The memory of the cache in bytes, roughly.
    #[cfg(test)]
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn checkpoint(&self) -> Result<Option<Checkpoint>, Fault> {
        self.store.checkpoint()
    }

    /// The size of the store; the clock is none of its keys.
    pub(crate) fn size(&self) -> Result<StoreSize, Fault> {
        let StoreSize { keys, bytes } = self.store.size()?;
        Ok(StoreSize { keys: keys.saturating_sub(u64::from(self.clock()?.is_some())), bytes })
    }

    // === Reading ===

    /// Shows the newest value of `key` at `now`, without its envelope.
    pub(crate) fn get(
        &mut self,
        key: &[u8],
        now: Timestamp,
        visit: &mut dyn FnMut(Option<&[u8]>),
    ) -> Result<(), Fault> {
        let number = self.entry_of(key)?;
        if let Some(entry) = self.entries.get_mut(number) {
            entry.is_used = true;
            visit(entry.value.at(now));
        }
        Ok(())
    }

    /// The number of the entry of `key`, which is read from the store where it is not cached.
    fn entry_of(&mut self, key: &[u8]) -> Result<usize, Fault> {
        let number = self.entries.seek(key);
        if let Some(number) = number
            && self.entries.get(number).is_some_and(|entry| entry.value != Value::Unread)
        {
            return Ok(number);
        }
        let mut value = Value::Absent;
        self.store.get(key, &mut |found| {
            if let Some(bytes) = found {
                value = Value::Present(bytes.to_vec());
            }
        })?;
        self.bytes += value.bytes();
        if let Some(number) = number
            && let Some(entry) = self.entries.get_mut(number)
        {
            entry.value = value;
            return Ok(number);
        }
        Ok(self.add(key, value))
    }

    /// A new entry.
    fn add(&mut self, key: &[u8], value: Value) -> usize {
        self.bytes += ENTRY_BYTES + key.len();
        self.entries.insert(key, Entry { value, batch: 0, is_used: true })
    }

    // === Writing ===

    /// Sets or deletes `key` for the record under decision, whose event time is `at`; the clock stands at `now`. A
    /// value with a time to live expires no sooner than the value before it would have: a late record adds to it, and
    /// must not end it. A value from before there was a time to live would have had a whole one from now on, see
    /// [`WriteBack::expire`].
    ///
    /// # Errors
    /// The value before cannot be read, which only a store with a time to live asks for.
    pub(crate) fn put(&mut self, key: &[u8], value: Option<&[u8]>, at: Timestamp, now: Timestamp) -> Result<(), Fault> {
        let value = match (value, self.spec.time_to_live) {
            (None, _) => Value::Absent,
            (Some(value), None) => Value::Present([&[PLAIN], value].concat()),
            (Some(value), Some(time)) => {
                let number = self.entry_of(key)?;
                let before = self.entries.get(number).and_then(|entry| match entry.value.kept()? {
                    [PLAIN, ..] => Some(after(now, time)),
                    kept => expiry(kept),
                });
                let expires_at = before.max(Some(after(at, time)));
                Value::Present(expiring(value, expires_at.unwrap_or_default()))
            }
        };
        self.set(key, value);
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: Value) {
        self.bytes += value.bytes();
        let number = self.entries.seek(key).unwrap_or_else(|| self.add(key, Value::Unread));
        let Some(entry) = self.entries.get_mut(number) else { return };
        entry.is_used = true;
        let before = std::mem::replace(&mut entry.value, value);
        if let Some(index) = self.unflushed.as_mut().filter(|_| entry.batch <= self.flushed) {
            index.insert(key.into(), number);
        }
        if entry.batch == self.batch {
            self.bytes = self.bytes.saturating_sub(before.bytes());
            self.record.push(Undo::Again(number, before));
        } else {
            self.open.push(Touched { number, value: before, batch: entry.batch });
            entry.batch = self.batch;
            self.record.push(Undo::First);
        }
    }

    /// Keeps the task's clock with the open batch.
    pub(crate) fn set_clock(&mut self, at: Timestamp) {
        self.set(CLOCK, Value::Present([&[PLAIN, 1], at.0.to_string().as_bytes()].concat()));
        self.accept();
    }

    /// The task's clock as the store keeps it; `None` where it keeps none.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn clock(&self) -> Result<Option<Timestamp>, Fault> {
        let mut found = Ok(None);
        self.store.get(CLOCK, &mut |bytes| {
            let clock = |bytes: &[u8]| std::str::from_utf8(bytes.get(2..)?).ok()?.parse().ok().map(Timestamp);
            found = bytes.map(|bytes| clock(bytes).ok_or(())).transpose();
        })?;
        found.map_err(|()| Fault::corrupt(format!("store {}: its clock is no number", self.spec.name)))
    }

    /// Accepts the record: its writes belong to the open batch.
    pub(crate) fn accept(&mut self) {
        self.record.clear();
    }

    /// Rejects the record: its writes are undone.
    pub(crate) fn reject(&mut self) {
        while let Some(undo) = self.record.pop() {
            match undo {
                Undo::First => self.undo_last(),
                Undo::Again(number, value) => {
                    if let Some(entry) = self.entries.get_mut(number) {
                        self.bytes = (self.bytes + value.bytes()).saturating_sub(entry.value.bytes());
                        entry.value = value;
                    }
                }
            }
        }
    }

    /// Undoes everything that the open batch wrote.
    pub(crate) fn undo(&mut self) {
        self.reject();
        while !self.open.is_empty() {
            self.undo_last();
        }
    }

    fn undo_last(&mut self) {
        let Some(Touched { number, value, batch }) = self.open.pop() else { return };
        if let (Some(index), Some(key)) = (&mut self.unflushed, self.entries.key(number))
            && batch <= self.flushed
        {
            index.remove(key);
        }
        if let Some(entry) = self.entries.get_mut(number) {
            self.bytes = self.bytes.saturating_sub(entry.value.bytes());
            (entry.value, entry.batch) = (value, batch);
        }
    }

    /// The changelog records of the open batch: each key it touched with its kept value, in the order of first touch.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Write<'_>> {
        self.open.iter().filter_map(|touched| {
            let entry = self.entries.get(touched.number)?;
            Some((self.entries.key(touched.number)?, entry.value.kept()))
        })
    }

    /// The number of keys that the open batch has added.
    pub(crate) fn added(&self) -> usize {
        self.open.iter().filter(|touched| touched.value.kept().is_none()).count()
    }

    /// Seals the open batch, which goes into a transaction; a new one begins.
    pub(crate) fn seal(&mut self) {
        self.in_flight.push_back(std::mem::take(&mut self.open));
        self.batch += 1;
    }

    /// Notes that the oldest batch in flight is committed.
    pub(crate) fn prove(&mut self) {
        let Some(batch) = self.in_flight.pop_front() else { return };
        self.is_dirty |= !batch.is_empty();
        let bytes: usize = batch.iter().map(|touched| touched.value.bytes()).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    // === Restoring ===

    /// Writes changelog records straight into the store: nothing is cached yet.
    pub(crate) fn load(&mut self, writes: &[Write<'_>], checkpoint: &Checkpoint) -> Result<(), Fault> {
        self.store.write(writes, checkpoint)
    }

    /// Empties the store and the cache.
    pub(crate) fn clear(&mut self) -> Result<(), Fault> {
        self.entries.clear();
        self.open.clear();
        self.in_flight.clear();
        (self.bytes, self.swept, self.is_dirty, self.unflushed) = (0, 0, false, None);
        self.store.clear()
    }
}

#[cfg(test)]
mod tests {
    use super::flush::{WRITE_BYTES, cut};
    use super::*;
    use crate::flow::record::NextOffset;
    use crate::ports::source::LogIds;
    use proptest::prelude::*;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    /// A store that is a map.
    #[derive(Default, Clone)]
    struct Map(Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>, Arc<Mutex<Vec<(usize, Checkpoint)>>>);

    impl KeyedStore for Map {
        fn get(&self, key: &[u8], visit: &mut dyn FnMut(Option<&[u8]>)) -> Result<(), Fault> {
            visit(self.0.lock().unwrap().get(key).map(Vec::as_slice));
            Ok(())
        }

        fn scan(
            &self,
            from: &[u8],
            to: Option<&[u8]>,
            visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
        ) -> Result<(), Fault> {
            for (key, value) in &*self.0.lock().unwrap() {
                if key.as_slice() >= from && to.is_none_or(|to| key.as_slice() < to) && !visit(key, value) {
                    break;
                }
            }
            Ok(())
        }

        fn checkpoint(&self) -> Result<Option<Checkpoint>, Fault> {
            Ok(self.1.lock().unwrap().last().map(|(_, checkpoint)| checkpoint.clone()))
        }

        fn write(&mut self, writes: &[Write<'_>], checkpoint: &Checkpoint) -> Result<(), Fault> {
            self.1.lock().unwrap().push((writes.len(), checkpoint.clone()));
            assert!(writes.is_sorted_by(|(one, _), (next, _)| one < next), "ascending, each key once");
            let mut map = self.0.lock().unwrap();
            for (key, value) in writes {
                match value {
                    Some(value) => map.insert(key.to_vec(), value.to_vec()),
                    None => map.remove(*key),
                };
            }
            Ok(())
        }

        fn clear(&mut self) -> Result<(), Fault> {
            self.0.lock().unwrap().clear();
            Ok(())
        }

        fn size(&self) -> Result<StoreSize, Fault> {
            Ok(StoreSize::default())
        }
    }

    fn checkpoint() -> Checkpoint {
        let log_ids = LogIds::default();
        Checkpoint { next_offset: NextOffset(0), log_ids, at: Timestamp(0), inputs: Vec::new() }
    }

    type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

    fn all(cache: &mut WriteBack, is_proved: bool) -> Contents {
        let mut found = Contents::new();
        let mut visit = |key: &[u8], value: &[u8]| {
            assert!(found.insert(key.to_vec(), value.to_vec()).is_none(), "a key is shown once");
            true
        };
        if is_proved {
            let mut from = Some(Vec::new());
            while let Some(first) = from {
                from = cache.page_proved(&first, None, Timestamp(0), 2, &mut visit).unwrap(); // several pages
            }
        } else {
            cache.scan(b"", None, Timestamp(0), &mut visit).unwrap();
        }
        found
    }

    #[derive(Clone, Debug)]
    enum Operation {
        Put(u8, Option<u8>),
        Get(u8),
        Accept,
        Reject,
        Undo,
        Seal,
        Prove,
        Flush,
        Sweep,
        Scan(u8, u8),
    }

    fn operations() -> impl Strategy<Value = Vec<Operation>> {
        let operation = prop_oneof![
            6 => (0..6_u8, proptest::option::of(any::<u8>())).prop_map(|(key, value)| Operation::Put(key, value)),
            3 => (0..6_u8).prop_map(Operation::Get),
            3 => Just(Operation::Accept),
            1 => Just(Operation::Reject),
            1 => Just(Operation::Undo),
            2 => Just(Operation::Seal),
            2 => Just(Operation::Prove),
            1 => Just(Operation::Flush),
            1 => Just(Operation::Sweep),
            2 => (0..8_u8, 0..8_u8).prop_map(|(from, to)| Operation::Scan(from, to)),
        ];
        proptest::collection::vec(operation, 0..120)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        /// Against maps: the newest values, the proved ones, and the store after a flush.
        #[test]
        fn the_newest_the_proved_and_the_written_values_are_those_of_a_naive_model(operations in operations(), has_index: bool) {
            let map = Map::default();
            let spec = StoreSpec { name: "s".into(), version: 1, time_to_live: None, timers: None };
            let mut cache = WriteBack::new(Box::new(map.clone()), spec);
            let (mut newest, mut accepted, mut proved) = (Contents::new(), Contents::new(), Contents::new());
            let mut sealed: VecDeque<Contents> = VecDeque::new();
            let mut last = Contents::new(); // as of the last batch
            for operation in operations {
                match operation {
                    Operation::Put(key, value) => {
                        cache.put(&[key], value.as_ref().map(std::slice::from_ref), Timestamp(0), Timestamp(0)).unwrap();
                        match value {
                            Some(value) => newest.insert(vec![key], vec![value]),
                            None => newest.remove(&vec![key]),
                        };
                    }
                    Operation::Get(key) => {
                        let mut found = None;
                        cache.get(&[key], Timestamp(0), &mut |value| found = value.map(<[u8]>::to_vec)).unwrap();
                        prop_assert_eq!(found.as_ref(), newest.get(&vec![key]));
                    }
                    Operation::Accept => {
                        cache.accept();
                        accepted = newest.clone();
                    }
                    Operation::Reject => {
                        cache.reject();
                        newest = accepted.clone();
                    }
                    Operation::Undo => {
                        cache.undo();
                        (newest, accepted) = (last.clone(), last.clone());
                    }
                    Operation::Seal => {
                        cache.accept();
                        cache.seal();
                        accepted = newest.clone();
                        last = newest.clone();
                        sealed.push_back(newest.clone());
                    }
                    Operation::Prove => {
                        cache.prove();
                        proved = sealed.pop_front().unwrap_or(proved);
                    }
                    Operation::Flush => {
                        cache.flush(&checkpoint()).unwrap();
                        let kept: Contents =
                            map.0.lock().unwrap().iter().map(|(k, v)| (k.clone(), v[1..].to_vec())).collect();
                        prop_assert_eq!(&kept, &proved, "a store holds what is proved, and all of it");
                    }
                    Operation::Sweep => cache.sweep(0),
                    Operation::Scan(from, to) => {
                        let mut found = Contents::new();
                        let mut visit = |key: &[u8], value: &[u8]| found.insert(key.to_vec(), value.to_vec()).is_none();
                        cache.scan(&[from], Some(&[to]), Timestamp(0), &mut visit).unwrap();
                        let is_within = |key: &&Vec<u8>| key[0] >= from && key[0] < to;
                        let due: Contents = newest.keys().filter(is_within).map(|k| (k.clone(), newest[k].clone())).collect();
                        prop_assert_eq!(found, due);
                        let unflushed = cache.entries.iter().filter(|(_, entry)| entry.batch > cache.flushed).count();
                        prop_assert!(from >= to || cache.unflushed.as_ref().map(BTreeMap::len) == Some(unflushed));
                    }
                }
                if has_index {
                    prop_assert_eq!(all(&mut cache, false), newest.clone());
                }
                prop_assert_eq!(all(&mut cache, true), proved.clone());
                for key in 0..6 {
                    let mut found = None;
                    cache.proved(&[key], Timestamp(0), &mut |value| found = value.map(<[u8]>::to_vec)).unwrap();
                    prop_assert_eq!(found.as_ref(), proved.get(&vec![key]));
                }
            }
        }
    }

    #[test]
    fn a_swept_cache_gives_its_memory_back_and_forgets_nothing_that_the_store_lacks() {
        let spec = StoreSpec { name: "s".into(), version: 1, time_to_live: None, timers: None };
        let mut cache = WriteBack::new(Box::new(Map::default()), spec);
        for n in 0..1_000_u32 {
            cache.put(&n.to_be_bytes(), Some(&[7; 100]), Timestamp(0), Timestamp(0)).unwrap();
        }
        cache.accept();
        assert!(cache.bytes() > 200_000, "{}", cache.bytes());
        cache.seal();
        cache.sweep(0);
        assert_eq!(all(&mut cache, false).len(), 1_000, "in flight");
        cache.prove();
        cache.sweep(0);
        assert_eq!(all(&mut cache, true).len(), 1_000, "proved, not written");
        cache.flush(&checkpoint()).unwrap();
        cache.sweep(0);
        assert_eq!((cache.bytes(), all(&mut cache, true).len()), (0, 1_000));
    }

    #[test]
    fn a_burst_leaves_no_places_behind_and_what_is_in_flight_keeps_its_own() {
        let spec = StoreSpec { name: "s".into(), version: 1, time_to_live: None, timers: None };
        let mut cache = WriteBack::new(Box::new(Map::default()), spec);
        for n in 0..10_000_u32 {
            cache.get(&n.to_be_bytes(), Timestamp(0), &mut |_| ()).unwrap();
            if n % 2_500 == 2_499 {
                cache.put(&n.to_be_bytes(), Some(&[7]), Timestamp(0), Timestamp(0)).unwrap();
                cache.accept();
                cache.seal();
            }
        }
        assert_eq!(all(&mut cache, false).len(), 4);
        assert!(cache.is_over(100_000) && !cache.is_over(10_000_000));
        cache.sweep(100_000);
        assert!(!cache.is_over(100_000) && cache.bytes() < 1_000);
        assert_eq!(cache.entries.iter().count(), 4);
        assert_eq!(cache.entries.shrink(Entry::empty), None, "it has given all back");
        cache.put(b"undone", Some(&[8]), Timestamp(0), Timestamp(0)).unwrap();
        cache.undo();
        for _ in 0..4 {
            cache.prove();
        }
        assert_eq!(all(&mut cache, true), all(&mut cache, false));
        cache.flush(&checkpoint()).unwrap();
        assert_eq!((all(&mut cache, true).len(), cache.unflushed.as_ref().unwrap().len()), (4, 0));
    }

    #[test]
    fn a_flush_is_written_in_bounded_pieces_of_which_the_last_alone_moves_the_checkpoint() {
        let map = Map::default();
        let spec = StoreSpec { name: "s".into(), version: 1, time_to_live: None, timers: None };
        let mut cache = WriteBack::new(Box::new(map.clone()), spec);
        let large = vec![7; WRITE_BYTES / 3];
        for round in 1..3_i64 {
            for n in 0..10_u8 {
                cache.put(&[n], Some(&large), Timestamp(0), Timestamp(0)).unwrap();
            }
            cache.accept();
            cache.seal();
            cache.prove();
            cache.flush(&Checkpoint { next_offset: NextOffset(round), ..checkpoint() }).unwrap();
        }
        let written: Vec<(usize, i64)> =
            map.1.lock().unwrap().iter().map(|(count, checkpoint)| (*count, checkpoint.next_offset.0)).collect();
        assert_eq!(written, [(3, 0), (3, 0), (3, 0), (1, 1), (3, 1), (3, 1), (3, 1), (1, 2)]);
    }

    /// The model of a value that expires: the value, and the time of its end.
    type Mortal = BTreeMap<u8, (u8, i64)>;

    /// The values that can be read at `now`.
    fn living(all: &Mortal, now: i64) -> Contents {
        let living = all.iter().filter(|(_, (_, expires_at))| *expires_at > now);
        living.map(|(key, (value, _))| (vec![*key], vec![*value])).collect()
    }

    #[derive(Clone, Debug)]
    enum Timed {
        /// Key, value, and how late the record is.
        Put(u8, Option<u8>, i64),
        Pass(i64),
        Get(u8),
        Reject,
        Undo,
        /// After a search that looks at this many keys.
        Seal(usize),
        Prove,
        Flush,
        Sweep,
    }

    fn timed_operations() -> impl Strategy<Value = Vec<Timed>> {
        let operation = prop_oneof![
            6 => (0..5_u8, proptest::option::of(any::<u8>()), 0..30_i64)
                .prop_map(|(key, value, late)| Timed::Put(key, value, late)),
            3 => (0..8_i64).prop_map(Timed::Pass),
            2 => (0..5_u8).prop_map(Timed::Get),
            1 => Just(Timed::Reject),
            1 => Just(Timed::Undo),
            3 => (0..4_usize).prop_map(Timed::Seal),
            2 => Just(Timed::Prove),
            2 => Just(Timed::Flush),
            1 => Just(Timed::Sweep),
        ];
        proptest::collection::vec(operation, 0..120)
    }

    fn shown(cache: &mut WriteBack, now: i64, is_proved: bool) -> Contents {
        let mut found = Contents::new();
        let mut visit = |key: &[u8], value: &[u8]| found.insert(key.to_vec(), value.to_vec()).is_none();
        if is_proved {
            assert_eq!(cache.page_proved(b"", None, Timestamp(now), usize::MAX, &mut visit).unwrap(), None);
        } else {
            cache.scan(b"", None, Timestamp(now), &mut visit).unwrap();
        }
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        /// Against maps that delete nothing: a value lives until the latest time of its writes and its age, whatever
        /// was searched, swept and written in between; the clock goes back where a batch is undone.
        #[test]
        fn values_that_expire_are_those_of_a_naive_model(operations in timed_operations()) {
            const AGE: i64 = 10;
            let map = Map::default();
            let mut cache = expiring_store(&map);
            // Each comes with the clock that belongs to it.
            let (mut newest, mut accepted, mut last, mut proved) =
                ((Mortal::new(), 0), (Mortal::new(), 0), (Mortal::new(), 0), (Mortal::new(), 0));
            let mut sealed: VecDeque<(Mortal, i64)> = VecDeque::new();
            for operation in operations {
                match operation {
                    Timed::Put(key, value, late) => {
                        let at = newest.1 - late;
                        cache.put(&[key], value.as_ref().map(std::slice::from_ref), Timestamp(at), Timestamp(at)).unwrap();
                        let before = newest.0.remove(&key).map_or(at + AGE, |(_, expires_at)| expires_at);
                        newest.0.extend(value.map(|value| (key, (value, before.max(at + AGE)))));
                    }
                    Timed::Pass(by) => {
                        cache.accept();
                        newest.1 += by;
                        accepted = newest.clone();
                    }
                    Timed::Get(key) => {
                        prop_assert_eq!(read(&mut cache, &[key], newest.1), living(&newest.0, newest.1).remove(&vec![key]));
                    }
                    Timed::Reject => {
                        cache.reject();
                        newest = accepted.clone();
                    }
                    Timed::Undo => {
                        cache.undo();
                        (newest, accepted) = (last.clone(), last.clone());
                    }
                    Timed::Seal(keys) => {
                        cache.accept();
                        if keys > 0 {
                            cache.expire(b"", Timestamp(newest.1), keys).unwrap();
                        }
                        cache.set_clock(Timestamp(newest.1));
                        cache.seal();
                        (accepted, last) = (newest.clone(), newest.clone());
                        sealed.push_back(newest.clone());
                    }
                    Timed::Prove => {
                        cache.prove();
                        proved = sealed.pop_front().unwrap_or(proved);
                    }
                    Timed::Flush => {
                        cache.flush(&checkpoint()).unwrap();
                        let kept = Some(Timestamp(proved.1)).filter(|_| !map.0.lock().unwrap().is_empty());
                        prop_assert_eq!(cache.clock().unwrap(), kept, "the clock goes with the values");
                    }
                    Timed::Sweep => cache.sweep(0),
                }
                prop_assert_eq!(shown(&mut cache, newest.1, false), living(&newest.0, newest.1));
                prop_assert_eq!(shown(&mut cache, proved.1, true), living(&proved.0, proved.1));
            }
        }
    }

    fn expiring_store(map: &Map) -> WriteBack {
        let spec =
            StoreSpec { name: "s".into(), version: 1, time_to_live: Some(Duration::from_millis(10)), timers: None };
        WriteBack::new(Box::new(map.clone()), spec)
    }

    fn read(cache: &mut WriteBack, key: &[u8], now: i64) -> Option<Vec<u8>> {
        let mut found = None;
        cache.get(key, Timestamp(now), &mut |value| found = value.map(<[u8]>::to_vec)).unwrap();
        found
    }

    fn write_through(cache: &mut WriteBack) {
        cache.accept();
        cache.seal();
        cache.prove();
        cache.flush(&checkpoint()).unwrap();
        cache.sweep(0);
    }

    #[test]
    fn a_value_expires_by_event_time_and_is_found_by_the_search_for_expired_keys() {
        let map = Map::default();
        let mut cache = expiring_store(&map);
        cache.put(b"k", Some(&[1]), Timestamp(100), Timestamp(100)).unwrap();
        cache.accept();
        assert_eq!(read(&mut cache, b"k", 109), Some(vec![1]));
        assert_eq!(read(&mut cache, b"k", 110), None);
        write_through(&mut cache);
        assert_eq!(cache.expire(b"", Timestamp(109), 10).unwrap(), None);
        assert_eq!(cache.changes().count(), 0);
        assert_eq!(cache.expire(b"", Timestamp(110), 10).unwrap(), None);
        assert_eq!(cache.changes().collect::<Vec<_>>(), [(&b"k"[..], None)]);
        assert_eq!(cache.expire(b"", Timestamp(110), 10).unwrap(), None);
        assert_eq!(cache.changes().count(), 1, "its tombstone is on the way");
    }

    #[test]
    fn a_late_write_keeps_the_expiry_whether_the_value_is_cached_or_not() {
        for is_cached in [true, false] {
            let map = Map::default();
            let mut cache = expiring_store(&map);
            cache.put(b"k", Some(&[1]), Timestamp(100), Timestamp(100)).unwrap();
            if !is_cached {
                write_through(&mut cache);
            }
            cache.put(b"k", Some(&[2]), Timestamp(50), Timestamp(50)).unwrap();
            assert_eq!((read(&mut cache, b"k", 109), read(&mut cache, b"k", 110)), (Some(vec![2]), None));
            cache.put(b"k", None, Timestamp(50), Timestamp(50)).unwrap();
            cache.put(b"k", Some(&[3]), Timestamp(50), Timestamp(50)).unwrap();
            assert_eq!((read(&mut cache, b"k", 59), read(&mut cache, b"k", 60)), (Some(vec![3]), None), "a new life");
        }
    }

    #[test]
    fn a_late_write_over_a_value_from_before_there_was_a_time_to_live_gives_it_a_whole_one() {
        let map = Map::default();
        map.0.lock().unwrap().insert(b"k".to_vec(), vec![PLAIN, 7]);
        let mut cache = expiring_store(&map);
        cache.put(b"k", Some(&[8]), Timestamp(50), Timestamp(100)).unwrap();
        assert_eq!((read(&mut cache, b"k", 109), read(&mut cache, b"k", 110)), (Some(vec![8]), None));
        cache.put(b"k", None, Timestamp(50), Timestamp(100)).unwrap();
        cache.put(b"k", Some(&[9]), Timestamp(50), Timestamp(100)).unwrap();
        assert_eq!((read(&mut cache, b"k", 59), read(&mut cache, b"k", 60)), (Some(vec![9]), None), "a new life");
    }

    #[test]
    fn what_was_written_before_there_was_a_time_to_live_gets_one_when_it_is_met() {
        let map = Map::default();
        map.0.lock().unwrap().insert(b"old".to_vec(), vec![PLAIN, 7]);
        let mut cache = expiring_store(&map);
        cache.set_clock(Timestamp(100));
        write_through(&mut cache);
        assert_eq!(cache.expire(b"", Timestamp(100), 10).unwrap(), None);
        write_through(&mut cache);
        assert_eq!((read(&mut cache, b"old", 109), read(&mut cache, b"old", 110)), (Some(vec![7]), None));
        assert_eq!(cache.clock().unwrap(), Some(Timestamp(100)), "which does not expire");
        assert_eq!(all(&mut cache, false).len(), 1, "and is shown to nobody");
    }

    #[test]
    fn what_the_store_lacks_is_what_is_proved_and_not_written() {
        let spec = StoreSpec { name: "s".into(), version: 1, time_to_live: None, timers: None };
        let mut cache = WriteBack::new(Box::new(Map::default()), spec);
        for key in [b"a", b"b"] {
            cache.put(key, Some(&[7]), Timestamp(0), Timestamp(0)).unwrap();
        }
        cache.accept();
        cache.seal();
        assert_eq!(cache.unwritten_count(), 0, "in flight");
        cache.prove();
        assert_eq!(cache.unwritten_count(), 2, "proved");
        cache.put(b"c", Some(&[7]), Timestamp(0), Timestamp(0)).unwrap();
        cache.accept();
        cache.seal();
        assert_eq!(cache.unwritten_count(), 2, "the third is in flight");
        cache.flush(&checkpoint()).unwrap();
        assert_eq!(cache.unwritten_count(), 0, "written");
    }

    #[test]
    fn a_sweep_counts_what_is_left_exactly() {
        let spec = || StoreSpec { name: "s".into(), version: 1, time_to_live: None, timers: None };
        let mut alone = WriteBack::new(Box::new(Map::default()), spec());
        let mut cache = WriteBack::new(Box::new(Map::default()), spec());
        for n in 0..100_u32 {
            cache.put(&n.to_be_bytes(), Some(&[7; 100]), Timestamp(0), Timestamp(0)).unwrap();
        }
        cache.accept();
        cache.seal();
        cache.prove();
        cache.flush(&checkpoint()).unwrap();
        for cache in [&mut alone, &mut cache] {
            cache.put(b"in flight", Some(&[7; 50]), Timestamp(0), Timestamp(0)).unwrap();
            cache.accept();
            cache.seal();
        }
        cache.sweep(0);
        assert!(alone.bytes() > 0);
        assert_eq!(cache.bytes(), alone.bytes());
    }

    #[test]
    fn the_order_of_unwritten_keys_is_kept_over_a_flush_while_ranges_are_asked_for() {
        let spec = StoreSpec { name: "s".into(), version: 1, time_to_live: None, timers: None };
        let mut cache = WriteBack::new(Box::new(Map::default()), spec);
        cache.put(b"a", Some(&[7]), Timestamp(0), Timestamp(0)).unwrap();
        cache.accept();
        assert_eq!(all(&mut cache, false).len(), 1);
        cache.flush(&checkpoint()).unwrap();
        assert!(cache.unflushed.is_some(), "a range was asked for since the last flush");
        cache.flush(&checkpoint()).unwrap();
        assert!(cache.unflushed.is_none(), "and none since this one");
    }

    #[test]
    fn a_write_to_the_store_ends_as_soon_as_it_is_full() {
        let full = vec![7; WRITE_BYTES - 1];
        let writes: [Write<'_>; 3] = [(b"a", Some(&full)), (b"b", None), (b"c", None)];
        let (some, more) = cut(&writes).unwrap();
        assert_eq!((some.len(), more.len()), (1, 2));
        assert!(cut(more).is_none());
    }
}
