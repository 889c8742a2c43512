//! The decision of one record: its step is applied to its row and to its task's stores.

use crate::engine::outbound::message::{bytes_of, notice};
use crate::engine::state::access::Access;
use crate::engine::state::stores::Keyed;
use crate::engine::worker::rows::entry::Decided;
use crate::engine::worker::rows::share::Share;
use crate::engine::worker::rows::slot::Slot;
use crate::engine::worker::rows::terms::{StoreTrouble, Terms};
use crate::engine::worker::rows::writer::Writer;
use crate::flow::algorithm::Context;
use crate::flow::effect::Reject;
use crate::flow::net::in_net;
use crate::flow::record::Record;
use crate::flow::row::Value;
use crate::flow::store::StateAccess;
use crate::ports::note::InHand;
use crate::settings::engine::MissingRow;

/// Most bytes that one record has for the outbox, whose rows are inserted in one statement; without rows, the most that
/// one record has for its transaction.
pub(crate) const RECORD_BYTES: usize = 128 << 20;

/// One run of a step: over a record, or over a timer behind one.
pub(super) struct Run<'a> {
    pub(super) record: &'a Record<'a>,
    /// The timer's name; then the record is the timer's key and time.
    pub(super) timer: Option<&'a str>,
    /// Its name in the note for crashes.
    pub(super) in_hand: InHand,
    /// The number of its first notice.
    pub(super) first: usize,
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
    let before = slot.is_suspect.then(|| (slot.values.clone(), slot.changes));
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
                (slot.values, slot.changes) = before;
                decided = Err(reject);
            }
        }
    }
    access.end(decided.is_ok()).map_err(|trouble| StoreTrouble { task: share.task, trouble })?;
    Ok(decided)
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

fn apply(
    terms: &Terms<'_>,
    share: &Share<'_>,
    run: &Run<'_>,
    slot: &mut Slot,
    access: &mut Access<'_>,
) -> Result<Decided, Reject> {
    let record = run.record;
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
        headers: record.headers,
        now: terms.now,
        latest: terms.horizon.latest(),
        key: &slot.key,
        record_key: record.key,
        state: Some(&mut *access as &mut dyn StateAccess),
    };
    let row = slot.values.as_ref().unwrap_or(read);
    let own = share.columns.map(|columns| own_columns(columns, row));
    let seen = own.as_deref().unwrap_or(row);
    let applied = in_net(|| match run.timer {
        None => share.step.apply(record.value, seen, &mut context),
        Some(name) => share.step.timer(name, seen, &mut context),
    })?;
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
    let notice_count = i64::try_from(applied.emissions.len()).unwrap_or(i64::MAX);
    let mut notices = Vec::with_capacity(applied.emissions.len());
    // Changelog records are rows of the outbox as well; several of one key become one, which is not known here.
    let mut all_bytes = access.written_bytes();
    for (seq, emission) in (run.first..).zip(applied.emissions) {
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
        notice_count,
        bytes: all_bytes,
        magnitude: applied.magnitude,
        threshold: applied.threshold,
    })
}
