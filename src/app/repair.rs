//! `adopt`, `reset`, `replay`, `skip`: the commands that halts print. Each shows what it would write, asks, and writes the
//! database and the group together; a second run changes nothing more.

use crate::adapters::kafka::{KafkaOffsets, KafkaSink};
use crate::adapters::postgres::PostgresPositions;
use crate::app::application::App;
use crate::app::cli::RepairArguments;
use crate::app::confirm::confirm;
use crate::app::exit::Exit;
use crate::app::failure::Failure;
use crate::app::logging;
use crate::app::service::Service;
use crate::engine::repair::plan::{Action, Known, Plan, plan};
use crate::engine::repair::{Repair, Tools, sub_topology};
use crate::flow::Topology;
use crate::flow::record::{NextOffset, Partition, TopicName, TopicPartition};
use crate::flow::topology::SubTopology;
use crate::ports::Fault;
use crate::ports::repair::Positions;
use crate::ports::rows::{NoRows, Rows};
use crate::ports::schema::Schema as _;
use crate::ports::sink::Sink;
use crate::ports::source::Group;
use crate::ports::topics::no_topic;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

const ANSWER: Duration = Duration::from_secs(10);

pub(super) fn repair(
    app: &App,
    action: Action,
    arguments: &RepairArguments,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let settings = app.settings_for(app.needs())?;
    logging::start(&settings);
    let service = Service::new(&app.topology, settings)?;
    let log = service.topic_history().map_err(|fault| service.kafka_said(fault))?;
    let sources = sources(&service.topology, &*log.group(), &arguments.partitions)?;
    let tools = tools(&service)?;
    let mut repair = Repair::new(service.topology.clone(), who(), tools);

    let mut planned = Vec::with_capacity(sources.len());
    let mut refused = Vec::new();
    for source in sources {
        let known = repair.look(&source)?;
        match plan(service.topology.name(), action, &known) {
            Ok(plan) => planned.push((source, known, plan)),
            Err(why) => refused.push(format!("{source}: {why}")),
        }
    }
    if !refused.is_empty() {
        return Err(Failure::message(format!(
            "{action}: refused, and nothing was changed\n  {}",
            refused.join("\n  ")
        )));
    }
    planned.iter().try_for_each(|(source, known, plan)| show(source, known, plan, out))?;
    if planned.iter().all(|(_, _, plan)| plan.is_done) {
        writeln!(out, "nothing to do")?;
        return Ok(Exit::Done);
    }
    if !arguments.yes && !confirm(&action.to_string(), "write this", &service.place()?)? {
        writeln!(out, "nothing was changed")?;
        return Ok(Exit::Failed);
    }
    for (source, _, plan) in planned.iter().filter(|(_, _, plan)| !plan.is_done) {
        repair.carry_out(source, action, plan, &mut |_| Ok(()))?;
        tracing::warn!(partition = %source, command = %action, who = who(), next_offset = next_of(plan).0, committed_offset = plan.committed.next_offset.0, "repaired by an operator");
        writeln!(out, "ok  {source}: next offset {}", next_of(plan))?;
    }
    Ok(Exit::Done)
}

/// The source partitions that are named: `readings-3`, or `readings` for all of its partitions.
pub(super) fn sources(
    topology: &Topology,
    group: &dyn Group,
    names: &[String],
) -> Result<Vec<TopicPartition>, Failure> {
    let is_source = |topic: &TopicName| {
        topology.sub_topologies().iter().flat_map(SubTopology::sources).any(|source| source == topic)
    };
    let mut out = Vec::new();
    for name in names {
        let parsed = name.rsplit_once('-').and_then(|(topic, number)| {
            let topic = TopicName::parse(topic).ok().filter(is_source)?;
            Some(TopicPartition::new(topic, Partition(number.parse().ok()?)))
        });
        if let Some(source) = parsed {
            out.push(source);
            continue;
        }
        let topic = TopicName::parse(name).map_err(Failure::Message)?;
        sub_topology(topology, &TopicPartition::new(topic.clone(), Partition(0)))?;
        let count = group.partition_count(&topic, ANSWER)?;
        let count = count.ok_or_else(|| Failure::message(no_topic(&topic)))?;
        out.extend((0..count).map(|number| TopicPartition::new(topic.clone(), Partition(number))));
    }
    Ok(out)
}

fn tools(service: &Service) -> Result<Tools, Failure> {
    let name = service.topology.name();
    let said = |fault| service.database_said(fault);
    let (positions, rows): (Option<Box<dyn Positions>>, Box<dyn Rows>) = if service.topology.tables().is_empty() {
        (None, Box::new(NoRows))
    } else {
        service.schema().and_then(|mut schema| schema.verify()).map_err(said)?;
        let positions = PostgresPositions::new(&service.settings.database, name).map_err(said)?;
        (Some(Box::new(positions)), Box::new(service.rows().map_err(said)?))
    };
    let history = service.topic_history().map_err(|fault| service.kafka_said(fault))?;
    let (kafka, transactional_id) = (service.kafka.clone(), format!("{name}-repair"));
    Ok(Tools {
        positions,
        rows,
        group: history.group(),
        offsets: Box::new(KafkaOffsets::connect(&service.kafka, name)?),
        history: Box::new(history),
        sink: Box::new(move || Ok::<_, Fault>(Box::new(KafkaSink::open(&kafka, &transactional_id)?) as Box<dyn Sink>)),
    })
}

/// The person that runs this: the user as the environment names it, or else its number, and the machine.
pub(super) fn who() -> String {
    let user =
        ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    let user = user.or_else(|| Some(format!("uid {}", std::fs::metadata("/proc/self").ok()?.uid())));
    format!("{}@{}", user.unwrap_or_else(|| "somebody".into()), super::maintenance::host_name())
}

fn next_of(plan: &Plan) -> NextOffset {
    plan.position.as_ref().map_or(plan.committed.next_offset, |position| position.next_offset)
}

fn show(source: &TopicPartition, known: &Known, plan: &Plan, out: &mut dyn Write) -> Result<(), Failure> {
    let number = |n: Option<NextOffset>| n.map_or_else(|| "none".into(), |n| n.to_string());
    let position = known.position.as_ref();
    writeln!(out, "{source}{}", if plan.is_done { "  is so already" } else { "" })?;
    if let Some(planned) = &plan.position {
        let d = number(position.map(|position| position.next_offset));
        writeln!(out, "  next offset in the database   {d} -> {}", planned.next_offset)?;
        if planned.incarnation != position.map_or(0, |position| position.incarnation) {
            writeln!(out, "  published under new ids       …/{}", planned.incarnation)?;
        }
    }
    let k = number(known.committed.as_ref().map(|k| k.next_offset));
    writeln!(out, "  committed offset in Kafka     {k} -> {}", plan.committed.next_offset)?;
    let (from, to) = plan.unpublished;
    if from < to && !plan.is_done {
        writeln!(out, "  published first               what the topics lack of offsets {from} to {to}")?;
    }
    if plan.position.as_ref().is_some_and(|position| position.next_offset < plan.committed.next_offset) {
        writeln!(out, "  recomputed, not published     offsets {} to {}", next_of(plan), plan.committed.next_offset)?;
    }
    Ok(())
}
