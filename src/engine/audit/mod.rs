//! The audit: measures the guarantee instead of assuming it.
//!
//! It joins the outbox rows of the database with the messages that a committed reader finds in the topics, by id, and
//! judges by [`Comparison`]; and the sum of row versions must equal the number of records that changed a row.
//! Changelogs are left out: they are compacted, so that a record which is not there may have been.
//!
//! Both sides may move while it reads: D and K are read before the outbox and the outbox before the topics, so that a
//! message found missing, in the topics or in the outbox, really should be there; later ones are left out.

pub mod comparison;

use crate::engine::audit::comparison::{
    Absence, Compared, Comparison, Misplaced, Origin, Standing, misplaced, origin_of,
};
use crate::flow::record::{NextOffset, Timestamp, TopicName, TopicPartition};
use crate::flow::table::TableSpec;
use crate::flow::topology::{SubTopology, Topology};
use crate::ports::Fault;
use crate::ports::history::{RowHistory, TopicHistory};
use crate::ports::repair::NotedRepair;
use crate::ports::rows::{Counts, Position};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The number of findings of one kind that are named; all are counted.
const NAMED: usize = 20;

/// The result of an audit. Counts are of records or messages.
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
    /// Dead letters among these.
    pub dead_letters: i64,
    /// Outbox rows kept.
    pub outbox_rows: usize,
    /// Rows among these that must be in their topics: below K.
    pub published: usize,
    /// Messages of this pipeline found in the topics.
    pub in_topics: usize,
    /// Published messages that are gone with the beginning of their topic's partition, by its retention or by hand:
    /// counted, and no finding.
    pub deleted: usize,
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
    /// Findings of inputs whose messages an operator's repair has excused: counted, and no finding.
    pub repaired: usize,
    /// The operators' repairs, oldest first.
    pub repairs: Vec<RepairReport>,
}

/// An operator's repair of one source partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RepairReport {
    /// `topic-partition`.
    pub source: String,
    /// The command's name and flags.
    pub command: String,
    /// User and machine.
    pub who: String,
    /// The time, in UTC.
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

