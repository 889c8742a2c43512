//! The producers of a worker, which take turns, and the replacement of one.

use crate::engine::protocol::consequence::{self, Consequence, Moment};
use crate::engine::status::{Counter, Status};
use crate::flow::record::TopicName;
use crate::ports::obstacle::ObstacleKind;
use crate::ports::sink::{Sink, SizeLimit};
use crate::ports::{Clock, Fault};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The pause after a failure of the surroundings; doubled up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(10);

const PAUSE_MAX: Duration = Duration::from_secs(1);

/// One producer, or two that take turns, one transaction each.
pub(crate) struct Producers {
    /// The producer whose turn it is.
    pub(crate) sink: Box<dyn Sink>,
    /// The other one; it has nothing open.
    pub(crate) spare: Option<Box<dyn Sink>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) status: Arc<Status>,
    /// Set when the process must end at once: nothing more is waited for.
    pub(crate) is_abandoned: Arc<AtomicBool>,
    /// The name under which people see that there is a publication in hand.
    pub(crate) busy: Option<String>,
}

impl Producers {
    /// Ends an open transaction, so that readers need not wait for a timeout.
    pub(crate) fn close(&mut self) {
        self.sink.close();
        if let Some(spare) = &mut self.spare {
            spare.close();
        }
    }

    /// Shows people that a publication, or the next piece of one, is in hand.
    pub(crate) fn begin_publication(&mut self) {
        self.end_publication();
        let id = self.sink.transactional_id();
        self.status.publishing.begin(id);
        self.busy = Some(id.to_owned());
    }

    /// Shows people that there is none in hand.
    pub(crate) fn end_publication(&mut self) {
        if let Some(id) = self.busy.take() {
            self.status.publishing.end(&id);
        }
    }

    /// Shows people what keeps the publication in hand. `is_told`: whether its partitions tell it already.
    pub(crate) fn note_failure(&self, fault: &Fault, is_told: bool) {
        if let Some(id) = &self.busy {
            self.status.publishing.failed(id, fault, is_told);
        }
    }

    /// Puts where people can see it whether quotas slow the producers down.
    pub(crate) fn show_quotas(&self) {
        for sink in std::iter::once(&self.sink).chain(&self.spare) {
            let about = format!("producer {}", sink.transactional_id());
            let found = sink.throttled().map(|reason| (about.clone(), reason));
            self.status.obstacles.report(ObstacleKind::Throttled, &about, found.into_iter().collect());
        }
    }

    /// The limit of a topic, asked for anew. Both producers are told, since each fits its batches to it.
    ///
    /// # Errors
    /// Those of [`Sink::message_bytes_max`].
    pub(crate) fn limit_of(&mut self, topic: &TopicName) -> Result<SizeLimit, Fault> {
        if let Some(spare) = &mut self.spare {
            spare.message_bytes_max(topic)?;
        }
        self.sink.message_bytes_max(topic)
    }

    /// Gives the turn to the other producer.
    pub(crate) fn swap(&mut self) {
        if let Some(spare) = &mut self.spare {
            std::mem::swap(&mut self.sink, spare);
        }
    }

    /// Replaces the producer, however long it takes.
    pub(crate) fn renew(&mut self) -> Result<(), Fault> {
        self.status.add(Counter::Taints, 1);
        let mut tries = 0;
        loop {
            match self.sink.renew() {
                Ok(()) => {
                    return Ok(());
                }
                Err(fault) if consequence::of(&fault, Moment::RenewProducer) == Consequence::End => return Err(fault),
                Err(fault) => {
                    tracing::debug!(error = %fault, "the producer could not be replaced yet");
                    self.note_failure(&fault, false);
                    tries += 1;
                    self.pause(tries)?;
                }
            }
        }
    }

    pub(crate) fn pause(&self, tries: u32) -> Result<(), Fault> {
        if self.is_abandoned.load(Ordering::Acquire) {
            return Err(Fault::fatal("stopped while the log did not answer; the next owner publishes the rest"));
        }
        self.clock.sleep((PAUSE * 2_u32.saturating_pow(tries.min(10))).min(PAUSE_MAX));
        Ok(())
    }
}
