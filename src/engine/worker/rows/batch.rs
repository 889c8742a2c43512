//! Decides a batch in memory: records, rows and stores in, row writes, outbox rows and verdicts out.
//!
//! The same id may come several times in a batch: its records are applied in offset order to one row in memory, while each
//! record's notices carry their own before and after (docs/traps.md#one-row-many-times-in-a-batch). Where the table
//! keeps whatever is written as it is, the
//! row is written once. Elsewhere the next record must see what the database makes of the row (a rounded number, a trigger's
//! value), and a state that it refuses is its own record's dead letter, though a later record would cure it: such rows are
//! written and read again before their next record, all that wait for it in one statement. A row that is changed once in a
//! batch costs nothing of this.
//!
//! A row that the database refuses is a *suspect*: its records are decided one by one, each with its own write, and the
//! refused one leaves neither row nor state behind. Where there are stores every later record may have read what the
//! refused one wrote, so there the whole batch is decided again with the suspects known; otherwise only the row's records.
//!
//! A row is a table and a key, whichever step its records belong to: two steps on one table decide one after the other on
//! what the one before left, each seeing its own columns.

use crate::engine::outbound::message::{bytes_of, dead_letter, notice};
use crate::engine::protocol::event_time::Horizon;
use crate::engine::settings::MissingRow;
use crate::engine::state::stores::{Access, Keyed, Trouble};
use crate::engine::status::Held;
use crate::engine::task::in_hand::Hand;
use crate::flow::algorithm::Context;
use crate::flow::effect::Reject;
use crate::flow::key::Key;
use crate::flow::net::in_net;
use crate::flow::partitioning::{Declared, OnViolation};
use crate::flow::record::{Record, Timestamp, TopicName, TopicPartition};
use crate::flow::row::Value;
use crate::flow::step::RowStep;
use crate::flow::store::StateAccess;
use crate::ports::Clock;
use crate::ports::note::InHand;
use crate::ports::rows::{Counts, OutboxRow, RowRead, RowWrite, VerdictRow};
use crate::ports::source::TaskId;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// The stores of the tasks in a batch, where their steps have some.
pub(crate) type TaskStores = BTreeMap<TaskId, Keyed>;

/// A store could not be read: no record is to blame, and the batch is not decided.
pub(crate) struct StoreTrouble {
    pub(crate) task: TaskId,
    pub(crate) trouble: Trouble,
}

/// One source partition's part of a batch.
pub(crate) struct Share<'a> {
    pub(crate) task: TaskId,
    pub(crate) source: &'a TopicPartition,
    /// The number of the source's topic.
    pub(crate) number: u32,
    pub(crate) incarnation: i32,
    pub(crate) step: &'a dyn RowStep,
    /// The index of the step's table in the row port.
    pub(crate) table: usize,
    /// The places of the step's columns among those of the table; `None` where they are the same.
    pub(crate) columns: Option<&'a [usize]>,
    /// How often the first record was offered in vain.
    pub(crate) attempts: u32,
    /// Why the first record is a dead letter, whatever the step makes of it.
    pub(crate) reject: Option<&'a Reject>,
    pub(crate) is_versioned: bool,
    /// Whether the step has stores.
    pub(crate) is_stateful: bool,
    /// Whether event time decides what it finds in them.
    pub(crate) is_timed: bool,
    /// The places of the table's key and version among its columns, where a struct has them: the engine alone writes them.
    pub(crate) key_at: Option<usize>,
    pub(crate) version_at: Option<usize>,
    /// What is declared of the partitioning of the source.
    pub(crate) declared: Option<&'a Declared>,
    pub(crate) records: Vec<Record<'a>>,
}

/// What holds for the whole batch.
pub(crate) struct Terms<'a> {
    pub(crate) pipeline: &'a str,
    pub(crate) now: Timestamp,
    pub(crate) horizon: Horizon,
    pub(crate) missing_row: MissingRow,
    /// How often a record that asks for it is offered again before it becomes a dead letter.
    pub(crate) retry_attempts: u32,
    pub(crate) record_bytes_max: usize,
    pub(crate) message_bytes_max: &'a HashMap<TopicName, usize>,
    /// Whether verdicts are kept.
    pub(crate) keeps_verdicts: bool,
    pub(crate) hand: &'a Hand,
}

/// A batch under decision.
pub(crate) struct Batch<'a> {
    shares: &'a [Share<'a>],
    terms: &'a Terms<'a>,
    entries: Vec<Entry<'a>>,
    slots: Vec<Slot>, // by table, then key
    /// Slots that are to be written before their next record.
    pending: Vec<usize>,
}

/// Writes and reads rows of the open transaction while its batch is being decided.
pub(crate) trait Writer<E> {
    /// As [`Rows::keeps`](crate::ports::rows::Rows::keeps).
    fn keeps(&self, table: usize) -> bool;

    /// Writes one row; answers why the database refuses it, if it does: then nothing is written.
    fn offer(&mut self, table: usize, row: &RowWrite) -> Result<Option<Reject>, E>;

