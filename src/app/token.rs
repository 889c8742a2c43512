//! `token`: the tokens of those who may see roll-ups and write readings.

use crate::app::application::App;
use crate::app::cli::{Output, TokenArguments, TokenCommand};
use crate::app::exit::Exit;
use crate::app::failure::Failure;
use crate::app::service::Service;
use crate::app::{logging, table};
use crate::http::access::hash_of;
use crate::ports::rollups::{Grant, RollUpTables as _};
use crate::settings::Need;
use serde_json::json;
use std::io::Write;

pub(super) fn token(app: &App, arguments: &TokenArguments, out: &mut dyn Write) -> Result<Exit, Failure> {
    let rollups = app.topology.roll_ups();
    let wanted = arguments.rollup.as_deref();
    let Some(rollup) = rollups.iter().find(|known| wanted.is_none_or(|name| name == known.name)) else {
        let names: Vec<&str> = rollups.iter().map(|known| known.name.as_str()).collect();
        let names = if names.is_empty() { "none".into() } else { names.join(", ") };
        return Err(Failure::message(format!("token: no such roll-up in this pipeline; there are: {names}")));
    };
    let settings = app.settings_for(&[Need::Database])?;
    logging::start(&settings);
    let service = Service::new(&app.topology, settings)?;
    let said = |fault| service.database_said(fault);
    let mut tables = service.roll_up_tables().map_err(said)?;
    match &arguments.command {
        TokenCommand::Create { holder, home, device, write } => {
            let devices = (!device.is_empty()).then(|| device.clone());
            let grant = Grant { name: holder.clone(), home: home.clone(), devices, may_write: *write };
            let token = format!("tg_{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
            tables.make_token(&rollup.name, &hash_of(&token), &grant).map_err(said)?;
            writeln!(out, "{token}")?;
        }
        TokenCommand::List(output) => {
            let grants = tables.tokens(&rollup.name).map_err(said)?;
            match output.output {
                Output::Json => {
                    let grant = |Grant { name, home, devices, may_write }: &Grant| json!({ "holder": name, "home": home, "devices": devices, "may_write": may_write });
                    table::json(&grants.iter().map(grant).collect::<Vec<_>>(), out)?;
                }
                Output::Table => table::write(&rows(&grants), out)?,
            }
        }
        TokenCommand::Revoke { holder } => {
            if !tables.revoke(&rollup.name, holder).map_err(said)? {
                return Err(Failure::message(format!(
                    "token revoke: {holder} holds none; `tidegate token list` tells who does"
                )));
            }
            writeln!(out, "ok  the token of {holder} is taken back")?;
        }
    }
    Ok(Exit::Done)
}

fn rows(grants: &[Grant]) -> Vec<[String; 3]> {
    let mut rows = vec![["HOLDER", "FOR", "MAY"].map(str::to_owned)];
    rows.extend(grants.iter().map(|Grant { name, home, devices, may_write }| {
        let of_home = home.as_ref().map(|home| format!("home {home}"));
        let of_devices = devices.as_ref().map(|devices| devices.join(", "));
        let both: Vec<String> = of_home.into_iter().chain(of_devices).collect();
        let all = if both.is_empty() { "all".into() } else { both.join("; ") };
        [name.clone(), all, if *may_write { "read, write".into() } else { "read".into() }]
    }));
    rows
}
