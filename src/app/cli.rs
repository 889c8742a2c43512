//! The command line: its commands, flags and help texts.

use crate::engine::repair::plan::{Action, Outputs, Target};
use crate::flow::record::NextOffset;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// A notification changes its row once and is published once: database first, then Kafka.
#[derive(Parser, Debug)]
#[command(name = "tidegate", version, arg_required_else_help = true, propagate_version = true)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 found: \
differences by `topics plan`, halted partitions by `halted`; 78 wrong \
configuration.\n\nExample: tidegate --config tidegate.yaml --set engine.workers=4 run")]
pub(crate) struct Cli {
    #[arg(help = "The settings file (YAML); TIDEGATE_CONFIG names it otherwise")]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Settings")]
    pub config: Option<PathBuf>,

    /// One setting, which wins over environment and file; may be repeated
    #[arg(long, global = true, value_name = "PATH=VALUE", help_heading = "Settings")]
    pub set: Vec<String>,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    #[command(about = "Run the pipeline on Kafka and PostgreSQL until it is told to stop")]
    #[command(
        after_help = "SIGTERM, SIGINT and SIGHUP finish what is begun, publish it, leave the group and end with 0. A second \
    Ctrl-C ends it at once.\n\n\
    Example: TIDEGATE_DATABASE__URL=postgres://localhost/app tidegate --set kafka.bootstrap_servers=localhost:9092 run"
    )]
    Run,
    /// Run two shipped pipelines over an in-process log, feed them, kill them now and then, and audit the result
    #[command(
        after_help = "Needs no Kafka and no database: a model, not for production. It is the pipeline scoring as shipped, whatever\n\
    pipeline and thresholds this program has: its feeder knows those records only. TestDriver tries a pipeline of your own.\n\n\
    Beside it devices upload a month of readings and go on measuring; their graphs are at /graphs, for this machine alone and\n\
    without a token. At the end every bucket of the three tiers is compared with an offline computation over all readings.\n\n\
    Example: tidegate demo --seconds 30 --rate 1000 -o json"
    )]
    Demo(DemoArguments),
    /// Create or upgrade Tidegate's own tables
    #[command(after_help = "Runs under an advisory lock, so that two at once do no harm.\n\n\
    Example: TIDEGATE_DATABASE__URL=postgres://localhost/app tidegate migrate")]
    Migrate,
    /// Check the topics folder, compare it with a cluster, create what is missing
    Topics(TopicsArguments),
    /// Print what the pipeline reads, writes and needs
    #[command(after_help = "Asks neither Kafka nor a database.\n\nExample: tidegate describe -o json")]
    Describe(OutputArguments),
    /// List halted partitions, why they stand still and what repairs them
    #[command(after_help = "Exits with 3 if there are any, and with 1 if of some it is not known.\n\n\
    Example: tidegate halted")]
    Halted(OutputArguments),
    /// Let the group's offset or the database's position decide, where one of them was lost or belongs to another
    #[command(after_help = "All instances are stopped first.\n\nExample: tidegate adopt readings-3 --from-group")]
    Adopt(AdoptArguments),
    /// Move position and committed offset together, to any offset
    #[command(after_help = "All instances are stopped first.\n\nExample: tidegate reset readings-3 --to 4711 --emit")]
    Reset(ResetArguments),
    /// Let the rows catch up with what was published, after the database went back
    #[command(after_help = "All instances are stopped first.\n\n\
    Example: tidegate replay readings-3 --suppress-output")]
    Replay(ReplayArguments),
    /// Move position and committed offset forward; the records before have no effect
    #[command(after_help = "All instances are stopped first.\n\nExample: tidegate skip readings-3 --to start")]
    Skip(SkipArguments),
    /// Compare positions, row versions, outbox and topics; fail on anything missing, twice or out of order
    #[command(after_help = "Reads the output topic as a committed reader does.\n\nExample: tidegate audit -o json")]
    Audit(OutputArguments),
    /// Read the stores of a running service (a key, a prefix, how much there is), or make them anew
    State(StateArguments),
    /// Make, list and take back the tokens of those who may see roll-ups and write readings
    Token(TokenArguments),
    /// Print or check the settings
    Config(ConfigArguments),
}

