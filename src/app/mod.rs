//! The command line: the one place where engine, adapters, page and settings meet.

mod application;
#[cfg(all(feature = "kafka", feature = "postgres"))]
mod audit;
#[cfg(all(feature = "kafka", feature = "postgres"))]
mod baseline;
mod cli;
#[cfg(all(feature = "kafka", feature = "postgres"))]
mod cluster;
mod config;
mod confirm;
#[cfg(feature = "sqlite")]
mod demo;
mod describe;
mod exit;
mod failure;
#[cfg(all(feature = "kafka", feature = "postgres"))]
mod fencer;
#[cfg(all(feature = "kafka", feature = "postgres"))]
mod halted;
#[cfg(feature = "http")]
mod intake;
#[cfg(any(feature = "sqlite", all(feature = "kafka", feature = "postgres")))]
mod logging;
#[cfg(all(feature = "kafka", feature = "postgres"))]
mod maintenance;
#[cfg(all(feature = "kafka", feature = "postgres"))]
mod migrate;
#[cfg(all(feature = "kafka", feature = "postgres"))]
mod notices;
mod outlet;
#[cfg(all(feature = "kafka", feature = "postgres"))]
mod producer_id;
#[cfg(feature = "kafka")]
mod reach;
#[cfg(all(feature = "kafka", feature = "postgres"))]
mod rebuild;
#[cfg(all(feature = "kafka", feature = "postgres"))]
mod renamed;
#[cfg(all(feature = "kafka", feature = "postgres"))]
mod repair;
#[cfg(all(feature = "kafka", feature = "postgres", feature = "http"))]
mod rollups;
#[cfg(all(feature = "kafka", feature = "postgres"))]
mod run;
#[cfg(all(feature = "kafka", feature = "postgres"))]
mod service;
mod signals;
#[cfg(all(feature = "kafka", feature = "postgres"))]
mod slot;
#[cfg(feature = "http")]
mod state;
#[cfg(all(feature = "kafka", feature = "postgres"))]
mod stores;
mod table;
#[cfg(all(feature = "kafka", feature = "postgres", feature = "http"))]
mod token;
mod topics;
#[cfg(all(feature = "kafka", feature = "postgres"))]
mod watch;

pub use exit::Exit;

use crate::engine::repair::plan::Action;
use crate::flow::Topology;
use crate::settings::{PropertyMistake, Sources};
use application::App;
use clap::Parser;
use cli::{Cli, Command, RepairArguments, StateArguments, StateCommand};
use failure::Failure;
use outlet::Outlet;
use signals::Signals;
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
    let sources = Sources { client: client(), ..Sources::of_process(cli.config, cli.set) };
    let signals = match Signals::answered() {
        Ok(signals) => signals,
        Err(failure) => return failure.report(&mut io::stderr().lock(), &sources.scrubber(&topology)),
    };
    let app = App { topology, sources, signals };
    app.end_of(cli.command)
}

/// The Kafka client, which judges its properties.
const fn client() -> Option<PropertyMistake> {
    #[cfg(feature = "kafka")]
    let client: Option<PropertyMistake> = Some(crate::adapters::kafka::properties::mistake);
    #[cfg(not(feature = "kafka"))]
    let client = None;
    client
}

impl App {
    /// Carries a command out and tells why it failed.
    fn end_of(&self, command: Command) -> Exit {
        let report =
            |failure: &Failure| failure.report(&mut io::stderr().lock(), &self.sources.scrubber(&self.topology));
        let exit = |ended: Result<Exit, Failure>| ended.unwrap_or_else(|failure| report(&failure));
        // The demo is a show: without anybody to see it, it ends.
        if matches!(command, Command::Demo(_)) {
            return exit(self.dispatch(command, &mut io::stdout().lock()));
        }
        let mut out = Outlet::new(io::stdout().lock());
        let ended = exit(self.dispatch(command, &mut out));
        match out.end() {
            Some(error) => {
                let failed = report(&Failure::Output(error));
                if ended == Exit::Done { failed } else { ended }
            }
            None => ended,
        }
    }

