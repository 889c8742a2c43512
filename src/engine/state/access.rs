//! The handle of an algorithm to the stores of a task, for one record.

use crate::engine::state::cache::CLOCK;
use crate::engine::state::kept::Kept;
use crate::flow::effect::Reject;
use crate::flow::record::Timestamp;
use crate::flow::store::{StateAccess, TimerKind, Unavailable};
use crate::ports::Fault;

/// Bytes of a changelog record beside its key and value: the envelope's nine bytes and 128 for the record's frame.
const FRAME_BYTES: usize = 9 + 128;

/// The reason why a record could not be decided, which is not its fault.
pub(crate) enum Trouble {
    /// A store cannot be read.
    Fault(Fault),
    /// The algorithm asked for something that its step was not given.
    Lack(String),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// The handle of an algorithm to the stores of a task.
pub(crate) struct Access<'a> {
    pub(super) kept: &'a mut [Kept],
    /// The task's stream time.
    pub(super) now: Timestamp,
    /// The record's event time.
    pub(super) at: Timestamp,
    /// Bytes of the changelog records of the writes, one for each.
    pub(super) written: usize,
    pub(super) trouble: Option<Trouble>,
    /// The reject of a record that wrote a value which cannot be kept.
    pub(super) refused: Option<Reject>,
}

impl Access<'static> {
    /// For a step without stores.
    pub(crate) const fn none(at: Timestamp) -> Self {
        Self { kept: &mut [], now: at, at, written: 0, trouble: None, refused: None }
    }
}

impl Access<'_> {
    /// The reject of a record that wrote a value which cannot be kept, although its algorithm accepted it.
    pub(crate) const fn refusal(&mut self) -> Option<Reject> {
        self.refused.take()
    }

    /// The bytes of the record's writes in the changelogs, roughly; more where it, or another, writes a key twice.
    pub(crate) const fn written_bytes(&self) -> usize {
        self.written
    }

    /// Keeps the record's writes, or undoes them.
    ///
    /// # Errors
    /// The trouble that kept the algorithm from reading: the record is not decided.
    #[inline]
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
        self.kept.iter().position(|kept| *kept.cache.spec().name == *name && kept.timers.is_none())
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
        let (at, now) = (self.at, self.now);
        let Some(kept) = self.kept.get_mut(store) else { return };
        let bytes = key.len() + value.map_or(0, <[u8]>::len) + FRAME_BYTES;
        if let Some(Err(reject)) = kept.limit.as_ref().map(|limit| limit.check(bytes, "a value")) {
            self.refused.get_or_insert(reject);
            return;
        }
        if key == CLOCK {
            let message = format!("the key {:?} is the store's own", String::from_utf8_lossy(CLOCK));
            self.refused.get_or_insert_with(|| Reject::dead_letter("reserved-key", message));
            return;
        }
        self.written += bytes;
        if let Err(fault) = kept.cache.put(key, value, at, now) {
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
        let result = match self.kept.get_mut(store) {
            Some(kept) => kept.cache.scan(from, to, now, visit),
            None => Err(Fault::corrupt("the step has no such store")),
        };
        self.said(result)
    }

    fn corrupt(&mut self, message: String) -> Unavailable {
        self.trouble.get_or_insert(Trouble::Fault(Fault::corrupt(message)));
        Unavailable
    }

    fn lacks(&mut self, message: String) -> Unavailable {
        self.trouble.get_or_insert(Trouble::Lack(message));
        Unavailable
    }

    fn timers(&self) -> Option<(usize, TimerKind)> {
        let mut kinds = self.kept.iter().enumerate();
        kinds.find_map(|(number, kept)| Some((number, kept.timers.and(kept.cache.spec().timers)?)))
    }

    fn clock(&self) -> i64 {
        self.now.0
    }

    fn timer_was_set(&mut self, is_by_wall: bool, at: i64) {
        for timers in self.kept.iter_mut().filter_map(|kept| kept.timers.as_mut()) {
            let known = if is_by_wall { &mut timers.wall } else { &mut timers.event };
            (known.from, known.set) = (known.from.min(Timestamp(at)), known.set.min(Timestamp(at)));
        }
    }
}
