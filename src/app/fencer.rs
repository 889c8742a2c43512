//! One job: fence the producers of instances that died in the midst of a commit, so that nobody waits for the broker to end
//! their transactions.
//!
//! The database decides whom to fence: each holder of a slot that owns no position any more and has stopped renewing its
//! lease. Nobody can know that an instance is dead. A fenced instance that lives has nothing of its own open at that
//! moment, and gets new producers.

use crate::adapters::kafka::{KafkaSettings, KafkaSink};
use crate::app::producer_id::transactional_id;
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
        // Locked while it is done; a caller that comes meanwhile goes away.
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
        let Self { service, owner, fenced } = self;
        let mut schema = service.brief_schema()?;
        fence_each(owner, fenced, || schema.idle_slots(LEFT_OF_DEAD), |slot| fence_slot(service, slot))
    }
}

/// Fences the holders of the slots that `idle` returns, except `owner` and those in `fenced`; each one fenced is added
/// there. `idle` is called again before each: fencing one may take seconds, and another may begin to own something
/// meanwhile.
fn fence_each(
    owner: &str,
    fenced: &mut HashSet<String>,
    mut idle: impl FnMut() -> Result<Vec<(u32, String)>, Fault>,
    mut fence: impl FnMut(u32) -> Result<(), Fault>,
) -> Result<(), Fault> {
    loop {
        let is_new = |(_, holder): &(u32, String)| holder != owner && !fenced.contains(holder);
        let Some((slot, holder)) = idle()?.into_iter().find(is_new) else { return Ok(()) };
        fence(slot)?;
        tracing::info!(slot, holder, "fenced the producers of an instance that owns nothing any more");
        fenced.insert(holder);
    }
}

/// Producers that are opened at a time: each asks the transaction coordinator and waits some 0.3 s for its answer.
const AT_A_TIME: usize = 8;

/// Fences every producer of the slot, counted by our own settings: an instance has two a worker. Side by side: partitions stand
/// until the right one is fenced, and several instances may have died.
fn fence_slot(service: &Service, slot: u32) -> Result<(), Fault> {
    let (name, kafka): (&str, &KafkaSettings) = (service.topology.name(), &service.kafka);
    let workers = 0..service.engine().workers;
    let ids =
        workers.flat_map(|worker| [0, 1].map(|producer| transactional_id(name, &slot.to_string(), worker, producer)));
    let ids: Vec<String> = ids.collect();
    let fence = |id: &String| KafkaSink::open(kafka, id).map(|mut sink| sink.close());
    ids.chunks(AT_A_TIME).try_for_each(|ids| {
        std::thread::scope(|scope| {
            let opened: Vec<_> = ids.iter().map(|id| scope.spawn(|| fence(id))).collect();
            let ended = opened.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(panicked())));
            ended.collect()
        })
    })
}

fn panicked() -> Fault {
    Fault::retry("a thread that fences a producer panicked")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn who_begins_to_own_something_while_another_is_fenced_is_left_alone() {
        let idle = RefCell::new(vec![(0, "us".to_owned()), (1, "dead".to_owned()), (2, "slow starter".to_owned())]);
        let mut fenced = HashSet::new();
        let mut slots = Vec::new();
        let mut go = |slots: &mut Vec<u32>| {
            fence_each(
                "us",
                &mut fenced,
                || Ok(idle.borrow().clone()),
                |slot| {
                    slots.push(slot);
                    idle.borrow_mut().retain(|(_, holder)| holder != "slow starter");
                    Ok(())
                },
            )
        };
        go(&mut slots).unwrap();
        assert_eq!(slots, [1]);
        idle.borrow_mut().push((3, "dead later".to_owned()));
        go(&mut slots).unwrap();
        assert_eq!(slots, [1, 3], "nobody is fenced twice");
    }

    #[test]
    fn who_could_not_be_fenced_is_fenced_the_next_time() {
        let mut fenced = HashSet::new();
        let mut tries = 0;
        for _ in 0..3 {
            let _ = fence_each(
                "us",
                &mut fenced,
                || Ok(vec![(1, "dead".to_owned())]),
                |_| {
                    tries += 1;
                    if tries == 1 { Err(Fault::retry("no broker")) } else { Ok(()) }
                },
            );
        }
        assert_eq!((tries, fenced.len()), (2, 1));
    }
}
