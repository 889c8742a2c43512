//! One job: the sums of windows, against the seed: each closed window that is to be told once, and the open one of each
//! user kept with the user's clock. The events of a user lie in the order of their numbers, which [`super::usage`] has judged.

use super::usage::is_in_place;
use crate::Outcome;
use crate::child::WINDOW_MS;
use crate::load::events::{Closed, Events, Usage, key, user_of};
use crate::load::kept;
use crate::rig::reading::read_whole;
use crate::rig::topics::PARTITIONS;
use rdkafka::message::Message;
use std::collections::HashMap;
use tidegate::flow::window::Windows;

/// What must be there after a run.
struct Due {
    /// Closed windows that are told, by user and start.
    told: HashMap<(u64, i64), (u64, u64)>,
    /// Of each user the start and the sums of the window that is open.
    open: Vec<Option<(i64, Usage)>>,
}

impl Due {
    fn of(events: &Events, every: u64) -> Outcome<Self> {
        let mut due = Self { told: HashMap::new(), open: vec![None; usize::try_from(events.users)?] };
        for number in 0..events.records {
            let (user, units, at_ms) = (events.user(number), events.units(number), Events::at_ms(number));
            let start_ms = at_ms - at_ms.rem_euclid(WINDOW_MS);
            let open = &mut due.open[usize::try_from(user)?];
            if let Some((start_ms, usage)) = open.take_if(|(start, _)| *start != start_ms)
                && Closed::is_told(start_ms, every)
            {
                due.told.insert((user, start_ms), (usage.count, usage.units));
            }
            open.get_or_insert_with(|| (start_ms, Usage::default())).1.add(units, at_ms);
        }
        Ok(due)
    }
}

/// Judges what a run over keyed events left: the number of messages and of changelog records.
///
/// # Errors
/// The first thing found wrong.
pub fn judge(brokers: &str, events: &Events, every: u64, [changelog, output]: [&str; 2]) -> Outcome<(usize, u64)> {
    let Due { mut told, open } = Due::of(events, every)?;
    let messages = told.len();
    read_whole(brokers, output, 0..PARTITIONS, |record| {
        let Closed { user, start_ms, count, units } = serde_json::from_slice(record.payload().unwrap_or_default())?;
        let number = user_of(user.as_bytes()).ok_or("judge: a window of no user")?;
        is_in_place(record, number)?;
        if told.remove(&(number, start_ms)) != Some((count, units)) {
            return Err(format!("judge: the window {start_ms} of {user} is told twice, wrong, or was never due").into());
        }
        Ok(())
    })?;
    if let Some((user, start_ms)) = told.keys().next() {
        return Err(format!("judge: the window {start_ms} of {} was not told", key(*user)).into());
    }
    let mut kept: Vec<Option<Windows<Usage>>> = vec![None; open.len()];
    let mut records = 0;
    read_whole(brokers, changelog, 0..PARTITIONS, |record| {
        let user = record.key().and_then(user_of).ok_or("judge: the changelog has a key that is no user")?;
        is_in_place(record, user)?;
        let kept = kept.get_mut(usize::try_from(user)?).ok_or("judge: the changelog has a user too many")?;
        *kept = Some(kept::read(record.payload().ok_or("judge: a user was deleted from the changelog")?)?);
        records += 1;
        Ok(())
    })?;
    for (user, (kept, open)) in kept.iter().zip(&open).enumerate() {
        let brief = |kept: &Windows<Usage>| {
            let windows: Vec<(i64, Usage)> =
                kept.windows.iter().map(|window| (window.start_ms, window.value)).collect();
            (kept.clock_ms, windows)
        };
        let due = open.map(|(start_ms, usage)| (Some(usage.last_ms), vec![(start_ms, usage)]));
        if kept.as_ref().map(brief) != due {
            return Err(format!("judge: user {user} is kept as {kept:?}, where {open:?} is due").into());
        }
    }
    Ok((messages, records))
}