    /// Writes rows; fails where the database refuses one.
    fn write(&mut self, table: usize, rows: &[RowWrite]) -> Result<(), E>;

    /// The rows as they are by now.
    fn read(&mut self, table: usize, keys: &[Key]) -> Result<Vec<RowRead>, E>;
}

struct Entry<'a> {
    share: usize,
    record: Record<'a>,
    key: Result<usize, Reject>, // the slot
    place: Place,
    decided: Decided,
}

/// Where a record lies, as its source declares.
#[derive(Clone, Copy)]
enum Place {
    Unchecked,
    There,
    /// It belongs in this partition.
    Elsewhere(i32),
}

/// A row of the batch.
#[expect(clippy::struct_excessive_bools, reason = "each is asked by itself, and each pair of them comes")]
struct Slot {
    table: usize,
    key: Key,
    /// As the database has it.
    read: Option<(i64, Vec<Value>)>,
    /// The values after the records applied since; `None` while they are as read.
    values: Option<Vec<Value>>,
    /// Records since that changed it.
    changes: i64,
    /// The database refused it: each record's write is offered as soon as it is decided.
    is_suspect: bool,
    /// Several records of the batch are about it.
    is_contested: bool,
    /// It is to be written before its next record.
    is_pending: bool,
    /// It was written before the batch was decided to its end.
    is_written: bool,
}

enum Decided {
    /// Not decided: it comes after a record that is offered again later.
    Waiting,
    Applied {
        is_changed: bool,
        /// What is bound for topics, until [`Batch::outbox`] takes it.
        notices: Vec<OutboxRow>,
        announced: i64,
        /// Bytes of the notices and of what was written into stores.
        bytes: usize,
        magnitude: Option<f64>,
        threshold: Option<f64>,
    },
    Skipped(String),
    Dead(Reject),
}

/// Most bytes that one record has for the outbox, whose rows are inserted in one statement; without rows it is what one
/// transaction holds at least.
pub(crate) const RECORD_BYTES: usize = 128 << 20;
/// Longest value of which no size is too large for the database.
const VALUE_BYTES: usize = 1 << 20;
/// Records between two looks at the clock, at most: it is looked at sooner where a batch has just begun.
const LOOK: usize = 50;

/// When a batch has decided enough. The rest of it waits for the next one: a transaction must end long before the database
/// ends it, and its outbox is one statement.
pub(crate) struct Enough<'a> {
    clock: &'a dyn Clock,
    until: Duration,
    bytes_left: usize,
    step: usize,
    look_in: usize,
}

impl<'a> Enough<'a> {
    /// Some time from now, or once the outbox's rows have so many bytes.
    pub(crate) fn new(clock: &'a dyn Clock, within: Duration, bytes: usize) -> Self {
        Self { clock, until: clock.elapsed() + within, bytes_left: bytes, step: 1, look_in: 1 }
    }

    /// Whether it is enough with a record of so many bytes for the outbox.
    fn with(&mut self, bytes: usize) -> bool {
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.look_in = self.look_in.saturating_sub(1);
        if self.look_in > 0 {
            return self.bytes_left == 0;
        }
        self.step = (2 * self.step).min(LOOK);
        self.look_in = self.step;
        self.bytes_left == 0 || self.clock.elapsed() >= self.until
    }
}

/// How far a share came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    /// Records decided, from the first one on.
    pub(crate) records: usize,
    /// Why it stopped before its end.
    pub(crate) retry: Option<String>,
    /// Why its partition halts in front of the next record.
    pub(crate) astray: Option<String>,
    pub(crate) counts: Counts,
    pub(crate) held: Held,
}

impl Share<'_> {
    /// Holds a record against the source's declaration.
    fn place(&self, record: &Record<'_>) -> Result<Place, Reject> {
        let Some(declared) = self.declared else { return Ok(Place::Unchecked) };
        let expected = declared.place(record.key)?;
        Ok(if expected == self.source.partition.0 { Place::There } else { Place::Elsewhere(expected) })
    }

    /// The record as it is noted.
    fn in_hand(&self, record: &Record<'_>) -> InHand {
        InHand { source: self.number, partition: self.source.partition, offset: record.offset }
    }

    /// Why the partition halts in front of this record, if it does.
    fn astray(&self, entry: &Entry<'_>) -> Option<String> {
        let (Place::Elsewhere(expected), Some(declared)) = (entry.place, self.declared) else { return None };
        let is_counted_only = declared.policy() == OnViolation::Warn;
        (!is_counted_only).then(|| declared.violation(entry.record.offset, expected))
    }
}

impl Held {
    fn note(&mut self, entry: &Entry<'_>) {
        match entry.place {
            Place::Unchecked => {}
            Place::There => {
                self.there.0 += 1;
                self.there.1 += entry.record.bytes() as u64;
            }
            Place::Elsewhere(expected) => self.elsewhere.push((entry.record.offset, expected)),
        }
    }
}

