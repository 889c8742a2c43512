//! The command line: the one place where engine, adapters, page and settings meet.

mod cli;
mod config;
mod describe;
mod exit;
mod failure;
#[cfg(feature = "kafka")]
mod kafka;
mod table;
mod topics;

pub use exit::Exit;

use crate::flow::Topology;
use crate::settings::{Settings, Sources};
use clap::Parser;
use cli::{Cli, Command};
use failure::Failure;
use std::io::{self, Write};

/// Gives a pipeline its whole command line, and runs what the arguments of this process ask for.
pub fn run(topology: Topology) -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let is_mistake = error.use_stderr(); // help and version are none
            let _ = error.print();
            return if is_mistake { Exit::Usage } else { Exit::Done };
        }
    };
    let app = App { topology, sources: Sources::of_process(cli.config, cli.set) };
    match app.dispatch(cli.command, &mut io::stdout().lock()) {
        Ok(exit) => exit,
        Err(failure) => failure.report(&mut io::stderr().lock()),
    }
}

/// What every command has at hand.
struct App {
    topology: Topology,
    sources: Sources,
}

impl App {
    fn dispatch(&self, command: Command, out: &mut dyn Write) -> Result<Exit, Failure> {
        self.topology.validate().map_err(Failure::Topology)?;
        match command {
            Command::Describe(arguments) => describe::describe(&self.topology, arguments, out),
            Command::Topics(arguments) => topics::topics(self, &arguments, out),
            Command::Config(arguments) => config::config(self, &arguments, out),
            // Their dispatch comes with the engine.
            Command::Run | Command::Demo(_) | Command::Migrate | Command::Halted(_) | Command::Audit(_) => {
                Err(Failure::message("this command is not part of this build yet"))
            }
        }
    }

    fn settings(&self) -> Result<Settings, Failure> {
        Ok(Settings::load(&self.topology, self.sources.clone())?)
    }
}
