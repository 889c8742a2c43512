//! Timers, computed once more over a map of their times.

use super::{Look, Sums, Task, Told, goes_to, header, shown};
use crate::pipeline::{AGAIN_MS, Event, REFUSED, StepDraw, SubDraw, TABLES, Tables};
use crate::scenario::Scenario;
use std::collections::{BTreeMap, VecDeque};
use tidegate::flow::record::{Partition, TopicName, TopicPartition};
use tidegate::testing::{Message, Observed};

/// Whether a message is a timer's, and not its record's.
pub fn is_of_timer(message: &Message) -> bool {
    // The dead letter of a record that was a timer's notice in front of another step is that record's.
    let is_dead_letter = header(message, "kafka_dlt-original-topic").is_some();
    header(message, "tg_timer").is_some() || (!is_dead_letter && message.value.as_deref().and_then(name_in).is_some())
}

/// Whether a message tells of a window that did not change its row.
pub fn is_of_window(message: &Message) -> bool {
    header(message, "tg_timer").is_some_and(|name| name == "close" || name.starts_with("for-row-"))
}

fn name_in(value: &[u8]) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(value).ok()?;
    Some(json.get("rings")?.as_str()?.to_owned())
}

/// The turns by the wall clock of each task, as the engine keeps them: the time, and the next offset of each input; and how far
/// each input has come.
pub type Turns = BTreeMap<(usize, i32), (VecDeque<(i64, Vec<i64>)>, BTreeMap<usize, i64>)>;

pub fn turns(scenario: &Scenario, seen: &Observed) -> Turns {
    let mut out = Turns::new();
    for (number, sub) in scenario.pipeline.subs.iter().enumerate().filter(|(_, sub)| sub.keeps_timers()) {
        let store = if sub.has_timers { format!("timers-{number}") } else { format!("sums-{number}-timers") };
        let changelog = TopicName::parse(&format!("drawn-{store}-changelog")).unwrap_or_else(|error| panic!("{error}"));
        for partition in 0..seen.partitions {
            let place = TopicPartition::new(changelog.clone(), Partition(partition));
            let messages = seen.log.get(&place).into_iter().flatten();
            let read = |message: &Message| {
                let json: serde_json::Value = serde_json::from_slice(message.value.as_deref()?.get(2..)?).ok()?;
                let next = json.get("next")?.as_array()?.iter().filter_map(serde_json::Value::as_i64).collect();
                Some((json.get("at_ms")?.as_i64()?, next))
            };
            let kept = messages.filter(|message| message.key.as_deref() == Some(b"#")).filter_map(read);
            out.insert((number, partition), (kept.collect(), BTreeMap::new()));
        }
    }
    out
}

/// The times of the turns in front of a record that were not asked for yet. Where a record that no step was run over stands
/// among those of other inputs is not known, so that a turn waits until all have come to it.
pub fn in_front_of(turns: &mut Turns, task: (usize, i32), input: usize, offset: i64) -> Vec<i64> {
    let Some((left, reached)) = turns.get_mut(&task) else { return Vec::new() };
    reached.insert(input, offset);
    let has_come = |(number, next): (usize, &i64)| *next <= reached.get(&number).copied().unwrap_or(0);
    let mut out = Vec::new();
    while let Some((at, _)) = left.pop_front_if(|(_, next)| next.iter().enumerate().all(has_come)) {
        out.push(at);
    }
    reached.insert(input, offset + 1);
    out
}

/// The time of the next tick, given the clock.
fn next_tick(every_ms: u64, clock: i64) -> i64 {
    let every = i64::try_from(every_ms).unwrap_or(1);
    (clock.div_euclid(every) + 1) * every
}

