//! Decides a batch in memory: records, rows and stores in, row writes, outbox rows and verdicts out.
//!
//! The same id may come several times in a batch: its records are applied in offset order to one row in memory, while
//! each record's notices carry their own before and after (docs/traps.md#one-row-many-times-in-a-batch). Where the
//! table keeps every value unchanged, the row is written once. Elsewhere the next record must see the row as the
//! database stores it (a rounded number, a trigger's value), and a state that the database refuses is its own record's
//! dead letter, though a later record would cure it: such rows are written and read again before their next record, all
//! that wait for it in one statement. So it is with a row that is new, where the database has values of its own for it, and
//! with one that is deleted. New rows that are written at the end are inserted in the order of tables and keys, as rows are
//! locked: two batches that make the same ones wait for each other, and not in a circle. A row that is changed once in a batch
//! costs nothing of this.
//!
//! A row that the database refuses is a *suspect*: its records are decided one by one, each with its own write, behind the
//! changes of all records before it. So the database says of each of them what it would say of it alone, whatever it demands of
//! several rows together: a unique value, a row of another table. The refused record leaves neither row nor state behind. The
//! whole batch is decided again for that, with the suspects known.
//!
//! The records of one task are decided in the order of time over all of its inputs; those of a table topic are kept in the
//! store of the table, and those of its stream behind them in the batch see what they left there.
//!
//! A row is a table and a key, whichever step its records belong to: two steps on one table decide one after the other,
//! the second on the row that the first has left, each seeing its own columns.

use crate::engine::outbound::limits::AWAITS_LIMIT;
use crate::engine::state::stores::Keyed;
use crate::engine::task::order::merged;
use crate::engine::worker::enough::Enough;
use crate::engine::worker::rows::entry::{Decided, Entry, Meets, Place};
use crate::engine::worker::rows::fired::Fired;
use crate::engine::worker::rows::foreseen::Foreseen;
use crate::engine::worker::rows::record::{Run, decide_run, keep_record};
use crate::engine::worker::rows::share::Share;
use crate::engine::worker::rows::slot::Slot;
use crate::engine::worker::rows::terms::{StoreTrouble, TaskStores, Terms};
use crate::engine::worker::rows::writer::Writer;
use crate::flow::effect::Reject;
use crate::flow::key::Key;
use crate::flow::reading::OnUnreadable;
use crate::flow::record::Record;
use crate::ports::rows::{RowRead, RowWrite};
use crate::ports::source::TaskId;
use std::collections::{BTreeMap, BTreeSet};

/// A batch under decision.
pub(super) struct Batch<'a> {
    pub(super) shares: &'a [Share<'a>],
    pub(super) terms: &'a Terms<'a>,
    pub(super) entries: Vec<Entry<'a>>,
    pub(super) slots: Vec<Slot>, // by table, then key
    /// Slots that must be written before their next record.
    pub(super) pending: Vec<usize>,
    /// Rows that were changed since rows were last written in front of a suspect's.
    pub(super) unwritten: Vec<usize>,
    /// Timers whose rows are read beside those of the records.
    pub(super) foreseen: Vec<Foreseen>,
    /// Those that have fired.
    pub(super) fired: Fired,
}

