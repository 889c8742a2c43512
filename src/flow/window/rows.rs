//! Windows beside rows: what one gives out is run over the row of its key, by a timer of its own.
//!
//! An event is gathered without its row. Each pane that is to be told then waits in a store of its own, and a timer of its own, which
//! is due at once, runs the row's algorithm over it, in the transaction of the record that the timer fires behind. Where the
//! partition's clock closes a window, the timer that does so runs over it. So a pane that is refused, is too slow or kills the process
//! takes no event with it, and no other pane.

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

/// Begins the names of the timers of panes that wait; their numbers follow, all with as many digits.
const FOR_ROW: &str = "\0for-row-";

/// [`RowStep`]: events are gathered in windows, and a table's row is read and written back with what these give out.
pub(crate) struct UpdateByWindows<A: Algorithm, W: Windowed, S> {
    pub(crate) update: Update<A, ()>,
    pub(crate) windows: InWindows<W>,
    pub(crate) store: Store<Windows<W::Value>>,
    /// The panes that wait.
    pub(crate) waiting: Store<ForRow>,
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

    /// Keeps panes until their timers run over them: behind this record or timer, each with the time of it.
    fn wait(
        &self,
        key: &[u8],
        kept: &mut Windows<W::Value>,
        panes: impl Iterator<Item = ForRow>,
        context: &mut Context<'_>,
    ) -> Result<(), Reject> {
        for pane in panes {
            let name = format!("{FOR_ROW}{:020}", kept.for_row);
            kept.for_row += 1;
            context.set_own_timer(&name, At::Event(context.event_time_ms()))?;
            context.store(&self.waiting)?.put(&*place(key, &name), &pane)?;
        }
        Ok(())
    }

    /// Takes the pane of a timer out of its store, or closes what it is to close and takes the first of that.
    fn next(&self, timer: &Timer, context: &mut Context<'_>) -> Result<Option<ForRow>, Reject> {
        let key = self.key(Some(&timer.key), context);
        if timer.name.starts_with(FOR_ROW) {
            let (mut waiting, place) = (context.store(&self.waiting)?, place(&key, &timer.name));
            let pane = waiting.get(&*place)?;
            waiting.delete(&*place);
            return Ok(pane);
        }
        let (mut kept, mut closed) = (self.windows(&key, context)?, Vec::new());
        self.windows.close(&timer.name, &mut kept, context, &mut |window, pane| closed.push(for_row(window, pane)))?;
        let mut closed = closed.into_iter().collect::<Result<Vec<ForRow>, Reject>>()?.into_iter();
        let first = closed.next();
        self.wait(&key, &mut kept, closed, context)?;
        context.store(&self.store)?.put(&*key, &kept)?;
        Ok(first)
    }
}

/// The key of a pane that waits.
fn place(key: &[u8], name: &str) -> Vec<u8> {
    [key, name.as_bytes()].concat()
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
        let given_out = given_out.into_iter().collect::<Result<Vec<ForRow>, Reject>>()?;
        self.wait(&key, &mut kept, given_out.into_iter(), context)?;
        context.store(&self.store)?.put(&*key, &kept)?;
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