    fn dispatch(&self, command: Command, out: &mut dyn Write) -> Result<Exit, Failure> {
        self.topology.validate().map_err(Failure::Topology)?;
        let result = self.command(command, out);
        #[cfg(feature = "kafka")]
        let result = result.map_err(|failure| self.explained(failure));
        result
    }

    /// Adds why Kafka does not answer, where it does not.
    #[cfg(feature = "kafka")]
    fn explained(&self, failure: Failure) -> Failure {
        match (&failure, self.settings_for(&[])) {
            (Failure::Fault(_), Ok(settings)) => reach::explained(failure, &settings),
            _ => failure,
        }
    }

    fn command(&self, command: Command, out: &mut dyn Write) -> Result<Exit, Failure> {
        match command {
            Command::Describe(arguments) => describe::describe(&self.pipeline()?, arguments, out),
            Command::Topics(arguments) => topics::topics(self, &arguments, out),
            Command::Config(arguments) => config::config(self, &arguments, out),
            #[cfg(not(all(feature = "kafka", feature = "postgres")))]
            Command::Run
            | Command::Migrate
            | Command::Halted(_)
            | Command::Audit(_)
            | Command::State(StateArguments { command: StateCommand::Rebuild(_), .. }) => Err(embedded()),
            #[cfg(all(feature = "kafka", feature = "postgres"))]
            Command::Run => run::run(self, out),
            #[cfg(all(feature = "kafka", feature = "postgres"))]
            Command::Migrate => migrate::migrate(self, out),
            #[cfg(all(feature = "kafka", feature = "postgres"))]
            Command::Halted(arguments) => halted::halted(self, arguments, out),
            #[cfg(all(feature = "kafka", feature = "postgres"))]
            Command::Audit(arguments) => audit::audit(self, arguments, out),
            Command::Adopt(arguments) => self.repair(arguments.action(), &arguments.repair, out),
            Command::Reset(arguments) => self.repair(arguments.action(), &arguments.repair, out),
            Command::Replay(arguments) => self.repair(arguments.action(), &arguments.repair, out),
            Command::Skip(arguments) => self.repair(arguments.action(), &arguments.repair, out),
            #[cfg(all(feature = "kafka", feature = "postgres"))]
            Command::State(StateArguments { command: StateCommand::Rebuild(arguments), .. }) => {
                rebuild::rebuild(self, &arguments, out)
            }
            #[cfg(feature = "http")]
            Command::State(arguments) => state::state(self, &arguments, out),
            #[cfg(not(feature = "http"))]
            Command::State(_) => Err(Failure::message("this build asks nobody; build it with the feature `http`")),
            #[cfg(all(feature = "kafka", feature = "postgres", feature = "http"))]
            Command::Token(arguments) => token::token(self, &arguments, out),
            #[cfg(not(all(feature = "kafka", feature = "postgres", feature = "http")))]
            Command::Token(_) => Err(Failure::message(
                "this build serves no roll-ups; build it with the features `kafka`, `postgres` and `http`",
            )),
            #[cfg(feature = "sqlite")]
            Command::Demo(arguments) => demo::demo(self, &arguments, out),
            #[cfg(not(feature = "sqlite"))]
            Command::Demo(_) => {
                Err(Failure::message("this build has no SQLite adapter; build it with the feature `sqlite`"))
            }
        }
    }

    #[cfg(all(feature = "kafka", feature = "postgres"))]
    fn repair(&self, action: Action, arguments: &RepairArguments, out: &mut dyn Write) -> Result<Exit, Failure> {
        repair::repair(self, action, arguments, out)
    }

    #[cfg(not(all(feature = "kafka", feature = "postgres")))]
    #[expect(clippy::unused_self, reason = "as the service has it")]
    fn repair(&self, _: Action, _: &RepairArguments, _: &mut dyn Write) -> Result<Exit, Failure> {
        Err(embedded())
    }
}

#[cfg(not(all(feature = "kafka", feature = "postgres")))]
fn embedded() -> Failure {
    Failure::message(
        "this is the embedded edition: it has no Kafka and no PostgreSQL adapter; build it with the features `kafka` and `postgres`",
    )
}
