//! One job: fence the producers of instances that died in the midst of a commit, so that nobody waits for the broker to end
//! their transactions.
//!
//! Whom to fence, the database tells: whoever holds a slot, owns no position any more, and has not renewed its lease. That an
//! instance is dead nobody can know; one that lives has nothing of its own open then, and gets new producers.

use crate::adapters::kafka::{KafkaSettings, KafkaSink};
use crate::app::run::transactional_id;
use crate::app::service::Service;
use crate::app::slot::LEFT_OF_DEAD;
use crate::ports::Fault;
use crate::ports::fencer::Fencer;
use crate::ports::sink::Sink as _;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

/// See the module.
pub(super) struct DeadFencer {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    service: Service,
    owner: String,
    /// Holders of slots whose producers are fenced: a holder's name never comes again.
    fenced: HashSet<String>,
}

impl DeadFencer {
    /// For the instance `owner`. `None` for a pipeline without rows, whose slots nobody knows.
    pub(super) fn of(service: &Service, owner: &str) -> Option<Arc<dyn Fencer>> {
        if service.topology.tables().is_empty() {
            return None;
        }
        let inner = Inner { service: service.clone(), owner: owner.into(), fenced: HashSet::new() };
        Some(Arc::new(Self { inner: Arc::new(Mutex::new(inner)) }))
    }
}

impl Fencer for DeadFencer {
    fn fence_dead(&self) {
        // Held while it is done: who comes meanwhile goes away.
        if matches!(self.inner.try_lock(), Err(TryLockError::WouldBlock)) {
            return;
        }
        let inner = Arc::clone(&self.inner);
        let run = move || {
            let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(fault) = inner.fence() {
                tracing::debug!(error = %fault, "what a dead instance left open could not be ended yet");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("fencer".into()).spawn(run) {
            tracing::debug!(%error, "no thread to end what a dead instance left open");
        }
    }
}

impl Inner {
    fn fence(&mut self) -> Result<(), Fault> {
        let mut schema = self.service.brief_schema()?;
        // Asked for each anew: to fence one may take seconds, in which another may have begun to own something.
        loop {
            let slots = schema.idle_slots(LEFT_OF_DEAD)?;
            let is_new = |(_, holder): &(u32, String)| *holder != self.owner && !self.fenced.contains(holder);
            let Some((slot, holder)) = slots.into_iter().find(is_new) else { return Ok(()) };
            self.fence_slot(&slot.to_string())?;
            tracing::info!(slot, holder, "fenced the producers of an instance that owns nothing any more");
            self.fenced.insert(holder);
        }
    }

    /// As many producers as an instance with our settings has.
    fn fence_slot(&self, slot: &str) -> Result<(), Fault> {
        let (name, kafka): (&str, &KafkaSettings) = (self.service.topology.name(), &self.service.kafka);
        for worker in 0..self.service.engine().workers {
            for producer in 0..2 {
                KafkaSink::open(kafka, &transactional_id(name, slot, worker, producer))?.close();
            }
        }
        Ok(())
    }
}
