//! `demo`: the whole main job over the in-process log and SQLite rows: fed, killed now and then, audited at the end.

mod crash;
mod feeder;
mod home;
#[cfg(feature = "http")]
mod page;
mod pipeline;
mod process;
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
use crate::flow::Topology;
use crate::pipelines::scoring;
use crate::settings::{LogLevel, Origin, Settings};
use crash::Dies;
use feeder::{ACCOUNTS, Feeder};
use pipeline::PARTITIONS;
use process::{News, Process, SESSION};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;
use summary::{RolledUp, Summary};
use ticker::{Ticker, grouped};
use world::World;

/// Interval at which the demo looks at its workers: the error of the recovery times shown.
const WATCH: Duration = Duration::from_millis(5);
/// No crash so shortly before the end: a recovery takes a session timeout and a little.
const QUIET_END: Duration = Duration::from_secs(2);
/// Longest time at the end for working off the rest and for the workers to leave.
const DRAIN: Duration = Duration::from_mins(1);
/// How often it is told how much of the devices' month is there.
const TELL: Duration = Duration::from_secs(5);

pub(super) fn demo(app: &App, arguments: &DemoArguments, out: &mut dyn Write) -> Result<Exit, Failure> {
    let settings = app.settings_for(&[])?;
    logging::start(&quiet(&settings));
    app.signals.hold();
    let world = World::open(arguments.db_filename.as_deref(), arguments.devices)?;
    let mut silent = io::sink();
    let is_json = arguments.output.output == Output::Json;
    let lines: &mut dyn Write = if is_json { &mut silent } else { &mut *out };
    write!(lines, "{}", not_shown(&app.topology, &settings))?;
    let mut demo = Demo::new(&world, arguments, lines);
    #[cfg(feature = "http")]
    let page = page::serve(&settings, &demo.scoring, demo.homes.as_ref().map(|homes| &homes.process))?;
    #[cfg(feature = "http")]
    demo.greet(&format!("http://{}", page.address()), page.address().ip().is_loopback())?;
    #[cfg(not(feature = "http"))]
    demo.greet("none: this build lacks the feature `http`", false)?;
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
    scoring: Process,
    homes: Option<Homes>,
}

/// The devices: their pipeline's worker, and how far the filling of their month is.
struct Homes {
    process: Process,
    feeder: Option<home::feeder::Feeder>,
    /// From the start until every bucket of the month lay in its table.
    filled: Option<Duration>,
    next_told: Duration,
}

impl<'a> Demo<'a> {
    fn new(world: &'a World, arguments: &'a DemoArguments, lines: &'a mut dyn Write) -> Self {
        let homes = |pipeline| Homes {
            process: Process::new(pipeline, Dies::Anywhere),
            feeder: None,
            filled: None,
            next_told: Duration::ZERO,
        };
        let scoring = Process::new(&world.scoring, Dies::BehindCommit);
        Self { world, arguments, lines, scoring, homes: world.home.as_ref().map(homes) }
    }

