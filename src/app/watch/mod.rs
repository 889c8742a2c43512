//! What the log of a running service says now and then: when all of its partitions run, which dead letters there are, and what
//! keeps it from its work. Looked at by the main thread, so that none of it costs the pipeline anything.

pub(super) mod standing;
mod standstill;
pub(super) mod telling;
mod unpublished;

use crate::app::watch::standing::{Standing, named};
use crate::app::watch::standstill::{Rejected, STANDS, Standstill};
use crate::app::watch::telling::Telling;
use crate::app::watch::unpublished::Unpublished;
use crate::engine::status::{LettersOfCode, SOURCE, Status, TaskStatus};
use crate::flow::record::TopicName;
use crate::ports::obstacle::{Obstacle, ObstacleKind, Reason};
use crate::ports::source::TaskId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The interval between two looks: each copies the status.
const LOOK: Duration = Duration::from_secs(1);

/// The finder of obstacles that the watch is.
const WATCH: &str = "watch";

/// See the module.
pub(super) struct Watch {
    status: Arc<Status>,
    group: String,
    next: Duration,
    standing: Option<Standing>,
    letters: BTreeMap<(TopicName, String), Telling>,
    unreadable: BTreeMap<(TopicName, String), Telling>,
    standstill: Standstill,
    rejected: Rejected,
    unpublished: Unpublished,
    /// When the instance was last a member of the group.
    member_at: Option<Duration>,
    obstacles: BTreeMap<(ObstacleKind, String), Told>,
}

/// One obstacle as the log has it.
#[derive(Default)]
struct Told {
    telling: Telling,
    stands: bool,
}

impl Watch {
    pub(super) fn new(status: Arc<Status>, group: &str) -> Self {
        Self {
            status,
            group: group.into(),
            next: Duration::ZERO,
            standing: None,
            letters: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            standstill: Standstill::default(),
            rejected: Rejected::default(),
            unpublished: Unpublished::default(),
            member_at: None,
            obstacles: BTreeMap::new(),
        }
    }

    /// Writes the lines that are due, once a second at most.
    pub(super) fn look(&mut self, now: Duration) {
        if now < self.next {
            return;
        }
        self.next = now + LOOK;
        let tasks = self.status.tasks();
        self.tell_standing(&tasks);
        self.tell_letters(|telling, count| telling.due(count, now));
        self.tell_unreadable(|telling, count| telling.due(count, now));
        self.find_obstacles(&tasks, now);
        self.tell_obstacles(now);
    }

    /// Writes what has not been told yet: the process ends.
    pub(super) fn end(&mut self) {
        self.tell_letters(Telling::rest);
        self.tell_unreadable(Telling::rest);
    }

    /// Finds the obstacles that only time shows.
    fn find_obstacles(&mut self, tasks: &BTreeMap<TaskId, TaskStatus>, now: Duration) {
        let Self { status, group, standstill, rejected, unpublished, member_at, .. } = self;
        let unpublished = unpublished.look(&status.publishing, now);
        // The records in front of a relay that publishes nothing wait for it.
        let lagging = if unpublished.is_empty() { status.lagging() } else { BTreeSet::new() };
        let put_off = status.publishing.all_put_off();
        let is_put_off = |task: &TaskStatus| task.inputs.iter().any(|(source, ..)| put_off.contains_key(source));
        let others = tasks.iter().filter(|(_, task)| !is_put_off(task));
        let tasks = &others.map(|(id, task)| (*id, task.clone())).collect();
        let still = standstill.look(tasks, &status.waits.all(), &lagging, now);
        status.obstacles.report(ObstacleKind::NotPublishing, WATCH, unpublished);
        status.obstacles.report(ObstacleKind::StandsStill, WATCH, still);
        let rejected = rejected.look(&status.streams.by_topic(), &status.letters.by_code(), now);
        status.obstacles.report(ObstacleKind::AllRejected, WATCH, rejected);
        let since = member_at.get_or_insert(now);
        if status.is_member() {
            *since = now;
        }
        let is_silent = now.saturating_sub(*since) >= STANDS;
        let is_told = status.obstacles.is_reported(ObstacleKind::NotAdmitted, SOURCE);
        let found = (is_silent && !is_told).then(|| (format!("group {group}"), unanswered(group)));
        status.obstacles.report(ObstacleKind::NotAdmitted, WATCH, found.into_iter().collect());
    }

