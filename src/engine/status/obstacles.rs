//! The obstacles of this instance as their finders see them: each finder replaces its own, kind by kind.

use crate::flow::record::TopicPartition;
use crate::ports::Fault;
use crate::ports::obstacle::{Obstacle, ObstacleKind, Reason};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// By kind and finder: subjects and reasons.
type Found = BTreeMap<(ObstacleKind, String), Vec<(String, Reason)>>;

/// The obstacles that stand now.
#[derive(Debug, Default)]
pub struct Obstacles {
    found: Mutex<Found>,
}

impl Obstacles {
    fn lock(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the obstacles of `kind` that `finder` found before, each by its subject and reason.
    pub fn report(&self, kind: ObstacleKind, finder: &str, found: Vec<(String, Reason)>) {
        let mut all = self.lock();
        if found.is_empty() {
            all.retain(|(other, by), _| *other != kind || by != finder);
        } else {
            all.insert((kind, finder.to_owned()), found);
        }
    }

    /// Whether `finder` has found one of this kind.
    #[must_use]
    pub fn is_reported(&self, kind: ObstacleKind, finder: &str) -> bool {
        self.lock().contains_key(&(kind, finder.to_owned()))
    }

    /// All of them, in the order of their kinds.
    #[must_use]
    pub fn all(&self) -> Vec<Obstacle> {
        let all = self.lock();
        let of = |((kind, _), found): (&(ObstacleKind, String), &Vec<(String, Reason)>)| {
            let kind = *kind;
            let one = move |(about, reason): &(String, Reason)| Obstacle {
                kind,
                about: about.clone(),
                reason: reason.clone(),
            };
            found.iter().map(one).collect::<Vec<_>>()
        };
        all.iter().flat_map(of).collect()
    }

    /// The first one of a kind.
    #[must_use]
    pub fn first(&self, kind: ObstacleKind) -> Option<Obstacle> {
        self.all().into_iter().find(|obstacle| obstacle.kind == kind)
    }
}

/// Why partitions wait that are not halted, as the step that last failed says, by source partition. Forgotten once the
/// partition moves.
#[derive(Debug, Default)]
pub struct Waits {
    found: Mutex<BTreeMap<String, Reason>>,
}

impl Waits {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Reason>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the partition waits because of `fault`.
    pub(crate) fn failed(&self, source: &TopicPartition, fault: &Fault) {
        let next = if fault.is_lock_wait() {
            "wait for the session that is named, or end it as the cause says"
        } else {
            "mend what the cause names; it is tried again by itself, and `halted` asks database and group meanwhile"
        };
        self.note(source, Reason::new(fault.to_string(), next));
    }

    /// Notes that the committed offset of the partition cannot be read.
    pub(crate) fn unread(&self, source: &TopicPartition, fault: &Fault) {
        let cause = format!("its committed offset cannot be read: {fault}");
        let next = "where the brokers are well, a transaction hangs (KAFKA-20734): `kafka-transactions.sh find-hanging` \
                    names it, `abort` ends it";
        self.note(source, Reason::new(cause, next));
    }

    pub(crate) fn note(&self, source: &TopicPartition, reason: Reason) {
        self.lock().insert(source.to_string(), reason);
    }

    pub(crate) fn forget(&self, source: &str) {
        self.lock().remove(source);
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, Reason> {
        self.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finder_replaces_its_own_obstacles_and_no_others() {
        let obstacles = Obstacles::default();
        let found = |about: &str| vec![(about.to_owned(), Reason::new("a quota", "raise it"))];
        obstacles.report(ObstacleKind::Throttled, "source", found("broker 1"));
        obstacles.report(ObstacleKind::Throttled, "producer a", found("broker 2"));
        obstacles.report(ObstacleKind::NotAdmitted, "source", found("the group"));
        obstacles.report(ObstacleKind::Throttled, "source", found("broker 3"));
        let abouts = |obstacles: &Obstacles| {
            obstacles
                .all()
                .into_iter()
                .map(|found| format!("{} {}", found.kind.label(), found.about))
                .collect::<Vec<_>>()
        };
        assert_eq!(abouts(&obstacles), ["not-admitted the group", "throttled broker 2", "throttled broker 3"]);
        obstacles.report(ObstacleKind::Throttled, "source", Vec::new());
        obstacles.report(ObstacleKind::NotAdmitted, "source", Vec::new());
        assert_eq!(abouts(&obstacles), ["throttled broker 2"]);
        assert_eq!(obstacles.first(ObstacleKind::NotAdmitted), None);
    }
}
