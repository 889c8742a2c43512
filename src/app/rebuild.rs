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
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

pub(super) fn rebuild(app: &App, arguments: &RepairArguments, out: &mut dyn Write) -> Result<Exit, Failure> {
    let settings = app.settings_for(&[Need::Kafka])?;
    logging::start(&settings);
    let service = Service::new(&app.topology, settings)?;
    let log = service.topic_history().map_err(|fault| service.kafka_said(fault))?;
    let sources = sources(&service.topology, &*log.group(), &arguments.partitions)?;
    let folder = folder(&service)?;
    for source in &sources {
        writeln!(out, "{source}: its stores in {} are emptied", folder.display())?;
    }
    writeln!(out, "the next start makes them what their changelogs still hold")?;
    let place =
        || format!("the stores in {} (state.dir: {})", folder.display(), service.settings.origin_of("state.dir"));
    if !arguments.yes && !confirm("state rebuild", "empty them", &place())? {
        writeln!(out, "nothing was changed")?;
        return Ok(Exit::Failed);
    }
    // Not before the answer: opening moves a damaged folder aside.
    let Some(stores) = open_stores(&service)? else {
        return Err(Failure::message(format!("state rebuild: pipeline {} keeps no state", service.topology.name())));
    };
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

/// The folder of the pipeline's stores, as a whole path.
///
/// # Errors
/// Where the pipeline keeps no state, or what lies there is not for this process to change.
fn folder(service: &Service) -> Result<PathBuf, Failure> {
    let name = service.topology.name();
    if service.topology.changelogs().is_empty() {
        return Err(Failure::message(format!("state rebuild: pipeline {name} keeps no state")));
    }
    let origin = service.settings.origin_of("state.dir");
    let folder = std::path::absolute(Path::new(&service.settings.state.dir).join(name))
        .map_err(|error| Failure::message(format!("state rebuild: {}: {error}", service.settings.state.dir)))?;
    match unfit(&folder, std::fs::metadata("/proc/self").map(|process| process.uid()).ok()) {
        Some(why) => Err(Failure::message(format!("state rebuild: {why} (state.dir: {origin})"))),
        None => Ok(folder),
    }
}

/// The reason why a process of the user `own` should leave a folder alone.
fn unfit(folder: &Path, own: Option<u32>) -> Option<String> {
    let place = folder.display();
    let Ok(found) = std::fs::metadata(folder) else {
        return Some(format!(
            "{place} holds no stores: run it where the instance runs, or name the folder that it has"
        ));
    };
    if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none()) {
        return Some(format!("{place} is empty: the next start fills it from the changelogs without this"));
    }
    let (owner, own) = (found.uid(), own?);
    (owner != own).then(|| {
        format!(
            "{place} is of the user {owner}, and this is the user {own}, whose files the service could not open: run it as \
             that user"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_left_alone_that_holds_nothing_or_is_of_another_user() {
        let folder = std::env::temp_dir().join(format!("tidegate-rebuild-{}", std::process::id()));
        let told = |own: Option<u32>| unfit(&folder, own).unwrap_or_default();
        assert!(told(None).contains("holds no stores"));
        std::fs::create_dir_all(&folder).unwrap();
        assert!(told(None).contains("is empty"));
        std::fs::write(folder.join("CURRENT"), "x").unwrap();
        let own = std::fs::metadata(&folder).unwrap().uid();
        assert_eq!((told(Some(own)), told(None)), (String::new(), String::new()));
        assert!(told(Some(own + 1)).contains("run it as that user"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
