//! One job: the slot that names this instance's producers. Where there is a database it is leased there, and another one
//! is leased when it was lost.

use crate::adapters::postgres::PostgresSchema;
use crate::ports::Fault;
use crate::ports::clock::{Clock as _, SystemClock};
use crate::ports::schema::Schema as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A lease holds for this long. Short, so that the slot of a killed instance, and with it its transactional ids, goes to
/// the next one soon.
const LEASE: Duration = Duration::from_secs(15);
/// Interval at which a lease is renewed.
pub(super) const RENEWED_EVERY: Duration = Duration::from_secs(2);
/// Rest of the lease of a dead instance: one that has not renewed it for a second longer than a living one does.
pub(super) const LEFT_OF_DEAD: Duration = LEASE.saturating_sub(RENEWED_EVERY).saturating_sub(Duration::from_secs(1));

/// Longest time for which a slot that the settings name is waited for: the drain of a predecessor that was told to stop keeps its
/// lease, and the lease of one that was killed ends by itself.
const OUTWAIT: Duration = Duration::from_secs(40);

/// Interval at which the slot from the settings is asked for.
const LOOK: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Clone)]
pub(super) enum Slot {
    /// Set, or a random word. Nobody then ends the transaction of a predecessor that was killed: its timeout does.
    Named(String),
    Leased(Arc<Lease>),
}

/// A row of the database, and the connection that keeps it.
pub(super) struct Lease {
    owner: String,
    /// The settings name it: there is no other.
    is_set: bool,
    clock: SystemClock,
    held: Arc<Mutex<Held>>,
    schema: Mutex<PostgresSchema>,
}

/// The slot for people to read. It keeps no connection open, so that it may outlive the service and be dropped on any
/// thread: a connection's runtime must not be dropped on a thread of another one.
#[cfg(feature = "http")]
#[derive(Clone)]
pub(super) enum Shown {
    Named(String),
    Leased(Arc<Mutex<Held>>),
}

#[cfg(feature = "http")]
impl Shown {
    pub(super) fn last(&self) -> String {
        match self {
            Self::Named(name) => name.clone(),
            Self::Leased(held) => held.lock().unwrap_or_else(PoisonError::into_inner).slot.to_string(),
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Held {
    slot: u32,
    /// From the moment before the question: the database's term ends later.
    since: Duration,
}

impl Slot {
    /// The one that is `set`; otherwise the lowest free one, or without a database a random word. `schema` must not wait for
    /// long: who replaces a producer may wait with it.
    pub(super) fn find(schema: Option<PostgresSchema>, owner: &str, set: Option<u32>) -> Result<Self, Fault> {
        let Some(mut schema) = schema else {
            return Ok(Self::Named(set.map_or_else(random_word, |slot| slot.to_string())));
        };
        let clock = SystemClock::default();
        let (slot, since) = match set {
            None => (schema.lease_slot(owner, None, LEASE)?, Duration::ZERO),
            Some(slot) => (slot, outwait(&mut schema, owner, slot, &clock)?),
        };
        Ok(Self::Leased(Arc::new(Lease {
            owner: owner.into(),
            is_set: set.is_some(),
            clock,
            held: Arc::new(Mutex::new(Held { slot, since })),
            schema: Mutex::new(schema),
        })))
    }

    /// For a page that shows it.
    #[cfg(feature = "http")]
    pub(super) fn shown(&self) -> Shown {
        match self {
            Self::Named(name) => Shown::Named(name.clone()),
            Self::Leased(lease) => Shown::Leased(Arc::clone(&lease.held)),
        }
    }

    /// The slot as last known.
    pub(super) fn last(&self) -> String {
        match self {
            Self::Named(name) => name.clone(),
            Self::Leased(lease) => lease.held().slot.to_string(),
        }
    }

    /// The one that is ours now: to be asked for each time a producer is named. An instance that was stopped for longer
    /// than the term finds its slot with another one; under the old names the two would fence each other without end.
    ///
    /// # Errors
    /// `Retry` when the term has run out and the database did not answer.
    pub(super) fn sure(&self) -> Result<String, Fault> {
        if let Self::Leased(lease) = self
            && lease.clock.elapsed().saturating_sub(lease.held().since) >= LEASE
        {
            lease.renew()?;
        }
        Ok(self.last())
    }

    /// The lease, where there is one.
    pub(super) fn lease(&self) -> Option<&Lease> {
        match self {
            Self::Named(_) => None,
            Self::Leased(lease) => Some(lease),
        }
    }
}

/// Leases the slot that is set, for which a predecessor that was killed has to be outwaited. Answers when it was asked for.
fn outwait(schema: &mut PostgresSchema, owner: &str, slot: u32, clock: &SystemClock) -> Result<Duration, Fault> {
    let mut is_told = false;
    loop {
        let since = clock.elapsed();
        match schema.lease_slot(owner, Some(slot), LEASE) {
            Ok(_) => return Ok(since),
            Err(fault) if !fault.is_retry() => return Err(fault),
            Err(fault) if since > OUTWAIT => {
                // The database may also have been away.
                let advice = "give each instance a slot of its own, or leave instance.slot out and each leases one";
                return Err(Fault::fatal(format!(
                    "instance.slot {slot} was not free within {OUTWAIT:?}: {fault}; {advice}"
                )));
            }
            Err(fault) => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::info!(slot, error = %fault, "waiting for the end of a predecessor's lease");
                }
                std::thread::sleep(LOOK);
            }
        }
    }
}

impl Lease {
    /// Extends the term, or leases another slot where this one went to another instance.
    ///
    /// Messages sent under the old names need no care: the new holder's producers have ended their transactions. Where
    /// the new holder has fewer workers, the broker ends the rest in time, and K is read before anything is sent again.
    ///
    /// # Errors
    /// `Retry` when the database did not answer.
    pub(super) fn renew(&self) -> Result<(), Fault> {
        let mut schema = self.schema();
        let Held { slot, .. } = self.held();
        let since = self.clock.elapsed();
        let slot = if schema.renew_slot(slot, &self.owner, LEASE)? {
            slot
        } else if self.is_set {
            tracing::warn!(
                slot,
                "the lease of this slot, which the settings name, went to another instance; most likely two instances have the same `instance.slot`"
            );
            slot
        } else {
            let other = schema.lease_slot(&self.owner, None, LEASE)?;
            tracing::info!(lost = slot, slot = other, "the lease of a slot ran out and went to another instance");
            other
        };
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Held { slot, since };
        Ok(())
    }

    /// Gives the slot back.
    pub(super) fn end(&self) {
        self.schema().release_slot(self.held().slot, &self.owner);
    }

    fn held(&self) -> Held {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn schema(&self) -> MutexGuard<'_, PostgresSchema> {
        self.schema.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Eight hexadecimal digits.
pub(super) fn random_word() -> String {
    uuid::Uuid::new_v4().simple().to_string().chars().take(8).collect()
}
