//! The keyed state of one task: its stores behind their caches, how far their changelogs are proved, and the hands in
//! which an algorithm gets them.

use crate::engine::cache::{CLOCK, WriteBack};
use crate::engine::outgoing::{Origin, Outgoing};
use crate::flow::effect::Reject;
use crate::flow::record::{NextOffset, Timestamp, TopicPartition};
use crate::flow::store::{StateAccess, Unavailable};
use crate::ports::Fault;
use crate::ports::sink::Message;
use crate::ports::source::LogIds;
use crate::ports::store::Checkpoint;
use std::collections::VecDeque;
use std::time::Duration;

/// How often a store with a time to live is searched for expired keys, and how many keys are looked at.
const EXPIRY_EVERY: Duration = Duration::from_secs(1);
const EXPIRY_KEYS: usize = 1_000;
/// The clock before the first record.
pub(crate) const START: Timestamp = Timestamp(i64::MIN);
/// What a changelog record takes beside its key and value: the envelope's nine bytes and 128 for the record's frame.
const FRAME_BYTES: usize = 9 + 128;

/// One store of a task.
pub(crate) struct Kept {
    pub(crate) cache: WriteBack,
    /// Its changelog partition, and which log that is.
    pub(crate) changelog: TopicPartition,
    pub(crate) log_ids: LogIds,
    /// What its changelog takes: a larger value is refused before anything is committed, since it would block the task.
    pub(crate) record_bytes_max: usize,
    /// The changelog up to here is proved to be in the cache or the store: the next checkpoint.
    pub(crate) proved_end: NextOffset,
    /// Where the search for expired keys goes on.
    pub(crate) expiry_cursor: Vec<u8>,
}