/// For commands that read.
#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct OutputArguments {
    /// For people or for programs
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Output {
    #[default]
    Table,
    Json,
}

#[derive(Args, Debug)]
pub(crate) struct DemoArguments {
    /// Stop after so many seconds; without it, at Ctrl-C
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: Option<u64>,
    /// Notifications fed in a second
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub rate: u64,
    /// Devices with a month of readings, rolled up for the page /graphs; 0 for none
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(0..=4_000))]
    pub devices: u32,
    /// Do not kill the workers every ten seconds
    #[arg(long)]
    pub no_crashes: bool,
    /// Keep rows here, roll-ups and topics beside it (FILE.home, FILE.log), and go on from there next time; without it, nothing is kept
    #[arg(long, value_name = "FILE")]
    pub db_filename: Option<PathBuf>,
    /// For tests: the time between crashes
    #[arg(long, hide = true, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    pub crash_every_ms: u64,
    #[command(flatten)]
    pub output: OutputArguments,
}

#[derive(Args, Debug)]
#[command(arg_required_else_help = true)]
pub(crate) struct TopicsArguments {
    /// The folder, one file a topic
    #[arg(long, global = true, value_name = "FOLDER", default_value = "topics")]
    pub dir: PathBuf,
    /// Lay `env/<NAME>.yaml` of the folder over the topics
    #[arg(long, global = true, value_name = "NAME")]
    pub env: Option<String>,
    #[command(subcommand)]
    pub command: TopicsCommand,
}

#[derive(Subcommand, Debug)]
pub(crate) enum TopicsCommand {
    /// Check the folder by itself and against the pipeline; no broker is asked
    #[command(after_help = "Example: tidegate topics validate --env prod")]
    Validate(OutputArguments),
    /// Print what the cluster lacks; exit code 3 if anything
    #[command(after_help = "Example: tidegate topics plan --env prod -o json")]
    Plan(PlanArguments),
    /// Create and change topics so that they are as described; never deletes
    #[command(after_help = "Example: tidegate topics apply --env prod --yes")]
    Apply(ApplyArguments),
}

#[derive(Args, Debug)]
pub(crate) struct PlanArguments {
    /// Permit more partitions for topics whose records are keyed
    #[arg(long)]
    pub allow_repartition: bool,
    #[command(flatten)]
    pub output: OutputArguments,
}

#[derive(Args, Debug)]
pub(crate) struct ApplyArguments {
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub plan: PlanArguments,
}

