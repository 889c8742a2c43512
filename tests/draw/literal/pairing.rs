//! Pairs of events of two streams, computed once more over lists.

use super::{LOST, Look, Pane, Task, event_in, signed};
use crate::pipeline::{Does, Event, PairingDraw, Place as At, SubDraw};
use std::collections::BTreeMap;
use tidegate::testing::Message;

/// An event that waits.
struct One {
    is_left: bool,
    at: i64,
    event: Event,
    is_paired: bool,
    /// Whether it was told that it stayed alone, or would have been.
    is_over: bool,
}

/// All events of one key that were taken, as they came: none is ever forgotten here.
#[derive(Default)]
pub struct Waiting(Vec<One>);

/// The first time of the clock at which an event has waited long enough.
fn over(drawn: &PairingDraw, is_left: bool, at: i64) -> i64 {
    at + signed(if is_left { drawn.after_ms } else { drawn.before_ms } + drawn.grace_ms) + 1
}

impl Waiting {
    /// Those that wait for an event, by their times.
    fn partners(&mut self, drawn: &PairingDraw, is_left: bool, at: i64) -> Vec<&mut One> {
        let meets = |one: &&mut One| {
            let (left, right) = if is_left { (at, one.at) } else { (one.at, at) };
            one.is_left != is_left && left - signed(drawn.before_ms) <= right && right <= left + signed(drawn.after_ms)
        };
        let mut partners: Vec<&mut One> = self.0.iter_mut().filter(meets).collect();
        partners.sort_by_key(|one| one.at);
        partners
    }

    /// When the next one has waited long enough.
    fn next(&self, drawn: &PairingDraw) -> Option<i64> {
        self.0.iter().filter(|one| !one.is_over).map(|one| over(drawn, one.is_left, one.at)).min()
    }

    /// Answers what stayed alone, by the times, of what has waited long enough.
    fn forget(&mut self, drawn: &PairingDraw, clock: i64, key: &[u8]) -> Vec<Pane> {
        let is_over = |one: &&mut One| !one.is_over && over(drawn, one.is_left, one.at) <= clock;
        let mut gone: Vec<&mut One> = self.0.iter_mut().filter(is_over).collect();
        gone.iter_mut().for_each(|one| one.is_over = true);
        gone.retain(|one| !one.is_paired);
        gone.sort_by_key(|one| (one.at, !one.is_left));
        let alone = |one: &mut One| {
            let is_lost = drawn.is_fragile && one.event.n % 3 == 1;
            let content = (one.event.n, if one.is_left { 2 } else { 3 }, one.event.amount.to_bits(), one.at, 0);
            told(key, one.at, (one.event.n, one.event.amount), is_lost, content)
        };
        gone.into_iter().map(alone).collect()
    }
}

/// What is told of a pair or of an event, the first time of which is `at`; or of its loss.
fn told(key: &[u8], at: i64, (n, amount): (u64, f64), is_lost: bool, content: super::Content) -> Pane {
    let content = if is_lost { (at.unsigned_abs(), 0, 0, 0, LOST) } else { content };
    Pane { key: key.to_vec(), n, amount, is_lost, content }
}

impl Look<'_> {
    /// Whether a record comes too late.
    pub fn is_late_for_pairs(&mut self, task: (usize, i32), drawn: &PairingDraw, record: &Message) -> bool {
        let at = record.timestamp.0;
        let clock = self.tasks.entry(task).or_default().clock.map_or(at, |clock| clock.max(at));
        at + signed(drawn.grace_ms) < clock
    }

    /// A record that is no dead letter is paired with those that wait, and waits itself.
    pub fn pair(
        &mut self,
        task: (usize, i32),
        sub: &SubDraw,
        drawn: &PairingDraw,
        (record, is_left): (&Message, bool),
        is_out: bool,
    ) -> Result<(), String> {
        if is_out {
            return Ok(());
        }
        let event = event_in(sub, record).ok_or("is no event, and is no dead letter")?;
        if event.does == Does::Panic(At::Decode) {
            return Err("panics, and is no dead letter".into());
        }
        if self.is_late_for_pairs(task, drawn, record) {
            let is_skipped = drawn.skips_late && !drawn.keeps_late;
            return if is_skipped { Ok(()) } else { Err("is too late for a pair, and was taken".into()) };
        }
        let (key, at) = (record.key.clone().unwrap_or_default(), record.timestamp.0);
        let waiting = self.tasks.entry(task).or_default().pairs.entry(key.clone()).or_default();
        let (mut panes, mut is_paired) = (Vec::new(), false);
        for other in waiting.partners(drawn, is_left, at) {
            let (left, right) = if is_left { (&event, &other.event) } else { (&other.event, &event) };
            let is_lost = [left, right].iter().any(|event| event.does == Does::Panic(At::Notices));
            let (left_ms, right_ms) = if is_left { (at, other.at) } else { (other.at, at) };
            let (n, amount) = (PairingDraw::number(left, right), left.amount + right.amount);
            let content = (n, 1, amount.to_bits(), left_ms.wrapping_mul(31).wrapping_add(right_ms), 0);
            panes.push(told(&key, left_ms.min(right_ms), (n, amount), is_lost, content));
            if other.is_over && !other.is_paired {
                return Err("met an event that was told to be alone".into());
            }
            (is_paired, other.is_paired) = (true, true);
        }
        waiting.0.push(One { is_left, at, event, is_paired, is_over: false });
        self.judged.extend(is_paired.then_some("pair"));
        self.pending = panes;
        Ok(())
    }

    /// The messages behind a record are those of its own pairs, and of the events of all keys that have waited long enough once
    /// it has moved the clock.
    pub fn forget_behind(
        &mut self,
        task: (usize, i32),
        sub: &SubDraw,
        drawn: &PairingDraw,
        moves: Option<i64>,
        late: Option<&str>,
        (notices, topics): (&BTreeMap<u64, &Message>, &BTreeMap<u64, &str>),
    ) -> Result<(), String> {
        let mut panes = std::mem::take(&mut self.pending);
        let Task { clock, pairs, .. } = self.tasks.entry(task).or_default();
        *clock = moves.max(*clock);
        let now = clock.unwrap_or(i64::MIN);
        let own = panes.len();
        loop {
            let due = pairs.iter().filter_map(|(key, waiting)| Some((waiting.next(drawn)?, key.clone())));
            let Some((over, key)) = due.filter(|(over, _)| *over <= now).min() else { break };
            panes.extend(pairs.get_mut(&key).map_or(Vec::new(), |waiting| waiting.forget(drawn, over, &key)));
        }
        self.judged.extend((panes.len() > own).then_some("event that stayed alone"));
        let is_late = |number: &u64| late.is_some() && topics.get(number).copied() == late;
        let told = notices.iter().filter(|(number, _)| !is_late(number)).map(|(number, told)| (*number, *told));
        self.judge_panes(task, sub, panes, &told.collect())
    }
}

