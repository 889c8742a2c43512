//! A naive interpreter of a pipeline: the same steps, one record at a time, with maps for tables and stores.
//!
//! It knows no batches, caches, workers, transactions or retries, so its result follows from each record alone. Its
//! input is the content of the source topics, in the order in which the engine decided; its output is compared with the
//! traces of the engine, by [`judge`](super::judge).

use super::kept::Stores;
use super::observed::{Message, Row, touches};
use super::stall::has_stalled;
use crate::flow::effect::{Emission, Reject, RowChange, Stepped};
use crate::flow::identity::{NoticeId, WINDOW_HEADER, span_of};
use crate::flow::key::{Key, KeyType, partition_for};
use crate::flow::partitioning::OnViolation;
use crate::flow::reading::OnUnreadable;
use crate::flow::record::{Header, Offset, Record, Timestamp, TopicName, TopicPartition, header_bytes};
use crate::flow::row::Value;
use crate::flow::step::{LogStep, RowStep};
use crate::flow::store::StoreSpec;
use crate::flow::timer::Timer;
use crate::flow::topology::{StepKind, SubTopology, Topology};
use crate::settings::engine::{EngineSettings, MissingRow};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A message that a record must lead to, exactly once.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Expected {
    pub(super) destination: TopicName,
    /// Any, where the key is missing.
    pub(super) partition: Option<i32>,
    pub(super) source: TopicPartition,
    pub(super) source_offset: Offset,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) timestamp: Timestamp,
    /// The headers of the record; of a notice those of its own.
    pub(super) headers: Vec<Header>,
    pub(super) kind: Kind,
}

/// The kind of a message, with the contents of its headers.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Kind {
    Notice {
        id: String,
        /// The version of the row after the record, where its table has one.
        version: Option<i64>,
        /// The threshold that it has reached, where there is one.
        threshold: Option<String>,
        /// None where it has no value.
        content_type: Option<&'static str>,
    },
    DeadLetter {
        id: String,
        code: String,
        about: About,
    },
    /// The record itself under another key, or in another partition: its headers go with it.
    SentOn,
}

/// The headers that tell of a timer or a window, with their values, in a dead letter that is not of a record.
pub(super) type About = Vec<(&'static str, String)>;

/// A notice, or the span of a window that cannot be told, and why.
pub(super) type Told = Result<Emission, (String, Reject)>;

/// Turns the values written into a row of the table into those that the database stores, and answers whether it refuses
/// them.
pub(super) type Refuses<'a> = &'a dyn Fn(&str, &mut BTreeMap<String, Value>) -> bool;

/// Everything that the records so far have led to.
#[derive(Clone)]
pub(super) struct Interpreter<'a> {
    pub(super) topology: &'a Topology,
    pub(super) settings: &'a EngineSettings,
    pub(super) partitions: i32,
    pub(super) limits: &'a BTreeMap<String, usize>,
    pub(super) refuses: Refuses<'a>,
    /// The columns that tables make themselves, by table and name.
    pub(super) made: &'a BTreeSet<(String, String)>,
    /// The records that are not run, since instances have died over them.
    pub(super) blamed: BTreeSet<(TopicPartition, Offset)>,
    /// A record of a later event time is ahead of every clock.
    pub(super) latest_event_time: i64,
    /// The wall clock over the record, where that was seen; the record's own timestamp stands in for it elsewhere.
    pub(super) now_ms: Option<i64>,
    pub(super) rows: BTreeMap<(String, Key), Row>,
    /// By sub-topology and partition.
    pub(super) stores: BTreeMap<(usize, i32), Stores>,
    pub(super) out: Vec<Expected>,
    /// Partitions that must stand still, in front of which record.
    pub(super) halts: Vec<(TopicPartition, Offset)>,
    pub(super) is_everlasting: bool,
}

/// The place of a record.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) number: usize,
    pub(super) sub: &'a SubTopology,
    pub(super) source: &'a TopicPartition,
}

