//! The one thread beside the engine: keeps the slot's lease and looks after the outbox where there is a database, and
//! watches the settings file for thresholds that changed.

use crate::adapters::postgres::PostgresSchema;
use crate::app::service::{Service, apply_thresholds};
use crate::app::slot::{Slot, random_word};
use crate::flow::Topology;
use crate::ports::Fault;
use crate::settings::Settings;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// How often the thread looks around.
const ROUND: Duration = Duration::from_millis(500);
/// How often the outbox's partitions are looked at: they are hours long.
const UPKEEP_ROUNDS: u32 = 120;
/// How often the lease is renewed: a third of its term.
const LEASE_ROUNDS: u32 = 10;

/// Maintenance under way.
pub(super) struct Maintenance {
    /// Names the producers.
    pub(super) slot: Slot,
    /// Who holds it: name, process, and a random part, since a process id comes again in every container.
    pub(super) owner: String,
    thread: Option<JoinHandle<()>>,
}

impl Maintenance {
    /// Finds a slot and starts the thread, which ends when `stop` is set.
    pub(super) fn start(
        service: &Service,
        schema: Option<PostgresSchema>,
        stop: &Arc<AtomicBool>,
    ) -> Result<Self, Fault> {
        let instance = &service.settings.instance;
        let name = instance.name.clone().unwrap_or_else(host_name);
        let owner = format!("{name}:{}:{}", std::process::id(), random_word());
        let slot = Slot::find(schema, &owner, instance.slot)?;
        let upkeep = Upkeep {
            slot: slot.clone(),
            topology: service.topology.clone(),
            settings: service.settings.clone(),
            changed_at: modified(&service.settings),
            stop: Arc::clone(stop),
        };
        let thread = std::thread::Builder::new()
            .name("maintenance".into())
            .spawn(move || upkeep.run())
            .map_err(|error| Fault::fatal("the maintenance thread could not start").because(error))?;
        Ok(Self { slot, owner, thread: Some(thread) })
    }

    /// Waits for the thread to give the slot back; `stop` must be set.
    pub(super) fn end(mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a lease that was not given back ends by itself
        }
    }
}

struct Upkeep {
    slot: Slot,
    topology: Topology,
    settings: Settings,
    changed_at: Option<SystemTime>,
    stop: Arc<AtomicBool>,
}

impl Upkeep {
    fn run(mut self) {
        let mut round = 0_u32;
        while !self.stop.load(Ordering::Acquire) {
            std::thread::sleep(ROUND);
            round = round.wrapping_add(1);
            if let Some(lease) = self.slot.lease() {
                if round.is_multiple_of(LEASE_ROUNDS)
                    && let Err(fault) = lease.renew()
                {
                    tracing::debug!(error = %fault, "the lease could not be renewed yet");
                }
                if round.is_multiple_of(UPKEEP_ROUNDS) {
                    lease.maintain();
                }
            }
            self.reload();
        }
        if let Some(lease) = self.slot.lease() {
            lease.end();
        }
    }

    fn reload(&mut self) {
        let now = modified(&self.settings);
        if now == self.changed_at {
            return;
        }
        self.changed_at = now;
        match self.settings.reload_thresholds() {
            Ok(values) => apply_thresholds(&self.topology, values.iter().map(|(name, value)| (name.as_str(), *value))),
            Err(problems) => {
                tracing::error!("the changed settings file is wrong; the thresholds stay as they are\n{problems}");
            }
        }
    }
}

fn modified(settings: &Settings) -> Option<SystemTime> {
    std::fs::metadata(settings.file()?).ok()?.modified().ok()
}

pub(super) fn host_name() -> String {
    let name = std::env::var("HOSTNAME").ok().or_else(|| std::fs::read_to_string("/etc/hostname").ok());
    name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".into())
}
