//! The oracle as a program of its own: judges what the load of `examples/load.rs` has left in a database and in topics.
//!
//! `oracle [--watch-seconds N] [--accepted FILE]`, with the servers in `TIDEGATE_KAFKA__BOOTSTRAP_SERVERS` and
//! `TIDEGATE_DATABASE__URL`. It watches for N seconds (O7, O11 to O13), then reads everything, which must stand still by
//! then, and prints each finding. FILE: one receipt a line, of each record that a sender knows as accepted (O14). Ends
//! with 0 when nothing is wrong, with 1 when something is, with 2 when it could not be judged.
#![allow(clippy::disallowed_methods, reason = "it watches real time")]

mod laws;
mod reader;

use laws::{History, judge, report};
use reader::{Servers, Told, Watch, now_ms, read};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    match run() {
        Ok(history) => {
            let findings = judge(&history);
            println!("{}", report(&history, &findings));
            ExitCode::from(u8::from(!findings.is_empty()))
        }
        Err(error) => {
            eprintln!("oracle: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<History, String> {
    let (mut watched, mut accepted) = (Duration::ZERO, Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} wants a value"))?;
        match name.as_str() {
            "--watch-seconds" => watched = Duration::from_secs(value.parse().map_err(|_| format!("{name} {value}"))?),
            "--accepted" => {
                let text = std::fs::read_to_string(&value).map_err(|error| format!("{value}: {error}"))?;
                let receipts: Result<_, _> = text.lines().map(str::parse).collect();
                accepted = receipts.map_err(|error| format!("{value}: {error}"))?;
            }
            _ => return Err(format!("{name} is not known: --watch-seconds N, --accepted FILE")),
        }
    }
    let setting = |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set"));
    let servers = Servers {
        bootstrap: setting("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS")?,
        database_url: setting("TIDEGATE_DATABASE__URL")?,
    };
    let watch = Watch::start(&servers)?;
    let healed_at_ms = Some(now_ms());
    std::thread::sleep(watched);
    read(&servers, Told { is_drained: true, samples: watch.end()?, healed_at_ms, accepted })
}