pub(super) fn place_of<'a>(topology: &'a Topology, source: &'a TopicPartition) -> Option<Place<'a>> {
    let mut subs = topology.sub_topologies().iter().enumerate();
    let (number, sub) = subs.find(|(_, sub)| sub.sources().any(|topic| *topic == source.topic))?;
    Some(Place { number, sub, source })
}

/// Topics, partitions, or none where the key decides, and keys.
type Copies = Vec<(TopicName, Option<i32>, Option<Vec<u8>>)>;

/// The outcome of applying one record.
enum Outcome {
    Notices(Vec<Told>, Option<i64>),
    SentOn(Copies),
    Halt,
}

/// The key of a notice.
fn key_of<'a>(record: &Record<'a>, emission: &'a Emission) -> Option<&'a [u8]> {
    emission.envelope.as_ref().and_then(|own| own.key.as_deref()).or(record.key)
}

impl Interpreter<'_> {
    /// A release without times to live takes over.
    pub(super) fn release_everlasting(&mut self) {
        for stores in self.stores.values_mut().filter(|_| !self.is_everlasting) {
            (stores.is_everlasting, stores.is_clocked) = (true, true);
        }
        self.is_everlasting = true;
    }

    /// Takes the next record of a source partition.
    pub(super) fn take(&mut self, source: &TopicPartition, input: &Message) {
        let Some(place) = place_of(self.topology, source) else { return };
        let record = input.as_record();
        let outcome = self.checked(place, &record).and_then(|outcome| match (outcome, &place.sub.step) {
            (Some(outcome), _) => Ok(outcome),
            (None, StepKind::Rows(step)) if place.sub.is_table(&source.topic) => self.keep(place, &**step, &record),
            (None, StepKind::Rows(step)) => {
                self.update(place, &**step, &record, None).map(|(told, version)| Outcome::Notices(told, version))
            }
            (None, StepKind::Log(step)) => self.step(place, &**step, &record),
        });
        let before = self.out.len();
        match outcome {
            Ok(Outcome::Notices(told, version)) => self.announce(place, &record, 0, (told, version)),
            Ok(Outcome::SentOn(copies)) => self.send_on(place, &record, copies),
            Ok(Outcome::Halt) => return self.halts.push((source.clone(), record.offset)),
            Err(Reject::Skip { .. }) => {}
            Err(Reject::Unreadable { .. }) if place.sub.on_unreadable(&source.topic) == OnUnreadable::Skip => {}
            Err(Reject::Unreadable { .. }) if place.sub.on_unreadable(&source.topic) == OnUnreadable::Halt => {
                return self.halts.push((source.clone(), record.offset));
            }
            // The driver's algorithms ask as often as they were going to; a record that still asks does so for ever.
            Err(reject) => self.dead_letter(place, &record, (0, Vec::new()), &reject),
        }
        let own = self.out.iter().skip(before).filter(|message| message.kind != Kind::SentOn).count();
        self.fire_behind(place, record.offset, i32::try_from(own).unwrap_or(i32::MAX));
    }

    /// Takes an offset where no record lies. The task has a clock from it on, as from a record.
    pub(super) fn pass(&mut self, source: &TopicPartition) {
        if let Some(place) = place_of(self.topology, source) {
            self.stores_of(place);
        }
    }

    /// Whether the partition must stand still in front of the record.
    pub(super) fn halts_at(&self, source: &TopicPartition, input: &Message) -> bool {
        let mut copy = self.clone();
        copy.take(source, input);
        copy.halts.len() > self.halts.len()
    }

    /// Runs [`Interpreter::check`] and moves the clock. A task has a clock from the first offset that it decides. Each
    /// record of a stream moves it once it is decided here, whatever comes of it, unless it is from the future or without a time.
    fn checked(&mut self, place: Place<'_>, record: &Record<'_>) -> Result<Option<Outcome>, Reject> {
        let is_in_time = (0..=self.latest_event_time).contains(&record.timestamp.0);
        let outcome = self.check(place, record);
        if !matches!(outcome, Ok(Some(Outcome::Halt))) {
            let moves = !place.sub.is_table(&place.source.topic) && is_in_time && !matches!(outcome, Ok(Some(_)));
            let mut stores = self.stores_of(place);
            stores.stream_time = stores.stream_time.max(moves.then_some(record.timestamp.0));
            self.stores.insert((place.number, place.source.partition.0), stores);
        }
        outcome
    }

    /// Checks every record before it is decoded.
    fn check(&self, place: Place<'_>, record: &Record<'_>) -> Result<Option<Outcome>, Reject> {
        let is_in_time = (0..=self.latest_event_time).contains(&record.timestamp.0);
        let is_outside = !is_in_time && !place.sub.is_table(&place.source.topic);
        let stores = self.stores.get(&(place.number, place.source.partition.0));
        let is_bounded = !self.is_everlasting || stores.is_some_and(|stores| stores.is_clocked);
        let expires = |store: &StoreSpec| is_bounded && store.time_to_live.is_some();
        if is_outside && place.sub.stores.iter().any(|store| store.timers.is_some() || expires(store)) {
            let code = if record.timestamp.0 < 0 { "event-time-missing" } else { "event-time-ahead" };
            return Err(Reject::dead_letter(code, ""));
        }
        if record.value.map_or(0, <[u8]>::len) > self.settings.record_bytes_max {
            return Err(Reject::dead_letter("too-large", ""));
        }
        if self.blamed.contains(&(place.source.clone(), record.offset)) {
            return Err(Reject::dead_letter("kills-the-process", ""));
        }
        let declared = place.sub.declarations().find(|(topic, _)| **topic == place.source.topic);
        let Some((_, declared)) = declared else { return Ok(None) };
        let key = record.key.ok_or_else(|| Reject::unreadable("null-key", ""))?;
        let hash = || declared.hash().partition(key, declared.count());
        let expected = catch_unwind(AssertUnwindSafe(hash)).map_err(|_| Reject::dead_letter("panic", ""))?;
        if expected == place.source.partition.0 || declared.policy() == OnViolation::Warn {
            return Ok(None);
        }
        let astray = self.topology.astray_topic(place.sub).filter(|_| declared.policy() == OnViolation::Repartition);
        Ok(Some(match astray {
            Some(topic) if (0..declared.count()).contains(&expected) => {
                Outcome::SentOn(vec![(topic, Some(expected), Some(key.to_vec()))])
            }
            _ => Outcome::Halt,
        }))
    }

    /// A step with rows: over a record, or over a timer.
    pub(super) fn update(
        &mut self,
        place: Place<'_>,
        step: &dyn RowStep,
        record: &Record<'_>,
        timer: Option<&Timer>,
    ) -> Result<(Vec<Told>, Option<i64>), Reject> {
        let spec = step.table();
        let key = spec.table.key_type.parse(record.key)?;
        let at = (spec.table.name.clone(), key.clone());
        let found = self.rows.get(&at).cloned();
        let is_missing = found.is_none() && !spec.inserts;
        if is_missing && place.sub.gathers.is_none() {
            return Err(self.missing_row());
        }
        let seen = found.as_ref().map(|row| row.seen(&key, spec));
        let mut stores = self.stores_of(place);
        let applied =
            stores.run(
                place.source,
                record,
                (&key, self.latest_event_time, None, self.now_ms),
                |context| match timer {
                    None => step.apply(record, seen.as_deref(), context),
                    Some(timer) => step.timer(timer, seen.as_deref(), context),
                },
            );
        let applied = match applied {
            _ if has_stalled() => Err(Reject::dead_letter("too-slow", "")),
            Err(reject) if is_missing && reject.code() == "missing-row" => Err(self.missing_row()),
            applied => applied,
        }?;
        self.fits(record, &applied.emissions)?; // the database sees no row whose notices are too large
        let is_changed = applied.row != RowChange::Kept;
        if seen.as_ref().is_some_and(|seen| touches(spec, seen, &applied.row, self.made)) {
            return Err(Reject::dead_letter("read-only", ""));
        }
        let (mut next, version) = Row::after(found.as_ref(), spec, &seen.unwrap_or_default(), applied.row);
        let refuses = |row: &mut Row| is_changed && (self.refuses)(&spec.table.name, &mut row.values);
        if next.as_mut().is_some_and(refuses) {
            return Err(Reject::dead_letter("constraint", ""));
        }
        let version = spec.table.version_column.is_some().then_some(version);
        match next {
            Some(row) => drop(self.rows.insert(at, row)),
            None => drop(self.rows.remove(&at)),
        }
        self.stores.insert((place.number, place.source.partition.0), stores);
        Ok((applied.emissions.into_iter().map(Ok).collect(), version))
    }

    fn missing_row(&self) -> Reject {
        match self.settings.missing_row {
            MissingRow::Skip => Reject::skip("missing-row"),
            _ => Reject::dead_letter("missing-row", ""),
        }
    }

    /// A record of a table in front of a step with rows.
    fn keep(&mut self, place: Place<'_>, step: &dyn RowStep, record: &Record<'_>) -> Result<Outcome, Reject> {
        let key = step.table().table.key_type.parse(record.key)?;
        let mut stores = self.stores_of(place);
        stores.run(place.source, record, (&key, self.latest_event_time, None, self.now_ms), |context| {
            step.keep(record, context)
        })?;
        self.stores.insert((place.number, place.source.partition.0), stores);
        Ok(Outcome::Notices(Vec::new(), None))
    }

    /// A step without rows.
    fn step(&mut self, place: Place<'_>, step: &dyn LogStep, record: &Record<'_>) -> Result<Outcome, Reject> {
        let any = || KeyType::Text.parse(record.key).unwrap_or_else(|_| Key::from(""));
        let key = step.key_type().map_or_else(|| Ok(any()), |key_type| key_type.parse(record.key))?;
        let mut stores = self.stores_of(place);
        let stepped = stores.run(place.source, record, (&key, self.latest_event_time, None, self.now_ms), |context| {
            step.apply(record, context)
        });
        has_stalled(); // which makes no difference here
        let stepped = stepped?;
        let sent_on = stepped.sent_on.clone();
        let told = self.told(record, stepped)?;
        self.stores.insert((place.number, place.source.partition.0), stores);
        let keys = || sent_on.iter().map(|key| key.map(<[u8]>::to_vec));
        let copies = |to: &TopicName| keys().map(|key| (to.clone(), None, key)).collect::<Copies>();
        match place.sub.sent_on_to() {
            [] => Ok(Outcome::Notices(told, None)),
            to => Ok(Outcome::SentOn(to.iter().flat_map(copies).collect())),
        }
    }

    /// A copy of the task's stores, to be put back once the record is accepted.
    pub(super) fn stores_of(&mut self, place: Place<'_>) -> Stores {
        let kept = || vec![BTreeMap::new(); place.sub.stores.len()];
        let empty = || Stores { specs: place.sub.stores.clone(), kept: kept(), ..Stores::default() };
        let stores = self.stores.entry((place.number, place.source.partition.0)).or_insert_with(empty);
        stores.is_everlasting = self.is_everlasting;
        stores.clone()
    }

    /// What a step tells. A window that cannot be told takes nothing else along.
    pub(super) fn told(&self, record: &Record<'_>, stepped: Stepped) -> Result<Vec<Told>, Reject> {
        self.fits(record, &stepped.emissions)?;
        let mut out: Vec<Told> = stepped.emissions.into_iter().map(Ok).collect();
        for pane in stepped.panes {
            let span = span_of(pane.start_ms, pane.end_ms);
            match pane.told.and_then(|told| self.fits(record, &told).map(|()| told)) {
                Ok(told) => out.extend(told.into_iter().map(Ok)),
                Err(reject) => out.push(Err((span, reject))),
            }
        }
        Ok(out)
    }

    fn fits(&self, record: &Record<'_>, emissions: &[Emission]) -> Result<(), Reject> {
        let is_large = |emission: &Emission| {
            let own = emission.envelope.as_ref().map_or(0, |own| header_bytes(&own.headers));
            let key = key_of(record, emission).map_or(0, <[u8]>::len);
            let bytes = emission.value.as_ref().map_or(0, Vec::len) + key + own;
            self.limits.get(emission.destination.as_str()).is_some_and(|limit| bytes > *limit)
        };
        if emissions.iter().any(is_large) { Err(Reject::dead_letter("too-large", "")) } else { Ok(()) }
    }

    pub(super) fn announce(
        &mut self,
        place: Place<'_>,
        record: &Record<'_>,
        first: i32,
        (told, version): (Vec<Told>, Option<i64>),
    ) {
        for (seq, told) in (first..).zip(told) {
            let emission = match told {
                Ok(emission) => emission,
                Err((span, reject)) => {
                    let record = Record { value: None, headers: &[], ..*record };
                    self.dead_letter(place, &record, (seq, vec![(WINDOW_HEADER, span)]), &reject);
                    continue;
                }
            };
            let id = self.id(place, record, seq);
            let threshold = emission.threshold.map(|limit| limit.to_string());
            let content_type = emission.value.as_ref().map(|_| emission.content_type);
            let own = emission.envelope.as_deref().cloned().unwrap_or_default();
            let key = key_of(record, &emission);
            let as_sent =
                Record { timestamp: own.timestamp.unwrap_or(record.timestamp), headers: &own.headers, ..*record };
            let placing = own.partition_by.as_deref().or(key);
            let to = (placing.map(|text| partition_for(text, self.partitions)), key, emission.value.clone());
            let kind = Kind::Notice { id, version, threshold, content_type };
            self.expect(place, &as_sent, emission.destination.clone(), to, kind);
        }
    }

    fn send_on(&mut self, place: Place<'_>, record: &Record<'_>, copies: Copies) {
        for (destination, partition, key) in copies {
            let by_key = || key.as_ref().map(|key| partition_for(key, self.partitions));
            let to = (partition.or_else(by_key), key.as_deref(), record.value.map(<[u8]>::to_vec));
            self.expect(place, record, destination, to, Kind::SentOn);
        }
    }

    pub(super) fn dead_letter(
        &mut self,
        place: Place<'_>,
        record: &Record<'_>,
        (seq, about): (i32, About),
        reject: &Reject,
    ) {
        let (id, code) = (self.id(place, record, seq), reject.code().to_owned());
        let destination = Topology::dead_letter_topic(&place.source.topic);
        let to = (Some(place.source.partition.0), record.key, record.value.map(<[u8]>::to_vec));
        self.expect(place, record, destination, to, Kind::DeadLetter { id, code, about });
    }

    fn expect(
        &mut self,
        place: Place<'_>,
        record: &Record<'_>,
        destination: TopicName,
        (partition, key, value): (Option<i32>, Option<&[u8]>, Option<Vec<u8>>),
        kind: Kind,
    ) {
        let (source, source_offset) = (place.source.clone(), record.offset);
        // Kafka's client takes 0 for the moment of sending. A dead letter says it in a header.
        let is_now = record.timestamp.0 == 0 && !matches!(kind, Kind::DeadLetter { .. });
        let timestamp = if is_now { Timestamp(1) } else { record.timestamp };
        let (key, headers) = (key.map(<[u8]>::to_vec), record.headers.to_vec());
        self.out.push(Expected { destination, partition, source, source_offset, key, value, timestamp, headers, kind });
    }

    fn id(&self, place: Place<'_>, record: &Record<'_>, seq: i32) -> String {
        let (pipeline, source, source_offset) = (self.topology.name(), place.source, record.offset);
        NoticeId { pipeline, source, source_offset, seq, incarnation: 0 }.to_string()
    }
}
