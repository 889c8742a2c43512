//! The turns of the instances, until the pipeline comes to rest.

use crate::testing::driver::TestDriver;
use crate::testing::simulation::Simulation;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Rounds after which a pipeline that does not come to rest is a finding: a quarter of an hour of simulated time and more.
const ROUNDS_MAX: usize = 20_000;
/// How often the last quiet time begins anew because something was at work in it.
const BEGINS_MAX: u32 = 10;
/// Rounds that living instances have under a disaster: longer than sessions and transactions last.
const LIVING_ROUNDS: usize = 300;
/// Step of the clock when nobody has anything to do.
const TICK: Duration = Duration::from_millis(50);

impl Simulation {
    /// Everything that is down comes back, and the pipeline comes to rest, its stores written.
    ///
    /// # Errors
    /// A sentence, where it does not or the engine panicked.
    pub fn finish(&mut self) -> Result<(), String> {
        self.note(|| "finish".into());
        self.driver.disarm();
        self.driver.database().set_down(false);
        for instance in 0..self.driver.instance_count() {
            self.driver.thaw(instance);
            self.driver.disk(instance).fill(false);
            self.driver.disk(instance).block(false);
            // The effects of a disaster are seen at a takeover.
            let is_seen_by_all = self.had_disaster && !self.was_living;
            let is_mended = self.broken_disks.contains(&instance) && self.driver.halts_by_disk(instance);
            let is_killed = is_seen_by_all || is_mended;
            self.start_anew(instance, is_killed)?;
        }
        if self.was_living {
            self.live_on()?;
            for instance in 0..self.driver.instance_count() {
                self.start_anew(instance, true)?;
                self.live_on()?;
            }
        }
        self.settle()?;
        self.driver.end_lag();
        // Until stores are written, once more after the search for their expired keys, and offsets without messages are
        // committed; less at a time than a session lasts.
        let flush_ms = i64::try_from(self.shape.settings.store_flush.as_millis()).unwrap_or(0);
        let quiet_ms = 2 * flush_ms + 5_000;
        let (mut until, mut begins) = (self.driver.now_ms() + quiet_ms, 0);
        while self.driver.now_ms() < until {
            self.driver.pass(Duration::from_secs(1));
            let before = (self.driver.now_ms(), self.events.len());
            self.settle()?;
            // A timer by the wall clock may have changed its store meanwhile, or ended a process, and its session with it.
            if (self.driver.now_ms(), self.events.len()) > before && begins < BEGINS_MAX {
                (until, begins) = (self.driver.now_ms() + quiet_ms, begins + 1);
            }
        }
        Ok(())
    }

    fn start_anew(&mut self, instance: usize, is_killed: bool) -> Result<(), String> {
        if is_killed {
            self.driver.kill(instance);
        }
        if self.driver.is_up(instance) || self.driver.try_start(instance) {
            return Ok(());
        }
        Err(format!("instance {instance} does not start"))
    }

    /// Some time under a disaster. Rest is not asked for: a loss may be seen at the next takeover only.
    fn live_on(&mut self) -> Result<(), String> {
        for _ in 0..LIVING_ROUNDS {
            if self.round()? {
                continue;
            }
            if self.driver.is_at_rest() {
                return Ok(());
            }
            self.driver.pass(TICK);
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..ROUNDS_MAX {
            if self.round()? {
                continue;
            }
            if self.driver.is_at_rest() {
                return Ok(());
            }
            self.driver.pass(TICK);
        }
        Err(format!("it does not come to rest: {}", self.driver.states()))
    }

    /// One turn of every instance. True when an instance did something.
    pub(super) fn round(&mut self) -> Result<bool, String> {
        let mut is_busy = false;
        for instance in 0..self.driver.instance_count() {
            let mut was_busy = false;
            self.guarded(instance, |driver, instance| was_busy = driver.step_one(instance))?;
            is_busy |= was_busy;
        }
        Ok(is_busy)
    }

    /// Lets an instance act, and looks at the result.
    pub(super) fn guarded(&mut self, instance: usize, act: impl FnOnce(&mut TestDriver, usize)) -> Result<(), String> {
        let driver = &mut self.driver;
        let outcome = catch_unwind(AssertUnwindSafe(|| act(driver, instance)));
        self.look(instance);
        outcome.map_err(|panic| {
            let text =
                panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            format!("instance {instance} panicked: {}", text.unwrap_or("no message"))
        })
    }
}
