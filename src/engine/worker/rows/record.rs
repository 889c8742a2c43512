//! The decision of one record: its step is applied to its row and to its task's stores.

use crate::engine::outbound::message::{bytes_of, notice};
use crate::engine::state::access::Access;
use crate::engine::state::stores::Keyed;
use crate::engine::worker::rows::entry::Decided;
use crate::engine::worker::rows::share::Share;
use crate::engine::worker::rows::slot::{Made, Slot};
use crate::engine::worker::rows::terms::{StoreTrouble, Terms};
use crate::engine::worker::rows::writer::Writer;
use crate::flow::algorithm::Context;
use crate::flow::effect::{Reject, RowChange};
use crate::flow::identity::span_of;
use crate::flow::key::Key;
use crate::flow::net::in_net;
use crate::flow::record::Record;
use crate::flow::row::Value;
use crate::flow::step::MISSING_ROW;
use crate::flow::store::StateAccess;
use crate::flow::timer::Timer;
use crate::ports::note::InHand;
use crate::settings::engine::MissingRow;

/// Most bytes that one record has for the outbox, whose rows are inserted in one statement; without rows, the most that
/// one record has for its transaction.
pub(crate) const RECORD_BYTES: usize = 128 << 20;

/// One run of a step: over a record, or over a timer behind one.
pub(super) struct Run<'a> {
    pub(super) record: &'a Record<'a>,
    /// The timer; then the record is its key and its time.
    pub(super) timer: Option<&'a Timer>,
    /// Its name in the note for crashes.
    pub(super) in_hand: InHand,
    /// The number of its first notice.
    pub(super) first: usize,
}

impl<'a> Run<'a> {
    /// That over a record.
    pub(super) const fn of(record: &'a Record<'a>, in_hand: InHand) -> Self {
        Self { record, timer: None, in_hand, first: 0 }
    }
}

/// Decides one run with its row and its task's stores: all of its effects are kept, or none.
pub(super) fn decide_run<E: From<StoreTrouble>>(
    terms: &Terms<'_>,
    share: &Share<'_>,
    run: &Run<'_>,
    slot: &mut Slot,
    keyed: Option<&mut Keyed>,
    rows: &mut impl Writer<E>,
) -> Result<Result<Decided, Reject>, E> {
    let before = slot.is_suspect.then(|| slot.made.clone());
    let at = run.record.timestamp;
    let mut access = match keyed {
        None => Access::none(at),
        Some(keyed) if run.timer.is_some() => keyed.open_beside(at),
        Some(keyed) => keyed.open(at),
    };
    let mut decided = terms.hand.hold(run.in_hand, || apply(terms, share, run, slot, &mut access));
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
                slot.made = before;
                decided = Err(reject);
            }
        }
    }
    access.end(decided.is_ok()).map_err(|trouble| StoreTrouble { task: share.task, trouble })?;
    Ok(decided)
}

/// Drops what a timer was set for that has failed, in the stores of its task, and answers the bytes that were written there.
pub(super) fn give_up<E: From<StoreTrouble>>(
    terms: &Terms<'_>,
    share: &Share<'_>,
    run: &Run<'_>,
    keyed: &mut Keyed,
) -> Result<usize, E> {
    let (record, key_type) = (run.record, share.step.table().table.key_type);
    let Some((timer, key)) = run.timer.zip(key_type.parse(record.key).ok()) else { return Ok(0) };
    let mut access = keyed.open_beside(record.timestamp);
    let drop = || share.step.give_up(timer, &mut context(terms, share, record, &key, &mut access));
    let dropped = terms.hand.hold(run.in_hand, || in_net(drop));
    let is_whole = dropped.is_ok() && access.refusal().is_none();
    let bytes = if is_whole { access.written_bytes() } else { 0 };
    access.end(is_whole).map_err(|trouble| StoreTrouble { task: share.task, trouble })?;
    Ok(bytes)
}

/// The span of the window that a timer was set for, before what it was set for is dropped; `None` where it was set for none, or
/// it cannot be found out.
pub(super) fn window_of(terms: &Terms<'_>, share: &Share<'_>, run: &Run<'_>, keyed: &mut Keyed) -> Option<String> {
    let (record, key_type) = (run.record, share.step.table().table.key_type);
    let (timer, key) = run.timer.zip(key_type.parse(record.key).ok())?;
    let mut access = keyed.open_beside(record.timestamp);
    let look = || Ok(share.step.window(timer, &mut context(terms, share, record, &key, &mut access)));
    let found = terms.hand.hold(run.in_hand, || in_net(look));
    let _ = access.end(false); // a store that cannot be read is told by what is run next
    found.ok().flatten().map(|(start_ms, end_ms)| span_of(start_ms, end_ms))
}

/// Keeps one record of a table topic in its store, under `key`: all of it, or nothing.
pub(super) fn keep_record<E: From<StoreTrouble>>(
    terms: &Terms<'_>,
    share: &Share<'_>,
    record: &Record<'_>,
    key: &Key,
    keyed: Option<&mut Keyed>,
) -> Result<Result<Decided, Reject>, E> {
    let mut access = keyed.map_or_else(|| Access::none(record.timestamp), |keyed| keyed.open_beside(record.timestamp));
    let kept = terms.hand.hold(share.in_hand(record), || {
        let mut context = context(terms, share, record, key, &mut access);
        in_net(|| share.step.keep(record, &mut context))
    });
    let kept = kept.and_then(|()| access.refusal().map_or(Ok(()), Err));
    let bytes = access.written_bytes();
    access.end(kept.is_ok()).map_err(|trouble| StoreTrouble { task: share.task, trouble })?;
    let (is_changed, notices, notice_count, magnitude, threshold, is_late) = (false, Vec::new(), 0, None, None, false);
    Ok(kept.map(|()| Decided::Applied {
        is_changed,
        rise: 0,
        notices,
        notice_count,
        bytes,
        magnitude,
        threshold,
        is_late,
    }))
}