    fn greet(&mut self, page: &str, has_graphs: bool) -> Result<(), Failure> {
        let DemoArguments { rate, no_crashes, crash_every_ms, db_filename, devices, .. } = self.arguments;
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
        if self.homes.is_some() {
            let (begin, seen) = ("#device=home-001-boiler&metric=power&from=now-7d", grouped(*devices));
            if has_graphs {
                writeln!(self.lines, "  graphs   {page}/graphs{begin}")?;
                writeln!(
                    self.lines,
                    "           {seen} devices, whose last month comes in now: home-001 measures every hour and now every 5 s, the others \
                     twice a day;\n           look at a week, a month, kWh by day, and at the end of the curve, which goes on"
                )?;
            } else {
                writeln!(
                    self.lines,
                    "  graphs   none: they are shown at an address of this machine alone, as 127.0.0.1:8230"
                )?;
            }
        }
        if let Some(path) = db_filename {
            let (log, home) = (world::beside(path, ".log"), world::beside(path, ".home"));
            writeln!(
                self.lines,
                "  kept in  {} and {} (rows) and {} (topics)",
                path.display(),
                home.display(),
                log.display()
            )?;
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

    /// Feeds and kills until it is time to stop, and works off the rest.
    fn run(&mut self, signals: &Signals) -> Result<(), Failure> {
        let clock = Arc::clone(&self.world.clock);
        self.scoring.start()?;
        let (log, status) = (self.world.log.clone(), Arc::clone(&self.scoring.status));
        let mut feeder = Feeder::start(log, Arc::clone(&clock), status, self.arguments.rate)?;
        let start = clock.elapsed();
        if let Some(homes) = &mut self.homes {
            homes.process.start()?;
            homes.feeder = Some(home::feeder::Feeder::start(&homes.process.pipeline, self.arguments.devices)?);
            homes.next_told = start + TELL;
        }
        let end = self.arguments.seconds.map(|seconds| start + Duration::from_secs(seconds));
        let crash_every = Duration::from_millis(self.arguments.crash_every_ms);
        let mut next_crash = start + crash_every;
        let mut ticker = Ticker::new(start, &self.scoring.status);
        let has_failed = |demo: &Self| demo.homes.as_ref().is_some_and(Homes::has_failed);
        while !signals.is_stopping()
            && end.is_none_or(|end| clock.elapsed() < end)
            && !feeder.has_failed()
            && !has_failed(&*self)
        {
            std::thread::sleep(WATCH);
            let now = clock.elapsed();
            if now >= next_crash {
                next_crash += crash_every;
                let is_too_late = end.is_some_and(|end| now + QUIET_END > end);
                if !self.arguments.no_crashes && !is_too_late {
                    self.scoring.arm();
                    self.homes.iter_mut().for_each(|homes| homes.process.arm());
                }
            }
            self.watch()?;
            self.tell_filled(start, now)?;
            ticker.tick(clock.now(), now, feeder.fed(), &self.scoring.status, self.lines)?;
        }
        feeder.stop()?;
        if let Some(feeder) = self.homes.as_mut().and_then(|homes| homes.feeder.as_mut()) {
            feeder.stop()?;
        }
        self.end()
    }

    /// Tells of kills and recoveries.
    fn watch(&mut self) -> Result<(), Failure> {
        match self.scoring.watch()? {
            None => {}
            Some(News::Killed) => self.say("worker killed between database commit and notification")?,
            Some(News::Recovered(recovery)) => self.say(&format!(
                "recovered in {} ms: {} notices published from the outbox, {} algorithm runs repeated",
                grouped(recovery.took_ms()),
                grouped(recovery.published),
                grouped(recovery.repeated)
            ))?,
        }
        let Some(homes) = &mut self.homes else { return Ok(()) };
        match homes.process.watch()? {
            None => Ok(()),
            Some(News::Killed) => self.say("worker of the roll-ups killed, wherever it was"),
            Some(News::Recovered(recovery)) => {
                self.say(&format!("the roll-ups go on after {} ms", grouped(recovery.took_ms())))
            }
        }
    }

    /// Tells how much of the devices' month is there.
    fn tell_filled(&mut self, start: Duration, now: Duration) -> Result<(), Failure> {
        let Some(homes) = &mut self.homes else { return Ok(()) };
        let (None, Some(feeder)) = (homes.filled, &homes.feeder) else { return Ok(()) };
        if now < homes.next_told && !feeder.is_filled() {
            return Ok(());
        }
        if feeder.is_filled() && homes.process.is_at_rest() {
            let took = now.saturating_sub(start);
            homes.filled = Some(took);
            return self.say(&format!("the month of all devices is in its tables, after {:.1} s", took.as_secs_f64()));
        }
        if now >= homes.next_told {
            homes.next_told += TELL;
            let percent = feeder.filled_percent();
            return self.say(&format!("{percent} % of the devices' month has come"));
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Failure> {
        let clock = Arc::clone(&self.world.clock);
        self.scoring.spare();
        self.homes.iter_mut().for_each(|homes| homes.process.spare());
        let give_up = clock.elapsed() + DRAIN;
        // Should they not come to rest, the audit says what is missing.
        while clock.elapsed() < give_up && !self.is_at_rest() {
            self.watch()?;
            std::thread::sleep(WATCH);
        }
        self.scoring.stop(DRAIN)?;
        self.homes.as_mut().map_or(Ok(()), |homes| homes.process.stop(DRAIN))?;
        Ok(())
    }

    fn is_at_rest(&self) -> bool {
        self.scoring.is_at_rest() && self.homes.as_ref().is_none_or(|homes| homes.process.is_at_rest())
    }

    fn say(&mut self, what: &str) -> Result<(), Failure> {
        writeln!(self.lines, "  {}  {what}", ticker::time_of_day(self.world.clock.now()))?;
        Ok(self.lines.flush()?)
    }

    fn summary(&self) -> Result<Summary, Failure> {
        let report = self.world.scoring.audit()?;
        let mut summary = Summary::new(&report, self.world, &self.scoring);
        if let Some(homes) = &self.homes {
            let pipeline = &homes.process.pipeline;
            let rolled_up = RolledUp::new(&pipeline.audit()?, home::offline::compare(pipeline)?, &homes.process);
            summary.roll_ups = Some(rolled_up.of(self.arguments.devices, homes.filled));
        }
        Ok(summary)
    }
}

impl Homes {
    fn has_failed(&self) -> bool {
        self.feeder.as_ref().is_some_and(home::feeder::Feeder::has_failed)
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
