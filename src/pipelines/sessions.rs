//! Cuts each user's clicks into sessions and publishes every session that has ended.
//!
//! Topics `clicks`, `sessions-sessions-changelog` and `session-ends`, described in the folder `topics/sessions`. The source
//! is keyed by user already and says so, hence no shuffle: each record is held against that, and one in another partition
//! stops its partition. No database: open sessions lie in the store `sessions`, beside the partition.
//!
//! A session ends where the next click comes more than half an hour of event time after its last one, and that click
//! publishes it. A user whose next click takes longer than a day is forgotten instead.

use crate::flow::{Algorithm, Context, Declared, OnViolation, Reject, Store, Topology};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The longest pause within a session.
const GAP_MS: i64 = 30 * 60 * 1_000;
/// The time for which an open session waits for its user's next click.
const KEPT: Duration = Duration::from_hours(24);

/// The pipeline; `tidegate::run` gives it a command line.
#[must_use]
pub fn topology() -> Topology {
    with_policy(OnViolation::Stop)
}

/// The pipeline with another way of handling a record in the wrong partition.
#[must_use]
pub fn with_policy(policy: OnViolation) -> Topology {
    let mut topology = Topology::new("sessions");
    topology
        .source("clicks")
        .declared(Declared::murmur2(12).on_violation(policy))
        .aggregate(Store::new("sessions").time_to_live(KEPT), Sessions)
        .to("session-ends");
    topology
}

/// The event: that it happened, and when, is all that counts. Its fields are ignored.
#[derive(Deserialize)]
struct Click {}

/// A session as far as it has come.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
struct Session {
    clicks: u64,
    started_ms: i64,
    ended_ms: i64,
}

/// The notice for the next topic.
#[derive(Serialize, PartialEq, Debug)]
struct SessionEnd {
    user: String,
    #[serde(flatten)]
    session: Session,
}

type Told = Result<Option<SessionEnd>, Reject>;

/// Adds a click to the open session of its user, or ends that one and opens the next.
struct Sessions;

impl Algorithm for Sessions {
    type Event = Click;
    type Row = Option<Session>;
    type Notices = Option<SessionEnd>;

    fn apply(&self, _: Click, open: &mut Option<Session>, context: &mut Context<'_>) -> Told {
        let at_ms = context.event_time_ms();
        if let Some(session) = open {
            if at_ms < session.started_ms - GAP_MS {
                return Err(Reject::skip("late-click")); // its session was published already
            }
            if at_ms <= session.ended_ms + GAP_MS {
                session.clicks += 1;
                session.started_ms = session.started_ms.min(at_ms);
                session.ended_ms = session.ended_ms.max(at_ms);
                return Ok(None);
            }
        }
        let ended = open.replace(Session { clicks: 1, started_ms: at_ms, ended_ms: at_ms });
        Ok(ended.map(|session| SessionEnd { user: context.key().to_string(), session }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Key;
    use crate::flow::record::TopicName;

    const MINUTE_MS: i64 = 60_000;

    fn click(at_minute: i64, open: &mut Option<Session>) -> Result<Option<SessionEnd>, Reject> {
        let (topic, key) = (TopicName::parse("clicks").unwrap(), Key::from("ada"));
        let mut context = Context::example(&topic, &key).at(at_minute * MINUTE_MS);
        Sessions.apply(Click {}, open, &mut context)
    }

    #[test]
    fn a_click_within_half_an_hour_belongs_to_the_session_and_a_later_one_announces_it() {
        let mut open = None;
        for minute in [100, 130, 120, 70, 160] {
            assert_eq!(click(minute, &mut open).unwrap(), None, "minute {minute}");
        }
        let session = Session { clicks: 5, started_ms: 70 * MINUTE_MS, ended_ms: 160 * MINUTE_MS };
        assert_eq!(open, Some(session.clone()));
        let end = click(191, &mut open).unwrap();
        assert_eq!(end, Some(SessionEnd { user: "ada".into(), session }));
        assert_eq!(open, Some(Session { clicks: 1, started_ms: 191 * MINUTE_MS, ended_ms: 191 * MINUTE_MS }));
    }

    #[test]
    fn a_click_of_a_session_long_over_is_skipped() {
        let mut open = None;
        click(100, &mut open).unwrap();
        let before = open.clone();
        assert_eq!(click(69, &mut open).unwrap_err().code(), "late-click");
        assert_eq!(open, before);
    }

    #[test]
    fn the_end_of_a_session_is_told_flat() {
        let session = Session { clicks: 2, started_ms: 1, ended_ms: 3 };
        let end = SessionEnd { user: "ada".into(), session };
        let told = serde_json::to_string(&end).unwrap();
        assert_eq!(told, r#"{"user":"ada","clicks":2,"started_ms":1,"ended_ms":3}"#);
    }

    #[test]
    fn the_topology_is_sound_and_nothing_is_shuffled() {
        let topology = topology();
        assert_eq!(topology.validate(), Ok(()));
        assert_eq!(topology.internal_topics().len(), 0);
        let declared = topology.sub_topologies()[0].declared.clone().unwrap();
        assert_eq!((declared.count(), declared.policy()), (12, OnViolation::Stop));
    }
}
