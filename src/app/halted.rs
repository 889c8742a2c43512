//! `halted`: which partitions stand still, or would, decided from the current answers of the servers by the same table
//! that the engine uses; with the commands that set them going, and the repairs made before.
//!
//! Halts that only a running instance sees (an altered table, a record in the wrong partition, an unreadable store) are
//! asked of the instances, at their `/status`.

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
use crate::engine::protocol::remedy::{Choice, Place, choices};
use crate::engine::repair::sub_topology;
use crate::engine::worker::takeover::traces::is_any_written;
use crate::flow::record::{Partition, TopicName, TopicPartition};
use crate::flow::topology::{CommitKind, SubTopology, Topology};
#[cfg(feature = "http")]
use crate::http::{client, place};
use crate::ports::Fault;
use crate::ports::history::RowHistory;
use crate::ports::rows::{Position, Rows as _};
use crate::ports::source::{Committed, Group};
#[cfg(feature = "http")]
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
#[cfg(feature = "http")]
use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

const ANSWER: Duration = Duration::from_secs(10);
/// Longest time for each step of an instance's answer.
#[cfg(feature = "http")]
const STATUS: Duration = Duration::from_secs(3);
/// Number of repairs at the end of the table for people.
const REPAIRS: usize = 10;

#[derive(Serialize)]
struct Halted {
    source: String,
    reason: &'static str,
    next_offset: Option<i64>,
    committed_offset: Option<i64>,
    committed_metadata: Option<String>,
    /// The metadata that our own commit of the position would carry.
    position_metadata: Option<String>,
    log_start: i64,
    log_end: i64,
    cause: &'static str,
    /// Detail from the instance that saw the halt, or the difference of a table; null where the offsets explain it.
    detail: Option<String>,
    choices: Vec<Choice>,
}

/// A halt reported by one instance, or one that every instance would come to.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    reason: HaltReason,
    detail: String,
}

pub(super) fn halted(app: &App, arguments: OutputArguments, out: &mut dyn Write) -> Result<Exit, Failure> {
    let settings = app.settings()?;
    settings.require(app.needs())?;
    logging::start(&settings);
    let service = Service::new(&app.topology, settings)?;
    let log = service.topic_history().map_err(|fault| service.kafka_said(fault))?;
    let (mut positions, mut repairs) = (BTreeMap::new(), Vec::new());
    if !service.topology.tables().is_empty() {
        let said = |fault| service.database_said(fault);
        let mut rows = service.row_history().map_err(said)?;
        positions =
            rows.positions().map_err(said)?.into_iter().map(|(source, position, _)| (source, position)).collect();
        repairs = rows.repairs().map_err(said)?.iter().map(RepairReport::from).collect();
    }
    let mut seen = seen_by_instances(service.topology.name(), &*log.group());
    add_altered(&service, &*log.group(), &mut seen)?;
    let found = find(&service, &positions, &seen, &*log.group())?;
    match arguments.output {
        Output::Json => table::json(&found, out)?,
        Output::Table => {
            if found.is_empty() {
                writeln!(out, "no partition is halted")?;
            }
            found.iter().try_for_each(|halted| write(halted, out))?;
            write_repairs(&repairs, out)?;
        }
    }
    Ok(if found.is_empty() { Exit::Done } else { Exit::Different })
}

/// Adds the halts that a start would come to: tables that no longer match their structs. Where that halts every
/// partition, no instance runs any more and none can be asked.
fn add_altered(service: &Service, group: &dyn Group, seen: &mut BTreeMap<String, Seen>) -> Result<(), Failure> {
    if service.topology.tables().is_empty() {
        return Ok(());
    }
    let mut rows = service.rows().map_err(|fault| service.database_said(fault))?;
    for sub in service.topology.sub_topologies() {
        let Some(table) = sub.table() else { continue };
        let detail = match rows.bind(std::slice::from_ref(table)) {
            Ok(()) => continue,
            Err(fault) if fault.is_retry() => return Err(service.database_said(fault)),
            Err(fault) => fault.to_string(),
        };
        let topics: Vec<String> = sub.sources().map(ToString::to_string).collect();
        for source in sources(&service.topology, group, &topics)? {
            let found = || Seen { reason: HaltReason::SchemaChanged, detail: detail.clone() };
            seen.entry(source.to_string()).or_insert_with(found);
        }
    }
    Ok(())
}

