//! `halted`: which partitions stand still, or would, decided from the current answers of the servers by the same table
//! that the engine uses; with the commands that set them going, and the repairs made before.
//!
//! Halts that only a running instance sees (an altered row, a record in the wrong partition, an unreadable store) are asked of
//! the instances, at their `/status`. What could not be learnt of a partition is said, and the exit code tells it.

mod display;
mod finding;
mod instances;
mod strangers;

use crate::adapters::kafka::KafkaOffsets;
use crate::adapters::postgres::PostgresHistory;
use crate::app::application::App;
use crate::app::cli::{Output, OutputArguments};
use crate::app::exit::Exit;
use crate::app::failure::Failure;
use crate::app::repair::sources;
use crate::app::service::Service;
use crate::app::{logging, table};
use crate::engine::audit::RepairReport;
use crate::engine::protocol::decision::{Decision, Facts, HaltReason, LogFacts, decide, decide_log};
use crate::engine::protocol::metadata;
use crate::engine::protocol::remedy::{Place, choices};
use crate::engine::repair::sub_topology;
use crate::engine::worker::takeover::traces::is_any_written;
use crate::flow::record::{Partition, TopicName, TopicPartition};
use crate::flow::topology::{CommitKind, SubTopology, Topology};
use crate::ports::Fault;
use crate::ports::history::RowHistory;
use crate::ports::repair::Offsets as _;
use crate::ports::rows::Position;
use crate::ports::schema::Schema as _;
use crate::ports::source::{Committed, Group};
use crate::ports::topics::no_topic;
use finding::Halted;
use instances::{Members, Seen, Told, ask_all, put_together};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

const ANSWER: Duration = Duration::from_secs(10);
/// The same for each partition, once one of them has not been answered for.
const ANSWER_SOON: Duration = Duration::from_secs(2);

pub(super) fn halted(app: &App, arguments: OutputArguments, out: &mut dyn Write) -> Result<Exit, Failure> {
    let settings = app.settings_for(app.needs())?;
    logging::start(&settings);
    let service = Service::new(&app.topology, settings)?;
    let log = service.topic_history().map_err(|fault| service.kafka_said(fault))?;
    let group = log.group();
    let (mut rows, repairs) = match of_database(&service) {
        Ok(found) => found,
        Err(failure) => {
            // What the instances say needs no database; the failure is told behind it.
            if let Ok(told) = told_by_instances(&service, &*group) {
                display::write_told(&told, &mut io::stderr().lock())?;
            }
            return Err(failure);
        }
    };
    let mut told = told_by_instances(&service, &*group)?;
    add_altered(&service, &*group, &mut told.halts)?;
    let unknown = told.unknown.clone();
    let mut found = look(&service, &*group, rows.as_mut(), &mut told)?;
    if !found.is_empty() {
        told.unknown = unknown; // what the second look has no answer for is said by it
        let again = look(&service, &*group, rows.as_mut(), &mut told)?;
        found.retain(|halted| again.iter().any(|other| halted.stands_as(other)));
    }
    match arguments.output {
        Output::Json => {
            table::json(&found, out)?;
            display::write_unknown(&told, &mut io::stderr().lock())?;
        }
        Output::Table => {
            display::write(&found, &told, out)?;
            display::write_repairs(&repairs, out)?;
        }
    }
    Ok(exit(!found.is_empty(), !told.unknown.is_empty()))
}

/// The database's history and the repairs that it lists; none where no step has rows.
fn of_database(service: &Service) -> Result<(Option<PostgresHistory>, Vec<RepairReport>), Failure> {
    if service.topology.tables().is_empty() {
        return Ok((None, Vec::new()));
    }
    let said = |fault| service.database_said(fault);
    service.schema().and_then(|mut schema| schema.verify()).map_err(said)?;
    let mut history = service.row_history().map_err(said)?;
    let repairs = history.repairs().map_err(said)?.iter().map(RepairReport::from).collect();
    Ok((Some(history), repairs))
}