/// The values that two tables have for a key.
#[derive(Default)]
pub struct Both {
    left: Option<Event>,
    right: Option<Event>,
}

impl Both {
    /// What is told of the key: a number, an amount, and whether both are there; or that its algorithm panics.
    fn joined(&self) -> Result<Option<(u64, f64, bool)>, ()> {
        let Some(left) = &self.left else { return Ok(None) };
        let panics = |event: &Event| event.does == Does::Panic(At::Notices);
        match &self.right {
            other if panics(left) || other.as_ref().is_some_and(panics) => Err(()),
            None => Ok(Some((left.n, left.amount, false))),
            Some(right) => Ok(Some((PairingDraw::number(left, right), left.amount + right.amount, true))),
        }
    }
}

impl Look<'_> {
    /// A record of one of two tables that are joined tells what both have, or that they have nothing any more.
    pub fn join_tables(
        &mut self,
        task: (usize, i32),
        sub: &SubDraw,
        (record, is_left): (&Message, bool),
        notices: &BTreeMap<u64, &Message>,
        is_out: bool,
    ) -> Result<(), String> {
        if is_out {
            return if notices.is_empty() { Ok(()) } else { Err("changed nothing, and was announced".into()) };
        }
        let event = match &record.value {
            None => None,
            Some(value) => Some(super::event_of(value).ok_or("is no event, and is no dead letter")?),
        };
        if event.as_ref().is_some_and(|event| event.does == Does::Panic(At::Decode)) {
            return Err("panics, and is no dead letter".into());
        }
        let both =
            self.tasks.entry(task).or_default().joined.entry(record.key.clone().unwrap_or_default()).or_default();
        let was_there = both.joined().is_ok_and(|joined| joined.is_some());
        *(if is_left { &mut both.left } else { &mut both.right }) = event;
        let joined = both.joined().map_err(|()| "its join panics, and it is no dead letter")?;
        let limit = sub.threshold.and_then(|_| self.limits.get(&format!("limit-{}", task.0)).copied());
        if sub.destination.is_none() {
            return Ok(());
        }
        let passes = |(n, amount, _): &(u64, f64, bool)| {
            let is_filtered = sub.has_filter && n.is_multiple_of(3);
            !is_filtered && super::goes_to(sub, Some(*n)).is_some() && limit.is_none_or(|limit| *amount >= limit)
        };
        let due = match joined {
            Some(joined) if passes(&joined) => Some(Some((joined.0, joined.1.to_bits(), if joined.2 { 4 } else { 5 }))),
            Some(_) => None,
            None => was_there.then_some(None),
        };
        self.judged.extend(due.map(|_| "joined tables"));
        let read = |notice: &&Message| {
            let told = notice.value.as_deref().map(|value| super::Told::read(value).ok_or("its notice cannot be read"));
            told.transpose().map(|told| told.map(|told| (told.n, told.amount.to_bits(), told.count)))
        };
        let found: Vec<_> = notices.values().map(read).collect::<Result<_, _>>()?;
        let due: Vec<_> = due.into_iter().collect();
        if found == due { Ok(()) } else { Err(format!("its joined tables say {found:?}, not {due:?}")) }
    }
}