/// Halts reported by the running instances of the pipeline, by source partition.
#[cfg(feature = "http")]
fn seen_by_instances(pipeline: &str, group: &dyn Group) -> BTreeMap<String, Seen> {
    let told = group.addresses(ANSWER).unwrap_or_else(|fault| {
        tracing::warn!(error = %fault, "the group does not say where its instances are; what only they see is in their logs");
        BTreeMap::new()
    });
    let addresses: BTreeSet<String> = told.into_values().collect();
    let mut seen = BTreeMap::new();
    for address in addresses {
        match place::reachable(&address).and_then(|address| ask(pipeline, address)) {
            Some(halts) => seen.extend(halts),
            None => {
                tracing::warn!(address, "this instance could not be asked; what only it sees is in its log");
            }
        }
    }
    seen
}

#[cfg(not(feature = "http"))]
fn seen_by_instances(_: &str, _: &dyn Group) -> BTreeMap<String, Seen> {
    BTreeMap::new()
}

/// Halts reported by one instance; `None` where it does not answer, or answers for another pipeline.
#[cfg(feature = "http")]
fn ask(pipeline: &str, address: &str) -> Option<Vec<(String, Seen)>> {
    #[derive(Deserialize)]
    struct Status {
        pipeline: String,
        halts: Vec<Halt>,
    }

    #[derive(Deserialize)]
    struct Halt {
        source: String,
        reason: String,
        detail: String,
    }

    let (_, text) = client::get(address, "/status", None, STATUS).ok()?;
    let status: Status = serde_json::from_str(&text).ok()?;
    let seen = |Halt { source, reason, detail }: Halt| {
        let reason = HaltReason::ALL.into_iter().find(|known| known.label() == reason)?;
        Some((source, Seen { reason, detail }))
    };
    (status.pipeline == pipeline).then(|| status.halts.into_iter().filter_map(seen).collect())
}

fn find(
    service: &Service,
    positions: &BTreeMap<TopicPartition, Position>,
    seen: &BTreeMap<String, Seen>,
    group: &dyn Group,
) -> Result<Vec<Halted>, Failure> {
    let subs = service.topology.sub_topologies().iter();
    let topics: Vec<String> = subs.flat_map(SubTopology::sources).map(ToString::to_string).collect();
    let mut out = Vec::new();
    for source in sources(&service.topology, group, &topics)? {
        let judged = judge(service, &source, positions, seen.get(&source.to_string()), group)
            .map_err(|fault| service.kafka_said(fault))?;
        out.extend(judged);
    }
    Ok(out)
}

/// Asks what the takeover would ask, and decides as it would.
fn judge(
    service: &Service,
    source: &TopicPartition,
    positions: &BTreeMap<TopicPartition, Position>,
    seen: Option<&Seen>,
    group: &dyn Group,
) -> Result<Option<Halted>, Fault> {
    let (engine, pipeline) = (service.engine(), service.topology.name());
    let sub = sub_topology(&service.topology, source)?;
    let (commit, position) = (sub.step.commit(), positions.get(source));
    let committed: Option<Committed> =
        metadata::known(group.committed(std::slice::from_ref(source), ANSWER)?.into_iter().next().flatten());
    let (bounds, log_ids) = (group.bounds(source, ANSWER)?, group.log_ids(&source.topic, ANSWER)?);
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
        cause: reason.cause(),
        detail,
        choices: choices(reason, &place),
    }))
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