/// A message that a timer leads to: key (none of a tick), name, and the code of its dead letter or the sums of its notice.
type Rung = (Option<Vec<u8>>, String, i64, Result<Sums, &'static str>);

impl Look<'_> {
    /// What a record that was handled does to the timers of its key.
    pub fn set_timer(&mut self, task: (usize, i32), sub: &SubDraw, record: &Message, event: &Event) {
        let Task { timers, .. } = self.tasks.entry(task).or_default();
        let Some(timer) = event.timer.as_ref().filter(|_| sub.has_timers) else { return };
        let of = (record.key.clone().unwrap_or_default(), timer.name.clone());
        match timer.after_ms {
            Some(after) => drop(timers.insert(of, (timer.is_by_wall && !sub.has_rows(), record.timestamp.0 + after))),
            None => drop(timers.remove(&of)),
        }
    }

    /// The messages behind a record that led to `own` are those of the timers that are due once it has moved the clock.
    pub fn ring(
        &mut self,
        task: (usize, i32),
        sub: &SubDraw,
        moves: Option<i64>,
        own: usize,
        found: &BTreeMap<u64, (&Message, Option<&str>)>,
    ) -> Result<(), String> {
        let due = self.due(task, sub, (false, moves));
        let limit = sub.threshold.and_then(|_| self.limits.get(&format!("limit-{}", task.0)).copied());
        let knows_sums = sub.step != StepDraw::Aggregate || sub.ttl_ms.is_none();
        if limit.is_some() && !knows_sums {
            return Ok(());
        }
        // What another step has made of the row, and whether it is there, may be unknown.
        let table = if let StepDraw::Update(table) = sub.step { Some(table) } else { None };
        let is_blurred = |which: usize, key: &Option<Vec<u8>>| {
            let place = table.zip(key.clone());
            place.is_some_and(|place| self.blurred[which].contains(&place))
        };
        if due.iter().any(|(key, ..)| is_blurred(0, key)) {
            return Ok(());
        }
        let blurs: Vec<bool> = due.iter().map(|(key, ..)| is_blurred(1, key)).collect();
        let is_told = |(_, _, at, outcome): &Rung| match outcome {
            Err(_) => true,
            Ok(sums) => {
                let n = at.unsigned_abs();
                let passes = !(sub.has_filter && n.is_multiple_of(3)) && goes_to(sub, Some(n)).is_some();
                passes && limit.is_none_or(|limit| sums.sum >= limit)
            }
        };
        let due: Vec<(Rung, bool)> = due.into_iter().zip(blurs).filter(|(rung, _)| is_told(rung)).collect();
        self.judged.extend((!due.is_empty()).then_some("timer"));
        let numbers = (own as u64..).take(due.len());
        if !found.keys().copied().eq(numbers) {
            return Err(format!("its timers have the messages {:?} behind {own}, not {due:?}", found.keys()));
        }
        for ((message, topic), ((key, name, at, outcome), is_blurred)) in found.values().zip(due) {
            let is_its = message.key == key;
            let is_due = match outcome {
                Err(code) => {
                    let told = (header(message, "tg_timer"), header(message, "kafka_dlt-exception-fqcn"));
                    message.value.is_none() && told == (Some(name.clone()), Some(code.to_owned()))
                }
                Ok(sums) => {
                    let value = message.value.as_deref().unwrap_or_default();
                    let told = Told::read(value).ok_or("the notice of a timer cannot be read")?;
                    let is_sum = (told.count, told.amount.to_bits()) == (sums.count, sums.sum.to_bits());
                    let is_hash = sub.is_joined() || is_blurred || told.hash == sums.hash;
                    name_in(value) == Some(name.clone())
                        && goes_to(sub, Some(told.n)).as_deref() == *topic
                        && message.timestamp.0 == at
                        && told.n == at.unsigned_abs()
                        && (!knows_sums || (is_sum && is_hash))
                }
            };
            if !is_its || !is_due {
                return Err(format!("a timer is told by {message:?}, not by {key:?} {name} {at} {outcome:?}"));
            }
        }
        Ok(())
    }

    /// Moves the clock, or looks at the wall clock, and answers what the timers that are due by it lead to.
    pub fn due(&mut self, task: (usize, i32), sub: &SubDraw, (is_by_wall, moves): (bool, Option<i64>)) -> Vec<Rung> {
        let (read, tables) = (self.scenario.pipeline.read_keys(sub), self.scenario.pipeline.tables);
        let is_rounded = sub.has_rows() && tables == Tables::Round;
        let Task { clock, .. } = self.tasks.entry(task).or_default();
        let now = if is_by_wall { moves } else { moves.max(*clock) };
        *clock = if is_by_wall { *clock } else { now };
        let mut out = Vec::new();
        loop {
            let Task { timers, tick, .. } = self.tasks.entry(task).or_default();
            let of_clock = timers.iter().filter(|(_, (is_wall, at))| *is_wall == is_by_wall && Some(*at) <= now);
            let due = of_clock.map(|((key, name), (_, at))| (*at, key.clone(), name.clone()));
            let ticks = tick.filter(|at| !is_by_wall && Some(*at) <= now);
            // A tick's key comes before all others, and so does its name.
            let ticks = ticks.map(|at| (at, Vec::new(), String::new()));
            let Some((at, key, name)) = due.chain(ticks).min() else { break };
            let is_tick = name.is_empty();
            let name = if is_tick { "every".to_owned() } else { name };
            if is_tick {
                *tick = None;
            } else {
                timers.remove(&(key.clone(), name.clone()));
            }
            let told = (!is_tick).then(|| key.clone());
            let place = if let StepDraw::Update(table) = sub.step { Some((table, key.clone())) } else { None };
            let is_new = place.as_ref().is_some_and(|place| !self.rows.contains_key(place));
            let is_missing = is_new && !sub.inserts;
            let failure = match &*name {
                _ if is_missing && self.scenario.knobs.missing_row.is_multiple_of(3) => continue,
                _ if is_missing => Some("missing-row"),
                "skip" => continue,
                "refuse" => Some("told-to-refuse"),
                "panic" => Some("panic"),
                "die" => Some("kills-the-process"),
                "stall" if sub.has_rows() => Some("too-slow"),
                "exceed" if sub.has_rows() && tables != Tables::Keep => Some("constraint"),
                _ => None,
            };
            if let Some(code) = failure {
                out.push((told, name, at, Err(code)));
                continue;
            }
            if let (true, Some((table, _)), Some(name)) = (is_new, &place, self.key_of(&key)) {
                self.notes.remove(&(TABLES[usize::from(*table)].to_owned(), name.to_string()));
            }
            let Task { timers, sums, last, .. } = self.tasks.entry(task).or_default();
            if name == "again" {
                timers.insert((key.clone(), "plain".to_owned()), (false, at + AGAIN_MS));
            }
            let mut passing = Sums::default();
            let kept = match sub.step {
                StepDraw::Process => &mut passing,
                StepDraw::Update(table) => {
                    self.rows.entry((table, key.clone())).or_insert(Sums { last: Some(0), ..Sums::default() })
                }
                StepDraw::Aggregate => sums.entry(key.clone()).or_default(),
            };
            let before = *kept;
            let is_slim = sub.is_slim && sub.has_rows();
            (kept.version, kept.count, kept.small) = (before.version + 1, before.count + 1, before.small + 1);
            let hash = if is_slim { 0 } else { before.hash };
            kept.hash = hash.wrapping_mul(31).wrapping_add(i64::try_from(name.len()).unwrap_or(0));
            kept.sum = if name == "exceed" { 2.0 * REFUSED } else { kept.sum };
            let outcome = Ok(*kept);
            if is_rounded {
                kept.sum = (kept.sum * 4.0).floor() / 4.0;
            }
            if is_slim {
                (kept.hash, kept.small) = (before.hash, before.small);
            }
            if sub.has_last {
                last.insert(shown(read, &key), name.len() as u64);
            }
            out.push((told, name, at, outcome));
        }
        let Task { tick, clock, .. } = self.tasks.entry(task).or_default();
        if let (false, Some(every), Some(clock)) = (is_by_wall, sub.every_ms, *clock) {
            tick.get_or_insert_with(|| next_tick(every, clock));
        }
        out
    }
}
