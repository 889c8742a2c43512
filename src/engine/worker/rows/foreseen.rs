//! The timers that may become due in a batch of steps with rows.
//!
//! Rows are read before anything is decided, so the keys of timers that may become due are looked up when the batch begins.
//! There is a bound on them: a batch ends in front of a record that would fire a timer whose row was not read. Those of a
//! task's first record always are, since no more fire behind it than are looked up.

use crate::engine::worker::rows::share::Share;
use crate::engine::worker::rows::terms::{StoreTrouble, TaskStores, Terms};
use crate::flow::key::Key;
use crate::flow::record::Timestamp;
use crate::flow::timer::{Clock, TURN, Timer};
use crate::ports::source::TaskId;

/// The timers of a task that may become due while a batch is decided.
pub(super) struct Foreseen {
    pub(super) task: TaskId,
    pub(super) timers: Vec<Timer>,
    /// No other timer that was set before the batch is due until then.
    pub(super) until: Timestamp,
}

impl Foreseen {
    /// The timers, each with the key of its row.
    pub(super) fn keys<'a>(&'a self, share: &'a Share<'_>) -> impl Iterator<Item = (&'a Timer, Key)> {
        let key_type = share.step.table().table.key_type;
        self.timers.iter().filter_map(move |timer| Some((timer, key_type.parse(Some(&timer.key)).ok()?)))
    }
}

/// Looks up the timers that may become due over the records of a batch.
///
/// # Errors
/// A store cannot be read.
pub(super) fn foresee(
    terms: &Terms<'_>,
    shares: &[Share<'_>],
    stores: &mut TaskStores,
) -> Result<Vec<Foreseen>, StoreTrouble> {
    let mut out = Vec::new();
    for (task, keyed) in stores.iter_mut().filter(|(_, keyed)| keyed.has_timers()) {
        // Records of a table move no clock.
        let streams = shares.iter().filter(|share| share.task == *task && !share.is_table);
        let room = streams.clone().map(|share| share.most_timers.saturating_mul(share.records.len()));
        let room = room.fold(0, usize::saturating_add).min(TURN);
        let mut records = streams.flat_map(|share| &share.records).peekable();
        if records.peek().is_none() {
            continue;
        }
        let times = records.map(|record| record.timestamp).filter(|at| terms.horizon.allows(*at));
        let latest = times.max().unwrap_or(keyed.clock()).max(keyed.clock());
        let timers = keyed
            .due(Clock::Event, latest, room)
            .map_err(|fault| StoreTrouble { task: *task, trouble: fault.into() })?;
        let until = match timers.last().filter(|_| timers.len() == room) {
            Some(last) => Timestamp(last.at.saturating_sub(1)),
            None => latest,
        };
        out.push(Foreseen { task: *task, timers, until });
    }
    Ok(out)
}