fn context<'a>(
    terms: &Terms<'a>,
    share: &Share<'a>,
    record: &Record<'a>,
    key: &'a Key,
    access: &'a mut Access<'_>,
) -> Context<'a> {
    Context {
        topic: &share.source.topic,
        partition: share.source.partition,
        offset: record.offset,
        timestamp: record.timestamp,
        headers: record.headers,
        now: terms.now,
        latest: terms.horizon.latest(),
        key,
        record_key: record.key,
        state: Some(access as &mut dyn StateAccess),
        timer: None,
    }
}

/// The values of a row for which a step has columns, in its order.
fn own_columns(columns: &[usize], row: &[Value]) -> Vec<Value> {
    columns.iter().filter_map(|place| row.get(*place).cloned()).collect()
}

/// A row with the values that a step gave its columns.
fn with_columns(columns: &[usize], mut row: Vec<Value>, values: Vec<Value>) -> Vec<Value> {
    for (place, value) in columns.iter().zip(values) {
        if let Some(cell) = row.get_mut(*place) {
            *cell = value;
        }
    }
    row
}

/// What the setting says of a record whose row is missing, where its step answers that it makes none.
fn missing(policy: MissingRow, reject: Reject) -> Reject {
    match policy {
        _ if reject.code() != MISSING_ROW => reject,
        MissingRow::Skip => Reject::skip(MISSING_ROW),
        MissingRow::Retry => Reject::retry(MISSING_ROW, reject.message()),
        MissingRow::DeadLetter | MissingRow::Insert => reject,
    }
}

fn apply(
    terms: &Terms<'_>,
    share: &Share<'_>,
    run: &Run<'_>,
    slot: &mut Slot,
    access: &mut Access<'_>,
) -> Result<Decided, Reject> {
    let record = run.record;
    let row = slot.row();
    let is_missing = row.is_none() && !share.step.table().inserts;
    let (version, row) = row.map_or((0, None), |(version, values)| (version, Some(values)));
    let mut context = context(terms, share, record, &slot.key, access);
    let own = share.columns.zip(row).map(|(columns, row)| own_columns(columns, row));
    let seen = own.as_deref().or(row);
    let applied = in_net(|| match run.timer {
        None => share.step.apply(record, seen, &mut context),
        Some(timer) => share.step.timer(timer, seen, &mut context),
    });
    let applied = if is_missing { applied.map_err(|reject| missing(terms.missing_row, reject)) } else { applied }?;
    if let Some(reject) = access.refusal() {
        return Err(reject);
    }
    let is_changed = applied.row != RowChange::Kept;
    let before = version;
    let Some(version) = before.checked_add(i64::from(is_changed)) else {
        return Err(Reject::dead_letter(
            "bad-row",
            format!("the version {before} is the last that the column can hold"),
        ));
    };
    let notice_count = i64::try_from(applied.emissions.len()).unwrap_or(i64::MAX);
    let mut notices = Vec::with_capacity(applied.emissions.len());
    // Changelog records are rows of the outbox as well; several of one key become one, which is not known here.
    let mut all_bytes = access.written_bytes();
    for (seq, emission) in (run.first..).zip(applied.emissions) {
        let version = share.is_versioned.then_some(version);
        let row = notice(share.source, share.incarnation, record, seq, emission, version, terms.now);
        let bytes = bytes_of(terms.pipeline, &row);
        terms.limits.check(&row.destination, bytes, "a notice")?;
        all_bytes += bytes;
        notices.push(row);
    }
    if all_bytes > RECORD_BYTES {
        let message = format!("notices and values of stores of {all_bytes} bytes in all, more than {RECORD_BYTES}");
        return Err(Reject::dead_letter("too-large", message));
    }
    let rise = match applied.row {
        RowChange::Kept => 0,
        RowChange::Set(values) => {
            let mut values = match share.columns {
                None => values,
                // A step that inserts has every column of the table but for key and version, which the engine gives.
                Some(columns) => {
                    with_columns(columns, row.map_or_else(|| vec![Value::Null; share.width], <[_]>::to_vec), values)
                }
            };
            let is_changed = |at: &&usize| row.is_some_and(|row| row.get(**at) != values.get(**at));
            if let Some(at) = share.read_only.iter().find(is_changed) {
                let columns = &share.step.table().columns;
                let own = share.columns.map_or(Some(*at), |columns| columns.iter().position(|place| place == at));
                let name = own.and_then(|own| columns.get(own)).map_or("", |column| &column.name);
                let message = format!("column {name}: the database makes its value, and the algorithm has changed it");
                return Err(Reject::dead_letter("read-only", message));
            }
            for (number, at) in share.keys_at {
                if let Some(cell) = values.get_mut(*at) {
                    let kind = cell.kind();
                    let own = row.and_then(|row| row.get(*at)).cloned();
                    *cell = own.unwrap_or_else(|| slot.key.column(*number, kind));
                }
            }
            if let Some(cell) = share.version_at.and_then(|at| values.get_mut(at)) {
                *cell = Value::I64(version);
            }
            slot.made = Some(Made::Row(version, values));
            1
        }
        RowChange::Deleted => {
            slot.made = Some(Made::Gone);
            if share.is_versioned { -before } else { 1 }
        }
    };
    Ok(Decided::Applied {
        is_changed,
        rise,
        notices,
        notice_count,
        bytes: all_bytes,
        magnitude: applied.magnitude,
        threshold: applied.threshold,
        is_late: applied.is_late,
    })
}
