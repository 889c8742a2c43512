//! Windows beside rows: what one gives out is run over the row of its key, by a timer of its own.
//!
//! An event is gathered without its row. Each pane that is to be told then waits in a store of its own, which is upgraded like
//! that of the windows; and a timer of its own, which is due at once and says why the pane was given out, runs the row's algorithm
//! over it, in the transaction of the record that the timer fires behind. Where the partition's clock closes a window, the timer
//! that does so runs over it. So a pane that is refused, is too slow or kills the process takes no event with it, and no other pane.

use crate::flow::algorithm::{Algorithm, Context};
use crate::flow::effect::{Applied, Reject};
use crate::flow::events::ReadEvent;
use crate::flow::record::{Record, Timestamp};
use crate::flow::row::Value;
use crate::flow::step::{LateTo, RowStep, Update};
use crate::flow::store::Store;
use crate::flow::table::TableSpec;
use crate::flow::timer::{At, Timer};
use crate::flow::window::algorithm::NoticeOf;
use crate::flow::window::kept::{Windows, Working, span_in};
use crate::flow::window::{InWindows, Pane, Window, Windowed};
use std::borrow::Cow;

/// Begins the names of the timers of panes that wait; their numbers follow, all with as many digits, and the pane.
const FOR_ROW: &str = "\0for-row-";
/// Ends the name of a correction's timer, with its number behind it.
const CORRECTION: &str = "correction-";

/// [`RowStep`]: events are gathered in windows, and a table's row is read and written back with what these give out.
pub(crate) struct UpdateByWindows<A: Algorithm, W: Windowed, S> {
    pub(crate) update: Update<A, ()>,
    pub(crate) windows: InWindows<W>,
    pub(crate) store: Store<Windows<W::Value>>,
    /// The panes that wait.
    pub(crate) waiting: Store<Windows<W::Value>>,
    pub(crate) events: S,
    pub(crate) late_to: Option<LateTo>,
}

impl<A, W, S> UpdateByWindows<A, W, S>
where
    A: Algorithm<Event = NoticeOf<W>>,
    W: Windowed,
{
    /// The key under which the windows of an id are kept.
    fn key<'a>(&self, bytes: Option<&'a [u8]>, context: &Context<'_>) -> Cow<'a, [u8]> {
        self.update.table.table.key_type.kept_under(bytes.unwrap_or_default(), context.key)
    }

    fn windows(&self, key: &[u8], context: &mut Context<'_>) -> Result<Windows<W::Value>, Reject> {
        Ok(context.store(&self.store)?.get(key)?.unwrap_or_default())
    }

    /// A pane as it waits for its run: the windows of a key of which there is one alone, whose clock is the time at which it was
    /// given out.
    fn pane(&self, window: &Working<W::Value>, pane: Pane, at: i64) -> Result<Waiting, Reject> {
        let Working { start_ms, end_ms, ref value, emitted, is_changed, early } = *window;
        let windows = vec![Working { start_ms, end_ms, value, emitted, is_changed, early }];
        let kind = self.windows.kind.clone();
        let kept = Windows { kind, clock_ms: Some(at), windows, idle: None, closes_ms: None, for_row: 0 };
        Ok(Waiting { pane, kept: self.waiting.encoded(&kept)? })
    }

    /// Keeps panes until their timers, which are due at `due`, run over them.
    fn wait(
        &self,
        key: &[u8],
        kept: &mut Windows<W::Value>,
        panes: impl Iterator<Item = Waiting>,
        due: i64,
        context: &mut Context<'_>,
    ) -> Result<(), Reject> {
        for Waiting { pane, kept: bytes } in panes {
            let name = format!("{FOR_ROW}{:020}-{}", kept.for_row, word(pane));
            kept.for_row += 1;
            context.set_own_timer(&name, At::Event(due))?;
            context.store(&self.waiting)?.put_encoded(place(key, &name), &bytes);
        }
        Ok(())
    }

    /// Takes the pane of a timer out of its store, or closes what it is to close and takes the first of that: the pane, the time at
    /// which it was given out, and its window.
    fn next(&self, timer: &Timer, context: &mut Context<'_>) -> Result<Option<Told<W::Value>>, Reject> {
        let key = self.key(Some(&timer.key), context);
        let one = |pane, kept: Windows<W::Value>| {
            let at = kept.clock_ms.unwrap_or(timer.at);
            kept.windows.into_iter().next().map(|window| (pane, at, window))
        };
        if timer.name.starts_with(FOR_ROW) {
            let mut waiting = context.store(&self.waiting)?;
            let place = place(&key, &timer.name);
            let kept = waiting.get(&*place)?;
            waiting.delete(&*place);
            return Ok(pane_of(&timer.name).zip(kept).and_then(|(pane, kept)| one(pane, kept)));
        }
        let (mut kept, mut closed) = (self.windows(&key, context)?, Vec::new());
        let at = context.event_time_ms();
        let mut close = |window: &Working<W::Value>, pane| closed.push(self.pane(window, pane, at));
        self.windows.close(&timer.name, &mut kept, context, &mut close)?;
        let mut closed = closed.into_iter().collect::<Result<Vec<Waiting>, Reject>>()?.into_iter();
        let first = closed.next();
        self.wait(&key, &mut kept, closed, at, context)?;
        context.store(&self.store)?.put(&*key, &kept)?;
        let Some(Waiting { pane, kept }) = first else { return Ok(None) };
        let kept = self.waiting.decode(&kept).map_err(|message| Reject::dead_letter("bad-json", message))?;
        Ok(one(pane, kept))
    }
}