/// What a batch in flight comes to once it is proved.
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
    stream_time: Timestamp,
    /// The clock as of the last sealed batch, and of the last proved one.
    sealed_time: Timestamp,
    proved_time: Timestamp,
    /// The batches in flight, oldest first.
    sealed: VecDeque<Sealed>,
    /// The number of the last sealed batch; they begin at 1.
    batch: u64,
    /// D of each input of the newest proved batch.
    proved_inputs: Vec<NextOffset>,
    /// When the stores were last written, on the monotonic clock.
    pub(crate) flushed_at: Duration,
    expired_at: Duration,
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
            expired_at: now,
        }
    }

    /// The clock that the stores keep, the highest of theirs: it went the way of every value, so it survives what they do.
    ///
    /// # Errors
    /// Where a store cannot be read.
    pub(crate) fn kept_time(&self) -> Result<Timestamp, Fault> {
        let mut time = START;
        for kept in &self.kept {
            time = time.max(kept.cache.clock()?.unwrap_or(START));
        }
        Ok(time)
    }

    /// The clock as a crash at this moment would leave it: what belongs to the proved values.
    pub(crate) const fn proved_time(&self) -> Timestamp {
        self.proved_time
    }

    /// Ends the open batch: expired keys are looked for now and then, and `out` gets one changelog record for each key that
    /// the batch touched, the clock among them.
    ///
    /// # Errors
    /// Where a store cannot be read. The batch is whole all the same: only expired keys are left for later.
    pub(crate) fn close(&mut self, origin: Origin<'_>, now: Duration, out: &mut Outgoing) -> Result<(), Fault> {
        let mut result = Ok(());
        if now.saturating_sub(self.expired_at) >= EXPIRY_EVERY {
            self.expired_at = now;
            result = self.expire();
        }
        if self.stream_time > self.sealed_time {
            let time = self.stream_time;
            self.timed().for_each(|kept| kept.cache.set_clock(time));
        }
        self.changelog(origin, out);
        result
    }

    /// The open batch of every store goes into a transaction that ends with the offsets `to`. Answers its number.
    pub(crate) fn seal(&mut self, to: Vec<NextOffset>) -> u64 {
        for kept in &mut self.kept {
            kept.cache.seal();
        }
        self.batch += 1;
        self.sealed_time = self.stream_time;
        self.sealed.push_back(Sealed { batch: self.batch, inputs: to, time: self.stream_time });
        self.batch
    }

    /// The open batch came to nothing in every store.
    pub(crate) fn undo(&mut self) {
        for kept in &mut self.kept {
            kept.cache.undo();
        }
        self.stream_time = self.sealed_time;
    }

    /// The batches up to `batch` are published, all by one transaction or earlier ones, and these left the changelogs with
    /// `ends`: the next checkpoint, as what lies before them is in the caches or the stores from now on.
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

    /// The stores whose values expire: with them the clock is kept.
    fn timed(&mut self) -> impl Iterator<Item = &mut Kept> {
        self.kept.iter_mut().filter(|kept| kept.cache.spec().time_to_live.is_some())
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

    fn expire(&mut self) -> Result<(), Fault> {
        let (now, mut result) = (self.stream_time, Ok(()));
        for kept in self.timed() {
            match kept.cache.expire(&kept.expiry_cursor, now, EXPIRY_KEYS) {
                Ok(next) => kept.expiry_cursor = next.unwrap_or_default(),
                Err(fault) => result = Err(fault),
            }
        }
        result
    }

    /// Whether the stores lack something that is proved.
    pub(crate) fn is_dirty(&self) -> bool {
        self.kept.iter().any(|kept| kept.cache.is_dirty())
    }

    /// Writes what is proved into the stores, each with its checkpoint.
    pub(crate) fn flush(&mut self, sources: &[TopicPartition], at: Timestamp, now: Duration) -> Result<(), Fault> {
        let inputs: Vec<_> = sources.iter().cloned().zip(self.proved_inputs.iter().copied()).collect();
        for kept in &mut self.kept {
            let (next_offset, log_ids) = (kept.proved_end, kept.log_ids.clone());
            kept.cache.flush(&Checkpoint { next_offset, log_ids, at, inputs: inputs.clone() })?;
        }
        self.flushed_at = now;
        Ok(())
    }

    /// The stores for one record of a stream, whose event time is `at`. It sees the clock where it will stand once the
    /// record is decided; see [`Keyed::advance`].
    pub(crate) fn open(&mut self, at: Timestamp) -> Access<'_> {
        let now = self.stream_time.max(at);
        Access { now, at, kept: &mut self.kept, written: 0, trouble: None, refused: None }
    }

    /// The stores for one record of a table: its event time says nothing of how far the streams have come.
    pub(crate) fn open_for_table(&mut self, at: Timestamp) -> Access<'_> {
        Access { now: self.stream_time, at, kept: &mut self.kept, written: 0, trouble: None, refused: None }
    }

    /// A record of a stream with the event time `at` is decided, whatever came of it.
    pub(crate) fn advance(&mut self, at: Timestamp) {
        self.stream_time = self.stream_time.max(at);
    }
}

/// Why a record could not be decided, which is not its fault.
pub(crate) enum Trouble {
    /// A store cannot be read.
    Fault(Fault),
    /// The algorithm asked for a store that its step was not given.
    NoStore(String),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// The stores of a task in the hands of an algorithm.
pub(crate) struct Access<'a> {
    kept: &'a mut [Kept],
    /// The task's stream time.
    now: Timestamp,
    /// The record's event time.
    at: Timestamp,
    /// Bytes of changelog records that the writes come to, one for each.
    written: usize,
    trouble: Option<Trouble>,
    /// Why the record is to blame for what it wrote.
    refused: Option<Reject>,
}

impl Access<'static> {
    /// For a step without stores.
    pub(crate) const fn none(at: Timestamp) -> Self {
        Self { kept: &mut [], now: at, at, written: 0, trouble: None, refused: None }
    }
}

