//! Crashes, rebalances and single turns.

use crate::engine::protocol::order::Step;
use crate::flow::topology::Topology;
use crate::ports::Fault;
use crate::testing::death::survived;
use crate::testing::driver::TestDriver;
use crate::testing::driver::outcome::difference;
use crate::testing::driver::world::World;
use std::sync::Arc;
use std::time::Duration;

impl TestDriver {
    /// Kills, as SIGKILL would, the instance that next reaches `step` for the `nth` time (from 1). It is started again
    /// when its death is noticed.
    pub fn crash_at(&mut self, step: Step, nth: usize) {
        self.world().crash.arm(step, nth);
    }

    /// From now on an instance that crashes stays down until [`TestDriver::start`].
    pub fn leave_dead(&mut self) {
        self.world().stays_dead = true;
    }

    /// Number of instances killed by [`TestDriver::crash_at`].
    #[must_use]
    pub fn crashes(&mut self) -> usize {
        self.world().crash.crashed().len()
    }

    /// Repeats the whole test from its start, once for each time a commit step was reached, with a crash at that moment,
    /// and compares the rows and every topic with those of the run without a crash. In each run every store on a disk must
    /// hold what its changelog says up to the store's checkpoint, once all instances have left.
    ///
    /// # Panics
    /// With the first crash point at which a row, a topic or a store differs, and what differs there; and where no step was reached
    /// at all.
    pub fn crash_everywhere(&mut self) {
        self.run();
        let plan = self.plan.clone();
        let expected = self.world().outcome(&plan);
        let points: Vec<(Step, usize)> = {
            let mut whole = World::new(&self.plan);
            whole.replay(&self.plan, &self.operations);
            let points = whole.crash.seen().into_iter().collect();
            whole.leave_and_check_stores(&self.plan, "without a crash");
            points
        };
        assert!(!points.is_empty(), "no step was reached: the test has given the pipeline nothing to do");
        for (step, count) in points {
            for nth in 1..=count {
                let mut world = World::new(&self.plan);
                world.crash.arm(step, nth);
                world.replay(&self.plan, &self.operations);
                assert_eq!(world.crash.crashed().len(), 1, "no crash after {step:?} number {nth}");
                let found = world.outcome(&self.plan);
                assert!(
                    found == expected,
                    "a crash after {step:?} number {nth} changed the outcome:\n{}",
                    difference(&expected, &found)
                );
                world.leave_and_check_stores(&self.plan, &format!("a crash after {step:?} number {nth}"));
            }
        }
    }

    /// Kills an instance now; it stays down until [`TestDriver::start`].
    pub fn kill(&mut self, instance: usize) {
        let world = self.world();
        if let Some(instance) = world.instances.get_mut(instance) {
            instance.member = None;
        }
    }

    /// Stops an instance gracefully: it publishes, leaves the group and stays down until [`TestDriver::start`].
    ///
    /// # Panics
    /// When it fails.
    pub fn stop(&mut self, instance: usize) {
        let world = self.world();
        if let Some(member) = world.instances.get_mut(instance).and_then(|instance| instance.member.take())
            && let Err(fault) = member.close()
        {
            panic!("instance {instance} did not stop: {fault}");
        }
    }

    /// Instances that start from now on run this topology, over the traces of the one before: another release. A test
    /// that does this cannot be repeated by [`TestDriver::crash_everywhere`].
    ///
    /// # Panics
    /// When the topology is not valid.
    #[doc(hidden)]
    pub fn release(&mut self, topology: Topology) {
        if let Err(errors) = topology.validate() {
            panic!("the topology is not valid: {}", errors.join("; "));
        }
        self.plan.topology = Arc::new(topology);
    }

    /// Starts an instance that is down, or one more.
    pub fn start(&mut self, instance: usize) {
        let plan = self.plan.clone();
        self.world().start(&plan, instance);
    }

    /// Stops scheduling an instance, as SIGSTOP would; [`TestDriver::thaw`] lets it go on.
    pub fn freeze(&mut self, instance: usize) {
        if let Some(instance) = self.world().instances.get_mut(instance) {
            instance.is_frozen = true;
        }
    }

    /// Lets a frozen instance go on.
    pub fn thaw(&mut self, instance: usize) {
        if let Some(instance) = self.world().instances.get_mut(instance) {
            instance.is_frozen = false;
        }
    }

    /// Lets only the workers of a frozen instance go on, before its polling thread hears of anything: a zombie.
    /// Answers the fault that ended it, if one did.
    #[doc(hidden)]
    pub fn step_workers(&mut self, instance: usize) -> Option<Fault> {
        let world = self.world();
        let crashes = world.crash.count();
        let member = world.instances.get_mut(instance)?.member.as_mut()?;
        let fault = match survived(|| member.step_workers()) {
            Some(result) => {
                let fault = result.err()?;
                world.note_end(instance, crashes, &fault);
                fault
            }
            None => Fault::fatal("it died over a record"),
        };
        if let Some(instance) = world.instances.get_mut(instance) {
            instance.member = None;
        }
        Some(fault)
    }

    /// Lets time pass without anybody doing anything.
    pub fn pass(&mut self, by: Duration) {
        self.world().clock.advance(by);
    }

    /// Steps every instance once, without letting time pass. A crashed one is started again.
    #[doc(hidden)]
    pub fn step(&mut self) {
        let plan = self.plan.clone();
        self.world().step(&plan);
    }
}