impl<'a> Batch<'a> {
    /// Parses the keys. Sorted once, since rows are read, found and written in key order.
    pub(crate) fn new(shares: &'a [Share<'a>], terms: &'a Terms<'a>) -> Self {
        let records = shares.iter().map(|share| share.records.len()).sum();
        let mut batch = Self {
            shares,
            terms,
            entries: Vec::with_capacity(records),
            slots: Vec::with_capacity(records),
            pending: Vec::new(),
        };
        let mut places: Vec<(usize, Key, usize)> = Vec::with_capacity(records);
        for (number, share) in shares.iter().enumerate() {
            let key_type = share.step.table().table.key_type;
            let mut reject = share.reject;
            for record in &share.records {
                let mut place = Place::Unchecked;
                let key = reject.take().map_or(Ok(()), |reject| Err(reject.clone()));
                let key =
                    key.and_then(|()| if share.is_timed { terms.horizon.check(record.timestamp) } else { Ok(()) });
                let key = key.and_then(|()| batch.check_size(record));
                let at = share.in_hand(record);
                let key = key.and_then(|()| terms.hand.check(at));
                let key = key.and_then(|()| {
                    if share.declared.is_some() {
                        place = terms.hand.hold(at, || share.place(record))?; // by a hash of the pipeline's own
                    }
                    key_type.parse(record.key)
                });
                let key = key.map(|key| places.push((share.table, key, batch.entries.len())));
                let key = key.map(|()| usize::MAX); // until the slots are numbered
                batch.entries.push(Entry { share: number, record: *record, key, place, decided: Decided::Waiting });
            }
        }
        places.sort_unstable();
        for (table, key, entry) in places {
            match batch.slots.last_mut().filter(|slot| slot.table == table && slot.key == key) {
                Some(slot) => slot.is_contested = true,
                None => batch.slots.push(Slot::new(table, key)),
            }
            if let Some(entry) = batch.entries.get_mut(entry) {
                entry.key = Ok(batch.slots.len() - 1);
            }
        }
        batch
    }

    fn check_size(&self, record: &Record<'_>) -> Result<(), Reject> {
        let bytes = record.value.map_or(0, <[u8]>::len);
        if bytes <= self.terms.record_bytes_max {
            return Ok(());
        }
        let limit = self.terms.record_bytes_max;
        Err(Reject::dead_letter(
            "too-large",
            format!("the value has {bytes} bytes, more than engine.record_bytes_max = {limit}"),
        ))
    }

    fn slot(&self, table: usize, key: &Key) -> Option<usize> {
        self.slots.binary_search_by(|slot| slot.table.cmp(&table).then_with(|| slot.key.cmp(key))).ok()
    }

    /// The ids to read, by table, sorted, each once.
    pub(crate) fn keys(&self) -> Vec<(usize, Vec<Key>)> {
        let tables = self.slots.chunk_by(|one, next| one.table == next.table);
        let of = |slots: &[Slot]| Some((slots.first()?.table, slots.iter().map(|slot| slot.key.clone()).collect()));
        tables.filter_map(of).collect()
    }

    /// Takes the rows that were found.
    pub(crate) fn take_rows(&mut self, table: usize, rows: Vec<RowRead>) {
        let mut next = self.slots.partition_point(|slot| slot.table < table);
        for row in rows {
            // Mostly they come in the order they were asked for.
            let is_next = self.slots.get(next).is_some_and(|slot| slot.table == table && slot.key == row.key);
            let found = if is_next { Some(next) } else { self.slot(table, &row.key) };
            let Some(slot) = found else { continue };
            next = slot + 1;
            if let Some(slot) = self.slots.get_mut(slot) {
                slot.read = Some((row.version, row.values));
            }
        }
    }

    /// Marks the row of `key`, which may not be in the batch, as a suspect.
    pub(crate) fn suspect(&mut self, table: usize, key: &Key) {
        if let Some(slot) = self.slot(table, key).and_then(|slot| self.slots.get_mut(slot)) {
            slot.is_suspect = true;
        }
    }

    /// Whether a refusal of the row of `key` is found out by deciding the whole batch again: its records are decided with
    /// stores, or some of them stand in the database already.
    pub(crate) fn begins_anew(&self, table: usize, key: &Key) -> bool {
        self.slot(table, key).and_then(|slot| self.slots.get(slot)).is_some_and(|slot| slot.is_written)
            || self.shares.iter().any(|share| share.table == table && share.is_stateful)
    }

    /// Runs the step over every record, in order, until it is enough. `rows` is offered each change of a suspect row, and
    /// changes of others that have a next record. Answers whether records were left over.
    ///
    /// # Errors
    /// What `rows` failed with, or a store: nothing of the batch may be committed.
    pub(crate) fn decide<E: From<StoreTrouble>>(
        &mut self,
        stores: &mut TaskStores,
        mut enough: Enough<'_>,
        rows: &mut impl Writer<E>,
    ) -> Result<bool, E> {
        let mut stopped: Vec<bool> = vec![false; self.shares.len()];
        for number in 0..self.entries.len() {
            let Some(stop) = self.entries.get(number).and_then(|entry| stopped.get_mut(entry.share)) else { continue };
            if *stop {
                continue;
            }
            *stop = self.decide_entry(number, stores, rows)?;
            let bytes = match self.entries.get(number).map(|entry| &entry.decided) {
                Some(Decided::Applied { bytes, .. }) => *bytes,
                _ => 0,
            };
            if enough.with(bytes) {
                return Ok(number + 1 < self.entries.len());
            }
        }
        Ok(false)
    }

    /// Decides one record; answers whether its share must stop here.
    fn decide_entry<E: From<StoreTrouble>>(
        &mut self,
        number: usize,
        stores: &mut TaskStores,
        rows: &mut impl Writer<E>,
    ) -> Result<bool, E> {
        let slot = self.entries.get(number).and_then(|entry| self.slots.get(*entry.key.as_ref().ok()?));
        if slot.is_some_and(|slot| slot.is_pending) {
            self.write_pending(rows)?;
        }
        let Self { shares, terms, entries, slots, pending } = self;
        let before = number.checked_sub(1).and_then(|before| entries.get(before)).map(|entry| entry.share);
        let Some(entry) = entries.get_mut(number) else { return Ok(false) };
        let Some(share) = shares.get(entry.share) else { return Ok(false) };
        if share.astray(entry).is_some() {
            return Ok(true);
        }
        let attempts = if before == Some(entry.share) { 0 } else { share.attempts };
        let decided = match &entry.key {
            Err(reject) => Err(reject.clone()),
            Ok(number) => match slots.get_mut(*number) {
                Some(slot) => {
                    let keyed = if share.is_stateful { stores.get_mut(&share.task) } else { None };
                    let decided = decide_record(terms, share, &entry.record, slot, keyed, rows)?;
                    if slot.is_contested && !slot.is_pending && slot.must_be_written(rows) {
                        slot.is_pending = true;
                        pending.push(*number);
                    }
                    decided
                }
                None => Err(Reject::dead_letter("bad-key", "the key has no slot")),
            },
        };
        entry.decided = match decided {
            Ok(decided) => decided,
            Err(Reject::Skip { code }) => Decided::Skipped(code.into_owned()),
            Err(Reject::Retry { code, .. }) if attempts < terms.retry_attempts => {
                entry.decided = Decided::Waiting;
                entry.key = Err(Reject::Retry { code, message: String::new() });
                return Ok(true);
            }
            Err(reject) => Decided::Dead(reject),
        };
        let at = entry.record.timestamp;
        if share.is_stateful
            && terms.horizon.allows(at)
            && let Some(keyed) = stores.get_mut(&share.task)
        {
            keyed.advance(at);
        }
        Ok(false)
    }

    /// Writes the rows that are pending, and takes them as the database has them by then.
    fn write_pending<E>(&mut self, rows: &mut impl Writer<E>) -> Result<(), E> {
        let mut pending = std::mem::take(&mut self.pending);
        pending.sort_unstable();
        let mut writes: BTreeMap<usize, Vec<RowWrite>> = BTreeMap::new();
        for slot in pending {
            let Some(slot) = self.slots.get_mut(slot) else { continue };
            slot.is_pending = false;
            if let Some(write) = slot.write() {
                writes.entry(slot.table).or_default().push(write);
                slot.is_written = true;
                slot.begin_anew();
            }
        }
        for (table, writes) in writes {
            rows.write(table, &writes)?;
            let keys: Vec<Key> = writes.into_iter().map(|write| write.key).collect();
            let found = rows.read(table, &keys)?;
            self.take_rows(table, found);
        }
        Ok(())
    }

    /// The rows to write, by table, sorted by key; those of suspects are written already. Their values are taken: a row
    /// that is refused is decided again.
    pub(crate) fn writes(&mut self) -> Vec<(usize, Vec<RowWrite>)> {
        let mut out: Vec<(usize, Vec<RowWrite>)> = Vec::new();
        let slots = self.slots.len();
        for slot in self.slots.iter_mut().filter(|slot| !slot.is_suspect) {
            let Some((from_version, to_version)) = slot.versions() else { continue };
            let Some(values) = slot.values.take() else { continue };
            let write = RowWrite { key: slot.key.clone(), from_version, to_version, values };
            if out.last().is_none_or(|(table, _)| *table != slot.table) {
                out.push((slot.table, Vec::with_capacity(slots)));
            }
            if let Some((_, writes)) = out.last_mut() {
                writes.push(write);
            }
        }
        out
    }

    /// The database refused the row of `key`, which belongs to no step with stores: decides its records again, as a
    /// suspect's. A record whose row is refused becomes a dead letter, and the row stays as it was before it. Answers
    /// whether one asks to be offered again later: nothing of the batch may be committed then.
    ///
    /// # Errors
    /// What `rows` failed with, other than a refusal.
    pub(crate) fn settle_refused<E: From<StoreTrouble>>(
        &mut self,
        table: usize,
        key: &Key,
        rows: &mut impl Writer<E>,
    ) -> Result<bool, E> {
        let Some(slot) = self.slot(table, key) else { return Ok(false) };
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.values = None;
            slot.changes = 0;
            slot.is_pending = false;
            slot.is_suspect = true;
        }
        for number in 0..self.entries.len() {
            let is_due = self.entries.get(number).is_some_and(|entry| {
                entry.key.as_ref().ok() == Some(&slot) && !matches!(entry.decided, Decided::Waiting)
            });
            if is_due && self.decide_entry(number, &mut TaskStores::new(), rows)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The ids that one share's records are about.
    pub(crate) fn keys_of(&self, share: usize) -> Vec<Key> {
        let slots =
            self.entries.iter().filter(|entry| entry.share == share).filter_map(|entry| entry.key.as_ref().ok());
        slots.filter_map(|slot| Some(self.slots.get(*slot)?.key.clone())).collect()
    }

    /// How far each share came, in the order of the shares: up to its first record that is not decided.
    pub(crate) fn reached(&self) -> Vec<Reached> {
        let mut open: Vec<bool> = vec![true; self.shares.len()];
        let mut out: Vec<Reached> = self.shares.iter().map(|_| Reached::default()).collect();
        for entry in &self.entries {
            let (Some(reached), Some(open)) = (out.get_mut(entry.share), open.get_mut(entry.share)) else { continue };
            let Some(share) = self.shares.get(entry.share).filter(|_| *open) else { continue };
            let counts = &mut reached.counts;
            match &entry.decided {
                Decided::Waiting => {
                    *open = false;
                    reached.astray = share.astray(entry);
                    if reached.astray.is_some() {
                        reached.held.note(entry);
                    } else if let Err(Reject::Retry { code, .. }) = &entry.key {
                        reached.retry = Some(code.clone().into_owned());
                    }
                    continue;
                }
                Decided::Applied { is_changed, announced, .. } => {
                    counts.row_changes += i64::from(*is_changed);
                    counts.announced += announced;
                }
                Decided::Skipped(_) => counts.skipped += 1,
                Decided::Dead(_) => counts.dead_letters += 1,
            }
            counts.records += 1;
            reached.records += 1;
            reached.held.note(entry);
        }
        out
    }

    /// What is bound for topics, in publication order within each source partition, with the inputs' timestamps.
    pub(crate) fn outbox(&mut self) -> (Vec<OutboxRow>, Vec<Timestamp>) {
        let mut rows = Vec::new();
        let mut timestamps = Vec::new();
        for entry in &mut self.entries {
            let Some(share) = self.shares.get(entry.share) else { continue };
            match &mut entry.decided {
                Decided::Applied { notices, .. } => rows.append(notices),
                Decided::Dead(reject) => {
                    let Terms { pipeline, message_bytes_max, now, .. } = self.terms;
                    let (source, incarnation) = (share.source, share.incarnation);
                    rows.push(dead_letter(
                        pipeline,
                        message_bytes_max,
                        source,
                        incarnation,
                        &entry.record,
                        reject,
                        *now,
                    ));
                }
                Decided::Waiting | Decided::Skipped(_) => {}
            }
            timestamps.resize(rows.len(), entry.record.timestamp);
        }
        (rows, timestamps)
    }

    /// The ledger's lines; empty unless verdicts are kept.
    pub(crate) fn verdicts(&self) -> Vec<VerdictRow> {
        if !self.terms.keeps_verdicts {
            return Vec::new();
        }
        let line = |entry: &Entry<'_>| {
            let share = self.shares.get(entry.share)?;
            let (outcome, magnitude, threshold, note) = match &entry.decided {
                Decided::Waiting => return None,
                Decided::Applied { is_changed: true, magnitude, threshold, .. } => {
                    ("updated", *magnitude, *threshold, None)
                }
                Decided::Applied { magnitude, threshold, .. } => ("unchanged", *magnitude, *threshold, None),
                Decided::Skipped(code) => ("skipped", None, None, Some(code.clone())),
                Decided::Dead(reject) => ("dead-letter", None, None, Some(reject.code().to_owned())),
            };
            let (source, source_offset) = (share.source.clone(), entry.record.offset);
            // A code of the algorithm's own may hold what no text column does.
            let note = note.map(|note| note.replace('\0', "\u{fffd}"));
            Some(VerdictRow { source, source_offset, outcome, magnitude, threshold, note })
        };
        self.entries.iter().filter_map(line).collect()
    }
}

