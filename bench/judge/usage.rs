//! One job: the sums by user, against the seed: every event once and with its user, the sums as they follow from the
//! order in which a user's events lie together, each notice once.

use super::offsets;
use crate::Outcome;
use crate::load::events::{Events, Update, Usage, key, user_of};
use crate::load::kept;
use crate::rig::reading::read_whole;
use crate::rig::topics::{self, PARTITIONS};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use std::collections::{HashMap, HashSet};
use tidegate::flow::key::partition_for;

/// The conditions that must hold after a run.
pub struct Case<'a> {
    pub brokers: &'a str,
    pub events: &'a Events,
    /// Events that used so much were to be dropped.
    pub kept: u64,
    pub group: &'a str,
    /// Where the events of a user lie together; the input itself where it is keyed.
    pub keyed: &'a str,
    /// Whether the group reads them there.
    pub is_keyed_read: bool,
    /// The expected sums; `None` for a system that keeps none.
    pub sums: Option<Sums<'a>>,
    /// Topics that must be empty.
    pub dead_letters: &'a [String],
}

/// Where the sums lie, and where they began.
pub struct Sums<'a> {
    pub changelog: &'a str,
    pub output: &'a str,
    /// Events of a user for each notice.
    pub every: u64,
    /// The usage of a user before the first event; a user that had used nothing is not in the changelog.
    pub before: &'a dyn Fn(u64) -> Usage,
}

/// The facts found, all as they must be.
pub struct Verdict {
    pub messages: usize,
    /// Records in the changelog: the sums are written once a user and transaction.
    pub changelog_records: u64,
}

/// Judges a run.
///
/// # Errors
/// The first thing found wrong.
pub fn judge(case: &Case<'_>) -> Outcome<Verdict> {
    let Case { brokers, events, kept, group, keyed, is_keyed_read, sums, dead_letters } = case;
    let mut follow = Follow::new(events, *kept, sums.as_ref());
    read_whole(brokers, keyed, 0..PARTITIONS, |record| follow.event(record))?;
    follow.is_whole()?;
    if *is_keyed_read {
        offsets::compare(brokers, group, keyed, &follow.next_offsets)?;
    }
    if *keyed != events.topic {
        let ends = offsets::ends(brokers, &events.topic, PARTITIONS)?;
        offsets::compare(brokers, group, &events.topic, &ends)?;
    }
    for topic in *dead_letters {
        if offsets::ends(brokers, topic, PARTITIONS)?.iter().any(|end| *end > 0) {
            return Err(format!("judge: {topic} is not empty").into());
        }
    }
    let (mut messages, mut changelog_records) = (usize::try_from(events.count_below(*kept))?, 0);
    if let Some(sums) = sums {
        changelog_records = changelog(brokers, sums, &follow.usages)?;
        messages = announcements(brokers, sums, follow.due)?;
    }
    Ok(Verdict { messages, changelog_records })
}

/// A source that is keyed already must not be shuffled.
///
/// # Errors
/// Where the group has a repartition topic.
pub fn is_not_shuffled(brokers: &str, group: &str) -> Outcome {
    let is_repartition = |name: &String| name.starts_with(group) && name.ends_with("-repartition");
    match topics::names(brokers)?.into_iter().find(is_repartition) {
        Some(name) => Err(format!("judge: topic {name} exists, and the source is keyed already").into()),
        None => Ok(()),
    }
}

/// The events in the order in which those of a user lie together.
struct Follow<'a> {
    events: &'a Events,
    kept: u64,
    every: u64,
    seen: Vec<bool>,
    /// The last number by source and keyed partition: order must be kept.
    last: Vec<Option<u64>>,
    usages: Vec<Usage>,
    /// Units by user and count: the notices that are due.
    due: HashMap<(u64, u64), u64>,
    next_offsets: Vec<i64>,
    scratch: Vec<u8>,
}

impl<'a> Follow<'a> {
    fn new(events: &'a Events, kept: u64, sums: Option<&Sums<'_>>) -> Self {
        let before = |user| sums.map_or_else(Usage::default, |sums| (sums.before)(user));
        let partitions = usize::try_from(PARTITIONS).unwrap_or(0);
        Self {
            events,
            kept,
            every: sums.map_or(u64::MAX, |sums| sums.every),
            seen: vec![false; usize::try_from(events.records).unwrap_or(0)],
            last: vec![None; partitions * partitions],
            usages: (0..events.users).map(before).collect(),
            due: HashMap::new(),
            next_offsets: vec![0; partitions],
            scratch: Vec::new(),
        }
    }

