//! The keyed state of one task: its stores behind their caches, and the proved ends of their changelogs.

use crate::engine::outbound::outgoing::{Origin, Outgoing};
use crate::engine::state::access::Access;
use crate::engine::state::kept::{Kept, START, Search, Timers};
use crate::flow::record::{NextOffset, Timestamp, TopicPartition};
use crate::ports::Fault;
use crate::ports::sink::Message;
use crate::ports::store::Checkpoint;
use std::collections::VecDeque;
use std::time::Duration;

/// With each batch a store with a time to live is searched for expired keys. It looks at this many for each key that
/// the batch added, which lets the search keep up with any number of them, since half or more of the keys that it meets
/// have expired once it falls behind ...
const SEARCHED_FOR_EACH: usize = 2;
/// ... and at this many for each millisecond since the last search, of at most [`SEARCHED_TIME`]; where the worker is
/// idle, [`SEARCHED_IDLE`].
const SEARCHED_A_MS: usize = 1;
const SEARCHED_IDLE: usize = 10;
const SEARCHED_TIME: Duration = Duration::from_secs(5);
/// The time between two searches of an idle store.
const IDLE_EVERY: Duration = Duration::from_secs(1);

/// The values of a batch in flight that count once it is proved.
struct Sealed {
    batch: u64,
    /// D of each input at its end.
    inputs: Vec<NextOffset>,
    time: Timestamp,
}

/// The stores of one task.
pub(crate) struct Keyed {
    pub(crate) kept: Vec<Kept>,
    /// The task's clock: the highest event time of its streams' decided records. It decides whether a value has expired.
    /// Records of tables and of the future do not move it.
    pub(super) stream_time: Timestamp,
    /// The clock as of the last sealed batch, and of the last proved one.
    sealed_time: Timestamp,
    proved_time: Timestamp,
    /// The batches in flight, oldest first.
    sealed: VecDeque<Sealed>,
    /// The number of the last sealed batch; they begin at 1.
    batch: u64,
    /// D of each input of the newest proved batch.
    proved_inputs: Vec<NextOffset>,
    /// The time when the stores were last written, on the monotonic clock.
    pub(crate) flushed_at: Duration,
    searched_at: Duration,
}

impl Keyed {
    /// `time`: the clock as the stores keep it.
    pub(crate) fn new(kept: Vec<Kept>, inputs: Vec<NextOffset>, time: Timestamp, now: Duration) -> Self {
        Self {
            kept,
            stream_time: time,
            sealed_time: time,
            proved_time: time,
            sealed: VecDeque::new(),
            batch: 0,
            proved_inputs: inputs,
            flushed_at: now,
            searched_at: now,
        }
    }

    /// The clock that the stores keep, the highest of theirs: it is stored like every value, so it survives the same
    /// failures.
    ///
    /// # Errors
    /// A store cannot be read.
    pub(crate) fn kept_time(&mut self) -> Result<Timestamp, Fault> {
        let mut time = START;
        for kept in &mut self.kept {
            if let Some(clock) = kept.cache.clock()? {
                // This does not depend on its present time to live: if the clock stood still, expired values would come
                // back.
                kept.is_timed = true;
                time = time.max(clock);
            }
        }
        Ok(time)
    }

    /// The clock of the proved values, which a crash at this moment would leave.
    pub(crate) const fn proved_time(&self) -> Timestamp {
        self.proved_time
    }

    /// Ends the open batch: expired keys are looked for, and `out` gets one changelog record for each key that
    /// the batch touched, the clock among them.
    ///
    /// # Errors
    /// A store cannot be read. The batch is whole all the same: only expired keys are left for later.
    pub(crate) fn close(&mut self, origin: Origin<'_>, now: Duration, out: &mut Outgoing) -> Result<(), Fault> {
        let result = self.search(now, SEARCHED_A_MS);
        let time = self.stream_time;
        // At the start too: values that a table wrote must expire, also under a release that would not keep a clock.
        if time > self.sealed_time || time == START {
            self.timed().for_each(|kept| kept.cache.set_clock(time));
        }
        self.changelog(origin, out);
        result
    }

    /// Seals the open batch of every store, which goes into a transaction that ends with the offsets `to`. Answers its
    /// number.
    pub(crate) fn seal(&mut self, to: Vec<NextOffset>) -> u64 {
        for kept in &mut self.kept {
            kept.cache.seal();
        }
        self.batch += 1;
        self.sealed_time = self.stream_time;
        self.sealed.push_back(Sealed { batch: self.batch, inputs: to, time: self.stream_time });
        self.batch
    }

