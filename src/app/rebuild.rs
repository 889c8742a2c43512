//! `state rebuild`: lets the stores on this machine's disk begin again at the start of their changelogs.

use crate::adapters::kafka::KafkaChangelog;
use crate::app::application::App;
use crate::app::cli::RepairArguments;
use crate::app::confirm::confirm;
use crate::app::exit::Exit;
use crate::app::failure::Failure;
use crate::app::logging;
use crate::app::repair::{sources, who};
use crate::app::service::Service;
use crate::app::stores::open_stores;
use crate::engine::repair::rebuild as begin_anew;
use crate::ports::Clock as _;
use crate::ports::clock::SystemClock;
use crate::settings::Need;
use std::io::Write;

pub(super) fn rebuild(app: &App, arguments: &RepairArguments, out: &mut dyn Write) -> Result<Exit, Failure> {
    let settings = app.settings_for(&[Need::Kafka])?;
    logging::start(&settings);
    let service = Service::new(&app.topology, settings)?;
    let log = service.topic_history().map_err(|fault| service.kafka_said(fault))?;
    let sources = sources(&service.topology, &*log.group(), &arguments.partitions)?;
    let Some(stores) = open_stores(&service)? else {
        return Err(Failure::message(format!("state rebuild: pipeline {} keeps no state", service.topology.name())));
    };
    for source in &sources {
        writeln!(out, "{source}: its stores in {} are emptied", service.settings.state.dir)?;
    }
    writeln!(out, "the next start makes them what their changelogs still hold")?;
    if !arguments.yes && !confirm("state rebuild", "empty them", out)? {
        writeln!(out, "nothing was changed")?;
        return Ok(Exit::Failed);
    }
    let mut changelogs = KafkaChangelog::connect(&service.kafka).map_err(|fault| service.kafka_said(fault))?;
    for source in &sources {
        let now = SystemClock::default().now();
        let begun = begin_anew(&service.topology, source, &*stores, &*log.group(), &mut changelogs, now)?;
        for (store, next_offset) in begun {
            tracing::warn!(%store, next_offset = next_offset.0, who = who(), "a store was emptied by an operator");
            writeln!(out, "ok  {store}: begins at changelog offset {next_offset}")?;
        }
    }
    Ok(Exit::Done)
}