impl From<&(Timestamp, NotedRepair)> for RepairReport {
    fn from((at, repair): &(Timestamp, NotedRepair)) -> Self {
        Self {
            source: repair.source.to_string(),
            command: repair.command.clone(),
            who: repair.who.clone(),
            at: at.to_rfc3339(),
            next_offset_before: repair.next_offset.0.map(|d| d.0),
            next_offset: repair.next_offset.1.0,
            committed_before: repair.committed.0.map(|k| k.0),
            committed: repair.committed.1.0,
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
    /// Their number.
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

/// Runs the audit.
///
/// # Errors
/// `Retry` when a server did not answer; `Corrupt` when a topic is missing.
pub fn audit(topology: &Topology, rows: &mut dyn RowHistory, log: &mut dyn TopicHistory) -> Result<AuditReport, Fault> {
    let noted: Vec<(Timestamp, NotedRepair)> = rows.repairs()?;
    let positions = rows.positions()?;
    let sources: Vec<TopicPartition> = positions.iter().map(|(source, _, _)| source.clone()).collect();
    let progress = log.progress(&sources)?;
    let committed: HashMap<TopicPartition, NextOffset> =
        sources.iter().zip(&progress).filter_map(|(source, (k, _))| Some((source.clone(), (*k)?))).collect();

    let repairs = noted.iter().map(RepairReport::from).collect();
    let mut report = AuditReport { pipeline: topology.name().into(), repairs, ..AuditReport::default() };
    sum_up(&mut report, &positions, &progress);
    let topics: Vec<TopicName> = topology.outputs().difference(&topology.changelogs()).cloned().collect();
    let mut comparison = Comparison::new(topology.name(), committed).leaving_out(read_without_rows(topology));
    for topic in &topics {
        comparison.begins(topic, log.starts(topic)?);
    }
    rows.each_outbox_row(&mut |row| comparison.expect(&row))?;
    comparison.dropped(&rows.gaps()?); // asked after them: rows dropped meanwhile are a gap, too
    (report.outbox_rows, report.published) = comparison.expected_count();

    let latest = rows.positions()?;
    compare_positions(&positions, &progress, &latest, &noted, &mut report);
    compare_versions(topology, rows, &positions, &latest, &mut report)?;
    comparison.expected_all(decided_before(&positions, latest));
    for topic in &topics {
        log.await_open(topic)?;
        log.each_message(topic, &mut |found| {
            if let (Some(id), Some(compared)) = (found.id(), comparison.find(topic, &found)) {
                tally(&mut report, id, &compared, &noted);
            }
        })?;
        comparison.begins(topic, log.starts(topic)?); // records deleted while the topic was read count, too
    }
    report_missing(topology.name(), &comparison, &noted, &mut report);
    Ok(report)
}

/// The topics that steps without rows read, and none with rows.
fn read_without_rows(topology: &Topology) -> BTreeSet<TopicName> {
    let read = |has_rows: bool| {
        let subs = topology.sub_topologies().iter().filter(move |sub| sub.table().is_some() == has_rows);
        subs.flat_map(SubTopology::sources).cloned().collect::<BTreeSet<TopicName>>()
    };
    read(false).difference(&read(true)).cloned().collect()
}

/// Reports published messages that were not found, apart from those that their topic cannot hold any more.
fn report_missing(
    pipeline: &str,
    comparison: &Comparison,
    noted: &[(Timestamp, NotedRepair)],
    report: &mut AuditReport,
) {
    let mut emptied: BTreeMap<&TopicName, usize> = BTreeMap::new();
    for (id, destination) in comparison.missing() {
        if origin_of(pipeline, id).is_some_and(|origin| is_excused(&origin, noted)) {
            report.repaired += 1;
            continue;
        }
        match comparison.absence(id) {
            Absence::Unexplained => report.missing.add(&format!("{id} in {destination}")),
            Absence::Deleted => report.deleted += 1,
            Absence::NothingAsOld => *emptied.entry(destination).or_default() += 1,
        }
    }
    report.contradictions.extend(emptied.into_iter().map(|(topic, count)| {
        format!(
            "topic {topic}: {count} messages were published there, and it holds nothing as old as they are: it was made anew \
             since, or they are lost"
        )
    }));
}

/// D as it stood before the outbox was read; 0 of a partition that came to its position meanwhile.
fn decided_before(
    before: &[(TopicPartition, Position, Counts)],
    latest: Vec<(TopicPartition, Position, Counts)>,
) -> HashMap<TopicPartition, NextOffset> {
    let decided = before.iter().map(|(source, position, _)| (source.clone(), position.next_offset));
    latest.into_iter().map(|(source, _, _)| (source, NextOffset(0))).chain(decided).collect()
}

/// Whether an operator's repair has excused the messages of this input.
fn is_excused(origin: &Origin, noted: &[(Timestamp, NotedRepair)]) -> bool {
    let is_in = |repair: &NotedRepair| (repair.excused.0.0..repair.excused.1.0).contains(&origin.offset.0);
    let is_of = |repair: &NotedRepair| repair.source == origin.source && repair.incarnation == origin.incarnation;
    noted.iter().any(|(_, repair)| is_of(repair) && is_in(repair))
}

fn tally(report: &mut AuditReport, id: &str, compared: &Compared, noted: &[(Timestamp, NotedRepair)]) {
    report.in_topics += 1;
    let is_excused = is_excused(&compared.origin, noted);
    let found = [
        (compared.is_out_of_order, &mut report.out_of_order),
        (compared.is_repeated, &mut report.twice),
        (compared.is_altered, &mut report.altered),
        (compared.standing == Standing::Unknown, &mut report.unknown),
    ];
    let found = found.into_iter().filter(|(is_found, _)| *is_found);
    if is_excused {
        report.repaired += found.count();
    } else {
        found.for_each(|(_, findings)| findings.add(id));
    }
    report.beyond_retention += usize::from(compared.standing == Standing::BeyondRetention);
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
    }
}

/// P was read before K, and K before `latest`, so no movement meanwhile breaks a law.
fn compare_positions(
    before: &[(TopicPartition, Position, Counts)],
    progress: &[(Option<NextOffset>, NextOffset)],
    latest: &[(TopicPartition, Position, Counts)],
    noted: &[(Timestamp, NotedRepair)],
    report: &mut AuditReport,
) {
    let decided: HashMap<&TopicPartition, NextOffset> =
        latest.iter().map(|(source, position, _)| (source, position.next_offset)).collect();
    for ((source, position, _), (k, _)) in before.iter().zip(progress) {
        let (p, d) = (position.published, decided.get(source).copied().unwrap_or(position.next_offset));
        let k_text = k.map_or(-1, |k| k.0);
        let is_ordered = |misplaced: &Misplaced| {
            *misplaced == Misplaced::CommittedBeyondDecided && k.is_some_and(|k| is_replay(source, k, noted))
        };
        let misplaced = misplaced(p, *k, d).into_iter().filter(|misplaced| !is_ordered(misplaced));
        report.contradictions.extend(misplaced.map(|misplaced| match misplaced {
            Misplaced::PublishedBeyondCommitted => {
                format!("{source}: the database says published below {p}, the group says {k_text}")
            }
            Misplaced::CommittedBeyondDecided => {
                format!("{source}: the group says {k_text}, the database has decided below {d} only")
            }
        }));
    }
}

/// Whether an operator set D back below a K that stays where it is: a replay whose output is suppressed until it comes there.
fn is_replay(source: &TopicPartition, k: NextOffset, noted: &[(Timestamp, NotedRepair)]) -> bool {
    let is_it = |repair: &NotedRepair| {
        repair.source == *source && repair.next_offset.1 < repair.committed.1 && k <= repair.committed.1
    };
    noted.iter().any(|(_, repair)| is_it(repair))
}

/// The versions are compared only if nothing moved while they were read.
fn compare_versions(
    topology: &Topology,
    rows: &mut dyn RowHistory,
    before: &[(TopicPartition, Position, Counts)],
    after: &[(TopicPartition, Position, Counts)],
    report: &mut AuditReport,
) -> Result<(), Fault> {
    let mut sum = Some(0_i64);
    // Each once, whatever steps share it.
    for TableSpec { table, .. } in topology.tables() {
        sum = sum.zip(rows.version_sum(&table)?).map(|(sum, more)| sum.saturating_add(more));
    }
    let numbers = |all: &[(TopicPartition, Position, Counts)]| -> Vec<(i64, Counts)> {
        all.iter().map(|(_, position, counts)| (position.next_offset.0, *counts)).collect()
    };
    if numbers(before) != numbers(after) || numbers(after) != numbers(&rows.positions()?) {
        return Ok(()); // the pipeline is running
    }
    report.row_versions = sum;
    if let Some(sum) = sum.filter(|sum| *sum != report.row_changes) {
        report.contradictions.push(unequal(sum, report.row_changes));
    }
    Ok(())
}

/// The sentence about versions of rows that have risen by another sum than the records that changed a row.
fn unequal(sum: i64, row_changes: i64) -> String {
    let causes = if sum < row_changes {
        "rows were deleted or put back that the pipeline had changed, whose versions count no more; somebody else writes the table; or \
         an update was lost"
    } else {
        "somebody else writes the table, such as another pipeline"
    };
    format!("row versions have risen by {sum}, but {row_changes} records changed a row: {causes}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_that_are_missing_are_told_with_deleted_rows_as_a_cause() {
        let told = super::unequal(5, 7);
        assert!(
            told.starts_with("row versions have risen by 5, but 7 records changed a row: rows were deleted"),
            "{told}"
        );
        assert!(told.contains("an update was lost") && !super::unequal(7, 5).contains("deleted"));
    }

    use super::*;
    use crate::engine::outbound::message::{headers_of, id_of};
    use crate::flow::record::{Header, Offset, Partition};
    use crate::flow::table::Table;
    use crate::flow::{Algorithm, Context, Reject};
    use crate::pipelines::scoring;
    use crate::ports::history::Found;
    use crate::ports::rows::OutboxRow;
    use crate::ports::source::LogIds;

    const PIPELINE: &str = "scoring";

    fn source() -> TopicPartition {
        TopicPartition::new(TopicName::parse("readings").unwrap(), Partition(0))
    }

    fn row(offset: i64) -> OutboxRow {
        OutboxRow {
            source: source(),
            source_offset: Offset(offset),
            seq: 0,
            incarnation: 0,
            destination: TopicName::parse("large-changes").unwrap(),
            key: Some(b"7".to_vec()),
            value: None,
            headers: vec![Header::new("tg_version", *b"3")],
            created_at: Timestamp(0),
            timestamp: None,
        }
    }

    /// A pipeline that decides and publishes while it is audited. Its outbox lacks `lost`.
    struct Running {
        /// D of the only source partition, when first asked for and from then on; `None` before it has a position.
        decided: [Option<i64>; 2],
        asked: usize,
        /// The number of offsets that the outbox shows when it is read: between the two.
        outbox: i64,
        lost: Option<i64>,
    }

    impl Running {
        fn audited(decided: [Option<i64>; 2], outbox: i64, lost: Option<i64>) -> AuditReport {
            let mut rows = Self { decided, asked: 0, outbox, lost };
            let end = decided[1].unwrap();
            let topology = scoring::topology();
            audit(&topology, &mut rows, &mut Published { end }).unwrap()
        }
    }

    impl RowHistory for Running {
        fn positions(&mut self) -> Result<Vec<(TopicPartition, Position, Counts)>, Fault> {
            let decided = self.decided[self.asked.min(1)];
            self.asked += 1;
            let position = |decided| Position {
                epoch: 1,
                next_offset: NextOffset(decided),
                published: NextOffset(0),
                incarnation: 0,
                group: PIPELINE.into(),
                log_ids: LogIds::default(),
                partition_count: 1,
            };
            Ok(decided.map(|decided| (source(), position(decided), Counts::default())).into_iter().collect())
        }

        fn version_sum(&mut self, _: &Table) -> Result<Option<i64>, Fault> {
            Ok(None)
        }

        fn each_outbox_row(&mut self, visit: &mut dyn FnMut(OutboxRow)) -> Result<(), Fault> {
            (0..self.outbox).filter(|offset| Some(*offset) != self.lost).map(row).for_each(visit);
            Ok(())
        }

        fn repairs(&mut self) -> Result<Vec<(Timestamp, NotedRepair)>, Fault> {
            Ok(Vec::new())
        }
    }

    /// Everything below `end` is in the topic by the time it is read.
    struct Published {
        end: i64,
    }

    impl TopicHistory for Published {
        fn await_open(&mut self, _: &TopicName) -> Result<(), Fault> {
            Ok(())
        }

        fn starts(&mut self, _: &TopicName) -> Result<Vec<NextOffset>, Fault> {
            Ok(vec![NextOffset(0)])
        }

        fn each_message(&mut self, topic: &TopicName, visit: &mut dyn FnMut(Found)) -> Result<(), Fault> {
            let is_its = |row: &OutboxRow| row.destination == *topic;
            (0..self.end).map(row).filter(is_its).for_each(|row| {
                let (offset, headers) = (row.source_offset.0, headers_of(PIPELINE, &row));
                visit(Found { partition: 0, offset, timestamp: Timestamp(0), key: row.key, value: row.value, headers });
            });
            Ok(())
        }

        fn progress(&mut self, sources: &[TopicPartition]) -> Result<Vec<(Option<NextOffset>, NextOffset)>, Fault> {
            Ok(sources.iter().map(|_| (Some(NextOffset(3)), NextOffset(self.end))).collect())
        }
    }

    #[test]
    fn what_is_decided_while_the_outbox_is_read_is_no_finding() {
        let report = Running::audited([Some(5), Some(9)], 7, None);
        assert!(report.is_clean(), "{report:?}");
        assert_eq!((report.outbox_rows, report.published, report.in_topics), (7, 3, 9));
        let report = Running::audited([None, Some(9)], 0, None);
        assert!(report.is_clean() && report.in_topics == 9, "{report:?}");
    }

    #[test]
    fn a_message_whose_row_was_to_be_there_is_unknown_while_the_pipeline_runs_too() {
        let report = Running::audited([Some(5), Some(9)], 7, Some(4));
        assert_eq!(report.unknown.ids, [id_of(PIPELINE, &row(4))]);
        assert!(!report.is_clean());
    }

    fn repair(next_offset: (i64, i64), committed: (i64, i64)) -> (Timestamp, NotedRepair) {
        let pair = |(before, after)| (Some(NextOffset(before)), NextOffset(after));
        let repair = NotedRepair {
            source: source(),
            command: "replay --suppress-output".into(),
            who: "o".into(),
            incarnation: 0,
            next_offset: pair(next_offset),
            committed: pair(committed),
            excused: (NextOffset(0), NextOffset(0)),
        };
        (Timestamp(0), repair)
    }

    #[test]
    fn only_a_repair_that_left_d_below_k_is_a_replay_and_only_up_to_its_k() {
        let replay = [repair((5, 5), (9, 9))];
        assert!(is_replay(&source(), NextOffset(9), &replay) && is_replay(&source(), NextOffset(6), &replay));
        assert!(!is_replay(&source(), NextOffset(10), &replay));
        assert!(!is_replay(&source(), NextOffset(9), &[repair((5, 9), (9, 9))]), "both went to the same offset");
    }

    #[test]
    fn messages_whose_rows_are_gone_by_age_are_counted_and_no_others() {
        let compared = |standing| Compared {
            origin: origin_of(PIPELINE, &id_of(PIPELINE, &row(1))).unwrap(),
            standing,
            is_repeated: false,
            is_altered: false,
            is_out_of_order: false,
        };
        let mut report = AuditReport::default();
        for standing in [Standing::BeyondRetention, Standing::Kept, Standing::BeyondRetention] {
            tally(&mut report, "id", &compared(standing), &[]);
        }
        assert_eq!((report.in_topics, report.beyond_retention), (3, 2));
        assert!(report.is_clean());
    }

    /// Nothing moves, and the rows' versions have risen by this.
    struct Resting(i64, Counts);

    impl RowHistory for Resting {
        fn positions(&mut self) -> Result<Vec<(TopicPartition, Position, Counts)>, Fault> {
            let mut all = Running { decided: [Some(3); 2], asked: 0, outbox: 0, lost: None }.positions()?;
            for (_, _, counts) in &mut all {
                *counts = self.1;
            }
            Ok(all)
        }

        fn version_sum(&mut self, _: &Table) -> Result<Option<i64>, Fault> {
            Ok(Some(self.0))
        }

        fn each_outbox_row(&mut self, _: &mut dyn FnMut(OutboxRow)) -> Result<(), Fault> {
            Ok(())
        }

        fn repairs(&mut self) -> Result<Vec<(Timestamp, NotedRepair)>, Fault> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn versions_that_rose_by_more_or_less_than_the_records_changed_rows_are_a_contradiction() {
        let counts = Counts { row_changes: 4, ..Counts::default() };
        for (sum, is_clean) in [(4, true), (5, false), (3, false)] {
            let report = audit(&scoring::topology(), &mut Resting(sum, counts), &mut Published { end: 0 }).unwrap();
            assert_eq!((report.contradictions.is_empty(), report.row_versions), (is_clean, Some(sum)), "{report:?}");
        }
    }

    /// Counts the records of its source in a row.
    struct Count;

    #[derive(serde::Serialize, serde::Deserialize, Default)]
    struct Counted {
        count: i64,
    }

    impl Algorithm for Count {
        type Event = i64;
        type Row = Counted;
        type Notices = Option<i64>;

        fn apply(&self, _: i64, row: &mut Counted, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
            row.count += 1;
            Ok(None)
        }
    }

    #[test]
    fn a_table_that_several_steps_share_is_summed_once() {
        let mut topology = Topology::new(PIPELINE);
        for (topic, table) in [("x", "a"), ("y", "b"), ("z", "a")] {
            topology.source(topic).update(table, Count).done();
        }
        let mut report = AuditReport::default();
        let positions = Resting(7, Counts::default()).positions().unwrap();
        compare_versions(&topology, &mut Resting(7, Counts::default()), &positions, &positions, &mut report).unwrap();
        assert_eq!(report.row_versions, Some(14));
    }
}