/// The exit code: a halt counts most, and an answer that is not whole is none.
const fn exit(is_any_halted: bool, is_any_unknown: bool) -> Exit {
    match (is_any_halted, is_any_unknown) {
        (true, _) => Exit::Different,
        (false, true) => Exit::Failed,
        (false, false) => Exit::Done,
    }
}

/// Judges every source partition by answers of now.
///
/// K, D and P are read one after the other, and while an instance works each of them moves: K may be older than the P that it
/// is held against, whichever is read first. A partition that is halted does not move, so the command looks twice.
fn look(
    service: &Service,
    group: &dyn Group,
    rows: Option<&mut PostgresHistory>,
    told: &mut Told,
) -> Result<Vec<Halted>, Failure> {
    // K before D, and D before the end of the log: while an instance works each of them grows, and is at or below the next
    // one only in this order.
    let all = sources_of(service, group, service.topology.sources().iter())?;
    let mut known = Committeds::default();
    known.read(group, &all, ANSWER);
    let positions = match rows {
        None => BTreeMap::new(),
        Some(rows) => {
            let read = rows.positions().map_err(|fault| service.database_said(fault))?;
            read.into_iter().map(|(source, position, _)| (source, position)).collect()
        }
    };
    find(service, (all, known), &positions, told, group)
}

/// Asks the instances that own partitions.
fn told_by_instances(service: &Service, group: &dyn Group) -> Result<Told, Failure> {
    let said = |fault| service.kafka_said(fault);
    let pipeline = service.topology.name();
    let count = KafkaOffsets::connect(&service.kafka, pipeline)?.members(ANSWER).map_err(said)?;
    let members = Members { count, owners: group.addresses(ANSWER).map_err(said)? };
    let leads = sources_of(service, group, service.topology.sub_topologies().iter().map(|sub| &sub.lead))?;
    let mut told = put_together(&leads, &members, &ask_all(pipeline, &members));
    let found = group.strangers(ANSWER).map_err(said)?;
    told.obstacles.extend(found.iter().map(|(client, partitions)| strangers::told(pipeline, client, partitions)));
    for topic in service.topology.sources() {
        if group.partition_count(&topic, ANSWER)?.is_none() {
            told.unknown.insert(topic.to_string(), no_topic(&topic));
        }
    }
    Ok(told)
}

/// Adds the halts that a start would come to: tables that no longer match their structs. They are told also where no
/// instance runs that could be asked.
fn add_altered(service: &Service, group: &dyn Group, seen: &mut BTreeMap<String, Seen>) -> Result<(), Failure> {
    if service.topology.tables().is_empty() {
        return Ok(());
    }
    let said = |fault| service.database_said(fault);
    let mut rows = service.rows().map_err(said)?;
    for sub in service.topology.sub_topologies() {
        let Some(table) = sub.table() else { continue };
        let (differences, lacks) = rows.compared(std::slice::from_ref(table)).map_err(said)?;
        for lack in lacks {
            tracing::warn!(lack, "`run` does not start as this role; give it the rights that are named");
        }
        if differences.is_empty() {
            continue;
        }
        let detail = format!("the tables do not fit the structs:\n  {}", differences.join("\n  "));
        for source in sources_of(service, group, sub.sources())? {
            let found = || Seen { reason: HaltReason::SchemaChanged, detail: detail.clone() };
            seen.entry(source.to_string()).or_insert_with(found);
        }
    }
    Ok(())
}

/// The partitions of these source topics. One that is gone has none, and is told as unknown.
fn sources_of<'t>(
    service: &Service,
    group: &dyn Group,
    topics: impl Iterator<Item = &'t TopicName>,
) -> Result<Vec<TopicPartition>, Failure> {
    let mut out = Vec::new();
    for topic in topics {
        if group.partition_count(topic, ANSWER)?.is_some() {
            out.extend(sources(&service.topology, group, &[topic.to_string()])?);
        }
    }
    Ok(out)
}