impl Access<'_> {
    /// What the record wrote and cannot be kept, although its algorithm accepted it.
    pub(crate) const fn refusal(&mut self) -> Option<Reject> {
        self.refused.take()
    }

    /// About how many bytes the record's writes will have in the changelogs; more where it, or another, writes a key twice.
    pub(crate) const fn written_bytes(&self) -> usize {
        self.written
    }

    /// Keeps what the record wrote, or undoes it.
    ///
    /// # Errors
    /// What kept the algorithm from reading: the record is not decided.
    pub(crate) fn end(self, is_accepted: bool) -> Result<(), Trouble> {
        let is_accepted = is_accepted && self.trouble.is_none();
        for kept in &mut *self.kept {
            if is_accepted { kept.cache.accept() } else { kept.cache.reject() }
        }
        self.trouble.map_or(Ok(()), Err)
    }

    fn said<T>(&mut self, result: Result<T, Fault>) -> Result<T, Unavailable> {
        result.map_err(|fault| {
            self.trouble.get_or_insert(Trouble::Fault(fault));
            Unavailable
        })
    }
}

impl StateAccess for Access<'_> {
    fn find(&self, name: &str) -> Option<usize> {
        self.kept.iter().position(|kept| *kept.cache.spec().name == *name)
    }

    fn get(&mut self, store: usize, key: &[u8], visit: &mut dyn FnMut(Option<&[u8]>)) -> Result<(), Unavailable> {
        let now = self.now;
        if key == CLOCK {
            visit(None);
            return Ok(());
        }
        let result = match self.kept.get_mut(store) {
            Some(kept) => kept.cache.get(key, now, visit),
            None => Err(Fault::corrupt("the step has no such store")),
        };
        self.said(result)
    }

    fn put(&mut self, store: usize, key: &[u8], value: Option<&[u8]>) {
        let at = self.at;
        let Some(kept) = self.kept.get_mut(store) else { return };
        let bytes = key.len() + value.map_or(0, <[u8]>::len) + FRAME_BYTES;
        if bytes > kept.record_bytes_max {
            let (changelog, limit) = (&kept.changelog.topic, kept.record_bytes_max);
            let message = format!("a value of {bytes} bytes for {changelog}, which takes {limit}");
            self.refused.get_or_insert_with(|| Reject::dead_letter("too-large", message));
            return;
        }
        if key == CLOCK {
            let message = format!("the key {:?} is the store's own", String::from_utf8_lossy(CLOCK));
            self.refused.get_or_insert_with(|| Reject::dead_letter("reserved-key", message));
            return;
        }
        self.written += bytes;
        if let Err(fault) = kept.cache.put(key, value, at) {
            self.trouble.get_or_insert(Trouble::Fault(fault));
        }
    }

    fn scan(
        &mut self,
        store: usize,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Unavailable> {
        let now = self.now;
        let result = match self.kept.get(store) {
            Some(kept) => kept.cache.scan(from, to, now, visit),
            None => Err(Fault::corrupt("the step has no such store")),
        };
        self.said(result)
    }

    fn corrupt(&mut self, message: String) -> Unavailable {
        self.trouble.get_or_insert(Trouble::Fault(Fault::corrupt(message)));
        Unavailable
    }

    fn unknown(&mut self, name: &str) -> Unavailable {
        let message = format!("the algorithm opens the store {name}, which its step was not given: add `with_store`");
        self.trouble.get_or_insert(Trouble::NoStore(message));
        Unavailable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::memory::MemoryStores;
    use crate::flow::record::{Offset, Partition, TopicName};
    use crate::flow::store::StoreSpec;
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
        let spec = StoreSpec { name: "s".into(), version: 1, time_to_live };
        let kept = Kept {
            cache: WriteBack::new(disk.open(&id()).unwrap(), spec),
            changelog: place("p-s-changelog"),
            log_ids: LogIds::default(),
            record_bytes_max: usize::MAX,
            proved_end: NextOffset(0),
            expiry_cursor: Vec::new(),
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
        keyed.prove(0, &[]); // of an idle input's offset
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
}
