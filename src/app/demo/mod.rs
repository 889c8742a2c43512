//! `demo`: the whole main job over the in-process log and SQLite rows: fed, killed now and then, audited at the end.

mod crash;
mod feeder;
#[cfg(feature = "http")]
mod page;
mod recovery;
mod runs;
mod summary;
mod ticker;
mod world;

use crate::app::application::App;
use crate::app::cli::{DemoArguments, Output};
use crate::app::exit::Exit;
use crate::app::failure::Failure;
use crate::app::logging;
use crate::app::signals::Signals;
use crate::engine::member::Running;
use crate::engine::protocol::order::Hook;
use crate::engine::status::{Counter, Status};
use crate::flow::Topology;
use crate::pipelines::scoring;
use crate::ports::Fault;
use crate::settings::{LogLevel, Origin, Settings};
use crash::CrashPoint;
use feeder::{ACCOUNTS, Feeder};
use recovery::{Recoveries, Recovery};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;
use summary::Summary;
use ticker::{Ticker, grouped};
use world::{PARTITIONS, SESSION, World};

/// Interval at which the demo looks at its worker: the error of the recovery times shown.
const WATCH: Duration = Duration::from_millis(5);
/// No crash so shortly before the end: a recovery takes a session timeout and a little.
const QUIET_END: Duration = Duration::from_secs(2);
/// Longest time at the end for working off the rest and for the worker to leave.
const DRAIN: Duration = Duration::from_mins(1);

pub(super) fn demo(app: &App, arguments: &DemoArguments, out: &mut dyn Write) -> Result<Exit, Failure> {
    let settings = app.settings_for(&[])?;
    logging::start(&quiet(&settings));
    app.signals.hold();
    let world = World::open(arguments.db_filename.as_deref())?;
    let mut silent = io::sink();
    let is_json = arguments.output.output == Output::Json;
    let lines: &mut dyn Write = if is_json { &mut silent } else { &mut *out };
    write!(lines, "{}", not_shown(&app.topology, &settings))?;
    let mut demo = Demo::new(&world, arguments, lines);
    #[cfg(feature = "http")]
    let page = page::serve(&settings, &demo.status, &demo.recoveries)?;
    #[cfg(feature = "http")]
    demo.greet(&format!("http://{}", page.address()))?;
    #[cfg(not(feature = "http"))]
    demo.greet("none: this build lacks the feature `http`")?;
    demo.run(&app.signals)?;
    let summary = demo.summary()?;
    if is_json {
        crate::app::table::json(&summary, out)?;
    } else {
        summary.write(out)?;
    }
    Ok(if summary.is_good() { Exit::Done } else { Exit::Failed })
}

/// The first line where somebody has a pipeline or thresholds of their own: the feeder knows the shipped pipeline's records
/// only. Empty for the shipped one as it is.
fn not_shown(own: &Topology, settings: &Settings) -> String {
    let shipped = scoring::topology();
    let leads = |pipeline: &Topology| pipeline.sub_topologies().iter().map(|sub| sub.lead.clone()).collect::<Vec<_>>();
    if own.name() != shipped.name() || leads(own) != leads(&shipped) {
        let (own, shipped) = (own.name(), shipped.name());
        return format!(
            "demo runs the shipped pipeline {shipped}, and not {own}: TestDriver tries {own} in tests, `run` on real servers\n"
        );
    }
    let is_other = |(name, value): &(&String, &f64)| {
        shipped.thresholds().iter().any(|known| known.name() == *name && known.value().to_bits() != value.to_bits())
    };
    let given: Vec<&str> =
        settings.pipeline.thresholds.iter().filter(is_other).map(|(name, _)| name.as_str()).collect();
    if given.is_empty() {
        return String::new();
    }
    format!(
        "demo runs the pipeline {} as shipped: the thresholds that the settings give ({}) do not apply\n",
        shipped.name(),
        given.join(", ")
    )
}

/// The settings with warnings only on standard error, unless somebody asked for more: the demo's own lines are the show.
fn quiet(settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    if matches!(settings.origin_of("log.level"), Origin::Default) {
        settings.log.level = LogLevel::Warn;
    }
    settings
}