impl Slot {
    const fn new(table: usize, key: Key) -> Self {
        Self {
            table,
            key,
            read: None,
            values: None,
            changes: 0,
            is_suspect: false,
            is_contested: false,
            is_pending: false,
            is_written: false,
        }
    }

    /// What was changed is in the database: it is as it will be read.
    fn begin_anew(&mut self) {
        (self.read, self.values, self.changes) = (None, None, 0);
    }

    /// Whether the database may refuse what has become of it, or make something else of it.
    fn must_be_written<E>(&self, rows: &impl Writer<E>) -> bool {
        let Some(values) = self.values.as_ref().filter(|_| !self.is_suspect) else { return false };
        !rows.keeps(self.table) || !values.iter().all(is_kept)
    }

    /// The row as it is to be written; `None` when it need not be.
    fn write(&self) -> Option<RowWrite> {
        let (from_version, to_version) = self.versions()?;
        Some(RowWrite { key: self.key.clone(), from_version, to_version, values: self.values.clone()? })
    }

    /// The versions before and after, where there is something to write.
    fn versions(&self) -> Option<(i64, i64)> {
        let (version, read) = self.read.as_ref()?;
        let values = self.values.as_ref()?;
        // Records that undo each other leave the row as it was; it is written all the same, since its version moved.
        if self.changes == 0 && values == read {
            return None;
        }
        Some((*version, version + self.changes))
    }
}

