//! The keyed state of one task: its stores behind their caches, how far their changelogs are proved, and the hands in
//! which an algorithm gets them.

use crate::engine::cache::WriteBack;
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

/// The stores of one task.
pub(crate) struct Keyed {
    pub(crate) kept: Vec<Kept>,
    /// The highest event time seen: what decides whether a value has expired.
    pub(crate) stream_time: Timestamp,
    /// D of each input at the end of each batch in flight, oldest first.
    sealed: VecDeque<Vec<NextOffset>>,
    /// D of each input of the newest proved batch.
    proved_inputs: Vec<NextOffset>,
    /// When the stores were last written, on the monotonic clock.
    pub(crate) flushed_at: Duration,
    expired_at: Duration,
}

impl Keyed {
    pub(crate) fn new(kept: Vec<Kept>, inputs: Vec<NextOffset>, now: Duration) -> Self {
        Self {
            kept,
            stream_time: Timestamp(i64::MIN),
            sealed: VecDeque::new(),
            proved_inputs: inputs,
            flushed_at: now,
            expired_at: now,
        }
    }

    /// Ends the open batch: expired keys are looked for now and then, and `out` gets one changelog record for each key that
    /// the batch touched.
    ///
    /// # Errors
    /// Where a store cannot be read.
    pub(crate) fn close(&mut self, origin: Origin<'_>, now: Duration, out: &mut Outgoing) -> Result<(), Fault> {
        if now.saturating_sub(self.expired_at) >= EXPIRY_EVERY {
            self.expired_at = now;
            self.expire()?;
        }
        self.changelog(origin, out);
        Ok(())
    }

    /// The open batch of every store goes into a transaction that ends with the offsets `to`.
    pub(crate) fn seal(&mut self, to: Vec<NextOffset>) {
        for kept in &mut self.kept {
            kept.cache.seal();
        }
        self.sealed.push_back(to);
    }

    /// The open batch came to nothing in every store.
    pub(crate) fn undo(&mut self) {
        for kept in &mut self.kept {
            kept.cache.undo();
        }
    }

    /// Every input of the task is published up to `published`: batches that end there or before are proved.
    pub(crate) fn prove(&mut self, published: &[NextOffset]) {
        let is_proved = |to: &Vec<NextOffset>| to.iter().zip(published).all(|(to, published)| to <= published);
        while let Some(inputs) = self.sealed.pop_front_if(|to| is_proved(to)) {
            for kept in &mut self.kept {
                kept.cache.prove();
            }
            self.proved_inputs = inputs;
        }
    }

    /// The end of a changelog partition as a transaction left it: a checkpoint once its batch is proved.
    pub(crate) fn note_end(&mut self, changelog: &TopicPartition, end: NextOffset) {
        for kept in self.kept.iter_mut().filter(|kept| kept.changelog == *changelog) {
            kept.proved_end = kept.proved_end.max(end);
        }
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
        let now = self.stream_time;
        for kept in self.kept.iter_mut().filter(|kept| kept.cache.spec().time_to_live.is_some()) {
            let (expired, next) = kept.cache.expired(&kept.expiry_cursor, now, EXPIRY_KEYS)?;
            for key in expired {
                kept.cache.put(&key, None, now);
            }
            kept.cache.accept();
            kept.expiry_cursor = next.unwrap_or_default();
        }
        Ok(())
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

    /// The stores for one record, whose event time is `at`.
    pub(crate) fn open(&mut self, at: Timestamp) -> Access<'_> {
        self.stream_time = self.stream_time.max(at);
        Access { now: self.stream_time, at, kept: &mut self.kept, trouble: None, oversize: None }
    }
}

/// The stores of a task in the hands of an algorithm.
pub(crate) struct Access<'a> {
    kept: &'a mut [Kept],
    /// The task's stream time.
    now: Timestamp,
    /// The record's event time.
    at: Timestamp,
    /// Why the record could not be decided, which is not its fault.
    trouble: Option<Fault>,
    /// Why the record is to blame for what it wrote.
    oversize: Option<Reject>,
}

impl Access<'_> {
    /// What the record wrote and cannot be kept, although its algorithm accepted it.
    pub(crate) const fn refusal(&mut self) -> Option<Reject> {
        self.oversize.take()
    }

    /// Keeps what the record wrote, or undoes it.
    ///
    /// # Errors
    /// What kept the algorithm from reading: the record is not decided.
    pub(crate) fn end(self, is_accepted: bool) -> Result<(), Fault> {
        let is_accepted = is_accepted && self.trouble.is_none();
        for kept in &mut *self.kept {
            if is_accepted { kept.cache.accept() } else { kept.cache.reject() }
        }
        self.trouble.map_or(Ok(()), Err)
    }

    fn said<T>(&mut self, result: Result<T, Fault>) -> Result<T, Unavailable> {
        result.map_err(|fault| {
            self.trouble.get_or_insert(fault);
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
            self.oversize.get_or_insert_with(|| Reject::dead_letter("too-large", message));
            return;
        }
        kept.cache.put(key, value, at);
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
        self.trouble.get_or_insert(Fault::corrupt(message));
        Unavailable
    }
}
