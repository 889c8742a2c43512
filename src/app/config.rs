//! `config show` and `config validate`.

use crate::app::application::{App, as_set, check_build, check_client};
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
            check_build(&as_set(&app.topology, &settings)?)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::signals::Signals;
    use crate::flow::Topology;
    use crate::pipelines::{scoring, usage};
    use crate::settings::{Scrubber, Sources};

    /// The exit code of `config validate`, and what it prints.
    fn validated(topology: Topology) -> (i32, String) {
        let environment = vec![("TIDEGATE_DATABASE__URL".into(), "postgres://h/db".into())];
        let flags = vec!["kafka.bootstrap_servers=h:9092".into()];
        let sources = Sources { environment, flags, ..Sources::default() };
        let app = App { topology, sources, signals: Signals::default() };
        let mut out = Vec::new();
        let ended = config(&app, &ConfigArguments { command: ConfigCommand::Validate }, &mut out);
        let exit = ended.unwrap_or_else(|failure| failure.report(&mut out, &Scrubber::default()));
        (exit.code().into(), String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_pipeline_with_state_is_no_valid_one_of_a_build_that_can_keep_none() {
        let (code, told) = validated(scoring::topology());
        assert!(code == 0 && told.starts_with("ok: "), "{code} {told}");
        let (code, told) = validated(usage::topology());
        if cfg!(feature = "rocksdb") {
            assert!(code == 0 && told.starts_with("ok: "), "{code} {told}");
        } else {
            let expected = "pipeline usage keeps state (usage), and this build has no RocksDB adapter: build it with --features rocksdb\n";
            assert_eq!((code, told.as_str()), (78, expected));
        }
    }
}
