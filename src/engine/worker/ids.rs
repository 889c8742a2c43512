//! The ids of the cluster and of topics, as the log reports them.

use crate::engine::worker::wiring::Wiring;
use crate::flow::record::TopicName;
use crate::ports::Fault;
use crate::ports::source::LogIds;
use std::collections::HashMap;
use std::time::Duration;

/// The time for which an answer counts.
const FRESH: Duration = Duration::from_secs(1);

/// Cluster and topic ids, each asked for at most once a second.
#[derive(Default)]
pub(crate) struct KnownIds(HashMap<TopicName, (Duration, LogIds)>);

impl KnownIds {
    /// The ids of a topic and its cluster.
    ///
    /// # Errors
    /// The errors of the log; `Retry` where the topic does not exist.
    pub(crate) fn of(&mut self, wiring: &Wiring, topic: &TopicName) -> Result<LogIds, Fault> {
        let now = wiring.clock.elapsed();
        if let Some((at, ids)) = self.0.get(topic)
            && now.saturating_sub(*at) < FRESH
        {
            return Ok(ids.clone());
        }
        let ids = wiring.group.log_ids(topic, 4 * wiring.settings.ask_wait).map_err(waited_for)?;
        self.0.insert(topic.clone(), (now, ids.clone()));
        Ok(ids)
    }
}

/// Turns a missing topic into a fault that is waited for: the topic may only be unknown to the broker that was asked,
/// or be about to be created again.
pub(crate) fn waited_for(fault: Fault) -> Fault {
    match fault {
        Fault::Corrupt(cause) => Fault::Retry(cause),
        other => other,
    }
}
