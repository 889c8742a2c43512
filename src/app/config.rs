//! `config show` and `config validate`.

use crate::app::application::{App, check_client};
use crate::app::cli::{ConfigArguments, ConfigCommand, ShowOutput};
use crate::app::exit::Exit;
use crate::app::failure::Failure;
use crate::app::table;
use crate::settings::{Settings, to_yaml};
use std::io::Write;

pub(super) fn config(app: &App, arguments: &ConfigArguments, out: &mut dyn Write) -> Result<Exit, Failure> {
    let needs = if matches!(arguments.command, ConfigCommand::Validate) { app.needs() } else { &[] };
    let settings = app.settings_for(needs)?;
    match &arguments.command {
        ConfigCommand::Show(show) => match show.output {
            ShowOutput::Table => show_table(&settings, out)?,
            ShowOutput::Json => table::json(&settings.effective(), out)?,
            ShowOutput::Yaml => write!(out, "{}", to_yaml(settings.effective()))?,
        },
        ConfigCommand::Validate => {
            check_client(&settings)?;
            let values = settings.effective().len();
            let file = settings.file().map_or("no file".into(), |path| path.display().to_string());
            writeln!(out, "ok: {values} values, {file}")?;
            for note in settings.notes() {
                writeln!(out, "note: {note}")?;
            }
        }
    }
    Ok(Exit::Done)
}

fn show_table(settings: &Settings, out: &mut dyn Write) -> Result<(), Failure> {
    let mut rows = vec![["SETTING", "VALUE", "ORIGIN"].map(ToString::to_string)];
    for entry in settings.effective() {
        let value = entry.value.as_str().map_or_else(|| entry.value.to_string(), ToString::to_string);
        rows.push([entry.path.clone(), value, entry.origin.to_string()]);
    }
    table::write(&rows, out)?;
    for note in settings.notes() {
        writeln!(out, "note: {note}")?;
    }
    Ok(())
}
