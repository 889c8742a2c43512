//! The audit: measures the guarantee instead of assuming it.
//!
//! It joins what the database says was decided with what a committed reader finds in the topics, by id: every outbox row
//! below K stands in its topic once and with the same bytes; nothing stands there that the outbox lacks (unless it is
//! older than the outbox is kept); each source partition's messages stand in their order within each output partition;
//! and the sum of row versions equals the number of records that changed a row. Changelogs are left out: they are compacted,
//! so that a record which is not there may have been.
//!
//! Both sides may move while it reads: K is read before the outbox and the outbox before the topics, so that whatever is
//! found missing was really to be there; what came later is left out.

use crate::engine::message::{id_of, turn_of};
use crate::engine::supervisor::{changelogs, outputs};
use crate::flow::identity::ID_HEADER;
use crate::flow::record::{NextOffset, Partition, Timestamp, TopicName, TopicPartition};
use crate::flow::topology::Topology;
use crate::ports::Fault;
use crate::ports::history::{Found, RowHistory, TopicHistory};
use crate::ports::repair::Deed;
use crate::ports::rows::{Counts, OutboxRow, Position};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// How many findings of one kind are named; all are counted.
const NAMED: usize = 20;

/// What the audit found. Counts are of records or messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// The pipeline.
    pub pipeline: String,
    /// Each source partition.
    pub partitions: Vec<PartitionReport>,
    /// Records decided since the pipeline began.
    pub records: i64,
    /// Records that changed their row.
    pub row_changes: i64,
    /// The sum of row versions since the pipeline began; `None` where a table has no version column, or while rows are
    /// being changed.
    pub row_versions: Option<i64>,
    /// Notices and dead letters decided since the pipeline began.
    pub announced: i64,
    /// Of these, dead letters.
    pub dead_letters: i64,
    /// Outbox rows kept.
    pub outbox_rows: usize,
    /// Of these, rows that must be in their topics: below K.
    pub published: usize,
    /// Messages of this pipeline found in the topics.
    pub in_topics: usize,
    /// Messages whose outbox row is no longer kept: counted, not compared.
    pub beyond_retention: usize,
    /// Below K in the outbox and not in the topic.
    pub missing: Findings,
    /// More than once in the topic.
    pub twice: Findings,
    /// In the topic and not in the outbox.
    pub unknown: Findings,
    /// In the topic with other bytes than in the outbox.
    pub altered: Findings,
    /// Behind a later record of the same source partition.
    pub out_of_order: Findings,
    /// Other contradictions, a sentence each.
    pub contradictions: Vec<String>,
    /// Findings of inputs whose announcements an operator's repair has set apart: counted, and no finding.
    pub repaired: usize,
    /// What operators did, oldest first.
    pub repairs: Vec<RepairReport>,
}

/// What an operator did to one source partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RepairReport {
    /// `topic-partition`.
    pub source: String,
    /// The command's name and flags.
    pub command: String,
    /// User and machine.
    pub who: String,
    /// When, in UTC.
    pub at: String,
    /// D before; `null` where there was no position.
    pub next_offset_before: Option<i64>,
    /// D after.
    pub next_offset: i64,
    /// K before.
    pub committed_before: Option<i64>,
    /// K after.
    pub committed: i64,
}

impl From<&(Timestamp, Deed)> for RepairReport {
    fn from((at, deed): &(Timestamp, Deed)) -> Self {
        Self {
            source: deed.source.to_string(),
            command: deed.command.clone(),
            who: deed.who.clone(),
            at: at.to_rfc3339(),
            next_offset_before: deed.next_offset.0.map(|d| d.0),
            next_offset: deed.next_offset.1.0,
            committed_before: deed.committed.0.map(|k| k.0),
            committed: deed.committed.1.0,
        }
    }
}

/// One source partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionReport {
    /// `topic-partition`.
    pub source: String,
    /// D.
    pub next_offset: i64,
    /// K.
    pub committed_offset: Option<i64>,
    /// H.
    pub end_offset: i64,
}

/// Findings of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// How many.
    pub count: usize,
    /// The first of them, by id.
    pub ids: Vec<String>,
}

impl Findings {
    fn add(&mut self, id: &str) {
        self.count += 1;
        if self.ids.len() < NAMED {
            self.ids.push(id.into());
        }
    }
}

impl AuditReport {
    /// Whether nothing is missing, twice, altered, unknown, out of order or contradictory.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let findings = [&self.missing, &self.twice, &self.unknown, &self.altered, &self.out_of_order];
        findings.iter().all(|found| found.count == 0) && self.contradictions.is_empty()
    }

    /// Whether every source partition is read to its end and published.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let done = |p: &PartitionReport| p.next_offset == p.end_offset && p.committed_offset == Some(p.next_offset);
        self.partitions.iter().all(done)
    }
}