/// Judges every source partition. One for which the servers have no answer is told as unknown, and holds up no other.
fn find(
    service: &Service,
    (sources, mut known): (Vec<TopicPartition>, Committeds),
    positions: &BTreeMap<TopicPartition, Position>,
    told: &mut Told,
    group: &dyn Group,
) -> Result<Vec<Halted>, Failure> {
    let (mut out, mut wait) = (Vec::new(), ANSWER);
    for source in sources {
        let seen = told.halts.get(&source.to_string());
        let judged = known
            .of(group, &source)
            .map_err(|fault| (fault, UNREAD))
            .and_then(|k| judge(service, &source, positions, k, seen, (group, wait)).map_err(|fault| (fault, "")));
        match judged {
            Ok(judged) => out.extend(judged),
            Err((fault, cause)) if fault.is_retry() => {
                wait = ANSWER_SOON;
                told.unknown.insert(source.to_string(), format!("{cause}{fault}"));
            }
            Err((fault, _)) => return Err(Failure::Fault(fault)),
        }
    }
    Ok(out)
}

/// The likely cause where a partition's committed offset is not told, although the group answers.
const UNREAD: &str = "its committed offset cannot be read, most likely since a transaction of the group is open: it ends within \
     kafka.transaction_timeout_ms, or it hangs (KAFKA-20734), and `kafka-transactions.sh find-hanging` names it: ";

/// Committed offsets, read together; where that fails, one by one, so that an open transaction hides its own partition alone.
#[derive(Default)]
struct Committeds(BTreeMap<TopicPartition, Option<Committed>>);

impl Committeds {
    fn read(&mut self, group: &dyn Group, sources: &[TopicPartition], wait: Duration) {
        if let Ok(all) = group.committed(sources, wait) {
            self.0.extend(sources.iter().cloned().zip(all));
        }
    }

    fn of(&mut self, group: &dyn Group, source: &TopicPartition) -> Result<Option<Committed>, Fault> {
        if let Some(known) = self.0.get(source) {
            return Ok(known.clone());
        }
        Ok(group.committed(std::slice::from_ref(source), ANSWER_SOON)?.into_iter().next().flatten())
    }
}

/// Asks what the takeover would ask, and decides as it would.
fn judge(
    service: &Service,
    source: &TopicPartition,
    positions: &BTreeMap<TopicPartition, Position>,
    committed: Option<Committed>,
    seen: Option<&Seen>,
    (group, wait): (&dyn Group, Duration),
) -> Result<Option<Halted>, Fault> {
    let (engine, pipeline) = (service.engine(), service.topology.name());
    let sub = sub_topology(&service.topology, source)?;
    let (commit, position) = (sub.step.commit(), positions.get(source));
    let committed = metadata::known(committed);
    let (bounds, log_ids) = (group.bounds(source, wait)?, group.log_ids(&source.topic, wait)?);
    let was_read = committed.is_none()
        && position.is_none()
        && is_orphaned(&service.topology, sub, source.partition, positions, group)?;
    let decision = match commit {
        CommitKind::Rows => decide(&Facts {
            pipeline,
            position,
            committed: committed.as_ref(),
            bounds,
            log_ids: &log_ids,
            has_outbox_from_published: false, // decides only how offsets are found again, not whether to halt
            remembered: None,                 // the stores belong to the instance that runs
            was_read,
            start: engine.start,
            on_data_loss: engine.on_data_loss,
        }),
        CommitKind::Log => decide_log(&LogFacts {
            pipeline,
            committed: committed.as_ref(),
            bounds,
            topic_id: &log_ids.topic_id,
            remembered: None, // only the instance that has the stores knows
            was_read,
            is_stateful: sub.is_stateful(),
            start: engine.start,
            on_data_loss: engine.on_data_loss,
        }),
    };
    let (reason, detail) = match (decision, seen) {
        (Decision::Halt(reason), _) => (reason, None),
        (_, Some(seen)) => (seen.reason, Some(seen.detail.clone())),
        (_, None) => return Ok(None),
    };
    let (next_offset, k) = (position.map(|position| position.next_offset), committed.as_ref().map(|k| k.next_offset));
    let at = (reason == HaltReason::InputsTruncated).then_some(bounds.end);
    let is_stateful = sub.is_stateful();
    let place = Place { program: &engine.program, source, commit, is_stateful, next_offset, committed: k, at };
    Ok(Some(Halted {
        source: source.to_string(),
        reason: reason.label(),
        next_offset: next_offset.map(|d| d.0),
        committed_offset: k.map(|k| k.0),
        committed_metadata: committed.map(|k| k.metadata),
        position_metadata: position
            .map(|position| metadata::committed(pipeline, position.epoch, position.next_offset, None).metadata),
        log_start: bounds.start.0,
        log_end: bounds.end.0,
        companions: companions(sub, source),
        cause: reason.cause(),
        detail,
        choices: choices(reason, &place),
    }))
}