/// For commands that repair.
#[derive(Args, Debug)]
pub(crate) struct RepairArguments {
    /// Source partitions, as readings-3; a topic's name alone means all of its partitions
    #[arg(value_name = "PARTITION", required = true)]
    pub partitions: Vec<String>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

#[derive(Args, Debug)]
pub(crate) struct AdoptArguments {
    #[command(flatten)]
    pub repair: RepairArguments,
    #[command(flatten)]
    pub from: From,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct From {
    /// The committed offset becomes the position
    #[arg(long)]
    pub from_group: bool,
    /// The position becomes the committed offset; what was decided is published first
    #[arg(long)]
    pub from_database: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ResetArguments {
    #[command(flatten)]
    pub repair: RepairArguments,
    /// The next offset, or `start` or `end` of the log
    #[arg(long, value_name = "OFFSET", value_parser = target)]
    pub to: Target,
    /// Announce again what is taken again
    #[arg(long, conflicts_with = "suppress_output")]
    pub emit: bool,
    /// Recompute what is taken again, and publish nothing of it
    #[arg(long)]
    pub suppress_output: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ReplayArguments {
    #[command(flatten)]
    pub repair: RepairArguments,
    #[command(flatten)]
    pub outputs: OutputsArguments,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct OutputsArguments {
    /// Announce again what is taken again
    #[arg(long)]
    pub emit: bool,
    /// Recompute what is taken again, and publish nothing of it
    #[arg(long)]
    pub suppress_output: bool,
}

#[derive(Args, Debug)]
pub(crate) struct SkipArguments {
    #[command(flatten)]
    pub repair: RepairArguments,
    /// The next offset, or `start` or `end` of the log
    #[arg(long, value_name = "OFFSET", value_parser = target)]
    pub to: Target,
}

impl AdoptArguments {
    pub(crate) const fn action(&self) -> Action {
        if self.from.from_group { Action::AdoptGroup } else { Action::AdoptDatabase }
    }
}

impl ResetArguments {
    pub(crate) fn action(&self) -> Action {
        let outputs = match (self.emit, self.suppress_output) {
            (true, _) => Some(Outputs::Emit),
            (_, true) => Some(Outputs::Suppress),
            _ => None,
        };
        Action::Reset { to: self.to, outputs }
    }
}

impl ReplayArguments {
    pub(crate) const fn action(&self) -> Action {
        Action::Replay { outputs: self.outputs.outputs() }
    }
}

impl SkipArguments {
    pub(crate) const fn action(&self) -> Action {
        Action::Skip { to: self.to }
    }
}

impl OutputsArguments {
    const fn outputs(&self) -> Outputs {
        if self.emit { Outputs::Emit } else { Outputs::Suppress }
    }
}

fn target(text: &str) -> Result<Target, String> {
    match text {
        "start" => Ok(Target::Start),
        "end" => Ok(Target::End),
        text => match text.parse() {
            Ok(offset) if offset >= 0 => Ok(Target::Offset(NextOffset(offset))),
            _ => Err("expected an offset, `start` or `end`".into()),
        },
    }
}

#[derive(Args, Debug)]
#[command(arg_required_else_help = true)]
pub(crate) struct StateArguments {
    /// Any instance of the pipeline, as host:port; otherwise the setting http.address
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub address: Option<String>,
    #[command(subcommand)]
    pub command: StateCommand,
}

/// Some of the windows of a key.
#[derive(Args, Debug, Clone)]
pub(crate) struct SpanArguments {
    /// Only windows that end behind this time: milliseconds since 1970, or as in 2026-11-30T08:00:00Z
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    pub since: Option<String>,
    /// Only windows that begin before this time
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    pub until: Option<String>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum StateCommand {
    /// Print the value of a key, whichever instance has it
    #[command(after_help = "Example: tidegate state get usage ada -o json")]
    Get {
        /// The store
        store: String,
        /// The key as text, as the number or UUID where keys are one in bytes, or as 0x and hexadecimal digits
        #[arg(allow_negative_numbers = true)]
        key: String,
        #[command(flatten)]
        span: SpanArguments,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Print keys and their values
    #[command(after_help = "Example: tidegate state list usage --prefix a --limit 20\n         \
    tidegate state list minutes --first meter-100 --last meter-199 --since 2026-11-30T08:00:00Z")]
    List {
        /// The store
        store: String,
        /// Only keys that begin so
        #[arg(long, value_name = "TEXT", conflicts_with_all = ["first", "last"])]
        prefix: Option<String>,
        /// Only this key and those behind it
        #[arg(long, value_name = "KEY", allow_negative_numbers = true)]
        first: Option<String>,
        /// Only this key and those in front of it
        #[arg(long, value_name = "KEY", allow_negative_numbers = true)]
        last: Option<String>,
        #[command(flatten)]
        span: SpanArguments,
        /// Print no more
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Go on where the list before ended, which says how
        #[arg(long, value_name = "NEXT")]
        from: Option<String>,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Empty the stores on this machine's disk; the next start makes them what their changelogs still hold
    #[command(after_help = "The instance on this machine is stopped first.\n\n\
    Example: tidegate state rebuild usage-by-user-repartition-3")]
    Rebuild(RepairArguments),
    /// Print how many keys and bytes each partition of each store has
    #[command(after_help = "Example: tidegate state size --address 10.0.0.7:8230")]
    Size {
        #[command(flatten)]
        output: OutputArguments,
    },
}

#[derive(Args, Debug)]
#[command(arg_required_else_help = true)]
pub(crate) struct TokenArguments {
    /// The roll-up; otherwise the first one
    #[arg(long, global = true, value_name = "NAME")]
    pub rollup: Option<String>,
    #[command(subcommand)]
    pub command: TokenCommand,
}

#[derive(Subcommand, Debug)]
pub(crate) enum TokenCommand {
    /// Print a new token, in the place of one that its holder had; it is not kept, and never printed again
    #[command(after_help = "Example: tidegate token create ada --home maple-street-7\n         \
    tidegate token create telegraf --write")]
    Create {
        /// Who holds it
        holder: String,
        /// For the devices of this home alone
        #[arg(long, value_name = "HOME")]
        home: Option<String>,
        /// For this device alone; may be repeated
        #[arg(long, value_name = "DEVICE")]
        device: Vec<String>,
        /// Also to write readings, and to describe and delete devices
        #[arg(long)]
        write: bool,
    },
    /// Print who holds a token, and what it is for
    #[command(after_help = "Example: tidegate token list -o json")]
    List(OutputArguments),
    /// Take a token back
    #[command(after_help = "Example: tidegate token revoke ada")]
    Revoke {
        /// Who holds it
        holder: String,
    },
}

#[derive(Args, Debug)]
#[command(arg_required_else_help = true)]
pub(crate) struct ConfigArguments {
    #[command(subcommand)]
    pub command: ConfigCommand,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ConfigCommand {
    /// Print every value in force and where it was written; secrets are masked
    #[command(after_help = "Example: tidegate --config tidegate.yaml config show -o yaml")]
    Show(ShowArguments),
    /// Check that `run` would find what it needs; no broker and no database is asked
    #[command(after_help = "Example: tidegate --config tidegate.yaml config validate")]
    Validate,
}

#[derive(Args, Debug)]
pub(crate) struct ShowArguments {
    /// For people, for programs, or as a settings file
    #[arg(short, long, value_enum, default_value_t)]
    pub output: ShowOutput,
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ShowOutput {
    #[default]
    Table,
    Json,
    Yaml,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn what_halts_print_can_be_typed() {
        let action = |line: &str| match Cli::try_parse_from(line.split(' ')).map(|cli| cli.command) {
            Ok(Command::Adopt(arguments)) => arguments.action().to_string(),
            Ok(Command::Reset(arguments)) => arguments.action().to_string(),
            Ok(Command::Replay(arguments)) => arguments.action().to_string(),
            Ok(Command::Skip(arguments)) => arguments.action().to_string(),
            other => format!("{other:?}"),
        };
        for (line, expected) in [
            ("tidegate adopt readings-3 --from-group", "adopt --from-group"),
            ("tidegate adopt readings-3 readings-4 --from-database --yes", "adopt --from-database"),
            ("tidegate reset readings-3 --to 17", "reset --to 17"),
            ("tidegate reset readings-3 --to start --emit", "reset --to start --emit"),
            ("tidegate reset readings-3 --to 0 --suppress-output", "reset --to 0 --suppress-output"),
            ("tidegate replay readings-3 --emit", "replay --emit"),
            ("tidegate skip readings-3 --to end", "skip --to end"),
        ] {
            assert_eq!(action(line), expected);
        }
        for line in [
            "tidegate adopt readings-3",
            "tidegate adopt --from-group",
            "tidegate adopt readings-3 --from-group --from-database",
            "tidegate reset readings-3",
            "tidegate reset readings-3 --to -1",
            "tidegate reset readings-3 --to 1 --emit --suppress-output",
            "tidegate replay readings-3",
            "tidegate skip readings-3 --to soon",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }

    #[test]
    fn the_definitions_hold_together_and_every_command_has_an_example() {
        let mut root = Cli::command();
        root.build();
        root.clone().debug_assert();
        let mut rest: Vec<_> = root.get_subcommands().filter(|c| c.get_name() != "help").collect();
        assert_eq!(rest.len(), 14);
        while let Some(command) = rest.pop() {
            if command.has_subcommands() {
                rest.extend(command.get_subcommands().filter(|c| c.get_name() != "help"));
                continue;
            }
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example: "), "{} has no example", command.get_name());
        }
    }
}