/// Whether every database that holds values of this kind holds this one.
fn is_kept(value: &Value) -> bool {
    match value {
        Value::Text(text) | Value::Json(text) => text.len() <= VALUE_BYTES && !text.as_bytes().contains(&0),
        Value::Bytes(bytes) => bytes.len() <= VALUE_BYTES,
        _ => true,
    }
}

/// Decides one record with its row and its task's stores: all of what it did is kept, or nothing.
fn decide_record<E: From<StoreTrouble>>(
    terms: &Terms<'_>,
    share: &Share<'_>,
    record: &Record<'_>,
    slot: &mut Slot,
    keyed: Option<&mut Keyed>,
    rows: &mut impl Writer<E>,
) -> Result<Result<Decided, Reject>, E> {
    let before = slot.is_suspect.then(|| (slot.values.clone(), slot.changes));
    let mut access = keyed.map_or_else(|| Access::none(record.timestamp), |keyed| keyed.open(record.timestamp));
    let mut decided = terms.hand.hold(share.in_hand(record), || apply(terms, share, record, slot, &mut access));
    if let (Some(before), Ok(Decided::Applied { is_changed: true, .. })) = (before, &decided)
        && let Some(write) = slot.write()
    {
        match rows.offer(slot.table, &write)? {
            None if slot.is_contested => {
                slot.begin_anew();
                let found = rows.read(slot.table, std::slice::from_ref(&slot.key))?.pop();
                slot.read = found.map(|row| (row.version, row.values));
            }
            None => {}
            Some(reject) => {
                (slot.values, slot.changes) = before;
                decided = Err(reject);
            }
        }
    }
    access.end(decided.is_ok()).map_err(|trouble| StoreTrouble { task: share.task, trouble })?;
    Ok(decided)
}

