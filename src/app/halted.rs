//! `halted`: which partitions would stand still, decided from what the servers say now, by the table that the engine uses.

use crate::app::cli::{Output, OutputArguments};
use crate::app::exit::Exit;
use crate::app::failure::Failure;
use crate::app::service::Service;
use crate::app::{App, logging, table};
use crate::engine::decision::{Decision, Facts, HaltReason, decide};
use crate::engine::metadata;
use crate::ports::Fault;
use crate::ports::history::RowHistory;
use crate::ports::source::Group;
use crate::settings::Need;
use serde::Serialize;
use std::io::Write;
use std::time::Duration;

const ANSWER: Duration = Duration::from_secs(10);

#[derive(Serialize)]
struct Halted {
    source: String,
    reason: &'static str,
    next_offset: i64,
    committed_offset: Option<i64>,
    committed_metadata: Option<String>,
    /// What our own commit of the position would carry.
    position_metadata: String,
    log_start: i64,
    log_end: i64,
    cause: &'static str,
    choices: &'static [&'static str],
}

pub(super) fn halted(app: &App, arguments: OutputArguments, out: &mut dyn Write) -> Result<Exit, Failure> {
    let settings = app.settings()?;
    app.with_rows("halted")?;
    settings.require(&[Need::Kafka, Need::Database])?;
    logging::start(&settings);
    let service = Service::new(&app.topology, settings);
    let mut rows = service.row_history().map_err(|fault| service.database_said(fault))?;
    let log = service.topic_history().map_err(|fault| service.kafka_said(fault))?;
    let found = find(&service, &mut rows, &*log.group())?;
    match arguments.output {
        Output::Json => table::json(&found, out)?,
        Output::Table if found.is_empty() => writeln!(out, "no partition is halted")?,
        Output::Table => found.iter().try_for_each(|halted| write(halted, out))?,
    }
    Ok(Exit::Done)
}

fn find(service: &Service, rows: &mut dyn RowHistory, group: &dyn Group) -> Result<Vec<Halted>, Failure> {
    let engine = service.engine();
    let name = service.topology.name();
    let mut out = Vec::new();
    for (source, position, _) in rows.positions().map_err(|fault| service.database_said(fault))? {
        let ask = || -> Result<_, Fault> {
            let committed = group.committed(std::slice::from_ref(&source), ANSWER)?.into_iter().next().flatten();
            Ok((committed, group.bounds(&source, ANSWER)?, group.log_ids(&source.topic, ANSWER)?))
        };
        let (committed, bounds, log_ids) = ask().map_err(|fault| service.kafka_said(fault))?;
        let decision = decide(&Facts {
            pipeline: name,
            position: Some(&position),
            committed: committed.as_ref(),
            bounds,
            log_ids: &log_ids,
            has_outbox_from_published: false, // decides only how offsets are found again, not whether to halt
            remembered: None,                 // the stores belong to the instance that runs
            start: engine.start,
            on_data_loss: engine.on_data_loss,
        });
        if let Decision::Halt(reason) = decision {
            let d = position.next_offset;
            out.push(Halted {
                source: source.to_string(),
                reason: reason.label(),
                next_offset: d.0,
                committed_offset: committed.as_ref().map(|k| k.next_offset.0),
                committed_metadata: committed.map(|k| k.metadata),
                position_metadata: metadata::committed(name, position.epoch, d, None).metadata,
                log_start: bounds.start.0,
                log_end: bounds.end.0,
                cause: HaltReason::cause(reason),
                choices: reason.choices(),
            });
        }
    }
    Ok(out)
}

fn write(halted: &Halted, out: &mut dyn Write) -> Result<(), Failure> {
    let committed = halted.committed_offset.map_or_else(|| "none".into(), |k| k.to_string());
    writeln!(out, "halted  {}  {}", halted.source, halted.reason)?;
    writeln!(out, "  next offset in the database   {}", halted.next_offset)?;
    writeln!(out, "  committed offset in Kafka     {committed}")?;
    writeln!(out, "  log                           {} to {}", halted.log_start, halted.log_end)?;
    writeln!(out, "  most likely                   {}", halted.cause)?;
    writeln!(out, "  choose one")?;
    for choice in halted.choices {
        writeln!(out, "    {choice}")?;
    }
    writeln!(out, "  metadata of the position      {}", halted.position_metadata)?;
    Ok(())
}
