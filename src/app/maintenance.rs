//! The one thread beside the engine: keeps the slot's lease and looks after the outbox where there is a database, and
//! watches the settings file for thresholds that changed.

use crate::adapters::postgres::PostgresSchema;
use crate::app::service::{Service, apply_thresholds};
use crate::flow::Topology;
use crate::ports::Fault;
use crate::ports::schema::Schema as _;
use crate::settings::Settings;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// A lease holds for this long. Short, so that the slot of a killed instance, and with it its transactional ids, goes to
/// the next one soon; a lost lease can only cost a fencing.
const LEASE: Duration = Duration::from_secs(15);
/// How often the thread looks around.
const ROUND: Duration = Duration::from_millis(500);
/// How often the outbox's partitions are looked at: they are hours long.
const UPKEEP_ROUNDS: u32 = 120;
/// How often the lease is renewed: a third of its term.
const LEASE_ROUNDS: u32 = 10;

/// Maintenance under way.
pub(super) struct Maintenance {
    /// Part of the transactional ids: the leased slot, the one that was set, or without either a random word.
    pub(super) slot: String,
    /// Who holds it: name, process, and a random part, since a process id comes again in every container.
    pub(super) owner: String,
    thread: Option<JoinHandle<()>>,
}

impl Maintenance {
    /// Finds a slot and starts the thread, which ends when `stop` is set. Without a database the slot is random: nobody
    /// then ends the transaction of a predecessor that was killed, which ends by its timeout.
    pub(super) fn start(
        service: &Service,
        schema: Option<PostgresSchema>,
        stop: &Arc<AtomicBool>,
    ) -> Result<Self, Fault> {
        let instance = &service.settings.instance;
        let name = instance.name.clone().unwrap_or_else(host_name);
        let random = || uuid::Uuid::new_v4().simple().to_string().chars().take(8).collect::<String>();
        let owner = format!("{name}:{}:{}", std::process::id(), random());
        let lease = match schema {
            Some(mut schema) => {
                let slot = schema.lease_slot(&owner, instance.slot, LEASE)?;
                Some(Lease { schema, slot, owner: owner.clone() })
            }
            None => None,
        };
        let slot =
            lease.as_ref().map(|lease| lease.slot).or(instance.slot).map_or_else(random, |slot| slot.to_string());
        let upkeep = Upkeep {
            lease,
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
    lease: Option<Lease>,
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
            if let Some(lease) = &mut self.lease {
                if round.is_multiple_of(LEASE_ROUNDS) {
                    lease.renew();
                }
                if round.is_multiple_of(UPKEEP_ROUNDS) {
                    lease.maintain();
                }
            }
            self.reload();
        }
        if let Some(Lease { mut schema, slot, owner }) = self.lease {
            schema.release_slot(slot, &owner);
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

/// A slot in the database, and the connection that keeps it.
struct Lease {
    schema: PostgresSchema,
    slot: u32,
    owner: String,
}

impl Lease {
    fn renew(&mut self) {
        match self.schema.renew_slot(self.slot, &self.owner, LEASE) {
            Ok(true) => {}
            // Harmless but for a fencing: the slot names producers and owns nothing.
            Ok(false) => tracing::warn!(slot = self.slot, "the lease of this slot went to another instance"),
            Err(fault) => tracing::debug!(error = %fault, "the lease could not be renewed yet"),
        }
    }

    fn maintain(&mut self) {
        match self.schema.maintain() {
            Ok(done) if done.created + done.dropped > 0 => {
                tracing::info!(created = done.created, dropped = done.dropped, "outbox partitions");
            }
            Ok(_) => {}
            Err(fault) => tracing::warn!(error = %fault, "the outbox could not be looked after; trying again"),
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