/// Those values of a row that a step has columns for, in its order.
fn own_columns(columns: &[usize], row: &[Value]) -> Vec<Value> {
    columns.iter().filter_map(|place| row.get(*place).cloned()).collect()
}

/// A row with what a step made of its columns.
fn with_columns(columns: &[usize], mut row: Vec<Value>, values: Vec<Value>) -> Vec<Value> {
    for (place, value) in columns.iter().zip(values) {
        if let Some(cell) = row.get_mut(*place) {
            *cell = value;
        }
    }
    row
}

fn apply(
    terms: &Terms<'_>,
    share: &Share<'_>,
    record: &Record<'_>,
    slot: &mut Slot,
    access: &mut Access<'_>,
) -> Result<Decided, Reject> {
    let Some((version, read)) = &slot.read else {
        return Err(match terms.missing_row {
            MissingRow::Skip => Reject::skip("missing-row"),
            MissingRow::DeadLetter => Reject::dead_letter("missing-row", format!("no row with the id {}", slot.key)),
            MissingRow::Retry => Reject::retry("missing-row", format!("no row with the id {}", slot.key)),
        });
    };
    let mut context = Context {
        topic: &share.source.topic,
        partition: share.source.partition,
        offset: record.offset,
        timestamp: record.timestamp,
        now: terms.now,
        key: &slot.key,
        state: Some(&mut *access as &mut dyn StateAccess),
    };
    let row = slot.values.as_ref().unwrap_or(read);
    let applied = match share.columns {
        None => in_net(|| share.step.apply(record.value, row, &mut context))?,
        Some(columns) => in_net(|| share.step.apply(record.value, &own_columns(columns, row), &mut context))?,
    };
    if let Some(reject) = access.refusal() {
        return Err(reject);
    }
    let is_changed = applied.row.is_some();
    let Some(version) = version.checked_add(slot.changes + i64::from(is_changed)) else {
        return Err(Reject::dead_letter(
            "bad-row",
            format!("the version {version} is the last that the column can hold"),
        ));
    };
    let announced = i64::try_from(applied.emissions.len()).unwrap_or(i64::MAX);
    let mut notices = Vec::with_capacity(applied.emissions.len());
    // Changelog records are rows of the outbox as well; several of one key become one, which is not known here.
    let mut all_bytes = access.written_bytes();
    for (seq, emission) in applied.emissions.into_iter().enumerate() {
        let version = share.is_versioned.then_some(version);
        let row = notice(share.source, share.incarnation, record, seq, emission, version, terms.now);
        let bytes = bytes_of(terms.pipeline, &row);
        if let Some(limit) = terms.message_bytes_max.get(&row.destination).filter(|limit| bytes > **limit) {
            let message = format!("a notice of {bytes} bytes for {}, which takes {limit}", row.destination);
            return Err(Reject::dead_letter("too-large", message));
        }
        all_bytes += bytes;
        notices.push(row);
    }
    if all_bytes > RECORD_BYTES {
        let message = format!("notices and values of stores of {all_bytes} bytes in all, more than {RECORD_BYTES}");
        return Err(Reject::dead_letter("too-large", message));
    }
    if let Some(values) = applied.row {
        let mut values = match share.columns {
            None => values,
            Some(columns) => with_columns(columns, row.clone(), values),
        };
        if let Some(at) = share.key_at
            && let (Some(cell), Some(key)) = (values.get_mut(at), row.get(at))
        {
            key.clone_into(cell);
        }
        if let Some(cell) = share.version_at.and_then(|at| values.get_mut(at)) {
            *cell = Value::I64(version);
        }
        slot.values = Some(values);
        slot.changes += 1;
    }
    Ok(Decided::Applied {
        is_changed,
        notices,
        announced,
        bytes: all_bytes,
        magnitude: applied.magnitude,
        threshold: applied.threshold,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::algorithm::Algorithm;
    use crate::flow::record::{Offset, Partition};
    use crate::flow::topology::{StepKind, Topology};
    use serde::{Deserialize, Serialize};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Default)]
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp(0)
        }

        fn elapsed(&self) -> Duration {
            Duration::from_millis(self.0.load(Ordering::Relaxed))
        }

        fn sleep(&self, _: Duration) {}
    }

    #[derive(Serialize, Deserialize)]
    struct Count {
        n: i64,
    }

    /// Takes 100 ms a record.
    struct Slow(Arc<Hand>);

    impl Algorithm for Slow {
        type Event = i64;
        type Row = Count;
        type Notices = Option<String>;

        fn apply(&self, bytes: i64, row: &mut Count, _: &mut Context<'_>) -> Result<Option<String>, Reject> {
            self.0.0.fetch_add(100, Ordering::Relaxed);
            row.n += 1;
            Ok(Some("x".repeat(usize::try_from(bytes).unwrap())))
        }
    }

    /// A table that keeps what is written, or rounds it to tens; and what was written before the end.
    struct Early {
        keeps: bool,
        written: Vec<Vec<RowWrite>>,
    }

    impl Writer<StoreTrouble> for Early {
        fn keeps(&self, _: usize) -> bool {
            self.keeps
        }

        fn offer(&mut self, _: usize, _: &RowWrite) -> Result<Option<Reject>, StoreTrouble> {
            panic!("no suspects")
        }

        fn write(&mut self, _: usize, rows: &[RowWrite]) -> Result<(), StoreTrouble> {
            self.written.push(rows.to_vec());
            Ok(())
        }

        fn read(&mut self, _: usize, keys: &[Key]) -> Result<Vec<RowRead>, StoreTrouble> {
            let written = self.written.last().unwrap();
            assert!(written.iter().map(|row| &row.key).eq(keys));
            let round = |row: &RowWrite| match row.values[..] {
                [Value::I64(n)] => {
                    RowRead { key: row.key.clone(), version: row.to_version, values: vec![Value::I64(n / 10 * 10)] }
                }
                _ => panic!(),
            };
            Ok(written.iter().map(round).collect())
        }
    }

    fn topology(clock: &Arc<Hand>) -> Topology {
        let mut topology = Topology::new("p");
        topology.source("t").update("rows", Slow(Arc::clone(clock))).to("told");
        topology
    }

    fn record<'a>(n: i64, key: &'a [u8], value: &'a [u8]) -> Record<'a> {
        Record { offset: Offset(n), timestamp: Timestamp(0), key: Some(key), value: Some(value), headers: &[] }
    }

    fn share<'a>(topology: &'a Topology, source: &'a TopicPartition, records: Vec<Record<'a>>) -> Share<'a> {
        let StepKind::Rows(step) = &topology.sub_topologies()[0].step else { panic!() };
        Share {
            task: TaskId { sub_topology: 0, partition: Partition(0) },
            source,
            number: 0,
            incarnation: 0,
            step: &**step,
            table: 0,
            columns: None,
            attempts: 0,
            reject: None,
            is_versioned: true,
            is_stateful: false,
            is_timed: false,
            key_at: None,
            version_at: None,
            declared: None,
            records,
        }
    }

    fn terms<'a>(message_bytes_max: &'a HashMap<TopicName, usize>, hand: &'a super::Hand) -> Terms<'a> {
        Terms {
            pipeline: "p",
            now: Timestamp(0),
            horizon: Horizon::new(Timestamp(0), Duration::ZERO),
            missing_row: MissingRow::DeadLetter,
            retry_attempts: 1,
            record_bytes_max: 100,
            message_bytes_max,
            keeps_verdicts: true,
            hand,
        }
    }

    fn place(n: i32) -> TopicPartition {
        TopicPartition::new(TopicName::parse("t").unwrap(), Partition(n))
    }

    fn row(key: i64, n: i64) -> RowRead {
        RowRead { key: Key::I64(key), version: 7, values: vec![Value::I64(n)] }
    }

    /// How far two inputs of 20 records come within so much time and so many bytes of notices, and whether that is all.
    fn decided(value: &[u8], within_ms: u64, bytes: usize) -> (Vec<usize>, bool) {
        let clock = Arc::new(Hand::default());
        let (topology, places, limits) = (topology(&clock), [place(0), place(1)], HashMap::new());
        let records = || (0..20).map(|n| record(n, b"1", value)).collect();
        let shares: Vec<Share<'_>> = places.iter().map(|source| share(&topology, source, records())).collect();
        let hand = super::Hand::none();
        let terms = terms(&limits, &hand);
        let mut batch = Batch::new(&shares, &terms);
        batch.take_rows(0, vec![row(1, 0)]);
        let enough = Enough::new(&*clock, Duration::from_millis(within_ms), bytes);
        let mut rows = Early { keeps: true, written: Vec::new() };
        let is_cut = batch.decide(&mut TaskStores::new(), enough, &mut rows).ok().unwrap();
        assert!(rows.written.is_empty(), "written once, at the end");
        let reached = batch.reached();
        let all: usize = reached.iter().map(|reached| reached.records).sum();
        assert!(reached.iter().all(|reached| reached.retry.is_none()));
        assert_eq!((batch.outbox().0.len(), batch.verdicts().len()), (all, all), "what is left over leaves no trace");
        let writes = batch.writes();
        assert_eq!(writes[0].1[0].values, [Value::I64(i64::try_from(all).unwrap())]);
        (reached.iter().map(|reached| reached.records).collect(), is_cut)
    }

    #[test]
    fn a_batch_ends_by_time_or_by_the_bytes_of_its_notices_with_what_it_has_decided() {
        assert_eq!(decided(b"1", 600_000, usize::MAX), (vec![20, 20], false));
        assert_eq!(decided(b"1", 500, usize::MAX), (vec![7, 0], true), "the clock is looked at after 1, 3, 7 records");
        assert_eq!(decided(b"1", 3_000, usize::MAX), (vec![20, 11], true));
        assert_eq!(decided(b"1", 0, usize::MAX), (vec![1, 0], true), "one record at least");
        assert_eq!(decided(b"1000", 600_000, 4_000), (vec![3, 0], true));
        assert_eq!(decided(b"1000", 600_000, 1), (vec![1, 0], true));
    }

    #[test]
    fn rows_with_a_next_record_are_written_together_in_front_of_it_and_no_others() {
        let clock = Arc::new(Hand::default());
        let (topology, source, limits) = (topology(&clock), place(0), HashMap::new());
        let keys: [&[u8]; 8] = [b"1", b"2", b"3", b"4", b"2", b"3", b"3", b"5"];
        let records = (0..).zip(keys).map(|(n, key)| record(n, key, b"1")).collect();
        let hand = super::Hand::none();
        let (shares, terms) = ([share(&topology, &source, records)], terms(&limits, &hand));
        let mut batch = Batch::new(&shares, &terms);
        batch.take_rows(0, (1..6).map(|key| row(key, 15)).collect());
        let mut rows = Early { keeps: false, written: Vec::new() };
        let enough = Enough::new(&*clock, Duration::from_mins(10), usize::MAX);
        assert!(!batch.decide(&mut TaskStores::new(), enough, &mut rows).ok().unwrap());
        let brief = |rows: &[RowWrite]| -> Vec<(Key, i64, i64, Value)> {
            rows.iter().map(|row| (row.key.clone(), row.from_version, row.to_version, row.values[0].clone())).collect()
        };
        let of = |key, version, n| (Key::I64(key), version, version + 1, Value::I64(n));
        let early: Vec<_> = rows.written.iter().map(|rows| brief(rows)).collect();
        assert_eq!(early, [vec![of(2, 7, 16), of(3, 7, 16)], vec![of(2, 8, 11), of(3, 8, 11)]]);
        let last = [of(1, 7, 16), of(3, 9, 11), of(4, 7, 16), of(5, 7, 16)];
        assert_eq!(brief(&batch.writes()[0].1), last);
    }
}