    /// Undoes the open batch in every store, with the tombstones of the keys that it had found expired.
    pub(crate) fn undo(&mut self) {
        for kept in &mut self.kept {
            kept.cache.undo();
            kept.search = Search::default();
            kept.timers = kept.timers.map(|_| Timers::UNKNOWN);
        }
        self.stream_time = self.sealed_time;
    }

    /// Notes that the batches up to `batch` are published, all by one transaction or earlier ones, and left the
    /// changelogs with `ends`: the next checkpoint, because all records before them are in the caches or the stores
    /// from now on.
    pub(crate) fn prove(&mut self, batch: u64, ends: &[(TopicPartition, NextOffset)]) {
        while let Some(Sealed { inputs, time, .. }) = self.sealed.pop_front_if(|sealed| sealed.batch <= batch) {
            for kept in &mut self.kept {
                kept.cache.prove();
            }
            (self.proved_inputs, self.proved_time) = (inputs, time);
        }
        for (changelog, end) in ends {
            for kept in self.kept.iter_mut().filter(|kept| kept.changelog == *changelog) {
                kept.proved_end = kept.proved_end.max(*end);
            }
        }
    }

    /// Whether event time decides which values of a store are found, or which timers fire: in one with a time to live, in one
    /// of timers, and in one that keeps a clock from an earlier release.
    pub(crate) fn is_timed(&self) -> bool {
        self.kept.iter().any(|kept| kept.is_timed)
    }

    /// The stores in which values may have expired.
    fn expiring(&mut self) -> impl Iterator<Item = &mut Kept> {
        self.kept.iter_mut().filter(|kept| kept.is_timed && kept.timers.is_none())
    }

    /// The stores with which the clock is kept.
    fn timed(&mut self) -> impl Iterator<Item = &mut Kept> {
        self.kept.iter_mut().filter(|kept| kept.is_timed)
    }

    fn changelog(&self, origin: Origin<'_>, out: &mut Outgoing) {
        for kept in &self.kept {
            let (destination, partition) = (&kept.changelog.topic, Some(kept.changelog.partition));
            for (key, value) in kept.cache.changes() {
                let (key, headers, timestamp, is_tracked) = (Some(key), &[], None, true);
                out.push(origin, &Message { destination, partition, key, value, headers, timestamp, is_tracked });
            }
        }
    }

    /// Searches each store for expired keys, of which `keys_a_ms` are looked at for each millisecond since the last search.
    fn search(&mut self, now: Duration, keys_a_ms: usize) -> Result<(), Fault> {
        let since = now.saturating_sub(self.searched_at).min(SEARCHED_TIME);
        let keys = usize::try_from(since.as_millis()).unwrap_or(0) * keys_a_ms;
        self.searched_at = now;
        let (time, mut result) = (self.stream_time, Ok(()));
        for kept in self.expiring() {
            let Kept { cache, search, .. } = kept;
            let keys = keys + SEARCHED_FOR_EACH * cache.added();
            if search.done == time || keys == 0 {
                continue;
            }
            if search.cursor.is_empty() {
                search.began = time;
            }
            match cache.expire(&search.cursor, time, keys) {
                Ok(Some(next)) => search.cursor = next,
                Ok(None) => (search.cursor, search.done) = (Vec::new(), search.began),
                Err(fault) => result = Err(fault),
            }
        }
        result
    }

    /// Whether no batch is open or in flight, and there may be keys that expired with the last records and were not met since. One
    /// is open without a record where timers have fired by the wall clock: what they wrote goes out with their messages.
    pub(crate) fn is_idle_search_due(&self, now: Duration) -> bool {
        let is_open = |kept: &Kept| kept.is_timed && kept.timers.is_none() && kept.search.done != self.stream_time;
        let is_free = self.sealed.is_empty() && self.kept.iter().all(|kept| !kept.cache.has_open());
        is_free && now.saturating_sub(self.searched_at) >= IDLE_EVERY && self.kept.iter().any(is_open)
    }

    /// [`Keyed::close`] for an idle task: `out` gets the tombstones of expired keys.
    ///
    /// # Errors
    /// A store cannot be read.
    pub(crate) fn close_idle(&mut self, origin: Origin<'_>, now: Duration, out: &mut Outgoing) -> Result<(), Fault> {
        let result = self.search(now, SEARCHED_IDLE);
        self.changelog(origin, out);
        result
    }

