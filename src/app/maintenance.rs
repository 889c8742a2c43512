//! Upkeep beside the engine. One thread keeps the slot's lease and watches the settings file for changed thresholds.
//! Where there is a database, another one looks after the outbox, since that may take longer than a lease holds.

use crate::adapters::postgres::PostgresSchema;
use crate::app::application::apply_thresholds;
use crate::app::service::Service;
use crate::app::signals::Signals;
use crate::app::slot::{RENEWED_EVERY, Slot, random_word};
use crate::flow::Topology;
use crate::ports::Fault;
use crate::ports::schema::Schema as _;
use crate::settings::Settings;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// Longest time for giving back the slot's lease, and the interval of looking at it.
const END_WITHIN: Duration = Duration::from_secs(3);
const END_STEP: Duration = Duration::from_millis(20);
/// Interval at which the threads look around.
const ROUND: Duration = Duration::from_millis(500);
/// Rounds between two looks at the outbox's partitions: they are hours long.
const UPKEEP_ROUNDS: u32 = 120;

/// Maintenance under way.
pub(super) struct Maintenance {
    /// Names the producers.
    pub(super) slot: Slot,
    /// The slot's holder: name, process, and a random part, since a process id comes again in every container.
    pub(super) owner: String,
    life: Life,
    thread: Option<JoinHandle<()>>,
}

/// How far the process has come, for the threads.
#[derive(Clone, Default)]
struct Life {
    /// The group is being joined: from here on a stop has something to bring to an end.
    has_joined: Arc<AtomicBool>,
    /// All is brought to an end.
    is_over: Arc<AtomicBool>,
}

impl Maintenance {
    /// Finds a slot and starts the threads, which end with this. From here on signals are held, since the slot is to be given
    /// back.
    pub(super) fn start(service: &Service, schema: Option<PostgresSchema>, signals: &Signals) -> Result<Self, Fault> {
        let instance = &service.settings.instance;
        let name = instance.name.clone().unwrap_or_else(host_name);
        let owner = format!("{name}:{}:{}", std::process::id(), random_word());
        let leases = schema.is_some().then(|| service.brief_schema()).transpose()?;
        let slot = Slot::find(leases, &owner, instance.slot)?;
        signals.hold();
        let life = Life::default();
        let upkeep = Upkeep {
            slot: slot.clone(),
            topology: service.topology.clone(),
            settings: service.settings.clone(),
            changed_at: modified(&service.settings),
            signals: signals.clone(),
            life: life.clone(),
        };
        let thread = spawn("maintenance", move || upkeep.run())?;
        if let Some(schema) = schema {
            let is_over = Arc::clone(&life.is_over);
            let service = service.clone();
            spawn("outbox", move || look_after(schema, &service, &is_over))?; // nothing is lost where the process ends meanwhile
        }
        Ok(Self { slot, owner, life, thread: Some(thread) })
    }

    /// The group is being joined: from here on the main thread answers signals.
    pub(super) fn joins(&self) {
        self.life.has_joined.store(true, Ordering::Release);
    }
}

impl Drop for Maintenance {
    /// The end, also of a start that failed. Waits a little for the thread to give the slot back; a lease that was not given
    /// back ends by itself.
    fn drop(&mut self) {
        self.life.is_over.store(true, Ordering::Release);
        let Some(thread) = self.thread.take() else { return };
        let mut waited = Duration::ZERO;
        while !thread.is_finished() && waited < END_WITHIN {
            std::thread::sleep(END_STEP);
            waited += END_STEP;
        }
        if thread.is_finished() {
            let _ = thread.join();
        }
    }
}

struct Upkeep {
    slot: Slot,
    topology: Topology,
    settings: Settings,
    changed_at: Option<SystemTime>,
    signals: Signals,
    life: Life,
}

impl Upkeep {
    fn run(mut self) {
        let mut rounds = 0;
        let mut is_over = false;
        while !is_over {
            std::thread::sleep(ROUND);
            rounds += 1;
            is_over = self.life.is_over.load(Ordering::Acquire);
            if self.signals.is_stopping() && !self.life.has_joined.load(Ordering::Acquire) {
                // The start may wait for servers for long, and there is nothing to bring to an end but the lease.
                tracing::info!("told to stop before the group was joined");
                self.give_back();
                self.signals.end_process();
            }
            if let Some(lease) = self.slot.lease().filter(|_| ROUND * rounds >= RENEWED_EVERY) {
                match lease.renew() {
                    Ok(()) => rounds = 0,
                    Err(fault) => tracing::debug!(error = %fault, "the lease could not be renewed yet"),
                }
            }
            self.reload();
        }
        self.give_back();
    }

    fn give_back(&self) {
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
            Ok(values) => {
                apply_thresholds(&self.topology, values.iter().map(|(name, value)| (name.as_str(), *value)));
                let waiting: Vec<_> = self.settings.waiting().into_iter().collect();
                if !waiting.is_empty() {
                    let names = waiting.join(", ");
                    tracing::warn!(
                        "changed in the settings file, and in force from the next start on (restart for it): {names}"
                    );
                }
            }
            Err(problems) => {
                tracing::error!(
                    "the changed settings file is wrong: the thresholds stay as they are; mend what follows, and it is read again\n{problems}"
                );
            }
        }
    }
}

/// Makes and drops partitions of the outbox and of roll-ups.
#[cfg_attr(not(feature = "http"), expect(unused_variables, reason = "roll-ups are served over HTTP"))]
fn look_after(mut schema: PostgresSchema, service: &Service, is_over: &AtomicBool) {
    let mut rounds = 0;
    while !is_over.load(Ordering::Acquire) {
        std::thread::sleep(ROUND);
        rounds += 1;
        if rounds < UPKEEP_ROUNDS {
            continue;
        }
        rounds = 0;
        match schema.maintain() {
            Ok(done) if done.created + done.dropped > 0 => {
                tracing::info!(created = done.created, dropped = done.dropped, "outbox partitions");
            }
            Ok(_) => {}
            Err(fault) => tracing::warn!(error = %fault, "the outbox could not be looked after; trying again"),
        }
        #[cfg(feature = "http")]
        if let Err(fault) = crate::app::rollups::maintain(service) {
            tracing::warn!(error = %fault, "the tables of roll-ups could not be looked after; trying again");
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Fault> {
    let started = std::thread::Builder::new().name(name.into()).spawn(work);
    started.map_err(|error| Fault::fatal(format!("the thread {name} could not start")).because(error))
}

fn modified(settings: &Settings) -> Option<SystemTime> {
    std::fs::metadata(settings.file()?).ok()?.modified().ok()
}

pub(super) fn host_name() -> String {
    let name = std::env::var("HOSTNAME").ok().or_else(|| std::fs::read_to_string("/etc/hostname").ok());
    name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".into())
}
