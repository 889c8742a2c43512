//! The wiring of a worker: the ports that its lanes share.

use crate::engine::mailbox::{ToRelay, ToSource};
use crate::engine::outbound::limits::Limits;
use crate::engine::outbound::outstanding::Outstanding;
use crate::engine::outbound::publication::Publication;
use crate::engine::outbound::size::Size;
use crate::engine::protocol::order::Hook;
use crate::engine::protocol::ownership::Assignments;
use crate::engine::status::Status;
use crate::engine::task::in_hand::Hand;
use crate::flow::topology::Topology;
use crate::ports::Clock;
use crate::ports::factories::{ChangelogFactory, HistoryFactory};
use crate::ports::fencer::Fencer;
use crate::ports::source::Group;
use crate::ports::store::Stores;
use crate::settings::engine::EngineSettings;
use crossbeam_channel::Sender;
use std::sync::Arc;

/// The pipeline, its settings, the other threads and the ports that do not belong to one lane.
pub(crate) struct Wiring {
    pub(crate) topology: Arc<Topology>,
    pub(crate) owner: String,
    pub(crate) group: Arc<dyn Group>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) assignments: Arc<Assignments>,
    pub(crate) settings: Arc<EngineSettings>,
    pub(crate) status: Arc<Status>,
    pub(crate) hook: Arc<dyn Hook>,
    pub(crate) history: Option<HistoryFactory>,
    pub(crate) stores: Option<Arc<dyn Stores>>,
    pub(crate) changelogs: Option<ChangelogFactory>,
    pub(crate) fencer: Option<Arc<dyn Fencer>>,
    pub(crate) limits: Limits,
    pub(crate) relay: Sender<ToRelay>,
    pub(crate) source: Sender<ToSource>,
    pub(crate) outstanding: Arc<Outstanding>,
    pub(crate) hand: Hand,
}

impl Wiring {
    /// Gives a publication to the relay and counts it as outstanding.
    pub(crate) fn hand_over(&self, mut publication: Publication) {
        publication.bytes = publication.size(self.topology.name()).bytes;
        self.outstanding.add(&publication);
        self.send_to_relay(ToRelay::Publish(Box::new(publication)));
    }

    /// Sends to the relay. If the relay has ended, the executor ends too.
    pub(crate) fn send_to_relay(&self, message: ToRelay) {
        let _ = self.relay.send(message);
    }

    /// Whether so much is committed and not published that no batch of steps with rows may add to it.
    pub(crate) fn is_relay_behind(&self) -> bool {
        let Self { outstanding, settings, .. } = self;
        outstanding.messages() >= settings.unpublished_rows || outstanding.bytes() >= settings.unpublished_bytes
    }

    /// The bound on one transaction of steps without rows.
    pub(crate) fn log_room(&self) -> Size {
        let (messages, bytes) = (self.settings.log_messages, self.settings.log_bytes);
        self.outstanding.room(Size { messages, bytes })
    }

    /// Whether the relay is not too far behind for another transaction of steps without rows.
    pub(crate) fn is_log_free(&self) -> bool {
        let Self { settings, outstanding, .. } = self;
        outstanding.messages() < settings.log_messages && outstanding.bytes() < settings.log_bytes
    }
}