/// The inputs of a task beside `source`.
fn companions(sub: &SubTopology, source: &TopicPartition) -> Vec<String> {
    let others = sub.sources().filter(|topic| **topic != source.topic);
    others.map(|topic| TopicPartition::new(topic.clone(), source.partition).to_string()).collect()
}

/// Whether the changelogs of a task were written, and no offset is left of any of its inputs.
fn is_orphaned(
    topology: &Topology,
    sub: &SubTopology,
    partition: Partition,
    positions: &BTreeMap<TopicPartition, Position>,
    group: &dyn Group,
) -> Result<bool, Fault> {
    let at = |topic: &TopicName| TopicPartition::new(topic.clone(), partition);
    let inputs: Vec<TopicPartition> = sub.sources().map(at).collect();
    let committed = group.committed(&inputs, ANSWER)?;
    let is_any = committed.into_iter().any(|k| metadata::known(k).is_some());
    if is_any || inputs.iter().any(|input| positions.contains_key(input)) {
        return Ok(false);
    }
    let changelogs = sub.stores.iter().filter_map(|store| topology.changelog_topic(store));
    let changelogs: Vec<TopicPartition> = changelogs.map(|topic| at(&topic)).collect();
    is_any_written(group, &changelogs, ANSWER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_says_halted_or_not_known_or_none() {
        let exits =
            [(true, true), (true, false), (false, true), (false, false)].map(|(halted, open)| exit(halted, open));
        assert_eq!(exits, [Exit::Different, Exit::Different, Exit::Failed, Exit::Done]);
    }

    #[test]
    fn what_moved_between_two_looks_is_not_halted() {
        let seen = |reason: HaltReason, next: Option<i64>, committed: Option<i64>| Halted {
            source: "readings-2".into(),
            reason: reason.label(),
            next_offset: next,
            committed_offset: committed,
            committed_metadata: None,
            position_metadata: None,
            log_start: 0,
            log_end: 62,
            companions: Vec::new(),
            cause: reason.cause(),
            detail: None,
            choices: Vec::new(),
        };
        let first = seen(HaltReason::GroupWentBack, Some(56), Some(51));
        assert!(first.stands_as(&seen(HaltReason::GroupWentBack, Some(56), Some(51))));
        for other in [
            seen(HaltReason::GroupWentBack, Some(60), Some(56)), // at work, and read in the same unlucky order again
            seen(HaltReason::GroupWentBack, Some(56), Some(56)),
            seen(HaltReason::DatabaseWentBack, Some(56), Some(51)),
            Halted { source: "readings-1".into(), ..seen(HaltReason::GroupWentBack, Some(56), Some(51)) },
        ] {
            assert!(!first.stands_as(&other));
        }
    }

    #[test]
    fn sentences_have_one_space_between_words() {
        assert!(!UNREAD.contains("  "), "{UNREAD}");
    }
}
