//! `migrate`: creates or upgrades Tidegate's own tables, and says in which database.

use crate::app::application::App;
use crate::app::exit::Exit;
use crate::app::failure::Failure;
use crate::app::logging;
#[cfg(feature = "http")]
use crate::app::rollups;
use crate::app::service::Service;
use crate::ports::schema::Schema as _;
use crate::settings::Need;
use std::io::Write;

pub(super) fn migrate(app: &App, out: &mut dyn Write) -> Result<Exit, Failure> {
    if app.topology.tables().is_empty() {
        // Done, since a deployment runs it before any pipeline.
        writeln!(out, "ok  nothing to migrate: pipeline {} has no rows", app.pipeline()?.name())?;
        return Ok(Exit::Done);
    }
    let settings = app.settings_for(&[Need::Database])?;
    logging::start(&settings);
    let service = Service::new(&app.topology, settings)?;
    let said = |fault| service.database_said(fault);
    let mut schema = service.schema().map_err(said)?;
    // Said before anything is written: it does not ask, since a deployment runs it.
    writeln!(out, "to the database {} (database.url: {})", schema.place(), service.settings.origin_of("database.url"))?;
    out.flush()?;
    let applied = schema.migrate().map_err(said)?;
    for name in &applied {
        writeln!(out, "applied  {name}")?;
    }
    let maintained = schema.maintain().map_err(said)?;
    #[cfg(feature = "http")]
    for name in rollups::create(&service).map_err(said)? {
        writeln!(out, "created  {name}")?;
    }
    writeln!(out, "ok  {} migrations applied, {} outbox partitions created", applied.len(), maintained.created)?;
    Ok(Exit::Done)
}