/// A running demo.
struct Demo<'a> {
    world: &'a World,
    arguments: &'a DemoArguments,
    lines: &'a mut dyn Write,
    /// The counters of all workers together: the counts of a dead one stay in.
    status: Arc<Status>,
    recoveries: Recoveries,
    crashes: u64,
    phase: Phase,
}

/// Where the worker is between two crashes.
#[derive(Clone, Copy)]
enum Phase {
    Working,
    /// About to die.
    Dying,
    Recovering(Death),
}

/// The moment of a crash and the counts at it.
#[derive(Clone, Copy)]
struct Death {
    at: Duration,
    recovered_rows: u64,
    repeated: u64,
}

struct Worker {
    running: Running,
    crash: Arc<CrashPoint>,
}

impl<'a> Demo<'a> {
    fn new(world: &'a World, arguments: &'a DemoArguments, lines: &'a mut dyn Write) -> Self {
        let (status, recoveries) = (Arc::default(), Arc::default());
        Self { world, arguments, lines, status, recoveries, crashes: 0, phase: Phase::Working }
    }

    fn greet(&mut self, page: &str) -> Result<(), Failure> {
        let DemoArguments { rate, no_crashes, crash_every_ms, db_filename, .. } = self.arguments;
        writeln!(
            self.lines,
            "tidegate {}  demo  ·  in-process log, SQLite rows (a model: see \"Guarantees\")",
            env!("CARGO_PKG_VERSION")
        )?;
        writeln!(
            self.lines,
            "  accounts {} rows · readings {PARTITIONS} partitions · {} notifications/s · times in UTC",
            grouped(ACCOUNTS),
            grouped(*rate)
        )?;
        writeln!(self.lines, "  page     {page}")?;
        if let Some(path) = db_filename {
            let log = world::journal_path(path);
            writeln!(self.lines, "  kept in  {} (rows) and {} (topics)", path.display(), log.display())?;
        }
        if !no_crashes {
            writeln!(
                self.lines,
                "  crashes  every {} s; a dead worker is noticed when its session of {} s ends (--no-crashes for none)",
                Duration::from_millis(*crash_every_ms).as_secs_f64(),
                SESSION.as_secs()
            )?;
        }
        Ok(self.lines.flush()?)
    }

    fn start(&self) -> Result<Worker, Fault> {
        let crash = Arc::new(CrashPoint::default());
        let hook = Arc::clone(&crash) as Arc<dyn Hook>;
        let member = self.world.member(&self.status, &hook)?;
        Ok(Worker { running: member.spawn(), crash })
    }

    /// Feeds and kills until it is time to stop, and works off the rest.
    fn run(&mut self, signals: &Signals) -> Result<(), Failure> {
        let clock = Arc::clone(&self.world.clock);
        let mut worker = self.start()?;
        let (log, status) = (self.world.log.clone(), Arc::clone(&self.status));
        let mut feeder = Feeder::start(log, Arc::clone(&clock), status, self.arguments.rate)?;
        let start = clock.elapsed();
        let end = self.arguments.seconds.map(|seconds| start + Duration::from_secs(seconds));
        let crash_every = Duration::from_millis(self.arguments.crash_every_ms);
        let mut next_crash = start + crash_every;
        let mut ticker = Ticker::new(start, &self.status);
        while !signals.is_stopping() && end.is_none_or(|end| clock.elapsed() < end) && !feeder.has_failed() {
            std::thread::sleep(WATCH);
            let now = clock.elapsed();
            if now >= next_crash {
                next_crash += crash_every;
                let is_too_late = end.is_some_and(|end| now + QUIET_END > end);
                if !self.arguments.no_crashes && !is_too_late && matches!(self.phase, Phase::Working) {
                    worker.crash.arm();
                    self.phase = Phase::Dying;
                }
            }
            worker = self.watch(worker)?;
            ticker.tick(clock.now(), now, feeder.fed(), &self.status, self.lines)?;
        }
        feeder.stop()?;
        self.end(worker)
    }