impl<'a> Batch<'a> {
    /// Parses the keys. Sorted once, since rows are read, found and written in key order. `has_suspects`: the tasks' records follow
    /// each other in the order of time too, and not one task behind the other, since what the database says of one depends on those
    /// before it.
    pub(super) fn new(
        shares: &'a [Share<'a>],
        terms: &'a Terms<'a>,
        has_suspects: bool,
        foreseen: Vec<Foreseen>,
    ) -> Self {
        let records = shares.iter().map(|share| share.records.len()).sum();
        let mut batch = Self {
            shares,
            terms,
            entries: Vec::with_capacity(records),
            slots: Vec::with_capacity(records),
            pending: Vec::new(),
            unwritten: Vec::new(),
            foreseen,
            fired: Fired::default(),
        };
        let mut places: Vec<(usize, Key, usize)> = Vec::with_capacity(records);
        let mut records: Vec<_> = shares.iter().map(|share| (share.records.iter(), share.reject)).collect();
        for number in order_of(shares, has_suspects) {
            let (Some(share), Some((records, reject))) = (shares.get(number), records.get_mut(number)) else {
                continue;
            };
            let Some(record) = records.next() else { continue };
            let mut place = Place::Unchecked;
            let key = reject.take().map_or(Ok(()), |reject| Err(reject.clone()));
            let key = key.and_then(|()| if share.is_timed { terms.horizon.check(record.timestamp) } else { Ok(()) });
            let key = key.and_then(|()| batch.check_size(record));
            let at = share.in_hand(record);
            let key = key.and_then(|()| terms.hand.check(at));
            let key = key.and_then(|()| {
                if share.declared.is_some() {
                    place = terms.hand.hold(at, || share.place(record))?; // by a hash of the pipeline's own
                } else if let (Some((hash, count)), Some(key)) = (share.assumed, record.key) {
                    terms.looks.note(&share.source.topic, key, hash, count, share.source.partition);
                }
                share.step.table().table.key_type.parse(record.key)
            });
            let key = key.map(|key| {
                if share.is_table {
                    return Meets::Store(key);
                }
                places.push((share.table, key, batch.entries.len()));
                Meets::Row(usize::MAX) // until the slots are numbered
            });
            let decided = Decided::Waiting;
            batch.entries.push(Entry { share: number, record: *record, key, place, decided, rung: None });
        }
        batch.fired.foreseen = batch.foreseen.iter().map(|foreseen| foreseen.timers.len()).sum();
        places.extend(batch.foreseen_places().map(|(table, key)| (table, key, usize::MAX)));
        places.sort_unstable();
        let may_fire: BTreeSet<usize> = batch.tables_with_timers().collect();
        for (table, key, entry) in places {
            if let Some(slot) = batch.slots.last_mut().filter(|slot| slot.table == table && slot.key == key) {
                slot.is_contested = true;
            } else {
                let is_contested = may_fire.contains(&table);
                batch.slots.push(Slot { is_contested, ..Slot::new(table, key) });
            }
            if let Some(entry) = batch.entries.get_mut(entry) {
                entry.key = Ok(Meets::Row(batch.slots.len() - 1));
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

    pub(super) fn slot(&self, table: usize, key: &Key) -> Option<usize> {
        self.slots.binary_search_by(|slot| slot.table.cmp(&table).then_with(|| slot.key.cmp(key))).ok()
    }

    /// The ids to read, by table, sorted, each once.
    pub(super) fn keys(&self) -> Vec<(usize, Vec<Key>)> {
        let tables = self.slots.chunk_by(|one, next| one.table == next.table);
        let of = |slots: &[Slot]| Some((slots.first()?.table, slots.iter().map(|slot| slot.key.clone()).collect()));
        tables.filter_map(of).collect()
    }

    /// Takes the rows that were found.
    pub(super) fn take_rows(&mut self, table: usize, rows: Vec<RowRead>) {
        let mut next = self.slots.partition_point(|slot| slot.table < table);
        for row in rows {
            // Mostly they come in the order in which they were asked for.
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
    pub(super) fn suspect(&mut self, table: usize, key: &Key) {
        if let Some(slot) = self.slot(table, key).and_then(|slot| self.slots.get_mut(slot)) {
            slot.is_suspect = true;
        }
    }

    /// Runs the step over every record, in order, until the batch has enough. `rows` is offered each change of a
    /// suspect row, and changes of others that have a next record. Answers whether records were left over since it has; those of
    /// a task whose timers go beyond what was looked up wait for the next batch whatever its size.
    ///
    /// # Errors
    /// The error of `rows`, or of a store: nothing of the batch may be committed.
    pub(super) fn decide<E: From<StoreTrouble>>(
        &mut self,
        stores: &mut TaskStores,
        mut enough: Enough<'_>,
        rows: &mut impl Writer<E>,
    ) -> Result<bool, E> {
        let mut stopped: Vec<bool> = vec![false; self.shares.len()];
        let mut begun: BTreeSet<TaskId> = BTreeSet::new(); // of which a record of a stream was decided
        // Of each task with timers and records of streams there is something foreseen.
        let may_ring = !self.foreseen.is_empty();
        for number in 0..self.entries.len() {
            let Some(share) = self.entries.get(number).map(|entry| entry.share) else { continue };
            if stopped.get(share).is_none_or(|stop| *stop) {
                continue;
            }
            if may_ring && self.is_beyond(number, stores, &begun) {
                self.stop_task(share, &mut stopped);
                continue;
            }
            if self.decide_entry(number, stores, rows)? {
                self.stop(share, &mut stopped);
            } else if may_ring {
                // One of a table fires none.
                let own = self.shares.get(share).filter(|share| !share.is_table);
                begun.extend(own.map(|share| share.task));
                self.fired.own = rows.idled();
                self.ring(number, stores, &enough, rows)?;
                if self.entries.get(number).is_some_and(|entry| entry.rung.is_some()) {
                    enough.look();
                }
            }
            if enough.with(self.entries.get(number).map_or(0, Entry::bytes)) {
                return Ok(number + 1 < self.entries.len());
            }
        }
        Ok(false)
    }

    /// Stops all shares of the task of one.
    fn stop_task(&self, number: usize, stopped: &mut [bool]) {
        let Some(own) = self.shares.get(number) else { return };
        for (share, stop) in self.shares.iter().zip(stopped) {
            *stop |= share.task == own.task;
        }
    }

    /// Stops a share. A table's holds back the streams of its task, which would meet the value from before; so does a stream's where
    /// they would make what waits too late.
    fn stop(&self, number: usize, stopped: &mut [bool]) {
        let Some(own) = self.shares.get(number) else { return };
        for (other, (share, stop)) in self.shares.iter().zip(stopped).enumerate() {
            let is_held = own.is_table || (own.holds_streams && !share.is_table);
            *stop |= other == number || (is_held && share.task == own.task);
        }
    }

    /// Decides one record; answers whether its share must stop here.
    fn decide_entry<E: From<StoreTrouble>>(
        &mut self,
        number: usize,
        stores: &mut TaskStores,
        rows: &mut impl Writer<E>,
    ) -> Result<bool, E> {
        let shares = self.shares;
        let Some(entry) = self.entries.get(number) else { return Ok(false) };
        let Some(share) = shares.get(entry.share) else { return Ok(false) };
        let (record, slot) = (entry.record, entry.slot());
        if let Some(slot) = slot {
            self.write_in_front(slot, rows)?;
        }
        let Some(entry) = self.entries.get(number) else { return Ok(false) };
        if share.misplaced(entry).is_some() {
            return Ok(true);
        }
        let decided = match &entry.key {
            Err(reject) => Err(reject.clone()),
            Ok(Meets::Store(key)) => keep_record(self.terms, share, &record, key, stores.get_mut(&share.task))?,
            Ok(Meets::Row(slot)) => {
                let (slot, run) = (*slot, Run::of(&record, share.in_hand(&record)));
                let keyed = if share.is_stateful { stores.get_mut(&share.task) } else { None };
                self.decide_row(share, &run, slot, keyed, rows)?
            }
        };
        let (terms, attempts) = (self.terms, if share.begins_with(&record) { share.attempts } else { 0 });
        let Some(entry) = self.entries.get_mut(number) else { return Ok(false) };
        entry.decided = match decided {
            Ok(decided) => decided,
            Err(Reject::Skip { code }) => Decided::Skipped(code.into_owned()),
            Err(reject @ Reject::Unreadable { .. }) => match share.on_unreadable {
                OnUnreadable::DeadLetter => Decided::Dead(reject),
                OnUnreadable::Skip => Decided::Unreadable(reject),
                OnUnreadable::Halt => {
                    entry.decided = Decided::Waiting;
                    entry.key = Err(reject);
                    return Ok(true);
                }
            },
            Err(Reject::Retry { code, .. }) if attempts < terms.retry_attempts || code == AWAITS_LIMIT => {
                entry.decided = Decided::Waiting;
                entry.key = Err(Reject::Retry { code, message: String::new() });
                return Ok(true);
            }
            Err(reject) => Decided::Dead(reject),
        };
        let at = entry.record.timestamp;
        if share.is_stateful
            && !share.is_table
            && terms.horizon.allows(at)
            && let Some(keyed) = stores.get_mut(&share.task)
        {
            keyed.advance(at);
        }
        Ok(false)
    }

    /// Decides one run over the row of a slot.
    pub(super) fn decide_row<E: From<StoreTrouble>>(
        &mut self,
        share: &Share<'_>,
        run: &Run<'_>,
        number: usize,
        keyed: Option<&mut Keyed>,
        rows: &mut impl Writer<E>,
    ) -> Result<Result<Decided, Reject>, E> {
        let Some(slot) = self.slots.get_mut(number) else {
            return Ok(Err(Reject::dead_letter("bad-key", "the key has no slot")));
        };
        let decided = decide_run(self.terms, share, run, slot, keyed, rows)?;
        self.unwritten.push(number);
        let of_table = || self.shares.iter().filter(|share| share.table == slot.table);
        let is_whole = || of_table().all(|share| share.keys_at.is_empty() && share.read_only.is_empty());
        if slot.is_contested && !slot.is_pending && slot.must_be_written(rows, is_whole) {
            slot.is_pending = true;
            self.pending.push(number);
        }
        Ok(decided)
    }

    /// Writes a row before its next run: a suspect behind all that was changed before, any other one if it must be.
    pub(super) fn write_in_front<E>(&mut self, slot: usize, rows: &mut impl Writer<E>) -> Result<(), E> {
        let slots = match self.slots.get(slot) {
            Some(slot) if slot.is_suspect => {
                self.pending.clear();
                let unwritten = std::mem::take(&mut self.unwritten).into_iter();
                unwritten.filter(|slot| self.slots.get(*slot).is_some_and(|slot| !slot.is_suspect)).collect()
            }
            Some(slot) if slot.is_pending => std::mem::take(&mut self.pending),
            _ => return Ok(()),
        };
        self.write_early(slots, rows)
    }

    /// Writes these rows, where they are changed, and reads them back as the database stores them.
    fn write_early<E>(&mut self, mut slots: Vec<usize>, rows: &mut impl Writer<E>) -> Result<(), E> {
        slots.sort_unstable();
        let mut writes: BTreeMap<usize, Vec<RowWrite>> = BTreeMap::new();
        for slot in slots {
            let Some(slot) = self.slots.get_mut(slot) else { continue };
            slot.is_pending = false;
            if let Some(write) = slot.write() {
                writes.entry(slot.table).or_default().push(write);
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

    /// The rows to write, by table, sorted by key; those of suspects are written already. The values of the others
    /// are moved out of the batch: where one is refused, the whole batch is decided again.
    pub(super) fn writes(&mut self) -> Vec<(usize, Vec<RowWrite>)> {
        let mut out: Vec<(usize, Vec<RowWrite>)> = Vec::new();
        let slots = self.slots.len();
        for slot in self.slots.iter_mut().filter(|slot| !slot.is_suspect) {
            let Some(write) = slot.take_write() else { continue };
            if out.last().is_none_or(|(table, _)| *table != slot.table) {
                out.push((slot.table, Vec::with_capacity(slots)));
            }
            if let Some((_, writes)) = out.last_mut() {
                writes.push(write);
            }
        }
        out
    }

    /// The ids of the rows that one share's records change. A table's records fire no timers: whoever holds a timer's row holds up the
    /// stream, and not the table.
    pub(super) fn keys_of(&self, share: usize) -> Vec<Key> {
        let fires = self.shares.get(share).is_some_and(|share| !share.is_table);
        let slots = self.entries.iter().filter(|entry| entry.share == share).filter_map(Entry::slot);
        let keys = slots.filter_map(|slot| Some(self.slots.get(slot)?.key.clone()));
        keys.chain(self.foreseen_keys(share).filter(|_| fires)).collect()
    }
}

/// The order of the records of a batch, by the numbers of their shares: those of one task in the order of time, or all of them,
/// which leaves those of a task as they are.
fn order_of(shares: &[Share<'_>], is_one: bool) -> Vec<usize> {
    let mut order = Vec::with_capacity(shares.iter().map(|share| share.records.len()).sum());
    let mut first = 0;
    for together in shares.chunk_by(|one, next| is_one || one.task == next.task) {
        if let [share] = together {
            order.extend(std::iter::repeat_n(first, share.records.len()));
        } else {
            let times = |share: &Share<'_>| share.records.iter().map(|record| record.timestamp.0).collect();
            let inputs: Vec<(bool, Vec<i64>)> = together.iter().map(|share| (share.is_table, times(share))).collect();
            order.extend(merged(&inputs).into_iter().map(|number| first + number));
        }
        first += together.len();
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::outbound::limits::Limits;
    use crate::engine::protocol::event_time::Horizon;
    use crate::engine::task::in_hand;
    use crate::engine::worker::looks::Looks;
    use crate::flow::algorithm::{Algorithm, Context};
    use crate::flow::record::{Offset, Partition, Timestamp, TopicName, TopicPartition};
    use crate::flow::row::Value;
    use crate::flow::timer::{self, TURN, Timer};
    use crate::flow::topology::{StepKind, Topology};
    use crate::ports::Clock;
    use crate::ports::rows::WriteKind;
    use crate::ports::source::TaskId;
    use crate::settings::engine::MissingRow;
    use serde::{Deserialize, Serialize};
    use std::collections::HashMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

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

    /// A step that takes 100 ms a record.
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

    /// A table that keeps every value unchanged, or rounds it to tens, and the rows that were written early.
    struct Early {
        keeps: bool,
        written: Vec<Vec<RowWrite>>,
    }

    impl Writer<StoreTrouble> for Early {
        fn keeps(&self, _: usize) -> bool {
            self.keeps
        }

        fn idled(&self) -> Duration {
            Duration::ZERO
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

    fn no_limits() -> Limits {
        let clock: Arc<dyn Clock> = Arc::new(Hand::default());
        Limits::new(&clock, HashMap::new())
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
            width: 1,
            columns: None,
            attempts: 0,
            reject: None,
            is_versioned: true,
            is_table: false,
            is_stateful: false,
            may_be_late: false,
            holds_streams: false,
            is_timed: false,
            keys_at: &[],
            version_at: None,
            read_only: Vec::new(),
            declared: None,
            assumed: None,
            on_unreadable: OnUnreadable::DeadLetter,
            most_timers: TURN,
            over: &[],
            records,
        }
    }

    fn terms<'a>(limits: &'a Limits, hand: &'a in_hand::Hand) -> Terms<'a> {
        Terms {
            pipeline: "p",
            now: Timestamp(0),
            horizon: Horizon::new(Timestamp(0), Duration::ZERO),
            missing_row: MissingRow::DeadLetter,
            retry_attempts: 1,
            record_bytes_max: 100,
            limits,
            keeps_verdicts: true,
            hand,
            looks: Looks::default(),
        }
    }

    fn place(n: i32) -> TopicPartition {
        TopicPartition::new(TopicName::parse("t").unwrap(), Partition(n))
    }

    fn row(key: i64, n: i64) -> RowRead {
        RowRead { key: Key::I64(key), version: 7, values: vec![Value::I64(n)] }
    }

    /// The numbers of records that two inputs of 20 decide within the time and the bytes of notices, and whether that
    /// is all.
    fn decided(value: &[u8], within_ms: u64, bytes: usize) -> (Vec<usize>, bool) {
        let clock = Arc::new(Hand::default());
        let (topology, places, limits) = (topology(&clock), [place(0), place(1)], no_limits());
        let records = || (0..20).map(|n| record(n, b"1", value)).collect();
        let shares: Vec<Share<'_>> = places.iter().map(|source| share(&topology, source, records())).collect();
        let hand = in_hand::Hand::none();
        let terms = terms(&limits, &hand);
        let mut batch = Batch::new(&shares, &terms, false, Vec::new());
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

    /// Whoever has locked it holds up the stream alone.
    #[test]
    fn the_row_of_a_timer_is_awaited_by_the_stream_and_not_by_the_table_beside_it() {
        let clock = Arc::new(Hand::default());
        let (topology, source, limits, hand) = (topology(&clock), place(0), no_limits(), in_hand::Hand::none());
        let (key, value): (&[u8], &[u8]) = (b"1", b"1");
        let of = |is_table| Share { is_table, ..share(&topology, &source, vec![record(0, key, value)]) };
        let (shares, terms) = ([of(true), of(false)], terms(&limits, &hand));
        let timer = Timer { clock: timer::Clock::Event, at: 0, key: b"2".to_vec(), name: "due".into() };
        let foreseen = Foreseen { task: shares[0].task, timers: vec![timer], until: Timestamp(0) };
        let batch = Batch::new(&shares, &terms, false, vec![foreseen]);
        assert!(!batch.keys_of(0).contains(&Key::I64(2)));
        assert!(batch.keys_of(1).contains(&Key::I64(2)));
    }

    /// No more fire behind it than were looked for, whatever is decided of a table before.
    #[test]
    fn the_first_record_of_the_streams_does_not_wait_for_the_next_batch_behind_one_of_a_table() {
        let clock = Arc::new(Hand::default());
        let (topology, source, limits, hand) = (topology(&clock), place(0), no_limits(), in_hand::Hand::none());
        let of = |is_table, records| Share { is_table, ..share(&topology, &source, records) };
        let records = |count: i64| (0..count).map(|n| record(n, b"1", b"1")).collect();
        let (shares, terms) = ([of(true, records(1)), of(false, records(2))], terms(&limits, &hand));
        let foreseen = Foreseen { task: shares[0].task, timers: Vec::new(), until: Timestamp(-1) };
        let mut batch = Batch::new(&shares, &terms, false, vec![foreseen]);
        batch.take_rows(0, vec![row(1, 0)]);
        let mut rows = Early { keeps: true, written: Vec::new() };
        let enough = Enough::new(&*clock, Duration::from_mins(10), usize::MAX);
        assert!(!batch.decide(&mut TaskStores::new(), enough, &mut rows).ok().unwrap());
        let reached: Vec<_> = batch.reached().iter().map(|reached| reached.records).collect();
        assert_eq!(reached, [1, 1], "the second one of the stream waits");
    }

    /// In any other order two instances that make the same rows would wait for each other.
    #[test]
    fn new_rows_are_inserted_at_the_end_in_the_order_of_their_keys_where_the_table_keeps_them_as_they_are() {
        let clock = Arc::new(Hand::default());
        let mut topology = Topology::new("p");
        topology.source("t").update("rows", Slow(Arc::clone(&clock))).insert_missing(|_| Count { n: 0 }).to("told");
        let (source, limits, hand) = (place(0), no_limits(), in_hand::Hand::none());
        let keys: [&[u8]; 5] = [b"2", b"2", b"3", b"1", b"2"];
        let records = (0..).zip(keys).map(|(n, key)| record(n, key, b"1")).collect();
        let (shares, terms) = ([share(&topology, &source, records)], terms(&limits, &hand));
        let mut batch = Batch::new(&shares, &terms, false, Vec::new());
        let mut rows = Early { keeps: true, written: Vec::new() };
        let enough = Enough::new(&*clock, Duration::from_mins(10), usize::MAX);
        assert!(!batch.decide(&mut TaskStores::new(), enough, &mut rows).ok().unwrap());
        assert!(rows.written.is_empty(), "{:?}", rows.written);
        let writes = batch.writes().remove(0).1;
        let inserted: Vec<_> = writes.iter().map(|row| (row.kind, row.key.clone(), row.to_version)).collect();
        let of = |key, version| (WriteKind::Insert, Key::I64(key), version);
        assert_eq!(inserted, [of(1, 1), of(2, 3), of(3, 1)]);
    }

    #[test]
    fn rows_with_a_next_record_are_written_together_in_front_of_it_and_no_others() {
        let clock = Arc::new(Hand::default());
        let (topology, source, limits) = (topology(&clock), place(0), no_limits());
        let keys: [&[u8]; 8] = [b"1", b"2", b"3", b"4", b"2", b"3", b"3", b"5"];
        let records = (0..).zip(keys).map(|(n, key)| record(n, key, b"1")).collect();
        let hand = in_hand::Hand::none();
        let (shares, terms) = ([share(&topology, &source, records)], terms(&limits, &hand));
        let mut batch = Batch::new(&shares, &terms, false, Vec::new());
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