    /// Frees memory where the caches take more than `bytes_max`.
    pub(crate) fn bound(&mut self, bytes_max: usize) {
        let bytes_max = bytes_max / self.kept.len().max(1);
        for kept in self.kept.iter_mut().filter(|kept| kept.cache.is_over(bytes_max)) {
            kept.cache.sweep(bytes_max);
        }
    }

    /// Whether the stores lack a proved value.
    pub(crate) fn is_dirty(&self) -> bool {
        self.kept.iter().any(|kept| kept.cache.is_dirty())
    }

    /// Writes the proved values into the stores, each with its checkpoint.
    pub(crate) fn flush(&mut self, sources: &[TopicPartition], at: Timestamp, now: Duration) -> Result<(), Fault> {
        let inputs: Vec<_> = sources.iter().cloned().zip(self.proved_inputs.iter().copied().map(Some)).collect();
        for kept in &mut self.kept {
            let (next_offset, log_ids) = (kept.proved_end, kept.log_ids.clone());
            if kept.cache.is_dirty() {
                // The search meets only keys in the store, and some of the keys that come now lie behind its cursor.
                (kept.search.began, kept.search.done) = (START, START);
            }
            kept.cache.flush(&Checkpoint { next_offset, log_ids, at, inputs: inputs.clone() })?;
        }
        self.flushed_at = now;
        Ok(())
    }