    /// Kills the worker that stands where it is to die, starts the next, and reports when that one has recovered.
    fn watch(&mut self, worker: Worker) -> Result<Worker, Failure> {
        let clock = &self.world.clock;
        match self.phase {
            Phase::Dying if worker.crash.is_reached() => {
                worker.running.kill();
                worker.crash.die();
                drop(worker.running.join(Duration::ZERO)); // the fault is the one we gave it
                let (recovered_rows, repeated) =
                    (self.status.value(Counter::RecoveredRows), self.world.runs.repeated());
                self.phase = Phase::Recovering(Death { at: clock.elapsed(), recovered_rows, repeated });
                self.crashes += 1;
                self.status.forget_tasks();
                self.say("worker killed between database commit and notification")?;
                Ok(self.start()?)
            }
            Phase::Recovering(death) if self.has_taken_over() => {
                let recovery = Recovery {
                    took: clock.elapsed().saturating_sub(death.at),
                    published: self.status.value(Counter::RecoveredRows) - death.recovered_rows,
                    repeated: self.world.runs.repeated() - death.repeated,
                };
                self.recoveries.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(recovery);
                self.phase = Phase::Working;
                let Recovery { took, published, repeated } = recovery;
                self.say(&format!(
                    "recovered in {} ms: {} notices published from the outbox, {} algorithm runs repeated",
                    grouped(u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
                    grouped(published),
                    grouped(repeated)
                ))?;
                Ok(worker)
            }
            _ if worker.running.is_stopping() => {
                worker.running.join(Duration::ZERO)?;
                Err(Failure::message("the worker ended by itself"))
            }
            _ => Ok(worker),
        }
    }

    /// Whether every partition takes records: what an earlier worker had decided is published then.
    fn has_taken_over(&self) -> bool {
        let tasks = self.status.tasks();
        tasks.len() == usize::try_from(PARTITIONS).unwrap_or(0) && self.status.is_ready()
    }

    fn end(&mut self, mut worker: Worker) -> Result<(), Failure> {
        let clock = Arc::clone(&self.world.clock);
        worker.crash.spare();
        if matches!(self.phase, Phase::Dying) {
            self.phase = Phase::Working;
        }
        let give_up = clock.elapsed() + DRAIN;
        // Should it not come to rest, the audit says what is missing.
        while clock.elapsed() < give_up && !(matches!(self.phase, Phase::Working) && self.world.is_drained()) {
            worker = self.watch(worker)?;
            std::thread::sleep(WATCH);
        }
        worker.running.stop();
        Ok(worker.running.join(DRAIN)?)
    }

    fn say(&mut self, what: &str) -> Result<(), Failure> {
        writeln!(self.lines, "  {}  {what}", ticker::time_of_day(self.world.clock.now()))?;
        Ok(self.lines.flush()?)
    }

    fn summary(&self) -> Result<Summary, Failure> {
        let report = self.world.audit()?;
        let recoveries = self.recoveries.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(Summary::new(&report, self.world, &self.status, self.crashes, &recoveries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipelines::usage;
    use crate::settings::Sources;

    #[test]
    fn a_pipeline_or_a_threshold_of_ones_own_is_told_not_to_be_shown() {
        let settings = |topology: &Topology, flags: &[&str]| {
            let flags = flags.iter().map(ToString::to_string).collect();
            Settings::load(topology, Sources { flags, ..Sources::default() }).unwrap()
        };
        let (shipped, own) = (scoring::topology(), usage::topology());
        assert_eq!(not_shown(&shipped, &settings(&shipped, &[])), "");
        let told = not_shown(&own, &settings(&own, &[]));
        assert!(told.starts_with("demo runs the shipped pipeline scoring, and not usage: "), "{told}");
        let name = shipped.thresholds()[0].name().to_owned();
        let told = not_shown(&shipped, &settings(&shipped, &[&format!("pipeline.thresholds.{name}=987")]));
        assert!(told.contains(&format!("({name}) do not apply")), "{told}");
    }
}
