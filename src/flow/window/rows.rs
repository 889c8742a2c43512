//! Windows beside rows: what one gives out is run over the row of its key, by a timer of its own.
//!
//! An event is gathered without its row. What is to be told then waits in the store, and a timer that is due at once, or the one that
//! closes the window, runs the row's algorithm over the first of it: in the transaction of the record that the timer fires behind.
//! So a window that is refused takes no event with it, and no other window.

use crate::flow::algorithm::{Algorithm, Context};
use crate::flow::codec::json;
use crate::flow::effect::{Applied, Reject};
use crate::flow::events::ReadEvent;
use crate::flow::record::Record;
use crate::flow::row::Value;
use crate::flow::step::{LateTo, RowStep, Update};
use crate::flow::store::Store;
use crate::flow::table::TableSpec;
use crate::flow::timer::{At, Timer};
use crate::flow::window::algorithm::NoticeOf;
use crate::flow::window::kept::{ForRow, Windows, Working};
use crate::flow::window::{InWindows, Pane, Window, Windowed};
use std::borrow::Cow;

/// The timer of what was given out and waits.
const FOR_ROW: &str = "for-row";

/// [`RowStep`]: events are gathered in windows, and a table's row is read and written back with what these give out.
pub(crate) struct UpdateByWindows<A: Algorithm, W: Windowed, S> {
    pub(crate) update: Update<A, ()>,
    pub(crate) windows: InWindows<W>,
    pub(crate) store: Store<Windows<W::Value>>,
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

    /// Keeps the windows, and sees to it that a timer runs over the first of those that wait, behind this record or timer.
    fn keep(&self, key: &[u8], kept: &Windows<W::Value>, context: &mut Context<'_>) -> Result<(), Reject> {
        if !kept.for_row.is_empty() {
            context.set_timer(FOR_ROW, At::Event(context.event_time_ms()))?;
        }
        context.store(&self.store)?.put(key, kept)
    }

    /// Takes the window whose turn it is, or that the timer closes, out of the store.
    fn next(&self, timer: &Timer, context: &mut Context<'_>) -> Result<Option<ForRow>, Reject> {
        let key = self.key(Some(&timer.key), context);
        let mut kept = self.windows(&key, context)?;
        if timer.name == FOR_ROW {
            let next = (!kept.for_row.is_empty()).then(|| kept.for_row.remove(0));
            self.keep(&key, &kept, context)?;
            return Ok(next);
        }
        let mut closed = Vec::new();
        self.windows.close(&timer.name, &mut kept, context, &mut |window, pane| closed.push(for_row(window, pane)))?;
        let mut closed = closed.into_iter().collect::<Result<Vec<ForRow>, Reject>>()?.into_iter();
        let next = closed.next();
        if closed.len() > 0 {
            kept.for_row.splice(..0, closed);
            self.keep(&key, &kept, context)?;
        } else {
            context.store(&self.store)?.put(&*key, &kept)?; // those that wait have a timer
        }
        Ok(next)
    }
}

/// A window as it waits for its run.
fn for_row<V: serde::Serialize>(window: &Working<V>, pane: Pane) -> Result<ForRow, Reject> {
    let mut value = Vec::new();
    json::encode_kept_into(&window.value, &mut value)?;
    let value = String::from_utf8(value).map_err(|error| Reject::dead_letter("bad-json", error.to_string()))?;
    Ok(ForRow { start_ms: window.start_ms, end_ms: window.end_ms, value, pane })
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
        let mut given_out = Vec::new();
        self.windows.gather(&event, &mut kept, context, &mut |window, pane| given_out.push(for_row(window, pane)))?;
        for window in given_out {
            kept.for_row.push(window?);
        }
        self.keep(&key, &kept, context)?;
        Ok(Applied::default())
    }

    fn timer(&self, timer: &Timer, row: Option<&[Value]>, context: &mut Context<'_>) -> Result<Applied, Reject> {
        let Some(ForRow { start_ms, end_ms, value, pane }) = self.next(timer, context)? else {
            return Ok(Applied::default());
        };
        let value: W::Value = json::decode(value.as_bytes())?;
        let window = Window { key: context.key, start_ms, end_ms, pane };
        let told: Vec<NoticeOf<W>> = self.windows.algorithm.emit(&value, &window).into_iter().collect();
        if told.is_empty() {
            return Ok(Applied::default());
        }
        self.update.check(row, context)?;
        self.update.change(row, context, |row, context| {
            let mut notices = Vec::new();
            for told in told {
                notices.extend(self.update.chain.algorithm.apply(told, row, context)?);
            }
            Ok(notices)
        })
    }

    fn give_up(&self, timer: &Timer, context: &mut Context<'_>) -> Result<(), Reject> {
        self.next(timer, context).map(drop)
    }
}