    /// The stores for one record of a stream, whose event time is `at`. The record sees the clock as it will stand once
    /// it is decided; see [`Keyed::advance`].
    pub(crate) fn open(&mut self, at: Timestamp) -> Access<'_> {
        let now = self.stream_time.max(at);
        Access { now, at, kept: &mut self.kept, written: 0, trouble: None, refused: None }
    }

    /// The stores for one record of a table, or for a timer, whose event time does not move the clock of the streams.
    pub(crate) fn open_beside(&mut self, at: Timestamp) -> Access<'_> {
        Access { now: self.stream_time, at, kept: &mut self.kept, written: 0, trouble: None, refused: None }
    }

    /// Moves the clock after a record of a stream with the event time `at`, whatever its outcome.
    pub(crate) fn advance(&mut self, at: Timestamp) {
        self.stream_time = self.stream_time.max(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::memory::MemoryStores;
    use crate::engine::state::cache::{CLOCK, WriteBack};
    use crate::flow::record::{Offset, Partition, TopicName};
    use crate::flow::store::{StateAccess, StoreSpec};
    use crate::ports::source::LogIds;
    use crate::ports::store::{StoreId, Stores};

    const AGE: Duration = Duration::from_millis(10);

    fn place(topic: &str) -> TopicPartition {
        TopicPartition::new(TopicName::parse(topic).unwrap(), Partition(0))
    }

    fn id() -> StoreId {
        StoreId { name: "s".into(), partition: Partition(0) }
    }

    /// One store in front of two inputs.
    fn keyed(disk: &MemoryStores, time_to_live: Option<Duration>) -> Keyed {
        let spec = StoreSpec { name: "s".into(), version: 1, time_to_live, timers: None };
        let kept = Kept {
            cache: WriteBack::new(disk.open(&id()).unwrap(), spec),
            changelog: place("p-s-changelog"),
            log_ids: LogIds::default(),
            limit: None,
            proved_end: NextOffset(0),
            search: Search::default(),
            is_timed: time_to_live.is_some(),
            timers: None,
        };
        Keyed::new(vec![kept], vec![NextOffset(0); 2], START, Duration::ZERO)
    }

    fn put(keyed: &mut Keyed, key: &[u8], at: i64) {
        let mut access = keyed.open(Timestamp(at));
        access.put(0, key, Some(b"\x01true"));
        assert!(access.end(true).is_ok());
        keyed.advance(Timestamp(at));
    }

    fn checkpoint(keyed: &mut Keyed, disk: &MemoryStores) -> Option<i64> {
        keyed.flush(&[place("a"), place("b")], Timestamp(0), Duration::ZERO).unwrap();
        assert!(keyed.kept[0].cache.checkpoint().unwrap().is_some());
        let end = keyed.kept[0].cache.checkpoint().unwrap()?.next_offset.0;
        (!disk.contents(&id()).is_empty()).then_some(end)
    }

    #[test]
    fn a_checkpoint_never_says_more_than_the_store_holds() {
        let disk = MemoryStores::default();
        let mut keyed = keyed(&disk, None);
        put(&mut keyed, b"k", 0);
        let first = keyed.seal(vec![NextOffset(0), NextOffset(5)]);
        put(&mut keyed, b"l", 0);
        let second = keyed.seal(vec![NextOffset(5), NextOffset(5)]);
        keyed.prove(0, &[]); // an idle input's offset
        assert_eq!((checkpoint(&mut keyed, &disk), keyed.is_dirty()), (None, false));
        keyed.prove(first, &[(place("p-s-changelog"), NextOffset(7))]);
        assert_eq!(checkpoint(&mut keyed, &disk), Some(7));
        assert_eq!(disk.contents(&id()).len(), 1);
        keyed.prove(second, &[(place("p-s-changelog"), NextOffset(9))]);
        assert_eq!(checkpoint(&mut keyed, &disk), Some(9));
        assert_eq!(disk.contents(&id()).len(), 2);
    }

    #[test]
    fn a_batch_that_came_to_nothing_leaves_the_clock_where_it_was() {
        let disk = MemoryStores::default();
        let mut keyed = keyed(&disk, Some(AGE));
        let mut out = Outgoing::default();
        put(&mut keyed, b"k", 100);
        put(&mut keyed, b"l", 500);
        let source = place("a");
        let origin = Origin { source: &source, offset: Offset(0) };
        keyed.close(origin, Duration::ZERO, &mut out).unwrap();
        assert_eq!(out.len(), 3, "two values and the clock");
        keyed.undo();
        put(&mut keyed, b"k", 100);
        let mut found = None;
        let mut access = keyed.open(Timestamp(105));
        access.get(0, b"k", &mut |value| found = value.map(<[u8]>::to_vec)).unwrap();
        assert!(access.end(true).is_ok() && found.is_some());
        assert_eq!(keyed.proved_time(), START);
        let batch = keyed.seal(vec![NextOffset(1); 2]);
        keyed.prove(batch, &[]);
        assert_eq!(keyed.proved_time(), Timestamp(100));
    }

    #[test]
    fn what_a_table_wrote_is_to_expire_although_its_time_to_live_went_before_the_first_record_of_the_stream() {
        let disk = MemoryStores::default();
        let mut before = keyed(&disk, Some(AGE));
        let mut access = before.open_beside(Timestamp(100));
        access.put(0, b"k", Some(b"\x01true"));
        assert!(access.end(true).is_ok());
        batch_of_new(&mut before, &disk, 0..0, 0);
        drop(before);
        let mut now = keyed(&disk, None);
        assert_eq!(now.kept_time().unwrap(), START);
        batch_of_new(&mut now, &disk, 7..8, 500);
        assert_eq!(disk.contents(&id()).len(), 2, "a key that lives for ever, and the clock");
    }

    #[test]
    fn the_clocks_own_key_is_nobody_elses() {
        let disk = MemoryStores::default();
        let mut keyed = keyed(&disk, Some(AGE));
        put(&mut keyed, b"k", 100);
        keyed
            .close(Origin { source: &place("a"), offset: Offset(0) }, Duration::ZERO, &mut Outgoing::default())
            .unwrap();
        let mut access = keyed.open(Timestamp(100));
        access.get(0, CLOCK, &mut |value| assert!(value.is_none())).unwrap();
        access.put(0, CLOCK, Some(b"\x01true"));
        assert_eq!(access.refusal().unwrap().code(), "reserved-key");
        assert!(access.end(false).is_ok());
    }

    #[test]
    fn what_was_to_expire_still_does_where_its_time_to_live_was_taken_away() {
        let disk = MemoryStores::default();
        let mut before = keyed(&disk, Some(AGE));
        batch_of_new(&mut before, &disk, 0..2, 100);
        drop(before);
        let mut now = keyed(&disk, None);
        let time = now.kept_time().unwrap();
        assert_eq!(time, Timestamp(100));
        let inputs = vec![NextOffset(1); 2];
        let mut now = Keyed::new(now.kept, inputs, time, Duration::ZERO);
        batch_of_new(&mut now, &disk, 7..8, 500);
        batch_of_new(&mut now, &disk, 8..9, 900);
        assert_eq!(disk.contents(&id()).len(), 3, "two keys that live for ever, and the clock");
        assert_eq!(now.kept_time().unwrap(), Timestamp(900));
    }

    /// One batch of `keys` new keys, `ms` after the one before.
    fn batch_of_new(keyed: &mut Keyed, disk: &MemoryStores, keys: std::ops::Range<u32>, ms: u64) -> usize {
        let now = Duration::from_millis(ms);
        for n in keys {
            put(keyed, &n.to_be_bytes(), i64::try_from(ms).unwrap());
        }
        let source = place("a");
        keyed.close(Origin { source: &source, offset: Offset(0) }, now, &mut Outgoing::default()).unwrap();
        let batch = keyed.seal(vec![NextOffset(1); 2]);
        keyed.prove(batch, &[]);
        keyed.flush(&[], Timestamp(0), now).unwrap();
        disk.contents(&id()).len()
    }

    #[test]
    fn the_search_for_expired_keys_keeps_up_with_any_number_of_new_ones() {
        for keys in [10, 2_000] {
            let disk = MemoryStores::default();
            let mut keyed = keyed(&disk, Some(Duration::from_secs(1)));
            let mut largest = 0;
            for n in 0..100_u32 {
                largest = batch_of_new(&mut keyed, &disk, n * keys..(n + 1) * keys, u64::from(n) * 100).max(largest);
            }
            let live = 10 * usize::try_from(keys).unwrap();
            assert!(largest < 2 * live + 200, "{largest} keys, {live} of them alive");
        }
    }

    #[test]
    fn an_idle_store_is_searched_until_all_that_had_expired_is_gone_and_then_left_alone() {
        let disk = MemoryStores::default();
        let mut keyed = keyed(&disk, Some(Duration::from_secs(1)));
        batch_of_new(&mut keyed, &disk, 0..50_000, 0);
        batch_of_new(&mut keyed, &disk, 50_000..50_001, 2_000);
        let source = place("a");
        let (mut now, mut rounds) = (Duration::from_millis(2_500), 0);
        assert!(!keyed.is_idle_search_due(now));
        loop {
            now += Duration::from_secs(1);
            if !keyed.is_idle_search_due(now) {
                break;
            }
            let mut out = Outgoing::default();
            keyed.close_idle(Origin { source: &source, offset: Offset(1) }, now, &mut out).unwrap();
            let batch = keyed.seal(vec![NextOffset(1); 2]);
            assert!(!keyed.is_idle_search_due(now + Duration::from_secs(9)), "one at a time");
            keyed.prove(batch, &[]);
            rounds += 1;
        }
        keyed.flush(&[], Timestamp(0), now).unwrap();
        assert_eq!(disk.contents(&id()).len(), 2, "the last key and the clock");
        assert!((5..15).contains(&rounds), "{rounds}");
    }

    /// Sealed with tombstones alone, what a turn of timers wrote would be published without its messages.
    #[test]
    fn an_idle_store_is_not_searched_while_it_has_an_open_batch() {
        let disk = MemoryStores::default();
        let mut keyed = keyed(&disk, Some(Duration::from_secs(1)));
        batch_of_new(&mut keyed, &disk, 0..1, 0);
        batch_of_new(&mut keyed, &disk, 1..2, 2_000);
        let now = Duration::from_secs(9);
        assert!(keyed.is_idle_search_due(now));
        let mut access = keyed.open_beside(Timestamp(0));
        access.put(0, b"written by a timer", Some(b"\x01true"));
        assert!(access.end(true).is_ok());
        assert!(!keyed.is_idle_search_due(now));
    }

    #[test]
    fn what_a_batch_had_found_expired_is_searched_for_again_where_it_came_to_nothing() {
        let disk = MemoryStores::default();
        let mut keyed = keyed(&disk, Some(Duration::from_secs(1)));
        batch_of_new(&mut keyed, &disk, 0..1, 0);
        put(&mut keyed, b"later", 2_000);
        let now = Duration::from_secs(3);
        keyed.close(Origin { source: &place("a"), offset: Offset(1) }, now, &mut Outgoing::default()).unwrap();
        keyed.undo();
        put(&mut keyed, b"later", 2_000);
        let batch = keyed.seal(vec![NextOffset(2); 2]);
        keyed.prove(batch, &[]);
        assert!(keyed.is_idle_search_due(Duration::from_secs(9)));
    }
}