    fn event(&mut self, record: &BorrowedMessage<'_>) -> Outcome {
        let found = || format!("judge: {}-{}@{}", record.topic(), record.partition(), record.offset());
        let value = record.payload().unwrap_or_default();
        let number =
            self.events.number(value, &mut self.scratch).ok_or_else(|| format!("{}: no event of ours", found()))?;
        let (user, units) = (self.events.user(number), self.events.units(number));
        if units >= self.kept {
            return Err(format!("{}: event {number} was to be dropped", found()).into());
        }
        let place = usize::try_from(number)?;
        if std::mem::replace(&mut self.seen[place], true) {
            return Err(format!("{}: event {number} is there twice", found()).into());
        }
        is_in_place(record, user)?;
        let partition = usize::try_from(record.partition())?;
        let way = usize::try_from(self.events.partition(number) * PARTITIONS)? + partition;
        if self.last[way].replace(number).is_some_and(|last| last > number) {
            return Err(format!("{}: event {number} has been overtaken", found()).into());
        }
        self.next_offsets[partition] = record.offset() + 1;
        let usage = &mut self.usages[usize::try_from(user)?];
        usage.add(units, Events::at_ms(number));
        if usage.count.is_multiple_of(self.every) {
            self.due.insert((user, usage.count), usage.units);
        }
        Ok(())
    }

    fn is_whole(&self) -> Outcome {
        let is_due = |number: u64| self.events.units(number) < self.kept;
        match (0..).zip(&self.seen).find(|(number, seen)| !*seen && is_due(*number)) {
            Some((number, _)) => Err(format!("judge: event {number} is missing").into()),
            None => Ok(()),
        }
    }
}

/// The record's key is `user`'s, and it lies in the partition that a Java producer would choose.
pub(super) fn is_in_place(record: &BorrowedMessage<'_>, user: u64) -> Outcome {
    let key = key(user);
    let is_in_place = record.partition() == partition_for(key.as_bytes(), PARTITIONS);
    if record.key() == Some(key.as_bytes()) && is_in_place {
        return Ok(());
    }
    let found = format!("judge: {}-{}@{}", record.topic(), record.partition(), record.offset());
    Err(format!("{found}: its key must be {key}, in that key's partition").into())
}

/// The last value of every user is its sum, and no other key is there.
fn changelog(brokers: &str, sums: &Sums<'_>, usages: &[Usage]) -> Outcome<u64> {
    let mut kept = vec![Usage::default(); usages.len()];
    let mut records = 0;
    read_whole(brokers, sums.changelog, 0..PARTITIONS, |record| {
        let user = record.key().and_then(user_of).ok_or("judge: the changelog has a key that is no user")?;
        is_in_place(record, user)?;
        let kept = kept.get_mut(usize::try_from(user)?).ok_or("judge: the changelog has a user too many")?;
        *kept = self::kept::read::<Usage>(record.payload().ok_or("judge: a user was deleted from the changelog")?)?;
        records += 1;
        Ok(())
    })?;
    for (user, (found, due)) in kept.iter().zip(usages).enumerate() {
        if found != due {
            return Err(format!("judge: user {user} is kept as {found:?}, where {due:?} is due").into());
        }
    }
    Ok(records)
}

/// Each notice that is due was published once, and nothing else.
fn announcements(brokers: &str, sums: &Sums<'_>, mut due: HashMap<(u64, u64), u64>) -> Outcome<usize> {
    let messages = due.len();
    let mut ids: HashSet<Vec<u8>> = HashSet::new();
    read_whole(brokers, sums.output, 0..PARTITIONS, |record| {
        let update: Update = serde_json::from_slice(record.payload().unwrap_or_default())?;
        let user = user_of(update.user.as_bytes()).ok_or("judge: an announcement of no user")?;
        is_in_place(record, user)?;
        if due.remove(&(user, update.count)) != Some(update.units) {
            return Err(format!("judge: {update:?} is announced twice, or was never due").into());
        }
        let id = record.headers().and_then(|headers| headers.iter().find(|header| header.key == "tg_id"));
        let id = id.and_then(|header| header.value).ok_or("judge: an announcement without tg_id")?;
        if !ids.insert(id.to_vec()) {
            return Err(format!("judge: tg_id {} is there twice", String::from_utf8_lossy(id)).into());
        }
        Ok(())
    })?;
    match due.iter().next() {
        Some(((user, count), _)) => Err(format!("judge: event {count} of user {user} was not announced").into()),
        None => Ok(messages),
    }
}