fn write(halted: &Halted, out: &mut dyn Write) -> Result<(), Failure> {
    let number = |n: Option<i64>| n.map_or_else(|| "none".into(), |n| n.to_string());
    writeln!(out, "halted  {}  {}", halted.source, halted.reason)?;
    writeln!(out, "  next offset in the database   {}", number(halted.next_offset))?;
    writeln!(out, "  committed offset in Kafka     {}", number(halted.committed_offset))?;
    writeln!(out, "  log                           {} to {}", halted.log_start, halted.log_end)?;
    writeln!(out, "  most likely                   {}", halted.cause)?;
    if let Some(detail) = &halted.detail {
        writeln!(out, "  in detail                     {detail}")?;
    }
    writeln!(out, "  stop all instances, then choose one")?;
    for choice in &halted.choices {
        match &choice.command {
            Some(command) => writeln!(out, "    {command}\n      {}", choice.effect)?,
            None => writeln!(out, "    by hand: {}", choice.effect)?,
        }
    }
    Ok(())
}

fn write_repairs(repairs: &[RepairReport], out: &mut dyn Write) -> Result<(), Failure> {
    if repairs.is_empty() {
        return Ok(());
    }
    let number = |n: Option<i64>| n.map_or_else(|| "none".into(), |n| n.to_string());
    let mut rows = vec![["REPAIRED", "AT", "BY", "COMMAND", "POSITION", "COMMITTED"].map(ToString::to_string)];
    for repair in repairs.iter().rev().take(REPAIRS) {
        rows.push([
            repair.source.clone(),
            repair.at.clone(),
            repair.who.clone(),
            repair.command.clone(),
            format!("{} -> {}", number(repair.next_offset_before), repair.next_offset),
            format!("{} -> {}", number(repair.committed_before), repair.committed),
        ]);
    }
    table::write(&rows, out)
}

#[cfg(all(test, feature = "http"))]
mod tests {
    use super::*;
    use crate::engine::protocol::halt::Halt;
    use crate::engine::status::{State, Status, TaskStatus};
    use crate::flow::record::{Partition, TopicName};
    use crate::http::{About, View, serve};
    use crate::ports::source::TaskId;
    use std::sync::Arc;

    struct Instance(Status);

    impl View for Instance {
        fn status(&self) -> &Status {
            &self.0
        }

        fn about(&self) -> About {
            About { pipeline: "scoring".into(), place: "a test".into() }
        }
    }

    #[test]
    fn what_only_an_instance_sees_is_asked_of_it_and_of_no_other_pipelines() {
        let status = Status::default();
        let source = TopicPartition::new(TopicName::parse("readings").unwrap(), Partition(3));
        let detail = "column score does not exist".to_owned();
        let reason = HaltReason::SchemaChanged;
        let halt = Halt { source, reason, next_offset: None, committed: None, detail: detail.clone(), choices: vec![] };
        let task = TaskId { sub_topology: 0, partition: Partition(3) };
        status.set_task(task, TaskStatus { state: State::Halted, inputs: Vec::new(), halt: Some(halt) });
        let server = serve("127.0.0.1:0".parse().unwrap(), Arc::new(Instance(status))).unwrap();
        let address = server.address().to_string();
        assert_eq!(ask("scoring", &address), Some(vec![("readings-3".into(), Seen { reason, detail })]));
        assert_eq!(ask("another", &address), None);
        drop(server);
        assert_eq!(ask("scoring", &address), None);
    }

    #[test]
    fn what_operators_did_stands_below_the_halts_the_latest_first_and_no_more_than_ten() {
        let mut told = Vec::new();
        write_repairs(&[], &mut told).unwrap();
        assert!(told.is_empty());
        let repair = |number: i64| RepairReport {
            source: format!("readings-{number}"),
            command: "adopt --from-group".into(),
            who: "ada@desk".into(),
            at: "2026-11-25T17:37:00Z".into(),
            next_offset_before: None,
            next_offset: 40 + number,
            committed_before: Some(7),
            committed: 40 + number,
        };
        write_repairs(&(1..=12).map(repair).collect::<Vec<_>>(), &mut told).unwrap();
        let told = String::from_utf8(told).unwrap();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
        let lines: Vec<String> = told.lines().map(words).collect();
        assert_eq!(lines[0], "REPAIRED AT BY COMMAND POSITION COMMITTED");
        let latest = "readings-12 2026-11-25T17:37:00Z ada@desk adopt --from-group none -> 52 7 -> 52";
        assert_eq!((lines[1].as_str(), lines.len()), (latest, 11), "{told}");
    }
}
