//! Looks now and then whether every member of the group is an instance of this pipeline: what another program is given of its
//! partitions, no instance takes.

use crate::engine::status::Status;
use crate::ports::Fault;
use crate::ports::obstacle::{ObstacleKind, Reason};
use crate::ports::source::Group;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The interval between two looks, and the time for the answer.
const EVERY: Duration = Duration::from_secs(20);
const ANSWER: Duration = Duration::from_secs(5);

/// The finder of obstacles that this is.
const FINDER: &str = "strangers";

/// Begins to look, on a thread of its own that ends with the member.
///
/// # Errors
/// `Fatal` where the thread cannot start.
pub(super) fn watch(group: &Arc<dyn Group>, pipeline: &str, status: &Arc<Status>) -> Result<(), Fault> {
    let (group, pipeline, status) = (Arc::downgrade(group), pipeline.to_owned(), Arc::downgrade(status));
    let started = std::thread::Builder::new().name(FINDER.into()).spawn(move || look(&group, &pipeline, &status));
    started.map(drop).map_err(|error| Fault::fatal("the thread strangers could not start").because(error))
}

/// Holds nothing between two looks: a client is closed with its last handle.
fn look(group: &Weak<dyn Group>, pipeline: &str, status: &Weak<Status>) {
    loop {
        let (Some(asked), Some(status)) = (group.upgrade(), status.upgrade()) else { return };
        match asked.strangers(ANSWER) {
            Ok(found) => {
                let found = found.into_iter().map(|(client, partitions)| told(pipeline, &client, &partitions));
                status.obstacles.report(ObstacleKind::ForeignMember, FINDER, found.collect());
            }
            Err(fault) => tracing::debug!(error = %fault, "the members of the group are not known now"),
        }
        drop((asked, status));
        std::thread::sleep(EVERY);
    }
}

/// The obstacle that one of them is, with the number of its partitions.
fn told(pipeline: &str, client: &str, partitions: &[String]) -> (String, Reason) {
    let cause = match partitions {
        [] => "another program uses the group id, without a partition so far".to_owned(),
        [first, ..] => {
            format!("another program uses the group id, and has {} of its partitions, {first} first", partitions.len())
        }
    };
    let next = format!(
        "end it or give it another group id; `kafka-consumer-groups.sh --describe --group {pipeline} --members` tells its host"
    );
    (format!("client {client}"), Reason::new(cause, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_program_is_named_with_what_it_has() {
        let (about, reason) = told("scoring", "console", &["readings-3".into(), "readings-4".into()]);
        assert_eq!(about, "client console");
        assert_eq!(reason.cause, "another program uses the group id, and has 2 of its partitions, readings-3 first");
        assert!(reason.next.contains("--group scoring --members"));
        assert!(told("scoring", "console", &[]).1.cause.ends_with("without a partition so far"));
    }
}