/// What the outbox says about one message.
struct Expected {
    destination: TopicName,
    digest: u64,
    is_published: bool,
    found: usize,
}

/// Runs the audit.
///
/// # Errors
/// `Retry` when a server did not answer; `Corrupt` when a topic is missing.
pub fn audit(topology: &Topology, rows: &mut dyn RowHistory, log: &mut dyn TopicHistory) -> Result<AuditReport, Fault> {
    let deeds = rows.deeds()?;
    let positions = rows.positions()?;
    let sources: Vec<TopicPartition> = positions.iter().map(|(source, _, _)| source.clone()).collect();
    let progress = log.progress(&sources)?;
    let committed: HashMap<TopicPartition, NextOffset> =
        sources.iter().zip(&progress).filter_map(|(source, (k, _))| Some((source.clone(), (*k)?))).collect();

    let repairs = deeds.iter().map(RepairReport::from).collect();
    let mut report = AuditReport { pipeline: topology.name().into(), repairs, ..AuditReport::default() };
    sum_up(&mut report, &positions, &progress);
    let (mut expected, oldest) = read_outbox(topology, rows, &committed)?;
    report.outbox_rows = expected.len();
    report.published = expected.values().filter(|expected| expected.is_published).count();

    let latest = rows.positions()?;
    compare_versions(topology, rows, &positions, &latest, &mut report)?;
    let ends: HashMap<TopicPartition, NextOffset> =
        latest.into_iter().map(|(source, position, _)| (source, position.next_offset)).collect();
    for topic in outputs(topology).difference(&changelogs(topology)) {
        let mut order: HashMap<(i32, TopicPartition, i32), (i64, i32)> = HashMap::new();
        log.await_open(topic)?;
        log.each_message(topic, &mut |found| {
            let known = Known { oldest: &oldest, ends: &ends, deeds: &deeds };
            judge(topology.name(), topic, &found, &mut expected, &mut order, &known, &mut report);
        })?;
    }
    for (id, expected) in expected.iter().filter(|(_, expected)| expected.is_published && expected.found == 0) {
        if origin_of(topology.name(), id).is_some_and(|origin| origin.is_excused(&deeds)) {
            report.repaired += 1;
        } else {
            report.missing.add(&format!("{id} in {}", expected.destination));
        }
    }
    report.missing.ids.sort();
    Ok(report)
}

fn sum_up(
    report: &mut AuditReport,
    positions: &[(TopicPartition, Position, Counts)],
    progress: &[(Option<NextOffset>, NextOffset)],
) {
    for ((source, position, counts), (k, end)) in positions.iter().zip(progress) {
        report.records += counts.records;
        report.row_changes += counts.row_changes;
        report.announced += counts.announced + counts.dead_letters;
        report.dead_letters += counts.dead_letters;
        report.partitions.push(PartitionReport {
            source: source.to_string(),
            next_offset: position.next_offset.0,
            committed_offset: k.map(|k| k.0),
            end_offset: end.0,
        });
        if position.published > k.unwrap_or(position.published) {
            let (p, k) = (position.published, k.map_or(-1, |k| k.0));
            report.contradictions.push(format!("{source}: the database says published below {p}, the group says {k}"));
        }
    }
}

/// The versions are compared only if nothing moved while they were read.
fn compare_versions(
    topology: &Topology,
    rows: &mut dyn RowHistory,
    before: &[(TopicPartition, Position, Counts)],
    after: &[(TopicPartition, Position, Counts)],
    report: &mut AuditReport,
) -> Result<(), Fault> {
    let mut sum = Some(0);
    let mut tables: Vec<_> = topology.sub_topologies().iter().filter_map(|sub| Some(&sub.table()?.table)).collect();
    tables.dedup();
    for table in tables {
        sum = sum.zip(rows.version_sum(table)?).map(|(sum, more)| sum + more);
    }
    let numbers = |all: &[(TopicPartition, Position, Counts)]| -> Vec<(i64, Counts)> {
        all.iter().map(|(_, position, counts)| (position.next_offset.0, *counts)).collect()
    };
    if numbers(before) != numbers(after) || numbers(after) != numbers(&rows.positions()?) {
        return Ok(()); // the pipeline is running
    }
    report.row_versions = sum;
    if let Some(sum) = sum.filter(|sum| *sum != report.row_changes) {
        report.contradictions.push(format!(
            "row versions have risen by {sum}, but {} records changed a row: an update was lost, or somebody else writes the table",
            report.row_changes
        ));
    }
    Ok(())
}