    /// Tells each obstacle at once, and again after pauses that double for as long as it stands.
    fn tell_obstacles(&mut self, now: Duration) {
        self.obstacles.values_mut().for_each(|told| told.stands = false);
        for Obstacle { kind, about, reason } in self.status.obstacles.all() {
            let told = self.obstacles.entry((kind, about.clone())).or_default();
            told.stands = true;
            if told.telling.is_due(now) {
                let Reason { cause, next } = reason;
                tracing::warn!(kind = kind.label(), about, cause, next, "{}", kind.sentence());
            }
        }
        self.obstacles.retain(|_, told| told.stands || !told.telling.is_over(now));
    }

    fn tell_standing(&mut self, tasks: &BTreeMap<TaskId, TaskStatus>) {
        let Some(standing) = Standing::of(tasks) else { return };
        if self.standing.as_ref() == Some(&standing) || (self.standing.is_none() && standing.is_idle()) {
            return;
        }
        let (partitions, causes) = (standing.names(), standing.causes());
        match (standing.running.len(), standing.halted.len()) {
            (0, 0) => tracing::info!("this instance has no partition now"),
            (running, 0) => tracing::info!(partitions, "all {running} partitions of this instance run"),
            (0, halted) => tracing::error!(
                partitions,
                causes,
                "all {halted} partitions of this instance are halted, since the lines of their causes above; `halted` prints what repairs them"
            ),
            (running, halted) => {
                let all = running + halted;
                let (running, halted) = (named(&standing.running), named(&standing.halted));
                tracing::warn!(
                    running,
                    halted,
                    causes,
                    "of the {all} partitions of this instance some are halted, since the lines of their causes above; the others run, and `halted` prints what repairs them"
                );
            }
        }
        self.standing = Some(standing);
    }

    fn tell_letters(&mut self, mut due: impl FnMut(&mut Telling, u64) -> Option<u64>) {
        for ((topic, code), of) in self.status.letters.by_code() {
            let telling = self.letters.entry((topic.clone(), code.clone())).or_default();
            let Some(new) = due(telling, of.count) else { continue };
            let LettersOfCode { count, source, offset, message } = of;
            tracing::warn!(
                source = %topic, code, new, count, latest = %source, offset = offset.0, cause = message,
                "records became dead letters, in {topic}-dlt; the stream goes on"
            );
        }
    }

    fn tell_unreadable(&mut self, mut due: impl FnMut(&mut Telling, u64) -> Option<u64>) {
        for ((topic, code), of) in self.status.unreadable.by_code() {
            let telling = self.unreadable.entry((topic.clone(), code.clone())).or_default();
            let Some(new) = due(telling, of.count) else { continue };
            let LettersOfCode { count, source, offset, message } = of;
            tracing::warn!(
                source = %topic, code, new, count, latest = %source, offset = offset.0, cause = message,
                "records that cannot be read were skipped, as their source declares; the stream goes on"
            );
        }
    }
}

/// The reason where the group has not answered for long, and has told nothing.
fn unanswered(group: &str) -> Reason {
    Reason::new(
        "the group has not answered yet: its coordinator is away, or waits for a member that does not join again (up to 5 \
         minutes)",
        format!("`kafka-consumer-groups.sh --describe --group {group} --state`, and `--members`"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn abouts(status: &Status) -> Vec<String> {
        status.obstacles.all().into_iter().map(|found| format!("{} {}", found.kind.label(), found.about)).collect()
    }

    #[test]
    fn a_group_that_does_not_answer_for_long_is_an_obstacle_and_a_cause_that_it_tells_comes_first() {
        let status = Arc::new(Status::default());
        let mut watch = Watch::new(Arc::clone(&status), "scoring");
        watch.look(Duration::from_secs(1));
        watch.look(Duration::from_secs(20));
        assert!(abouts(&status).is_empty());
        watch.look(Duration::from_secs(21));
        assert_eq!(abouts(&status), ["not-admitted group scoring"]);
        let full = vec![("group scoring".to_owned(), Reason::new("it is full", "group.max.size"))];
        status.obstacles.report(ObstacleKind::NotAdmitted, "source", full);
        watch.look(Duration::from_secs(22));
        assert_eq!(status.obstacles.first(ObstacleKind::NotAdmitted).unwrap().reason.cause, "it is full");
        assert_eq!(abouts(&status).len(), 1);
        status.set_member(true);
        watch.look(Duration::from_secs(23));
        assert!(abouts(&status).is_empty());
    }

    #[test]
    fn the_status_is_looked_at_once_a_second() {
        let status = Arc::new(Status::default());
        let mut watch = Watch::new(status, "scoring");
        let looks: Vec<Duration> = (0..40)
            .map(|tick| Duration::from_millis(tick * 50))
            .filter(|now| {
                let before = watch.next;
                watch.look(*now);
                watch.next != before
            })
            .collect();
        assert_eq!(looks, [Duration::ZERO, Duration::from_secs(1)]);
    }
}