/// A pane that is to wait: why it was given out, and its window as its store keeps it.
struct Waiting {
    pane: Pane,
    kept: Vec<u8>,
}

/// A pane that is run: why and when it was given out, and its window.
type Told<V> = (Pane, i64, Working<V>);

/// The key of a pane that waits.
fn place(key: &[u8], name: &str) -> Vec<u8> {
    [key, name.as_bytes()].concat()
}

/// A pane as the name of its timer ends with it.
fn word(pane: Pane) -> String {
    match pane {
        Pane::Early => "early".into(),
        Pane::Final => "final".into(),
        Pane::Correction(n) => format!("{CORRECTION}{n}"),
        Pane::Retraction => "retraction".into(),
        Pane::Withdrawal => "withdrawal".into(),
    }
}

/// The pane of a timer of this name.
fn pane_of(name: &str) -> Option<Pane> {
    let (_, word) = name.strip_prefix(FOR_ROW)?.split_once('-')?;
    match word {
        "early" => Some(Pane::Early),
        "final" => Some(Pane::Final),
        "retraction" => Some(Pane::Retraction),
        "withdrawal" => Some(Pane::Withdrawal),
        other => Some(Pane::Correction(other.strip_prefix(CORRECTION)?.parse().ok()?)),
    }
}

impl<A, W, S> RowStep for UpdateByWindows<A, W, S>
where
    A: Algorithm<Event = NoticeOf<W>>,
    W: Windowed,
    S: ReadEvent<W::Event>,
{
    fn table(&self) -> &TableSpec {
        &self.update.table
    }

    fn apply(&self, record: &Record<'_>, _: Option<&[Value]>, context: &mut Context<'_>) -> Result<Applied, Reject> {
        let event = self.events.read(record, context)?;
        let key = self.key(record.key, context);
        let mut kept = self.windows(&key, context)?;
        if let Some(late_to) = &self.late_to
            && self.windows.refuses(&event, &kept, context)
        {
            let emissions = late_to.send(record)?.emissions;
            return Ok(Applied { emissions, is_late: true, ..Applied::default() });
        }
        let (mut given_out, at) = (Vec::new(), context.event_time_ms());
        let mut give_out = |window: &Working<W::Value>, pane| given_out.push(self.pane(window, pane, at));
        self.windows.gather(&event, &mut kept, context, &mut give_out)?;
        let given_out = given_out.into_iter().collect::<Result<Vec<Waiting>, Reject>>()?;
        // By the clock, which never goes back, so that no pane overtakes one that still waits.
        let due = context.task_clock_ms().map_or(at, |clock| clock.max(at));
        self.wait(&key, &mut kept, given_out.into_iter(), due, context)?;
        context.store(&self.store)?.put(&*key, &kept)?;
        Ok(Applied::default())
    }

    fn timer(&self, timer: &Timer, row: Option<&[Value]>, context: &mut Context<'_>) -> Result<Applied, Reject> {
        let Some((pane, at, window)) = self.next(timer, context)? else { return Ok(Applied::default()) };
        let at = window.time_within(at);
        context.timestamp = Timestamp(at);
        let Working { start_ms, end_ms, value, .. } = window;
        let window = Window { key: context.key, start_ms, end_ms, pane };
        let told: Vec<NoticeOf<W>> = self.windows.algorithm.emit(&value, &window).into_iter().collect();
        if told.is_empty() {
            return Ok(Applied::default());
        }
        self.update.check(row, context)?;
        let mut applied = self.update.change(row, context, |row, context| {
            let mut notices = Vec::new();
            for told in told {
                notices.extend(self.update.chain.algorithm.apply(told, row, context)?);
            }
            Ok(notices)
        })?;
        for emission in &mut applied.emissions {
            emission.stamp(Some(at));
        }
        Ok(applied)
    }

    fn window(&self, timer: &Timer, context: &mut Context<'_>) -> Option<(i64, i64)> {
        if timer.name.starts_with(FOR_ROW) {
            let place = place(&self.key(Some(&timer.key), context), &timer.name);
            return context.store(&self.waiting).ok()?.look(place, span_in).ok()?;
        }
        self.next(timer, context).ok()?.map(|(_, _, window)| (window.start_ms, window.end_ms))
    }

    fn give_up(&self, timer: &Timer, context: &mut Context<'_>) -> Result<(), Reject> {
        if timer.name.starts_with(FOR_ROW) {
            let key = self.key(Some(&timer.key), context); // without a look: its value may be what fails
            context.store(&self.waiting)?.delete(place(&key, &timer.name));
            return Ok(());
        }
        self.next(timer, context).map(drop)
    }
}