type Outbox = (HashMap<String, Expected>, BTreeMap<TopicPartition, i64>);

fn read_outbox(
    topology: &Topology,
    rows: &mut dyn RowHistory,
    committed: &HashMap<TopicPartition, NextOffset>,
) -> Result<Outbox, Fault> {
    let mut expected = HashMap::new();
    let mut oldest: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    rows.each_outbox_row(&mut |row: OutboxRow| {
        if turn_of(&row).is_some() {
            return;
        }
        let is_published = committed.get(&row.source).is_some_and(|k| !k.is_before(row.source_offset));
        let digest = digest(row.key.as_deref(), row.value.as_deref());
        let offset = oldest.entry(row.source.clone()).or_insert(row.source_offset.0);
        *offset = (*offset).min(row.source_offset.0);
        let id = id_of(topology.name(), &row);
        expected.insert(id, Expected { destination: row.destination, digest, is_published, found: 0 });
    })?;
    Ok((expected, oldest))
}

fn digest(key: Option<&[u8]>, value: Option<&[u8]>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, value).hash(&mut hasher);
    hasher.finish()
}

/// What bounds the comparison on both sides.
struct Known<'a> {
    /// The oldest offset that the outbox keeps, by source partition.
    oldest: &'a BTreeMap<TopicPartition, i64>,
    /// D when the outbox had been read.
    ends: &'a HashMap<TopicPartition, NextOffset>,
    /// What operators did.
    deeds: &'a [(Timestamp, Deed)],
}

fn judge(
    pipeline: &str,
    topic: &TopicName,
    found: &Found,
    expected: &mut HashMap<String, Expected>,
    order: &mut HashMap<(i32, TopicPartition, i32), (i64, i32)>,
    known: &Known<'_>,
    report: &mut AuditReport,
) {
    let Some(id) = found.header(ID_HEADER) else { return };
    let Some(origin) = origin_of(pipeline, id) else { return }; // another pipeline's
    report.in_topics += 1;
    let Origin { source, offset, seq, incarnation } = &origin;
    let is_excused = origin.is_excused(known.deeds);
    let place = (*offset, *seq);
    let last = order.entry((found.partition, source.clone(), *incarnation)).or_insert(place);
    let mut kinds = Vec::new();
    if place < *last {
        kinds.push(&mut report.out_of_order);
    }
    *last = place.max(*last);
    match expected.get_mut(id) {
        Some(expected) => {
            expected.found += 1;
            if expected.found > 1 {
                kinds.push(&mut report.twice);
            }
            if expected.destination != *topic || expected.digest != digest(found.key.as_deref(), found.value.as_deref())
            {
                kinds.push(&mut report.altered);
            }
        }
        None if known.oldest.get(source).is_none_or(|oldest| offset < oldest) && !known.oldest.is_empty() => {
            report.beyond_retention += 1;
        }
        None if known.ends.get(source).is_some_and(|end| *offset >= end.0) => {} // decided after the outbox was read
        None => kinds.push(&mut report.unknown),
    }
    if is_excused {
        report.repaired += kinds.len();
    } else {
        for findings in kinds {
            findings.add(id);
        }
    }
}

/// Which notice of which record a message is.
struct Origin {
    source: TopicPartition,
    offset: i64,
    seq: i32,
    incarnation: i32,
}

impl Origin {
    /// Whether an operator has set the announcements of this input apart.
    fn is_excused(&self, deeds: &[(Timestamp, Deed)]) -> bool {
        let is_in = |deed: &Deed| (deed.excused.0.0..deed.excused.1.0).contains(&self.offset);
        let is_of = |deed: &Deed| deed.source == self.source && deed.incarnation == self.incarnation;
        deeds.iter().any(|(_, deed)| is_of(deed) && is_in(deed))
    }
}

/// Takes an id of ours apart.
fn origin_of(pipeline: &str, id: &str) -> Option<Origin> {
    let mut parts = id.strip_prefix(pipeline)?.strip_prefix('/')?.split('/');
    let topic = TopicName::parse(parts.next()?).ok()?;
    let partition = Partition(parts.next()?.parse().ok()?);
    let offset = parts.next()?.parse().ok()?;
    let seq = parts.next()?.parse().ok()?;
    let incarnation = parts.next().map_or(Some(0), |word| word.parse().ok())?;
    Some(Origin { source: TopicPartition::new(topic, partition), offset, seq, incarnation })
}
